//! A deployment's model: which file it is, and what scores with it where there is no script.

use std::path::{Path, PathBuf};

use super::ServiceError;
use super::digest::ModelDigest;
use crate::builtin::{self, BuiltInError};
use crate::deployment::{Deployment, OutputAction};
use crate::infer::InferError;
use crate::infer::device::{Device, Named};
use crate::infer::session::Session;
use crate::infer::trial::{Engine, Trial};
use crate::script::Models;

/// The model's file, relative to the folder that `folder` is or stands for: the one that MLflow names, else the only one.
///
/// # Errors
/// Why there is none.
pub(super) fn file(deployment: &Deployment, folder: &Path) -> Result<PathBuf, String> {
    let is_hidden = |path: &Path| path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    match &deployment.mlflow {
        // Only what is listed is digested and tried.
        Some(mlflow) if is_hidden(&mlflow.file) || !Models::is_model(&mlflow.file) => {
            Err(format!("`MLmodel` names `{}`, which is hidden or no `.onnx` file", mlflow.file.display()))
        }
        Some(mlflow) => Ok(mlflow.file.clone()),
        None => Models::find_only(folder),
    }
}

/// Tries every file that a job may open, on the CPU engine that may open it: a GPU's reader needs no trial, but where
/// any device will do, a CPU takes what the GPU refuses.
///
/// # Errors
/// If one does not come to an end.
pub(super) fn try_all(trial: &Trial, device: Device, named: &Named, model: &ModelDigest) -> Result<(), InferError> {
    let engine = match (device, named.onnxruntime.as_deref()) {
        (Device::Gpu, _) => return Ok(()),
        (Device::Auto | Device::OnnxRuntime, Some(library)) => Engine::OnnxRuntime(library),
        (Device::Auto | Device::Cpu | Device::OnnxRuntime, _) => Engine::Cpu,
    };
    let mut files = model.files.iter().filter(|(path, _)| Models::is_model(path));
    files.try_for_each(|(path, digest)| trial.pass(engine, path, digest))
}

/// What scores with `session`, which is the model at `file` open.
///
/// # Errors
/// If the model, its labels, its signature or the deployment's settings leave nothing to score.
pub(super) fn built_in(
    deployment: &Deployment,
    file: &Path,
    session: Session,
) -> Result<builtin::Scorer, ServiceError> {
    if deployment.settings.output_action == OutputAction::SummaryOnly {
        return Err(BuiltInError::SummaryOnly.into());
    }
    let has_folder = deployment.model.as_deref().is_some_and(Path::is_dir);
    let model = builtin::Model { session, file, has_folder, mlflow: deployment.mlflow.as_ref() };
    Ok(builtin::Scorer::new(&model, &deployment.tags)?)
}

/// A deployment whose model folder does not say which model it is, and has no script to know.
pub(super) fn unknown(reason: String) -> ServiceError {
    BuiltInError::NoModel(reason).into()
}
