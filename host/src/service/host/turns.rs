//! Whose turn it is: tenants get parts of the host by their weights, measured in the time that their jobs ran, each times
//! its instances.
//!
//! What goes in: who waits, and what was used. What comes out: who is next. Knows neither jobs nor processes.

use std::collections::{HashMap, HashSet};
/// A tenant whose oldest job waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    pub(super) tenant: i64,
    /// Above 0.
    pub(super) weight: u32,
    /// Instances of its jobs that run.
    pub(super) running: u64,
    /// The job, whose name sorts by time.
    pub(super) job: &'a str,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// What each has used, in seconds divided by its weight.
    used: HashMap<i64, f64>,
    /// Who waited when it was last asked.
    waited: HashSet<i64>,
    /// What the last one that was chosen had used then.
    level: f64,
}

impl Turns {
    /// Whose job is next: of those with the fewest instances running for their weight, whoever has used least. To have been idle
    /// saves nothing up: who comes back begins at the level of the others.
    pub(super) fn choose(&mut self, waiting: &[Waiting<'_>]) -> Option<usize> {
        for one in waiting {
            let used = self.used.entry(one.tenant).or_insert(self.level);
            if !self.waited.contains(&one.tenant) && one.running == 0 {
                *used = used.max(self.level);
            }
        }
        self.waited = waiting.iter().map(|one| one.tenant).collect();
        #[expect(clippy::cast_precision_loss, reason = "a proportion")]
        let load = |one: &Waiting<'_>| one.running as f64 / f64::from(one.weight.max(1));
        let before = |a: &Waiting<'_>, b: &Waiting<'_>| {
            let used = |one: &Waiting<'_>| self.used[&one.tenant];
            load(a).total_cmp(&load(b)).then(used(a).total_cmp(&used(b))).then(a.job.cmp(b.job))
        };
        let next = (0..waiting.len()).min_by(|&a, &b| before(&waiting[a], &waiting[b]))?;
        self.level = self.level.max(self.used[&waiting[next].tenant]);
        Some(next)
    }

    /// Jobs of the tenant ran for so long, each times its instances.
    pub(super) fn used(&mut self, tenant: i64, weight: u32, instance_seconds: f64) {
        *self.used.entry(tenant).or_insert(self.level) += instance_seconds / f64::from(weight.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: f64 = 1.0;

    fn waiting(tenant: i64, weight: u32, job: &str) -> Waiting<'_> {
        Waiting { tenant, weight, running: 0, job }
    }

    #[test]
    fn whoever_waits_longest_is_first_among_equals() {
        let mut turns = Turns::default();
        assert_eq!(turns.choose(&[]), None);
        assert_eq!(turns.choose(&[waiting(1, 1, "b"), waiting(2, 1, "a")]), Some(1));
    }

    #[test]
    fn a_tenant_with_many_jobs_waits_for_another_with_one() {
        let mut turns = Turns::default();
        assert_eq!(turns.choose(&[waiting(1, 1, "a")]), Some(0));
        turns.used(1, 1, SECOND);
        // Its next job is older than the other's only one.
        assert_eq!(turns.choose(&[waiting(1, 1, "b"), waiting(2, 1, "c")]), Some(1));
    }

    #[test]
    fn time_is_shared_by_weight() {
        let (mut turns, mut count) = (Turns::default(), [0, 0]);
        for _ in 0..400 {
            let next = turns.choose(&[waiting(1, 1, "a"), waiting(2, 3, "b")]).unwrap();
            count[next] += 1;
            turns.used([1, 2][next], [1, 3][next], SECOND);
        }
        assert_eq!(count, [100, 300]);
    }

    #[test]
    fn to_have_been_idle_saves_nothing_up() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.choose(&[waiting(1, 1, "a")]);
            turns.used(1, 1, SECOND);
        }
        let mut second = 0;
        for _ in 0..20 {
            let next = turns.choose(&[waiting(1, 1, "a"), waiting(2, 1, "b")]).unwrap();
            second += next;
            turns.used([1, 2][next], 1, SECOND);
        }
        assert!((10..=11).contains(&second), "{second}");
    }

    #[test]
    fn who_runs_less_for_its_weight_is_first() {
        let mut turns = Turns::default();
        let running = |one: Waiting<'static>, running| Waiting { running, ..one };
        let all = [running(waiting(1, 1, "a"), 1), running(waiting(2, 4, "b"), 3), running(waiting(3, 1, "c"), 2)];
        assert_eq!(turns.choose(&all), Some(1));
    }
}
