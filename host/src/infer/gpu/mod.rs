//! The GPU engine: a graph → compute shaders through wgpu, on Vulkan, Metal and DirectX 12. The only home of wgpu.
//!
//! What goes in: a model file, then tensors. What comes out: tensors. Everything is computed in 32-bit floats; the same
//! picture gives the same bits in every batch on the same adapter and driver.
//!
//! ```text
//! adapter   which adapters there are, and which one is meant
//! engine    the open device: compiles, allocates, waits, and knows when it is lost
//! kernel    a step of the graph → WGSL, packed weights, a grid; the shaders themselves are in kernels/
//! memory    how many pictures fit at a time
//! model     a compiled graph, run on micro-batches
//! recovery  a lost device, opened again
//! twin      the shaders in plain Rust: the reference
//! selftest  each kernel family against its twin when a device is opened
//! ```

mod adapter;
mod cases;
mod engine;
mod kernel;
mod memory;
mod model;
mod recovery;
mod selftest;
pub mod twin;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub use self::adapter::{AdapterReport, Selector, list_adapters};
pub use self::kernel::Family;
pub use self::selftest::FamilyReport;

use self::engine::Engine;
use self::recovery::{LastingModel, Opener};
use super::graph::{self, Graph};
use super::{Backend, InferError, Model, onnx};

/// What was opened and what it is good for.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The adapter.
    pub adapter: AdapterReport,
    /// Each kernel family, and whether it passed its self-test.
    pub families: Vec<FamilyReport>,
}

/// An open GPU.
pub struct Gpu {
    opener: Arc<Opener>,
    report: Report,
}

impl Gpu {
    /// Opens the adapter that `selector` means, and tests every kernel family on it.
    ///
    /// # Errors
    /// [`InferError::Unavailable`] if there is no such adapter, or nothing on it works.
    pub fn open(selector: &Selector) -> Result<Self, InferError> {
        let engine = Arc::new(Engine::open(&adapter::choose(selector)?)?);
        let families = selftest::run(&engine);
        // Nothing can run without what loads the inputs.
        if let Some(broken) = families.iter().find(|report| report.family == Family::Gather && !report.passed) {
            let reason = broken.reason.clone().unwrap_or_default();
            let reason = format!("`{}` fails its self-test: {reason}", engine.report.name);
            return Err(InferError::Unavailable { backend: "gpu", reason });
        }
        let passed = families.iter().filter(|report| report.passed).map(|report| report.family).collect();
        let report = Report { adapter: engine.report.clone(), families };
        Ok(Self { opener: Arc::new(Opener::new(selector.clone(), passed, engine)), report })
    }

    /// What was opened and what it is good for.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// A model from its graph.
    ///
    /// # Errors
    /// If a step's family is switched off, or one picture is too large for the adapter.
    pub fn compile(&self, graph: Graph) -> Result<Box<dyn Model>, InferError> {
        Ok(Box::new(LastingModel::new(Arc::clone(&self.opener), graph)?))
    }
}

impl Backend for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn describe(&self) -> String {
        let off: Vec<&str> =
            self.report.families.iter().filter(|report| !report.passed).map(|report| report.family.entry()).collect();
        match off.is_empty() {
            true => self.report.adapter.to_string(),
            false => format!("{}; switched off after the self-test: {}", self.report.adapter, off.join(", ")),
        }
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Model>, InferError> {
        let file = onnx::read(path)?;
        let graph = graph::build(&file).map_err(|error| error.for_backend("gpu", path))?;
        drop(file);
        self.compile(graph)
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
