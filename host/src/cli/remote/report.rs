//! `usage` and `audit`: what was used on a host, and who changed what.

use scorehost::service::host::{Action, UsageView};

use super::super::COMPLETED;
use super::path::encoded;
use super::{HostArgs, name, show};

#[derive(clap::Args)]
pub(crate) struct UsageArgs {
    /// Only this tenant's [default: yours; for administrators, every tenant's]
    #[arg(short, long, value_parser = name)]
    tenant: Option<String>,
    /// From this day on, UTC: 2026-11-01
    #[arg(long, value_name = "DAY", value_parser = name)]
    from: Option<String>,
    /// Up to and with this day
    #[arg(long, value_name = "DAY", value_parser = name)]
    to: Option<String>,
    /// A line for each job, the newest first
    #[arg(long)]
    jobs: bool,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(clap::Args)]
pub(crate) struct AuditArgs {
    /// How many lines at most, up to 1,000
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    limit: u32,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) fn usage(args: &UsageArgs) -> anyhow::Result<u8> {
    let given = [("tenant", &args.tenant), ("from", &args.from), ("to", &args.to)];
    let given = given.iter().filter_map(|(key, value)| Some(format!("&{key}={}", encoded(value.as_ref()?))));
    let path = format!("/usage?jobs={}{}", args.jobs, given.collect::<String>());
    show::all(&args.host.client()?.list::<UsageView>(&path)?, args.host.output);
    Ok(COMPLETED)
}

pub(super) fn audit(args: &AuditArgs) -> anyhow::Result<u8> {
    let path = format!("/audit?limit={}", args.limit);
    show::all(&args.host.client()?.list::<Action>(&path)?, args.host.output);
    Ok(COMPLETED)
}
