//! Runs → images a second: a median of windows of time, with the slowest and the fastest of them.
//!
//! What goes in: something to run, how many pictures it is, and for how long. What comes out: a [`Rate`]. The first runs
//! are thrown away: drivers compile, caches fill, clocks rise.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::{BenchError, keep_best};
use crate::infer::session::{Answer, Session};
use crate::tensor::Tensor;

/// Images a second.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Rate {
    /// The median of the windows.
    pub images_per_second: f64,
    /// The slowest window.
    pub slowest: f64,
    /// The fastest window.
    pub fastest: f64,
    /// How many windows there were.
    pub windows: usize,
}

impl Rate {
    /// The median of `rates`, of which there is at least one; of an even count the upper one of the middle.
    fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        let at = |place: usize| rates.get(place).copied().unwrap_or(0.0);
        Self {
            images_per_second: at(rates.len() / 2),
            slowest: at(0),
            fastest: at(rates.len().saturating_sub(1)),
            windows: rates.len(),
        }
    }
}

/// Runs thrown away, unless they alone take as long as the measurement should.
const WARM: usize = 3;

/// The fewest windows.
const WINDOWS: u32 = 3;

/// Into how many windows the time is cut.
const PARTS: u32 = 6;

/// Requests under way at once: one is computed while the next one's inputs are copied and the last one's results are read,
/// and one waits, so that the queue is never empty.
const UNDER_WAY: usize = 4;

/// Ends of runs → windows. Knows no clock.
struct Windows {
    images: usize,
    time: Duration,
    began: Instant,
    warm: usize,
    window: Instant,
    runs: usize,
    rates: Vec<f64>,
}

impl Windows {
    fn new(images: usize, time: Duration, now: Instant) -> Self {
        Self { images, time, began: now, warm: 0, window: now, runs: 0, rates: Vec::new() }
    }

    /// Notes that a run ended at `now`; whether that is enough.
    fn ran(&mut self, now: Instant) -> bool {
        if self.warm < WARM {
            let is_last = self.warm + 1 == WARM || now - self.began >= self.time;
            self.warm = if is_last { WARM } else { self.warm + 1 };
            self.window = now;
            if is_last {
                self.began = now;
            }
            return false;
        }
        self.runs += 1;
        let taken = now - self.window;
        if taken >= self.time / PARTS && !taken.is_zero() {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            self.rates.push((self.runs * self.images) as f64 / taken.as_secs_f64());
            (self.window, self.runs) = (now, 0);
        }
        self.rates.len() >= WINDOWS as usize && now - self.began >= self.time
    }
}

/// The rate of `run`, which is `images` pictures, one run after the other.
pub(super) fn repeated<E>(images: usize, time: Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<Rate, E> {
    let mut windows = Windows::new(images, time, Instant::now());
    loop {
        run()?;
        if windows.ran(Instant::now()) {
            return Ok(Rate::of(windows.rates));
        }
    }
}

/// The rate of `session` with several requests under way, each of `batch.0` pictures that `next` gives until it has no
/// more; of each row the `batch.1` best are taken.
pub(super) fn queued(
    session: &Session,
    batch: (usize, usize),
    time: Duration,
    next: &mut dyn FnMut() -> Option<Vec<Tensor>>,
) -> Result<Rate, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(BenchError::Threads)?;
    runtime.block_on(async {
        let (images, top) = batch;
        let device_ns = Arc::new(AtomicU64::new(0));
        let mut waiting: VecDeque<Answer> = VecDeque::with_capacity(UNDER_WAY);
        let mut windows = Windows::new(images, time, Instant::now());
        let mut is_more = true;
        loop {
            while is_more && waiting.len() < UNDER_WAY {
                match next() {
                    Some(inputs) => waiting.push_back(session.predict(inputs, &device_ns, Box::new(())).await?),
                    None => is_more = false,
                }
            }
            let Some(first) = waiting.pop_front() else { return Ok(Rate::of(windows.rates)) };
            keep_best(&first.outputs().await?, top);
            if windows.ran(Instant::now()) {
                // What is still under way ends before the next measurement begins.
                for rest in waiting {
                    rest.outputs().await?;
                }
                return Ok(Rate::of(windows.rates));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates of runs that take these many milliseconds each, in order and then the last for ever.
    fn rates(took: &[u64], time: u64) -> Vec<f64> {
        let mut now = Instant::now();
        let mut windows = Windows::new(10, Duration::from_millis(time), now);
        for at in 0..10_000 {
            now += Duration::from_millis(took[at.min(took.len() - 1)]);
            if windows.ran(now) {
                return windows.rates;
            }
        }
        panic!("it does not end")
    }

    #[test]
    fn the_first_runs_are_thrown_away_and_windows_are_filled() {
        // 10 pictures in 10 ms are 1000 a second; 600 ms are 60 runs in 6 windows of 100 ms.
        assert_eq!(rates(&[90, 80, 70, 10], 600), [1000.0; 6]);
    }

    #[test]
    fn slow_runs_are_few_but_never_fewer_than_three() {
        // One is thrown away, since it took the whole time.
        assert_eq!(rates(&[700, 500], 600), [20.0; 3]);
        assert_eq!(rates(&[400, 400, 500], 600), [20.0; 3], "two are thrown away");
    }

    #[test]
    fn runs_that_take_no_time_do_not_divide_by_it() {
        let mut took = vec![0; 50];
        took.push(1);
        assert!(rates(&took, 0).iter().all(|rate| rate.is_finite()));
    }

    #[test]
    fn a_rate_is_the_median_between_the_extremes() {
        let rate = Rate::of(vec![3.0, 1.0, 2.0, 9.0, 2.5]);
        assert_eq!(rate, Rate { images_per_second: 2.5, slowest: 1.0, fastest: 9.0, windows: 5 });
    }

    #[test]
    fn a_run_that_fails_ends_the_measurement() {
        let mut runs = 0;
        let failed = repeated(1, Duration::from_secs(60), || {
            runs += 1;
            if runs == 5 { Err("broken") } else { Ok(()) }
        });
        assert_eq!(failed, Err("broken"));
    }
}
