//! Durations, counted by how long they took. What goes in: seconds, one by one or counted already in another process.
//! What comes out: a histogram.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use serde::{Deserialize, Serialize};

/// Where one count ends and the next begins, in seconds: from an answer out of memory to a job of hours. One row of bounds
/// for all, so that every process counts alike.
const BOUNDS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];

/// Durations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many lie below each bound and not below an earlier one; at the end those above all. Shorter where the rest is
    /// nothing.
    counts: Vec<u64>,
    /// Of all, in seconds.
    sum: f64,
}

impl Spread {
    /// Counts one duration; what is no duration counts as none.
    pub fn add(&mut self, seconds: f64) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        let place = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] = self.counts[place].saturating_add(1);
        self.sum += seconds;
    }

    /// Counts what was counted elsewhere, where it may be wrong.
    pub fn join(&mut self, other: &Spread) {
        if other.counts.len() > BOUNDS.len() + 1 || !other.sum.is_finite() || other.sum < 0.0 {
            return;
        }
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum += other.sum;
    }
}

/// A spread that several threads add to.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Spread>>);

impl Shared {
    pub(super) fn add(&self, seconds: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(seconds);
    }

    pub(super) fn join(&self, other: &Spread) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join(other);
    }
}

impl TypedMetric for Shared {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Shared {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let spread = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let count = |place: usize| spread.counts.get(place).copied().unwrap_or(0);
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]).enumerate();
        let buckets: Vec<_> = bounds.map(|(place, bound)| (bound, count(place))).collect();
        let all = buckets.iter().fold(0u64, |all, (_, count)| all.saturating_add(*count));
        encoder.encode_histogram::<NoLabelSet>(spread.sum, all, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_once_and_lies_are_not() {
        let mut spread = Spread::default();
        for seconds in [0.0, 0.001, 0.002, 90.0, 1e9, -1.0, f64::NAN] {
            spread.add(seconds);
        }
        assert_eq!(spread.counts.len(), BOUNDS.len() + 1);
        assert_eq!((spread.counts[0], spread.counts[1], spread.counts[15], spread.counts[18]), (4, 1, 1, 1));
        let mut joined = spread.clone();
        joined.join(&spread);
        assert_eq!(joined.counts.iter().sum::<u64>(), 14);
        let before = joined.clone();
        joined.join(&Spread { counts: vec![1; 99], sum: 0.0 });
        joined.join(&Spread { counts: vec![1], sum: -1.0 });
        joined.join(&Spread { counts: vec![1], sum: f64::INFINITY });
        assert_eq!(joined, before);
        joined.join(&Spread { counts: vec![u64::MAX], sum: 1.0 });
        assert_eq!(joined.counts[0], u64::MAX);
    }
}
