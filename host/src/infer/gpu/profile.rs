//! What a model's steps take on the device, and which form of each kernel takes the least.
//!
//! What goes in: a graph with its weights. What comes out: times by step, for people; or a table for [`tuning`].

use std::collections::HashMap;
use std::sync::Arc;

use super::super::graph::Graph;
use super::cases::Numbers;
use super::engine::{Engine, device_error, mapped};
use super::kernel::{self, Choice, Layout};
use super::model::{Dispatch, GpuModel, Recipe};
use super::tuning::Tuning;
use super::workspace::{Slot, Workspace, map};
use super::{selftest, timing};
use crate::infer::{InferError, Model, Port, Precision};
use crate::tensor::{Element, Tensor};

/// What the steps of a graph take.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Profile {
    /// One for each step, in order.
    pub steps: Vec<StepProfile>,
    /// Pictures in each run.
    pub images: usize,
    /// Bytes on the device for so many pictures, without the weights.
    pub device_bytes: u64,
    /// Bytes of all weights on the device.
    pub weight_bytes: u64,
    /// For each value of the graph, bytes of one number.
    pub bytes_per_number: Vec<usize>,
}

/// What one step takes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StepProfile {
    /// The name of the file's node.
    pub node: String,
    /// The kernel and its form.
    pub kernel: String,
    /// In how many bits it reads its values and keeps its weights.
    pub precision: Precision,
    /// The median of the runs; absent where the device has no clock.
    pub nanoseconds: Option<f64>,
}

/// What tuning found for one kernel.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Tuned {
    /// The first step that uses the kernel.
    pub node: String,
    /// How many forms were tried, and how many of these gave wrong results.
    pub tried: (usize, usize),
    /// The form that was chosen, and the one that is taken untuned.
    pub form: String,
    /// The same of the untuned one.
    pub untuned: String,
    /// Nanoseconds of both, the chosen one's first.
    pub nanoseconds: (f64, f64),
}

/// How much faster than the untuned form one must be to be taken: less is noise.
const GAIN: f64 = 0.97;

/// The longest forms that are tried on a software adapter, whose compiler takes seconds for longer ones.
const SOFTWARE_PRODUCTS: usize = 8;

/// Runs of each form of a kernel.
const RUNS: usize = 5;

/// Pictures in each run when tuning. One number for each kind of adapter, since forms are not chosen by batch.
pub(super) fn tuning_images(engine: &Engine) -> u64 {
    if engine.report.is_software() { 2 } else { engine.room().images }
}

/// Random inputs for `rows` pictures: zeros would be multiplied faster.
fn inputs(ports: &[Port], rows: usize) -> Result<Vec<Tensor>, InferError> {
    let mut numbers = Numbers::new(9);
    let mut input = |port: &Port| {
        let shape: Vec<usize> = std::iter::once(rows).chain(port.shape[1..].iter().map(|n| n.unwrap_or(1))).collect();
        let count = shape.iter().product();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
        match port.element {
            Element::U8 => Tensor::from_u8(shape, (0..count).map(|_| (numbers.next() * 127.0 + 128.0) as u8).collect()),
            _ => Tensor::from_f32(shape, numbers.list(count)),
        }
        .map_err(|error| device_error(error.to_string(), false))
    };
    ports.iter().map(&mut input).collect()
}

impl GpuModel {
    /// The time of every step for `images` pictures, over `runs` runs.
    pub(super) fn profile(&self, images: usize, runs: usize) -> Result<Profile, InferError> {
        let (engine, model) = (self.engine(), self.compiled());
        let images = images.clamp(1, usize::try_from(self.images_at_a_time()).unwrap_or(usize::MAX));
        let count = u32::try_from(images).map_err(|_| device_error("too many pictures".into(), false))?;
        // After it, every buffer holds what the steps read in earnest.
        self.run(&inputs(self.inputs(), images)?)?;
        let (workspace, slot) = self.quiet(count)?;
        let times = timing::passes(engine, model.dispatches.len(), runs, |at, pass| {
            model.dispatches[at].record(engine, pass, workspace.group(at, &slot), count);
        });
        workspace.give_back(slot);
        let times = times?;
        let layout = Layout { graph: &model.graph, stored: &model.stored };
        let step = |(at, step): (usize, &super::super::graph::Step)| {
            let choice = model.dispatches[at].choice;
            StepProfile {
                node: step.node.clone(),
                kernel: format!("{} {}", choice.family.entry(), choice.variant).trim_end().to_owned(),
                precision: layout.precision(step),
                nanoseconds: times.as_ref().map(|times| times[at]),
            }
        };
        Ok(Profile {
            steps: model.graph.steps.iter().enumerate().map(step).collect(),
            images,
            device_bytes: self.bytes_for(images as u64),
            weight_bytes: model.weight_bytes,
            bytes_per_number: model.stored.iter().map(|stored| stored.bytes()).collect(),
        })
    }

    /// A workspace and a slot that nobody else uses, for runs of `count` pictures.
    pub(super) fn quiet(&self, count: u32) -> Result<(Arc<Workspace>, Slot), InferError> {
        let engine = self.engine();
        let workspace = self.workspace(u64::from(count))?;
        // Shaders believe what `run` says.
        if u64::from(count) > workspace.images {
            return Err(device_error(format!("only {} pictures fit its memory at a time", workspace.images), true));
        }
        let slot = workspace.slot(engine, self.compiled()).map_err(|trouble| engine.error_of(trouble))?;
        engine.write(&slot.run, bytemuck::bytes_of(&[count, 0, 0, 0]));
        Ok((workspace, slot))
    }
}

/// Times every form of every kernel of `graph`, checks its numbers, and answers what was found with a table that holds what
/// `known` did, too.
pub(super) fn tune(
    engine: &Arc<Engine>,
    graph: &Graph,
    recipe: Recipe,
    mut known: Tuning,
    tell: &mut dyn FnMut(&Tuned),
) -> Result<Tuning, InferError> {
    let untuned = |at: usize| {
        let stored = kernel::stored(graph, recipe.precision);
        let layout = Layout { graph, stored: &stored };
        let step = &graph.steps[at];
        let families = super::super::gpu::Family::candidates(&step.operation).iter();
        let mut forms = families.filter(|family| recipe.families.contains(family)).filter_map(|&family| {
            let mut forms = kernel::variants(layout, step, family, &engine.abilities);
            if engine.report.is_software() {
                let first = forms.first().copied();
                forms.retain(|&form| Some(form) == first || form.products() <= SOFTWARE_PRODUCTS);
            }
            (!forms.is_empty()).then_some((family, forms))
        });
        forms.next()
    };
    let first = |at: usize| untuned(at).map(|(family, forms)| Choice { family, variant: forms[0] });
    let model = GpuModel::compile_with(Arc::clone(engine), graph.clone(), recipe, first)?;
    let images = tuning_images(engine).min(model.images_at_a_time());
    let count = u32::try_from(images).map_err(|_| device_error("too many pictures".into(), false))?;
    model.run(&inputs(model.inputs(), count as usize)?)?;
    let (workspace, slot) = model.quiet(count)?;
    let bench = Bench { engine, graph, model: &model, workspace: &workspace, slot: &slot, count };
    let mut pipelines = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for at in 0..graph.steps.len() {
        let Some((family, forms)) = untuned(at) else { continue };
        let stored = &model.compiled().stored;
        let layout = Layout { graph, stored };
        let source =
            kernel::kernel_text(layout, &graph.steps[at], Choice { family, variant: forms[0] }, &engine.abilities);
        let source = source.map_err(|reason| device_error(reason, false))?;
        if forms.len() < 2 || !seen.insert(source.clone()) {
            continue;
        }
        let base = bench.form(at, Choice { family, variant: forms[0] }, &mut pipelines)?;
        let (mut best, mut wrong) = ((base.nanoseconds, forms[0]), 0);
        for &variant in &forms[1..] {
            // One that cannot be compiled here, or gives other numbers, is no choice.
            match bench.form(at, Choice { family, variant }, &mut pipelines) {
                Ok(made)
                    if selftest::largest_error(&made.numbers, &base.numbers)
                        <= selftest::tolerance(recipe.precision) =>
                {
                    if made.nanoseconds < best.0 && made.nanoseconds < base.nanoseconds * GAIN {
                        best = (made.nanoseconds, variant);
                    }
                }
                Ok(_) => wrong += 1,
                Err(error) if engine.is_lost() => return Err(error),
                Err(_) => wrong += 1,
            }
        }
        known.choose(&source, best.1.to_string());
        tell(&Tuned {
            node: graph.steps[at].node.clone(),
            tried: (forms.len(), wrong),
            form: best.1.to_string(),
            untuned: forms[0].to_string(),
            nanoseconds: (best.0, base.nanoseconds),
        });
    }
    workspace.give_back(slot);
    Ok(known)
}

/// Buffers that hold what every step of a graph reads.
struct Bench<'a> {
    engine: &'a Engine,
    graph: &'a Graph,
    model: &'a GpuModel,
    workspace: &'a Workspace,
    slot: &'a Slot,
    count: u32,
}

/// A form of a kernel, tried.
struct Tried {
    nanoseconds: f64,
    /// The results for the first picture.
    numbers: Vec<f32>,
}

impl Bench<'_> {
    fn form(
        &self,
        at: usize,
        choice: Choice,
        pipelines: &mut HashMap<String, super::engine::Pipeline>,
    ) -> Result<Tried, InferError> {
        let (engine, model) = (self.engine, self.model.compiled());
        let step = &self.graph.steps[at];
        let layout = Layout { graph: self.graph, stored: &model.stored };
        let kernel =
            kernel::kernel(layout, step, choice, &engine.abilities).map_err(|reason| device_error(reason, false))?;
        let dispatch = Dispatch::new(engine, kernel, pipelines)?;
        // Steps of other kernels have written over what this one reads; all must run again before its results count.
        let group = self.workspace.bind(engine, model, at, &dispatch, self.slot);
        let read = self.results(at, |earlier, pass| {
            if earlier == at {
                dispatch.record(engine, pass, &group, self.count);
            } else {
                model.dispatches[earlier].record(engine, pass, self.workspace.group(earlier, self.slot), self.count);
            }
        })?;
        let nanoseconds = timing::one(engine, RUNS, |pass| dispatch.record(engine, pass, &group, self.count))?;
        Ok(Tried { nanoseconds, numbers: read })
    }

    /// The first picture's results of step `at`, after all steps up to it.
    fn results(&self, at: usize, record: impl Fn(usize, &mut wgpu::ComputePass<'_>)) -> Result<Vec<f32>, InferError> {
        let value = self.graph.steps[at].output;
        self.model.read_value(self.workspace, value, 1, |pass| (0..=at).for_each(|step| record(step, pass)))
    }
}

impl GpuModel {
    /// The numbers of `value` as they are stored, for the first `images` pictures, after what `record` writes.
    pub(super) fn read_value(
        &self,
        workspace: &Workspace,
        value: usize,
        images: usize,
        record: impl Fn(&mut wgpu::ComputePass<'_>),
    ) -> Result<Vec<f32>, InferError> {
        let (engine, model) = (self.engine(), self.compiled());
        let (len, precision) = (images * kernel::stored_len(model.graph.values[value]), model.stored[value]);
        let bytes = (len * precision.bytes()) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let read =
            engine.attempt(|| engine.buffer("read", bytes, usage)).map_err(|trouble| engine.error_of(trouble))?;
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            record(&mut pass);
        }
        encoder.copy_buffer_to_buffer(workspace.value(model, value), 0, &read, 0, Some(bytes));
        let submission = engine.submit(encoder.finish())?;
        let mapping = map(read.slice(..bytes), wgpu::MapMode::Read);
        engine.wait(submission)?;
        mapped(&mapping)?;
        let view = read.get_mapped_range(..bytes).map_err(|error| device_error(error.to_string(), false))?;
        Ok(match precision {
            Precision::Single => bytemuck::cast_slice(&view).to_vec(),
            Precision::Half => view.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        })
    }
}
