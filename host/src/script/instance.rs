//! One running script: a store of its own, `init` once, then `run` for each mini-batch, each under a deadline.
//! After a trap, a timeout or a broken result the instance is spent; the caller makes a fresh one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use wasmtime::component::ResourceTableError;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::scorehost::script::types;
use super::check::{Exported, Script};
use super::engine::TICK;
use super::imports::Services;
use super::log::Printed;
use super::state::{CallState, GUEST_INPUT, MAX_HANDLES, State};
use super::{ScriptError, printable};
use crate::row::{Cells, Column, FailedFile, Rows};

/// An instance of a [`Script`]; lives on one thread at a time.
pub struct Instance {
    store: Store<State>,
    script: Exported,
    stop: Arc<AtomicBool>,
    spent: bool,
}

/// How often a waiting call looks whether the job stops.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// One mini-batch to run.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its place in the plan.
    pub mini_batch: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The files' paths below the input folder, with `/` between their parts.
    pub files: &'a [String],
    /// How long `run` may take, host functions included.
    pub timeout: Duration,
}

/// What a successful `run` gave.
#[derive(Debug)]
pub struct RunOutput {
    /// Its rows.
    pub rows: Rows,
    /// The files that gave none, by their index in the call's files.
    pub failed: Vec<FailedFile>,
}

impl Instance {
    /// Instantiates the script and calls its `init`. `output` is a folder that the script may write to; `stop` ends
    /// every call once it is true.
    ///
    /// # Errors
    /// If there is no room for another instance, or `init` fails; what it printed comes beside.
    pub fn start(
        script: &Script,
        services: &Arc<Services>,
        output: Option<&Path>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, (ScriptError, Printed)> {
        let silent = |e| (e, Printed::default());
        let mut instance = Self::new(script, services, output, stop).map_err(silent)?;
        match instance.init(services.limits.init) {
            Ok(()) => Ok(instance),
            Err(error) => {
                let printed = instance.take_log();
                Err((error, printed))
            }
        }
    }

    /// Instantiates the script without calling `init`.
    ///
    /// # Errors
    /// If there is no room for another instance.
    pub fn new(
        script: &Script,
        services: &Arc<Services>,
        output: Option<&Path>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, ScriptError> {
        script.engine.start_ticks()?;
        let state = State::new(Arc::clone(services), output)?;
        let mut store = Store::new(script.engine.wasmtime(), state);
        store.limiter(|state| &mut state.limits);
        store.set_max_component_handles(MAX_HANDLES);
        // What one call may hand to the host: all of its output, or a tensor's numbers.
        store.set_hostcall_fuel(services.limits.output_bytes);
        watch(&mut store, stop);
        // Instantiating runs the component's own start functions.
        let limit = services.limits.init;
        store.data_mut().call.deadline = Instant::now() + limit;
        store.set_epoch_deadline(1);
        let made = block_on(limit, stop, script.pre.instantiate(&mut store))?;
        let script = match made {
            Some(Ok(script)) => script,
            Some(Err(error)) => return Err(failed_start(store.data(), &error)),
            None if stop.load(Ordering::Relaxed) => return Err(ScriptError::Stopped),
            None => return Err(ScriptError::Timeout { call: "its start", limit }),
        };
        Ok(Self { store, script, stop: Arc::clone(stop), spent: false })
    }

    fn init(&mut self, limit: Duration) -> Result<(), ScriptError> {
        self.begin(&Call { mini_batch: 0, attempt: 0, files: &[], timeout: limit });
        let result = block_on(limit, &self.stop, self.script.init(&mut self.store))?;
        let returned = self.settle("init", limit, result)?;
        returned.map_err(|failure| self.declared(failure))
    }

    /// Scores one mini-batch.
    ///
    /// # Errors
    /// If the script fails, traps, passes its deadline or a limit, or returns what is no output.
    pub fn run(&mut self, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        let paths = self.begin(call);
        let result = block_on(call.timeout, &self.stop, self.script.run(&mut self.store, &paths));
        let result = result.inspect_err(|_| self.spent = true)?;
        let returned = self.settle("run", call.timeout, result)?;
        let output = returned.map_err(|failure| self.declared(failure))?;
        checked(output, call.files.len(), self.store.data().services.limits.output_rows)
            .inspect_err(|_| self.spent = true)
    }

    /// Whether the next call needs a fresh instance: this one trapped, was stopped, or asked to be retired.
    pub fn is_spent(&self) -> bool {
        self.spent || self.store.data().retired
    }

    /// The files that it wrote are moved to where they stay: they go on counting for the job.
    pub fn keep_files(&self) {
        self.store.data().files.keep();
    }

    /// What the script printed since the last call of this.
    pub fn take_log(&mut self) -> Printed {
        self.store.data().log.take()
    }

    /// Time that the device spent on the last call.
    pub fn device_time(&self) -> Duration {
        Duration::from_nanos(self.store.data().device_ns.load(Ordering::Relaxed))
    }

    /// Arms the deadline and hands over the call's facts; returns the files as the guest sees them.
    fn begin(&mut self, call: &Call<'_>) -> Vec<String> {
        let paths: Vec<String> = call.files.iter().map(|file| format!("{GUEST_INPUT}/{file}")).collect();
        let files: HashMap<String, u32> = paths.iter().cloned().zip(0..).collect();
        let deadline = Instant::now() + call.timeout;
        let data = self.store.data_mut();
        data.begin(CallState {
            mini_batch: call.mini_batch,
            attempt: call.attempt,
            deadline,
            timeout: call.timeout,
            files,
        });
        self.store.set_epoch_deadline(1);
        paths
    }

    /// A declared failure leaves the instance as it is: the script had its say and returned.
    fn declared(&self, failure: types::Failure) -> ScriptError {
        match failure {
            types::Failure::Transient(reason) => ScriptError::Transient(shortened(reason)),
            types::Failure::Permanent(reason) => ScriptError::Permanent(shortened(reason)),
        }
    }

    fn settle<T>(
        &mut self,
        call: &'static str,
        limit: Duration,
        result: Option<wasmtime::Result<T>>,
    ) -> Result<T, ScriptError> {
        let error = match result {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => error,
            None if self.stop.load(Ordering::Relaxed) => return Err(self.spend(ScriptError::Stopped)),
            None => return Err(self.spend(ScriptError::Timeout { call, limit })),
        };
        if self.stop.load(Ordering::Relaxed) {
            return Err(self.spend(ScriptError::Stopped));
        }
        let is_late = Instant::now() >= self.store.data().call.deadline;
        let reason = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) if is_late => ScriptError::Timeout { call, limit },
            _ => explain(self.store.data(), &error),
        };
        Err(self.spend(reason))
    }

    fn spend(&mut self, error: ScriptError) -> ScriptError {
        self.spent = true;
        error
    }
}

thread_local! {
    /// What lets host functions wait; making one for each instance would cost more than the instance.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Threads of all runtimes that read files: most of them idle, some stuck in a read that never ends.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// Readers beyond which none is left behind any more: stuck ones cannot be ended, and must not use up the machine.
const MAX_READERS: usize = 256;

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        // Files of the input are read there, so that a read that never ends does not outlive its deadline.
        .max_blocking_threads(4)
        .on_thread_start(|| {
            READERS.fetch_add(1, Ordering::Relaxed);
        })
        .on_thread_stop(|| {
            READERS.fetch_sub(1, Ordering::Relaxed);
        })
        .build()
}

/// Runs `use_it` on this thread's runtime. One whose call did not end may have readers that are stuck for good (in a
/// named pipe, on a dead network share): it is left behind, so that the next call has readers.
fn with_runtime<T>(use_it: impl FnOnce(&Runtime) -> Option<T>) -> Result<Option<T>, ScriptError> {
    let kept = RUNTIME.take();
    let runtime = kept.map_or_else(runtime, Ok).map_err(ScriptError::engine)?;
    let used = use_it(&runtime);
    if used.is_some() || READERS.load(Ordering::Relaxed) > MAX_READERS {
        RUNTIME.set(Some(runtime));
    } else {
        runtime.shutdown_background();
    }
    Ok(used)
}

/// Runs `call` to its end, or until its time is up or the job stops while it waits in a host function; a script that
/// computes is ended by the epoch.
pub(crate) fn block_on<T>(
    limit: Duration,
    stop: &AtomicBool,
    call: impl Future<Output = T>,
) -> Result<Option<T>, ScriptError> {
    // A little later than the epoch's own check, which says more about where the time went.
    let end = Instant::now() + limit + TICK;
    let until_end = async {
        let mut call = std::pin::pin!(call);
        loop {
            let now = Instant::now();
            if now >= end || stop.load(Ordering::Relaxed) {
                return None;
            }
            let slice = STOP_CHECK.min(end - now);
            if let Ok(result) = tokio::time::timeout(slice, call.as_mut()).await {
                return Some(result);
            }
        }
    };
    // A panic in a host function would take the worker with it, and the job.
    let guarded = || with_runtime(|runtime| runtime.block_on(until_end));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(guarded))
        .unwrap_or_else(|_| Err(ScriptError::Engine("a host function panicked".into())))
}

/// Asks at every tick whether the call's time is up or the job is stopping.
fn watch(store: &mut Store<State>, stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    store.epoch_deadline_callback(move |store| {
        let late = Instant::now() >= store.data().call.deadline;
        Ok(if late || stop.load(Ordering::Relaxed) { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
}

/// A component's own start functions can fail as its other functions can; without room for it, it is the host's fault.
fn failed_start(state: &State, error: &wasmtime::Error) -> ScriptError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => ScriptError::Timeout { call: "its start", limit: state.services.limits.init },
        Some(_) => explain(state, error),
        None if state.limits.exceeded.is_some() || state.files.exceeded().is_some() => explain(state, error),
        None => ScriptError::engine(error),
    }
}

/// How wasmtime says that a call handed over too much, or too many handles; its types for that are private.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";
const HANDLES_EXHAUSTED: &str = "store handle limit exceeded";

const TOO_MANY_HANDLES: &str = "it holds more files, streams or handles than a script may";

/// A trap in words: the limit it met, else the panic's text that the script printed, else the trap and where it was.
fn explain(state: &State, error: &wasmtime::Error) -> ScriptError {
    if let Some(error) = state.files.exceeded() {
        return error;
    }
    if let Some(e) = state.limits.exceeded {
        return ScriptError::Memory { what: e.what, asked: e.asked, limit: e.limit };
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return ScriptError::Exit(exit.0);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return ScriptError::Trap { reason: TOO_MANY_HANDLES.into() };
    }
    let printed = state.log.peek_stderr();
    let panic = panic_text(&printed);
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) if !panic.is_empty() => panic.to_owned(),
        Some(trap) => trap.to_string(),
        // The chain would hold a backtrace of the script's functions.
        None => match error.root_cause().to_string() {
            cause if cause.contains(FUEL_EXHAUSTED) => {
                let limit = state.services.limits.output_bytes;
                format!("it handed the host more than limits.output_bytes, which is {limit}, in one call")
            }
            cause if cause.contains(HANDLES_EXHAUSTED) => TOO_MANY_HANDLES.to_owned(),
            cause => cause,
        },
    };
    ScriptError::Trap { reason: shortened(reason) }
}

/// Beyond this nobody reads a reason; it is repeated for every file of a mini-batch.
const MAX_REASON_BYTES: usize = 4 << 10;

/// A guest's words, cut to a length that they can be repeated in, and harmless to a terminal.
fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    printable(reason.as_bytes())
}

/// The last thing that was printed before a trap: from the last panic's line on, without the advice to whoever could
/// set a variable, which here is nobody.
fn panic_text(printed: &str) -> &str {
    let start = printed.rfind("panicked at").map_or(0, |at| printed[..at].rfind('\n').map_or(0, |line| line + 1));
    let text = printed[start..].split("\nnote: run with `RUST_BACKTRACE").next().unwrap_or_default().trim();
    let tail = text.ceil_char_boundary(text.len().saturating_sub(MAX_REASON_BYTES));
    &text[tail..]
}

/// Checks everything a guest can lie about in its output.
fn checked(output: types::Output, files: usize, max_rows: usize) -> Result<RunOutput, ScriptError> {
    let columns = output.columns.into_iter().map(column).collect();
    let rows = Rows::new(columns, max_rows).map_err(ScriptError::Output)?;
    let mut seen = vec![false; files];
    for failed in &output.failed {
        match seen.get_mut(failed.index as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(ScriptError::FailedFile { index: failed.index, files }),
        }
    }
    let failed = output.failed.into_iter();
    let failed = failed.map(|f| FailedFile { index: f.index, reason: shortened(f.reason) }).collect();
    Ok(RunOutput { rows, failed })
}

/// A guest's column, not checked.
pub(super) fn column(column: types::Column) -> Column {
    let cells = match column.cells {
        types::Cells::Booleans(v) => Cells::Booleans(v),
        types::Cells::Integers(v) => Cells::Integers(v),
        types::Cells::Numbers(v) => Cells::Numbers(v),
        types::Cells::Texts(v) => Cells::Texts(v),
    };
    Column { name: column.name, cells, nulls: column.nulls }
}
