//! A graph on a device: compiled once, run on micro-batches.
//!
//! What goes in: a [`Graph`] and an [`Engine`], then tensors. What comes out: tensors, in the file's order. Running is a
//! loop over dispatches; which buffer, which kernel and how many pictures at a time has been decided before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::graph::plan::{Plan, plan};
use super::super::graph::{Dims, Graph, Operation, Source, Step};
use super::engine::{Engine, Pipeline, Trouble, device_error};
use super::kernel::{self, Family, Grid, Kernel, binding, quads, stored_len};
use super::memory::{Needs, images_at_a_time};
use crate::infer::{InferError, Model, Port};
use crate::tensor::{Element, Tensor};

/// How many times a device's budget a model's weights may take; the largest ResNets take a quarter of one.
const WEIGHT_BUDGETS: u64 = 8;

/// A model on a device.
pub(super) struct GpuModel {
    engine: Arc<Engine>,
    graph: Graph,
    plan: Plan,
    dispatches: Vec<Dispatch>,
    outputs: Vec<Port>,
    /// Pictures at a time: what the device's limits allow, halved whenever it was out of memory.
    images: AtomicU64,
    /// One run at a time: its buffers are the only ones.
    workspace: Mutex<Option<Workspace>>,
}

/// A step, compiled and with its numbers on the device.
struct Dispatch {
    pipeline: Pipeline,
    constants: Option<wgpu::Buffer>,
    weights: Option<wgpu::Buffer>,
    operands: Vec<usize>,
    grid: Grid,
}

/// Buffers for some pictures, and the bind groups that name them.
struct Workspace {
    images: u64,
    run: wgpu::Buffer,
    inputs: Vec<wgpu::Buffer>,
    buffers: Vec<wgpu::Buffer>,
    staging: wgpu::Buffer,
    bind_groups: Vec<wgpu::BindGroup>,
}

impl GpuModel {
    /// Compiles every step of `graph` with the fastest of `families` that can do it.
    pub(super) fn compile(engine: Arc<Engine>, mut graph: Graph, families: &[Family]) -> Result<Self, InferError> {
        engine.check()?;
        let plan = plan(&graph, stored_len);
        let mut pipelines = HashMap::new();
        let mut dispatches = Vec::with_capacity(graph.steps.len());
        let mut needs = Needs { per_image: bytes_per_image(&graph, &plan), ..Needs::default() };
        for step in &graph.steps {
            let refuse = |reason: String| unsupported(step, reason);
            let candidates = Family::candidates(&step.operation);
            let family = candidates.iter().find(|family| families.contains(family)).copied();
            let Some(family) = family else { return Err(refuse(switched_off(candidates))) };
            // Before they are packed, since packing allocates.
            let weights = 4 * kernel::packed_len(&graph, step, family);
            needs.fixed = needs.fixed.saturating_add(weights);
            if weights > engine.binding_bytes() || needs.fixed > WEIGHT_BUDGETS * engine.room().memory_bytes {
                return Err(refuse("its weights need more memory than the adapter has or the engine takes".into()));
            }
            let kernel = kernel::kernel(&graph, step, family).map_err(refuse)?;
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
            }
        }
        engine.check()?;
        let outputs = graph.outputs.iter().map(|output| output.port.clone()).collect();
        Ok(Self {
            engine,
            graph,
            plan,
            dispatches,
            outputs,
            images: AtomicU64::new(images),
            workspace: Mutex::new(None),
        })
    }

    /// Whether its device is gone for good.
    pub(super) fn is_lost(&self) -> bool {
        self.engine.is_lost()
    }

    /// Pictures at a time.
    #[cfg(test)]
    pub(super) fn images_at_a_time(&self) -> u64 {
        self.images.load(Ordering::Relaxed)
    }

    /// Pictures that the buffers at hand are for.
    #[cfg(test)]
    pub(super) fn images_held(&self) -> Option<u64> {
        self.workspace.lock().unwrap().as_ref().map(|workspace| workspace.images)
    }

    /// Buffers for `wanted` pictures, or for fewer if the device has no room.
    fn allocate(&self, wanted: u64) -> Result<Workspace, InferError> {
        let mut images = wanted;
        loop {
            match self.engine.attempt(|| self.workspace_for(images)) {
                Ok(made) => return Ok(made),
                Err(Trouble::Memory(_)) if images > 1 => {
                    images /= 2;
                    self.images.fetch_min(images, Ordering::Relaxed);
                }
                Err(trouble) => return Err(self.engine.error_of(trouble)),
            }
        }
    }

    fn workspace_for(&self, images: u64) -> Workspace {
        use wgpu::BufferUsages as Usage;
        let engine = &self.engine;
        let storage = |n: usize| engine.buffer("values", images * 4 * n as u64, Usage::STORAGE | Usage::COPY_SRC);
        let buffers: Vec<_> = self.plan.buffers.iter().map(|&n| storage(n)).collect();
        let input = |port: &Port| engine.buffer("input", images * port_bytes(port), Usage::STORAGE | Usage::COPY_DST);
        let inputs: Vec<_> = self.graph.inputs.iter().map(input).collect();
        let staging_bytes: u64 =
            self.graph.outputs.iter().map(|o| images * 4 * stored_len(self.graph.values[o.value]) as u64).sum();
        let staging = engine.buffer("results", staging_bytes, Usage::MAP_READ | Usage::COPY_DST);
        let run = engine.buffer("run", 16, Usage::UNIFORM | Usage::COPY_DST);
        let mut made = Workspace { images, run, inputs, buffers, staging, bind_groups: Vec::new() };
        made.bind_groups =
            self.graph.steps.iter().zip(&self.dispatches).map(|(step, d)| self.bind(step, d, &made)).collect();
        made
    }

    fn value_buffer<'a>(&self, workspace: &'a Workspace, value: usize) -> &'a wgpu::Buffer {
        let at = self.plan.buffer_of[value].expect("every value that is read has been written; this is a bug");
        &workspace.buffers[at]
    }

    fn bind(&self, step: &Step, dispatch: &Dispatch, workspace: &Workspace) -> wgpu::BindGroup {
        let source = |at: usize| match step.inputs[at] {
            Source::Input(input) => &workspace.inputs[input],
            Source::Value(value) => self.value_buffer(workspace, value),
        };
        let mut bound = vec![
            (binding::RUN, &workspace.run),
            (binding::SOURCE, source(0)),
            (binding::OUTPUT, self.value_buffer(workspace, step.output)),
        ];
        bound.extend(dispatch.constants.as_ref().map(|buffer| (binding::CONSTANTS, buffer)));
        bound.extend(dispatch.weights.as_ref().map(|buffer| (binding::WEIGHTS, buffer)));
        bound.extend((step.inputs.len() > 1).then(|| (binding::SECOND, source(1))));
        let operands = dispatch.operands.iter().map(|&value| self.value_buffer(workspace, value));
        bound.extend((binding::OPERANDS..).zip(operands));
        let entries: Vec<_> = bound
            .into_iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        self.engine.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&step.node),
            layout: &dispatch.pipeline.layout,
            entries: &entries,
        })
    }

    /// Runs rows `start` to `start + count` of `inputs` and appends each output's rows to `all`.
    fn run_some(
        &self,
        workspace: &Workspace,
        inputs: &[Tensor],
        rows: (usize, usize),
        all: &mut [Vec<f32>],
    ) -> Result<(), InferError> {
        let (start, count) = rows;
        let engine = &self.engine;
        for (buffer, tensor) in workspace.inputs.iter().zip(inputs) {
            let part = tensor.slice(start, count).map_err(|error| InferError::Input(error.to_string()))?;
            match (part.u8(), part.f32()) {
                (Some(bytes), _) => engine.write(buffer, bytes),
                (_, Some(numbers)) => engine.write(buffer, bytemuck::cast_slice(numbers)),
                _ => return Err(InferError::Input("inputs are floats or bytes".into())),
            }
        }
        let images = u32::try_from(count).map_err(|_| InferError::Input("too many rows".into()))?;
        engine.write(&workspace.run, bytemuck::bytes_of(&[images, 0, 0, 0]));
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (dispatch, group) in self.dispatches.iter().zip(&workspace.bind_groups) {
                let grid = dispatch.grid.workgroups(u64::from(images), engine.room().workgroups);
                let [x, y, z] = grid.expect("a micro-batch was cut to fit; this is a bug");
                pass.set_pipeline(&dispatch.pipeline.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let mut end = 0;
        for output in &self.graph.outputs {
            let bytes = u64::from(images) * 4 * stored_len(self.graph.values[output.value]) as u64;
            encoder.copy_buffer_to_buffer(
                self.value_buffer(workspace, output.value),
                0,
                &workspace.staging,
                end,
                Some(bytes),
            );
            end += bytes;
        }
        engine.submit_and_read(encoder.finish(), &workspace.staging, end, |stored| {
            let mut rest = stored;
            for (output, all) in self.graph.outputs.iter().zip(all) {
                let dims = self.graph.values[output.value];
                let (mine, others) = rest.split_at(count * stored_len(dims));
                rest = others;
                let mut picture = Vec::with_capacity(dims.len());
                for stored in mine.chunks(stored_len(dims)) {
                    picture.clear();
                    dense(dims, stored, &mut picture);
                    output.arrange(dims, &picture, all);
                }
            }
        })
    }
}

fn switched_off(candidates: &[Family]) -> String {
    let names: Vec<String> = candidates.iter().map(|family| format!("`{}`", family.entry())).collect();
    format!("the kernels {} failed their self-test on this adapter", names.join(", "))
}

/// A stored picture without the channels that fill up its quads.
fn dense(dims: Dims, stored: &[f32], all: &mut Vec<f32>) {
    stored.chunks(quads(dims.channels) * 4).for_each(|pixel| all.extend_from_slice(&pixel[..dims.channels]));
}

fn port_bytes(port: &Port) -> u64 {
    let numbers: usize = port.shape.iter().skip(1).map(|n| n.unwrap_or(1)).product();
    numbers as u64 * if port.element == Element::U8 { 1 } else { 4 }
}

/// Bytes of each buffer for one picture: values, inputs, and the results that are read back.
fn bytes_per_image(graph: &Graph, plan: &Plan) -> Vec<u64> {
    let values = plan.buffers.iter().map(|&n| 4 * n as u64);
    let results = graph.outputs.iter().map(|output| 4 * stored_len(graph.values[output.value]) as u64);
    values.chain(graph.inputs.iter().map(port_bytes)).chain(results).collect()
}

fn unsupported(step: &Step, reason: String) -> InferError {
    let operation = Family::candidates(&step.operation).first().map_or("", |family| family.entry()).to_owned();
    InferError::Unsupported { backend: "gpu", node: step.node.clone(), operation, reason }
}

impl Dispatch {
    /// Compiles `kernel`, unless `pipelines` has the same text already: most layers of a ResNet come several times.
    fn new(engine: &Engine, kernel: Kernel, pipelines: &mut HashMap<String, Pipeline>) -> Result<Self, InferError> {
        let pipeline = match pipelines.get(&kernel.source) {
            Some(pipeline) => pipeline.clone(),
            None => {
                let made = engine.compile(&kernel).map_err(|trouble| engine.error_of(trouble))?;
                pipelines.insert(kernel.source.clone(), made.clone());
                made
            }
        };
        let upload = |label, numbers: &[f32]| (!numbers.is_empty()).then(|| engine.upload(label, numbers));
        let (constants, weights) = engine
            .attempt(|| (upload("constants", &kernel.constants), upload("weights", &kernel.weights)))
            .map_err(|trouble| engine.error_of(trouble))?;
        Ok(Self { pipeline, constants, weights, operands: kernel.operands, grid: kernel.grid })
    }
}

impl Model for GpuModel {
    fn inputs(&self) -> &[Port] {
        &self.graph.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        crate::infer::check_inputs(&self.graph.inputs, inputs)?;
        let rows = inputs.first().map_or(0, Tensor::rows);
        if inputs.iter().any(|input| input.rows() != rows) {
            return Err(InferError::Input("the inputs differ in their number of rows".into()));
        }
        self.engine.check()?;
        let mut held = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Vec<f32>> = vec![Vec::new(); self.outputs.len()];
        let wanted = self.images.load(Ordering::Relaxed).min(rows as u64);
        // Taken out, so that a failure leaves no half-used buffers behind.
        let mut workspace = held.take().filter(|workspace| workspace.images >= wanted);
        let mut start = 0;
        while start < rows {
            let ready = match workspace.take() {
                Some(ready) => ready,
                None => self.allocate(wanted)?,
            };
            let count = (rows - start).min(usize::try_from(ready.images).unwrap_or(usize::MAX));
            self.run_some(&ready, inputs, (start, count), &mut all)?;
            start += count;
            workspace = Some(ready);
        }
        *held = workspace;
        let tensor = |(output, numbers): (&super::super::graph::Output, Vec<f32>)| {
            let shape = std::iter::once(rows).chain(output.shape.iter().copied()).collect();
            Tensor::from_f32(shape, numbers).map_err(|error| device_error(error.to_string(), false))
        };
        self.graph.outputs.iter().zip(all).map(tensor).collect()
    }
}
