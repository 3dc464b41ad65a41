//! Jobs in a process that gave up what it does not need. That the wall holds is tested beside it, in `confine`; here,
//! that jobs do not miss what is behind it, and that records say whether it stands.

use crate::numbers::onnxruntime;
use crate::support::{Place, Ran, demo, scripts, skip};

/// Whether this kernel has all of it; skips with the reason where it does not.
fn complete() -> Option<()> {
    let place = Place::with_files(1);
    place.probe("fine", &[]);
    let ran = place.run(&["--confine", "required"]);
    if ran.code == 0 {
        assert!(!ran.stderr.contains("confinement:"), "{}", ran.stderr);
        return Some(());
    }
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cannot be confined: ") && ran.stderr.contains("hint: --confine auto"),
        "{}",
        ran.stderr
    );
    assert!(!place.at("output").exists(), "a refused job leaves nothing");
    let what = if ran.stderr.contains("landlock is missing") { "landlock" } else { "seccomp" };
    skip(what, "this kernel lacks it")
}

fn layers(ran: &Ran) -> [String; 2] {
    ["landlock", "seccomp"].map(|half| ran.record()["confinement"][half].to_string())
}

#[test]
fn the_record_says_whether_the_process_was_confined() {
    if scripts().is_none() || complete().is_none() {
        return;
    }
    let place = Place::with_files(3);
    place.probe("fine", &[]);
    assert_eq!(layers(&place.run(&[]).completed()), ["\"on\"", "\"on\""]);
    let off = place.run(&["--overwrite", "--confine", "off"]).completed();
    assert_eq!(layers(&off), ["\"off\"", "\"off\""]);
}

#[test]
fn a_confined_job_has_all_that_jobs_need() {
    if scripts().is_none() || complete().is_none() {
        return;
    }
    // A model, a report, an output that is made in the job's time, an input of one file, files of the script's own.
    let place = Place::with_pictures(&["0000_arrow.jpg", "0001_circle.jpg"]);
    place.deploy_model(&demo("model"), "score-by-batch", &[], &["device_batching: 16"]);
    let whole = place.run(&["--confine", "required", "--report"]).completed();
    assert_eq!(whole.predictions().lines().count(), 2);
    assert!(whole.file("report.html").contains("0000_arrow.jpg"));
    let one = place.score(&place.at("input/0000_arrow.jpg"), &["--confine", "required", "--device", "cpu"]).completed();
    assert_eq!(one.predictions().lines().count(), 1);

    // A library that is found through a link.
    if let Some(library) = onnxruntime() {
        let link = place.at("libonnxruntime.so");
        place.deploy_model(&demo("model"), "score-by-batch", &[], &[]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(library, &link).unwrap();
        let named = ["--device", "onnxruntime", "--onnxruntime", link.to_str().unwrap(), "--confine", "required"];
        let scored = place.score(&place.at("input"), &named).completed();
        assert_eq!(scored.predictions().lines().count(), 2);
    }

    let place = Place::with_files(2);
    place.probe("writes", &["output_action: summary_only"]);
    let wrote = place.run(&["--confine", "required"]).completed();
    assert_eq!(wrote.file("000.txt.txt"), "0");
}

#[test]
fn a_refused_job_leaves_no_output_folder_behind_the_wall() {
    if scripts().is_none() || complete().is_none() {
        return;
    }
    let place = Place::with_files(1);
    std::fs::write(place.at("model.onnx"), "no model at all").unwrap();
    place.deploy_model(&place.at("model.onnx"), "score-by-batch", &[], &[]);
    let ran = place.run(&["--confine", "required"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(!place.at("output").exists());
}

/// What `work` gives in a thread whose processes get no landlock: the kernel stacks sixteen of it.
#[cfg(target_os = "linux")]
fn without_landlock<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use landlock::{AccessNet, Ruleset, RulesetAttr};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for _ in 0..16 {
                let rules = Ruleset::default().handle_access(AccessNet::BindTcp).unwrap();
                rules.create().unwrap().restrict_self().unwrap();
            }
            work()
        });
        thread.join().unwrap()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_required_is_required_of_the_compilers_process_too() {
    if scripts().is_none() || complete().is_none() {
        return;
    }
    let place = Place::with_files(1);
    place.probe("fine", &[]);
    let run = |mode: &str| {
        let mut command = place.command(&["--confine", mode]);
        let output = without_landlock(|| command.env("SCOREHOST_CACHE", place.at("cache")).output().unwrap());
        Ran::of(&output, &place.at("output"))
    };
    // Nothing is compiled yet, so the compiler's process is the first that lacks it.
    let refused = run("required");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let reason = "the compiler is not started: the process cannot be confined: landlock is missing (";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    assert!(refused.stderr.contains("\nhint: --confine auto"), "{}", refused.stderr);
    assert!(!place.at("output").exists(), "a refused job leaves nothing");
    let as_far_as_it_goes = run("auto").completed();
    assert!(as_far_as_it_goes.stderr.contains("confinement: landlock is missing ("), "{}", as_far_as_it_goes.stderr);
    assert_eq!(as_far_as_it_goes.record()["confinement"]["seccomp"], "on");
    // Now the code is there, and the job's own process is.
    std::fs::remove_dir_all(place.at("output")).unwrap();
    let refused = run("required");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("error: the process cannot be confined: landlock is missing ("),
        "{}",
        refused.stderr
    );
}
