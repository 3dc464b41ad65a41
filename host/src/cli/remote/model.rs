//! `model`: models that a host keeps, by name and version.

use std::path::PathBuf;

use clap::Subcommand;
use scorehost::service::host::ModelView;
use serde_json::json;

use super::super::{COMPLETED, FAILED, note};
use super::error::RemoteError;
use super::path::encoded;
use super::upload::{Upload, pieces};
use super::{HostArgs, Yes, name, show};

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
    /// Show a version of a model
    Show {
        /// The model
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Which version [default: the latest]
        #[arg(short, long)]
        version: Option<u32>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Delete a version of a model that nothing has
    Delete {
        /// The model
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Which version
        #[arg(short, long)]
        version: u32,
        #[command(flatten)]
        yes: Yes,
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
            upload.tell_when_interrupted(None);
            let made = upload.send(&pieces);
            let made = made.and_then(|()| client.post("/models", &json!({"name": name, "upload": upload.id()})));
            if made.as_ref().err().is_none_or(RemoteError::is_refusal) {
                upload.drop_own();
            }
            show::one::<ModelView>(&made?, host.output);
        }
        Verb::Show { name, version, host } => {
            let version = version.map(|version| format!("?version={version}")).unwrap_or_default();
            let path = format!("/models/{}{version}", encoded(name));
            show::one(&host.client()?.get::<ModelView>(&path)?, host.output);
        }
        Verb::Delete { name, version, yes, host } => {
            if !yes.is_given(&format!("delete model `{name}:{version}`?"))? {
                note!("nothing was deleted");
                return Ok(FAILED);
            }
            host.client()?.delete(&format!("/models/{}?version={version}", encoded(name)))?;
            note!("deleted model {name}:{version}");
        }
        Verb::List { host } => show::all(&host.client()?.list::<ModelView>("/models")?, host.output),
    }
    Ok(COMPLETED)
}
