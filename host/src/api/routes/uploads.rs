//! Folders that callers send, file by file.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::problem::Problem;
use super::super::request::{Asked, PART, Path, one_header};
use super::Answer;
use crate::service::host::{
    Caller, FilePut, FinishedUploadView, Host, MOST_PAGE, Span, UploadFile, UploadFileView, UploadLineView, UploadView,
};

/// Bytes a second that a file comes with, on average, at the least; what is slower holds a connection for nothing.
const SLOWEST: u64 = 1024;
/// Uploads of a page, where nobody says.
const PAGE: u32 = 50;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(begin_upload, uploads))
        .routes(routes!(upload, delete_upload))
        .routes(routes!(put_file, upload_file))
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UploadsPage {
    /// Only uploads older than this one.
    before: Option<String>,
    /// At most so many: 50 unless told, and never over 200.
    limit: Option<u32>,
}

/// A page of uploads.
#[derive(Serialize, ToSchema)]
struct Uploads {
    /// The newest first.
    items: Vec<UploadLineView>,
    /// What the next page comes before; none where this may be the last.
    next: Option<String>,
}

/// Uploads, the newest first.
#[utoipa::path(
    get, path = "/uploads", tag = "uploads",
    params(UploadsPage),
    responses((status = 200, description = "A page of them.", body = Uploads)),
)]
async fn uploads(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Asked(UploadsPage { before, limit }): Asked<UploadsPage>,
) -> Answer<impl IntoResponse> {
    let limit = limit.unwrap_or(PAGE).clamp(1, MOST_PAGE);
    let items = at.call(move |host: &Host| host.uploads(&caller, before.as_deref(), limit)).await?;
    let next = items.last().filter(|_| items.len() >= limit as usize).map(|upload| upload.id.clone());
    Ok(Json(Uploads { items, next }))
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
/// A body that comes more slowly than 1 KiB a second, or stops for 30 seconds, is refused. With `Content-Range`, what came
/// before a break is kept until the host ends, and the file goes on from there: the first byte has to be the next that is
/// missing, or the first of all, which begins anew. Two do not send a file so at once.
#[utoipa::path(
    put, path = "/uploads/{id}/files/{*path}", tag = "uploads",
    params(
        ("path" = String, Path),
        (
            "content-range" = Option<String>, Header, pattern = "^bytes [0-9]+-[0-9]+/[0-9]+$",
            description = "Which bytes the body has, and how many the file has: `bytes FIRST-LAST/TOTAL`.",
        ),
        (
            "repr-digest" = Option<String>, Header, pattern = "^sha-256=:[A-Za-z0-9+/]{43}=:$",
            description = "SHA-256 of the whole file, as RFC 9530 has it: checked before the file is there.",
        ),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "The file is there, whole."),
        (status = 202, description = "The bytes are there, and more are missing."),
    ),
)]
async fn put_file(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, path)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let (span, digest) = (span(&headers, &body)?, digest(&headers)?);
    let put = FilePut { path, span, digest };
    let mut file = at.call(move |host| host.put_file(&caller, &id, &put)).await?;
    receive(&mut file, body).await?;
    let is_whole = at.call(move |_| file.finish()).await?;
    Ok(if is_whole { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

async fn receive(file: &mut UploadFile, body: Body) -> Result<(), Problem> {
    let (mut parts, began, mut count) = (body.into_data_stream(), Instant::now(), 0u64);
    loop {
        if began.elapsed() > PART + Duration::from_secs(count / SLOWEST) {
            return Err(Problem::slow());
        }
        let part = tokio::time::timeout(PART, parts.next()).await.map_err(|_| Problem::slow())?;
        let Some(part) = part else { return Ok(()) };
        let part = part.map_err(|_| Problem::broken())?;
        count = count.saturating_add(part.len() as u64);
        // Into the system's cache, mostly; a disk that is behind makes writers wait.
        tokio::task::block_in_place(|| file.write(&part))?;
    }
}

/// Which bytes of the file the body has, where that is said.
fn span(headers: &HeaderMap, body: &Body) -> Result<Option<Span>, Problem> {
    let Some(text) = one_header(headers, "content-range")? else { return Ok(None) };
    let wrong = "`content-range` is not `bytes FIRST-LAST/TOTAL`\nhint: FIRST counts from 0, and LAST is below TOTAL";
    let span = Span::parse(&text).ok_or_else(|| Problem::refused(wrong))?;
    if body.size_hint().exact().is_some_and(|length| length != span.bytes()) {
        return Err(Problem::refused("`content-range` has another length than the body"));
    }
    Ok(Some(span))
}

/// The whole file's digest, where it is said.
fn digest(headers: &HeaderMap) -> Result<Option<[u8; 32]>, Problem> {
    let Some(text) = one_header(headers, "repr-digest")? else { return Ok(None) };
    let encoded = text.strip_prefix("sha-256=:").and_then(|rest| rest.strip_suffix(':'));
    let digest = encoded.and_then(|text| STANDARD.decode(text).ok()?.try_into().ok());
    digest.map(Some).ok_or_else(|| Problem::refused("`repr-digest` is not `sha-256=:…:` with 32 bytes in base64"))
}

/// How much of a file is there, and whether somebody sends it.
#[utoipa::path(
    get, path = "/uploads/{id}/files/{*path}", tag = "uploads",
    params(("path" = String, Path)),
    responses((status = 200, description = "What is there of it.", body = UploadFileView)),
)]
async fn upload_file(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, path)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.upload_file(&caller, &id, &path)).await?))
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
