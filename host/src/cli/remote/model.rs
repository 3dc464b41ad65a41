//! `model`: models that a host keeps, by name and version.

use std::path::PathBuf;

use clap::Subcommand;
use scorehost::service::host::ModelView;
use serde_json::json;

use super::super::COMPLETED;
use super::upload::{Upload, pieces};
use super::{HostArgs, name, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Send a model; the same files again are the same version
    Create {
        /// Its name
        #[arg(short, long, value_parser = name)]
        name: String,
        /// The file, or the folder of its files
        #[arg(short, long)]
        path: PathBuf,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List every version of every model
    List {
        #[command(flatten)]
        host: HostArgs,
    },
}

pub(super) fn model(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create { name, path, host } => {
            let client = host.client()?;
            let pieces = pieces(path, "")?;
            let upload = Upload::begin(&client, None)?;
            upload.send(&pieces)?;
            let made: ModelView = client.post("/models", &json!({"name": name, "upload": upload.id()}))?;
            show::one(&made, host.output);
        }
        Verb::List { host } => show::all(&host.client()?.list::<ModelView>("/models")?, host.output),
    }
    Ok(COMPLETED)
}
