//! `push` and `pull`: scripts in registries and layout folders.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use scorehost::registry::Reference;
use scorehost::service::{self, Asking, PullRequest, ServiceError};

use super::{COMPLETED, compiler, note, say};

/// Of reproducible builds: what time is written where one has to be.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

#[derive(Args)]
pub(crate) struct PushArgs {
    /// A script (.wasm)
    script: PathBuf,
    /// Where it goes: REGISTRY/REPOSITORY:TAG, or oci:FOLDER:TAG
    reference: String,
    /// Ask a registry on this machine by http
    #[arg(long)]
    plain_http: bool,
}

#[derive(Args)]
pub(crate) struct PullArgs {
    /// Which script: REGISTRY/REPOSITORY:TAG, or oci:FOLDER:TAG; with @sha256:DIGEST this one and no other
    reference: String,
    /// The file that it becomes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    asking: AskingArgs,
}

/// How scripts are fetched, wherever that is done.
#[derive(Args)]
pub(crate) struct AskingArgs {
    /// Refuse a script that is fetched without a signature by this key: PEM, ECDSA P-256, as `cosign sign --key` signs
    #[arg(long, value_name = "PUBLIC-KEY", env = "SCOREHOST_REQUIRE_SIGNATURE")]
    require_signature: Option<PathBuf>,
    /// Ask a registry on this machine by http
    #[arg(long)]
    plain_http: bool,
}

impl AskingArgs {
    pub(crate) fn asking(&self) -> Asking {
        Asking { key: self.require_signature.clone(), is_plain: self.plain_http }
    }
}

pub(crate) fn push(args: &PushArgs) -> anyhow::Result<u8> {
    let reference = reference(&args.reference)?;
    let created = match std::env::var_os(EPOCH).filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => {
            let seconds = text.to_str().and_then(|text| text.parse().ok());
            seconds.with_context(|| format!("`{EPOCH}` is {text:?}, not a number of seconds"))?
        }
    };
    let pinned = service::push_script(&args.script, &reference, created, args.plain_http, &compiler()?)?;
    say!("{pinned}");
    Ok(COMPLETED)
}

pub(crate) fn pull(args: &PullArgs) -> anyhow::Result<u8> {
    let request = PullRequest {
        reference: reference(&args.reference)?,
        file: args.output.clone(),
        overwrite: args.overwrite,
        asking: args.asking.asking(),
    };
    let pulled = service::pull_script(&request, &compiler()?)?;
    note!("pulled {} ({} bytes, {})", args.output.display(), pulled.bytes, pulled.script);
    say!("{}", pulled.reference);
    Ok(COMPLETED)
}

fn reference(text: &str) -> Result<Reference, ServiceError> {
    Ok(text.parse::<Reference>()?)
}
