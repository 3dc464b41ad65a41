//! Whoever runs beside a script that misbehaves: another job of the same machine, to the byte and in its time.

use std::time::{Duration, Instant};

use crate::support::{Place, scripts};

/// A job that works and waits, and what it gives.
fn neighbour() -> Place {
    let place = Place::with_files(40);
    place.deploy("probe", &["mini_batch_size: 1"], &["behave: slow", "milliseconds: 20"]);
    place
}

fn run_and_time(place: &Place) -> (String, Duration) {
    let began = Instant::now();
    let ran = place.run(&["--overwrite"]).completed();
    (ran.predictions(), began.elapsed())
}

#[test]
fn another_job_gives_the_same_bytes_in_its_time_beside_each_kind_of_bad_neighbour() {
    if scripts().is_none() {
        return;
    }
    let place = neighbour();
    let (alone, time_alone) = run_and_time(&place);
    for behave in ["loops", "memory", "hoards-tensors", "floods", "panics", "fills"] {
        let bad = Place::with_files(200);
        let settings = [
            "mini_batch_size: 1",
            "retry_settings: {max_retries: 0, timeout: 1}",
            "limits: {memory: 300MiB, tensors: 64MiB}",
        ];
        bad.probe(behave, &settings);
        let mut other =
            bad.command(&[]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let (beside, time_beside) = run_and_time(&place);
        other.kill().unwrap();
        other.wait().unwrap();
        println!("{behave}: {time_alone:?} alone, {time_beside:?} beside it");
        assert_eq!(beside, alone, "{behave}");
        // It waits more than it computes, so that half a core is more than enough for it.
        let most = 2 * time_alone + Duration::from_secs(2);
        assert!(time_beside < most, "{behave}: {time_alone:?} alone, {time_beside:?} beside it");
    }
}
