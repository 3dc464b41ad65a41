//! What tenants share, and how much each may take.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::jobs::many_pictures;
use super::{server, tenant};
use crate::support::{Place, demo, scripts};

#[test]
fn a_tenant_keeps_no_more_than_its_storage() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let quotas = json!({"running": 1, "queued": 1, "storage": 3 << 20});
    server.done("POST", "/v1/tenants", Some(&json!({"name": "small", "quotas": quotas})));
    let body = json!({"name": "t", "tenant": "small", "scopes": ["read", "invoke", "write"]});
    let token = server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
    let theirs = server.of(&token);
    let id = theirs.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    let put = |path: &str, size: usize| {
        let url = format!("{}/v1/uploads/{id}/files/{path}", theirs.url);
        theirs.http.put(url).bearer_auth(&token).body(vec![0u8; size]).send().unwrap().status().as_u16()
    };
    // The same file again takes the place of the first.
    for _ in 0..5 {
        assert_eq!(put("a", 1 << 20), 204);
    }
    // A file is no folder, and what is refused does not count.
    assert_eq!(put("a/b", 1 << 20), 400);
    assert_eq!((put("b", 1 << 20), put("c", 900 << 10)), (204, 204));
    assert_eq!(put("d", 200 << 10), 429);
    let url = format!("{}/v1/uploads/{id}/files/d", theirs.url);
    let refused = theirs.http.put(url).bearer_auth(&token).body(vec![0u8; 200 << 10]).send().unwrap().text().unwrap();
    let refused: Value = serde_json::from_str(&refused).unwrap();
    let (told, cure) = (refused["detail"].as_str().unwrap(), refused["hint"].as_str().unwrap());
    assert!(told.contains("MiB of the 3.0 MiB that it may") && cure.contains("--storage"), "{refused}");
    assert_eq!(put("e", 10 << 10), 204);
    // Names take room too.
    assert!((0..30).any(|i| put(&format!("empty{i}"), 0) == 429));
}

#[test]
fn limits_are_held_and_told_with_their_cures() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "4"]);
    let (token, upload) = tenant(&server, "small", "  max_concurrency_per_instance: 2\n");
    let theirs = server.of(&token);
    let limit = |quotas: Value| {
        server.done("PATCH", "/v1/tenants/small", Some(&json!({ "quotas": quotas })));
    };
    let post = |set: Value| {
        theirs.ask("POST", "/v1/endpoints/shapes/jobs", Some(&json!({"input": {"upload": upload}, "set": set})))
    };
    limit(json!({"instances": 3, "memory": null}));
    let (status, problem) = post(json!({"settings.max_concurrency_per_instance": "4"}));
    let told = "the job asks for 4 instances at once, and the tenant may have 3";
    assert_eq!((status, problem["detail"].as_str().unwrap()), (403, told), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("max_concurrency_per_instance"), "{problem}");
    // Two at once would be four instances: they run one after the other.
    let names: Vec<String> = (0..3).map(|_| post(json!({})).1["name"].as_str().unwrap().to_owned()).collect();
    let jobs: Vec<Value> = names.iter().map(|name| theirs.ended(name)).collect();
    for (before, after) in jobs.iter().zip(&jobs[1..]) {
        assert_eq!((&after["status"], &after["instances"]), (&json!("Completed"), &json!(2)), "{after}");
        assert!(before["ended"].as_str().unwrap() <= after["started"].as_str().unwrap(), "{before} {after}");
    }
    limit(json!({"memory": 1 << 20}));
    let (status, problem) = post(json!({}));
    assert!(status == 403 && problem["detail"].as_str().unwrap().contains("bytes of memory"), "{problem}");
    // What they used is known, of each and of all.
    let used = |job: &Value, what: &str| job["usage"][what].as_f64().unwrap();
    for job in &jobs {
        assert_eq!((used(job, "files"), used(job, "rows")), (40.0, 40.0), "{job}");
        assert!(used(job, "instance_seconds") > 0.0 && used(job, "input_bytes") > 10_000.0, "{job}");
        assert!(used(job, "output_bytes") > 1000.0 && used(job, "device_seconds") > 0.0, "{job}");
        assert_eq!(job["record"]["input_bytes"], job["usage"]["input_bytes"]);
        #[cfg(target_os = "linux")]
        {
            let recorded = job["record"]["cpu_seconds"].as_f64().unwrap();
            assert!(recorded > 0.0 && used(job, "cpu_seconds") >= recorded, "{job}");
        }
    }
    let report = theirs.done("GET", "/v1/usage", None);
    assert_eq!(report["items"].as_array().unwrap().len(), 1, "{report}");
    let line = &report["items"][0];
    assert_eq!((&line["tenant"], &line["jobs"], &line["files"]), (&json!("small"), &json!(3), &json!(120)));
    let each = server.done("GET", "/v1/usage?tenant=small&jobs=true", None);
    assert_eq!(each["items"][0]["job"], names[2].as_str());
    assert_eq!(theirs.ask("GET", "/v1/usage?tenant=default", None).0, 403);
    for odd in ["usage?from=yesterday", "usage?from=2026-11-30&to=2026-11-01", "audit?limit=0", "audit?limit=1001"] {
        let (status, problem) = theirs.ask("GET", &format!("/v1/{odd}"), None);
        assert!(status == 400 && problem["hint"].is_string(), "{odd}: {problem}");
    }
    // A month's seconds that are used up, and when they begin anew.
    limit(json!({"memory": null, "device_seconds": 0}));
    let (status, problem) = post(json!({}));
    assert!(status == 429 && problem["detail"].as_str().unwrap().contains("device seconds this month"), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("-01T00:00:00Z"), "{problem}");
    let shown = theirs.done("GET", "/v1/tenants/small", None);
    assert_eq!((&shown["quotas"]["instances"], &shown["used"]["running"]), (&json!(3), &json!(0)), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_job_that_uses_up_the_month_is_stopped_and_goes_on_once_it_may() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let (token, _) = tenant(&server, "small", "  mini_batch_size: 1\n");
    let theirs = server.of(&token);
    let upload = many_pictures(&theirs, 60);
    let limit = |seconds: Value| {
        server.done("PATCH", "/v1/tenants/small", Some(&json!({"quotas": {"cpu_seconds": seconds}})));
    };
    limit(json!(1));
    let name = theirs.submit(&json!({ "upload": upload }));
    let job = theirs.ended(&name);
    assert_eq!(job["status"], "Failed", "{job}");
    let told = job["error"].as_str().unwrap();
    assert!(told.starts_with("the tenant has used ") && told.contains("resume the job"), "{told}");
    let used = job["usage"]["cpu_seconds"].as_f64().unwrap();
    assert!(used >= 1.0, "{used}");
    println!("stopped after {used} s of CPU, where 1 s was allowed");
    limit(json!(null));
    theirs.done("POST", &format!("/v1/jobs/{name}/resume"), None);
    let job = theirs.ended(&name);
    assert_eq!(
        (&job["status"], &job["usage"]["files"], &job["usage"]["rows"]),
        (&json!("Completed"), &json!(2400), &json!(2400)),
        "{job}"
    );
}

/// Folders below one of a tenant's.
fn kept(place: &Place, what: &str) -> usize {
    std::fs::read_dir(place.at(&format!("data/tenants/1/{what}"))).map_or(0, Iterator::count)
}

#[test]
fn what_is_deleted_is_gone_and_frees_its_room() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let stored = || server.done("GET", "/v1/tenants/default", None)["used"]["storage"].as_u64().unwrap();
    let before = stored();
    let upload = server.upload_folder(&demo("pictures"));
    let name = server.submit(&json!({ "upload": upload }));
    // Neither it nor its input can go while it waits or runs.
    let early = server.ask("DELETE", &format!("/v1/uploads/{upload}"), None);
    assert!(early.0 == 409 || server.job(&name)["ended"].is_string(), "{}", early.1);
    assert_eq!(server.ended(&name)["status"], "Completed");
    let between = stored();
    assert!(between > before);
    assert_eq!(server.ask("DELETE", &format!("/v1/jobs/{name}"), None).0, 204);
    assert_eq!(server.ask("GET", &format!("/v1/jobs/{name}"), None).0, 404);
    assert_eq!(server.ask("GET", &format!("/v1/jobs/{name}/outputs"), None).0, 404);
    assert!(stored() < between);
    if early.0 == 409 {
        assert_eq!(server.ask("DELETE", &format!("/v1/uploads/{upload}"), None).0, 204);
    }
    assert_eq!((stored(), kept(&place, "jobs")), (before, 0));
    assert_eq!(server.done("GET", "/v1/usage", None)["items"][0]["files"], 40);
    // A deployment's files go with the last that names them.
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "other"})));
    let again = server.upload(&super::bundle("score-by-file", ""));
    server.done("POST", "/v1/endpoints/other/deployments", Some(&json!({ "upload": again })));
    assert_eq!(kept(&place, "deployments"), 1);
    server.done("DELETE", "/v1/endpoints/shapes", None);
    assert_eq!(kept(&place, "deployments"), 1);
    server.done("DELETE", "/v1/endpoints/other", None);
    assert_eq!(kept(&place, "deployments"), 0);
}

#[test]
fn what_is_too_old_is_removed_and_what_is_needed_is_not() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let mut first = server(&place, &[]);
    let token = first.token.clone();
    first.deploy("score-by-file", "");
    let used = first.upload_folder(&demo("pictures"));
    let given_up = first.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    let name = first.submit(&json!({ "upload": used }));
    assert_eq!(first.ended(&name)["status"], "Completed");
    first.kill();
    // A folder whose host ended before it was removed.
    std::fs::create_dir(place.at("data/tenants/1/jobs/job-gone")).unwrap();
    let restart = |more: &[&str]| super::Server::start(&place.at("data"), Some(&token), more);
    let mut second = restart(&["--keep-uploads", "0s"]);
    assert_eq!(kept(&place, "jobs"), 1);
    let status = |server: &super::Server, id: &str| server.ask("GET", &format!("/v1/uploads/{id}"), None).0;
    let until = |is: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| status(&second, &given_up) == 404);
    assert_eq!((status(&second, &used), &second.job(&name)["status"]), (200, &json!("Completed")));
    second.kill();
    let third = restart(&["--keep-uploads", "0s", "--keep-jobs", "0s"]);
    until(&|| third.ask("GET", &format!("/v1/jobs/{name}"), None).0 == 404);
    until(&|| status(&third, &used) == 404);
    until(&|| kept(&place, "jobs") == 0);
    assert_eq!(third.done("GET", "/v1/endpoints/shapes/deployments", None)["items"].as_array().unwrap().len(), 1);
    assert_eq!(kept(&place, "deployments"), 1);
}

#[test]
fn at_most_so_many_jobs_begin_when_a_host_is_opened_again() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let mut first = super::Server::start(&place.at("data"), None, &["--jobs", "4"]);
    let token = first.token.clone();
    first.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&first, 30);
    let names: Vec<String> = (0..4).map(|_| first.submit(&json!({ "upload": upload }))).collect();
    let running = |server: &super::Server| names.iter().filter(|name| server.job(name)["status"] == "Running").count();
    let began = Instant::now();
    while running(&first) < 4 {
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    first.kill();
    let second = super::Server::start(&place.at("data"), Some(&token), &["--jobs", "1"]);
    let mut most = 0;
    while names.iter().any(|name| second.job(name)["ended"].is_null()) {
        most = most.max(running(&second));
        assert!(began.elapsed() < Duration::from_secs(120));
    }
    assert_eq!(most, 1);
    for name in &names {
        assert_eq!(second.job(name)["status"], "Completed");
        assert_eq!(second.output(name, "predictions.csv").iter().filter(|&&byte| byte == b'\n').count(), 1200);
    }
}

#[test]
fn a_tenant_with_many_jobs_does_not_hold_up_anothers_one() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    let [many, one] = ["many", "one"].map(|name| tenant(&server, name, ""));
    let theirs = server.of(&many.0);
    let jobs: Vec<String> = (0..20).map(|_| theirs.submit(&json!({"upload": many.1}))).collect();
    let single = server.of(&one.0).submit(&json!({"upload": one.1}));
    let single = server.of(&one.0).ended(&single);
    let jobs: Vec<Value> = jobs.iter().map(|name| theirs.ended(name)).collect();
    // Times are texts that sort. What began after the single one was accepted and before it began went ahead of it: what
    // was being begun at that moment, and no more.
    let time = |job: &Value, what: &str| job[what].as_str().unwrap().to_owned();
    let (accepted, began) = (time(&single, "created"), time(&single, "started"));
    let ahead = jobs.iter().filter(|job| time(job, "started") > accepted && time(job, "started") < began).count();
    let after = jobs.iter().filter(|job| time(job, "started") >= began).count();
    assert!(ahead <= 1, "{ahead} went ahead");
    assert!(after >= 10, "only {after} of 20 were waiting: the machine was too quick for this test to say anything");
}
