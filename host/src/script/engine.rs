//! The one wasmtime engine of the process: its settings, the ticker behind deadlines, the linker that every script
//! is joined with. Knows nothing of jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine as Wasmtime, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings::{ScoringScript, nn};
use super::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use super::state::State;
use super::{ScriptError, clocks, files, previous};

/// How often a running script is asked whether its time is up: a hundredth of the shortest timeout that can be set.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Compiles and instantiates scripts. Cheap to clone; one per process is enough, and what one engine compiled only
/// that engine's instances use.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: Wasmtime,
    linker: Linker<State>,
    pooling: bool,
    ticks: AtomicBool,
}

impl Engine {
    /// An engine with pooled instances where the address space allows, and without where it does not.
    ///
    /// # Errors
    /// If the machine cannot run compiled WebAssembly.
    pub fn new() -> Result<Self, ScriptError> {
        let (wasmtime, pooling) = match Wasmtime::new(&config(true)) {
            Ok(engine) => (engine, true),
            // Each pooled memory reserves address space; small machines and containers may refuse that much.
            Err(_) => (Wasmtime::new(&config(false)).map_err(ScriptError::engine)?, false),
        };
        let linker = linker(&wasmtime).map_err(ScriptError::engine)?;
        Ok(Self(Arc::new(Inner { wasmtime, linker, pooling, ticks: AtomicBool::new(false) })))
    }

    pub(crate) fn wasmtime(&self) -> &Wasmtime {
        &self.0.wasmtime
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.0.linker
    }

    /// Starts what deadlines are looked at by. Not before the first instance: a process that confines itself opens
    /// scripts first, and has no other thread then.
    pub(crate) fn start_ticks(&self) -> Result<(), ScriptError> {
        if self.0.ticks.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        start_ticker(&self.0.wasmtime).inspect_err(|_| self.0.ticks.store(false, Ordering::Relaxed))
    }

    /// Whether instances come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.0.pooling
    }
}

/// Instances alive at once in one process: far more than one host has cores, few enough that their reserved address
/// space (4 GiB a memory) fits 47 bits.
const POOL: u32 = 256;

pub(super) fn config(pooling: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Neither 64-bit memories nor the component model's own async (built without it) are part of the contract.
        .wasm_memory64(false)
        // Stacks are reused between tenants' scripts.
        .async_stack_zeroing(true)
        .max_wasm_stack(1 << 20)
        .async_stack_size(3 << 20)
        .memory_guaranteed_dense_image_size(32 << 20);
    if pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(POOL)
            .total_core_instances(POOL * 8)
            .total_memories(POOL * 2)
            .total_tables(POOL * 4)
            .total_stacks(POOL)
            .max_core_instances_per_component(MAX_INSTANCES)
            .max_memories_per_component(MAX_MEMORIES)
            .max_tables_per_component(MAX_TABLES)
            .max_tables_per_module(4)
            .max_component_instance_size(8 << 20)
            .max_core_instance_size(8 << 20)
            .table_elements(200_000)
            .linear_memory_keep_resident(2 << 20)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn linker(wasmtime: &Wasmtime) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(wasmtime);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    clocks::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    ScoringScript::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    nn::Ml::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    previous::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn start_ticker(wasmtime: &Wasmtime) -> Result<(), ScriptError> {
    let weak = wasmtime.weak();
    let tick = move || {
        // Ends by itself when the engine is gone.
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("epoch".into()).spawn(tick).map_err(ScriptError::engine)?;
    Ok(())
}
