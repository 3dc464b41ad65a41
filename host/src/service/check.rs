//! `check`: what a script or a deployment is, and whether it would run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ServiceError;
use super::run::{device_of, open_script};
use crate::deployment::{Settings, Spec};
use crate::fault;
use crate::infer::Port;
use crate::infer::device::{self, Device, Named, Request};
use crate::script::{CompileCache, Compiler, Engine, Interfaces, Models, Script};

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
    pub script: ScriptFacts,
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

/// Opens a deployment's script, and its model on each device that it may run on.
///
/// # Errors
/// If a job of it would be refused.
pub fn check_deployment(path: &Path, named: &Named, compiler: &Compiler) -> Result<DeploymentFacts, ServiceError> {
    let deployment = Spec::read(path)?.resolve()?;
    let engine = Engine::new().map_err(ServiceError::Engine)?;
    let began = Instant::now();
    let script = open_script(&engine, compiler, &deployment)?;
    let script_path = deployment.script.clone().unwrap_or_default();
    let facts = script_facts(&script_path, &script, began.elapsed());
    let model = deployment.model.as_deref().and_then(|path| match path.is_file() {
        true => Some(path.to_owned()),
        false => Models::find_only(path).ok().map(|only| path.join(only)),
    });
    let asked = device_of(deployment.settings.device);
    let devices = match asked {
        Device::Auto => [Some(Device::Gpu), named.onnxruntime.as_ref().map(|_| Device::OnnxRuntime), Some(Device::Cpu)],
        other => [Some(other), None, None],
    };
    let devices: Vec<_> = match &model {
        None => Vec::new(),
        Some(file) => devices.into_iter().flatten().map(|d| model_facts(d, named, file)).collect(),
    };
    // What a job would do decides whether the check passes.
    if model.is_some() && devices.iter().all(|d| d.refusal.is_some()) {
        device::choose(&Request { device: asked, named, model: model.as_deref() })?;
    }
    Ok(DeploymentFacts {
        name: deployment.name,
        script: facts,
        model,
        devices,
        settings: deployment.settings,
        not_used: deployment.not_used,
    })
}

fn model_facts(device: Device, named: &Named, file: &Path) -> ModelFacts {
    let name = match device {
        Device::Auto => "auto",
        Device::Gpu => "gpu",
        Device::Cpu => "cpu",
        Device::OnnxRuntime => "onnxruntime",
    };
    let mut facts =
        ModelFacts { device: name.into(), description: None, refusal: None, inputs: vec![], outputs: vec![] };
    match device::choose(&Request { device, named, model: Some(file) }) {
        Ok(chosen) => {
            facts.description = Some(chosen.backend.describe());
            if let Some(session) = chosen.session {
                facts.inputs = session.inputs().to_vec();
                facts.outputs = session.outputs().to_vec();
            }
        }
        Err(error) => facts.refusal = Some(fault::chain(&error)),
    }
    facts
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
