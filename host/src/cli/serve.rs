//! `serve`: a host that stays, with its REST interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use scorehost::api::Server;
use scorehost::child;
use scorehost::service::host::{Host, HostOptions};
use scorehost::tls::Identity;

use super::{COMPLETED, WrongUse, note, say};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The host's folder: its database, models, deployments, uploads and outputs
    #[arg(long, value_name = "FOLDER", default_value = "scorehost-data", env = "SCOREHOST_DATA")]
    data: PathBuf,
    /// Where to listen; elsewhere than on loopback with TLS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8484")]
    listen: SocketAddr,
    /// Speak TLS with this certificate and those that it leads to the authority by, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen elsewhere than on loopback without TLS: whoever is on the way reads tokens and files
    #[arg(long, conflicts_with = "tls_cert")]
    without_tls: bool,
    /// A folder whose files callers may score by their path on this machine; may be given several times
    #[arg(long = "allow-input", value_name = "FOLDER")]
    allowed_inputs: Vec<PathBuf>,
    /// Jobs that run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<u8> {
    let allowed = |path: &PathBuf| path.canonicalize().with_context(|| format!("--allow-input `{}`", path.display()));
    let options = HostOptions {
        data: args.data.clone(),
        program: child::this_program()?,
        allowed_inputs: args.allowed_inputs.iter().map(allowed).collect::<Result<_, _>>()?,
        most_jobs: args.jobs.into(),
    };
    let identity = args.tls_cert.as_deref().zip(args.tls_key.as_deref());
    let identity = identity.map(|(certificate, key)| Identity::read(certificate, key)).transpose()?;
    let scheme = if identity.is_some() { "https" } else { "http" };
    if identity.is_none() && !args.without_tls && !args.listen.ip().is_loopback() {
        return Err(WrongUse {
            text: format!("others than this machine's would send tokens to `{}` unencrypted", args.listen),
            hint: "--tls-cert and --tls-key encrypt; behind a proxy that does, or in a network that is trusted: --without-tls",
        }
        .into());
    }
    // Before the host: a port that is taken should not have started jobs.
    let server = Server::bind(args.listen, identity)?;
    let (host, token) = Host::open(options).with_context(|| format!("cannot serve `{}`", args.data.display()))?;
    let host = Arc::new(host);
    if let Some(token) = token {
        note!("first start: this token may do everything, and is not shown again");
        say!("{token}");
    }
    note!(
        "serving `{}` at {scheme}://{}; Ctrl-C ends it, and jobs go on at the next start",
        args.data.display(),
        server.address()
    );
    server.serve(&host);
    note!("stopping the jobs that run");
    host.close();
    Ok(COMPLETED)
}
