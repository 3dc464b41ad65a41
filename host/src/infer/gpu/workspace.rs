//! The buffers that a model runs in: values, which runs share since the device does one run after another, and slots,
//! each with what one run needs for itself while its neighbours are under way.
//!
//! ```text
//! host ── upload (mapped) ──copy── input ── steps on the values ── output ──copy── results (mapped) ── host
//! ```

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::graph::Source;
use super::engine::{Engine, Trouble, mapped};
use super::kernel::binding;
use super::model::{Compiled, Dispatch};
use crate::infer::InferError;

/// Runs under way: one on the device, one that waits behind it, and one that the host fills or reads.
pub(super) const SLOTS: usize = 3;

type Mapped = Receiver<Result<(), wgpu::BufferAsyncError>>;

/// Buffers for some pictures.
pub(super) struct Workspace {
    pub(super) images: u64,
    pub(super) values: Vec<wgpu::Buffer>,
    free: Mutex<Vec<Slot>>,
}

/// What one run has for itself.
pub(super) struct Slot {
    /// How many pictures the run has.
    pub(super) run: wgpu::Buffer,
    pub(super) uploads: Vec<wgpu::Buffer>,
    pub(super) inputs: Vec<wgpu::Buffer>,
    pub(super) results: wgpu::Buffer,
    groups: Vec<wgpu::BindGroup>,
    /// The mapping of `uploads` that was asked for when the slot was last used.
    remapped: Vec<Mapped>,
}

impl Workspace {
    /// Buffers for `images` pictures.
    pub(super) fn new(engine: &Engine, model: &Compiled, images: u64) -> Result<Self, Trouble> {
        engine.attempt(|| {
            use wgpu::BufferUsages as Usage;
            let value =
                |&bytes: &usize| engine.buffer("values", images * bytes as u64, Usage::STORAGE | Usage::COPY_SRC);
            let values: Vec<_> = model.plan.buffers.iter().map(value).collect();
            Self { images, values, free: Mutex::default() }
        })
    }

    /// A slot that no run uses; a new one if there is none.
    pub(super) fn slot(&self, engine: &Engine, model: &Compiled) -> Result<Slot, Trouble> {
        if let Some(slot) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(slot);
        }
        engine.attempt(|| {
            let mut slot = Slot::new(engine, model, self.images);
            let group = |(at, dispatch)| self.bind(engine, model, at, dispatch, &slot);
            slot.groups = model.dispatches.iter().enumerate().map(group).collect();
            slot
        })
    }

    /// Gives a slot back, whose run is over.
    pub(super) fn give_back(&self, slot: Slot) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    /// The bind group of step `at` for a run in `slot`.
    pub(super) fn group<'a>(&self, at: usize, slot: &'a Slot) -> &'a wgpu::BindGroup {
        &slot.groups[at]
    }

    /// The buffer of a value.
    pub(super) fn value(&self, model: &Compiled, value: usize) -> &wgpu::Buffer {
        let at = model.plan.buffer_of[value].expect("every value that is read has been written; this is a bug");
        &self.values[at]
    }

    /// A bind group for step `at`, done by `dispatch`, in `slot`.
    pub(super) fn bind(
        &self,
        engine: &Engine,
        model: &Compiled,
        at: usize,
        dispatch: &Dispatch,
        slot: &Slot,
    ) -> wgpu::BindGroup {
        let step = &model.graph.steps[at];
        let source = |at: usize| match step.inputs[at] {
            Source::Input(input) => &slot.inputs[input],
            Source::Value(value) => self.value(model, value),
        };
        let mut bound = vec![
            (binding::RUN, &slot.run),
            (binding::SOURCE, source(0)),
            (binding::OUTPUT, self.value(model, step.output)),
        ];
        bound.extend(dispatch.constants.as_ref().map(|buffer| (binding::CONSTANTS, buffer)));
        bound.extend(dispatch.weights.as_ref().map(|buffer| (binding::WEIGHTS, buffer)));
        bound.extend((step.inputs.len() > 1).then(|| (binding::SECOND, source(1))));
        let operands = dispatch.operands.iter().map(|&value| self.value(model, value));
        bound.extend((binding::OPERANDS..).zip(operands));
        let entries: Vec<_> = bound
            .into_iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        engine.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&step.node),
            layout: &dispatch.pipeline.layout,
            entries: &entries,
        })
    }
}

impl Slot {
    fn new(engine: &Engine, model: &Compiled, images: u64) -> Self {
        use wgpu::BufferUsages as Usage;
        let inputs = &model.graph.inputs;
        let upload = |port| engine.mapped_buffer("upload", images * super::model::port_bytes(port));
        let uploads = inputs.iter().map(upload).collect();
        let input =
            |port| engine.buffer("input", images * super::model::port_bytes(port), Usage::STORAGE | Usage::COPY_DST);
        let inputs = inputs.iter().map(input).collect();
        let results = engine.buffer("results", images * model.result_bytes(), Usage::MAP_READ | Usage::COPY_DST);
        let run = engine.buffer("run", 16, Usage::UNIFORM | Usage::COPY_DST);
        Self { run, uploads, inputs, results, groups: Vec::new(), remapped: Vec::new() }
    }

    /// Waits until the host can write to `uploads`, which it almost always can.
    pub(super) fn ready(&mut self) -> Result<(), InferError> {
        self.remapped.drain(..).try_for_each(|receiver| mapped(&receiver))
    }

    /// Lets go of `uploads`, so that the device can copy from them.
    pub(super) fn unmap(&self) {
        self.uploads.iter().for_each(wgpu::Buffer::unmap);
    }

    /// Asks for `uploads` again, which the run that was just submitted reads.
    pub(super) fn remap(&mut self) {
        self.remapped = self.uploads.iter().map(|buffer| map(buffer.slice(..), wgpu::MapMode::Write)).collect();
    }
}

/// Asks for a mapping, whose coming the receiver tells.
pub(super) fn map(slice: wgpu::BufferSlice<'_>, mode: wgpu::MapMode) -> Mapped {
    let (sender, receiver) = channel();
    slice.map_async(mode, move |result| {
        // The receiver is gone only if the call has failed in another way.
        let _ = sender.send(result);
    });
    receiver
}

/// A workspace, for as long as a run needs it.
pub(super) type Shared = Arc<Workspace>;
