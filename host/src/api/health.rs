//! Whether the process lives, and whether the host takes work: for whoever starts it again, or sends callers elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::Mutex;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;

/// How long an answer counts: strangers ask, and each look is a write to the disk.
const COUNTS: Duration = Duration::from_secs(2);
/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the host takes work.
#[derive(Clone, Default)]
pub(super) struct Ready {
    is_closing: Arc<AtomicBool>,
    looked: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Ready {
    /// From now on it takes none.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }
}

pub(super) fn health() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "host",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "alive\n"
}

/// Says whether the host takes work: it is not ending, and its database can be written.
#[utoipa::path(get, path = "/readyz", tag = "host",
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        (status = 503, description = "It does not; the text says why.", body = String, content_type = "text/plain"),
    ))]
async fn readyz(State(at): State<Shared>) -> (StatusCode, &'static str) {
    if at.ready.is_closing.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the host is ending\n");
    }
    // One looks; the others wait for what it finds.
    let mut looked = at.ready.looked.lock().await;
    let known = looked.filter(|(when, _)| when.elapsed() < COUNTS);
    let is_ready = match known {
        Some((_, is_ready)) => is_ready,
        None => {
            let look = at.call(|host| host.is_ready());
            let is_ready = tokio::time::timeout(PATIENCE, look).await.is_ok_and(|answer| answer.is_ok());
            *looked = Some((Instant::now(), is_ready));
            is_ready
        }
    };
    if is_ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database cannot be written; the log may say why\n")
    }
}
