//! REST: routes with thin handlers, over one port. What is asked is a verb of [`crate::service::host`]; no rule is here.
//!
//! What goes in: HTTP from anybody. What comes out: what the verb says, as JSON, or a problem as RFC 9457 has it. Below
//! `/v1`, and on Azure's routes, nothing is answered without a token; below `/v1` not even whether there is such a route.

mod azure;
mod docs;
mod health;
mod observed;
mod openapi;
mod patience;
mod places;
mod problem;
mod request;
mod routes;
mod server;

pub use openapi::openapi;
pub use server::{Listening, ServeError, Server};

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use crate::observe::Place;
use crate::service::host::{Host, HostError};
use health::Ready;
use places::Places;
use problem::Problem;

/// What every handler works on.
#[derive(Clone)]
struct Shared {
    host: Arc<Host>,
    /// Places of those who follow a job, by tenant: each holds a connection for long.
    followers: Arc<Places<String>>,
    ready: Ready,
    /// Places of those who post jobs at this moment: more at once take longer all together, and some far longer than others.
    posting: Arc<Semaphore>,
}

/// Jobs that are posted at once; their writes wait for the disk together. Others wait in the order in which they came.
const MOST_POSTING: usize = 64;

/// Callers that follow jobs at once; others still get in.
const MOST_FOLLOWERS: usize = 256;
/// Those of one tenant: four have to come together before others wait.
const MOST_FOLLOWERS_EACH: usize = 64;

/// What numbers are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Shared {
    fn new(host: Arc<Host>) -> Self {
        let followers = Places::new(MOST_FOLLOWERS, MOST_FOLLOWERS_EACH);
        Self { host, followers, ready: Ready::default(), posting: Arc::new(Semaphore::new(MOST_POSTING)) }
    }

    /// Calls a verb that posts a job.
    async fn post<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Host) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, Problem> {
        let _place = self.posting.acquire().await.map_err(|_| Problem::host())?;
        self.call(verb).await
    }

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

/// Every route for callers, and the operator's, which has an address of its own.
fn routers(shared: Shared) -> (Router, Router) {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(shared.clone());
    (router(shared), metrics)
}

/// Numbers of all tenants.
async fn metrics(State(shared): State<Shared>) -> Result<impl IntoResponse, Problem> {
    let following = shared.followers.taken();
    let text = shared.call(move |host| {
        host.metrics().set_followers(following);
        host.measure()
    });
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text.await?))
}

fn router(shared: Shared) -> Router {
    let pages = crate::page::router(Arc::clone(&shared.host));
    let recognised = from_fn_with_state(shared.clone(), recognised);
    let v1 = Router::from(routes::v1())
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(recognised.clone());
    let azure = Router::from(azure::azure())
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(recognised)
        .layer(from_fn(azure::told));
    Router::from(health::health().merge(docs::docs()))
        .nest("/v1", v1)
        .merge(azure)
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(from_fn(plain))
        .with_state(shared.clone())
        .fallback_service(pages)
        .layer(from_fn_with_state(shared, observed::observed))
}

/// What is written of every route: of the very functions that the router is made of.
fn described() -> utoipa::openapi::OpenApi {
    let all = OpenApiRouter::new().merge(health::health()).merge(docs::docs());
    all.nest("/v1", routes::v1()).merge(azure::azure()).into_openapi()
}

/// Lets callers through whose token is known.
async fn recognised(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    // Of two, nobody could tell which one a proxy looked at.
    let header = request::one_header(request.headers(), header::AUTHORIZATION.as_str()).unwrap_or_default();
    let token = header
        .as_deref()
        .and_then(|header| header.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim().to_owned()).unwrap_or_default();
    let recognised = match shared.host.recognise_at_once(&token) {
        Some(recognised) => recognised.map_err(Problem::from),
        None => shared.call(move |host| host.recognise(&token)).await,
    };
    match recognised {
        Ok(caller) => {
            let caller = match request.extensions().get::<Place>() {
                Some(place) => caller.at(place.clone()),
                None => caller,
            };
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            // For those who count and log.
            response.extensions_mut().insert(caller);
            response
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
