//! `serve`: a host that stays, with its REST interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use scorehost::api::Server;
use scorehost::child;
use scorehost::service::host::{Host, HostOptions, PlaceRoot};
use scorehost::store::StoreUrl;

use super::{COMPLETED, note, say};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The host's folder: its database, models, deployments, uploads and outputs
    #[arg(long, value_name = "FOLDER", default_value = "scorehost-data", env = "SCOREHOST_DATA")]
    data: PathBuf,
    /// Where to listen; loopback unless somebody says otherwise, since there is no TLS yet
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8484")]
    listen: SocketAddr,
    /// A folder whose files callers may score by their path on this machine, or a place in an object store, such as
    /// s3://BUCKET/{tenant}; may be given several times
    #[arg(long = "allow-input", value_name = "FOLDER|PLACE")]
    allowed_inputs: Vec<PathBuf>,
    /// A place in an object store that callers may have outputs published to; may be given several times
    #[arg(long = "allow-output", value_name = "PLACE")]
    allowed_outputs: Vec<PlaceRoot>,
    /// Jobs that run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// How long jobs that have ended are kept, with their outputs: 90d [default: until they are deleted]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    keep_jobs: Option<Duration>,
    /// How long uploads are kept with which nothing is done, and that no job scores
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "7d")]
    keep_uploads: Duration,
}

pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<u8> {
    let place = |text: &PathBuf| text.to_str().filter(|text| StoreUrl::is_meant(text)).map(str::parse);
    let (places, folders): (Vec<_>, Vec<_>) = args.allowed_inputs.iter().partition(|text| place(text).is_some());
    let allowed = |path: &PathBuf| path.canonicalize().with_context(|| format!("--allow-input `{}`", path.display()));
    let options = HostOptions {
        data: args.data.clone(),
        program: child::this_program()?,
        allowed_inputs: folders.into_iter().map(allowed).collect::<Result<_, _>>()?,
        allowed_places: places.into_iter().filter_map(place).collect::<Result<_, _>>()?,
        allowed_outputs: args.allowed_outputs.clone(),
        most_jobs: args.jobs.into(),
        keep_jobs: args.keep_jobs,
        keep_uploads: args.keep_uploads,
    };
    // Before the host: a port that is taken should not have started jobs.
    let server = Server::bind(args.listen)?;
    let (host, token) = Host::open(options).with_context(|| format!("cannot serve `{}`", args.data.display()))?;
    let host = Arc::new(host);
    if let Some(token) = token {
        note!("first start: this token may do everything, and is not shown again");
        say!("{token}");
    }
    note!(
        "serving `{}` at http://{}; Ctrl-C ends it, and jobs go on at the next start",
        args.data.display(),
        server.address()
    );
    server.serve(&host);
    note!("stopping the jobs that run");
    host.close();
    Ok(COMPLETED)
}
