//! One device, shared by all models, jobs and tenants: requests go in, runs that are as full as they can be go to the
//! device, and each request gets its own rows back.
//!
//! ```text
//! clients ── submit ──▶ queue ── take_batch ──▶ begin ──▶ finish ──▶ rows cut ──▶ answers
//!            waits while full    fair, oldest first   up to three in flight
//! ```
//! Two threads serve a device. The first owns it: it chooses what runs and begins it. The second waits for results and
//! hands them out, so that a run can begin while an earlier one is waited for. The rules are in `queue`, which is pure.
//! Knows neither the device nor the models; what a model must promise is [`Joined`].

mod call;
mod queue;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use self::call::{Call, checked, cut};
use self::queue::{IN_FLIGHT, Queue, Situation, Step, next_step, take_batch};
use super::InferError;
use crate::tensor::Tensor;

/// A model whose rows do not depend on each other's company: rows of several calls run together, and each gives bit for
/// bit what it gives alone. Its inputs and outputs have the rows as their first dimension.
pub trait Joined: Send + Sync {
    /// The most rows of one run now; less than before when the device was out of memory. A number at hand, not a
    /// measurement: it is asked often.
    fn rows_at_a_time(&self) -> usize;

    /// Copies the rows to the device and begins; does not wait for results. No more rows than
    /// [`Joined::rows_at_a_time`] said shortly before, at least one, and all parts alike but for their rows. Always
    /// called on one thread, with at most two earlier runs of the device unfinished.
    ///
    /// # Errors
    /// If the device fails; every call that has rows here gets the error.
    fn begin(&self, parts: &[Part<'_>]) -> Result<Box<dyn Running>, InferError>;

    /// Looks at rows of one call before it gets them. What is wrong with numbers, as not being one, is said here and not
    /// by [`Running::finish`]: it concerns the call whose rows they are, and none of those that ran with it.
    ///
    /// # Errors
    /// Why the call fails.
    fn accept(&self, _outputs: &[Tensor]) -> Result<(), InferError> {
        Ok(())
    }
}

/// Rows `start` to `start + count` of the inputs of one call.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// One tensor per input of the model.
    pub inputs: &'a [Tensor],
    /// The first row.
    pub start: usize,
    /// How many rows; at least one.
    pub count: usize,
}

/// A run on the device.
pub trait Running: Send {
    /// Waits. One tensor per output of the model, holding the rows of all parts in order. Called on another thread than
    /// [`Joined::begin`], perhaps while that begins a later run, in the order in which the runs began.
    ///
    /// # Errors
    /// If the device fails.
    fn finish(self: Box<Self>) -> Result<Vec<Tensor>, InferError>;
}

/// What is asked of a model.
pub struct Request {
    /// One tensor per input of the model, in its order, checked already.
    pub inputs: Vec<Tensor>,
    /// Where the outputs go; a request whose receiver is gone does not run.
    pub settle: oneshot::Sender<Outputs>,
    /// The device time of this request's rows is added here, in nanoseconds.
    pub device_ns: Arc<AtomicU64>,
    /// What counts the inputs, for as long as they wait here, and the outputs, once they are there. Not a [`Client`]:
    /// its end would wait for itself.
    pub kept: Kept,
}

/// Every output of a request, or why there are none.
pub type Outputs = Result<Vec<Tensor>, Arc<InferError>>;

/// The account of whoever asks.
pub type Kept = Box<dyn Account>;

/// Counts what a request holds; dropped when it is done.
pub trait Account: Send {
    /// Counts the outputs, of which a model may tell no size before.
    ///
    /// # Errors
    /// The limit that they pass, in words; nobody gets them then.
    fn count(&self, bytes: usize) -> Result<(), String>;
}

/// Nobody counts.
impl Account for () {
    fn count(&self, _: usize) -> Result<(), String> {
        Ok(())
    }
}

/// Counts these outputs with whoever asked for them.
pub(super) fn count<'a>(outputs: impl IntoIterator<Item = &'a Tensor>, kept: &Kept) -> Result<(), InferError> {
    let bytes = outputs.into_iter().map(Tensor::byte_len).fold(0, usize::saturating_add);
    kept.count(bytes).map_err(InferError::TooLarge)
}

/// Requests of one client that wait: as many as make a run that is worth while, if each has one row. One that runs waits
/// no more.
const CLIENT_WAITING: usize = queue::ENOUGH;

/// Requests of all clients that wait: 64 clients at their bound. What they hold in memory, scripts' limits count.
const ALL_WAITING: usize = 64 * CLIENT_WAITING;

/// A device's queue and the threads that serve it; they live as long as there are clients.
#[derive(Default)]
pub struct Batcher(Mutex<Life>);

#[derive(Default)]
struct Life {
    clients: usize,
    /// What the threads see, and the clients that they serve.
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What clients and both threads see.
struct Shared {
    state: Mutex<State>,
    /// Told when something was asked for, has ended, or shall end. Only the first thread waits here.
    changed: Condvar,
    places: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        let state = State { queue: Queue::new(), in_flight: 0, phase: Phase::Open };
        Self { state: Mutex::new(state), changed: Condvar::new(), places: Arc::new(Semaphore::new(ALL_WAITING)) }
    }
}

struct State {
    queue: Queue<Kind, Arc<Call>>,
    in_flight: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No client is left: the threads end when nothing waits.
    Ending,
    /// A thread has ended: nothing is served any more.
    Ended,
}

/// What calls must have in common to run together: the model, and the shapes of rows where the model leaves them free.
#[derive(Clone)]
struct Kind {
    model: Arc<dyn Joined>,
    rows: Arc<[Vec<usize>]>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.rows == other.rows
    }
}

type Taken = queue::Taken<Kind, Arc<Call>>;

/// A run and what is in it.
struct Begun {
    run: Box<dyn Running>,
    taken: Taken,
    at: Instant,
}

impl Batcher {
    /// The queue of a device. Its threads start with the first client.
    pub fn start() -> Arc<Self> {
        Arc::default()
    }

    /// A way to ask `model` for results, on the account of `tenant`. All clients of one tenant share its part of the
    /// device; calls of several clients run together if their models are the same [`Arc`].
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn client(self: &Arc<Self>, model: Arc<dyn Joined>, tenant: &str) -> Result<Client, InferError> {
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if life.clients == 0 {
            life.shared = Arc::default();
            life.threads = start_threads(&life.shared).map_err(|error| {
                let reason = format!("no thread: {error}");
                InferError::Device { backend: "session", reason, transient: true }
            })?;
        }
        life.clients += 1;
        let (shared, tenant) = (Arc::clone(&life.shared), Arc::from(tenant));
        shared.lock().queue.enter(&tenant);
        let places = Arc::new(Semaphore::new(CLIENT_WAITING));
        Ok(Client { batcher: Arc::clone(self), shared, model, tenant, places })
    }
}

fn start_threads(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (runs, begun) = sync_channel(IN_FLIGHT);
    let (first, second) = (Arc::clone(shared), Arc::clone(shared));
    let waits = std::thread::Builder::new().name("infer-wait".into()).spawn(move || hand_out(&second, &begun))?;
    // Should this one fail, the other ends by itself: nothing can be sent to it any more.
    let owns = std::thread::Builder::new().name("infer".into()).spawn(move || own(&first, &runs))?;
    Ok(vec![owns, waits])
}

/// One user of a model on a shared device. Dropping the last one of a device ends its threads, once everything that
/// waits has been answered.
pub struct Client {
    batcher: Arc<Batcher>,
    shared: Arc<Shared>,
    model: Arc<dyn Joined>,
    tenant: Arc<str>,
    places: Arc<Semaphore>,
}

impl Client {
    /// Asks for results, waiting only while too many requests of this client, or of all, wait already. Requests may
    /// have thousands of rows; they are cut as the device needs it.
    ///
    /// # Errors
    /// If the inputs have no rows or differ in how many, or the threads have ended.
    pub async fn submit(&self, request: Request) -> Result<(), InferError> {
        let rows = request.inputs.first().map_or(0, Tensor::rows);
        if rows == 0 || request.inputs.iter().any(|input| input.rows() != rows) {
            let reason = "the inputs have no rows, or differ in their number of rows";
            return Err(InferError::Input(reason.into()));
        }
        let mine = Arc::clone(&self.places).acquire_owned().await;
        let of_all = Arc::clone(&self.shared.places).acquire_owned().await;
        let (Ok(mine), Ok(of_all)) = (mine, of_all) else { return Err(InferError::ended()) };
        let shapes = request.inputs.iter().map(|input| input.shape()[1..].to_vec()).collect();
        let kind = Kind { model: Arc::clone(&self.model), rows: shapes };
        let call = Arc::new(Call::new(request, rows, [mine, of_all]));
        let mut state = self.shared.lock();
        if state.phase == Phase::Ended {
            return Err(InferError::ended());
        }
        state.queue.push(&self.tenant, kind, call, rows);
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Held until the threads have ended: the next client waits for that, and starts new ones.
        let mut life = self.batcher.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        state.queue.leave(&self.tenant);
        life.clients -= 1;
        if life.clients > 0 {
            return;
        }
        if state.phase == Phase::Open {
            state.phase = Phase::Ending;
        }
        drop(state);
        self.shared.changed.notify_one();
        // Waited for: a graphics driver that is let go of while the process ends may crash it. A thread that panicked
        // has said so.
        life.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a run should begin, and takes what it is made of; none when all is done.
    fn next(&self) -> Option<Taken> {
        let mut state = self.lock();
        loop {
            let step = match state.queue.front() {
                _ if state.phase == Phase::Ended => return None,
                None if state.phase == Phase::Ending => return None,
                None => Step::Wait,
                Some(front) => next_step(&Situation {
                    in_flight: state.in_flight,
                    rows: front.rows,
                    room: front.kind.model.rows_at_a_time(),
                    waited: front.oldest.asked.elapsed(),
                }),
            };
            state = match step {
                Step::Begin => {
                    let room = |kind: &Kind| kind.model.rows_at_a_time();
                    if let Some(taken) = take_batch(&mut state.queue, room, |call| call.is_over()) {
                        state.in_flight += 1;
                        return Some(taken);
                    }
                    state
                }
                Step::Wait => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Step::WaitFor(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// A run has ended: makes place for the next, then hands each call its rows or the error.
    fn close(&self, taken: &Taken, spent: Duration, outputs: Result<Vec<Tensor>, InferError>) {
        let ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.in_flight -= 1;
        state.queue.charge(taken, ns);
        drop(state);
        self.changed.notify_one();
        let outputs = outputs.and_then(|outputs| checked(outputs, taken.rows)).map_err(Arc::new);
        let mut row = 0;
        for piece in &taken.pieces {
            let mine = |all: &Vec<Tensor>| {
                let mine = cut(all, row, piece.count)?;
                taken.kind.model.accept(&mine).map(|()| mine)
            };
            let mine = outputs.as_ref().map_err(Arc::clone).and_then(|all| caught(|| mine(all)).map_err(Arc::new));
            piece.call.add(mine, piece.count, taken.share(piece, ns));
            row += piece.count;
        }
    }
}

/// However a thread ends, nobody waits for it.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.phase = Phase::Ended;
        let left = std::mem::replace(&mut state.queue, Queue::new());
        drop(state);
        drop(left);
        self.0.changed.notify_one();
    }
}

/// The first thread: begins run after run.
fn own(shared: &Shared, runs: &SyncSender<Begun>) {
    let _ending = Ending(shared);
    while let Some(taken) = shared.next() {
        taken.pieces.iter().filter(|piece| piece.is_last).for_each(|piece| piece.call.leave_queue());
        let at = Instant::now();
        let parts: Vec<_> = taken.pieces.iter().map(part).collect();
        let begun = caught(|| taken.kind.model.begin(&parts));
        drop(parts);
        match begun {
            // There is room for it, and the other thread is there unless it panicked; then the calls are dropped.
            Ok(run) => drop(runs.send(Begun { run, taken, at })),
            Err(error) => shared.close(&taken, at.elapsed(), Err(error)),
        }
    }
}

fn part(piece: &queue::Piece<Arc<Call>>) -> Part<'_> {
    Part { inputs: &piece.call.inputs, start: piece.start, count: piece.count }
}

/// The second thread: waits for run after run.
fn hand_out(shared: &Shared, begun: &Receiver<Begun>) {
    let _ending = Ending(shared);
    let mut free = None;
    for Begun { run, taken, at } in begun {
        let outputs = caught(|| run.finish());
        let now = Instant::now();
        // A run has the device from its beginning, or from the end of the run before it.
        let since = free.map_or(at, |free: Instant| free.max(at));
        free = Some(now);
        shared.close(&taken, now.duration_since(since), outputs);
    }
}

/// What `work` answers; a panic in it is a failure that stays.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(InferError::Device { backend: "session", reason: "the engine panicked".into(), transient: false })
    })
}
