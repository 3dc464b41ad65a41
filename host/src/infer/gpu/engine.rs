//! One open device: its queue, its limits and its failures. Compiles kernels, makes buffers, waits.
//! Knows nothing of graphs.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adapter::AdapterReport;
use super::block_on;
use super::kernel::{Kernel, binding};
use super::memory::Room;
use crate::infer::InferError;

/// Memory that one model's buffers may take on a real GPU; a few hundred pictures of a large ResNet.
const MEMORY_BYTES: u64 = 1 << 30;
/// The same on a software adapter, which takes it from this process.
const SOFTWARE_MEMORY_BYTES: u64 = 256 << 20;
/// Pictures at a time. Beyond it GPUs gain little, and one run takes long to answer.
const IMAGES: u64 = 256;
/// The same on a software adapter, where a picture takes seconds.
const SOFTWARE_IMAGES: u64 = 16;
/// A run that takes longer hangs: drivers give up after seconds themselves, but software adapters do not.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a failing device is given to say that it is lost.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// An open device.
pub(super) struct Engine {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) report: AdapterReport,
    limits: wgpu::Limits,
    failures: Arc<Mutex<Failures>>,
}

/// What a device reported outside any call.
#[derive(Default)]
struct Failures {
    lost: Option<String>,
    error: Option<String>,
}

/// What a device said about one piece of work.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Out of memory: less may fit.
    Memory(String),
    /// Anything else.
    Other(String),
}

/// A compiled kernel.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

impl Engine {
    pub(super) fn open(adapter: &wgpu::Adapter) -> Result<Self, InferError> {
        let report = AdapterReport::of(adapter);
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits.clone(), ..Default::default() };
        let opened = block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| InferError::Unavailable {
            backend: "gpu",
            reason: format!("`{}`: {error}", report.name),
        })?;
        let failures = Arc::new(Mutex::new(Failures::default()));
        let (lost, uncaught) = (Arc::clone(&failures), Arc::clone(&failures));
        device.set_device_lost_callback(move |reason, text| {
            let mut failures = lost.lock().unwrap_or_else(PoisonError::into_inner);
            failures
                .lost
                .get_or_insert_with(|| format!("the device is lost ({reason:?}) {text}").trim_end().to_owned());
        });
        // Without a handler of its own, wgpu panics.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut failures = uncaught.lock().unwrap_or_else(PoisonError::into_inner);
            failures.error.get_or_insert_with(|| error.to_string());
        }));
        Ok(Self { device, queue, report, limits, failures })
    }

    /// What a model may use of this device.
    pub(super) fn room(&self) -> Room {
        let software = self.report.is_software();
        Room {
            binding_bytes: self.binding_bytes(),
            memory_bytes: if software { SOFTWARE_MEMORY_BYTES } else { MEMORY_BYTES },
            workgroups: self.limits.max_compute_workgroups_per_dimension,
            images: if software { SOFTWARE_IMAGES } else { IMAGES },
        }
    }

    /// The largest buffer that a shader can see whole.
    pub(super) fn binding_bytes(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// Does `work`, and says what the device had against it.
    pub(super) fn attempt<T>(&self, work: impl FnOnce() -> T) -> Result<T, Trouble> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let done = work();
        let (internal, validation) = (block_on(internal.pop()), block_on(validation.pop()));
        match (block_on(memory.pop()), internal.or(validation)) {
            (Some(error), _) => Err(Trouble::Memory(error.to_string())),
            (None, Some(error)) => Err(Trouble::Other(error.to_string())),
            (None, None) => Ok(done),
        }
    }

    /// Fails if the device is lost, or failed since the last call.
    pub(super) fn check(&self) -> Result<(), InferError> {
        // A loss is noticed when the device is asked; nothing is waited for here.
        let _ = self.device.poll(wgpu::PollType::Poll);
        if let Some(reason) = self.failures().lost.clone() {
            return Err(device_error(reason, true));
        }
        let error = self.failures().error.take();
        error.map_or(Ok(()), |reason| Err(self.error_of(Trouble::Other(reason))))
    }

    /// `trouble` as an error: too little memory may pass, as other work ends; a refusal stays, unless a device that is
    /// being lost was its cause, which is known only once its last work has ended.
    pub(super) fn error_of(&self, trouble: Trouble) -> InferError {
        let _ = self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(LAST_WORDS) });
        match (self.failures().lost.clone(), trouble) {
            (Some(reason), _) | (None, Trouble::Memory(reason)) => device_error(reason, true),
            (None, Trouble::Other(reason)) => device_error(reason, false),
        }
    }

    /// Whether the device is gone for good.
    pub(super) fn is_lost(&self) -> bool {
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.failures().lost.is_some()
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles `kernel`.
    pub(super) fn compile(&self, kernel: &Kernel) -> Result<Pipeline, Trouble> {
        let entry = kernel.family.entry();
        self.attempt(|| {
            let source = wgpu::ShaderSource::Wgsl(kernel.source.as_str().into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(entry), source };
            let module = self.device.create_shader_module(descriptor);
            let entries: Vec<wgpu::BindGroupLayoutEntry> = kernel.bindings().into_iter().map(layout_entry).collect();
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(entry), entries: &entries };
            let layout = self.device.create_bind_group_layout(&descriptor);
            let bind_group_layouts = [Some(&layout)];
            let descriptor = wgpu::PipelineLayoutDescriptor {
                label: Some(entry),
                bind_group_layouts: &bind_group_layouts,
                immediate_size: 0,
            };
            let pipeline_layout = self.device.create_pipeline_layout(&descriptor);
            // Every kernel writes its workgroup memory before it reads it.
            let compilation_options =
                wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() };
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options,
                cache: None,
            });
            Pipeline { pipeline, layout }
        })
    }

    /// A buffer of `bytes`, at least one quad of numbers.
    pub(super) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let size = bytes.max(16).next_multiple_of(16);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A buffer that holds `numbers`.
    pub(super) fn upload(&self, label: &str, numbers: &[f32]) -> wgpu::Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        let buffer = self.buffer(label, bytes.len() as u64, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
        self.write(&buffer, bytes);
        buffer
    }

    /// Writes `bytes` to the beginning of `buffer`.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        // Copies go by whole words; buffers are longer than a last word that is not full.
        let (words, tail) = bytes.split_at(bytes.len() / 4 * 4);
        if !words.is_empty() {
            self.queue.write_buffer(buffer, 0, words);
        }
        if !tail.is_empty() {
            let mut word = [0; 4];
            word[..tail.len()].copy_from_slice(tail);
            self.queue.write_buffer(buffer, words.len() as u64, &word);
        }
    }

    /// Submits `commands` and waits until `staging` can be read; then reads its first `bytes` with `read`.
    pub(super) fn submit_and_read<T>(
        &self,
        commands: wgpu::CommandBuffer,
        staging: &wgpu::Buffer,
        bytes: u64,
        read: impl FnOnce(&[f32]) -> T,
    ) -> Result<T, InferError> {
        let submission = self.queue.submit([commands]);
        let slice = staging.slice(..bytes);
        let (sender, receiver) = mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |result| {
            // The receiver is gone only if this call has failed in another way.
            let _ = sender.send(result);
        });
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let polled = self.device.poll(wait);
        self.check()?;
        polled.map_err(|error| device_error(error.to_string(), true))?;
        // The work is done, but another thread's poll may be the one that calls back.
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(device_error(error.to_string(), true)),
            Err(_) => return Err(device_error("the result did not come back".into(), true)),
        }
        let view = slice.get_mapped_range().map_err(|error| self.error_of(Trouble::Other(error.to_string())))?;
        let made = read(bytemuck::cast_slice(&view));
        drop(view);
        staging.unmap();
        Ok(made)
    }
}

impl Kernel {
    /// The bindings of its module, in the order of their numbers.
    pub(super) fn bindings(&self) -> Vec<u32> {
        let mut all = vec![binding::RUN, binding::SOURCE, binding::OUTPUT];
        all.extend((!self.constants.is_empty()).then_some(binding::CONSTANTS));
        all.extend((!self.weights.is_empty()).then_some(binding::WEIGHTS));
        all.extend(self.has_second.then_some(binding::SECOND));
        all.extend((binding::OPERANDS..).take(self.operands.len()));
        all
    }
}

fn layout_entry(number: u32) -> wgpu::BindGroupLayoutEntry {
    let ty = match number {
        binding::RUN => wgpu::BufferBindingType::Uniform,
        _ => wgpu::BufferBindingType::Storage { read_only: number != binding::OUTPUT },
    };
    wgpu::BindGroupLayoutEntry {
        binding: number,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// A failure of the device.
pub(super) fn device_error(reason: String, transient: bool) -> InferError {
    InferError::Device { backend: "gpu", reason, transient }
}
