//! What time it is for scripts: real time in milliseconds, or a time of the mini-batch's own that repeats itself.

use crate::support::{Place, scripts};

/// The probe that tells the time, of four files in four mini-batches, run with these settings and tags.
fn told(settings: &[&str], tags: &[&str]) -> Vec<Vec<String>> {
    timed(settings, tags).0
}

/// And the seconds that the job took.
fn timed(settings: &[&str], tags: &[&str]) -> (Vec<Vec<String>>, f64) {
    let place = Place::with_files(4);
    let settings = [&["mini_batch_size: 1", "retry_settings: {max_retries: 1, timeout: 20}"], settings].concat();
    place.deploy("probe", &settings, &[&["behave: tells-time"], tags].concat());
    let ran = place.run(&[]).completed();
    let rows = ran.predictions().lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    (rows, ran.seconds())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_deterministic_job_tells_the_same_time_in_every_run_attempt_and_instance() {
    if scripts().is_none() {
        return;
    }
    let once = told(&["deterministic: true"], &[]);
    // An instance for each mini-batch, and each mini-batch twice.
    let again = told(&["deterministic: true", "max_concurrency_per_instance: 4"], &["fails: 1"]);
    assert_eq!(once, again);
    // Every mini-batch has a time of its own, in order; two readings are a microsecond apart.
    let days: Vec<u64> = once.iter().map(|row| number(&row[1])).collect();
    assert!(days.is_sorted_by(|a, b| a < b), "{days:?}");
    for row in &once {
        assert_eq!(number(&row[2]), 1000, "{row:?}");
        assert_eq!(number(&row[4]), 20_000, "{row:?}");
    }
}

#[test]
fn sleeping_moves_a_virtual_clock_and_takes_no_time() {
    if scripts().is_none() {
        return;
    }
    let (rows, seconds) = timed(&["deterministic: true"], &["sleep_ms: 3000000"]);
    for row in &rows {
        let slept = number(&row[3]);
        assert!((3_000_000_000_000..3_000_001_000_000).contains(&slept), "{row:?}");
    }
    assert!(seconds < 20.0, "{seconds} s");
}

#[test]
fn real_time_is_told_in_milliseconds() {
    if scripts().is_none() {
        return;
    }
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for row in told(&[], &[]) {
        for time in &row[1..4] {
            assert_eq!(number(time) % 1_000_000, 0, "{row:?}");
        }
        assert!(number(&row[1]) / 1_000_000_000 >= before && number(&row[3]) >= 2_000_000, "{row:?}");
        assert!(number(&row[4]) <= 20_000, "{row:?}");
    }
}
