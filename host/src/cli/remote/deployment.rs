//! `deployment`: what answers an endpoint's jobs, made from a deployment's YAML and the files that it names here.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use scorehost::deployment::{Parts, Spec};
use scorehost::fault;
use scorehost::service::host::{DeploymentView, EndpointView};
use scorehost::service::{self, Asking, ServiceError};
use serde_json::json;

use super::super::registry::AskingArgs;
use super::super::{COMPLETED, FAILED, note};
use super::client::Client;
use super::error::RemoteError;
use super::path::encoded;
use super::upload::{Piece, Upload, pieces};
use super::{HostArgs, Yes, name, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Send a deployment's YAML, script and model, and have the host check them; the name again is a new version
    Create {
        /// The deployment's YAML
        #[arg(short, long, value_name = "DEPLOYMENT.yml")]
        file: PathBuf,
        /// The endpoint [default: the YAML's]
        #[arg(short, long, value_name = "ENDPOINT", value_parser = name)]
        endpoint_name: Option<String>,
        /// Let it answer the endpoint's jobs that name none
        #[arg(long)]
        set_default: bool,
        #[command(flatten)]
        asking: AskingArgs,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List every version of an endpoint's deployments
    List {
        /// The endpoint
        #[arg(short, long, value_name = "ENDPOINT", value_parser = name)]
        endpoint_name: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show a deployment
    Show {
        /// The endpoint
        #[arg(short, long, value_name = "ENDPOINT", value_parser = name)]
        endpoint_name: String,
        /// The deployment
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Which version [default: the latest]
        #[arg(long)]
        version: Option<u32>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Delete every version of a deployment
    Delete {
        /// The endpoint
        #[arg(short, long, value_name = "ENDPOINT", value_parser = name)]
        endpoint_name: String,
        /// The deployment
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        host: HostArgs,
    },
}

pub(super) fn deployment(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create { file, endpoint_name, set_default, asking, host } => {
            let asking = asking.asking();
            let made = create(&host.client()?, file, endpoint_name.as_deref(), *set_default, &asking)?;
            show::one(&made, host.output);
        }
        Verb::List { endpoint_name, host } => {
            let all = host.client()?.list::<DeploymentView>(&deployments(endpoint_name))?;
            show::all(&all, host.output);
        }
        Verb::Show { endpoint_name, name, version, host } => {
            let version = version.map(|version| format!("?version={version}")).unwrap_or_default();
            let path = format!("{}/{}{version}", deployments(endpoint_name), encoded(name));
            show::one(&host.client()?.get::<DeploymentView>(&path)?, host.output);
        }
        Verb::Delete { endpoint_name, name, yes, host } => {
            if !yes.is_given(&format!("delete every version of deployment `{name}`?"))? {
                note!("nothing was deleted");
                return Ok(FAILED);
            }
            host.client()?.delete(&format!("{}/{}", deployments(endpoint_name), encoded(name)))?;
            note!("deleted deployment {name}");
        }
    }
    Ok(COMPLETED)
}

fn deployments(endpoint: &str) -> String {
    format!("/endpoints/{}/deployments", encoded(endpoint))
}

fn create(
    client: &Client,
    file: &Path,
    endpoint: Option<&str>,
    set_default: bool,
    asking: &Asking,
) -> anyhow::Result<DeploymentView> {
    let mut spec = Spec::read(file).map_err(ServiceError::from)?;
    let fetched = service::fetch_script(&mut spec, asking)?;
    let parts = spec.parts().map_err(ServiceError::from)?;
    let Some(endpoint) = endpoint.or(parts.endpoint_name.as_deref()) else {
        let text = format!("`{}` names no endpoint", file.display());
        return Err(RemoteError::Use { text, hint: "--endpoint-name names it, or `endpoint_name:` in the file" }.into());
    };
    let mut all = sent(file, &parts)?;
    let voucher = tempfile::tempdir().context("no folder can be made for the script's signature")?;
    if let Some(offer) = fetched {
        let folder = voucher.path().join("voucher");
        match offer.vouch(&folder) {
            Ok(true) => all.extend(pieces(&folder, "voucher/")?),
            Ok(false) => {}
            // A host that asks for one says so.
            Err(error) => note!("warning: its signatures are not sent: {}", fault::chain(&error)),
        }
        note!("the script is {}", offer.reference);
    }
    // Looked at before anything is sent; who may not hears of a wrong name later.
    match client.get::<EndpointView>(&format!("/endpoints/{}", encoded(endpoint))) {
        Err(RemoteError::Answer { status: 403, .. }) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let upload = Upload::begin(client, None)?;
    upload.tell_when_interrupted(None);
    let made = upload.send(&all).and_then(|()| {
        note!("the host compiles and checks it");
        client.post(&deployments(endpoint), &json!({"upload": upload.id(), "set_default": set_default}))
    });
    if made.as_ref().err().is_none_or(RemoteError::is_refusal) {
        upload.drop_own();
    }
    Ok(made?)
}

/// The YAML as it was written, the script below `code`, and the model below `model`.
fn sent(file: &Path, parts: &Parts) -> anyhow::Result<Vec<Piece>> {
    let mut all = vec![Piece::new(file.to_owned(), "deployment.yml".to_owned())?];
    if let Some((script, name)) = &parts.script {
        all.push(Piece::new(script.clone(), format!("code/{name}"))?);
    }
    if let Some(model) = &parts.model {
        all.extend(pieces(model, "model/")?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deployment_names_is_sent_to_where_the_host_looks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("scripts/by-file")).unwrap();
        std::fs::create_dir_all(at("model/extra")).unwrap();
        for name in ["scripts/by-file/s.wasm", "scripts/other.wasm", "model/m.onnx", "model/extra/labels.txt"] {
            std::fs::write(at(name), "x").unwrap();
        }
        let text = "name: d\ntype: model\ncode_configuration: {code: scripts, scoring_script: ./by-file/s.wasm}\n";
        let paths = |model: &str| {
            std::fs::write(at("d.yml"), format!("{text}model: {model}\n")).unwrap();
            let parts = Spec::read(&at("d.yml")).unwrap().parts().unwrap();
            let pieces = sent(&at("d.yml"), &parts).unwrap();
            pieces.into_iter().map(|piece| piece.path).collect::<Vec<_>>()
        };
        let always = ["deployment.yml", "code/by-file/s.wasm"];
        assert_eq!(paths("model"), [&always[..], &["model/extra/labels.txt", "model/m.onnx"]].concat());
        assert_eq!(paths("model/m.onnx"), [&always[..], &["model/m.onnx"]].concat());
        // The host has these.
        assert_eq!(paths("azureml:m@latest"), always);
        assert_eq!(paths("m:3"), always);
    }
}
