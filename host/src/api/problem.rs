//! What went wrong, as callers are told it: RFC 9457's `application/problem+json`, with the cure as `hint`.

use std::time::SystemTime;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::observed::request_id;
use crate::fault::{self, Fault};
use crate::service::host::HostError;
use crate::state::StateError;

/// Seconds after which a refused caller may try again.
const RETRY_AFTER: u64 = 5;

/// What went wrong, as RFC 9457 has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What went wrong, and with what.
    detail: String,
    /// How to mend it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
    /// The same as Azure's clients read it: only below `/endpoints`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<Box<AzureError>>,
    /// The request's, as the host's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<Box<str>>,
    /// Seconds after which it may be tried again.
    #[serde(skip)]
    retry_after: u64,
}

/// A problem as Azure's clients read it.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct AzureError {
    /// The status in words.
    code: &'static str,
    /// The detail, and the hint.
    message: String,
}

impl Problem {
    fn new(status: StatusCode, detail: &str) -> Self {
        let (detail, hint) = match detail.split_once("\nhint: ") {
            Some((detail, hint)) => (detail.to_owned(), Some(hint.to_owned())),
            None => (detail.to_owned(), None),
        };
        let title = status.canonical_reason().unwrap_or_default();
        Self {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail,
            hint,
            error: None,
            request_id: None,
            retry_after: RETRY_AFTER,
        }
    }

    fn hinted(self, hint: &str) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.to_owned())), ..self }
    }

    /// With its detail in other words.
    pub(super) fn in_words(self, words: impl FnOnce(&str) -> String) -> Self {
        Self { detail: words(&self.detail), ..self }
    }

    /// With the words of Azure beside.
    pub(super) fn for_azure(self) -> Self {
        let message = self.hint.as_ref().map_or_else(|| self.detail.clone(), |hint| format!("{}; {hint}", self.detail));
        Self { error: Some(Box::new(AzureError { code: self.title, message })), ..self }
    }

    /// What failed is this host; why is in its log, and nobody else's business.
    pub(super) fn host() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the host failed; its log says why")
    }

    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such route").hinted("`/docs` lists the routes")
    }

    pub(super) fn no_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "the route has no such method").hinted("`/docs` lists the routes")
    }

    pub(super) fn busy() -> Self {
        let hint = "close a stream that is not needed, or ask for the job itself now and then";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "as many callers follow jobs as may at once").hinted(hint)
    }

    pub(super) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly").hinted("send it again over a better line")
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

    pub(super) fn refused(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn unknown(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, &format!("there is no {what} `{name}`")).hinted(lists(what))
    }

    pub(super) fn no_path(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, &format!("the path is not what this route takes: {reason}"))
    }

    pub(super) fn no_query(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, &format!("the query is not what this route takes: {reason}"))
    }

    pub(super) fn broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the body broke off")
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        let status = match &error {
            HostError::Stranger => StatusCode::UNAUTHORIZED,
            HostError::Scope(_) | HostError::State(StateError::TooLarge { .. }) => StatusCode::FORBIDDEN,
            HostError::State(StateError::Spent { anew, .. }) => {
                let wait =
                    humantime::parse_rfc3339(anew).ok().and_then(|anew| anew.duration_since(SystemTime::now()).ok());
                let retry_after = wait.map_or(RETRY_AFTER, |wait| wait.as_secs() + 1);
                return Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, &error.to_string()) };
            }
            HostError::Refused(_) | HostError::Name(_) => StatusCode::BAD_REQUEST,
            HostError::State(StateError::Unknown { .. }) => StatusCode::NOT_FOUND,
            HostError::State(StateError::Exists { .. } | StateError::InUse { .. } | StateError::NotResumed { .. })
            | HostError::Sending(_)
            | HostError::Offset { .. } => StatusCode::CONFLICT,
            HostError::State(StateError::KeyReused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            HostError::Busy | HostError::State(StateError::Quota { .. } | StateError::Full { .. }) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            HostError::State(StateError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            HostError::State(_) | HostError::Disk { .. } | HostError::Held => {
                debug_assert_eq!(error.fault() == Fault::Caller, matches!(error, HostError::Held));
                tracing::error!(request = request_id(), error = fault::chain(&error), "the host failed");
                return Self::host();
            }
        };
        let problem = Self::new(status, &error.to_string());
        match &error {
            HostError::Stranger => problem.hinted("send `Authorization: Bearer TOKEN`; an administrator makes tokens"),
            HostError::Scope(_) => problem.hinted("use a token with this scope; an administrator makes tokens"),
            HostError::State(StateError::Unknown { what, .. }) => problem.hinted(lists(what)),
            HostError::State(StateError::Exists { .. }) => problem.hinted("choose another name, or use what is there"),
            HostError::State(StateError::KeyReused(_)) => problem.hinted("take another key for another request"),
            HostError::State(StateError::Quota { .. }) => problem.hinted(
                "wait until some have ended, or have an administrator raise the limit: scorehost tenant update",
            ),
            HostError::Busy => problem.hinted("try again when one of them has ended"),
            _ => problem,
        }
    }
}

/// Where those that are there are found.
fn lists(what: &str) -> &'static str {
    match what {
        "endpoint" => "`endpoint list`, or `GET /v1/endpoints`, tells those of the token's tenant",
        "deployment" => "`deployment list`, or `GET /v1/endpoints/{endpoint}/deployments`, tells those of the endpoint",
        "job" => "`job list`, or `GET /v1/jobs`, tells those of the token's tenant",
        "model" => "`model list`, or `GET /v1/models`, tells those of the token's tenant",
        "tenant" => "`tenant list`, or `GET /v1/tenants`, tells them",
        "token" => "`token list`, or `GET /v1/tokens`, tells them",
        "upload" => {
            "`upload list`, or `GET /v1/uploads`, tells those of the token's tenant; one with which nobody does anything is \
             removed after a while; `POST` there begins one"
        }
        _ => "another token may belong to another tenant, and see other things",
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request_id = request_id().map(Into::into);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("texts and numbers are JSON; this is a bug");
        let mut response = (status, body).into_response();
        let retry_after = self.retry_after;
        // For whoever says it in other words.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}
