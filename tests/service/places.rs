//! Jobs whose files lie in an object store, and whose outputs are published there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, undisturbed};
use crate::support::object_store::Store;
use crate::support::{Place, demo, scorehost, scripts};

const ALLOWED: [&str; 4] = ["--allow-input", "s3://bucket", "--allow-output", "s3://bucket/out/{tenant}"];

fn start(place: &Place, store: &Store, token: Option<&str>) -> Server {
    let mut command = scorehost();
    store.known_to(&mut command).env("SCOREHOST_STORE_SECONDS", "3");
    Server::begin(command, &place.at("data"), token, &ALLOWED).expect("it listens")
}

fn post(server: &Server, input: &str, output: Option<&str>) -> (u16, Value) {
    let body = json!({"input": {"url": input}, "output": output, "set": {"settings.mini_batch_size": "2"}});
    server.ask("POST", "/v1/endpoints/shapes/jobs", Some(&body))
}

#[test]
fn a_job_reads_a_place_and_publishes_to_one() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let Some(mut store) = Store::of(&demo("pictures")) else { return };
    let server = start(&place, &store, None);
    server.deploy("score-by-file", "  mini_batch_size: 2\n");
    let expected = undisturbed("  mini_batch_size: 2\n");
    let (status, job) = post(&server, "s3://bucket", Some("s3://bucket/out/default/1"));
    assert_eq!((status, &job["output"]), (202, &json!("s3://bucket/out/default/1")), "{job}");
    let name = job["name"].as_str().unwrap();
    let job = server.ended(name);
    assert_eq!(job["status"], "Completed", "{job}");
    assert!(server.output(name, "predictions.csv") == expected);
    let there = place.at("there");
    store.tell(&format!("dump {}", there.display()));
    let there = there.join("out/default/1");
    assert!(std::fs::read(there.join("predictions.csv")).unwrap() == expected);
    let record: Value = serde_json::from_slice(&std::fs::read(there.join("job.json")).unwrap()).unwrap();
    assert_eq!(record["name"], name);
    // Nothing that was fetched is left, and nothing else runs.
    let kept = place.at(&format!("data/tenants/1/jobs/{name}"));
    let left: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("spool")), "{left:?}");
    // The place is taken now.
    let (_, second) = post(&server, "s3://bucket", Some("s3://bucket/out/default/1"));
    let second = server.ended(second["name"].as_str().unwrap());
    assert_eq!(second["status"], "Failed", "{second}");
    assert!(second["error"].as_str().unwrap().contains(&format!("has the output of job `{name}`")), "{second}");
    // What is not there, and what does not answer.
    let (_, none) = post(&server, "s3://bucket/nothing", None);
    let none = server.ended(none["name"].as_str().unwrap());
    assert!(none["error"].as_str().unwrap().contains("`s3://bucket/nothing` holds no object"), "{none}");
    store.tell("fault down");
    let (_, down) = post(&server, "s3://bucket", None);
    let down = server.ended(down["name"].as_str().unwrap());
    assert!(down["status"] == "Failed" && down["error"].as_str().unwrap().contains("cannot list"), "{down}");
    // Once it answers again, the job goes on.
    store.tell("fault none");
    let name = down["name"].as_str().unwrap();
    server.done("POST", &format!("/v1/jobs/{name}/resume"), None);
    assert_eq!(server.ended(name)["status"], "Completed");
    assert!(server.output(name, "predictions.csv") == expected);
}

#[test]
fn places_that_nobody_allowed_are_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let Some(store) = Store::of(&place.at("input")) else { return };
    let server = start(&place, &store, None);
    server.deploy("score-by-file", "");
    for (input, output, told) in [
        ("s3://other", None, "`s3://other` is not below a place that this host's operator named with --allow-input"),
        ("gs://bucket", None, "`gs://bucket` is not below"),
        (
            "s3://bucket",
            Some("s3://bucket/out/other/1"),
            "`s3://bucket/out/other/1` is not below a place that this host's operator named with --allow-output",
        ),
        ("s3://bucket", Some("s3://bucket/out/default/../other/1"), "s3://bucket/out/other/1"),
        ("file:///etc", None, "`file:` is no store"),
        ("s3://user:word@bucket", None, "a password"),
    ] {
        let (status, problem) = post(&server, input, output);
        assert!((400..500).contains(&status), "{input}: {status}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{input}: {problem}");
    }
}

#[test]
fn a_killed_host_goes_on_with_what_it_fetched_and_published() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let Some(mut store) = Store::of(&demo("pictures")) else { return };
    let mut server = start(&place, &store, None);
    let token = server.token.clone();
    server.deploy("score-by-file", "  mini_batch_size: 2\n");
    let expected = undisturbed("  mini_batch_size: 2\n");
    store.tell("fault slow");
    let names: Vec<String> = (0..3)
        .map(|number| {
            let (status, job) = post(&server, "s3://bucket", Some(&format!("s3://bucket/out/default/{number}")));
            assert_eq!(status, 202, "{job}");
            job["name"].as_str().unwrap().to_owned()
        })
        .collect();
    // In the middle of the claim, of fetching and of publishing, as it happens.
    for pause in [150, 700, 1300, 2000, 900] {
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        server = start(&place, &store, Some(&token));
    }
    let began = Instant::now();
    for name in &names {
        let job = server.ended(name);
        assert_eq!(job["status"], "Completed", "{job}");
    }
    println!("{:.1} s after the last start", began.elapsed().as_secs_f64());
    store.tell("fault none");
    let there = place.at("there");
    store.tell(&format!("dump {}", there.display()));
    for number in 0..3 {
        let there = there.join(format!("out/default/{number}"));
        assert!(std::fs::read(there.join("predictions.csv")).unwrap() == expected);
        assert!(there.join("job.json").exists() && !there.join(".scorehost.json").exists());
    }
}
