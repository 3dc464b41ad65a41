//! Models, endpoints and their deployments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::process::{self, Checked};
use super::{Caller, DeploymentView, EndpointView, Host, HostError, ModelView, Scope, disk, names};
use crate::deployment::{Spec, SpecError};
use crate::fault;
use crate::registry::PublicKey;
use crate::service::check_signature;
use crate::service::digest::ModelDigest;
use crate::state::{Deployment, Endpoint, EndpointChange, NewDeployment, StateError};

/// The parts of a deployment's upload.
const SPEC: &str = "deployment.yml";
const CODE: &str = "code";
const MODEL: &str = "model";
/// What vouches for the script, as [`crate::registry::Offer::vouch`] writes it: for hosts that ask for that.
const VOUCHER: &str = "voucher";

/// Tags of an endpoint, and bytes of each and of its description.
const MOST_TAGS: usize = 64;
const MOST_TEXT: usize = 4096;

/// What a deployment is run with, beside its YAML: where its parts lie.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) file: PathBuf,
    set: Vec<(String, String)>,
    /// Where its parts have to lie.
    pub(super) within: Vec<PathBuf>,
}

impl Placed {
    /// As `run` and `check` take it, beside the file.
    pub(super) fn arguments(&self) -> impl Iterator<Item = OsString> {
        let set = self.set.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}").into()]);
        let within = self.within.iter().flat_map(|folder| ["--within".into(), folder.clone().into_os_string()]);
        set.chain(within)
    }
}

impl Host {
    /// Makes a version of a model from an upload; the same files again give the version that has them.
    ///
    /// # Errors
    /// If the caller may not, there is no such upload, or it is empty.
    pub fn create_model(&self, caller: &Caller, name: &str, upload: &str) -> Result<ModelView, HostError> {
        caller.may(Scope::Write)?;
        let name = names::name("model", name)?;
        let files = self.finished_upload(caller, upload)?;
        let (made, digest) = self.gather(caller, &files)?;
        let _naming = self.remover.naming();
        self.folders.place(made, &self.folders.model(caller.tenant.id, &digest))?;
        Ok(self.state.create_model(caller.tenant.id, name, &digest, &caller.token)?.into())
    }

    /// A folder's files in a folder to come, and their digest.
    fn gather(&self, caller: &Caller, files: &Path) -> Result<(TempDir, String), HostError> {
        let making = self.folders.making(caller.tenant.id)?;
        copy(files, making.path())?;
        let digest = ModelDigest::of(making.path()).map_err(|e| HostError::Refused(fault::chain(&e)))?;
        if digest.files.is_empty() {
            return Err(HostError::Refused("the upload holds no file".into()));
        }
        Ok((making, digest.whole))
    }

    /// Every version of every model.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn models(&self, caller: &Caller) -> Result<Vec<ModelView>, HostError> {
        caller.may(Scope::Read)?;
        Ok(self.state.models(caller.tenant.id)?.into_iter().map(Into::into).collect())
    }

    /// A version of a model, or the latest.
    ///
    /// # Errors
    /// If the caller may not, or there is none.
    pub fn model(&self, caller: &Caller, name: &str, version: Option<u32>) -> Result<ModelView, HostError> {
        caller.may(Scope::Read)?;
        Ok(self.state.model(caller.tenant.id, name, version)?.into())
    }

    /// Makes an endpoint.
    ///
    /// # Errors
    /// If the caller may not, or there is one of this name.
    pub fn create_endpoint(
        &self,
        caller: &Caller,
        name: &str,
        description: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<EndpointView, HostError> {
        caller.may(Scope::Write)?;
        let name = names::name("endpoint", name)?;
        check_words(Some(description), Some(tags))?;
        Ok(self.state.create_endpoint(caller.tenant.id, name, (description, tags), &caller.token)?.into())
    }

    /// One endpoint.
    ///
    /// # Errors
    /// If there is none.
    pub fn endpoint(&self, caller: &Caller, name: &str) -> Result<EndpointView, HostError> {
        caller.may(Scope::Read)?;
        Ok(self.state.endpoint(caller.tenant.id, name)?.into())
    }

    /// The tenant's endpoints.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn endpoints(&self, caller: &Caller) -> Result<Vec<EndpointView>, HostError> {
        caller.may(Scope::Read)?;
        Ok(self.state.endpoints(caller.tenant.id)?.into_iter().map(Into::into).collect())
    }

    /// Changes an endpoint, all at once; jobs that were accepted keep their deployment.
    ///
    /// # Errors
    /// If the caller may not, there is none, or no such deployment.
    pub fn update_endpoint(
        &self,
        caller: &Caller,
        name: &str,
        (description, tags): (Option<String>, Option<BTreeMap<String, String>>),
        default_deployment: Option<&str>,
    ) -> Result<EndpointView, HostError> {
        caller.may(Scope::Write)?;
        let default_deployment = default_deployment.map(names::versioned).transpose()?;
        let change = EndpointChange { description, tags, default_deployment };
        check_words(change.description.as_deref(), change.tags.as_ref())?;
        Ok(self.state.update_endpoint(caller.tenant.id, name, change, &caller.token)?.into())
    }

    /// Removes an endpoint with its deployments.
    ///
    /// # Errors
    /// If the caller may not, there is none, or jobs of it wait or run.
    pub fn delete_endpoint(&self, caller: &Caller, name: &str) -> Result<(), HostError> {
        caller.may(Scope::Write)?;
        self.state.delete_endpoint(caller.tenant.id, name, &caller.token)?;
        self.remover.remove_unnamed(caller.tenant.id)
    }

    /// Makes a version of a deployment from an upload: `deployment.yml`, the script below `code`, and below `model` the
    /// model, unless the YAML names a registered one. It is compiled, and its model is opened, before it is there.
    ///
    /// # Errors
    /// If the caller may not, there is no such endpoint or upload, or a job of it would be refused.
    pub fn create_deployment(
        &self,
        caller: &Caller,
        endpoint: &str,
        upload: &str,
        set_default: bool,
    ) -> Result<DeploymentView, HostError> {
        caller.may(Scope::Write)?;
        let endpoint = self.state.endpoint(caller.tenant.id, endpoint)?;
        let files = self.finished_upload(caller, upload)?;
        let file = files.join(SPEC);
        if !file.is_file() {
            return Err(HostError::Refused(format!("the upload holds no `{SPEC}`")));
        }
        // Bounded, and no larger than what is read here again.
        let plain = |error: SpecError| fault::chain(&error).replace(&format!("{}/", files.display()), "");
        let spec = Spec::read(&file).map_err(|error| HostError::Refused(plain(error)))?;
        let text = fs::read_to_string(&file).map_err(disk("read the deployment"))?;
        let model = match spec.registered_model() {
            None => None,
            Some((name, version)) => {
                let number = match version.as_str() {
                    "latest" => None,
                    number => Some(number.parse().map_err(|_| {
                        HostError::Refused(format!("the model's version `{number}` is neither a number nor `latest`"))
                    })?),
                };
                Some(self.state.model(caller.tenant.id, &name, number)?.digest)
            }
        };
        let (made, digest) = self.gather(caller, &files)?;
        if let Some(key) = &self.options.signed_by {
            check_voucher(&spec, made.path(), key)?;
        }
        let registered = model.as_deref().map(|digest| self.folders.model(caller.tenant.id, digest));
        let Checked { name, script } = self.check(caller, &placed(made.path(), registered))?;
        let name = names::name("deployment", &name)?.to_owned();
        let _naming = self.remover.naming();
        self.folders.place(made, &self.folders.deployment(caller.tenant.id, &digest))?;
        // Removed while this was checked, perhaps.
        if let Some(digest) = model.as_deref().filter(|digest| !self.folders.model(caller.tenant.id, digest).is_dir()) {
            return Err(StateError::Unknown { what: "model", name: digest.to_owned() }.into());
        }
        let new = NewDeployment { name, spec: text, digest, script, model, set_default };
        let made = self.state.create_deployment(caller.tenant.id, &endpoint.name, new, &caller.token)?;
        self.deployment(caller, &endpoint.name, &made.name, Some(made.version))
    }

    /// Checks a deployment, as many at once as jobs may run.
    fn check(&self, caller: &Caller, placed: &Placed) -> Result<Checked, HostError> {
        let before = self.checks.fetch_add(1, Ordering::Relaxed);
        let checked = if before < self.options.most_jobs.max(1) {
            process::check(&self.options.program, placed, &self.folders.of(caller.tenant.id))
        } else {
            Err(HostError::Busy)
        };
        self.checks.fetch_sub(1, Ordering::Relaxed);
        checked
    }

    /// A version, or the latest.
    ///
    /// # Errors
    /// If there is none.
    pub fn deployment(
        &self,
        caller: &Caller,
        endpoint: &str,
        name: &str,
        version: Option<u32>,
    ) -> Result<DeploymentView, HostError> {
        caller.may_either(Scope::Read, Scope::Write)?;
        let endpoint = self.state.endpoint(caller.tenant.id, endpoint)?;
        let deployment = self.state.deployment(caller.tenant.id, &endpoint.name, name, version)?;
        Ok(view(&endpoint, deployment))
    }

    /// Every version below an endpoint.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn deployments(&self, caller: &Caller, endpoint: &str) -> Result<Vec<DeploymentView>, HostError> {
        caller.may(Scope::Read)?;
        let endpoint = self.state.endpoint(caller.tenant.id, endpoint)?;
        let all = self.state.deployments(caller.tenant.id, &endpoint.name)?;
        Ok(all.into_iter().map(|deployment| view(&endpoint, deployment)).collect())
    }

    /// Removes every version of a name.
    ///
    /// # Errors
    /// If the caller may not, there is none, or it is in use.
    pub fn delete_deployment(&self, caller: &Caller, endpoint: &str, name: &str) -> Result<(), HostError> {
        caller.may(Scope::Write)?;
        self.state.delete_deployment(caller.tenant.id, endpoint, name, &caller.token)?;
        self.remover.remove_unnamed(caller.tenant.id)
    }
}

/// How a deployment is run whose files lie in `folder`, with its registered model's folder.
pub(super) fn placed(folder: &Path, registered: Option<PathBuf>) -> Placed {
    let mut set = Vec::new();
    if folder.join(CODE).is_dir() {
        set.push(("code_configuration.code".to_owned(), CODE.to_owned()));
    }
    let within = std::iter::once(folder.to_owned()).chain(registered.clone()).collect();
    let inline = || Some(folder.join(MODEL)).filter(|model| model.is_dir());
    if let Some(model) = registered.or_else(inline) {
        set.push(("model".to_owned(), model.display().to_string()));
    }
    Placed { file: folder.join(SPEC), set, within }
}

/// Whether the script of a deployment in this folder is signed, if it has one.
fn check_voucher(spec: &Spec, folder: &Path, key: &PublicKey) -> Result<(), HostError> {
    let Some(name) = spec.script_name().map_err(|error| HostError::Refused(fault::chain(&error)))? else {
        return Ok(());
    };
    let voucher = folder.join(VOUCHER);
    if !voucher.is_dir() {
        return Err(HostError::Refused(
            "this host takes signed scripts only, and no signature came with this one\nhint: push the script, sign it, and \
             name it in the deployment: `code: oci://REGISTRY/REPOSITORY@sha256:…`"
                .into(),
        ));
    }
    check_signature(&voucher, &folder.join(CODE).join(name), key).map_err(|error| {
        let text = fault::chain(&error).replace(&format!("{}/", folder.display()), "");
        HostError::Refused(format!("this host takes signed scripts only: {text}"))
    })
}

fn view(endpoint: &Endpoint, deployment: Deployment) -> DeploymentView {
    let Deployment { name, version, spec: _, digest, script, model, created } = deployment;
    let is_default = endpoint.default_deployment.as_ref().is_some_and(|(n, v)| (n, *v) == (&name, version));
    DeploymentView { endpoint: endpoint.name.clone(), name, version, is_default, digest, script, model, created }
}

fn check_words(description: Option<&str>, tags: Option<&BTreeMap<String, String>>) -> Result<(), HostError> {
    let too_long = |text: &str| text.len() > MOST_TEXT;
    if description.is_some_and(too_long) {
        return Err(HostError::Refused(format!("the description is over {MOST_TEXT} bytes")));
    }
    if tags.is_some_and(|tags| tags.len() > MOST_TAGS || tags.iter().any(|(k, v)| too_long(k) || too_long(v))) {
        return Err(HostError::Refused(format!("there are over {MOST_TAGS} tags, or one is over {MOST_TEXT} bytes")));
    }
    Ok(())
}

/// The files of one folder in another, by hard links where the disk has them: neither is changed any more.
fn copy(from: &Path, to: &Path) -> Result<(), HostError> {
    let failed = disk("keep the files");
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry.map_err(|e| failed(e.into()))?;
        let place = to.join(entry.path().strip_prefix(from).expect("it lies below; this is a bug"));
        if entry.file_type().is_dir() {
            fs::create_dir(&place).map_err(&failed)?;
        } else if entry.file_type().is_file() && fs::hard_link(entry.path(), &place).is_err() {
            fs::copy(entry.path(), &place).map_err(&failed)?;
        }
    }
    Ok(())
}
