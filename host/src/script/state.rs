//! What one instance's store holds on the host's side.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryRng};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::ScriptError;
use super::clocks::Clocks;
use super::files::FileMeter;
use super::imports::Services;
use super::limits::{Budget, MemoryLimits};
use super::log::Log;

/// Where scripts see the input, the model and, if they may write files, the output.
pub(crate) const GUEST_INPUT: &str = "/input";
pub(crate) const GUEST_MODEL: &str = "/model";
pub(crate) const GUEST_OUTPUT: &str = "/output";

pub(crate) struct State {
    pub(crate) wasi: WasiCtx,
    /// WASI's: files, streams, clocks.
    pub(crate) table: ResourceTable,
    /// Ours: tensors, images, recipes, models.
    pub(crate) things: ResourceTable,
    pub(crate) limits: MemoryLimits,
    pub(crate) tensors: Arc<Budget>,
    /// What it writes to [`GUEST_OUTPUT`].
    pub(crate) files: Arc<FileMeter>,
    pub(crate) log: Log,
    pub(crate) services: Arc<Services>,
    pub(crate) call: CallState,
    /// Nanoseconds of the device in this call.
    pub(crate) device_ns: Arc<AtomicU64>,
    pub(crate) retired: bool,
    /// The folder behind [`GUEST_OUTPUT`].
    pub(crate) output: Option<PathBuf>,
    /// Counts the tables that are open: one reference each, and this one.
    pub(crate) open_tables: Arc<()>,
    /// What time it is for the script.
    pub(crate) clocks: Clocks,
    random: Seeded,
}

/// Facts of the call in progress.
pub(crate) struct CallState {
    pub(crate) mini_batch: u64,
    pub(crate) attempt: u32,
    pub(crate) deadline: Instant,
    /// What the deadline was, as the call began.
    pub(crate) timeout: Duration,
    /// The mini-batch's files as the guest sees them, with their index in it.
    pub(crate) files: HashMap<String, u32>,
}

/// Files and streams a script may hold: each is one of the process's, which has as few as a thousand.
const MAX_FILES: usize = 256;

/// Random bytes that one call may ask for: they are drawn before its deadline is looked at again.
const MAX_RANDOM_BYTES: u64 = 4 << 20;

/// Handles a script may hold: a mini-batch of thousands of files, each with an image and a few tensors.
pub(crate) const MAX_HANDLES: usize = 100_000;

impl State {
    pub(crate) fn new(services: Arc<Services>, output: Option<&Path>) -> Result<Self, ScriptError> {
        let log = Log::new(services.limits.log_bytes, services.log_level);
        let random = Seeded::new();
        let clocks = Clocks::new(services.deterministic);
        let wasi = wasi(&services, output, &log, (&random, &clocks)).map_err(ScriptError::engine)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_FILES);
        let mut things = ResourceTable::new();
        things.set_max_capacity(MAX_HANDLES);
        Ok(Self {
            wasi,
            table,
            things,
            limits: MemoryLimits::new(services.limits.memory_bytes, services.limits.table_elements),
            tensors: Budget::new(services.limits.tensor_bytes),
            files: FileMeter::new(&services.files, services.limits.file_bytes),
            log,
            call: CallState {
                mini_batch: 0,
                attempt: 0,
                deadline: Instant::now(),
                timeout: Duration::ZERO,
                files: HashMap::new(),
            },
            device_ns: Arc::default(),
            retired: false,
            output: output.map(Path::to_owned),
            open_tables: Arc::default(),
            clocks,
            random,
            services,
        })
    }

    /// Begins a call: the same mini-batch draws the same random numbers, and reads the same virtual time, on every attempt and every instance.
    pub(crate) fn begin(&mut self, call: CallState) {
        self.random.seed(call.mini_batch);
        // `init` is attempt 0, of no mini-batch.
        self.clocks.begin((call.attempt > 0).then_some(call.mini_batch));
        self.call = call;
        self.device_ns = Arc::default();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// WASI with nothing behind it but what the contract names: no arguments, no network, no other folder.
fn wasi(
    services: &Services,
    output: Option<&Path>,
    log: &Log,
    (random, clocks): (&Seeded, &Clocks),
) -> wasmtime::Result<WasiCtx> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(log.stdout())
        .stderr(log.stderr())
        .secure_random(random.clone())
        .insecure_random(random.clone())
        .insecure_random_seed(0)
        .max_random_size(MAX_RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false);
    clocks.install(&mut builder);
    builder.preopened_dir(&services.input_folder, GUEST_INPUT, FsPerms::ReadOnly)?;
    if let Some(model) = services.models.folder() {
        builder.preopened_dir(model, GUEST_MODEL, FsPerms::ReadOnly)?;
        builder.env("AZUREML_MODEL_DIR", GUEST_MODEL).env("SCOREHOST_MODEL_DIR", GUEST_MODEL);
    }
    if let Some(output) = output {
        builder.preopened_dir(output, GUEST_OUTPUT, FsPerms::ReadWrite)?;
        builder.env("AZUREML_BI_OUTPUT_PATH", GUEST_OUTPUT).env("SCOREHOST_OUTPUT_DIR", GUEST_OUTPUT);
    }
    for (name, value) in &services.environment {
        builder.env(name, value);
    }
    Ok(builder.build())
}

/// Randomness that is the same for the same mini-batch, so that a retry repeats its attempt.
#[derive(Clone)]
struct Seeded(Arc<Mutex<StdRng>>);

impl Seeded {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(0))))
    }

    fn seed(&self, mini_batch: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = StdRng::seed_from_u64(mini_batch);
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.with(StdRng::next_u32))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.with(StdRng::next_u64))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.with(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}
