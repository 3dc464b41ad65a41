//! The GPU engine: a graph → compute shaders through wgpu, on Vulkan, Metal and DirectX 12. The only home of wgpu.
//!
//! What goes in: a model file, then tensors. What comes out: tensors. Sums are made in 32-bit floats; values and weights are
//! kept in 32 or 16 bits. The same picture gives the same bits in every batch on the same adapter, driver and tuning.
//!
//! ```text
//! adapter   which adapters there are, and which one is meant
//! engine    the open device: compiles, allocates, waits, and knows when it is lost
//! kernel    a step of the graph → WGSL, packed weights, a grid; the shaders themselves are in kernels/
//! memory    how many pictures fit at a time
//! workspace the buffers of runs, and what each run under way has for itself
//! model     a compiled graph, run on micro-batches
//! tuning    which form of a kernel is the fastest on an adapter
//! profile   what each step takes, and which form takes the least
//! timing    how long work takes on the device
//! jpeg      a trial: what is left of JPEG files once their entropy coding is decoded, made into a model's numbers
//! recovery  a lost device, opened again
//! twin      the shaders in plain Rust: the reference
//! selftest  each kernel family against its twin when a device is opened
//! ```

mod adapter;
mod cases;
mod engine;
pub mod jpeg;
mod kernel;
mod memory;
mod model;
mod profile;
mod recovery;
mod selftest;
mod timing;
mod tuning;
pub mod twin;
mod workspace;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sha2::{Digest, Sha256};

pub use self::adapter::{AdapterReport, Selector, list_adapters};
pub use self::engine::Within;
pub use self::kernel::Family;
pub use self::profile::{Profile, StepProfile, Tuned};
pub use self::selftest::FamilyReport;

use self::engine::Engine;
use self::recovery::{LastingModel, Opener};
use super::graph::{self, Graph};
use super::{Backend, InferError, Model, Precision, onnx};
use crate::cache::{self, Private};

/// What to open, and how to use it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which adapter.
    pub selector: Selector,
    /// In how many bits values are kept; absent for what suits the adapter: 16 on a real GPU that has them, else 32.
    pub precision: Option<Precision>,
    /// Less than the adapter has.
    pub within: Within,
    /// Where compiled pipelines and tuning are kept.
    pub cache: Private,
}

impl Options {
    /// The adapter that `selector` means, with all it has.
    pub fn new(selector: Selector) -> Self {
        Self { selector, precision: None, within: Within::default(), cache: Private::of_user(cache::GPU) }
    }
}

/// What was opened and what it is good for.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The adapter.
    pub adapter: AdapterReport,
    /// In how many bits values are kept.
    pub precision: Precision,
    /// The name of the table of tuned kernels, or `untuned`.
    pub tuning: String,
    /// Each kernel family, and whether it passed its self-test.
    pub families: Vec<FamilyReport>,
}

/// An open GPU.
pub struct Gpu {
    opener: Arc<Opener>,
    report: Report,
}

impl Gpu {
    /// Opens an adapter, and tests every kernel family on it.
    ///
    /// # Errors
    /// [`InferError::Unavailable`] if there is no such adapter, nothing on it works, or it has no 16-bit floats though
    /// these are asked for.
    pub fn open(options: Options) -> Result<Self, InferError> {
        let adapter = adapter::choose(&options.selector)?;
        let engine = Arc::new(Engine::open(&adapter, options.within, &options.cache)?);
        let precision = precision(&engine, options.precision)?;
        let families = selftest::run(&engine, precision);
        // Nothing can run without what loads the inputs.
        if let Some(broken) = families.iter().find(|report| report.family == Family::Gather && !report.passed) {
            let reason = broken.reason.clone().unwrap_or_default();
            let reason = format!("`{}` fails its self-test: {reason}", engine.report.name);
            return Err(InferError::Unavailable { backend: "gpu", reason });
        }
        engine.keep_pipelines();
        let passed = families.iter().filter(|report| report.passed).map(|report| report.family).collect();
        let tuning = engine.tuning.name();
        let report = Report { adapter: engine.report.clone(), precision, tuning, families };
        Ok(Self { opener: Arc::new(Opener::new(options, precision, passed, engine)), report })
    }

    /// What was opened and what it is good for.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The time of every step of the model at `path` for `images` pictures (fewer if these do not fit), as medians of `runs`
    /// runs, and its graph without the weights' numbers.
    ///
    /// # Errors
    /// As [`Backend::open`], and if the device fails.
    pub fn profile(&self, path: &Path, images: usize, runs: usize) -> Result<(Graph, Profile), InferError> {
        let graph = self.graph(path)?;
        let profile = self.opener.compile(&graph)?.profile(images, runs)?;
        Ok((graph, profile))
    }

    /// Times every form of every kernel of the model at `path`, checks its numbers, and keeps the fastest for whoever opens
    /// this adapter from now on; `tell` hears of each kernel.
    ///
    /// # Errors
    /// As [`Backend::open`]; if the device fails, or the table cannot be kept.
    pub fn tune(&self, path: &Path, tell: &mut dyn FnMut(&Tuned)) -> Result<(), InferError> {
        let graph = self.graph(path)?;
        let (engine, cache) = (self.opener.engine()?, self.opener.cache());
        // What another call found meanwhile is kept, too.
        let known = tuning::Tuning::read(cache, &engine.report);
        let found = profile::tune(&engine, &graph, self.opener.recipe(), known, tell)?;
        found.keep(cache, &engine.report).map_err(|error| InferError::Device {
            backend: "gpu",
            reason: format!("the tuning cannot be kept: {error}"),
            transient: false,
        })
    }

    fn graph(&self, path: &Path) -> Result<Graph, InferError> {
        let file = onnx::read(path)?;
        graph::build(&file).map_err(|error| error.for_backend("gpu", path))
    }

    /// A model from its graph.
    ///
    /// # Errors
    /// If a step's family is switched off, or one picture is too large for the adapter.
    pub fn compile(&self, graph: Graph) -> Result<Box<dyn Model>, InferError> {
        Ok(Box::new(LastingModel::new(&self.opener, graph, None)?))
    }
}

impl Backend for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn describe(&self) -> String {
        let off: Vec<&str> =
            self.report.families.iter().filter(|report| !report.passed).map(|report| report.family.entry()).collect();
        let bits = match self.report.precision {
            Precision::Single => "32-bit floats",
            Precision::Half => "16-bit floats",
        };
        let tuned = if self.report.tuning == "untuned" { String::new() } else { format!(", {}", self.report.tuning) };
        let off = if off.is_empty() {
            String::new()
        } else {
            format!("; switched off after the self-test: {}", off.join(", "))
        };
        format!("{}, {bits}{tuned}{off}", self.report.adapter)
    }

    fn notices(&self) -> Vec<String> {
        self.opener.notices()
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Model>, InferError> {
        // Digest and graph from the same bytes: the file may be replaced at any time.
        let bytes = onnx::read_bytes(path)?;
        let name = cache::hex(&Sha256::digest(&bytes));
        let file = onnx::parse(&bytes)
            .map_err(|error| InferError::Invalid { path: path.to_owned(), reason: error.to_string() })?;
        drop(bytes);
        let graph = graph::build(&file).map_err(|error| error.for_backend("gpu", path))?;
        drop(file);
        Ok(Box::new(LastingModel::new(&self.opener, graph, Some(name))?))
    }
}

/// The precision that was asked for, or the one that suits the adapter.
fn precision(engine: &Engine, wanted: Option<Precision>) -> Result<Precision, InferError> {
    match wanted {
        Some(Precision::Half) if !engine.abilities.half => {
            let reason = format!("`{}` has no 16-bit floats\nhint: leave out `--precision half`", engine.report.name);
            Err(InferError::Unavailable { backend: "gpu", reason })
        }
        Some(precision) => Ok(precision),
        // Software adapters convert 16-bit floats one by one, which takes longer than it saves.
        None if engine.abilities.half && !engine.report.is_software() => Ok(Precision::Half),
        None => Ok(Precision::Single),
    }
}

/// Waits for a future of wgpu's, which on native backends are ready when they are made.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests;
