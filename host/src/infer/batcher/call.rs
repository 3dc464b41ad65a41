//! A request on its way: which of its rows are still out, and what has come back.
//!
//! What goes in: the outputs of runs, cut to the rows of one request, in their order. What comes out: one answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Kept, Outputs, Request, count};
use crate::infer::InferError;
use crate::tensor::{Tensor, TensorError};

/// A request, while some of its rows wait or run.
pub(super) struct Call {
    pub(super) inputs: Vec<Tensor>,
    /// When it began to wait.
    pub(super) asked: Instant,
    device_ns: Arc<AtomicU64>,
    open: Mutex<Open>,
}

struct Open {
    /// Taken when the request is answered.
    settle: Option<oneshot::Sender<Outputs>>,
    /// What has come so far: for each run, every output.
    parts: Vec<Vec<Tensor>>,
    /// Rows that have not come.
    missing: usize,
    /// Its places among those that wait.
    places: Option<[OwnedSemaphorePermit; 2]>,
    kept: Kept,
}

impl Call {
    /// A request of `rows` rows that has its `places` among those that wait.
    pub(super) fn new(request: Request, rows: usize, places: [OwnedSemaphorePermit; 2]) -> Self {
        let Request { inputs, settle, device_ns, kept } = request;
        let open = Open { settle: Some(settle), parts: Vec::new(), missing: rows, places: Some(places), kept };
        Self { inputs, asked: Instant::now(), device_ns, open: Mutex::new(open) }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was answered, with an error while rows of it still wait, or nobody waits for the answer.
    pub(super) fn is_over(&self) -> bool {
        self.open().settle.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// None of its rows wait any more.
    pub(super) fn leave_queue(&self) {
        self.open().places = None;
    }

    /// The outputs of its next `rows` rows, which took `ns` nanoseconds. Answers when they are the last, or failed.
    pub(super) fn add(&self, outputs: Outputs, rows: usize, ns: u64) {
        self.device_ns.fetch_add(ns, Ordering::Relaxed);
        let mut open = self.open();
        let answer = match outputs {
            Err(error) => Err(error),
            Ok(part) => {
                open.parts.push(part);
                open.missing = open.missing.saturating_sub(rows);
                if open.missing > 0 {
                    return;
                }
                let parts = std::mem::take(&mut open.parts);
                // Before they are copied into one.
                count(parts.iter().flatten(), &open.kept).and_then(|()| joined(&parts)).map_err(Arc::new)
            }
        };
        if let Some(settle) = open.settle.take() {
            // It does not matter if they left meanwhile.
            let _ = settle.send(answer);
        }
    }
}

/// What the model answered, if every output has as many rows as were asked for.
pub(super) fn checked(outputs: Vec<Tensor>, rows: usize) -> Result<Vec<Tensor>, InferError> {
    match outputs.iter().find(|output| output.rows() != rows) {
        None => Ok(outputs),
        Some(odd) => {
            let reason = format!("an output has {} rows where {rows} were asked for", odd.rows());
            Err(InferError::Device { backend: "session", reason, transient: false })
        }
    }
}

/// Rows `start` to `start + count` of every output. Views where they are most of it; copies where a few rows would keep
/// those of everybody else in memory.
pub(super) fn cut(outputs: &[Tensor], start: usize, count: usize) -> Result<Vec<Tensor>, InferError> {
    let part = |output: &Tensor| {
        let view = output.slice(start, count)?;
        if count >= output.rows().div_ceil(2) {
            return Ok(view);
        }
        let shape = view.shape().to_vec();
        match (view.u8(), view.i64(), view.f32()) {
            (Some(bytes), ..) => Tensor::from_u8(shape, bytes.to_vec()),
            (_, Some(integers), _) => Tensor::from_i64(shape, integers.to_vec()),
            (.., Some(floats)) => Tensor::from_f32(shape, floats.to_vec()),
            (None, None, None) => Ok(view),
        }
    };
    outputs.iter().map(part).collect::<Result<_, _>>().map_err(|error| broken(&error))
}

/// Every output, joined from what several runs gave.
fn joined(parts: &[Vec<Tensor>]) -> Result<Vec<Tensor>, InferError> {
    let count = parts.first().map_or(0, Vec::len);
    if parts.iter().any(|part| part.len() != count) {
        return Err(broken(&TensorError::Mismatch("runs that differ in their number of outputs".into())));
    }
    let output = |at: usize| Tensor::concatenate(&parts.iter().map(|part| part[at].clone()).collect::<Vec<_>>());
    (0..count).map(output).collect::<Result<_, _>>().map_err(|error| broken(&error))
}

fn broken(error: &TensorError) -> InferError {
    InferError::Device { backend: "session", reason: format!("its outputs do not fit: {error}"), transient: false }
}
