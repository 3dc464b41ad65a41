//! Inputs and outputs in an object store: moto's S3 on this machine, with faults. What is scored has the same bytes as from
//! a folder.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::support::object_store::Store;
use crate::support::{Place, Ran, demo, scorehost, scripts};

/// Files in folders, with names that need care, and what a listing leaves out.
fn with_files() -> Place {
    let place = Place::with_files(40);
    for name in ["a b/ü+%41&=?.txt", "a b/deeper/x.txt", "z/1.txt"] {
        let path = place.at("input").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    std::fs::write(place.at("input/empty.txt"), "").unwrap();
    std::fs::write(place.at("input/.hidden"), "x").unwrap();
    place
}

/// The rows of the folder, and what they are compared with.
fn from_the_folder(place: &Place) -> String {
    let rows = place.run(&[]).completed().predictions();
    std::fs::remove_dir_all(place.at("output")).unwrap();
    rows
}

#[test]
fn a_place_gives_the_rows_of_the_folder_however_the_store_behaves() {
    if scripts().is_none() {
        return;
    }
    let place = with_files();
    place.probe("reads", &["mini_batch_size: 3", "max_concurrency_per_instance: 2"]);
    let rows = from_the_folder(&place);
    assert_eq!(rows.lines().count(), 44);
    let Some(mut store) = Store::of(&place.at("input")) else { return };
    for fault in ["none", "slow", "refused", "cut"] {
        store.tell(&format!("fault {fault}"));
        let ran = store.run(&place, "s3://bucket", &["--overwrite"]).completed();
        assert_eq!(ran.predictions(), rows, "{fault}");
        let requests: u64 = store.tell("count").parse().unwrap();
        println!("{fault}: {requests} requests, {} s", ran.seconds());
        assert!(requests >= 44 * if fault == "none" || fault == "slow" { 1 } else { 2 }, "{fault}: {requests}");
    }
    // An object without a byte that stands for a folder is no file.
    store.tell("fault none");
    store.tell("put z/ 0");
    store.tell("put z 0");
    assert_eq!(store.run(&place, "s3://bucket/", &["--overwrite"]).completed().predictions(), rows);
    // What is below a prefix is named from there; another that begins alike is not below it.
    store.tell("put z2/no.txt 3");
    let below = store.run(&place, "s3://bucket/z", &["--overwrite"]).completed().predictions();
    let one = rows.lines().find(|row| row.ends_with("z/1.txt")).expect("a row of `z/1.txt`");
    assert_eq!(below.lines().collect::<Vec<_>>(), [one.strip_prefix("z/").unwrap_or(one)]);
    // One object.
    let alone = store.run(&place, "s3://bucket/z/1.txt", &["--overwrite"]).completed().predictions();
    assert_eq!(alone, below);
}

#[test]
fn pictures_are_decoded_ahead_from_a_place_too() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let settings = ["mini_batch_size: 4", "max_concurrency_per_instance: 2"];
    place.deploy_model(&demo("model/resnet14v2-shapes.onnx"), "score-by-file", &settings, &[]);
    let pictures = demo("pictures");
    let here = place.score(&pictures, &["--device", "cpu"]).completed().predictions();
    let Some(store) = Store::of(&pictures) else { return };
    assert_eq!(store.run(&place, "s3://bucket", &["--overwrite"]).completed().predictions(), here);
}

#[test]
fn a_store_that_fails_for_long_ends_the_job_in_words_and_it_goes_on_where_it_was() {
    if scripts().is_none() {
        return;
    }
    let place = with_files();
    place.probe("reads", &["mini_batch_size: 1"]);
    let rows = from_the_folder(&place);
    let Some(mut store) = Store::of(&place.at("input")) else { return };
    store.tell("fault down");
    let ran = store.run(&place, "s3://bucket", &[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot list `s3://bucket`") && ran.stderr.contains("SlowDown"), "{}", ran.stderr);
    assert!(!place.at("output").exists());
    // It answers the listing, and some files, and then no more.
    store.tell("fault slow");
    let mut command = place.command_of(Path::new("s3://bucket"), &["--device", "cpu"]);
    let command = store.known_to(&mut command).env("SCOREHOST_STORE_SECONDS", "2");
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !place.at("output/.scorehost").exists() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    store.tell("fault down");
    let ran = Ran::of(&running.wait_with_output().unwrap(), &place.at("output"));
    if ran.code == 0 {
        // All were there already, which is a pity and no failure.
        assert_eq!(ran.predictions(), rows);
        return;
    }
    assert!(ran.stderr.contains("the input cannot be fetched"), "{}", ran.stderr);
    store.tell("fault none");
    // Another place is another input.
    let other = store.run(&place, "s3://bucket/z", &["--resume"]);
    assert!(other.code == 2 && other.stderr.contains("begun with other input"), "{}", other.stderr);
    assert_eq!(store.run(&place, "s3://bucket", &["--resume"]).completed().predictions(), rows);
}

#[test]
fn objects_that_the_store_does_not_give_fail_alone() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    std::fs::write(place.at("input/secret.txt"), "x").unwrap();
    place.probe("reads", &["mini_batch_size: 1"]);
    let Some(mut store) = Store::of(&place.at("input")) else { return };
    // Both a file and a folder: the one that is fetched later cannot be there.
    store.tell("put 001.txt/below.txt 3");
    store.tell("fault denied");
    let ran = store.run(&place, "s3://bucket", &[]).completed();
    let failed: Vec<_> = ran.errors().into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(failed, ["001.txt/below.txt", "secret.txt"]);
    assert_eq!(ran.predictions().lines().count(), 4);
}

#[test]
fn a_killed_job_leaves_nothing_running_and_goes_on() {
    if scripts().is_none() {
        return;
    }
    let place = with_files();
    place.probe("reads", &["mini_batch_size: 1"]);
    let rows = from_the_folder(&place);
    let Some(mut store) = Store::of(&place.at("input")) else { return };
    store.tell("fault slow");
    let temporary = place.at("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = place.command_of(Path::new("s3://bucket"), &["--device", "cpu", "--quiet"]);
    let mut running = store.known_to(&mut command).env("TMPDIR", &temporary).spawn().unwrap();
    let began = Instant::now();
    while !place.at("output/.scorehost/journal").exists() && running.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    store.tell("fault none");
    let mut command = place.command_of(Path::new("s3://bucket"), &["--device", "cpu", "--resume"]);
    let ran = store.known_to(&mut command).env("TMPDIR", &temporary).output().unwrap();
    assert_eq!(Ran::of(&ran, &place.at("output")).completed().predictions(), rows);
    // The killed one's folder was swept away by the next, which removed its own; and nobody fetches into it any more.
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty() || !cfg!(target_os = "linux"), "{left:?}");
}

#[test]
fn an_output_appears_at_a_place_as_a_whole() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(5);
    place.probe("fine", &["mini_batch_size: 2"]);
    let Some(mut store) = Store::of(&place.at("input")) else { return };
    let (code, told) = store.publish(&place, "s3://bucket/out");
    assert!(code == 2 && told.contains("no complete output") && told.contains("hint: "), "{told}");
    place.run(&[]).completed();
    // One that is sent in parts.
    let large: Vec<u8> = (0..20u32 << 20).map(|i| (i % 251) as u8).collect();
    std::fs::write(place.at("output/large.bin"), &large).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", place.at("output/link")).unwrap();
    for (fault, to) in [("none", "out/1"), ("refused", "out/2"), ("unanswered", "out/3"), ("slow", "out/4")] {
        store.tell(&format!("fault {fault}"));
        let (code, told) = store.publish(&place, &format!("s3://bucket/{to}"));
        assert_eq!(code, 0, "{fault}: {told}");
        // Again is as well.
        assert_eq!(store.publish(&place, &format!("s3://bucket/{to}")).0, 0);
        store.tell("fault none");
        let there = place.at("there");
        store.tell(&format!("dump {}", there.display()));
        for name in ["predictions.csv", "errors.csv", "job.json", "large.bin", "mini_batches.csv"] {
            let (here, there) = (place.at("output").join(name), there.join(to).join(name));
            assert!(std::fs::read(here).unwrap() == std::fs::read(there).unwrap(), "{fault}: {name}");
        }
        let there = there.join(to);
        assert!(!there.join("link").exists() && !there.join(".scorehost.json").exists(), "{fault}");
    }
    // Without an answer for long nothing is there that says it is whole.
    store.tell("fault down");
    let (code, told) = store.publish(&place, "s3://bucket/out/5");
    assert!(code == 1 && told.contains("s3://bucket/out/5"), "{told}");
    store.tell("fault none");
    // Another job's output is not written over.
    place.run(&["--overwrite"]).completed();
    let (code, told) = store.publish(&place, "s3://bucket/out/1");
    assert!(code == 2 && told.contains("has the output of job `job-"), "{told}");
    // Nor is a place taken by two.
    let claim = |job: &str| {
        let mut command = scorehost();
        command.arg("publish").arg(place.at("output")).arg("s3://bucket/out/6").args(["--claim", job]);
        store.known_to(&mut command).output().unwrap().status.code()
    };
    assert_eq!([claim("one"), claim("two"), claim("one")], [Some(0), Some(2), Some(0)]);
    // One place does not lie in another's, from either side; nor where other things lie.
    for (to, words) in [
        ("s3://bucket/out", "is not empty"),
        ("s3://bucket/out/1/deeper", "has the output of job"),
        ("s3://bucket/out/6/deeper", "has the output of job `one`"),
        ("s3://bucket", "is not empty"),
    ] {
        let (code, told) = store.publish(&place, to);
        assert!(code == 2 && told.contains(words), "{to}: {told}");
    }
}

#[test]
fn what_is_no_place_is_refused_in_words() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(1);
    place.probe("fine", &[]);
    let Some(store) = Store::of(&place.at("input")) else { return };
    for (input, words) in [
        ("http://example.com/a", "`http:` is no store"),
        ("s3://bucket/a?b", "a query"),
        ("s3://bucket/nothing", "`s3://bucket/nothing` holds no object"),
        ("s3://no-such-bucket", "cannot list `s3://no-such-bucket`"),
    ] {
        let ran = store.run(&place, input, &[]);
        assert!(ran.code != 0 && ran.stderr.contains(words), "{input}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked") && !place.at("output").exists(), "{input}: {}", ran.stderr);
    }
    let mut command = scorehost();
    let ran = command.args(["run", "-f", "x", "-i", "y", "-o", "s3://bucket/out"]).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(2) && told.contains("hint: ") && told.contains("publish"), "{told}");
}

/// What fetches for a job, spoken to as a job does.
struct Fetcher {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Fetcher {
    fn start(store: &Store, place: &str, folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("files")).unwrap();
        std::fs::create_dir_all(folder.join("plan")).unwrap();
        let mut command = scorehost();
        let command = store.known_to(command.arg("fetch").arg(place).arg(folder));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, tells) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, tells }
    }

    /// The first line that this, or what was said before, is answered with.
    fn until(&mut self, ask: &str, wanted: &str) {
        writeln!(self.asks, "{ask}").unwrap();
        let mut line = String::new();
        while line.trim() != wanted {
            line.clear();
            assert!(self.tells.read_line(&mut line).unwrap() > 0, "it has ended before {wanted}");
            assert!(!line.contains("lost"), "{line}");
        }
    }

    /// The most memory that it has taken, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_listing_takes_no_more_memory_for_ten_times_the_objects() {
    let place = Place::new();
    let Some(store) = Store::of(&place.at("input")) else { return };
    let many = std::env::var("SCOREHOST_OBJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000u64);
    let peak = |count: u64| {
        let folder = place.at(&format!("spool-{count}"));
        let mut fetcher = Fetcher::start(&store, &format!("s3://huge-{count}"), &folder);
        let began = Instant::now();
        fetcher.until("\"list\"", "\"listed\"");
        let listed = std::fs::read(folder.join("listed")).unwrap();
        assert_eq!(listed.iter().filter(|b| **b == 0).count() as u64, count);
        println!("{count} objects: {} KiB, {:.1} s", fetcher.peak(), began.elapsed().as_secs_f64());
        fetcher.peak()
    };
    let (few, many) = (peak(many / 10), peak(many));
    assert!(many < few + (8 << 10), "{few} and {many} KiB");
}

#[test]
fn files_are_fetched_a_bounded_way_ahead_and_removed_behind() {
    let place = Place::with_files(60);
    let Some(store) = Store::of(&place.at("input")) else { return };
    let folder = place.at("spool");
    let mut fetcher = Fetcher::start(&store, "s3://bucket", &folder);
    // The bucket has the first sixty; the others are not there, which is told as well.
    let plan: String = (0..5000).map(|i| format!("{i:03}.txt\0")).collect();
    std::fs::write(folder.join("plan/names"), plan).unwrap();
    let is_there = |i: u32| folder.join(format!("files/{i:03}.txt")).exists();
    fetcher.until("{\"fetch\":0}", "{\"have\":4096}");
    assert!(is_there(0) && is_there(59) && !is_there(60));
    // One that is done with makes room for one.
    fetcher.until("{\"done\":10}", "{\"have\":4106}");
    assert!(!is_there(0) && !is_there(9) && is_there(10));
    // What is waited for is fetched however far ahead it is.
    fetcher.until("{\"want\":5000}", "{\"have\":5000}");
    assert!(is_there(10));
}
