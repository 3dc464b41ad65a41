//! Handles on models, pictures and tensors: those that are somebody else's, from before, or without number; and what a
//! script may do before it holds any, in `init`.

use crate::support::{Place, demo, scripts};

const SETTINGS: &[&str] =
    &["mini_batch_size: 1", "retry_settings: {max_retries: 0, timeout: 20}", "limits: {tensors: 64MiB}"];

const PICTURES: &[&str] = &["0000_arrow.jpg", "0003_cross.png"];

/// The only error that every file has, after one attempt.
fn refusal(place: &Place) -> String {
    let ran = place.run(&["--overwrite"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.seconds() < 20.0, "{} s", ran.seconds());
    let errors = ran.errors();
    assert!(errors.iter().all(|row| row[3] == "permanent"), "{errors:?}");
    let peak = ran.record()["peak_memory_bytes"].as_u64().unwrap_or(0);
    assert!(peak < 900 << 20, "{peak} bytes");
    errors[0][4].clone()
}

#[test]
fn what_is_made_for_a_script_counts_before_it_is_made() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&PICTURES[..2]);
    let run = |behave: &str, limit: &str| {
        let limits = format!("limits: {{tensors: {limit}}}");
        place.probe(behave, &["retry_settings: {max_retries: 0}", &limits]);
        place.run(&["--overwrite"])
    };
    for (behave, too_little, enough) in [
        // Two rows of 3 MiB each, and the batch of them.
        ("loads-a-batch", "11MiB", "12MiB"),
        ("prepares-a-large-one", "47MiB", "48MiB"),
        // 8 MiB of bytes, and 32 MiB of floats.
        ("reads-a-large-copy", "39MiB", "40MiB"),
    ] {
        let errors = run(behave, too_little).errors();
        assert_eq!(errors[0][3], "permanent", "{behave}: {errors:?}");
        assert!(errors[0][4].contains("limits.tensors"), "{behave}: {errors:?}");
        run(behave, enough).completed();
    }
}

#[test]
fn a_model_outside_the_model_folder_is_not_opened() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(2);
    std::fs::create_dir(place.at("model")).unwrap();
    let entries = std::fs::read_dir(demo("model")).unwrap().map(|entry| entry.unwrap().path());
    let model = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "onnx")).unwrap();
    // Another tenant's, say.
    std::fs::copy(&model, place.at("other.onnx")).unwrap();
    let open = |behave: &str| {
        place.deploy_model(&place.at("model"), "probe", SETTINGS, &[&format!("behave: {behave}")]);
        refusal(&place)
    };
    for behave in ["leaves-model", "absolute-model"] {
        let error = open(behave);
        assert!(error.contains("leaves the model folder"), "{behave}: {error}");
    }
    let error = open("no-model");
    assert!(error.contains("cannot read") && error.contains("missing.onnx"), "{error}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../other.onnx", place.at("model/missing.onnx")).unwrap();
        let error = open("no-model");
        assert!(error.contains("leaves the model folder"), "{error}");
    }
}

#[test]
fn lists_without_end_are_refused_before_anything_is_made_of_them() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(PICTURES);
    for (behave, message) in [
        ("hoards-crops", "limits.tensors"),
        ("loads-one-many-times", "1000000 files are named; the mini-batch has 1"),
        ("names-many-inputs", "90000 inputs for a model that has 1"),
    ] {
        place.deploy_model(&demo("model"), "probe", SETTINGS, &[&format!("behave: {behave}")]);
        let error = refusal(&place);
        assert!(error.contains(message), "{behave}: {error}");
    }
}

/// An instance is a job's own, so what it keeps is the same job's: allowed, as a variable is.
#[test]
fn handles_may_be_kept_for_the_next_mini_batch() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    place.probe("keeps-tensors", SETTINGS);
    let rows = "000.txt 99\n001.txt 0\n002.txt 1\n003.txt 2\n";
    assert_eq!(place.run(&[]).completed().predictions(), rows);

    let place = Place::with_pictures(PICTURES);
    place.probe("keeps-images", SETTINGS);
    assert_eq!(place.run(&[]).completed().predictions(), "0000_arrow.jpg 21\n0003_cross.png 21\n");
}

#[test]
fn an_init_that_fails_ends_the_job_with_its_reason() {
    if scripts().is_none() {
        return;
    }
    for (behave, text) in [
        ("init-panics", "no init today"),
        ("init-fails", "init has its reasons"),
        ("init-exits", "exit code"),
        ("init-hoards", "ran out of memory"),
        ("init-loops", "init did not end within 1s"),
        ("init-sleeps", "init did not end within 1s"),
    ] {
        let place = Place::with_files(3);
        place.probe(behave, &["retry_settings: {max_retries: 1}", "limits: {memory: 64MiB, init: 1}"]);
        let ran = place.run(&[]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("init failed") && ran.stderr.contains(text), "{behave}: {}", ran.stderr);
        // One that timed out is not tried again.
        assert!(ran.seconds() < 10.0, "{behave}: {} s", ran.seconds());
    }
}
