//! What an instance may hold: linear memory, table elements, and tensors on the host's side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// Core instances, memories and tables of one component: language runtimes have a handful of each.
pub(super) const MAX_INSTANCES: u32 = 64;
pub(super) const MAX_MEMORIES: u32 = 16;
pub(super) const MAX_TABLES: u32 = 32;

/// Sums what all memories and tables of one instance hold; wasmtime's own limits are for each memory alone.
#[derive(Debug)]
pub(crate) struct MemoryLimits {
    memory: Meter,
    tables: Meter,
    /// What was asked for when a limit was first met.
    pub(crate) exceeded: Option<Exceeded>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Exceeded {
    pub(crate) what: &'static str,
    pub(crate) asked: usize,
    pub(crate) limit: usize,
}

#[derive(Debug)]
struct Meter {
    what: &'static str,
    held: usize,
    limit: usize,
}

impl Meter {
    fn grow(&mut self, current: usize, desired: usize) -> Result<(), Exceeded> {
        let asked = self.held.saturating_add(desired.saturating_sub(current));
        if asked > self.limit {
            return Err(Exceeded { what: self.what, asked, limit: self.limit });
        }
        self.held = asked;
        Ok(())
    }
}

impl MemoryLimits {
    pub(crate) fn new(memory_bytes: usize, table_elements: usize) -> Self {
        Self {
            memory: Meter { what: "memory", held: 0, limit: memory_bytes },
            tables: Meter { what: "table elements", held: 0, limit: table_elements },
            exceeded: None,
        }
    }

    /// A limit that is met ends the call: a guest's own allocator would only abort with a text that says less.
    fn settle(&mut self, grown: Result<(), Exceeded>) -> wasmtime::Result<bool> {
        let Err(exceeded) = grown else { return Ok(true) };
        self.exceeded.get_or_insert(exceeded);
        Err(wasmtime::format_err!("the limit of {} is met", exceeded.what))
    }
}

impl ResourceLimiter for MemoryLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.memory.grow(current, desired);
        self.settle(grown)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.tables.grow(current, desired);
        self.settle(grown)
    }

    // As many as the pool has room for, whether or not there is a pool.
    fn instances(&self) -> usize {
        MAX_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }
}

/// Bytes of tensors, pictures and tables that one instance may hold on the host.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// How much there is left.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// Takes `bytes` until the result is dropped, or says how much there is.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Arc<Held>, String> {
        self.add(bytes)?;
        Ok(Arc::new(Held { budget: Arc::clone(self), bytes: AtomicUsize::new(bytes) }))
    }

    fn add(&self, bytes: usize) -> Result<(), String> {
        let update = |held: usize| held.checked_add(bytes).filter(|&all| all <= self.limit);
        match self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(_) => Ok(()),
            Err(held) => Err(format!(
                "tensors, pictures and tables of {bytes} bytes more than the {held} held pass limits.tensors, which is {}",
                self.limit
            )),
        }
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Held {
    /// Counts at least `bytes` from here on: what was counted before its size was known. One caller at a time.
    pub(crate) fn grow_to(&self, bytes: usize) -> Result<(), String> {
        let more = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        self.budget.add(more)?;
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed() {
        let mut limits = MemoryLimits::new(100, 10);
        assert!(limits.memory_growing(0, 60, None).is_ok());
        assert!(limits.memory_growing(0, 40, None).is_ok());
        assert!(limits.memory_growing(40, 41, None).is_err());
        let exceeded = limits.exceeded.unwrap();
        assert_eq!((exceeded.asked, exceeded.limit), (101, 100));
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let budget = Budget::new(100);
        let held = budget.take(60).unwrap();
        assert!(budget.take(41).is_err());
        drop(held);
        assert!(budget.take(100).is_ok());
        assert!(budget.take(usize::MAX).is_err());
    }

    #[test]
    fn what_grows_is_counted_once_and_given_back_whole() {
        let budget = Budget::new(100);
        let held = budget.take(10).unwrap();
        held.grow_to(60).unwrap();
        // Smaller than it was thought to be, or as large: nothing more.
        held.grow_to(60).unwrap();
        held.grow_to(5).unwrap();
        assert_eq!(budget.free(), 40);
        let error = held.grow_to(101).unwrap_err();
        assert!(error.contains("41 bytes more than the 60 held pass limits.tensors"), "{error}");
        assert_eq!(budget.free(), 40);
        drop(held);
        assert_eq!(budget.free(), 100);
    }
}
