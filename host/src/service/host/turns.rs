//! Whose turn it is: tenants get parts of the host by their weights, measured in the time that their jobs ran, each times
//! its instances or times its part of the device, whichever is more of the host.
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
    /// Instances that the job asks for.
    pub(super) wants: u64,
    /// The job, whose name sorts by time.
    pub(super) job: &'a str,
}

/// A job that runs, for whether it makes room for another tenant's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) tenant: i64,
    /// Above 0.
    pub(super) weight: u32,
    /// Instances of all jobs of its tenant that run.
    pub(super) running: u64,
    /// The [`cost`] of these that [`Turns::used`] was not told of yet.
    pub(super) since: f64,
    /// How long it took until it scored, and how long it has scored since, in seconds; none if it has committed nothing.
    pub(super) scored: Option<(f64, f64)>,
    /// How long its process runs that scores, in seconds.
    pub(super) ran: f64,
    /// How often it made room before having committed nothing.
    pub(super) in_vain: u32,
}

/// What a job takes of the host, in seconds of one instance: of instances and the device whichever is more of all that
/// there is, which is one device and an instance for each processor (Ghodsi et al., Dominant Resource Fairness, 2011).
pub(super) fn cost(instance_seconds: f64, device_seconds: f64, processors: f64) -> f64 {
    instance_seconds.max(device_seconds * processors)
}

/// Seconds that a job scores at least before it makes room: where that shares the host better, and where it only changes
/// who waits. And how often the time that it took to begin, which is lost when it goes on later.
const BETTER: (f64, f64) = (0.5, 2.0);
const SWAPPED: (f64, f64) = (1.0, 4.0);
/// Seconds after which a job makes room that has committed nothing, and so loses what it did: twice as many each time, or
/// one whose first mini-batch takes longer would never end.
const NOTHING: f64 = 600.0;

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

    /// Which of these jobs makes room for one that waits: one of the tenant that has most for its weight, if it has more
    /// than the other will have, or as much and has used more.
    pub(super) fn yields(&self, waiting: &Waiting<'_>, holders: &[Holder]) -> Option<usize> {
        #[expect(clippy::cast_precision_loss, reason = "a proportion")]
        let load = |instances: u64, weight: u32| instances as f64 / f64::from(weight.max(1));
        let of = |tenant: i64| self.used.get(&tenant).copied().unwrap_or(self.level);
        let used = |one: &Holder| of(one.tenant) + one.since / f64::from(one.weight.max(1));
        let then = load(waiting.running + waiting.wants, waiting.weight);
        let may = |one: &Holder| {
            let now = load(one.running, one.weight);
            let (least, times) = if then < now { BETTER } else { SWAPPED };
            let is_due = match one.scored {
                Some((start, scored)) => scored >= least.max(times * start),
                None => one.ran >= NOTHING * f64::from(one.in_vain).exp2(),
            };
            let is_fair = then < now || (then <= now && used(one) - of(waiting.tenant) >= SWAPPED.0);
            one.tenant != waiting.tenant && is_due && is_fair
        };
        let most = |&a: &usize, &b: &usize| {
            let (a, b) = (&holders[a], &holders[b]);
            load(a.running, a.weight).total_cmp(&load(b.running, b.weight)).then(used(a).total_cmp(&used(b)))
        };
        (0..holders.len()).filter(|&at| may(&holders[at])).max_by(most)
    }

    /// Jobs of the tenant took so much of the host, as [`cost`] has it.
    pub(super) fn used(&mut self, tenant: i64, weight: u32, cost: f64) {
        *self.used.entry(tenant).or_insert(self.level) += cost / f64::from(weight.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: f64 = 1.0;

    fn waiting(tenant: i64, weight: u32, job: &str) -> Waiting<'_> {
        Waiting { tenant, weight, running: 0, wants: 1, job }
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
    fn the_device_is_shared_by_weight_and_weighs_as_much_as_all_processors() {
        // Of four processors: jobs of the first take one and the device all the time, those of the second all four and no
        // device, those of the third one and no device. One place; each job runs a second.
        let of = [(1.0, 1.0), (4.0, 0.0), (1.0, 0.0)];
        let shares = |weights: [u32; 3]| {
            let (mut turns, mut count) = (Turns::default(), [0; 3]);
            for _ in 0..900 {
                let all = [0, 1, 2].map(|i| waiting(i, weights[i as usize], ["a", "b", "c"][i as usize]));
                let next = turns.choose(&all).unwrap();
                count[next] += 1;
                let (instances, device) = of[next];
                turns.used(next as i64, weights[next], cost(instances, device, 4.0));
            }
            count
        };
        let near = |found: [i32; 3], wanted: [i32; 3]| found.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= 2);
        assert!(near(shares([1, 1, 1]), [150, 150, 600]), "{:?}", shares([1, 1, 1]));
        assert!(near(shares([3, 1, 1]), [338, 112, 450]), "{:?}", shares([3, 1, 1]));
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

    fn holder(tenant: i64, running: u64, scored: f64) -> Holder {
        Holder { tenant, weight: 1, running, since: scored, scored: Some((0.1, scored)), ran: scored + 0.1, in_vain: 0 }
    }

    #[test]
    fn room_is_made_by_whoever_has_more_than_their_share() {
        let turns = Turns::default();
        let one = waiting(2, 1, "b");
        let yields = |holders: &[Holder]| turns.yields(&one, holders);
        // Of two places, one.
        assert_eq!(yields(&[holder(1, 2, 0.6), holder(1, 2, 0.6)]), Some(1));
        assert_eq!(yields(&[holder(1, 2, 0.4), holder(1, 2, 0.6)]), Some(1), "the first has hardly begun");
        // Each has one; and its own do not make room.
        assert_eq!(yields(&[holder(1, 1, 0.9), holder(2, 1, 9.0)]), None);
        // The only place is taken in turns, of a second and more.
        assert_eq!((yields(&[holder(1, 1, 0.9)]), yields(&[holder(1, 1, 1.1)])), (None, Some(0)));
        // What takes long to begin stays longer, and what has committed nothing stays.
        let slow = Holder { scored: Some((10.0, 30.0)), ..holder(1, 1, 30.0) };
        assert_eq!(yields(&[slow]), None);
        assert_eq!(yields(&[Holder { scored: Some((10.0, 41.0)), ..slow }]), Some(0));
        assert_eq!(yields(&[Holder { scored: None, ..slow }]), None);
        // Not for ever; and longer the next time.
        let nothing = |ran, in_vain| yields(&[Holder { scored: None, ran, in_vain, ..slow }]);
        assert_eq!((nothing(599.0, 0), nothing(601.0, 0)), (None, Some(0)));
        assert_eq!((nothing(1199.0, 1), nothing(1201.0, 1)), (None, Some(0)));
        assert_eq!(nothing(1e6, u32::MAX), None);
        // By weight: three of four places are a fair share of three quarters.
        let heavy = Holder { weight: 3, ..holder(1, 3, 9.0) };
        assert_eq!(turns.yields(&Waiting { running: 1, ..one }, &[heavy, heavy, heavy, holder(2, 1, 9.0)]), None);
    }

    /// One tenant with a hundred jobs and one with one, on a host that shares its processors between the jobs that run:
    /// by steps of a hundredth of a second.
    #[test]
    fn a_hundred_jobs_delay_one_by_no_more_than_its_fair_share_and_a_fifth() {
        const STEP: f64 = 0.01;
        for places in [1, 2, 4] {
            for arrives in 0..40 {
                // Seconds that a job takes where it is alone; nothing here depends on more.
                let length = 3.0;
                let mut turns = Turns::default();
                // Who, what is left of its work, how long it has run.
                let mut running: Vec<(i64, f64, f64)> = Vec::new();
                let mut waiting_of = [vec![length; 100], Vec::new()];
                let (mut now, arrival) = (0.0, 7.0 + f64::from(arrives) * 0.15);
                let mut is_there = false;
                let done = loop {
                    if !is_there && now >= arrival {
                        waiting_of[1].push(length);
                        is_there = true;
                    }
                    let held = |tenant: i64, running: &[(i64, f64, f64)]| {
                        running.iter().filter(|r| r.0 == tenant).count() as u64
                    };
                    let who = |running: &[(i64, f64, f64)], waiting_of: &[Vec<f64>; 2]| -> Vec<Waiting<'static>> {
                        let those = (0..2).filter(|&t| !waiting_of[t].is_empty());
                        let those = those.map(|t| i64::try_from(t).unwrap());
                        those
                            .map(|t| Waiting { running: held(t, running), ..waiting(t, 1, ["a", "b"][t as usize]) })
                            .collect()
                    };
                    while running.len() < places {
                        let all = who(&running, &waiting_of);
                        let Some(next) = turns.choose(&all) else { break };
                        let work = waiting_of[all[next].tenant as usize].remove(0);
                        running.push((all[next].tenant, work, 0.0));
                    }
                    let all = who(&running, &waiting_of);
                    if let Some(next) = turns.choose(&all) {
                        let since = |t: i64| running.iter().filter(|r| r.0 == t).map(|r| r.2).sum();
                        let holders: Vec<Holder> = running
                            .iter()
                            .map(|r| Holder { running: held(r.0, &running), since: since(r.0), ..holder(r.0, 1, r.2) })
                            .collect();
                        if let Some(at) = turns.yields(&all[next], &holders) {
                            let (tenant, left, ran) = running.remove(at);
                            turns.used(tenant, 1, ran);
                            // What it takes to begin again.
                            waiting_of[tenant as usize].insert(0, left + 0.1);
                        }
                    }
                    let speed = 1.0 / running.len().max(1) as f64;
                    now += STEP;
                    running.iter_mut().for_each(|r| (r.1, r.2) = (r.1 - STEP * speed, r.2 + STEP));
                    let ended: Vec<_> = running.iter().copied().filter(|r| r.1 <= 0.0).collect();
                    running.retain(|r| r.1 > 0.0);
                    ended.iter().for_each(|r| turns.used(r.0, 1, r.2));
                    if ended.iter().any(|r| r.0 == 1) {
                        break now;
                    }
                };
                // With two tenants on the host, half of it is a fair share; of more places, a tenant's one job has one.
                let fair = length * (places as f64).max(2.0);
                let ratio = (done - arrival) / fair;
                assert!(ratio <= 1.2, "{places} places, arrived at {arrival}: {ratio}");
            }
        }
    }
}
