//! Folders that callers send, file by file.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::problem::Problem;
use super::super::request::{PART, Path};
use super::Answer;
use crate::service::host::{Caller, FinishedUploadView, UploadView};

/// Bytes a second that a file comes with, on average, at the least; what is slower holds a connection for nothing.
const SLOWEST: u64 = 1024;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(begin_upload))
        .routes(routes!(upload, delete_upload))
        .routes(routes!(put_file))
        .routes(routes!(finish_upload))
}

/// Begins an upload: a folder that is sent file by file.
#[utoipa::path(
    post, path = "/uploads", tag = "uploads",
    responses((status = 201, description = "The upload, empty.", body = UploadView)),
)]
async fn begin_upload(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    let upload = at.call(move |host| host.begin_upload(&caller)).await?;
    Ok((StatusCode::CREATED, Json(upload)))
}

/// What is there of an upload.
#[utoipa::path(
    get, path = "/uploads/{id}", tag = "uploads",
    responses((status = 200, description = "Its files.", body = UploadView)),
)]
async fn upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.upload(&caller, &id)).await?))
}

/// Sends one file, of at most 4 GiB; one that is there is replaced.
///
/// A body that comes more slowly than 1 KiB a second, or stops for 30 seconds, is refused.
#[utoipa::path(
    put, path = "/uploads/{id}/files/{*path}", tag = "uploads",
    params(("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "The file is there, whole.")),
)]
async fn put_file(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, path)): Path<(String, String)>,
    body: Body,
) -> Answer<StatusCode> {
    let mut file = at.call(move |host| host.put_file(&caller, &id, &path)).await?;
    let (mut parts, began, mut count) = (body.into_data_stream(), Instant::now(), 0u64);
    loop {
        if began.elapsed() > PART + Duration::from_secs(count / SLOWEST) {
            return Err(Problem::slow());
        }
        let part = tokio::time::timeout(PART, parts.next()).await.map_err(|_| Problem::slow())?;
        let Some(part) = part else { break };
        let part = part.map_err(|_| Problem::broken())?;
        count = count.saturating_add(part.len() as u64);
        // Into the system's cache, mostly; a disk that is behind makes writers wait.
        tokio::task::block_in_place(|| file.write(&part))?;
    }
    at.call(move |_| file.finish()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes an upload that no job, model or deployment is made of.
#[utoipa::path(delete, path = "/uploads/{id}", tag = "uploads", responses((status = 204, description = "It is gone.")))]
async fn delete_upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_upload(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends an upload: it is whole, and does not change any more.
#[utoipa::path(
    post, path = "/uploads/{id}/finish", tag = "uploads",
    responses((status = 200, description = "What it has.", body = FinishedUploadView)),
)]
async fn finish_upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.finish_upload(&caller, &id)).await?))
}
