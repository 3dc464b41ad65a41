//! One open device: its queue, its limits and its failures. Compiles kernels, makes buffers, waits.
//! Knows nothing of graphs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adapter::AdapterReport;
use super::block_on;
use super::kernel::{Abilities, Kernel, Matrix, binding};
use super::memory::Room;
use super::tuning::{Tuning, digest};
use crate::cache::Private;
use crate::infer::InferError;

/// A run that takes longer hangs: drivers give up after seconds themselves, but software adapters do not.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a failing device is given to say that it is lost.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The most bytes that a kept pipeline cache may have.
const PIPELINE_CACHE_BYTES: u64 = 256 << 20;

/// Less than an adapter has, as if it had no more: for tests, and for sharing it with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Bytes of workgroup memory.
    pub workgroup_bytes: Option<u32>,
    /// Bytes of one buffer in a shader.
    pub binding_bytes: Option<u64>,
    /// Bytes of one model's values, inputs and results, beyond which the device is out of memory.
    pub memory_bytes: Option<u64>,
    /// Without 16-bit floats.
    pub without_halves: bool,
    /// Without cooperative matrices.
    pub without_matrices: bool,
    /// With the driver's shaders checking every index, as nothing else here is: slower, and to the same bits.
    pub checked: bool,
}

/// An open device.
pub(super) struct Engine {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) report: AdapterReport,
    pub(super) abilities: Abilities,
    pub(super) tuning: Tuning,
    /// Whether passes can be timed.
    pub(super) times: bool,
    within: Within,
    limits: wgpu::Limits,
    pipelines: Pipelines,
    failures: Arc<Mutex<Failures>>,
}

/// Compiled pipelines on disk, where the driver gives them away.
struct Pipelines {
    cache: Option<wgpu::PipelineCache>,
    folder: Private,
    name: String,
    /// Bytes that were read or kept last.
    kept: Mutex<Option<String>>,
}

/// What a device reported outside any call.
#[derive(Default)]
struct Failures {
    lost: Option<String>,
    error: Option<String>,
    notices: Vec<String>,
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
    /// Opens `adapter` with all that it has and kernels can use, `within` these limits; pipelines and tuning are kept in
    /// `folder`.
    pub(super) fn open(adapter: &wgpu::Adapter, within: Within, folder: &Private) -> Result<Self, InferError> {
        let report = AdapterReport::of(adapter);
        let limits = limits(adapter, within);
        let mut wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
        if !within.without_halves {
            wanted |= wgpu::Features::SHADER_F16;
            if !within.without_matrices {
                wanted |= wgpu::Features::SUBGROUP | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            }
        }
        let features = wanted & adapter.features();
        let experimental_features = match features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            true => experimental(),
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: limits.clone(),
            required_features: features,
            experimental_features,
            ..Default::default()
        };
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
        let abilities = abilities(adapter, features, &limits);
        let tuning = Tuning::read(folder, &report);
        let times = features.contains(wgpu::Features::TIMESTAMP_QUERY) && queue.get_timestamp_period() > 0.0;
        let pipelines = Pipelines::open(&device, &report, features, folder.clone());
        Ok(Self { device, queue, report, abilities, tuning, times, within, limits, pipelines, failures })
    }

    /// What a model may use of this device.
    pub(super) fn room(&self) -> Room {
        // Beyond so many pictures GPUs gain little, and one run takes long to answer; drivers of small ones give up on work of
        // seconds. A software adapter takes the memory of this process, and a picture takes it a second.
        let (memory_bytes, images) = match self.report.kind {
            "discrete" => (4 << 30, 256),
            "software" => (256 << 20, 16),
            _ => (1 << 30, 32),
        };
        let workgroups = self.limits.max_compute_workgroups_per_dimension;
        Room { binding_bytes: self.binding_bytes(), memory_bytes, workgroups, images }
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

    /// Fails if `bytes` of buffers are more than this device may take.
    pub(super) fn afford(&self, bytes: u64) -> Result<(), Trouble> {
        match self.within.memory_bytes {
            Some(most) if bytes > most => Err(Trouble::Memory(format!("{bytes} bytes are more than {most}"))),
            _ => Ok(()),
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
            let module = match self.within.checked {
                true => self.device.create_shader_module(descriptor),
                false => trusted(&self.device, descriptor),
            };
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
                cache: self.pipelines.cache.as_ref(),
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

    /// A buffer of `bytes` that the host can write to until it is unmapped.
    pub(super) fn mapped_buffer(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.max(16).next_multiple_of(16),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        })
    }

    /// Says what users should know, though nothing failed.
    pub(super) fn notice(&self, text: String) {
        self.failures().notices.push(text);
    }

    /// What was said since the last call.
    pub(super) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.failures().notices)
    }

    /// A buffer that holds `bytes`.
    pub(super) fn upload(&self, label: &str, bytes: &[u8]) -> wgpu::Buffer {
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

    /// Submits `commands`, and says what the device had against them: an error of one run must not be taken for another's.
    pub(super) fn submit(&self, commands: wgpu::CommandBuffer) -> Result<wgpu::SubmissionIndex, InferError> {
        self.attempt(|| self.queue.submit([commands])).map_err(|trouble| self.error_of(trouble))
    }

    /// Waits until `submission` is done, and with it the mappings that were asked for before it.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), InferError> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let polled = self.device.poll(wait);
        self.check()?;
        polled.map(|_| ()).map_err(|error| device_error(error.to_string(), true))
    }

    /// Keeps the pipelines that were compiled since the device was opened.
    pub(super) fn keep_pipelines(&self) {
        self.pipelines.keep();
    }
}

/// How long the answer to a mapping may take once its work is done: another thread's poll may be the one that brings it.
pub(super) fn mapped(
    receiver: &std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
) -> Result<(), InferError> {
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(device_error(error.to_string(), true)),
        Err(_) => Err(device_error("a buffer did not come back".into(), true)),
    }
}

impl Pipelines {
    fn open(device: &wgpu::Device, report: &AdapterReport, features: wgpu::Features, folder: Private) -> Self {
        let identity = format!("{} {} {}", report.backend, report.name, report.driver);
        let name = format!("pipelines-{}.bin", &digest(&identity)[..16]);
        let cache = features.contains(wgpu::Features::PIPELINE_CACHE).then(|| {
            let data = folder.read(&name, PIPELINE_CACHE_BYTES);
            (pipeline_cache(device, data.as_deref()), data.map(|data| checksum(&data)))
        });
        let (cache, kept) = cache.map_or((None, None), |(cache, kept)| (Some(cache), kept));
        Self { cache, folder, name, kept: Mutex::new(kept) }
    }

    fn keep(&self) {
        let Some(data) = self.cache.as_ref().and_then(wgpu::PipelineCache::get_data) else { return };
        if data.len() as u64 > PIPELINE_CACHE_BYTES {
            return;
        }
        let sum = checksum(&data);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref() != Some(&sum) {
            // A cache that cannot be written costs time, not correctness.
            let _ = self.folder.keep(&self.name, &data);
            *kept = Some(sum);
        }
    }
}

fn checksum(data: &[u8]) -> String {
    use sha2::Digest;
    crate::cache::hex(&sha2::Sha256::digest(data))
}

fn limits(adapter: &wgpu::Adapter, within: Within) -> wgpu::Limits {
    let mut limits = adapter.limits();
    let workgroup = &mut limits.max_compute_workgroup_storage_size;
    *workgroup = within.workgroup_bytes.unwrap_or(u32::MAX).min(*workgroup);
    let binding = &mut limits.max_storage_buffer_binding_size;
    *binding = within.binding_bytes.unwrap_or(u64::MAX).min(*binding);
    limits
}

fn abilities(adapter: &wgpu::Adapter, features: wgpu::Features, limits: &wgpu::Limits) -> Abilities {
    use wgpu::CooperativeScalarType::{F16, F32};
    let info = adapter.get_info();
    let half = features.contains(wgpu::Features::SHADER_F16);
    // Kernels divide their work by subgroups, so all of these must have one size.
    let usable = half
        && features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP)
        && info.subgroup_min_size == info.subgroup_max_size;
    let sizes = adapter.cooperative_matrix_properties();
    let has =
        |n: u32| sizes.iter().any(|m| (m.m_size, m.n_size, m.k_size, m.ab_type, m.cr_type) == (n, n, n, F16, F32));
    let matrix = [16, 8].into_iter().find(|&n| usable && has(n)).map(|n| Matrix {
        size: n as usize,
        subgroup: info.subgroup_max_size as usize,
        by_number: info.backend == wgpu::Backend::Metal,
    });
    Abilities {
        half,
        matrix,
        workgroup_bytes: limits.max_compute_workgroup_storage_size as usize,
        invocations: limits.max_compute_invocations_per_workgroup as usize,
    }
}

#[expect(unsafe_code, reason = "cooperative matrices are an experimental feature of wgpu")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: what is experimental is used by one kernel family only, whose text is ours and valid by naga, which asks only
    // for sizes that the adapter lists, and which is tested on the device before it is trusted.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

#[expect(unsafe_code, reason = "checks of every index and loop halve the speed of the inner loops")]
fn trusted(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor) -> wgpu::ShaderModule {
    // SAFETY: every module's text is made by `kernel` from this crate's own files and from sizes that the graph has checked
    // against each other: of a model's file nothing but sizes and numbers gets into it. Its loops are bounded by constants,
    // its divisors are constants above zero, and an index is compared with what `run` says before it is used; buffers hold
    // as many pictures as `run` says, which `model` holds true. Tests run every kernel with the checks on, too.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

#[expect(unsafe_code, reason = "compiling pipelines takes seconds, opening them milliseconds")]
fn pipeline_cache(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data, fallback: true };
    // SAFETY: the data lies in a folder that only this user can enter and was written there by `Pipelines::keep` from
    // `PipelineCache::get_data`, whole or not at all. wgpu and the driver refuse another version's.
    unsafe { device.create_pipeline_cache(&descriptor) }
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
