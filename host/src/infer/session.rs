//! An open model behind a bounded queue: requests go in, answers that may still be pending come out. The queue is the
//! model's own, or that of a device which several models share. Knows no device; the order of requests never changes a
//! result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::{mpsc, oneshot};

use super::batcher::{Client, Outputs, Request, caught, count};
use super::{Backend, InferError, Model, Port, check_inputs};
use crate::tensor::{Element, Tensor};

/// A model that several instances share. Dropping the last clone ends its threads once the queue is empty.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    /// Before the model, so that it goes first: what waits needs the model.
    queue: Queue,
    model: Arc<dyn Model>,
}

enum Queue {
    /// Threads of this session's own.
    Own(Workers),
    /// The queue of a device that joins what is asked of it.
    Shared(Client),
}

struct Workers {
    /// Taken when the last clone goes, which ends the threads.
    queue: Option<mpsc::Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Waited for: a graphics driver that is let go of while the process ends may crash it. A thread that
            // panicked has said so.
            let _ = thread.join();
        }
    }
}

pub use super::batcher::{Account, Kept};

/// Requests that wait: enough to keep the device busy, few enough that a script which never reads cannot hoard.
const QUEUE: usize = 64;

impl Session {
    /// Opens the model at `path` on `backend`, on an account of its own where a device is shared.
    ///
    /// # Errors
    /// Those of [`Backend::open`], and of the operating system's threads.
    pub fn open(backend: &dyn Backend, path: &std::path::Path) -> Result<Self, InferError> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        Self::open_for(backend, path, &format!("session {number}"))
    }

    /// Opens the model at `path` on `backend`, on the account of `tenant` where a device is shared: tenants get equal
    /// parts of it, however many sessions each has.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_for(backend: &dyn Backend, path: &std::path::Path, tenant: &str) -> Result<Self, InferError> {
        let model: Arc<dyn Model> = Arc::from(backend.open(path)?);
        let queue = match model.joined() {
            Some((batcher, joined)) => Queue::Shared(batcher.client(joined, tenant)?),
            None => Queue::Own(Workers::start(&model, backend.name())?),
        };
        Ok(Self(Arc::new(Inner { queue, model })))
    }

    /// The model's inputs, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        self.0.model.inputs()
    }

    /// The model's outputs, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        self.0.model.outputs()
    }

    /// Asks for every output for these inputs, waiting only while the queue is full. The time that the device takes is
    /// added to `device_ns`, in nanoseconds; `kept` is dropped when the inputs are.
    ///
    /// # Errors
    /// If the inputs do not fit the model.
    pub async fn predict(
        &self,
        inputs: Vec<Tensor>,
        device_ns: &Arc<AtomicU64>,
        kept: Kept,
    ) -> Result<Answer, InferError> {
        check_inputs(self.inputs(), &inputs)?;
        let (settle, waiting) = oneshot::channel();
        let request = Request { inputs, settle, device_ns: Arc::clone(device_ns), kept };
        match &self.0.queue {
            // No rows are no work for a device.
            Queue::Shared(_) if request.inputs.first().is_none_or(|input| input.rows() == 0) => {
                answer(self.0.model.as_ref(), request);
            }
            Queue::Shared(client) => client.submit(request).await?,
            Queue::Own(workers) => {
                let queue = workers.queue.as_ref().ok_or_else(InferError::ended)?;
                queue.send(request).await.map_err(|_| InferError::ended())?;
            }
        }
        Ok(Answer(waiting.shared()))
    }

    /// How many bytes the outputs for `rows` rows take at least: what a pending answer is counted as. Sizes that the
    /// model does not tell are one here; [`Account::count`] is told of the rest.
    pub fn output_bytes(&self, rows: usize) -> usize {
        let port = |port: &Port| {
            let size = if port.element == Element::I64 { 8 } else { 4 };
            port.shape.iter().skip(1).fold(rows.saturating_mul(size), |all, n| all.saturating_mul(n.unwrap_or(1)))
        };
        self.outputs().iter().map(port).fold(0, usize::saturating_add)
    }
}

impl Workers {
    /// As many threads as `model` can use.
    fn start(model: &Arc<dyn Model>, backend: &'static str) -> Result<Self, InferError> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let requests = Arc::new(Mutex::new(requests));
        let start = |_| {
            let (model, requests) = (Arc::clone(model), Arc::clone(&requests));
            let started =
                std::thread::Builder::new().name("infer".into()).spawn(move || work(model.as_ref(), &requests));
            started.map_err(|e| InferError::Device { backend, reason: e.to_string(), transient: true })
        };
        let threads = (0..model.workers().max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads })
    }
}

fn work(model: &dyn Model, requests: &Mutex<mpsc::Receiver<Request>>) {
    loop {
        let next = requests.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(request) = next else { return };
        // Nobody waits any more: the call was stopped.
        if !request.settle.is_closed() {
            answer(model, request);
        }
    }
}

/// Runs `model` here and now.
fn answer(model: &dyn Model, request: Request) {
    let Request { inputs, settle, device_ns, kept } = request;
    let began = Instant::now();
    let result = caught(|| model.run(&inputs));
    let result = result.and_then(|outputs| count(&outputs, &kept).map(|()| outputs));
    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    device_ns.fetch_add(ns, Ordering::Relaxed);
    drop((inputs, kept));
    // It does not matter if they left meanwhile.
    let _ = settle.send(result.map_err(Arc::new));
}

/// Every output of one request, perhaps still being computed.
#[derive(Clone)]
pub struct Answer(Shared<oneshot::Receiver<Outputs>>);

impl Answer {
    /// Waits until the outputs are there.
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub async fn outputs(&self) -> Outputs {
        let ended = |_| Err(Arc::new(InferError::ended()));
        self.0.clone().await.unwrap_or_else(ended)
    }
}

impl InferError {
    pub(super) fn ended() -> Self {
        InferError::Device { backend: "session", reason: "the model's threads have ended".into(), transient: true }
    }
}
