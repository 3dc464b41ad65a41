//! `serve`: a host that stays, with its REST interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, ValueEnum};
use scorehost::api::{Listening, Server};
use scorehost::child;
use scorehost::observe::{self, Level, LogFormat, Tracer};
use scorehost::registry::PublicKey;
use scorehost::service::ServiceError;
use scorehost::service::host::{Host, HostOptions, PlaceRoot};
use scorehost::store::StoreUrl;
use scorehost::tls::{self, Identity, Unmet};

use super::{COMPLETED, WrongUse, note, say};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The host's folder: its database, models, deployments, uploads and outputs
    #[arg(long, value_name = "FOLDER", default_value = "scorehost-data", env = "SCOREHOST_DATA")]
    data: PathBuf,
    /// Where to listen; elsewhere than on loopback with TLS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8484", value_parser = address)]
    listen: SocketAddr,
    /// Speak TLS with this certificate and those that it leads to the authority by, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen elsewhere than on loopback without TLS: whoever is on the way reads what goes over it
    #[arg(long)]
    without_tls: bool,
    /// Where Prometheus finds numbers of all tenants, without a token: /metrics; off without
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// A collector that traces go to, as OTLP over HTTP, such as http://127.0.0.1:4318; off without
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// How the log on stderr is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", env = "SCOREHOST_LOG_FORMAT")]
    log_format: LogFormatName,
    /// What is logged: this and what is worse. `info` has jobs, `debug` requests too
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info", env = "SCOREHOST_LOG_LEVEL")]
    log_level: LogLevelName,
    /// A folder whose files callers may score by their path on this machine, or a place in an object store, such as
    /// s3://BUCKET/{tenant}; may be given several times
    #[arg(long = "allow-input", value_name = "FOLDER|PLACE")]
    allowed_inputs: Vec<PathBuf>,
    /// A place in an object store that callers may have outputs published to; may be given several times
    #[arg(long = "allow-output", value_name = "PLACE")]
    allowed_outputs: Vec<PlaceRoot>,
    /// Take no deployment whose script is not signed by this key: PEM, ECDSA P-256, as `cosign sign --key` signs
    #[arg(long, value_name = "PUBLIC-KEY", env = "SCOREHOST_REQUIRE_SIGNATURE")]
    require_signature: Option<PathBuf>,
    /// Jobs that run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// How long jobs that have ended are kept, with their outputs: 90d [default: until they are deleted]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_jobs: Option<Duration>,
    /// How long uploads are kept with which nothing is done, and that no job scores
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d")]
    keep_uploads: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormatName {
    /// Lines for people
    Text,
    /// An object of JSON a line
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevelName {
    Error,
    Warn,
    Info,
    Debug,
}

/// Where to listen.
fn address(text: &str) -> Result<SocketAddr, String> {
    let cure = "an address and a port, such as 127.0.0.1:8484, [::1]:8484, or 0.0.0.0:8484 for all of this machine's";
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some((name, port)) if !name.contains([':', '[']) && port.parse::<u16>().is_ok() => {
            format!("`{name}` is no address; write {cure}")
        }
        _ => format!("write {cure}"),
    })
}

/// How long something is kept.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time such as 90d, 12h or 30m".to_owned())
}

pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<u8> {
    let place = |text: &PathBuf| text.to_str().filter(|text| StoreUrl::is_meant(text)).map(str::parse);
    let (places, folders): (Vec<_>, Vec<_>) = args.allowed_inputs.iter().partition(|text| place(text).is_some());
    let format = match args.log_format {
        LogFormatName::Text => LogFormat::Text,
        LogFormatName::Json => LogFormat::Json,
    };
    let level = match args.log_level {
        LogLevelName::Error => Level::Error,
        LogLevelName::Warn => Level::Warn,
        LogLevelName::Info => Level::Info,
        LogLevelName::Debug => Level::Debug,
    };
    observe::start_log(format, level);
    let allowed = |path: &PathBuf| path.canonicalize().with_context(|| format!("--allow-input `{}`", path.display()));
    let tracer = args.otlp.as_deref().filter(|url| !url.is_empty());
    let tracer = tracer.map(|url| {
        tls::install();
        Tracer::start(url).map(Arc::new)
    });
    let tracer = tracer.transpose()?;
    let options = HostOptions {
        data: args.data.clone(),
        program: child::this_program()?,
        allowed_inputs: folders.into_iter().map(allowed).collect::<Result<_, _>>()?,
        allowed_places: places.into_iter().filter_map(place).collect::<Result<_, _>>()?,
        allowed_outputs: args.allowed_outputs.clone(),
        signed_by: args.require_signature.as_deref().map(PublicKey::read).transpose().map_err(ServiceError::from)?,
        most_jobs: args.jobs.into(),
        keep_jobs: args.keep_jobs,
        keep_uploads: args.keep_uploads,
        metrics: Arc::default(),
        tracer: tracer.clone(),
    };
    let identity = args.tls_cert.as_deref().zip(args.tls_key.as_deref());
    let identity = identity.map(|(certificate, key)| Identity::read(certificate, key)).transpose()?;
    let scheme = if identity.is_some() { "https" } else { "http" };
    let trouble = identity.as_ref().and_then(Identity::trouble);
    let callers =
        "--tls-cert and --tls-key encrypt; behind a proxy that does, or in a network that is trusted: --without-tls";
    let numbers =
        "numbers never go over TLS: --metrics 127.0.0.1:PORT, or in a network that is trusted --without-tls too";
    let open = [(Some(args.listen).filter(|_| identity.is_none()), callers), (args.metrics, numbers)];
    let open = open.into_iter().filter_map(|(address, hint)| Some((address?, hint)));
    let open = open.filter(|_| !args.without_tls).find(|(address, _)| !address.ip().is_loopback());
    if let Some((address, hint)) = open {
        let text = format!("others than this machine's would reach `{address}` unencrypted");
        return Err(WrongUse { text, hint }.into());
    }
    // Before the host: a port that is taken should not have started jobs.
    let server = Server::bind(Listening { address: args.listen, identity, metrics: args.metrics })?;
    let (host, token) = Host::open(options).with_context(|| format!("cannot serve `{}`", args.data.display()))?;
    let host = Arc::new(host);
    if let Some(token) = token {
        tell(args, "first start: this token may do everything, and is not shown again");
        say!("{token}");
    }
    if let Some(trouble) = trouble {
        let is = match trouble {
            Unmet::Authority => {
                "is an authority's own: serve one that it has signed, and that is none (basicConstraints CA:FALSE)"
            }
            Unmet::Early => "is not valid yet: is the clock here right?",
            _ => "has expired: renew it, which takes no restart",
        };
        tell(args, &format!("callers will not trust the certificate, which {is}"));
    }
    tell(
        args,
        &format!(
            "serving `{}` at {scheme}://{}; Ctrl-C ends it, and jobs go on at the next start",
            args.data.display(),
            server.address()
        ),
    );
    if let Some(address) = server.metrics_address() {
        tell(args, &format!("numbers for Prometheus at http://{address}/metrics"));
    }
    server.serve(&host);
    tell(args, "stopping the jobs that run");
    host.close();
    if let Some(tracer) = tracer {
        tracer.stop();
    }
    Ok(COMPLETED)
}

/// What the operator is told whatever the level; written as the log is.
fn tell(args: &ServeArgs, text: &str) {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    match args.log_format {
        LogFormatName::Text => note!("{timestamp}  INFO {text}"),
        LogFormatName::Json => {
            note!("{}", serde_json::json!({ "timestamp": timestamp, "level": "INFO", "message": text }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_times_that_are_none_are_refused_with_what_they_may_be() {
        assert!(address("[::1]:0").is_ok() && duration("1h 30m").is_ok());
        let refused = |text: &str| address(text).unwrap_err();
        assert!(refused("localhost:8484").starts_with("`localhost` is no address; write "));
        for text in ["0.0.0.0", "::1:8484", ":8484", "1.2.3.4:99999", ""] {
            assert!(refused(text).contains("127.0.0.1:8484"), "{text}");
        }
        assert!(duration("soon").unwrap_err().contains("90d"));
    }
}
