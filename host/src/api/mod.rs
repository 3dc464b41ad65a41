//! REST: routes with thin handlers, over one port. What is asked is a verb of [`crate::service::host`]; no rule is here.
//!
//! What goes in: HTTP from anybody. What comes out: what the verb says, as JSON, or a problem as RFC 9457 has it. Below
//! `/v1` nothing is answered without a token, not even whether there is such a route.

mod problem;
mod routes;
mod server;

pub use server::{ServeError, Server};

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::service::host::{Host, HostError};
use problem::Problem;

/// What every handler works on.
#[derive(Clone)]
struct Shared {
    host: Arc<Host>,
    /// Places of those who follow a job: each holds a connection for long.
    followers: Arc<Semaphore>,
}

/// Callers that follow jobs at once; others still get in.
const MOST_FOLLOWERS: usize = 256;

impl Shared {
    /// Calls a verb where it may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Host) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, Problem> {
        let host = Arc::clone(&self.host);
        match tokio::task::spawn_blocking(move || verb(&host)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Problem::host()),
        }
    }
}

/// Every route.
fn router(host: Arc<Host>) -> Router {
    let pages = crate::page::router(Arc::clone(&host));
    let shared = Shared { host, followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)) };
    let v1 = routes::v1()
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(from_fn_with_state(shared.clone(), recognised));
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(|| async { "ready\n" }))
        .nest("/v1", v1)
        .layer(from_fn(plain))
        .with_state(shared)
        .fallback_service(pages)
}

/// Lets callers through whose token is known.
async fn recognised(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        header.and_then(|header| header.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim().to_owned()).unwrap_or_default();
    match shared.call(move |host| host.recognise(&token)).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Nothing is kept by caches or guessed at by browsers.
async fn plain(request: Request, next: Next) -> Response {
    let has_body = !matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    let status = response.status();
    let headers = response.headers_mut();
    if has_body && (status.is_client_error() || status.is_server_error()) {
        // What is left of a refused body is not read, so that nothing can follow it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
