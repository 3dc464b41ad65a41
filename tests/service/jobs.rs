//! Jobs over HTTP, and under kills.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Caller, Server, server, tenant, undisturbed};
use crate::support::{Place, demo, scripts};

#[test]
fn the_same_key_gives_the_same_job() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let upload = server.upload_folder(&demo("pictures"));
    let post = |body: &Value| {
        server.ask_as(&server.token, "POST", "/v1/endpoints/shapes/jobs", Some(body), &[("idempotency-key", "k1")])
    };
    let body = json!({"input": {"upload": upload}});
    let ((first, job), (second, again)) = (post(&body), post(&body));
    assert_eq!((first, second, &job["name"]), (202, 200, &again["name"]));
    let (status, problem) = post(&json!({"input": {"upload": upload}, "set": {"settings.mini_batch_size": "1"}}));
    assert_eq!(status, 422, "{problem}");
    assert_eq!(server.done("GET", "/v1/jobs", None)["items"].as_array().unwrap().len(), 1);
    // What was accepted stays the answer when its files are gone.
    server.ended(job["name"].as_str().unwrap());
    assert_eq!(server.ask("DELETE", &format!("/v1/uploads/{upload}"), None).0, 204);
    let (status, again) = post(&body);
    assert_eq!((status, &again["name"]), (200, &job["name"]), "{again}");
}

#[test]
fn what_a_job_may_not_choose_is_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.at("allowed")).unwrap();
    let here = place.at("allowed").canonicalize().unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc", here.join("out")).unwrap();
    let here = here.display().to_string();
    let server = server(&place, &["--allow-input", &here]);
    server.deploy("score-by-file", "");
    let upload = server.upload_folder(&demo("pictures"));
    // An administrator is told what is allowed; of the rest of the host nobody is told anything.
    let not_below = |path: &str| {
        format!("`{path}` is not below a folder that this host's operator named with --allow-input: there is `{here}`")
    };
    for (body, detail) in [
        (json!({"input": {"upload": upload}, "set": {"model": "/etc"}}), "`model` is not replaced by a job".to_owned()),
        (
            json!({"input": {"upload": upload}, "set": {"settings.limits.memory": "1TiB"}}),
            "`settings.limits.memory` is not replaced by a job".to_owned(),
        ),
        (json!({"input": {"upload": "../1"}}), "there is no upload `../1`".to_owned()),
        (json!({"input": {"path": "/etc"}}), not_below("/etc")),
        (json!({"input": {"path": "/etc/nothing-there"}}), not_below("/etc/nothing-there")),
        // A slip below what is allowed is told as one, but not where a link leads out.
        (json!({"input": {"path": format!("{here}/slip")}}), format!("`{here}/slip` is not there, or cannot be read")),
        (json!({"input": {"path": format!("{here}/out/nothing")}}), not_below(&format!("{here}/out/nothing"))),
        (json!({"input": {"path": format!("{here}/out/passwd")}}), not_below(&format!("{here}/out/passwd"))),
        (
            json!({"input": {"path": format!("/etc/nothing/../..{here}")}}),
            format!("`/etc/nothing/../..{here}` is no path on the host"),
        ),
        (json!({"input": {"path": "here"}}), "`here` is no path on the host".to_owned()),
        (json!({"input": {"upload": upload}, "deployment": "other"}), "there is no deployment `other`".to_owned()),
    ] {
        let (status, problem) = server.ask("POST", "/v1/endpoints/shapes/jobs", Some(&body));
        assert!((400..500).contains(&status), "{status}");
        assert_eq!(problem["detail"].as_str().unwrap(), detail);
    }
    // A setting that is wrong is told at once.
    for (key, value) in [("settings.mini_batch_size", "none"), ("settings.no_such", "1")] {
        let body = json!({"input": {"upload": upload}, "set": {key: value}});
        let (status, problem) = server.ask("POST", "/v1/endpoints/shapes/jobs", Some(&body));
        let told = problem["detail"].as_str().unwrap();
        assert!(status == 400 && told.contains(&format!("`--set {key}`")), "{problem}");
    }
    assert_eq!(server.done("GET", "/v1/jobs", None)["items"], json!([]));
}

/// The demo's pictures so many times, each under another name.
pub(super) fn many_pictures(server: &Caller, times: usize) -> String {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(demo("pictures")).unwrap() {
        let entry = entry.unwrap();
        let (name, bytes) = (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        files.extend((0..times).map(|i| (format!("{i}-{name}"), bytes.clone())));
    }
    server.upload(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

#[test]
fn a_job_is_canceled_and_resumed_without_losing_or_repeating_a_row() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let waits = |name: &str| {
        let began = Instant::now();
        while server.job(name)["progress"]["done"].as_u64().is_none_or(|done| done == 0) {
            assert!(began.elapsed() < Duration::from_secs(60) && server.job(name)["ended"].is_null());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = server.submit(&json!({ "upload": upload }));
    let second = server.submit(&json!({ "upload": upload }));
    waits(&first);
    let cancel = |name: &str| server.done("POST", &format!("/v1/jobs/{name}/cancel"), None);
    // The one that waits is canceled at once, the one that runs when its process has ended.
    assert_eq!(cancel(&second)["status"], "Canceled");
    assert_eq!(cancel(&first)["canceling"], true);
    // Which cannot be taken back meanwhile.
    let (status, problem) = server.ask("POST", &format!("/v1/jobs/{first}/resume"), None);
    assert!(status == 409 || server.job(&first)["status"] != "Canceled", "{problem}");
    let canceled = server.ended(&first);
    assert_eq!(canceled["status"], "Canceled");
    let done = canceled["record"]["counts"]["mini_batches_done"].as_u64().unwrap();
    assert!(done > 0 && done < 1600, "{done}");
    // Once more in the middle, this time by the end of its process.
    assert_eq!(server.done("POST", &format!("/v1/jobs/{first}/resume"), None)["status"], "Queued");
    waits(&first);
    for name in [&first, &second] {
        let _ = server.ask("POST", &format!("/v1/jobs/{name}/resume"), None);
        assert_eq!(server.ended(name)["status"], "Completed");
    }
    let rows = server.output(&first, "predictions.csv");
    assert_eq!(rows, server.output(&second, "predictions.csv"));
    assert_eq!(rows.iter().filter(|&&byte| byte == b'\n').count(), 1600);
}

/// The processes that score a job now.
#[cfg(target_os = "linux")]
fn processes(job: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_of = |entry: &std::fs::DirEntry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.contains("--follow") && words.contains(job)
    };
    entries.filter(is_of).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn jobs_give_way_to_callers() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let name = server.submit(&json!({ "upload": many_pictures(&server, 40) }));
    let began = Instant::now();
    // Of a thread that scores, once there is one: the 19th word, of which the name in brackets is the second.
    let nice = |process: u32| -> Option<i32> {
        let thread = std::fs::read_dir(format!("/proc/{process}/task")).ok()?.filter_map(Result::ok).nth(1)?;
        let words = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        words.rsplit(')').next()?.split_whitespace().nth(16)?.parse().ok()
    };
    let found = loop {
        assert!(began.elapsed() < Duration::from_secs(60));
        if let Some(found) = processes(&name).into_iter().find_map(nice) {
            break found;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(found, (nice(std::process::id()).unwrap() + 10).min(19));
    assert_eq!(server.ended(&name)["status"], "Completed");
}

#[cfg(target_os = "linux")]
#[test]
fn a_job_whose_process_is_killed_goes_on_and_gives_up_the_third_time() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let name = server.submit(&json!({ "upload": upload }));
    let mut killed = std::collections::BTreeSet::new();
    let began = Instant::now();
    while server.job(&name)["ended"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(60));
        for process in processes(&name) {
            if killed.insert(process) {
                std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let job = server.job(&name);
    assert_eq!((&job["status"], &job["starts"]), (&json!("Failed"), &json!(3)), "{job}");
    assert!(job["error"].as_str().unwrap().starts_with("its process died 3 times, at last with signal: 9"), "{job}");
    server.done("POST", &format!("/v1/jobs/{name}/resume"), None);
    assert_eq!(server.ended(&name)["status"], "Completed");
    let rows = server.output(&name, "predictions.csv");
    assert_eq!(rows.iter().filter(|&&byte| byte == b'\n').count(), 1600);
}

#[test]
fn an_end_that_cannot_be_written_at_first_is_written_later() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let name = server.submit(&json!({ "upload": upload }));
    let began = Instant::now();
    while server.job(&name)["status"] != "Running" {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    // Somebody else writes for longer than the host waits for that.
    let other = rusqlite::Connection::open(place.at("data/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(server.job(&name)["status"], "Running");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(server.ended(&name)["status"], "Completed");
}

/// `SCOREHOST_KILLS` is how often; ten jobs of three tenants are under way from the first kill to the last.
#[test]
fn a_killed_host_goes_on_with_every_job_it_accepted() {
    if scripts().is_none() {
        return;
    }
    let kills = std::env::var("SCOREHOST_KILLS").map_or(12, |text| text.parse().unwrap());
    let (place, settings) = (Place::new(), "  mini_batch_size: 2\n");
    let data = place.at("data");
    let mut server = Server::start(&data, None, &[]);
    let tenants = ["one", "two", "three"].map(|name| tenant(&server, name, settings));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let (mut accepted, token) = (Vec::new(), server.token.clone());
    for round in 0..kills {
        let under_way = |(of, name): &&(usize, String)| {
            let status = server.of(&tenants[*of].0).job(name)["status"].clone();
            status == "Queued" || status == "Running"
        };
        let missing = 10usize.saturating_sub(accepted.iter().filter(under_way).count());
        for i in 0..missing {
            let of = (round + i) % tenants.len();
            let (token, upload) = &tenants[of];
            accepted.push((of, server.of(token).submit(&json!({ "upload": upload }))));
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..250_000)));
        server.kill();
        server = Server::start(&data, Some(&token), &[]);
    }
    let expected = undisturbed(settings);
    for (of, name) in &accepted {
        let theirs = server.of(&tenants[*of].0);
        let job = theirs.ended(name);
        assert_eq!(job["status"], "Completed", "{job}");
        assert_eq!(theirs.output(name, "predictions.csv"), expected, "{name}");
    }
    println!("{} jobs, {kills} kills", accepted.len());
}
