//! Going on after a device was lost: drivers reset GPUs that hang, and laptops unplug them.
//!
//! The call during which a device is lost fails, as a transient failure. The next call opens the same adapter again and
//! compiles its model anew from the graph, which is kept for that. No call is repeated here: retrying is the job's.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::graph::Graph;
use super::adapter::{self, Selector};
use super::engine::{Engine, device_error};
use super::kernel::Family;
use super::model::GpuModel;
use crate::infer::{InferError, Model, Port};
use crate::tensor::Tensor;

/// The device of a backend, opened again when it is lost.
pub(super) struct Opener {
    selector: Selector,
    /// The families that passed their self-test.
    families: Vec<Family>,
    engine: Mutex<Arc<Engine>>,
}

impl Opener {
    pub(super) fn new(selector: Selector, families: Vec<Family>, engine: Arc<Engine>) -> Self {
        Self { selector, families, engine: Mutex::new(engine) }
    }

    /// The open device.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, InferError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.is_lost() {
            let again = Engine::open(&adapter::choose(&self.selector)?)?;
            // Another adapter would give other bits, and its kernels have not been tested.
            if (&again.report.name, &again.report.driver) != (&engine.report.name, &engine.report.driver) {
                return Err(device_error(
                    format!("`{}` is gone; there is `{}`", engine.report.name, again.report.name),
                    true,
                ));
            }
            *engine = Arc::new(again);
        }
        Ok(Arc::clone(&engine))
    }

    /// `graph`, compiled on the open device.
    pub(super) fn compile(&self, graph: &Graph) -> Result<GpuModel, InferError> {
        GpuModel::compile(self.engine()?, graph.clone(), &self.families)
    }
}

/// A model that outlives its device.
pub(super) struct LastingModel {
    opener: Arc<Opener>,
    graph: Graph,
    outputs: Vec<Port>,
    compiled: Mutex<Arc<GpuModel>>,
}

impl LastingModel {
    pub(super) fn new(opener: Arc<Opener>, graph: Graph) -> Result<Self, InferError> {
        let compiled = opener.compile(&graph)?;
        let outputs = compiled.outputs().to_vec();
        Ok(Self { opener, graph, outputs, compiled: Mutex::new(Arc::new(compiled)) })
    }

    /// The model on a device that is there.
    fn compiled(&self) -> Result<Arc<GpuModel>, InferError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.is_lost() {
            *compiled = Arc::new(self.opener.compile(&self.graph)?);
        }
        Ok(Arc::clone(&compiled))
    }
}

impl Model for LastingModel {
    fn inputs(&self) -> &[Port] {
        &self.graph.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        self.compiled()?.run(inputs)
    }
}
