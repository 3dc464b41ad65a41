//! The routes below `/v1`: each reads its request, calls one verb, and writes what it says.

mod endpoints;
mod jobs;
mod models;
mod tenants;
mod uploads;

use axum::Json;
use axum::extract::Extension;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::problem::Problem;
use crate::service::host::Caller;

pub(super) type Answer<T> = Result<T, Problem>;

/// A list.
#[derive(Serialize, ToSchema)]
struct Items<T> {
    /// All that there are.
    items: Vec<T>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Versioned {
    /// The version's number, or the latest.
    version: Option<u32>,
}

/// Every route below `/v1`; a route and what is written of it are one, so that none is left out.
pub(super) fn v1() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(whoami))
        .merge(uploads::routes())
        .merge(models::routes())
        .merge(endpoints::routes())
        .merge(jobs::routes())
        .merge(tenants::routes())
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
