//! Scripts that fail in every way that a script can: the right error with file, mini-batch and attempts, and nothing
//! else lost.

use std::time::{Duration, Instant};

use crate::support::{Place, scripts};

/// How the probe behaves, with which settings; the kind and text of the error, and after how many attempts.
struct Case {
    behave: &'static str,
    settings: &'static [&'static str],
    kind: &'static str,
    message: &'static str,
    attempts: &'static str,
}

const RETRY_ONCE: &[&str] = &["mini_batch_size: 2", "retry_settings: {max_retries: 1, timeout: 60}"];
const SHORT: &[&str] = &["mini_batch_size: 2", "retry_settings: {max_retries: 1, timeout: 1}"];
const SMALL: &[&str] =
    &["mini_batch_size: 2", "retry_settings: {max_retries: 1, timeout: 60}", "limits: {memory: 64MiB, tensors: 64MiB}"];

fn case(
    behave: &'static str,
    settings: &'static [&'static str],
    kind: &'static str,
    message: &'static str,
    attempts: &'static str,
) -> Case {
    Case { behave, settings, kind, message, attempts }
}

#[test]
fn every_way_to_fail_gives_its_own_error_for_each_file() {
    if scripts().is_none() {
        return;
    }
    let cases = [
        // The panic's text is on stderr, not in the trap.
        case("panics", RETRY_ONCE, "trap", "boom at mini-batch 0", "2"),
        case("divides", RETRY_ONCE, "trap", "divide by zero", "2"),
        // Its stack lies at the bottom of its memory.
        case("recurses", RETRY_ONCE, "trap", "out of bounds memory access", "2"),
        case("exits", RETRY_ONCE, "exit", "exit code", "2"),
        case("transient", RETRY_ONCE, "transient", "always busy", "2"),
        // What would fail again is not tried again.
        case("permanent", RETRY_ONCE, "permanent", "this will not do", "1"),
        // In wasm, and in a host call.
        case("loops", SHORT, "timeout", "run did not end within 1s", "2"),
        case("sleeps", SHORT, "timeout", "run did not end within 1s", "2"),
        case("memory", SMALL, "memory", "ran out of memory", "2"),
        case("hoards-tensors", SMALL, "permanent", "limits.tensors", "1"),
        case("names-failed-wrongly", RETRY_ONCE, "output", "names file 1000", "1"),
        case("strange-path", RETRY_ONCE, "permanent", "`/etc/passwd` is not a file of the mini-batch", "1"),
        case("big-recipe", RETRY_ONCE, "permanent", "16", "1"),
        case("no-model", RETRY_ONCE, "permanent", "no model", "1"),
    ];
    for Case { behave, settings, kind, message, attempts } in cases {
        let place = Place::with_files(3);
        place.probe(behave, settings);
        let ran = place.run(&[]);
        assert_eq!(ran.code, 1, "{behave}: {}", ran.stderr);
        let reason = ran.record()["error"].as_str().unwrap().to_owned();
        assert!(reason.starts_with("no file succeeded; the first: `000.txt`: "), "{behave}: {reason}");
        let errors = ran.errors();
        let files: Vec<_> = errors.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(files, ["000.txt", "001.txt", "002.txt"], "{behave}");
        let mini_batches: Vec<_> = errors.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(mini_batches, ["0", "0", "1"], "{behave}");
        for row in &errors {
            assert_eq!((row[2].as_str(), row[3].as_str()), (attempts, kind), "{behave}: {row:?}");
        }
        assert!(errors[0][4].contains(message), "{behave}: {:?}", errors[0]);
    }
}

#[test]
fn a_failed_attempt_is_repeated_on_a_fresh_instance_and_writes_nothing() {
    if scripts().is_none() {
        return;
    }
    let expected = "000.txt 14\n001.txt 14\n002.txt 14\n";
    for (behave, settings) in [("panics-once", RETRY_ONCE), ("transient-once", RETRY_ONCE), ("loops-once", SHORT)] {
        let place = Place::with_files(3);
        place.probe(behave, settings);
        let ran = place.run(&[]).completed();
        assert_eq!(ran.predictions(), expected, "{behave}");
        assert_eq!(ran.record()["counts"]["retries"], 2, "{behave}");
        assert!(ran.errors().is_empty(), "{behave}");
    }
}

#[test]
fn a_loop_is_stopped_within_its_deadline_and_a_tenth() {
    if scripts().is_none() {
        return;
    }
    for behave in ["loops", "sleeps"] {
        let place = Place::with_files(1);
        place.probe(behave, &["retry_settings: {max_retries: 0, timeout: 2}"]);
        let began = Instant::now();
        assert_eq!(place.run(&[]).code, 1);
        let text = place.read("output/mini_batches.csv");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let seconds: f64 = reader.records().next().unwrap().unwrap()[5].parse().unwrap();
        assert!((2.0..2.2).contains(&seconds), "{behave}: {seconds}");
        assert!(began.elapsed() < Duration::from_secs(10), "{behave}");
    }
}

#[test]
fn an_init_that_fails_ends_the_job_with_its_reason() {
    if scripts().is_none() {
        return;
    }
    for (behave, text) in [("init-panics", "no init today"), ("init-fails", "init has its reasons")] {
        let place = Place::with_files(3);
        place.probe(behave, RETRY_ONCE);
        let ran = place.run(&[]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("init failed") && ran.stderr.contains(text), "{}", ran.stderr);
    }
}

#[test]
fn one_failed_file_leaves_the_others() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    place.probe("names-failed", &["mini_batch_size: 2"]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.predictions(), "001.txt 14\n003.txt 14\n");
    let errors = ran.errors();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[1], ["002.txt", "1", "1", "file", "not to my taste"]);
    assert_eq!(ran.record()["counts"]["failed"], 2);
}

#[test]
fn missing_rows_are_failures_and_many_rows_are_not() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    place.probe("short", &["mini_batch_size: 2"]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.record()["counts"]["failed"], 2);
    assert_eq!(ran.errors()[0][3], "missing_rows");

    let place = Place::with_files(2);
    place.probe("many", &[]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.record()["counts"]["failed"], 0);
    assert_eq!(ran.predictions().lines().count(), 6);

    let place = Place::with_files(2);
    place.probe("none", &[]);
    assert_eq!(place.run(&[]).code, 1);
}

#[test]
fn the_error_threshold_stops_the_job_above_it() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(20);
    // Every other mini-batch fails with its two files.
    let settings = |n: i32| format!("error_threshold: {n}");
    for (threshold, code) in [(-1, 0), (10, 0), (9, 1), (0, 1)] {
        place.probe("permanent-on-odd", &["mini_batch_size: 2", &settings(threshold)]);
        let ran = place.run(&["--overwrite"]);
        assert_eq!(ran.code, code, "{threshold}: {}", ran.stderr);
        if code == 1 {
            let error = ran.record()["error"].as_str().unwrap().to_owned();
            assert!(error.contains("error_threshold"), "{error}");
        }
    }
}

#[test]
fn an_instance_is_reused_until_it_retires() {
    if scripts().is_none() {
        return;
    }
    let counts = |behave| {
        let place = Place::with_files(3);
        place.probe(behave, &["mini_batch_size: 1"]);
        let text = place.run(&[]).completed().predictions();
        text.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(counts("counts-calls"), ["1", "2", "3"]);
    assert_eq!(counts("retires"), ["1", "1", "1"]);
}

#[test]
fn randomness_is_the_same_in_every_run() {
    if scripts().is_none() {
        return;
    }
    let draw = || {
        let place = Place::with_files(4);
        // On one instance: the keys of its hash maps count up with each map that it made.
        place.probe("random", &["mini_batch_size: 1"]);
        place.run(&[]).completed().predictions()
    };
    assert_eq!(draw(), draw());
}

#[test]
fn what_a_script_prints_is_kept_bounded_and_harmless() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(1);
    place.probe("prints", &[]);
    place.run(&[]).completed();
    assert_eq!(place.read("output/logs/000000.1.log"), "out 000.txt\nerr\nWARNING loud\n");

    place.probe("floods", &["limits: {log_bytes: 4096}"]);
    place.run(&["--overwrite"]).completed();
    let log = place.read("output/logs/000000.1.log");
    assert!(log.len() < 5000 && log.contains("limits.log_bytes") && !log.contains('\x1b'), "{}", log.len());
}

#[test]
fn a_script_reaches_nothing_but_its_folders() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    std::fs::write(place.at("input/a.txt"), "a").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", place.at("input/leaves")).unwrap();
    place.deploy("probe", &["output_format: csv", "environment_variables: {MINE: x}"], &["behave: escapes"]);
    let ran = place.run(&[]).completed();
    let text = ran.predictions();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    for row in rows.records().map(Result::unwrap) {
        match &row[0] {
            "environment" => assert_eq!(&row[1], "MINE"),
            _ => assert!(row[1].starts_with("refused"), "{row:?}"),
        }
    }
    assert!(place.at("input/a.txt").exists() && !place.at("input/new").exists());
}

#[test]
fn a_scripts_own_files_appear_only_when_their_mini_batch_succeeded() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(6);
    place.probe("writes", &["mini_batch_size: 2", "output_action: summary_only"]);
    let ran = place.run(&[]).completed();
    for i in 0..6 {
        assert_eq!(ran.file(&format!("{i:03}.txt.txt")), (i / 2).to_string());
    }
    assert!(!place.at("output/predictions.csv").exists());
    assert_eq!(ran.record()["counts"]["rows"], 6);
    assert_eq!(ran.record()["counts"]["retries"], 1);
}
