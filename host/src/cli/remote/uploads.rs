//! `upload`: what was sent to a host, and is kept there.

use clap::Subcommand;
use scorehost::service::host::{UploadLineView, UploadView};

use super::super::{COMPLETED, FAILED, note};
use super::client::pages;
use super::path::encoded;
use super::{HostArgs, Yes, name, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List uploads, the newest first
    List {
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value = "50")]
        limit: usize,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show an upload; -o json has its files
    Show {
        /// The upload
        #[arg(value_name = "UPLOAD", value_parser = name)]
        id: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Delete an upload; jobs that score it have to end first
    Delete {
        /// The upload
        #[arg(value_name = "UPLOAD", value_parser = name)]
        id: String,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        host: HostArgs,
    },
}

pub(super) fn uploads(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { limit, host } => {
            let client = host.client()?;
            show::all(&pages::<UploadLineView>(&client, "/uploads", *limit)?, host.output);
        }
        Verb::Show { id, host } => show::one(&host.client()?.get_files::<UploadView>(&address(id))?, host.output),
        Verb::Delete { id, yes, host } => {
            if !yes.is_given(&format!("delete upload `{id}`?"))? {
                note!("nothing was deleted");
                return Ok(FAILED);
            }
            host.client()?.delete(&address(id))?;
            note!("deleted upload {id}");
        }
    }
    Ok(COMPLETED)
}

fn address(id: &str) -> String {
    format!("/uploads/{}", encoded(id))
}
