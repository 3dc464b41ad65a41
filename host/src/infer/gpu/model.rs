//! A graph on a device: compiled once, run on micro-batches.
//!
//! What goes in: a [`Graph`] and an [`Engine`], then tensors. What comes out: tensors, in the file's order. Running is a
//! loop over dispatches; which buffer, which kernel and how many pictures at a time has been decided before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::batcher::{Joined, Part, Running};
use super::super::graph::plan::{Plan, plan};
use super::super::graph::{Dims, Graph, Operation, Step};
use super::engine::{Engine, Pipeline, Trouble, device_error, mapped};
use super::kernel::{self, Choice, Family, Grid, Kernel, Layout, quads, stored_len};
use super::memory::{Needs, images_at_a_time};
use super::workspace::{SLOTS, Shared, Slot, Workspace, map};
use crate::infer::{InferError, Model, Port, Precision};
use crate::tensor::{Element, Tensor};

/// How many times a device's budget a model's weights may take; the largest ResNets take a quarter of one.
const WEIGHT_BUDGETS: u64 = 8;

/// The fewest pictures that buffers are made for, where so many fit: buffers that grow by one are made again and again.
const LEAST_IMAGES: u64 = 8;

/// How a model is to be compiled.
#[derive(Clone, Copy)]
pub(super) struct Recipe<'a> {
    /// The families that passed their self-test.
    pub(super) families: &'a [Family],
    /// In how many bits values are kept.
    pub(super) precision: Precision,
}

/// A model on a device. Clones are the same model.
#[derive(Clone)]
pub(super) struct GpuModel(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    model: Compiled,
    /// Pictures at a time: what the device's limits allow, halved whenever it was out of memory.
    images: AtomicU64,
    /// The buffers of the last run; runs under way keep theirs for themselves.
    workspace: Mutex<Option<Shared>>,
}

/// A graph with its kernels, and its numbers on the device.
pub(super) struct Compiled {
    pub(super) graph: Graph,
    pub(super) stored: Vec<Precision>,
    /// Buffers in bytes.
    pub(super) plan: Plan,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) weight_bytes: u64,
    outputs: Vec<Port>,
}

/// A step, compiled and with its numbers on the device.
pub(super) struct Dispatch {
    pub(super) pipeline: Pipeline,
    pub(super) choice: Choice,
    pub(super) constants: Option<wgpu::Buffer>,
    pub(super) weights: Option<wgpu::Buffer>,
    pub(super) operands: Vec<usize>,
    pub(super) grid: Grid,
}

impl GpuModel {
    /// Compiles every step of `graph` with the fastest family that can do it.
    pub(super) fn compile(engine: Arc<Engine>, graph: Graph, recipe: Recipe) -> Result<Self, InferError> {
        Self::compile_with(engine, graph, recipe, |_| None)
    }

    /// The same, with `given` kernels for some steps.
    pub(super) fn compile_with(
        engine: Arc<Engine>,
        mut graph: Graph,
        recipe: Recipe,
        given: impl Fn(usize) -> Option<Choice>,
    ) -> Result<Self, InferError> {
        engine.check()?;
        let stored = kernel::stored(&graph, recipe.precision);
        let plan = plan(&graph, |id| stored_len(graph.values[id]) * stored[id].bytes());
        let layout = Layout { graph: &graph, stored: &stored };
        let mut pipelines = HashMap::new();
        let mut dispatches = Vec::with_capacity(graph.steps.len());
        let mut needs = Needs { per_image: bytes_per_image(layout, &plan), ..Needs::default() };
        for (at, step) in graph.steps.iter().enumerate() {
            let refuse = |reason: String| unsupported(step, reason);
            let chosen = || choose(&engine, layout, step, recipe.families).map_err(refuse);
            let choice = given(at).map_or_else(chosen, Ok)?;
            // Before they are packed, since packing allocates.
            let weights = kernel::packed_bytes(layout, step, choice);
            needs.fixed = needs.fixed.saturating_add(weights);
            if weights > engine.binding_bytes() || needs.fixed > WEIGHT_BUDGETS * engine.room().memory_bytes {
                return Err(refuse("its weights need more memory than the adapter has or the engine takes".into()));
            }
            if layout.precision(step) == Precision::Half && !fits_halves(step) {
                let reason =
                    "its weights do not fit 16-bit floats\nhint: run it with 32-bit floats: `--precision single`";
                return Err(refuse(reason.into()));
            }
            let kernel = kernel::kernel(layout, step, choice, &engine.abilities).map_err(refuse)?;
            needs.grids.push(kernel.grid);
            dispatches.push(Dispatch::new(&engine, kernel, &mut pipelines)?);
        }
        let images = images_at_a_time(&needs, engine.room()).map_err(|reason| {
            let largest = graph.steps.iter().max_by_key(|step| stored_len(graph.values[step.output]));
            largest.map_or_else(|| device_error(reason.into(), false), |step| unsupported(step, reason.into()))
        })?;
        // The copies that wait for the next submission go now, and the host's own numbers are no longer needed.
        engine.queue.submit([]);
        for step in &mut graph.steps {
            if let Operation::Conv(conv) = &mut step.operation {
                conv.weights = Arc::default();
                conv.shortcut.iter_mut().for_each(|second| second.weights = Arc::default());
            }
        }
        engine.check()?;
        engine.keep_pipelines();
        let outputs = graph.outputs.iter().map(|output| output.port.clone()).collect();
        let model = Compiled { graph, stored, plan, dispatches, weight_bytes: needs.fixed, outputs };
        let inner = Inner { engine, model, images: AtomicU64::new(images), workspace: Mutex::new(None) };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether its device is gone for good.
    pub(super) fn is_lost(&self) -> bool {
        self.0.engine.is_lost()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.0.model
    }

    /// Whether some values are kept in 16 bits.
    pub(super) fn keeps_halves(&self) -> bool {
        self.0.model.stored.contains(&Precision::Half)
    }

    /// Pictures at a time.
    pub(super) fn images_at_a_time(&self) -> u64 {
        self.0.images.load(Ordering::Relaxed)
    }

    /// Pictures that the buffers at hand are for.
    #[cfg(test)]
    pub(super) fn images_held(&self) -> Option<u64> {
        self.0.workspace.lock().unwrap().as_ref().map(|workspace| workspace.images)
    }

    /// Bytes on the device for `images` pictures, without the weights.
    pub(super) fn bytes_for(&self, images: u64) -> u64 {
        let (model, slots) = (&self.0.model, SLOTS as u64);
        let values: u64 = model.plan.buffers.iter().map(|&bytes| bytes as u64).sum();
        let inputs: u64 = model.graph.inputs.iter().map(port_bytes).sum();
        images * (values + slots * (2 * inputs + model.result_bytes()))
    }

    /// Buffers for `wanted` pictures, or for fewer if the device has no room; the ones at hand if they are large enough.
    pub(super) fn workspace(&self, wanted: u64) -> Result<Shared, InferError> {
        let inner = &self.0;
        let mut held = inner.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.images_at_a_time();
        if let Some(workspace) = held.as_ref().filter(|workspace| workspace.images >= wanted.min(most)) {
            return Ok(Arc::clone(workspace));
        }
        // Let go of before the larger ones are made: both may not fit.
        *held = None;
        let mut images = wanted.max(LEAST_IMAGES).checked_next_power_of_two().unwrap_or(most).min(most);
        loop {
            let made = inner.engine.afford(self.bytes_for(images));
            match made.and_then(|()| Workspace::new(&inner.engine, &inner.model, images)) {
                Ok(made) => {
                    let made = Arc::new(made);
                    *held = Some(Arc::clone(&made));
                    return Ok(made);
                }
                Err(Trouble::Memory(reason)) if images > 1 => {
                    images /= 2;
                    inner.images.fetch_min(images, Ordering::Relaxed);
                    inner.engine.notice(format!("out of memory: {images} pictures at a time from now on ({reason})"));
                }
                Err(trouble) => return Err(inner.engine.error_of(trouble)),
            }
        }
    }

    /// Begins a run of at most [`GpuModel::images_at_a_time`] rows.
    fn begin_run(&self, parts: &[Part]) -> Result<Run, InferError> {
        let inner = &self.0;
        inner.engine.check()?;
        let count: usize = parts.iter().map(|part| part.count).sum();
        let images = u32::try_from(count).map_err(|_| InferError::Input("too many rows".into()))?;
        let workspace = self.workspace(u64::from(images))?;
        if u64::from(images) > workspace.images {
            return Err(device_error(format!("only {} pictures fit its memory at a time", workspace.images), true));
        }
        let mut slot =
            workspace.slot(&inner.engine, &inner.model).map_err(|trouble| self.no_slot(&workspace, trouble))?;
        let submitted = self.submit(&workspace, &mut slot, parts, images);
        match submitted {
            Ok((submission, results)) => {
                Ok(Run { model: self.clone(), workspace, slot: Some(slot), submission, results, count })
            }
            Err(error) => {
                // The slot's buffers are in no known state; the next run gets new ones.
                *inner.workspace.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(error)
            }
        }
    }

    /// What to do where a run's own buffers cannot be made: the next run has fewer pictures.
    fn no_slot(&self, workspace: &Workspace, trouble: Trouble) -> InferError {
        let inner = &self.0;
        if matches!(trouble, Trouble::Memory(_)) && workspace.images > 1 {
            let images = workspace.images / 2;
            inner.images.fetch_min(images, Ordering::Relaxed);
            inner.engine.notice(format!("out of memory: {images} pictures at a time from now on"));
        }
        *inner.workspace.lock().unwrap_or_else(PoisonError::into_inner) = None;
        inner.engine.error_of(trouble)
    }

    fn submit(
        &self,
        workspace: &Workspace,
        slot: &mut Slot,
        parts: &[Part],
        images: u32,
    ) -> Result<(wgpu::SubmissionIndex, Results), InferError> {
        let (engine, model) = (&self.0.engine, &self.0.model);
        slot.ready()?;
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (at, (upload, input)) in slot.uploads.iter().zip(&slot.inputs).enumerate() {
            let bytes = fill(engine, upload, parts, at)?;
            encoder.copy_buffer_to_buffer(upload, 0, input, 0, Some(bytes));
        }
        slot.unmap();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (at, dispatch) in model.dispatches.iter().enumerate() {
                dispatch.record(engine, &mut pass, workspace.group(at, slot), images);
            }
        }
        let mut end = 0;
        for output in &model.graph.outputs {
            let bytes = u64::from(images) * 4 * stored_len(model.graph.values[output.value]) as u64;
            encoder.copy_buffer_to_buffer(workspace.value(model, output.value), 0, &slot.results, end, Some(bytes));
            end += bytes;
        }
        // All that can fail in one scope, so that no other run is told of it.
        let submitted = engine.attempt(|| {
            engine.write(&slot.run, bytemuck::bytes_of(&[images, 0, 0, 0]));
            engine.queue.submit([encoder.finish()])
        });
        let submission = submitted.map_err(|trouble| engine.error_of(trouble))?;
        let results = Results { mapping: map(slot.results.slice(..end), wgpu::MapMode::Read), bytes: end };
        slot.remap();
        Ok((submission, results))
    }

    /// The rows of all outputs as the results hold them.
    fn read(&self, stored: &[f32], count: usize) -> Result<Vec<Tensor>, InferError> {
        let graph = &self.0.model.graph;
        let mut rest = stored;
        let mut tensors = Vec::with_capacity(graph.outputs.len());
        for output in &graph.outputs {
            let dims = graph.values[output.value];
            let (mine, others) = rest.split_at(count * stored_len(dims));
            rest = others;
            let mut all = Vec::with_capacity(count * dims.len());
            let mut picture = Vec::with_capacity(dims.len());
            for stored in mine.chunks(stored_len(dims)) {
                picture.clear();
                dense(dims, stored, &mut picture);
                output.arrange(dims, &picture, &mut all);
            }
            let shape = std::iter::once(count).chain(output.shape.iter().copied()).collect();
            let made = match output.port.element {
                // Places, which are whole and not negative.
                #[expect(clippy::cast_possible_truncation, reason = "below 2^24")]
                Element::I64 => Tensor::from_i64(shape, all.into_iter().map(|place| place as i64).collect()),
                _ => Tensor::from_f32(shape, all),
            };
            tensors.push(made.map_err(|error| device_error(error.to_string(), false))?);
        }
        Ok(tensors)
    }
}

/// Results on their way back.
struct Results {
    mapping: std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
    bytes: u64,
}

/// A run on the device.
struct Run {
    model: GpuModel,
    workspace: Shared,
    slot: Option<Slot>,
    submission: wgpu::SubmissionIndex,
    results: Results,
    count: usize,
}

impl Run {
    fn results(&mut self) -> Result<Vec<Tensor>, InferError> {
        let engine = self.model.engine();
        engine.wait(self.submission.clone())?;
        mapped(&self.results.mapping)?;
        let Some(slot) = self.slot.take() else {
            return Err(device_error("a run is read twice; this is a bug".into(), false));
        };
        let view = slot.results.get_mapped_range(..self.results.bytes);
        let view = view.map_err(|error| engine.error_of(Trouble::Other(error.to_string())))?;
        let made = self.model.read(bytemuck::cast_slice(&view), self.count);
        drop(view);
        slot.results.unmap();
        self.workspace.give_back(slot);
        made
    }
}

impl Running for Run {
    fn finish(mut self: Box<Self>) -> Result<Vec<Tensor>, InferError> {
        self.results()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            // Its slot is lost with it: later runs must not find one too few.
            *self.model.0.workspace.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// Refuses outputs in which numbers that 16 bits did not hold have left their trace.
pub(super) fn accept(outputs: &[Tensor], halves: bool) -> Result<(), InferError> {
    if halves && !all_finite(outputs) { Err(overflowed()) } else { Ok(()) }
}

fn all_finite(tensors: &[Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.f32().is_none_or(|numbers| numbers.iter().all(|n| n.is_finite())))
}

fn overflowed() -> InferError {
    let reason = "a result is infinite or not a number: the model's numbers may not fit 16-bit floats, or its input had none\n\
                  hint: run it with 32-bit floats: `--precision single`";
    device_error(reason.into(), false)
}

/// Writes the rows of input `at` into its mapped buffer, and answers how many bytes the device must copy.
fn fill(engine: &Engine, upload: &wgpu::Buffer, parts: &[Part], at: usize) -> Result<u64, InferError> {
    let input = |error: crate::tensor::TensorError| InferError::Input(error.to_string());
    let view = upload.get_mapped_range_mut(..);
    let mut view = view.map_err(|error| engine.error_of(Trouble::Other(error.to_string())))?;
    let mut end = 0;
    for part in parts {
        let rows = part.inputs[at].slice(part.start, part.count).map_err(input)?;
        let bytes: &[u8] = match (rows.u8(), rows.f32()) {
            (Some(bytes), _) => bytes,
            (_, Some(numbers)) => bytemuck::cast_slice(numbers),
            _ => return Err(InferError::Input("inputs are floats or bytes".into())),
        };
        view.slice(end..end + bytes.len()).copy_from_slice(bytes);
        end += bytes.len();
    }
    // Copies go by whole words; buffers are longer than a last word that is not full.
    Ok((end as u64).next_multiple_of(4))
}

impl Joined for GpuModel {
    fn rows_at_a_time(&self) -> usize {
        usize::try_from(self.images_at_a_time()).unwrap_or(usize::MAX)
    }

    fn begin(&self, parts: &[Part<'_>]) -> Result<Box<dyn Running>, InferError> {
        Ok(Box::new(self.begin_run(parts)?))
    }

    fn accept(&self, outputs: &[Tensor]) -> Result<(), InferError> {
        // Values that 16 bits do not hold become infinite on the way.
        accept(outputs, self.keeps_halves())
    }
}

impl Model for GpuModel {
    fn inputs(&self) -> &[Port] {
        &self.0.model.graph.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.0.model.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        crate::infer::check_inputs(self.inputs(), inputs)?;
        let rows = inputs.first().map_or(0, Tensor::rows);
        if inputs.iter().any(|input| input.rows() != rows) {
            return Err(InferError::Input("the inputs differ in their number of rows".into()));
        }
        if rows == 0 {
            return self.read(&[], 0);
        }
        let (mut done, mut begun, mut start) = (Vec::new(), None::<Run>, 0);
        while start < rows || begun.is_some() {
            // One is begun before the one before it is waited for.
            let next = if start < rows {
                let most = usize::try_from(self.workspace((rows - start) as u64)?.images).unwrap_or(usize::MAX);
                let part = Part { inputs, start, count: (rows - start).min(most) };
                start += part.count;
                Some(self.begin_run(&[part])?)
            } else {
                None
            };
            if let Some(mut run) = std::mem::replace(&mut begun, next) {
                done.push(run.results()?);
            }
        }
        let joined = |at: usize| {
            let parts: Vec<Tensor> = done.iter().map(|outputs| outputs[at].clone()).collect();
            Tensor::concatenate(&parts).map_err(|error| device_error(error.to_string(), false))
        };
        let outputs: Vec<Tensor> = (0..self.outputs().len()).map(joined).collect::<Result<_, _>>()?;
        self.accept(&outputs)?;
        Ok(outputs)
    }
}

impl Compiled {
    /// Bytes of one picture's results; outputs are kept in 32 bits.
    pub(super) fn result_bytes(&self) -> u64 {
        self.graph.outputs.iter().map(|output| 4 * stored_len(self.graph.values[output.value]) as u64).sum()
    }
}

/// The kernel for `step`: of the fastest family that passed and can do it here, in the form that tuning found or the first.
fn choose(engine: &Engine, layout: Layout, step: &Step, families: &[Family]) -> Result<Choice, String> {
    let candidates = Family::candidates(&step.operation);
    for &family in candidates.iter().filter(|family| families.contains(family)) {
        let forms = kernel::variants(layout, step, family, &engine.abilities);
        let Some(&first) = forms.first() else { continue };
        let untuned = Choice { family, variant: first };
        if forms.len() == 1 || engine.tuning.is_empty() {
            return Ok(untuned);
        }
        let source = kernel::kernel_text(layout, step, untuned, &engine.abilities)?;
        let tuned = engine.tuning.form(&source).and_then(|name| forms.iter().find(|form| form.to_string() == name));
        return Ok(Choice { family, variant: tuned.copied().unwrap_or(first) });
    }
    let names: Vec<String> = candidates.iter().map(|family| format!("`{}`", family.entry())).collect();
    Err(format!("the kernels {} failed their self-test on this adapter, or need what it has not", names.join(", ")))
}

/// Whether the weights of `step` are within the range of 16-bit floats.
fn fits_halves(step: &Step) -> bool {
    let Operation::Conv(conv) = &step.operation else { return true };
    let second = conv.shortcut.iter().flat_map(|second| second.weights.iter());
    conv.weights.iter().chain(second).all(|&w| !w.is_finite() || w.abs() <= half::f16::MAX.to_f32())
}

/// A stored picture without the channels that fill up its quads.
pub(super) fn dense(dims: Dims, stored: &[f32], all: &mut Vec<f32>) {
    stored.chunks(quads(dims.channels) * 4).for_each(|pixel| all.extend_from_slice(&pixel[..dims.channels]));
}

/// Bytes of one row of an input.
pub(super) fn port_bytes(port: &Port) -> u64 {
    let numbers: usize = port.shape.iter().skip(1).map(|n| n.unwrap_or(1)).product();
    numbers as u64 * if port.element == Element::U8 { 1 } else { 4 }
}

/// Bytes of each buffer for one picture: values, and each slot's inputs and results.
fn bytes_per_image(layout: Layout, plan: &Plan) -> Vec<u64> {
    let graph = layout.graph;
    let values = plan.buffers.iter().map(|&bytes| bytes as u64);
    let results = graph.outputs.iter().map(|output| 4 * stored_len(graph.values[output.value]) as u64);
    let own: Vec<u64> = graph.inputs.iter().map(port_bytes).flat_map(|n| [n, n]).chain([results.sum()]).collect();
    values.chain(own.into_iter().flat_map(|n| [n; SLOTS])).collect()
}

fn unsupported(step: &Step, reason: String) -> InferError {
    let operation = Family::candidates(&step.operation).first().map_or("", |family| family.entry()).to_owned();
    InferError::Unsupported { backend: "gpu", node: step.node.clone(), operation, reason }
}

impl Dispatch {
    /// Compiles `kernel`, unless `pipelines` has the same text already: most layers of a ResNet come several times.
    pub(super) fn new(
        engine: &Engine,
        kernel: Kernel,
        pipelines: &mut HashMap<String, Pipeline>,
    ) -> Result<Self, InferError> {
        let choice = Choice { family: kernel.family, variant: kernel.variant };
        let pipeline = match pipelines.get(&kernel.source) {
            Some(pipeline) => pipeline.clone(),
            None => {
                let made = engine.compile(&kernel).map_err(|trouble| engine.error_of(trouble))?;
                pipelines.insert(kernel.source.clone(), made.clone());
                made
            }
        };
        let upload = |label, bytes: &[u8]| (!bytes.is_empty()).then(|| engine.upload(label, bytes));
        let constants: &[u8] = bytemuck::cast_slice(&kernel.constants);
        let (constants, weights) = engine
            .attempt(|| (upload("constants", constants), upload("weights", &kernel.weights)))
            .map_err(|trouble| engine.error_of(trouble))?;
        Ok(Self { pipeline, choice, constants, weights, operands: kernel.operands, grid: kernel.grid })
    }

    /// Writes this step of a run into `pass`.
    pub(super) fn record(
        &self,
        engine: &Engine,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        images: u32,
    ) {
        let grid = self.grid.workgroups(u64::from(images), engine.room().workgroups);
        let [x, y, z] = grid.expect("a micro-batch was cut to fit; this is a bug");
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}
