//! Which mini-batch is scored next, and how far scoring may run ahead of committing.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Control;

/// Mini-batches finished ahead of the next one to be committed: enough that a slow one does not stop the others, few
/// enough that their rows fit in memory.
pub(super) const WINDOW: u64 = 1024;

/// Bytes of rows that wait to be committed, beyond which nothing new is begun.
const WAITING_BYTES: usize = 256 << 20;

/// Deals out mini-batches, in order, not too far ahead of what is committed.
pub(super) struct Feed<'a> {
    state: Mutex<FeedState>,
    moved: Condvar,
    total: u64,
    control: &'a Control,
    pub(super) retries: AtomicU64,
    /// Bytes of logs, for their bound.
    pub(super) logged: AtomicU64,
    /// Whether any instance ever started.
    pub(super) started: AtomicBool,
}

struct FeedState {
    next: u64,
    committed: u64,
    waiting_bytes: usize,
    closed: bool,
}

impl<'a> Feed<'a> {
    pub(super) fn new(from: u64, total: u64, control: &'a Control) -> Self {
        Self {
            state: Mutex::new(FeedState { next: from, committed: from, waiting_bytes: 0, closed: false }),
            moved: Condvar::new(),
            total,
            control,
            retries: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            started: AtomicBool::new(false),
        }
    }

    /// The next mini-batch to score; none at the end, or when the job stops.
    pub(super) fn next(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.closed || self.control.is_finishing() || state.next == self.total {
                return None;
            }
            // What holds the others up is being scored already, so this never waits for itself.
            let ahead = state.next - state.committed;
            if ahead == 0 || (ahead < WINDOW && state.waiting_bytes <= WAITING_BYTES) {
                state.next += 1;
                return Some(state.next - 1);
            }
            state =
                self.moved.wait_timeout(state, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn finished(&self, bytes: usize) {
        self.lock().waiting_bytes += bytes;
    }

    pub(super) fn committed(&self, committed: u64, bytes: usize) {
        let mut state = self.lock();
        state.committed = committed;
        state.waiting_bytes -= bytes;
        self.moved.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the feed when dropped.
pub(super) struct Closing<'a, 'b>(pub(super) &'a Feed<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
