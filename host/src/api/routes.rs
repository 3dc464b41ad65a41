//! The routes below `/v1`: each reads its request, calls one verb, and writes what it says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::problem::Problem;
use crate::service::host::{
    Caller, Host, JobRequest, JobStatus, JobView, MOST_PAGE, Quotas, QuotasChange, Scope, UsageQuery,
};

/// What a JSON body may have.
const MOST_BODY: usize = 1 << 20;
/// What is read of one that has more.
const MOST_DROPPED: usize = 16 << 20;
/// How long a part of a body may take.
const PART: Duration = Duration::from_secs(30);
/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a job is followed before its caller has to ask, and to be recognised, again.
const FOLLOWED: Duration = Duration::from_secs(600);
/// Jobs of a page, where nobody says.
const PAGE: u32 = 50;
/// Bytes of a file that are read at once.
const CHUNK: usize = 256 << 10;

type Answer<T> = Result<T, Problem>;

/// A JSON body; what is wrong with it is told as a problem.
struct JsonBody<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::not_json());
        }
        let body = tokio::time::timeout(PART, read(request.into_body())).await.map_err(|_| Problem::slow())??;
        Ok(Self(serde_json::from_slice(&body).map_err(|error| Problem::wrong(&error))?))
    }
}

/// A body that may have so many bytes. Of one that has more, some are read and dropped: a caller that still sends would
/// not see the answer.
async fn read(body: Body) -> Answer<Vec<u8>> {
    let (mut kept, mut count, mut parts) = (Vec::new(), 0, body.into_data_stream());
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::broken())?;
        count += part.len();
        if count <= MOST_BODY {
            kept.extend_from_slice(&part);
        } else if count > MOST_DROPPED {
            break;
        }
    }
    if count > MOST_BODY { Err(Problem::too_large(MOST_BODY)) } else { Ok(kept) }
}

/// A list.
#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

pub(super) fn v1() -> Router<Shared> {
    Router::new()
        .route("/whoami", get(whoami))
        .route("/uploads", post(begin_upload))
        .route("/uploads/{id}", get(upload).delete(delete_upload))
        .route("/uploads/{id}/files/{*path}", put(put_file))
        .route("/uploads/{id}/finish", post(finish_upload))
        .route("/models", get(models).post(create_model))
        .route("/models/{name}", get(model).delete(delete_model))
        .route("/endpoints", get(endpoints).post(create_endpoint))
        .route("/endpoints/{endpoint}", get(endpoint).patch(update_endpoint).delete(delete_endpoint))
        .route("/endpoints/{endpoint}/deployments", get(deployments).post(create_deployment))
        .route("/endpoints/{endpoint}/deployments/{name}", get(deployment).delete(delete_deployment))
        .route("/endpoints/{endpoint}/jobs", post(submit))
        .route("/jobs", get(jobs))
        .route("/jobs/{name}", get(job).delete(delete_job))
        .route("/jobs/{name}/cancel", post(cancel))
        .route("/jobs/{name}/resume", post(resume))
        .route("/jobs/{name}/events", get(events))
        .route("/jobs/{name}/outputs", get(outputs))
        .route("/jobs/{name}/outputs/{*path}", get(output))
        .route("/tenants", get(tenants).post(create_tenant))
        .route("/tenants/{name}", get(tenant).patch(update_tenant))
        .route("/usage", get(usage))
        .route("/tokens", get(tokens).post(create_token))
        .route("/tokens/{id}", delete(revoke_token))
        .route("/audit", get(audit))
}

async fn whoami(Extension(caller): Extension<Caller>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "tenant": caller.tenant() }))
}

async fn begin_upload(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    let upload = at.call(move |host| host.begin_upload(&caller)).await?;
    Ok((StatusCode::CREATED, Json(upload)))
}

async fn upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.upload(&caller, &id)).await?))
}

async fn put_file(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, path)): Path<(String, String)>,
    body: Body,
) -> Answer<StatusCode> {
    let mut file = at.call(move |host| host.put_file(&caller, &id, &path)).await?;
    let mut parts = body.into_data_stream();
    loop {
        let part = tokio::time::timeout(PART, parts.next()).await.map_err(|_| Problem::slow())?;
        let Some(part) = part else { break };
        let part = part.map_err(|_| Problem::broken())?;
        // Into the system's cache: short beside the wait for the next part.
        file.write(&part)?;
    }
    at.call(move |_| file.finish()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_upload(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn finish_upload(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.finish_upload(&caller, &id)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewModel {
    name: String,
    upload: String,
}

async fn models(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.models(&caller)).await? }))
}

async fn create_model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewModel>,
) -> Answer<impl IntoResponse> {
    let model = at.call(move |host| host.create_model(&caller, &new.name, &new.upload)).await?;
    Ok((StatusCode::CREATED, Json(model)))
}

async fn model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<Versioned>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(Versioned { version }) = query?;
    Ok(Json(at.call(move |host| host.model(&caller, &name, version)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneVersion {
    version: u32,
}

async fn delete_model(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<OneVersion>, axum::extract::rejection::QueryRejection>,
) -> Answer<StatusCode> {
    let Query(OneVersion { version }) = query?;
    at.call(move |host| host.delete_model(&caller, &name, version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedEndpoint {
    description: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    defaults: Option<ChangedDefaults>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedDefaults {
    deployment_name: Option<String>,
}

async fn endpoints(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.endpoints(&caller)).await? }))
}

async fn create_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewEndpoint>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_endpoint(&caller, &new.name, &new.description, &new.tags)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.endpoint(&caller, &name)).await?))
}

async fn update_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<ChangedEndpoint>,
) -> Answer<impl IntoResponse> {
    let ChangedEndpoint { description, tags, defaults } = change;
    let default_deployment = defaults.and_then(|defaults| defaults.deployment_name);
    let words = (description, tags);
    let verb = move |host: &Host| host.update_endpoint(&caller, &name, words, default_deployment.as_deref());
    Ok(Json(at.call(verb).await?))
}

async fn delete_endpoint(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_endpoint(&caller, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadedDeployment {
    upload: String,
    #[serde(default)]
    set_default: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned {
    version: Option<u32>,
}

async fn deployments(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.deployments(&caller, &endpoint)).await? }))
}

async fn create_deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    JsonBody(new): JsonBody<UploadedDeployment>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_deployment(&caller, &endpoint, &new.upload, new.set_default)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((endpoint, name)): Path<(String, String)>,
    query: Result<Query<Versioned>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(Versioned { version }) = query?;
    Ok(Json(at.call(move |host| host.deployment(&caller, &endpoint, &name, version)).await?))
}

async fn delete_deployment(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((endpoint, name)): Path<(String, String)>,
    query: Result<Query<Nothing>, axum::extract::rejection::QueryRejection>,
) -> Answer<StatusCode> {
    // One version alone is not deleted: who asks for that should not lose all.
    query?;
    at.call(move |host| host.delete_deployment(&caller, &endpoint, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn submit(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<JobRequest>,
) -> Answer<impl IntoResponse> {
    let key = headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let (job, is_new) = at.call(move |host| host.submit(&caller, &endpoint, &request, key.as_deref())).await?;
    let location = HeaderValue::from_str(&format!("/v1/jobs/{}", job.name)).map_err(|_| Problem::host())?;
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location)], Json(job)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsPage {
    before: Option<String>,
    endpoint: Option<String>,
    status: Option<JobStatus>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Jobs {
    items: Vec<JobView>,
    /// What the next page comes before; none where this may be the last.
    next: Option<String>,
}

async fn jobs(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<JobsPage>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(JobsPage { before, endpoint, status, limit }) = query?;
    let limit = limit.unwrap_or(PAGE).clamp(1, MOST_PAGE);
    let verb = move |host: &Host| host.jobs(&caller, before.as_deref(), endpoint.as_deref(), status, limit);
    let items = at.call(verb).await?;
    let next = items.last().filter(|_| items.len() >= limit as usize).map(|job| job.name.clone());
    Ok(Json(Jobs { items, next }))
}

async fn job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.job(&caller, &name)).await?))
}

async fn delete_job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.delete_job(&caller, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cancel(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.cancel(&caller, &name)).await?))
}

async fn resume(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.resume(&caller, &name)).await?))
}

/// The job as it is, and again whenever that changes, until it has ended.
async fn events(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let look = move |at: Shared, caller: Caller, name: String| async move {
        at.call(move |host| host.job(&caller, &name)).await
    };
    let place = Arc::clone(&at.followers).try_acquire_owned().map_err(|_| Problem::busy())?;
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

async fn outputs(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.outputs(&caller, &name)).await? }))
}

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    name: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    quotas: Quotas,
}

fn one() -> u32 {
    1
}

async fn tenants(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.tenants(&caller)).await? }))
}

async fn create_tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewTenant>,
) -> Answer<impl IntoResponse> {
    let made = at.call(move |host| host.create_tenant(&caller, &new.name, new.weight, new.quotas)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    Ok(Json(at.call(move |host| host.tenant(&caller, &name)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedTenant {
    weight: Option<u32>,
    #[serde(default)]
    quotas: QuotasChange,
}

async fn update_tenant(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<ChangedTenant>,
) -> Answer<impl IntoResponse> {
    let ChangedTenant { weight, quotas } = change;
    Ok(Json(at.call(move |host| host.update_tenant(&caller, &name, weight, quotas)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageSpan {
    tenant: Option<String>,
    from: Option<String>,
    to: Option<String>,
    /// Whether each job is told by itself.
    #[serde(default)]
    jobs: bool,
}

async fn usage(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<UsageSpan>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(UsageSpan { tenant, from, to, jobs }) = query?;
    let query = UsageQuery { tenant, from, to, by_job: jobs };
    Ok(Json(Items { items: at.call(move |host| host.usage(&caller, &query)).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    tenant: Option<String>,
    scopes: Vec<Scope>,
    lifetime_seconds: Option<u64>,
}

async fn tokens(State(at): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<impl IntoResponse> {
    Ok(Json(Items { items: at.call(move |host| host.tokens(&caller)).await? }))
}

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

async fn revoke_token(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    at.call(move |host| host.revoke_token(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditPage {
    limit: Option<u32>,
}

async fn audit(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<AuditPage>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(AuditPage { limit }) = query?;
    Ok(Json(Items { items: at.call(move |host| host.audit_log(&caller, limit.unwrap_or(100))).await? }))
}
