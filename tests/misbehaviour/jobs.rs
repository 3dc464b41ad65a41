//! What becomes of a job whose script fails now and then, prints, or keeps what it should not.

use crate::support::{Place, scripts};

const RETRY_ONCE: &[&str] = &["mini_batch_size: 2", "retry_settings: {max_retries: 1, timeout: 60}"];
const SHORT: &[&str] = &["mini_batch_size: 2", "retry_settings: {max_retries: 1, timeout: 1}"];

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
    for folder in ["model", "other-model"] {
        std::fs::create_dir(place.at(folder)).unwrap();
    }
    std::fs::write(place.at("other-model/secret"), "secret").unwrap();
    #[cfg(unix)]
    for (target, link) in
        [("/etc/hostname", "input/leaves"), ("/etc", "input/folder-leaves"), ("../other-model/secret", "model/leaves")]
    {
        std::os::unix::fs::symlink(target, place.at(link)).unwrap();
    }
    let settings = ["output_format: csv", "environment_variables: {MINE: x}"];
    place.deploy_model(&place.at("model"), "probe", &settings, &["behave: escapes"]);
    let ran = place.run(&[]).completed();
    let text = ran.predictions();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    for row in rows.records().map(Result::unwrap) {
        match &row[0] {
            "environment" => assert_eq!(&row[1], "AZUREML_MODEL_DIR,MINE,SCOREHOST_MODEL_DIR"),
            // The program's name, which is nothing.
            "arguments" => assert_eq!(&row[1], ""),
            _ => assert!(row[1].starts_with("refused"), "{row:?}"),
        }
    }
    assert_eq!(place.input_names(), ["a.txt", "folder-leaves", "leaves"]);
}

#[test]
fn a_script_learns_nothing_of_the_hosts_paths() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    std::fs::write(place.at("input/a.png"), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    std::fs::write(place.at("input/b.jpg"), "no picture").unwrap();
    std::fs::write(place.at("input/.hidden"), "seen").unwrap();
    std::fs::write(place.at("secret"), "the neighbour's").unwrap();
    std::fs::create_dir(place.at("models")).unwrap();
    for name in ["damaged.onnx", "also.onnx"] {
        std::fs::write(place.at("models").join(name), "no model").unwrap();
    }
    #[cfg(unix)]
    for (target, link) in [("", "input/leaves"), ("secret", "models/leaves.onnx")] {
        std::os::unix::fs::symlink(place.at(target), place.at(link)).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("a.png", place.at("input/near")).unwrap();
    place.deploy_model(&place.at("models"), "probe", &["output_format: csv"], &["behave: learns"]);
    let ran = place.run(&[]).completed();
    let text = ran.predictions();
    let host = place.at("");
    let names =
        [host.to_str().unwrap().trim_end_matches('/'), env!("CARGO_MANIFEST_DIR"), "/proc/self", "/home", "/root"];
    for name in names.into_iter().chain(std::env::temp_dir().to_str()) {
        let line = text.lines().find(|line| line.contains(name) && !line.starts_with("list /tmp"));
        assert!(line.is_none(), "`{name}` is in: {line:?}");
    }
    assert!(!text.contains("neighbour"), "{text}");
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let answers: std::collections::BTreeMap<String, String> =
        rows.records().map(|r| r.unwrap()).map(|r| (r[0].to_owned(), r[1].to_owned())).collect();
    // What it does see: its own folders by their own names, hidden files, and why its pictures and models do not open.
    assert!(answers["hidden"].contains("seen"), "{answers:#?}");
    assert!(answers["list /input"].contains("/input/a.png"), "{answers:#?}");
    for refused in
        ["list /input/..", "list /proc", "list /tmp", "link /input/leaves", "through /input/leaves", "slash", "up"]
    {
        assert!(answers[refused].starts_with("Err("), "{refused}: {}", answers[refused]);
    }
    assert!(answers["model damaged.onnx"].contains("damaged.onnx"), "{}", answers["model damaged.onnx"]);
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

#[test]
fn files_of_a_failed_call_are_not_published_with_the_next_one() {
    if scripts().is_none() {
        return;
    }
    let settings = ["mini_batch_size: 1", "output_action: summary_only"];
    let place = Place::with_files(4);
    place.probe("writes-and-fails", &settings);
    place.run(&[]).completed();
    let there: Vec<_> = (0..4).filter(|i| place.at(&format!("output/{i}.txt")).exists()).collect();
    assert_eq!(there, [1, 3]);

    place.probe("keeps-a-file-open", &settings);
    place.run(&["--overwrite"]).completed();
    for i in 0..4 {
        assert_eq!(place.read(&format!("output/{i}.txt")), format!("{i}\n"));
    }
}

#[test]
fn files_without_end_are_stopped_before_they_fill_the_disk() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    let settings = [
        "mini_batch_size: 1",
        "output_action: summary_only",
        "retry_settings: {timeout: 60}",
        "limits: {file_bytes: 1MiB}",
    ];
    for behave in [
        "fills-a-file",
        "fills-and-removes",
        "fills-by-its-size",
        "fills-behind-a-hole",
        "makes-files",
        "makes-folders",
        "makes-links",
    ] {
        place.probe_on_odd(behave, &settings);
        let ran = place.run(&["--overwrite"]).completed();
        let errors = ran.errors();
        assert_eq!(errors.len(), 2, "{behave}: {errors:?}");
        for row in errors {
            // What is counted is the same in every attempt: one is enough.
            assert_eq!(row[2..4], ["1", "files"], "{behave}: {row:?}");
            assert!(row[4].contains("take more than limits.file_bytes, which is 1048576"), "{behave}: {row:?}");
        }
        assert_eq!(ran.record()["counts"]["rows"], 2, "{behave}");
        // Nothing of it is left.
        assert!(!place.at("output/a").exists() && !place.at("output/first").exists(), "{behave}");
    }
    // What lies on the disk counts, not how often it was written.
    place.probe("writes-over-itself", &settings);
    place.run(&["--overwrite"]).completed();
    for i in 0..4 {
        let written = std::fs::read(place.at(&format!("output/{i}.bin"))).unwrap();
        assert!(written.len() == 256 << 10 && written.iter().all(|&byte| byte == 99), "{i}");
    }
}

#[test]
fn a_job_whose_files_are_too_many_stops_and_goes_on_with_more_room() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(6);
    // Each is a byte, and 4096 for its name; the second mini-batch fails once after its first file, which is given back.
    let settings = ["mini_batch_size: 1", "output_action: summary_only", "limits: {job_file_bytes: 12500}"];
    place.probe("writes", &settings);
    for more in [[].as_slice(), &["--resume"]] {
        let ran = place.run(more);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("take more than limits.job_file_bytes, which is 12500"), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: set a larger `limits.job_file_bytes`, then continue"), "{}", ran.stderr);
        assert!(place.at("output/002.txt.txt").exists() && !place.at("output/003.txt.txt").exists());
    }
    let ran = place.run(&["--resume", "--set", "limits.job_file_bytes=1MiB"]).completed();
    for i in 0..6 {
        assert_eq!(ran.file(&format!("{i:03}.txt.txt")), i.to_string());
    }
    assert!(ran.errors().is_empty());
}

#[test]
fn whether_a_picture_opens_does_not_depend_on_what_was_decoded_ahead() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let pictures = crate::support::root().join("host/demo/pictures");
    for (i, entry) in std::fs::read_dir(pictures).unwrap().enumerate() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if i % 2 == 1 {
            bytes.truncate(bytes.len() * 3 / 5);
        }
        std::fs::write(place.at("input").join(entry.file_name()), bytes).unwrap();
    }
    let run = |concurrency: u32| {
        place.probe(
            "opens-all-reads-some",
            &["mini_batch_size: 4", &format!("max_concurrency_per_instance: {concurrency}")],
        );
        place.run(&["--overwrite"]).completed().predictions()
    };
    let one = run(1);
    assert_eq!(run(4), one);
    assert_eq!(run(2), one);
}

#[test]
fn what_a_script_says_at_length_is_cut_before_it_is_repeated() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(100);
    place.probe("fails-at-length", &["mini_batch_size: 100"]);
    let ran = place.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.errors().iter().all(|row| row[4].len() < 5000));
    if let Some(peak) = ran.record()["peak_memory_bytes"].as_u64() {
        assert!(peak < 300 << 20, "{peak} bytes");
    }

    place.probe("panics-after-much", RETRY_ONCE);
    let ran = place.run(&["--overwrite"]);
    assert!(ran.errors()[0][4].contains("the reason"), "{:?}", ran.errors()[0]);
}

#[test]
fn large_tensors_pass_neither_their_limit_nor_the_deadline() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(1);
    let settings = |timeout: u32, tensors: &str| {
        [format!("retry_settings: {{max_retries: 0, timeout: {timeout}}}"), format!("limits: {{tensors: {tensors}}}")]
    };
    let run = |behave: &str, settings: &[String; 2]| {
        place.probe(behave, &settings.each_ref().map(String::as_str));
        let ran = place.run(&["--overwrite"]);
        let seconds = ran.file("mini_batches.csv");
        let seconds: f64 = seconds.lines().nth(1).unwrap().split(',').nth(5).unwrap().parse().unwrap();
        (ran.errors()[0][3].clone(), ran.record()["peak_memory_bytes"].as_u64().unwrap_or(0), seconds)
    };
    let (kind, peak, _) = run("joins-one-many-times", &settings(60, "64MiB"));
    assert_eq!(kind, "permanent");
    assert!(peak < 300 << 20, "{peak} bytes");
    // A row of a hundred million numbers takes seconds; the wait for it ends in time.
    let (kind, _, seconds) = run("takes-the-top-of-much", &settings(1, "4GiB"));
    assert_eq!(kind, "timeout");
    assert!(seconds < 2.0, "{seconds}");
}

#[cfg(unix)]
#[test]
fn a_read_that_never_ends_costs_its_own_mini_batch_alone() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(6);
    let made = std::process::Command::new("mkfifo").arg(place.at("input/pipe")).status().unwrap();
    assert!(made.success());
    place.probe("reads-the-pipe", &["mini_batch_size: 1", "retry_settings: {max_retries: 2, timeout: 1}"]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.record()["counts"]["failed"], 1);
    assert_eq!(ran.errors()[0][..4], ["000.txt", "0", "3", "timeout"]);
    assert_eq!(ran.predictions().lines().count(), 5);
}

#[test]
fn a_script_that_opens_all_it_can_is_stopped_before_the_host_has_none() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(2);
    place.probe("opens-many", &["mini_batch_size: 1", "retry_settings: {max_retries: 0, timeout: 30}"]);
    let ran = place.run(&[]);
    assert_eq!(ran.code, 1);
    let error = &ran.errors()[0];
    assert!(error[3] == "trap" && error[4].contains("more files, streams or handles"), "{error:?}");
}
