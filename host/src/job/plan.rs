//! A job's files, cut into mini-batches. A function of the listing alone: same files, same plan.

use std::num::NonZeroU32;
use std::ops::Range;

/// The files of a job, sorted by the bytes of their relative paths, and the size of its mini-batches.
///
/// All names lie in one buffer and are sorted by moving eight bytes each, since a job may have millions of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    names: Vec<u8>,
    files: Vec<Span>,
    mini_batch_size: usize,
}

/// Where a name lies in the buffer: 48 bits of start, 16 of length. No system opens longer paths; a name that were
/// longer would be cut, and then fail to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span(u64);

impl Span {
    fn new(start: usize, len: usize) -> Self {
        Self((start as u64) << 16 | len.min(0xffff) as u64)
    }

    fn of(self, names: &[u8]) -> &[u8] {
        let start = (self.0 >> 16) as usize;
        &names[start..start + (self.0 & 0xffff) as usize]
    }
}

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
#[error("the stored plan is damaged")]
pub struct BadPlan;

impl Plan {
    /// A plan for files that were found in any order.
    pub fn new(mini_batch_size: NonZeroU32) -> Self {
        let mini_batch_size = usize::try_from(mini_batch_size.get()).unwrap_or(usize::MAX);
        Self { names: Vec::new(), files: Vec::new(), mini_batch_size }
    }

    /// Adds a file.
    pub fn push(&mut self, name: &[u8]) {
        self.files.push(Span::new(self.names.len(), name.len()));
        self.names.extend_from_slice(name);
    }

    /// Puts the files in their order.
    pub fn sort(&mut self) {
        self.files.sort_unstable_by_key(|span| span.of(&self.names));
        self.names.shrink_to_fit();
        self.files.shrink_to_fit();
    }

    /// How many files there are.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// How many mini-batches there are.
    pub fn mini_batch_count(&self) -> u64 {
        self.files.len().div_ceil(self.mini_batch_size) as u64
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|span| span.of(&self.names))
    }

    /// The names of one mini-batch's files; none past the last.
    pub fn mini_batch(&self, index: u64) -> impl ExactSizeIterator<Item = &[u8]> {
        self.files[self.range_of(index)].iter().map(|span| span.of(&self.names))
    }

    /// How many files the mini-batches before this one have.
    pub fn files_before(&self, index: u64) -> u64 {
        self.range_of(index).start as u64
    }

    fn range_of(&self, index: u64) -> Range<usize> {
        let all = self.files.len();
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(self.mini_batch_size).min(all);
        start..start.saturating_add(self.mini_batch_size).min(all)
    }

    /// The plan as bytes: the size of a mini-batch, then each name and a zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\0", self.mini_batch_size).into_bytes();
        bytes.reserve(self.names.len() + self.files.len());
        for span in &self.files {
            bytes.extend_from_slice(span.of(&self.names));
            bytes.push(0);
        }
        bytes
    }

    /// The plan that [`Plan::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are cut off or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadPlan> {
        let bytes = bytes.strip_suffix(b"\0").ok_or(BadPlan)?;
        let mut parts = bytes.split(|&b| b == 0);
        let size = parts.next().and_then(|p| std::str::from_utf8(p).ok()).and_then(|p| p.parse().ok());
        let mini_batch_size = size.filter(|&n: &usize| n > 0).ok_or(BadPlan)?;
        let mut plan = Self { names: Vec::with_capacity(bytes.len()), files: Vec::new(), mini_batch_size };
        parts.for_each(|name| plan.push(name));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: u32, names: &[&[u8]]) -> Plan {
        let mut plan = Plan::new(NonZeroU32::new(size).unwrap());
        names.iter().for_each(|n| plan.push(n));
        plan.sort();
        plan
    }

    #[test]
    fn files_are_sorted_and_the_last_mini_batch_may_be_short() {
        let plan = plan(2, &[b"b", b"a/z", b"a.jpg", b"\xff", b"c"]);
        let batches: Vec<Vec<&[u8]>> = (0..4).map(|i| plan.mini_batch(i).collect()).collect();
        assert_eq!(batches, [vec![&b"a.jpg"[..], b"a/z"], vec![b"b", b"c"], vec![b"\xff"], vec![]]);
        assert_eq!(plan.mini_batch_count(), 3);
        assert_eq!(plan.mini_batch(u64::MAX).len(), 0);
    }

    #[test]
    fn a_plan_survives_being_stored_and_garbage_does_not() {
        let plan = plan(3, &[b"b\n", b"a", b"\xff"]);
        let stored = Plan::from_bytes(&plan.to_bytes()).unwrap();
        assert_eq!(stored.mini_batch(0).collect::<Vec<_>>(), plan.mini_batch(0).collect::<Vec<_>>());
        assert_eq!(stored.mini_batch_count(), 1);
        for bad in [&b""[..], b"0\0", b"x\0a\0", b"3"] {
            assert!(Plan::from_bytes(bad).is_err());
        }
    }
}
