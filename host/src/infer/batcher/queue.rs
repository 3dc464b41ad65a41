//! What waits for a device, and the choice of what runs next: pure, without clocks, threads or tensors.
//!
//! What goes in: calls with their tenant, their kind (what may run together) and their rows. What comes out: pieces of
//! calls of one kind that fill a run. A tenant pays with device time for what it gets, and the one that has paid least
//! is next; that is start-time fair queueing (Goyal, Vin and Cheng, 1996) with one weight for all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long the first request waits for company when the device is idle. A run of one picture takes a millisecond and
/// more, so this costs it little; a crowd of threads that were answered together is back within it.
pub(super) const LINGER: Duration = Duration::from_micros(200);

/// Runs on the device at once: one that computes, one that is queued behind it so that it never idles, and one that is
/// being copied to the device or read back.
pub(super) const IN_FLIGHT: usize = 3;

/// Rows that are worth a run of their own although others are in flight. From here on a run's time grows with its rows,
/// so that little is lost by not waiting for more, and its copying is hidden behind the run before it; below, a run
/// costs about the same whatever it holds, and company is worth more. A client that has as much waiting as it may
/// reaches it, so that the device does not wait for company that cannot come.
pub(super) const ENOUGH: usize = 64;

/// What a tenant's rows are thought to take each, in nanoseconds, before its first run has been measured.
const FIRST_PRICE: u64 = 50_000;

/// Everything that waits for one device. `K` is what calls must have in common to run together, `T` is a call.
pub(super) struct Queue<K, T> {
    tenants: BTreeMap<Arc<str>, Tenant<K, T>>,
    /// Where those begin who come back, or anew: what the tenant that was served last had paid. Never goes back.
    clock: u64,
    arrivals: u64,
}

struct Tenant<K, T> {
    clients: usize,
    /// Nanoseconds of device time, counted from the clock whenever it had nothing waiting.
    paid: u64,
    /// What its runs in flight are thought to take, in nanoseconds.
    owed: u64,
    /// What a row took in the last run that it had a part in, in nanoseconds.
    price: u64,
    /// Never an empty one.
    lanes: Vec<Lane<K, T>>,
}

/// The calls of a tenant that may run together, oldest first.
struct Lane<K, T> {
    kind: K,
    calls: VecDeque<Waiting<T>>,
    /// The rows of all its calls that have not been taken.
    rows: usize,
}

struct Waiting<T> {
    call: T,
    arrival: u64,
    /// The first row that has not been taken.
    next: usize,
    rows: usize,
}

/// Some rows of a call.
pub(super) struct Piece<T> {
    pub(super) call: T,
    pub(super) start: usize,
    pub(super) count: usize,
    /// Whether none of the call's rows wait any more.
    pub(super) is_last: bool,
    tenant: Arc<str>,
    /// What its tenant owes for it until the run has ended, in nanoseconds.
    owed: u64,
}

/// What runs together.
pub(super) struct Taken<K, T> {
    pub(super) kind: K,
    /// At least one.
    pub(super) pieces: Vec<Piece<T>>,
    /// The rows of all pieces.
    pub(super) rows: usize,
}

/// What is ahead of the queue.
pub(super) struct Front<'a, K, T> {
    /// The kind that runs next.
    pub(super) kind: &'a K,
    /// How many rows of that kind wait, those of calls that were given up included.
    pub(super) rows: usize,
    /// The call that has waited longest, of any kind.
    pub(super) oldest: &'a T,
}

impl<K: Clone + PartialEq, T: Clone> Queue<K, T> {
    pub(super) fn new() -> Self {
        Self { tenants: BTreeMap::new(), clock: 0, arrivals: 0 }
    }

    /// A client of `tenant` begins.
    pub(super) fn enter(&mut self, tenant: &Arc<str>) {
        self.tenant(tenant).clients += 1;
    }

    /// A client of `tenant` ends; what it asked for stays.
    pub(super) fn leave(&mut self, tenant: &str) {
        if let Some(found) = self.tenants.get_mut(tenant) {
            found.clients = found.clients.saturating_sub(1);
        }
        self.forget();
    }

    /// Forgets the tenants that have left, once they have paid no more than who comes anew: leaving and coming again
    /// is no way to be served first. When all is quiet, nobody has anything to wait for, and all are equal.
    fn forget(&mut self) {
        if self.tenants.values().all(|tenant| tenant.owed == 0 && tenant.lanes.is_empty()) {
            self.clock = self.tenants.values().map(|tenant| tenant.paid).fold(self.clock, u64::max);
        }
        let clock = self.clock;
        let is_needed = |t: &Tenant<K, T>| t.clients > 0 || t.owed > 0 || !t.lanes.is_empty() || t.paid > clock;
        self.tenants.retain(|_, tenant| is_needed(tenant));
    }

    fn tenant(&mut self, name: &Arc<str>) -> &mut Tenant<K, T> {
        let new = Tenant { clients: 0, paid: self.clock, owed: 0, price: FIRST_PRICE, lanes: Vec::new() };
        self.tenants.entry(Arc::clone(name)).or_insert(new)
    }

    /// A call of `tenant` with at least one row.
    pub(super) fn push(&mut self, tenant: &Arc<str>, kind: K, call: T, rows: usize) {
        let (arrival, clock) = (self.arrivals, self.clock);
        self.arrivals += 1;
        let tenant = self.tenant(tenant);
        if tenant.lanes.is_empty() {
            // Who had nothing to run has saved nothing by it.
            tenant.paid = tenant.paid.max(clock);
        }
        let waiting = Waiting { call, arrival, next: 0, rows };
        match tenant.lanes.iter_mut().find(|lane| lane.kind == kind) {
            Some(lane) => {
                lane.calls.push_back(waiting);
                lane.rows = lane.rows.saturating_add(rows);
            }
            None => tenant.lanes.push(Lane { kind, calls: VecDeque::from([waiting]), rows }),
        }
    }

    /// What would be taken next; none if nothing waits.
    pub(super) fn front(&self) -> Option<Front<'_, K, T>> {
        let (tenant, lane) = self.pick(None)?;
        let kind = &self.tenants[&tenant].lanes[lane].kind;
        let lanes = || self.tenants.values().flat_map(|tenant| &tenant.lanes);
        let rows = lanes().filter(|lane| lane.kind == *kind).map(|lane| lane.rows).fold(0, usize::saturating_add);
        let oldest = lanes().filter_map(|lane| lane.calls.front()).min_by_key(|waiting| waiting.arrival)?;
        Some(Front { kind, rows, oldest: &oldest.call })
    }

    /// Of the tenants with a call of `kind`, or of any, the one that has paid and owes least, and its lane with the
    /// oldest call. Of two that have paid the same, the one whose call is older.
    fn pick(&self, kind: Option<&K>) -> Option<(Arc<str>, usize)> {
        let oldest = |tenant: &Tenant<K, T>| {
            let lanes = tenant.lanes.iter().enumerate().filter(|(_, lane)| kind.is_none_or(|kind| lane.kind == *kind));
            lanes.filter_map(|(at, lane)| Some((lane.calls.front()?.arrival, at))).min()
        };
        let candidates = self.tenants.iter().filter_map(|(name, tenant)| {
            let (arrival, lane) = oldest(tenant)?;
            Some((tenant.paid.saturating_add(tenant.owed), arrival, name, lane))
        });
        candidates
            .min_by_key(|&(account, arrival, ..)| (account, arrival))
            .map(|(.., name, lane)| (Arc::clone(name), lane))
    }

    /// Takes up to `room` rows of the oldest call of a lane, which its tenant owes from now on; none if the call is
    /// `given_up`, which is dropped then.
    fn take_piece(
        &mut self,
        (name, at): (Arc<str>, usize),
        room: usize,
        given_up: impl Fn(&T) -> bool,
    ) -> Option<Piece<T>> {
        let tenant = self.tenants.get_mut(&name)?;
        let lane = tenant.lanes.get_mut(at)?;
        let waiting = lane.calls.front_mut()?;
        let left = waiting.rows - waiting.next;
        let (start, count) = (waiting.next, room.min(left));
        let piece = (!given_up(&waiting.call)).then(|| {
            let call = waiting.call.clone();
            let owed = tenant.price.saturating_mul(count as u64);
            Piece { call, start, count, is_last: count == left, tenant: Arc::clone(&name), owed }
        });
        let gone = if piece.is_some() { count } else { left };
        waiting.next += gone;
        lane.rows = lane.rows.saturating_sub(gone);
        if let Some(piece) = &piece {
            self.clock = self.clock.max(tenant.paid);
            tenant.owed = tenant.owed.saturating_add(piece.owed);
        }
        if gone == left {
            lane.calls.pop_front();
            if lane.calls.is_empty() {
                tenant.lanes.remove(at);
            }
        }
        piece
    }

    /// A run has taken `ns` nanoseconds: each tenant pays for its share of the rows, instead of what was thought.
    pub(super) fn charge(&mut self, taken: &Taken<K, T>, ns: u64) {
        for piece in &taken.pieces {
            if let Some(tenant) = self.tenants.get_mut(&piece.tenant) {
                tenant.owed = tenant.owed.saturating_sub(piece.owed);
                tenant.paid = tenant.paid.saturating_add(taken.share(piece, ns));
                // Never nothing, so that who has runs in flight owes something.
                tenant.price = (ns / (taken.rows as u64).max(1)).max(1);
            }
        }
        self.forget();
    }
}

impl<K, T> Taken<K, T> {
    /// How much of `ns` belongs to the rows of `piece`.
    pub(super) fn share(&self, piece: &Piece<T>, ns: u64) -> u64 {
        let share = u128::from(ns) * piece.count as u128 / (self.rows as u128).max(1);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Takes what runs next. The tenant that has paid least goes first, and its oldest call says which kind; further calls
/// of that kind join by the same rule until the run has as many rows as `room` says. A call that does not fit is cut:
/// its rest stays where it was. Within a tenant, calls of one kind keep their order. Calls that are `given_up` are
/// dropped. None if nothing is left.
pub(super) fn take_batch<K: Clone + PartialEq, T: Clone>(
    queue: &mut Queue<K, T>,
    room: impl Fn(&K) -> usize,
    given_up: impl Fn(&T) -> bool,
) -> Option<Taken<K, T>> {
    let mut taken: Option<Taken<K, T>> = None;
    let mut left = 1;
    while left > 0
        && let Some((tenant, lane)) = queue.pick(taken.as_ref().map(|taken| &taken.kind))
    {
        let kind = queue.tenants[&tenant].lanes[lane].kind.clone();
        if taken.is_none() {
            left = room(&kind).max(1);
        }
        let Some(piece) = queue.take_piece((tenant, lane), left, &given_up) else { continue };
        left -= piece.count;
        let taken = taken.get_or_insert_with(|| Taken { kind, pieces: Vec::new(), rows: 0 });
        taken.rows += piece.count;
        taken.pieces.push(piece);
    }
    taken
}

/// What the device's thread knows when it decides.
pub(super) struct Situation {
    /// Runs that have begun and not ended.
    pub(super) in_flight: usize,
    /// Rows that may join the next run.
    pub(super) rows: usize,
    /// The most rows of a run.
    pub(super) room: usize,
    /// For how long the oldest call has waited.
    pub(super) waited: Duration,
}

/// What the device's thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Begins a run.
    Begin,
    /// Waits until something changes.
    Wait,
    /// Waits until something changes, no longer than this.
    WaitFor(Duration),
}

/// Whether to begin a run now. A full run, or one with [`ENOUGH`] rows, begins at once while there is a place in flight.
/// Smaller ones gather while the device is busy, since what came meanwhile then runs together for about the price of one
/// row; threads that each wait for one answer so fall into step. On an idle device they gather for [`LINGER`].
pub(super) fn next_step(now: &Situation) -> Step {
    let is_enough = now.rows >= now.room.clamp(1, ENOUGH);
    match now.in_flight {
        IN_FLIGHT.. => Step::Wait,
        _ if is_enough => Step::Begin,
        0 if now.waited >= LINGER => Step::Begin,
        0 => Step::WaitFor(LINGER - now.waited),
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Models by name, calls by number.
    type Calls = Queue<&'static str, u32>;

    fn tenant(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn queue(calls: &[(&str, &'static str, u32, usize)]) -> Calls {
        let mut queue = Calls::new();
        for &(name, kind, call, rows) in calls {
            queue.push(&tenant(name), kind, call, rows);
        }
        queue
    }

    fn pieces(taken: &Taken<&'static str, u32>) -> Vec<(u32, usize, usize)> {
        taken.pieces.iter().map(|piece| (piece.call, piece.start, piece.count)).collect()
    }

    struct Case {
        why: &'static str,
        /// Tenant, kind, number, rows.
        calls: &'static [(&'static str, &'static str, u32, usize)],
        room: usize,
        given_up: &'static [u32],
        /// Call, first row, rows; of each run until nothing waits.
        runs: &'static [&'static [(u32, usize, usize)]],
    }

    const CASES: &[Case] = &[
        Case { why: "nothing waits", calls: &[], room: 8, given_up: &[], runs: &[] },
        Case {
            why: "oldest first, and what is left runs next",
            calls: &[("a", "x", 1, 1), ("a", "x", 2, 1), ("a", "x", 3, 1)],
            room: 2,
            given_up: &[],
            runs: &[&[(1, 0, 1), (2, 0, 1)], &[(3, 0, 1)]],
        },
        Case {
            why: "the oldest call says which model; those of another wait, and keep their turn",
            calls: &[("a", "x", 1, 1), ("a", "y", 2, 1), ("a", "x", 3, 1), ("a", "y", 4, 1)],
            room: 8,
            given_up: &[],
            runs: &[&[(1, 0, 1), (3, 0, 1)], &[(2, 0, 1), (4, 0, 1)]],
        },
        Case {
            why: "a call that does not fit is cut, and its rest stays ahead of the next",
            calls: &[("a", "x", 1, 2), ("a", "x", 2, 7), ("a", "x", 3, 1)],
            room: 4,
            given_up: &[],
            runs: &[&[(1, 0, 2), (2, 0, 2)], &[(2, 2, 4)], &[(2, 6, 1), (3, 0, 1)]],
        },
        Case {
            why: "tenants take turns, however many calls each has",
            calls: &[
                ("a", "x", 1, 1),
                ("a", "x", 2, 1),
                ("a", "x", 3, 1),
                ("a", "x", 4, 1),
                ("b", "x", 5, 1),
                ("b", "x", 6, 1),
            ],
            room: 4,
            given_up: &[],
            runs: &[&[(1, 0, 1), (5, 0, 1), (2, 0, 1), (6, 0, 1)], &[(3, 0, 1), (4, 0, 1)]],
        },
        Case {
            why: "a turn is a call: who sent many rows at once waits for its next turn as long",
            calls: &[
                ("a", "x", 1, 3),
                ("a", "x", 2, 3),
                ("b", "x", 3, 1),
                ("b", "x", 4, 1),
                ("b", "x", 5, 1),
                ("b", "x", 6, 1),
            ],
            room: 8,
            given_up: &[],
            runs: &[&[(1, 0, 3), (3, 0, 1), (4, 0, 1), (5, 0, 1), (2, 0, 2)], &[(6, 0, 1), (2, 2, 1)]],
        },
        Case {
            why: "calls of other tenants join for the model of the first",
            calls: &[("a", "x", 1, 1), ("b", "y", 2, 1), ("b", "x", 3, 1)],
            room: 8,
            given_up: &[],
            runs: &[&[(1, 0, 1), (3, 0, 1)], &[(2, 0, 1)]],
        },
        Case {
            why: "calls that were given up do not run, wherever they are",
            calls: &[("a", "y", 1, 1), ("a", "x", 2, 1), ("a", "x", 3, 9), ("a", "x", 4, 1), ("b", "z", 5, 1)],
            room: 4,
            given_up: &[1, 3, 5],
            runs: &[&[(2, 0, 1), (4, 0, 1)]],
        },
        Case {
            why: "a model without any room runs row by row",
            calls: &[("a", "x", 1, 2)],
            room: 0,
            given_up: &[],
            runs: &[&[(1, 0, 1)], &[(1, 1, 1)]],
        },
    ];

    #[test]
    fn a_run_is_taken_as_the_rules_say() {
        for case in CASES {
            let mut queue = queue(case.calls);
            let mut runs = Vec::new();
            while let Some(taken) = take_batch(&mut queue, |_| case.room, |call| case.given_up.contains(call)) {
                assert_eq!(taken.rows, taken.pieces.iter().map(|piece| piece.count).sum::<usize>(), "{}", case.why);
                runs.push(pieces(&taken));
            }
            assert_eq!(runs, case.runs, "{}", case.why);
            assert!(queue.front().is_none(), "{}: something is left", case.why);
        }
    }

    #[test]
    fn the_front_says_what_would_run_and_how_much_of_it_waits() {
        let mut queue = queue(&[("a", "x", 1, 3), ("a", "y", 2, 1), ("b", "x", 3, 4)]);
        let front = queue.front().unwrap();
        assert_eq!((*front.kind, front.rows, *front.oldest), ("x", 7, 1));
        take_batch(&mut queue, |_| 2, |_| false).unwrap();
        // The other tenant is next now; what has waited longest is still the call that was cut.
        let front = queue.front().unwrap();
        assert_eq!((*front.kind, front.rows, *front.oldest), ("x", 5, 1));
    }

    /// A tenant, the kind of its calls, and their rows.
    type Sender = (&'static str, &'static str, usize);

    /// Keeps calls of these tenants waiting for `runs` runs of a device that takes `cost` nanoseconds for a
    /// row of a kind and some more for each run, up to three in flight. Answers what each tenant used of it.
    fn contend(queue: &mut Calls, tenants: &[Sender], runs: usize) -> BTreeMap<String, f64> {
        let cost = |kind: &str| if kind == "slow" { 900_000 } else { 30_000 };
        let (mut used, mut in_flight) = (BTreeMap::new(), VecDeque::new());
        let mut end = |queue: &mut Calls, taken: Taken<&'static str, u32>, run: u64| {
            // Runs vary, as clocks and other work on a device do.
            let ns = (taken.rows as u64 * cost(taken.kind) + 500_000) * (90 + run * 7 % 21) / 100;
            queue.charge(&taken, ns);
            for piece in &taken.pieces {
                *used.entry(piece.tenant.to_string()).or_default() += taken.share(piece, ns) as f64;
            }
        };
        for run in 0..runs as u64 {
            for &(name, kind, rows) in tenants {
                let lane = || queue.tenants.get(name).and_then(|t| t.lanes.iter().find(|lane| lane.kind == kind));
                for _ in lane().map_or(0, |lane| lane.rows).div_ceil(rows)..64 {
                    queue.push(&tenant(name), kind, 0, rows);
                }
            }
            in_flight.push_back(take_batch(queue, |_| 64, |_| false).unwrap());
            if in_flight.len() == IN_FLIGHT {
                end(queue, in_flight.pop_front().unwrap(), run);
            }
        }
        in_flight.into_iter().for_each(|taken| end(queue, taken, 0));
        used
    }

    #[test]
    fn tenants_get_equal_device_time_whatever_they_send() {
        let cases: [(&str, &[Sender]); 5] = [
            ("one row at a time", &[("a", "x", 1), ("b", "x", 1)]),
            ("rows against batches", &[("a", "x", 1), ("b", "x", 100)]),
            ("a light model against a heavy one", &[("a", "x", 1), ("b", "slow", 16)]),
            ("different models of one cost", &[("a", "x", 7), ("b", "y", 64)]),
            ("three", &[("a", "x", 1), ("b", "slow", 1), ("c", "y", 30)]),
        ];
        for (why, tenants) in cases {
            let mut queue = Calls::new();
            tenants.iter().for_each(|&(name, ..)| queue.enter(&tenant(name)));
            let used = contend(&mut queue, tenants, 3000);
            let mean = used.values().sum::<f64>() / tenants.len() as f64;
            assert!(used.values().all(|&ns| (ns / mean - 1.0).abs() < 0.02), "{why}: {used:?}");
        }
    }

    #[test]
    fn sixteen_clients_get_no_more_than_one_client_of_another_tenant() {
        let mut queue = Calls::new();
        (0..16).for_each(|_| queue.enter(&tenant("many")));
        queue.enter(&tenant("one"));
        let clients: Vec<_> = std::iter::repeat_n(("many", "x", 1), 16).chain([("one", "x", 1)]).collect();
        let used = contend(&mut queue, &clients, 500);
        assert!((used["many"] / used["one"] - 1.0).abs() < 0.02, "{used:?}");
    }

    #[test]
    fn who_leaves_and_comes_again_for_every_call_gets_no_more() {
        // Nobody has entered, so that a tenant is forgotten whenever it has nothing waiting.
        let used = contend(&mut Calls::new(), &[("a", "x", 1), ("b", "x", 100)], 3000);
        assert!((used["a"] / used["b"] - 1.0).abs() < 0.05, "{used:?}");
    }

    #[test]
    fn a_tenant_saves_nothing_by_waiting() {
        for before in [("a", "x", 1), ("a", "slow", 16)] {
            let mut queue = Calls::new();
            queue.enter(&tenant("a"));
            queue.enter(&tenant("b"));
            contend(&mut queue, &[before], 1000);
            let used = contend(&mut queue, &[("a", "x", 1), ("b", "x", 1)], 400);
            // It is ahead by no more than what was in flight when it came, which the other has yet to pay: three runs,
            // the heaviest of 65 ms.
            assert!(used["b"] - used["a"] < 3.0 * 65e6, "{used:?}");
        }
    }

    #[test]
    fn a_tenant_that_asks_for_little_saves_nothing_by_it() {
        let mut queue = queue(&[]);
        for run in 0..1000 {
            // The one has a single row in each run, the other fills them.
            queue.push(&tenant("little"), "x", run, 1);
            (0..64).for_each(|_| queue.push(&tenant("much"), "x", run, 1));
            let taken = take_batch(&mut queue, |_| 64, |_| false).unwrap();
            assert_eq!(taken.pieces.iter().filter(|piece| &*piece.tenant == "little").count(), 1, "run {run}");
            queue.charge(&taken, 3_000_000);
        }
        let used = contend(&mut queue, &[("much", "x", 1), ("little", "x", 1)], 40);
        assert!(used["little"] / (used["much"] + used["little"]) < 0.6, "{used:?}");
    }

    #[test]
    fn a_late_tenant_is_in_the_next_run() {
        for (kind, rows) in [("x", 1), ("y", 1), ("y", 64)] {
            let mut queue = queue(&[]);
            contend(&mut queue, &[("a", "x", 64), ("b", "x", 1)], 100);
            queue.push(&tenant("late"), kind, 99, rows);
            let taken = take_batch(&mut queue, |_| 64, |_| false).unwrap();
            assert_eq!(pieces(&taken)[0], (99, 0, rows), "{kind}");
        }
    }

    #[test]
    fn tenants_are_forgotten_when_they_have_left_and_are_ahead_of_nobody() {
        let mut queue = Calls::new();
        queue.enter(&tenant("a"));
        queue.enter(&tenant("a"));
        queue.push(&tenant("a"), "x", 1, 1);
        queue.leave("a");
        queue.leave("a");
        assert_eq!(queue.tenants.len(), 1, "its call still waits");
        let taken = take_batch(&mut queue, |_| 8, |_| false).unwrap();
        queue.push(&tenant("b"), "x", 2, 1);
        queue.charge(&taken, 1_000_000);
        assert_eq!(queue.tenants.len(), 2, "it has paid more than who waits");
        let taken = take_batch(&mut queue, |_| 8, |_| false).unwrap();
        queue.charge(&taken, 1_000);
        assert_eq!((queue.tenants.len(), queue.clock), (0, 1_000_000), "all is quiet");
    }

    #[test]
    fn a_run_begins_when_it_is_worth_it() {
        let micros = Duration::from_micros;
        let cases = [
            ("the idle device waits for company", 0, 1, 256, micros(50), Step::WaitFor(micros(150))),
            ("but not long", 0, 1, 256, micros(200), Step::Begin),
            ("nor if there is enough", 0, ENOUGH, 256, micros(0), Step::Begin),
            ("nor if the run is full", 0, 8, 8, micros(0), Step::Begin),
            ("few rows gather while a run is in flight, however long they wait", 1, 63, 256, micros(9000), Step::Wait),
            ("enough begin behind it", 1, 64, 256, micros(0), Step::Begin),
            ("a full one too", 2, 8, 8, micros(0), Step::Begin),
            ("three are in flight at most", 3, 4096, 256, micros(9000), Step::Wait),
            ("a model without room runs row by row", 1, 1, 0, micros(0), Step::Begin),
        ];
        for (why, in_flight, rows, room, waited, expected) in cases {
            assert_eq!(next_step(&Situation { in_flight, rows, room, waited }), expected, "{why}");
        }
    }
}
