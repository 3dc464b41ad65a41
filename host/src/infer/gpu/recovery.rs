//! Going on after a device was lost: drivers reset GPUs that hang, and laptops unplug them.
//!
//! The call during which a device is lost fails, as a transient failure. The next call opens the same adapter again and
//! compiles its model anew from the graph, which is kept for that. No call is repeated here: retrying is the job's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::super::batcher::{Batcher, Joined, Part, Running};
use super::super::graph::Graph;
use super::Options;
use super::adapter;
use super::engine::{Engine, device_error};
use super::kernel::Family;
use super::model::{GpuModel, Recipe};
use crate::cache::Private;
use crate::infer::{InferError, Model, Port, Precision};
use crate::tensor::Tensor;

/// The device of a backend, opened again when it is lost.
pub(super) struct Opener {
    options: Options,
    precision: Precision,
    /// The families that passed their self-test.
    families: Vec<Family>,
    engine: Mutex<Arc<Engine>>,
    batcher: Arc<Batcher>,
    /// The models that are open, by the digest of their file.
    models: Mutex<HashMap<String, Weak<Lasting>>>,
}

impl Opener {
    pub(super) fn new(options: Options, precision: Precision, families: Vec<Family>, engine: Arc<Engine>) -> Self {
        Self {
            options,
            precision,
            families,
            engine: Mutex::new(engine),
            batcher: Batcher::start(),
            models: Mutex::default(),
        }
    }

    /// The open device.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, InferError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.is_lost() {
            let mut again =
                Engine::open(&adapter::choose(&self.options.selector)?, self.options.within, &self.options.cache)?;
            // Another adapter would give other bits, and its kernels have not been tested.
            if (&again.report.name, &again.report.driver) != (&engine.report.name, &engine.report.driver) {
                return Err(device_error(
                    format!("`{}` is gone; there is `{}`", engine.report.name, again.report.name),
                    true,
                ));
            }
            // What another process has tuned meanwhile would change the bits of a job that runs.
            again.tuning = engine.tuning.clone();
            engine.take_notices().into_iter().for_each(|notice| again.notice(notice));
            *engine = Arc::new(again);
        }
        Ok(Arc::clone(&engine))
    }

    /// `graph`, compiled on the open device.
    pub(super) fn compile(&self, graph: &Graph) -> Result<GpuModel, InferError> {
        GpuModel::compile(self.engine()?, graph.clone(), self.recipe())
    }

    /// What the device said since the last call, lost or not.
    pub(super) fn notices(&self) -> Vec<String> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).take_notices()
    }

    /// Where tuning is kept.
    pub(super) fn cache(&self) -> &Private {
        &self.options.cache
    }

    pub(super) fn recipe(&self) -> Recipe<'_> {
        Recipe { families: &self.families, precision: self.precision }
    }
}

/// A model that outlives its device, as one of those who use it holds it.
pub(super) struct LastingModel(Arc<Lasting>);

/// A model that outlives its device. All who use it share it, so that the device can join what they ask.
pub(super) struct Lasting {
    opener: Arc<Opener>,
    graph: Graph,
    outputs: Vec<Port>,
    compiled: Mutex<GpuModel>,
    /// Rows of one run, at hand without the lock, which is held for as long as a model takes to compile.
    rows: AtomicUsize,
    /// Whether some values are kept in 16 bits.
    halves: bool,
}

impl LastingModel {
    /// The model of `graph`; of a `name` that is open already, the one that is.
    pub(super) fn new(opener: &Arc<Opener>, graph: Graph, name: Option<String>) -> Result<Self, InferError> {
        let Some(name) = name else { return Ok(Self(Arc::new(Lasting::new(Arc::clone(opener), graph)?))) };
        // Held while compiling: two jobs that open one model wait for one compilation.
        let mut models = opener.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(&name).and_then(Weak::upgrade) {
            return Ok(Self(model));
        }
        let model = Arc::new(Lasting::new(Arc::clone(opener), graph)?);
        models.retain(|_, model| model.strong_count() > 0);
        models.insert(name, Arc::downgrade(&model));
        Ok(Self(model))
    }
}

impl Lasting {
    fn new(opener: Arc<Opener>, graph: Graph) -> Result<Self, InferError> {
        let compiled = opener.compile(&graph)?;
        let (outputs, rows) = (compiled.outputs().to_vec(), AtomicUsize::new(compiled.rows_at_a_time()));
        let halves = compiled.keeps_halves();
        Ok(Self { opener, graph, outputs, compiled: Mutex::new(compiled), rows, halves })
    }

    /// The model on a device that is there.
    fn compiled(&self) -> Result<GpuModel, InferError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.is_lost() {
            *compiled = self.opener.compile(&self.graph)?;
        }
        Ok(compiled.clone())
    }
}

impl Joined for Lasting {
    fn rows_at_a_time(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    fn begin(&self, parts: &[Part<'_>]) -> Result<Box<dyn Running>, InferError> {
        let compiled = self.compiled()?;
        let begun = compiled.begin(parts);
        // It is less than before if the device was out of memory.
        self.rows.store(compiled.rows_at_a_time(), Ordering::Relaxed);
        begun
    }

    fn accept(&self, outputs: &[Tensor]) -> Result<(), InferError> {
        super::model::accept(outputs, self.halves)
    }
}

impl Model for LastingModel {
    fn inputs(&self) -> &[Port] {
        &self.0.graph.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.0.outputs
    }

    fn joined(&self) -> Option<(Arc<Batcher>, Arc<dyn Joined>)> {
        let joined = Arc::clone(&self.0);
        Some((Arc::clone(&joined.opener.batcher), joined))
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        self.0.compiled()?.run(inputs)
    }
}
