//! A job's files, cut into mini-batches. A function of the listing alone: same files, same plan.

use std::num::NonZeroU32;
use std::ops::Range;

/// The files of a job, sorted by the bytes of their relative paths, and the size of its mini-batches.
///
/// All names lie in one buffer, since a job may have millions of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    names: Vec<u8>,
    /// Where each name ends in `names`.
    ends: Vec<u64>,
    mini_batch_size: usize,
}

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
#[error("the stored plan is damaged")]
pub struct BadPlan;

impl Plan {
    /// A plan for files that were found in any order.
    pub fn new(mini_batch_size: NonZeroU32) -> Self {
        let mini_batch_size = usize::try_from(mini_batch_size.get()).unwrap_or(usize::MAX);
        Self { names: Vec::new(), ends: Vec::new(), mini_batch_size }
    }

    /// Adds a file.
    pub fn push(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len() as u64);
    }

    /// Puts the files in their order.
    pub fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        order.sort_unstable_by_key(|&i| self.name(i));
        if order.is_sorted() {
            return;
        }
        let mut sorted =
            Self { names: Vec::with_capacity(self.names.len()), ends: Vec::with_capacity(self.ends.len()), ..*self };
        for i in order {
            sorted.push(self.name(i));
        }
        *self = sorted;
    }

    /// How many files there are.
    pub fn file_count(&self) -> usize {
        self.ends.len()
    }

    /// How many mini-batches there are.
    pub fn mini_batch_count(&self) -> u64 {
        self.ends.len().div_ceil(self.mini_batch_size) as u64
    }

    /// The names of one mini-batch's files; none past the last.
    pub fn mini_batch(&self, index: u64) -> impl ExactSizeIterator<Item = &[u8]> {
        self.files_of(index).map(|i| self.name(i))
    }

    fn files_of(&self, index: u64) -> Range<usize> {
        let all = self.ends.len();
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(self.mini_batch_size).min(all);
        start..start.saturating_add(self.mini_batch_size).min(all)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the buffer is in memory")]
    fn name(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.names[start..self.ends[i] as usize]
    }

    /// The plan as bytes: the size of a mini-batch, then each name and a zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\0", self.mini_batch_size).into_bytes();
        bytes.reserve(self.names.len() + self.ends.len());
        for i in 0..self.ends.len() {
            bytes.extend_from_slice(self.name(i));
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
        let mut plan = Self { names: Vec::with_capacity(bytes.len()), ends: Vec::new(), mini_batch_size };
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
        assert_eq!(Plan::from_bytes(&plan.to_bytes()).unwrap(), plan);
        for bad in [&b""[..], b"0\0", b"x\0a\0", b"3"] {
            assert!(Plan::from_bytes(bad).is_err());
        }
    }
}
