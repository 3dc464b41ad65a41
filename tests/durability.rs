//! A job that is killed at any instant and resumed gives, byte for byte, what an undisturbed one gives.

use std::process::{Child, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Place, Ran, scripts};

/// Kills in all. The whole protocol is passed through hundreds of times in each job that is killed.
const KILLS: u32 = 200;

const SETTINGS: &[&str] =
    &["mini_batch_size: 2", "max_concurrency_per_instance: 2", "retry_settings: {max_retries: 1, timeout: 30}"];

/// The files that must be the same; the others hold times.
fn outputs(place: &Place) -> Vec<String> {
    ["output/predictions.csv", "output/errors.csv"].map(|name| place.read(name)).to_vec()
}

#[test]
fn two_hundred_kills_lose_and_repeat_nothing() {
    if scripts().is_none() {
        return;
    }
    // Every other mini-batch fails, so that errors are committed as well as rows.
    let tags = ["behave: slow", "milliseconds: 1"];
    let place = Place::with_files(600);
    place.deploy("probe", SETTINGS, &tags);
    place.run(&[]).completed();
    let undisturbed = outputs(&place);
    assert_eq!(undisturbed[0].lines().count(), 600);

    // Fixed, so that a failure can be had again.
    let mut random = StdRng::seed_from_u64(1);
    let (mut kills, mut jobs) = (0, 0);
    while kills < KILLS {
        std::fs::remove_dir_all(place.at("output")).unwrap();
        let mut how = "--overwrite";
        loop {
            let child = place.command(&[how, "--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            match end(child, Duration::from_micros(random.random_range(0..180_000)), &place) {
                None => kills += 1,
                Some(ran) => {
                    ran.completed();
                    break;
                }
            }
            // Killed before it began, there is nothing to resume; killed after it ended, nothing to do.
            how = if place.at("output/.scorehost/journal").exists() { "--resume" } else { "--overwrite" };
            if place.at("output/job.json").exists() && !place.at("output/.scorehost").exists() {
                break;
            }
        }
        assert_eq!(outputs(&place), undisturbed, "after {kills} kills");
        jobs += 1;
    }
    println!("{kills} kills over {jobs} jobs");
}

/// Kills the child after a while; what it printed, if it ended before.
fn end(mut child: Child, after: Duration, place: &Place) -> Option<Ran> {
    std::thread::sleep(after);
    if child.try_wait().unwrap().is_some() {
        return Some(Ran::of(&child.wait_with_output().unwrap(), &place.at("output")));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[cfg(unix)]
#[test]
fn an_interrupt_finishes_what_runs_and_can_be_resumed() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(100);
    place.deploy("probe", &["mini_batch_size: 1"], &["behave: slow", "milliseconds: 30"]);
    let child = place.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(900));
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let ran = Ran::of(&child.wait_with_output().unwrap(), &place.at("output"));
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    let record = ran.record();
    assert_eq!(record["state"], "Canceled");
    let done = record["counts"]["mini_batches_done"].as_u64().unwrap();
    assert!((1..100).contains(&done), "{done}");
    assert!(!place.at("output/predictions.csv").exists());

    let resumed = place.run(&["--resume"]).completed();
    assert_eq!(resumed.record()["resumed"], true);
    assert_eq!(resumed.predictions().lines().count(), 100);
    let again = place.run(&["--resume"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("already complete"), "{}", again.stderr);
}

#[test]
fn what_changed_since_the_job_began_is_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(10);
    place.deploy("probe", &["mini_batch_size: 1", "error_threshold: 0"], &["behave: permanent-on-odd"]);
    assert_eq!(place.run(&[]).code, 1);
    place.deploy("probe", &["mini_batch_size: 1"], &["behave: other"]);
    let ran = place.run(&["--resume"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("other tags"), "{}", ran.stderr);
}

#[test]
fn a_resumed_job_scores_the_files_it_began_with() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(6);
    let tags = ["behave: permanent-on-odd"];
    place.deploy("probe", &["mini_batch_size: 1", "error_threshold: 0"], &tags);
    assert_eq!(place.run(&[]).code, 1);
    // Neither a new file nor one that is gone moves the plan.
    std::fs::write(place.at("input/000a.txt"), "new").unwrap();
    std::fs::remove_file(place.at("input/004.txt")).unwrap();
    place.deploy("probe", &["mini_batch_size: 1"], &tags);
    let ran = place.run(&["--resume"]).completed();
    assert_eq!(ran.predictions(), "000.txt 14\n002.txt 14\n004.txt 14\n");
}

#[test]
fn a_job_past_its_threshold_stays_failed_until_the_threshold_is_raised() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    place.deploy("probe", &["mini_batch_size: 1", "error_threshold: 1"], &["behave: permanent-on-odd"]);
    assert_eq!(place.run(&[]).code, 1);
    assert_eq!(place.run(&["--resume"]).code, 1);
    assert!(!place.at("output/predictions.csv").exists());
    let ran = place.run(&["--resume", "--set", "error_threshold=2"]).completed();
    assert_eq!(ran.predictions().lines().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_resume_with_other_variables_or_another_input_is_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    let settings = |value: &str| {
        ["mini_batch_size: 1".to_owned(), "error_threshold: 0".into(), format!("environment_variables: {{A: {value}}}")]
    };
    let deploy = |value: &str| {
        place.deploy("probe", &settings(value).each_ref().map(String::as_str), &["behave: permanent-on-odd"]);
    };
    deploy("one");
    assert_eq!(place.run(&[]).code, 1);
    deploy("two");
    let ran = place.run(&["--resume"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("other environment_variables"), "{}", ran.stderr);
    deploy("one");
    std::fs::rename(place.at("input"), place.at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.at("elsewhere"), place.at("input")).unwrap();
    let ran = place.run(&["--resume"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("other input"), "{}", ran.stderr);
}
