//! Endpoints, and the versions of their deployments.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::request::{Asked, JsonBody, Members, Path};
use super::{Answer, Items, Versioned};
use crate::service::host::{Caller, DeploymentView, EndpointView, Host};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(endpoints, create_endpoint))
        .routes(routes!(endpoint, update_endpoint, delete_endpoint))
        .routes(routes!(deployments, create_deployment))
        .routes(routes!(deployment, delete_deployment))
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
