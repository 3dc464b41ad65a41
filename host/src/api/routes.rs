//! The routes below `/v1`: each reads its request, calls one verb, and writes what it says.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::problem::Problem;
use super::request::{Asked, JsonBody, Members, PART, Path};
use crate::service::host::{
    Caller, DeploymentView, EndpointView, FileView, FinishedUploadView, Host, JobRequest, JobStatus, JobView,
    MOST_PAGE, ModelView, NewTokenView, Quotas, QuotasChange, Scope, TenantDetailView, TenantView, TokenView,
    UploadView, UsageQuery, UsageView,
};
use crate::state::Action;

/// Bytes a second that a file comes with, on average, at the least; what is slower holds a connection for nothing.
const SLOWEST: u64 = 1024;
/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a job is followed before its caller has to ask, and to be recognised, again.
const FOLLOWED: Duration = Duration::from_secs(600);
/// Jobs of a page, where nobody says.
const PAGE: u32 = 50;
/// Bytes of a file that are read at once.
const CHUNK: usize = 256 << 10;

pub(super) type Answer<T> = Result<T, Problem>;

/// A list.
#[derive(Serialize, ToSchema)]
struct Items<T> {
    /// All that there are.
    items: Vec<T>,
}

/// Every route below `/v1`; a route and what is written of it are one, so that none is left out.
pub(super) fn v1() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(whoami))
        .routes(routes!(begin_upload))
        .routes(routes!(upload, delete_upload))
        .routes(routes!(put_file))
        .routes(routes!(finish_upload))
        .routes(routes!(models, create_model))
        .routes(routes!(model, delete_model))
        .routes(routes!(endpoints, create_endpoint))
        .routes(routes!(endpoint, update_endpoint, delete_endpoint))
        .routes(routes!(deployments, create_deployment))
        .routes(routes!(deployment, delete_deployment))
        .routes(routes!(submit))
        .routes(routes!(jobs))
        .routes(routes!(job, delete_job))
        .routes(routes!(cancel))
        .routes(routes!(resume))
        .routes(routes!(events))
        .routes(routes!(outputs))
        .routes(routes!(output))
        .routes(routes!(tenants, create_tenant))
        .routes(routes!(tenant, update_tenant))
        .routes(routes!(usage))
        .routes(routes!(tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(audit))
}

/// Whose a token is.
#[derive(Serialize, ToSchema)]
struct Whoami {
    /// The tenant's name.
    tenant: String,
}

/// Says whose the token is.
#[utoipa::path(
    get, path = "/whoami", tag = "host",
    responses((status = 200, description = "The token's tenant.", body = Whoami)),
)]
async fn whoami(Extension(caller): Extension<Caller>) -> Json<Whoami> {
    Json(Whoami { tenant: caller.tenant().to_owned() })
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
        // Into the system's cache: short beside the wait for the next part.
        file.write(&part)?;
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

/// A version of a model to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewModel {
    /// Its name.
    name: String,
    /// An upload that is finished.
    upload: String,
}

/// Every version of every model.
#[utoipa::path(
    get, path = "/models", tag = "models",
    responses((status = 200, description = "The models.", body = Items<ModelView>)),
)]
async fn models(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.models(&caller)).await? }))
}

/// Makes a version of a model from an upload that is finished.
///
/// The same files again are the version that has them.
#[utoipa::path(
    post, path = "/models", tag = "models",
    request_body = NewModel,
    responses((status = 201, description = "The version.", body = ModelView)),
)]
async fn create_model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewModel>,
) -> Answer<impl IntoResponse> {
    let model = at.call(move |host| host.create_model(&caller, &new.name, &new.upload)).await?;
    Ok((StatusCode::CREATED, Json(model)))
}

/// One version of a model; the latest unless told.
#[utoipa::path(get, path = "/models/{name}", tag = "models", params(Versioned), responses((status = 200, description = "The version.", body = ModelView)))]
async fn model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Asked(Versioned { version }): Asked<Versioned>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.model(&caller, &name, version)).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OneVersion {
    /// Its number.
    version: u32,
}

/// Removes a version of a model that nothing is made of.
#[utoipa::path(delete, path = "/models/{name}", tag = "models", params(OneVersion), responses((status = 204, description = "It is gone.")))]
async fn delete_model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Asked(OneVersion { version }): Asked<OneVersion>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_model(&caller, &name, version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An endpoint to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    /// Its name.
    name: String,
    /// What it is for, in at most 4,096 bytes.
    #[serde(default)]
    #[schema(max_length = 4096)]
    description: String,
    /// The owner's own words: at most 64.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// What changes of an endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedEndpoint {
    /// What it is for, in at most 4,096 bytes.
    #[schema(max_length = 4096)]
    description: Option<String>,
    /// All tags, in the stead of those that are there.
    tags: Option<BTreeMap<String, String>>,
    /// What it does where it is not told.
    #[schema(value_type = Option<ChangedDefaults>)]
    defaults: Option<Members<ChangedDefaults>>,
}

/// What changes of an endpoint's defaults.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedDefaults {
    /// The deployment that is to answer: `NAME` for its latest version, or `NAME:VERSION`.
    deployment_name: Option<String>,
}

/// Every endpoint.
#[utoipa::path(
    get, path = "/endpoints", tag = "endpoints",
    responses((status = 200, description = "The endpoints.", body = Items<EndpointView>)),
)]
async fn endpoints(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.endpoints(&caller)).await? }))
}

/// Makes an endpoint.
#[utoipa::path(
    post, path = "/endpoints", tag = "endpoints",
    request_body = NewEndpoint,
    responses((status = 201, description = "The endpoint.", body = EndpointView)),
)]
async fn create_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewEndpoint>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_endpoint(&caller, &new.name, &new.description, &new.tags)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// One endpoint.
#[utoipa::path(
    get, path = "/endpoints/{endpoint}", tag = "endpoints",
    responses((status = 200, description = "The endpoint.", body = EndpointView)),
)]
async fn endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.endpoint(&caller, &name)).await?))
}

/// Changes an endpoint, all at once; what is not named stays. Jobs that were accepted keep their deployment.
#[utoipa::path(
    patch, path = "/endpoints/{endpoint}", tag = "endpoints",
    request_body = ChangedEndpoint,
    responses((status = 200, description = "The endpoint as it is now.", body = EndpointView)),
)]
async fn update_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<ChangedEndpoint>,
) -> Answer<impl IntoResponse> {
    let ChangedEndpoint { description, tags, defaults } = change;
    let default_deployment = defaults.and_then(|Members(defaults)| defaults.deployment_name);
    let words = (description, tags);
    let verb = move |host: &Host| host.update_endpoint(&caller, &name, words, default_deployment.as_deref());
    Ok(Json(at.call(verb).await?))
}

/// Removes an endpoint with its deployments, unless jobs of it wait or run.
#[utoipa::path(
    delete, path = "/endpoints/{endpoint}", tag = "endpoints",
    responses((status = 204, description = "It is gone.")),
)]
async fn delete_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_endpoint(&caller, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A version of a deployment to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UploadedDeployment {
    /// An upload that is finished.
    upload: String,
    /// Whether it answers by default from now on.
    #[serde(default)]
    set_default: bool,
}

/// No query at all.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Versioned {
    /// The version's number, or the latest.
    version: Option<u32>,
}

/// Every version of every deployment of an endpoint.
#[utoipa::path(
    get, path = "/endpoints/{endpoint}/deployments", tag = "deployments",
    responses((status = 200, description = "The deployments.", body = Items<DeploymentView>)),
)]
async fn deployments(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.deployments(&caller, &endpoint)).await? }))
}

/// Makes a version of a deployment from an upload that is finished, and checks it.
///
/// The upload holds `deployment.yml`, the script below `code`, and below `model` the model, unless the YAML names a
/// registered one.
#[utoipa::path(
    post, path = "/endpoints/{endpoint}/deployments", tag = "deployments",
    request_body = UploadedDeployment,
    responses((status = 201, description = "The version.", body = DeploymentView)),
)]
async fn create_deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    JsonBody(new): JsonBody<UploadedDeployment>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_deployment(&caller, &endpoint, &new.upload, new.set_default)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A version of a deployment, or the latest.
#[utoipa::path(
    get, path = "/endpoints/{endpoint}/deployments/{name}", tag = "deployments",
    params(Versioned),
    responses((status = 200, description = "The version.", body = DeploymentView)),
)]
async fn deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((endpoint, name)): Path<(String, String)>,
    Asked(Versioned { version }): Asked<Versioned>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.deployment(&caller, &endpoint, &name, version)).await?))
}

/// Removes every version of a deployment, unless one is the default, or jobs of one wait or run.
#[utoipa::path(
    delete, path = "/endpoints/{endpoint}/deployments/{name}", tag = "deployments",
    responses((status = 204, description = "It is gone.")),
)]
async fn delete_deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((endpoint, name)): Path<(String, String)>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Answer<StatusCode> {
    // One version alone is not deleted: who asks for that should not lose all.
    at.call(move |host| host.delete_deployment(&caller, &endpoint, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a header says that is there once or not at all: of two, nobody could tell which one counts.
pub(super) fn one_header(headers: &HeaderMap, name: &str) -> Answer<Option<String>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Problem::refused(&format!("the header `{name}` is not in ASCII"))),
        },
        _ => Err(Problem::refused(&format!("the header `{name}` is there twice"))),
    }
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
    let (job, is_new) = at.call(move |host| host.submit(&caller, &endpoint, &request, key.as_deref())).await?;
    let location = HeaderValue::from_str(&format!("/v1/jobs/{}", job.name)).map_err(|_| Problem::host())?;
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location)], Json(job)))
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
    let parts = stream::try_unfold((file, bytes), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = move || -> std::io::Result<_> {
            let mut part = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            let count = file.read(&mut part)?;
            part.truncate(count);
            Ok((part, file))
        };
        let (part, file) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        if part.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let left = left - part.len() as u64;
        Ok(Some((Bytes::from(part), (file, left))))
    });
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    // Whatever a script wrote, no browser is to run it.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    Ok(response)
}

/// A tenant to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// Its name.
    name: String,
    /// Its share of the host, beside the others'.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000)]
    weight: u32,
    /// What it may use.
    #[serde(default)]
    #[schema(value_type = Quotas)]
    quotas: Members<Quotas>,
}

fn one() -> u32 {
    1
}

/// Every tenant, for administrators; for others, their own.
#[utoipa::path(
    get, path = "/tenants", tag = "tenants",
    responses((status = 200, description = "The tenants.", body = Items<TenantView>)),
)]
async fn tenants(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.tenants(&caller)).await? }))
}

/// Makes a tenant.
#[utoipa::path(
    post, path = "/tenants", tag = "tenants",
    request_body = NewTenant,
    responses((status = 201, description = "The tenant.", body = TenantView)),
)]
async fn create_tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewTenant>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_tenant(&caller, &new.name, new.weight, new.quotas.0)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A tenant, and what it has of what it may have.
#[utoipa::path(get, path = "/tenants/{name}", tag = "tenants", responses((status = 200, description = "The tenant.", body = TenantDetailView)))]
async fn tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.tenant(&caller, &name)).await?))
}

/// What changes of a tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedTenant {
    /// Its share of the host, beside the others'.
    #[schema(minimum = 1)]
    weight: Option<u32>,
    /// Those that are named change.
    #[serde(default)]
    #[schema(value_type = QuotasChange)]
    quotas: Members<QuotasChange>,
}

/// Changes a tenant's weight and quotas.
#[utoipa::path(
    patch, path = "/tenants/{name}", tag = "tenants",
    request_body = ChangedTenant,
    responses((status = 200, description = "The tenant as it is now.", body = TenantView)),
)]
async fn update_tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<ChangedTenant>,
) -> Answer<impl IntoResponse> {
    let ChangedTenant { weight, quotas: Members(quotas) } = change;
    Ok(Json(at.call(move |host| host.update_tenant(&caller, &name, weight, quotas)).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsageSpan {
    /// Only this tenant; an admin's token sees all.
    tenant: Option<String>,
    /// The first day, as `2026-01-31`.
    from: Option<String>,
    /// The last day.
    to: Option<String>,
    /// Whether each job is told by itself.
    #[serde(default)]
    jobs: bool,
}

/// What tenants used, by day's bounds.
#[utoipa::path(get, path = "/usage", tag = "tenants", params(UsageSpan), responses((status = 200, description = "A line for each.", body = Items<UsageView>)))]
async fn usage(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Asked(UsageSpan { tenant, from, to, jobs }): Asked<UsageSpan>,
) -> Answer<impl IntoResponse> {
    let query = UsageQuery { tenant, from, to, by_job: jobs };
    Ok(Json(Items { items: at.call(move |host| host.usage(&caller, &query)).await? }))
}

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// What its owner calls it.
    name: String,
    /// Whose it is to be, or the caller's own tenant's.
    tenant: Option<String>,
    /// What it may do.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// How long it is taken; without it, until it is revoked.
    #[schema(maximum = 316_224_000)]
    lifetime_seconds: Option<u64>,
}

/// Every token, for administrators; for others, those of their tenant.
#[utoipa::path(
    get, path = "/tokens", tag = "tenants",
    responses((status = 200, description = "The tokens, without what makes them tokens.", body = Items<TokenView>)),
)]
async fn tokens(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.tokens(&caller)).await? }))
}

/// Makes a token. It is shown this once.
#[utoipa::path(
    post, path = "/tokens", tag = "tenants",
    request_body = NewToken,
    responses((status = 201, description = "The token.", body = NewTokenView)),
)]
async fn create_token(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewToken>,
) -> Answer<impl IntoResponse> {
    let lifetime = new.lifetime_seconds.map(Duration::from_secs);
    let made = at
        .call(move |host| host.create_token(&caller, new.tenant.as_deref(), &new.name, &new.scopes, lifetime))
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Ends a token, unless nobody could make another after it.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tenants",
    responses((status = 204, description = "It is taken no more.")),
)]
async fn revoke_token(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.revoke_token(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditPage {
    /// At most so many: 100 unless told, and never over 1,000.
    limit: Option<u32>,
}

/// Who changed what in the tenant, the newest first.
#[utoipa::path(
    get, path = "/audit", tag = "tenants",
    params(AuditPage),
    responses((status = 200, description = "Lines of the audit log.", body = Items<Action>)),
)]
async fn audit(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Asked(AuditPage { limit }): Asked<AuditPage>,
) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.audit_log(&caller, limit.unwrap_or(100))).await? }))
}
