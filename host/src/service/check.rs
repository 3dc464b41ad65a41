//! `check`: what a script or a deployment is, and whether it would run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ServiceError;
use super::digest::ModelDigest;
use super::model;
use super::run::{Source, device_of, open_script, read};
use crate::deployment::Settings;
use crate::fault;
use crate::infer::Port;
use crate::infer::device::{self, Device, Named, Request};
use crate::infer::session::Session;
use crate::infer::trial::Trial;
use crate::script::{CompileCache, Compiler, Engine, Interfaces, Script};

/// Facts of a script.
#[derive(Clone, Debug, Serialize)]
pub struct ScriptFacts {
    /// The file.
    pub path: PathBuf,
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub bytes: usize,
    /// What it exports and imports, and its contract version.
    pub interfaces: Interfaces,
    /// How long opening it took: compiling, or reading compiled code.
    pub open_ms: f64,
}

/// Facts of a model on one device.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFacts {
    /// The device.
    pub device: String,
    /// The device in words, where it opens.
    pub description: Option<String>,
    /// Why the model does not open there.
    pub refusal: Option<String>,
    /// The model's inputs.
    pub inputs: Vec<Port>,
    /// The model's outputs.
    pub outputs: Vec<Port>,
}

/// Facts of a deployment.
#[derive(Clone, Debug, Serialize)]
pub struct DeploymentFacts {
    /// Its name.
    pub name: String,
    /// Its script.
    pub script: Option<ScriptFacts>,
    /// What is scored and how, where there is no script.
    pub built_in: Option<String>,
    /// The model file.
    pub model: Option<PathBuf>,
    /// Where the model opens and where not.
    pub devices: Vec<ModelFacts>,
    /// The settings, with every default.
    pub settings: Settings,
    /// Keys that mean nothing here.
    pub not_used: Vec<String>,
}

/// Opens a script as a job would.
///
/// # Errors
/// If it is refused.
pub fn check_script(path: &Path, compiler: &Compiler) -> Result<ScriptFacts, ServiceError> {
    let engine = Engine::new().map_err(ServiceError::Engine)?;
    let began = Instant::now();
    let script = Script::open(&engine, &CompileCache::of_user(compiler.clone()), path)
        .map_err(|source| ServiceError::Script { path: path.to_owned(), source })?;
    Ok(script_facts(path, &script, began.elapsed()))
}

/// Opens a deployment's script, or finds out what is scored without one, and opens its model on each device that it may run on.
///
/// # Errors
/// If a job of it would be refused.
pub fn check_deployment(
    source: &Source,
    named: &Named,
    compiler: &Compiler,
    trial: &Trial,
) -> Result<DeploymentFacts, ServiceError> {
    let deployment = read(source)?;
    let began = Instant::now();
    let script = open_script(compiler, &deployment)?;
    let path = deployment.script.clone().unwrap_or_default();
    let script = script.map(|script| script_facts(&path, &script, began.elapsed()));
    let model = match deployment.model.as_deref() {
        None => None,
        Some(path) if path.is_file() => Some(path.to_owned()),
        Some(folder) => match model::file(&deployment, folder) {
            Ok(file) => Some(folder.join(file)),
            Err(reason) if script.is_none() => return Err(model::unknown(reason)),
            Err(_) => None,
        },
    };
    let asked = device_of(deployment.settings.device);
    let digest = deployment.model.as_deref().map(ModelDigest::of).transpose()?;
    if let Some(digest) = &digest {
        model::try_all(trial, asked, named, digest)?;
    }
    let devices = match asked {
        Device::Auto => [Some(Device::Gpu), named.onnxruntime.as_ref().map(|_| Device::OnnxRuntime), Some(Device::Cpu)],
        other => [Some(other), None, None],
    };
    let (devices, sessions): (Vec<_>, Vec<_>) = match &model {
        None => (Vec::new(), Vec::new()),
        Some(file) => devices.into_iter().flatten().map(|d| model_facts(d, named, file)).unzip(),
    };
    // What a job would do decides whether the check passes.
    if model.is_some() && devices.iter().all(|d| d.refusal.is_some()) {
        device::choose(&Request { device: asked, named, model: model.as_deref() })?;
    }
    let built_in = match (&script, &model, sessions.into_iter().flatten().next()) {
        (None, Some(file), Some(session)) => Some(model::built_in(&deployment, file, session)?.describe()),
        _ => None,
    };
    Ok(DeploymentFacts {
        name: deployment.name,
        script,
        built_in,
        model,
        devices,
        settings: deployment.settings,
        not_used: deployment.not_used,
    })
}

fn model_facts(device: Device, named: &Named, file: &Path) -> (ModelFacts, Option<Session>) {
    let name = match device {
        Device::Auto => "auto",
        Device::Gpu => "gpu",
        Device::Cpu => "cpu",
        Device::OnnxRuntime => "onnxruntime",
    };
    let mut facts =
        ModelFacts { device: name.into(), description: None, refusal: None, inputs: vec![], outputs: vec![] };
    let session = match device::choose(&Request { device, named, model: Some(file) }) {
        Ok(chosen) => {
            facts.description = Some(chosen.backend.describe());
            chosen.session
        }
        Err(error) => {
            facts.refusal = Some(fault::chain(&error));
            None
        }
    };
    if let Some(session) = &session {
        facts.inputs = session.inputs().to_vec();
        facts.outputs = session.outputs().to_vec();
    }
    (facts, session)
}

fn script_facts(path: &Path, script: &Script, took: Duration) -> ScriptFacts {
    ScriptFacts {
        path: path.to_owned(),
        digest: script.digest().to_owned(),
        bytes: script.size(),
        interfaces: script.interfaces().clone(),
        open_ms: took.as_secs_f64() * 1000.0,
    }
}
