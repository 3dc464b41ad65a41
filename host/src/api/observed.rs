//! Every request is counted and can be found again: by an identifier that its caller may choose, and sees in the answer.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use rand::RngExt;

use super::Shared;
use crate::observe::{self, Attribute, Place};
use crate::service::host::Caller;

/// Carries the identifier, in requests and answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where a request is in its caller's trace, as W3C has it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Characters of one that callers choose.
const MOST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: String;
}

/// The identifier of the request that this task answers.
pub(super) fn request_id() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Around every route.
pub(super) async fn observed(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = chosen(request.headers()).unwrap_or_else(|| format!("{:016x}", rand::rng().random::<u64>()));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // What a router within a router answers for none of its routes.
    let route = route.filter(|route| !route.contains("__private"));
    let method = request.method().clone();
    let from = request.headers().get(TRACEPARENT).and_then(|value| Place::parse(value.to_str().ok()?));
    // Of routes that there are, so that names of spans are few, and not of those that ask all the time how the host is.
    let traced = route.as_deref().filter(|route| route.starts_with("/v1"));
    let span = shared.host.tracer().zip(traced);
    let span = span.map(|(tracer, route)| tracer.request(method.as_str(), route, from.as_ref()));
    if let Some(span) = &span {
        request.extensions_mut().insert(span.place());
    }
    let mut response = CURRENT.scope(id.clone(), next.run(request)).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let request = observe::Request { route: route.as_deref(), method: method.as_str(), status, took };
    shared.host.metrics().request(&request);
    if let Some(mut span) = span {
        span.set(Attribute::new("http.response.status_code", i64::from(status)));
        span.set(Attribute::new("scorehost.request", id.clone()));
        if status >= 500 {
            span.fail(format!("status {status}"));
        }
    }
    tell(&request, &id, response.extensions().get::<Caller>());
    response
}

/// An identifier of the caller's that any log can hold.
fn chosen(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits =
        (1..=MOST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fits.then(|| id.to_owned())
}

/// One line, without the path and the query, which hold names and keys of callers.
fn tell(request: &observe::Request<'_>, id: &str, caller: Option<&Caller>) {
    let observe::Request { route, method, status, took } = *request;
    let (tenant, token) = (caller.map(Caller::tenant), caller.map(Caller::token));
    let ms = milliseconds(took);
    if status >= 500 {
        tracing::warn!(request = id, method, route, status, ms, tenant, token, "the host failed a request");
    } else {
        tracing::debug!(request = id, method, route, status, ms, tenant, token, "request");
    }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_of_callers_are_taken_where_they_are_plain() {
        let long = "a".repeat(MOST_ID + 1);
        for (text, is_taken) in
            [("a-1_B.c", true), ("", false), (&long, false), ("a b", false), ("a\tb", false), ("{}", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(text).unwrap());
            assert_eq!(chosen(&headers).is_some(), is_taken, "{text}");
        }
        assert!(chosen(&HeaderMap::new()).is_none());
    }
}
