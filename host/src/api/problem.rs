//! What went wrong, as callers are told it: RFC 9457's `application/problem+json`, with the cure as `hint`.

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::observed::request_id;
use crate::fault::{self, Fault};
use crate::service::host::HostError;
use crate::state::StateError;

/// Seconds after which a refused caller may try again.
const RETRY_AFTER: &str = "5";

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, detail: &str) -> Self {
        let (detail, hint) = match detail.split_once("\nhint: ") {
            Some((detail, hint)) => (detail.to_owned(), Some(hint.to_owned())),
            None => (detail.to_owned(), None),
        };
        let title = status.canonical_reason().unwrap_or_default();
        Self { kind: "about:blank", title, status: status.as_u16(), detail, hint, request_id: None }
    }

    /// What failed is this host; why is in its log, and nobody else's business.
    pub(super) fn host() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the host failed; its log says why")
    }

    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such route")
    }

    pub(super) fn no_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "the route has no such method")
    }

    pub(super) fn busy() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "as many callers follow jobs as may at once")
    }

    pub(super) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")
    }

    pub(super) fn too_large(most: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body has more than {most} bytes"))
    }

    pub(super) fn not_json() -> Self {
        let detail = "the body is not said to be JSON\nhint: send it with `content-type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(super) fn wrong(error: &serde_json::Error) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, &format!("the body is not what this route takes: {error}"))
    }

    pub(super) fn broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the body broke off")
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        let status = match &error {
            HostError::Stranger => StatusCode::UNAUTHORIZED,
            HostError::Scope(_) => StatusCode::FORBIDDEN,
            HostError::Refused(_) | HostError::Name(_) => StatusCode::BAD_REQUEST,
            HostError::State(StateError::Unknown { .. }) => StatusCode::NOT_FOUND,
            HostError::State(StateError::Exists { .. } | StateError::InUse { .. }) => StatusCode::CONFLICT,
            HostError::State(StateError::KeyReused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            HostError::Busy | HostError::State(StateError::Quota { .. }) => StatusCode::TOO_MANY_REQUESTS,
            HostError::State(StateError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            HostError::State(_) | HostError::Disk { .. } | HostError::Held => {
                debug_assert_eq!(error.fault() == Fault::Caller, matches!(error, HostError::Held));
                tracing::error!(request = request_id(), error = fault::chain(&error), "the host failed");
                return Self::host();
            }
        };
        Self::new(status, &error.to_string())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), &rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request_id = request_id();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("texts and numbers are JSON; this is a bug");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
