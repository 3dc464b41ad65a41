//! Jobs: posting, following, and what they wrote.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::problem::Problem;
use super::super::request::{Asked, JsonBody, Path, one_header};
use super::{Answer, Items};
use crate::page::sent;
use crate::service::host::{Caller, FileView, Host, JobCheck, JobRequest, JobStatus, JobView, MOST_PAGE};

/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a job is followed before its caller has to ask, and to be recognised, again.
const FOLLOWED: Duration = Duration::from_secs(600);
/// Jobs of a page, where nobody says.
const PAGE: u32 = 50;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(submit))
        .routes(routes!(check_job))
        .routes(routes!(jobs))
        .routes(routes!(job, delete_job))
        .routes(routes!(cancel))
        .routes(routes!(resume))
        .routes(routes!(events))
        .routes(routes!(outputs))
        .routes(routes!(output))
}

/// Posts a job: once this is answered, it will run.
#[utoipa::path(
    post, path = "/endpoints/{endpoint}/jobs", tag = "jobs",
    params(
        (
            "idempotency-key" = Option<String>, Header,
            description = "Under which the same request gives the same job, however often it is sent. An upload with the same files is the same input.",
            min_length = 1, max_length = 128
        ),
    ),
    request_body = JobRequest,
    responses(
        (
            status = 202, description = "The job, accepted now.", body = JobView,
            headers(("location" = String, description = "Where the job is."))
        ),
        (
            status = 200, description = "The job that was accepted before, under the same key.", body = JobView,
            headers(("location" = String, description = "Where the job is."))
        ),
    ),
)]
async fn submit(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<JobRequest>,
) -> Answer<impl IntoResponse> {
    let key = one_header(&headers, "idempotency-key")?;
    let (job, is_new) = at.post(move |host| host.submit(&caller, &endpoint, &request, key.as_deref())).await?;
    let location = HeaderValue::from_str(&format!("/v1/jobs/{}", job.name)).map_err(|_| Problem::host())?;
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location)], Json(job)))
}

/// Asks whether a job would be accepted now, before its input is sent.
#[utoipa::path(
    post, path = "/endpoints/{endpoint}/jobs/check", tag = "jobs",
    request_body = JobCheck,
    responses((status = 204, description = "It would be.")),
)]
async fn check_job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    JsonBody(wish): JsonBody<JobCheck>,
) -> Answer<StatusCode> {
    at.call(move |host| host.check_job(&caller, &endpoint, &wish)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobsPage {
    /// Only jobs older than this one.
    before: Option<String>,
    /// Only those of this endpoint.
    endpoint: Option<String>,
    /// Only those that are there by now.
    status: Option<JobStatus>,
    /// At most so many: 50 unless told, and never over 200.
    limit: Option<u32>,
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
struct Jobs {
    /// The newest first.
    items: Vec<JobView>,
    /// What the next page comes before; none where this may be the last.
    next: Option<String>,
}

/// Jobs, the newest first.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs",
    params(JobsPage),
    responses((status = 200, description = "A page of them.", body = Jobs)),
)]
async fn jobs(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Asked(JobsPage { before, endpoint, status, limit }): Asked<JobsPage>,
) -> Answer<impl IntoResponse> {
    let limit = limit.unwrap_or(PAGE).clamp(1, MOST_PAGE);
    let verb = move |host: &Host| host.jobs(&caller, before.as_deref(), endpoint.as_deref(), status, limit);
    let items = at.call(verb).await?;
    let next = items.last().filter(|_| items.len() >= limit as usize).map(|job| job.name.clone());
    Ok(Json(Jobs { items, next }))
}

/// One job.
#[utoipa::path(
    get, path = "/jobs/{name}", tag = "jobs",
    responses((status = 200, description = "The job.", body = JobView)),
)]
async fn job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.job(&caller, &name)).await?))
}

/// Removes a job that has ended, with its output.
#[utoipa::path(delete, path = "/jobs/{name}", tag = "jobs", responses((status = 204, description = "It is gone.")))]
async fn delete_job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_job(&caller, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a job to stop. One that has ended stays as it is.
#[utoipa::path(
    post, path = "/jobs/{name}/cancel", tag = "jobs",
    responses((status = 200, description = "The job as it is now.", body = JobView)),
)]
async fn cancel(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.cancel(&caller, &name)).await?))
}

/// Lets a job that failed or was canceled go on from what it committed.
#[utoipa::path(
    post, path = "/jobs/{name}/resume", tag = "jobs",
    responses((status = 200, description = "The job as it is now.", body = JobView)),
)]
async fn resume(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.resume(&caller, &name)).await?))
}

/// A job as it was at one moment.
#[derive(ToSchema)]
#[expect(dead_code, reason = "events are written by their own type; this one describes them")]
struct JobEvent {
    /// What it is.
    #[schema(example = "job")]
    event: String,
    /// The job, as `GET /v1/jobs/{name}` has it: JSON.
    data: String,
}

/// Follows a job: the job as it is, and again whenever that changes, until it has ended.
///
/// After ten minutes the host ends it, and whoever follows asks again.
#[utoipa::path(
    get, path = "/jobs/{name}/events", tag = "jobs",
    responses(
        (
            status = 200, description = "Server-sent events, each of this shape.", body = JobEvent,
            content_type = "text/event-stream"
        ),
    ),
)]
async fn events(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let look = move |at: Shared, caller: Caller, name: String| async move {
        at.call(move |host| host.job(&caller, &name)).await
    };
    let place = at.followers.take(caller.tenant().to_owned()).ok_or_else(Problem::busy)?;
    // A job that is not there is told as such.
    look(at.clone(), caller.clone(), name.clone()).await?;
    let end = Instant::now() + FOLLOWED;
    let changes = stream::unfold(Some(String::new()), move |told| {
        let (at, caller, name) = (at.clone(), caller.clone(), name.clone());
        // Given back when nobody follows any more.
        let _ = &place;
        async move {
            let told = told?;
            loop {
                let job = look(at.clone(), caller.clone(), name.clone()).await.ok()?;
                let text = serde_json::to_string(&job).ok()?;
                if text != told {
                    let next = if job.status.has_ended() { None } else { Some(text.clone()) };
                    return Some((Ok(Event::default().event("job").data(text)), next));
                }
                if Instant::now() > end {
                    return None;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    Ok(Sse::new(changes).keep_alive(KeepAlive::default()))
}

/// The files of a job's output, once it ended.
#[utoipa::path(
    get, path = "/jobs/{name}/outputs", tag = "jobs",
    responses((status = 200, description = "The files.", body = Items<FileView>)),
)]
async fn outputs(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.outputs(&caller, &name)).await? }))
}

/// A file of a job's output, once it ended.
#[utoipa::path(
    get, path = "/jobs/{name}/outputs/{*path}", tag = "jobs",
    params(("path" = String, Path)),
    responses((status = 200, description = "The file.", body = Vec<u8>, content_type = "application/octet-stream")),
)]
async fn output(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((name, path)): Path<(String, String)>,
) -> Answer<Response> {
    let (file, bytes) = at.call(move |host| host.open_output(&caller, &name, &path)).await?;
    // Whatever a script wrote, no browser is to run it.
    Ok(sent(file, bytes, "application/octet-stream"))
}
