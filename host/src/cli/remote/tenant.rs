//! `tenant` and `token`: who shares a host, and who may do what on it.

use std::time::Duration;

use clap::Subcommand;
use scorehost::service::host::{NewTokenView, Scope, TenantView, TokenView};
use serde_json::json;

use super::super::{COMPLETED, note};
use super::path::encoded;
use super::show::Format;
use super::{HostArgs, name, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a tenant
    Create {
        /// Its name
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Its share of the host, beside the others' [default: 1]
        #[arg(short, long)]
        weight: Option<u32>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        host: HostArgs,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token. It is shown this once; -o name prints it alone
    Create {
        /// What you call it
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Whose it is [default: yours]
        #[arg(short, long, value_parser = name)]
        tenant: Option<String>,
        /// What it may do: read, invoke, write or admin; several are possible
        #[arg(short, long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
        scopes: Vec<Scope>,
        /// How long it is taken: 12h, 30d [default: until it is revoked]
        #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List the tokens, without what makes them ones
    List {
        #[command(flatten)]
        host: HostArgs,
    },
    /// End a token
    Revoke {
        /// Its id, as `token list` shows it
        #[arg(long, value_parser = name)]
        id: String,
        #[command(flatten)]
        host: HostArgs,
    },
}

pub(super) fn tenant(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create { name, weight, host } => {
            let mut wish = json!({"name": name});
            if let Some(weight) = weight {
                wish["weight"] = json!(weight);
            }
            show::one(&host.client()?.post::<TenantView>("/tenants", &wish)?, host.output);
        }
        Verb::List { host } => show::all(&host.client()?.list::<TenantView>("/tenants")?, host.output),
    }
    Ok(COMPLETED)
}

pub(super) fn token(verb: &TokenVerb) -> anyhow::Result<u8> {
    match verb {
        TokenVerb::Create { name, tenant, scopes, expires, host } => {
            let scopes: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
            let mut wish = json!({"name": name, "scopes": scopes});
            if let Some(tenant) = tenant {
                wish["tenant"] = json!(tenant);
            }
            if let Some(expires) = expires {
                wish["lifetime_seconds"] = json!(expires.as_secs());
            }
            show::one(&host.client()?.post::<NewTokenView>("/tokens", &wish)?, host.output);
            if host.output == Format::Table {
                note!("keep the token: it is not shown again");
            }
        }
        TokenVerb::List { host } => show::all(&host.client()?.list::<TokenView>("/tokens")?, host.output),
        TokenVerb::Revoke { id, host } => {
            host.client()?.delete(&format!("/tokens/{}", encoded(id)))?;
            note!("revoked token {id}");
        }
    }
    Ok(COMPLETED)
}
