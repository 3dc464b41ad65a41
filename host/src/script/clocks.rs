//! What time it is for a script. Real time, cut to milliseconds; or, where the deployment asks for runs that repeat
//! themselves, a time that only the script's own doings move.
//!
//! A virtual clock begins anew with each call, at an instant that the mini-batch decides; each reading moves it by a
//! microsecond, and waiting moves it to what is waited for, at once. So a retry, another instance and another machine
//! read the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder, async_trait};

use super::state::State;

/// How fine real time is. What another tenant does with a shared cache shows in nanoseconds; scripts that measure
/// themselves do so in milliseconds. It makes such listening slow, not impossible.
const GRAIN: Duration = Duration::from_millis(1);

/// What one reading of a virtual clock takes, in nanoseconds.
const STEP_NS: u64 = 1000;

/// Between the beginnings of two mini-batches, in nanoseconds: an hour, so that the time of an instance, which sees them
/// in order, goes forward.
const SLOT_NS: u64 = 3600 * 1_000_000_000;

/// Slots before they begin again: those that 64 bits of nanoseconds have.
const SLOTS: u64 = 4_000_000;

/// When virtual time begins: 2020-01-01, UTC, in seconds.
const EPOCH: Duration = Duration::from_secs(1_577_836_800);

/// The clocks of one instance.
#[derive(Clone)]
pub(crate) enum Clocks {
    /// Since this instant, for the clock that only goes forward.
    Real(Instant),
    /// Nanoseconds since [`EPOCH`], for both.
    Virtual(Arc<AtomicU64>),
}

impl Clocks {
    pub(crate) fn new(is_virtual: bool) -> Self {
        if is_virtual { Self::Virtual(Arc::default()) } else { Self::Real(Instant::now()) }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }

    /// Gives WASI these clocks.
    pub(crate) fn install(&self, builder: &mut WasiCtxBuilder) {
        builder.wall_clock(self.clone()).monotonic_clock(self.clone());
    }

    /// Begins a call of a mini-batch, or `init` with none.
    pub(crate) fn begin(&self, mini_batch: Option<u64>) {
        if let Self::Virtual(now) = self {
            now.store(mini_batch.map_or(0, |n| (n % SLOTS + 1) * SLOT_NS), Ordering::Relaxed);
        }
    }

    /// Never zero, which Go's runtime takes for a clock that does not go, and ends.
    fn monotonic(&self) -> Duration {
        match self {
            Self::Real(began) => coarse(began.elapsed()) + GRAIN,
            Self::Virtual(now) => Duration::from_nanos(now.fetch_add(STEP_NS, Ordering::Relaxed) + STEP_NS),
        }
    }
}

fn coarse(time: Duration) -> Duration {
    time - Duration::from_nanos((time.as_nanos() % GRAIN.as_nanos()) as u64)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl HostMonotonicClock for Clocks {
    fn resolution(&self) -> u64 {
        if self.is_virtual() { STEP_NS } else { nanoseconds(GRAIN) }
    }

    fn now(&self) -> u64 {
        nanoseconds(self.monotonic())
    }
}

impl HostWallClock for Clocks {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(HostMonotonicClock::resolution(self))
    }

    fn now(&self) -> Duration {
        match self {
            // Before 1970 it is 1970.
            Self::Real(_) => coarse(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Virtual(_) => EPOCH + self.monotonic(),
        }
    }
}

/// Replaces WASI's monotonic clock in the linker: its own waits in real time, whatever the clock says.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(HostMonotonicClock::now(&self.clocks))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(HostMonotonicClock::resolution(&self.clocks))
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match &self.clocks {
            Clocks::Real(_) => self.clocks().subscribe_instant(when),
            Clocks::Virtual(now) => {
                let waiting = Jump { now: Arc::clone(now), when };
                let waiting = self.table.push(waiting)?;
                subscribe(&mut self.table, waiting)
            }
        }
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match &self.clocks {
            Clocks::Real(_) => self.clocks().subscribe_duration(duration),
            Clocks::Virtual(now) => {
                let when = now.load(Ordering::Relaxed).saturating_add(duration);
                self.subscribe_instant(when)
            }
        }
    }
}

/// Waits for an instant of a virtual clock, which comes by being waited for.
struct Jump {
    now: Arc<AtomicU64>,
    when: u64,
}

#[async_trait]
impl Pollable for Jump {
    async fn ready(&mut self) {
        // Others get their turn, so that a loop of waits starves nobody.
        tokio::task::yield_now().await;
        // Guest-controlled: the end of time stays a few readings away, so that reading it does not begin anew.
        let when = self.when.min(u64::MAX - SLOT_NS);
        self.now.fetch_max(when, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_is_the_mini_batchs_and_moves_by_readings_alone() {
        let (one, other) = (Clocks::new(true), Clocks::new(true));
        let readings = |clocks: &Clocks, mini_batch| {
            clocks.begin(mini_batch);
            let first = HostMonotonicClock::now(clocks);
            (first, HostMonotonicClock::now(clocks) - first, HostWallClock::now(clocks))
        };
        assert_eq!(readings(&one, Some(7)), readings(&other, Some(7)));
        assert_eq!(readings(&one, Some(7)), readings(&one, Some(7)));
        assert_eq!(readings(&one, Some(7)).1, STEP_NS);
        // `init`, then mini-batches in order: forward.
        let [init, first, second] = [None, Some(0), Some(1)].map(|n| readings(&one, n));
        assert!(init < first && first < second);
        // More mini-batches than there are hours.
        assert_eq!(readings(&one, Some(u64::MAX)).1, STEP_NS);
    }

    #[test]
    fn no_clock_reads_zero() {
        for is_virtual in [false, true] {
            assert!(HostMonotonicClock::now(&Clocks::new(is_virtual)) > 0, "virtual: {is_virtual}");
        }
    }

    #[test]
    fn real_time_is_cut_to_milliseconds_and_goes_on() {
        let clocks = Clocks::new(false);
        clocks.begin(Some(3));
        let before = HostMonotonicClock::now(&clocks);
        std::thread::sleep(Duration::from_millis(3));
        let after = HostMonotonicClock::now(&clocks);
        assert!(after >= before + 2_000_000, "{before} {after}");
        assert_eq!((before % 1_000_000, after % 1_000_000), (0, 0));
        let wall = HostWallClock::now(&clocks);
        assert_eq!(wall.subsec_nanos() % 1_000_000, 0);
        assert!(wall > EPOCH);
    }
}
