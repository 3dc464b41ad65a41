//! Which backend a job's models run on. `auto` takes the best that is there and that the model fits, and says why;
//! a device that was asked for by name is that device or an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cpu::Cpu;
use super::session::Session;
use super::{Backend, InferError, Precision};
use crate::fault;

/// A device as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A real GPU, else ONNX Runtime where a library is named, else the embedded CPU engine.
    Auto,
    /// The compute-shader engine, on a software adapter too.
    Gpu,
    /// The embedded CPU engine.
    Cpu,
    /// ONNX Runtime, from a shared library.
    OnnxRuntime,
}

/// What a user names beside the device.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// ONNX Runtime's shared library.
    pub onnxruntime: Option<PathBuf>,
    /// The GPU adapter: its number, part of its name, or `software`. Only so is a software adapter taken.
    pub adapter: Option<String>,
    /// In how many bits a GPU keeps a model's values; absent for what suits the adapter.
    pub precision: Option<Precision>,
}

/// What to choose for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What was asked for.
    pub device: Device,
    /// What was named beside it.
    pub named: &'a Named,
    /// The model that has to run.
    pub model: Option<&'a Path>,
}

/// A backend, why it, and the model open on it.
pub struct Chosen {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// Why this one, in words.
    pub reason: String,
    /// The request's model.
    pub session: Option<Session>,
}

/// Chooses a backend and opens the model on it.
///
/// # Errors
/// If the named device is not to be had or cannot run the model; for `auto`, if no device can.
pub fn choose(request: &Request<'_>) -> Result<Chosen, InferError> {
    let asked_for = |backend: Arc<dyn Backend>| {
        let reason = format!("`{}` was asked for", backend.name());
        open(backend, reason, request.model)
    };
    match request.device {
        Device::Gpu => asked_for(gpu(request.named)?),
        Device::Cpu => asked_for(cpu()?),
        Device::OnnxRuntime => asked_for(onnxruntime(request.named)?),
        Device::Auto => choose_best(request),
    }
}

fn choose_best(request: &Request<'_>) -> Result<Chosen, InferError> {
    let mut against = Vec::new();
    let mut passed = |device: &str, error: &InferError| against.push(format!("not {device}: {}", fault::chain(error)));
    let is_named = request.named.adapter.is_some();
    let reason = if is_named { "its adapter is named" } else { "a GPU is there, which is the fastest" };
    match gpu(request.named).and_then(|gpu| open(gpu, reason.into(), request.model)) {
        Ok(chosen) => return Ok(chosen),
        // Naming an adapter is asking for it.
        Err(error) if is_named => return Err(error),
        // A model that cannot be read is no better on another device.
        Err(error @ (InferError::Read { .. } | InferError::Invalid { .. })) => return Err(error),
        Err(error) => passed("gpu", &error),
    }
    if request.named.onnxruntime.is_some() {
        match onnxruntime(request.named).and_then(|ort| open(ort, "its library is named".into(), request.model)) {
            Ok(chosen) => return Ok(Chosen { reason: because(&chosen.reason, &against), ..chosen }),
            // Naming a library is asking for it; going on without would be silently slower.
            Err(error) => return Err(error),
        }
    }
    open(cpu()?, because("the embedded engine runs anywhere", &against), request.model)
}

fn because(reason: &str, against: &[String]) -> String {
    std::iter::once(reason.to_owned()).chain(against.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn open(backend: Arc<dyn Backend>, reason: String, model: Option<&Path>) -> Result<Chosen, InferError> {
    let session = model.map(|path| Session::open(backend.as_ref(), path)).transpose()?;
    Ok(Chosen { backend, reason, session })
}

fn cpu() -> Result<Arc<dyn Backend>, InferError> {
    Ok(Arc::new(Cpu::new(threads())))
}

/// The cores that this process may use.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(feature = "gpu")]
fn gpu(named: &Named) -> Result<Arc<dyn Backend>, InferError> {
    Ok(Arc::new(open_gpu(named)?))
}

/// The GPU that is named, or the best one.
///
/// # Errors
/// If there is none, or it does not compute right.
#[cfg(feature = "gpu")]
pub fn open_gpu(named: &Named) -> Result<super::gpu::Gpu, InferError> {
    use super::gpu::{Gpu, Options, Selector};
    let selector = match named.adapter.as_deref() {
        None => Selector::Best,
        Some("software") => Selector::Software,
        Some(text) => text.parse().map_or_else(|_| Selector::Named(text.to_owned()), Selector::Index),
    };
    Gpu::open(Options { precision: named.precision, ..Options::new(selector) })
}

#[cfg(not(feature = "gpu"))]
fn gpu(_named: &Named) -> Result<Arc<dyn Backend>, InferError> {
    Err(InferError::Unavailable { backend: "gpu", reason: "this build is without the feature `gpu`".into() })
}

#[cfg(feature = "onnxruntime")]
fn onnxruntime(named: &Named) -> Result<Arc<dyn Backend>, InferError> {
    use super::onnxruntime::OnnxRuntime;
    let library = named.onnxruntime.as_deref().ok_or_else(|| InferError::Unavailable {
        backend: "onnxruntime",
        reason:
            "no library is named\nhint: set ORT_DYLIB_PATH or --onnxruntime to libonnxruntime.so; the one in PyPI's \
                 package onnxruntime works"
                .into(),
    })?;
    Ok(Arc::new(OnnxRuntime::open(library, threads())?))
}

#[cfg(not(feature = "onnxruntime"))]
fn onnxruntime(_named: &Named) -> Result<Arc<dyn Backend>, InferError> {
    Err(InferError::Unavailable {
        backend: "onnxruntime",
        reason: "this build is without the feature `onnxruntime`".into(),
    })
}
