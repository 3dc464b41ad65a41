//! Jobs as clients of Azure's batch endpoints post and poll them: other words for the verbs that `/v1` has.
//!
//! What goes in: the body, the headers and the spellings that Azure's documents and its clients use. What comes out: its
//! job resource. What Scorehost does not do is refused by its name; nothing that would change a result is passed over.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

mod body;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::problem::Problem;
use super::request::{Asked, JsonBody, Path, one_header};
use super::routes::Answer;
use crate::service::host::{Caller, JobView, MOST_PAGE};
use crate::state::JobStatus;
use body::{AzureJobRequest, azures_words, spelt, wish};

/// Names a deployment, as Azure's clients do.
const DEPLOYMENT: &str = "azureml-model-deployment";
/// An idempotency key, as Azure's clients send it.
const REPEATABLE: &str = "repeatability_request-id";
/// Jobs of a page, where nobody says.
const PAGE: u32 = 50;

/// A job, in Azure's words.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AzureJob {
    /// Its path on this host: where it is polled.
    id: String,
    /// Its name.
    name: String,
    /// What it is.
    #[serde(rename = "type")]
    #[schema(example = "Scorehost/batchEndpoints/jobs")]
    kind: &'static str,
    /// What there is to tell.
    properties: AzureJobState,
}

/// What there is to tell of a job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AzureJobState {
    /// Where it is.
    status: AzureStatus,
    /// The endpoint.
    endpoint: String,
    /// The deployment that answers it, with its version.
    deployment: String,
    /// Why it failed.
    error: Option<String>,
    /// The path on this host with the files of the output, once it ended.
    output: String,
    /// When it was accepted.
    created: String,
    /// When its first process was begun.
    started: Option<String>,
    /// When it ended.
    ended: Option<String>,
}

/// Where a job is: those of Azure's words that happen here.
#[derive(Serialize, ToSchema)]
enum AzureStatus {
    /// It waits for its turn.
    Queued,
    /// A process scores it.
    Running,
    /// It was asked to stop, and has not yet.
    CancelRequested,
    /// Its output is complete.
    Completed,
    /// It ended without one.
    Failed,
    /// It was asked to stop, and did.
    Canceled,
}

/// A page of jobs, in Azure's words.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AzureJobs {
    /// The newest first.
    value: Vec<AzureJob>,
    /// The path on this host of the next page; none where this may be the last.
    next_link: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AzurePage {
    /// Only jobs older than this one.
    before: Option<String>,
}

impl From<JobView> for AzureJob {
    fn from(job: JobView) -> Self {
        let status = match job.status {
            _ if job.canceling => AzureStatus::CancelRequested,
            JobStatus::Queued => AzureStatus::Queued,
            JobStatus::Running => AzureStatus::Running,
            JobStatus::Completed => AzureStatus::Completed,
            JobStatus::Failed => AzureStatus::Failed,
            JobStatus::Canceled => AzureStatus::Canceled,
        };
        let properties = AzureJobState {
            status,
            deployment: format!("{}:{}", job.deployment, job.version),
            error: job.error,
            output: format!("/v1/jobs/{}/outputs", job.name),
            created: job.created,
            started: job.started,
            ended: job.ended,
            endpoint: job.endpoint,
        };
        let id = format!("/endpoints/{}/jobs/{}", properties.endpoint, job.name);
        Self { id, name: job.name, kind: "Scorehost/batchEndpoints/jobs", properties }
    }
}

pub(super) fn azure() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(azure_submit, azure_jobs)).routes(routes!(azure_job))
}

/// Tells what went wrong also as Azure's clients read it.
pub(super) async fn told(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem.for_azure().into_response(),
        None => response,
    }
}

/// Posts a job to an endpoint's scoring address, in Azure's words.
#[utoipa::path(post, path = "/endpoints/{endpoint}/jobs", tag = "azure",
    params(
        ("azureml-model-deployment" = Option<String>, Header, description = "The deployment, at a version or the latest; without it, the endpoint's default."),
        ("repeatability_request-id" = Option<String>, Header, description = "Under which the same request gives the same job, however often it is sent.", min_length = 1, max_length = 128),
    ),
    request_body = AzureJobRequest,
    responses(
        (status = 201, description = "The job, accepted now.", body = AzureJob, headers(("location" = String, description = "Where the job is polled."))),
        (status = 200, description = "The job that was accepted before, under the same key.", body = AzureJob, headers(("location" = String, description = "Where the job is polled."))),
    ))]
async fn azure_submit(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Answer<impl IntoResponse> {
    let request: AzureJobRequest = serde_json::from_value(spelt(body)?).map_err(|e| Problem::wrong(&e))?;
    let request = wish(request.properties, one_header(&headers, DEPLOYMENT)?)?;
    let key = one_header(&headers, REPEATABLE)?;
    let posted = at.post(move |host| host.submit(&caller, &endpoint, &request, key.as_deref())).await;
    let (job, is_new) = posted.map_err(|problem| problem.in_words(azures_words))?;
    let job = AzureJob::from(job);
    let location = HeaderValue::from_str(&job.id).map_err(|_| Problem::host())?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location)], Json(job)))
}

/// A job of an endpoint, in Azure's words: this is polled.
#[utoipa::path(get, path = "/endpoints/{endpoint}/jobs/{name}", tag = "azure",
    responses((status = 200, description = "The job.", body = AzureJob)))]
async fn azure_job(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((endpoint, name)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    let asked = name.clone();
    let job = at.call(move |host| host.job(&caller, &name)).await?;
    if job.endpoint == endpoint { Ok(Json(AzureJob::from(job))) } else { Err(Problem::unknown("job", &asked)) }
}

/// Jobs of an endpoint, the newest first, in Azure's words.
#[utoipa::path(get, path = "/endpoints/{endpoint}/jobs", tag = "azure", params(AzurePage),
    responses((status = 200, description = "A page of them.", body = AzureJobs)))]
async fn azure_jobs(
    State(at): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    Asked(AzurePage { before }): Asked<AzurePage>,
) -> Answer<impl IntoResponse> {
    let most = PAGE.min(MOST_PAGE);
    let jobs = at
        .call(move |host| {
            let name = host.endpoint(&caller, &endpoint)?.name;
            host.jobs(&caller, before.as_deref(), Some(&name), None, most)
        })
        .await?;
    let last = jobs.last().filter(|_| jobs.len() >= most as usize);
    let next_link = last.map(|job| format!("/endpoints/{}/jobs?before={}", job.endpoint, job.name));
    Ok(Json(AzureJobs { value: jobs.into_iter().map(Into::into).collect(), next_link }))
}
