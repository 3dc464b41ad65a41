//! Models and their versions.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::request::{Asked, JsonBody, Path};
use super::{Answer, Items, Versioned};
use crate::service::host::{Caller, ModelView};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(models, create_model)).routes(routes!(model, delete_model))
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
