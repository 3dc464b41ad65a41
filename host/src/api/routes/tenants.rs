//! Tenants and what they used, tokens, and who changed what.

#![expect(unused_qualifications, reason = "the macro that describes a route writes some")]

use std::time::Duration;

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
use super::{Answer, Items};
use crate::service::host::{
    Caller, NewTokenView, Quotas, QuotasChange, Scope, TenantDetailView, TenantView, TokenView, UsageQuery, UsageView,
};
use crate::state::Action;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(tenants, create_tenant))
        .routes(routes!(tenant, update_tenant))
        .routes(routes!(usage))
        .routes(routes!(tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(audit))
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
    #[schema(minimum = 1, maximum = 316_224_000)]
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
    #[param(minimum = 1, maximum = 1000)]
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
