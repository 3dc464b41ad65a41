//! Folders that are sent: what is there of them, how a file goes on that broke off, and what is left of what was refused.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Caller, Server, server};
use crate::support::{Place, demo, scorehost, scripts};

/// Bytes that no part of repeats.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn begin(server: &Caller) -> String {
    server.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned()
}

/// Puts the bytes of a span of a file; what is said.
fn put(server: &Caller, file: &str, range: &str, body: &[u8], digest: Option<&[u8]>) -> (u16, Value) {
    let mut request = server.http.put(format!("{}{file}", server.url)).bearer_auth(&server.token);
    request = request.header("content-range", range);
    if let Some(of) = digest {
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(of));
        request = request.header("repr-digest", format!("sha-256=:{digest}:"));
    }
    let answer = request.body(body.to_vec()).send().unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().unwrap()).unwrap_or_default())
}

/// Begins to send a file, all of it said and so much of it sent.
fn half(server: &Caller, file: &str, all: &[u8], sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "PUT {file} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-range: bytes 0-{}/{}\r\ncontent-length: {}\r\n\r\n",
        server.token,
        all.len() - 1,
        all.len(),
        all.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&all[..sent]).unwrap();
    stream
}

/// What is there of a file, once that is so.
#[track_caller]
fn there(server: &Caller, file: &str, is_so: impl Fn(u16, &Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let (status, found) = server.ask("GET", file, None);
        if is_so(status, &found) {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{status} {found}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn stored(server: &Caller) -> u64 {
    server.done("GET", "/v1/tenants/default", None)["used"]["storage"].as_u64().unwrap()
}

#[test]
fn uploads_are_listed_page_by_page_the_newest_first() {
    let place = Place::new();
    let server = server(&place, &[]);
    assert_eq!(server.done("GET", "/v1/uploads", None), json!({"items": [], "next": null}));
    let mut ids: Vec<String> = Vec::new();
    for i in 0..5u8 {
        // Names sort by time, to the millisecond.
        std::thread::sleep(Duration::from_millis(2));
        ids.push(if i == 3 { begin(&server) } else { server.upload(&[("a", vec![i; 10]), ("b/c", vec![i; 5])]) });
    }
    server
        .http
        .put(format!("{}/v1/uploads/{}/files/x", server.url, ids[3]))
        .bearer_auth(&server.token)
        .body("1234")
        .send()
        .unwrap();
    ids.reverse();
    let page = |query: &str| server.done("GET", &format!("/v1/uploads{query}"), None);
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = page("?limit=2");
    assert_eq!((names(&first), first["next"].as_str()), (ids[..2].to_vec(), Some(&*ids[1])));
    let second = page(&format!("?limit=2&before={}", ids[1]));
    assert_eq!(names(&second), ids[2..4]);
    let last = page(&format!("?limit=2&before={}", ids[3]));
    assert_eq!((names(&last), &last["next"]), (ids[4..].to_vec(), &Value::Null));
    for (at, finished, count, bytes) in [(0, true, 2, 15), (1, false, 1, 4)] {
        let item = &page("")["items"][at];
        assert_eq!(
            (&item["finished"], &item["count"], &item["bytes"]),
            (&json!(finished), &json!(count), &json!(bytes))
        );
        assert!(humantime::parse_rfc3339(item["begun"].as_str().unwrap()).unwrap().elapsed().unwrap().as_secs() < 60);
    }
    // One that an earlier program finished is looked at.
    std::fs::remove_file(place.at("data/tenants/1/uploads").join(&ids[0]).join("counted")).unwrap();
    assert_eq!(page("")["items"][0]["count"], 2);
    assert_eq!(server.ask("GET", "/v1/uploads?limit=x", None).0, 400);

    let verb =
        |arguments: &[&str]| command(&server.url, &server.token, &[&["upload"], arguments].concat()).output().unwrap();
    let said = |arguments: &[&str]| String::from_utf8(verb(arguments).stdout).unwrap();
    assert_eq!(said(&["list", "-o", "name"]).lines().collect::<Vec<_>>(), ids);
    assert_eq!(said(&["list", "-o", "name", "--limit", "3"]).lines().count(), 3);
    assert!(
        said(&["list"]).lines().next().unwrap().split_whitespace().eq(["id", "finished", "begun", "files", "bytes"])
    );
    assert!(said(&["show", &ids[1]]).contains("finished  no") && said(&["show", &ids[1]]).contains("bytes     4 B"));
    let files: Value = serde_json::from_str(&said(&["show", &ids[0], "-o", "json"])).unwrap();
    assert_eq!(files["files"].as_array().unwrap().len(), 2);
    assert!(verb(&["delete", &ids[0], "--yes"]).status.success());
    assert_eq!(verb(&["show", &ids[0]]).status.code(), Some(2));
    assert_eq!(names(&page("")), ids[1..]);
}

/// Of uploads that are not finished, no more is looked at than a page may take.
#[test]
fn a_list_of_uploads_looks_at_no_more_files_than_it_may() {
    let place = Place::new();
    let server = server(&place, &[]);
    let ids: Vec<String> = (0..2).map(|_| begin(&server)).collect();
    for id in &ids {
        for i in 0..10_500 {
            let folder = place.at("data/tenants/1/uploads").join(id).join("files").join((i % 100).to_string());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(i.to_string()), "").unwrap();
        }
    }
    let began = Instant::now();
    let counts = server.done("GET", "/v1/uploads", None);
    println!("two uploads of 10,500 files in {:?}", began.elapsed());
    assert_eq!((&counts["items"][0]["count"], &counts["items"][1]["count"]), (&json!(10_500), &Value::Null));
}

#[test]
fn a_file_goes_on_from_where_its_connection_broke() {
    let place = Place::new();
    let server = server(&place, &[]);
    let (id, all) = (begin(&server), bytes(3 << 20));
    let (total, sent) = (all.len(), 1 << 20);
    let file = format!("/v1/uploads/{id}/files/a/b.bin");
    assert_eq!(server.ask("GET", &file, None).0, 404);
    let broken = || {
        drop(half(&server, &file, &all, sent));
        there(&server, &file, |status, found| status == 200 && found["sending"] == false && found["bytes"] == sent)
    };
    let found = broken();
    assert_eq!((&found["whole"], &found["total"]), (&json!(false), &json!(total)));
    // No file yet; and it counts.
    assert_eq!(server.done("GET", &format!("/v1/uploads/{id}"), None)["files"], json!([]));
    assert_eq!(stored(&server), sent as u64 + 4096);
    // From nowhere else, and with no other length.
    for range in [format!("bytes {}-{}/{total}", sent + 1, total - 1), format!("bytes {sent}-{total}/{}", total + 1)] {
        let count = range_length(&range);
        let (status, problem) = put(&server, &file, &range, &vec![0; count], None);
        assert_eq!(status, 409, "{range}: {problem}");
    }
    for (range, count) in [("bytes 5-1/9", 1), ("bytes 0-9/*", 10), ("0-9/10", 10), ("bytes 0-9/10", 9)] {
        assert_eq!(put(&server, &file, range, &vec![0; count], None).0, 400, "{range}");
    }
    // Other bytes behind it are found out, and what was there is no more.
    let rest = format!("bytes {sent}-{}/{total}", total - 1);
    let (status, problem) = put(&server, &file, &rest, &vec![0; total - sent], Some(&all));
    assert!(status == 400 && problem["hint"].as_str().unwrap().contains("send all of it again"), "{problem}");
    assert_eq!(server.ask("GET", &file, None).0, 404);
    let kept = place.at("data/tenants/1/uploads").join(&id);
    assert_eq!(std::fs::read_dir(kept.join("parts")).unwrap().count(), 0);
    assert_eq!(stored(&server), 0);
    // A body that is longer than it said, which only one in chunks can be, is not kept.
    let long = format!(
        "PUT {file} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-range: bytes 0-9/20\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
        server.token
    );
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(long.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("more than 10 bytes"), "{answer}");
    assert_eq!((server.ask("GET", &file, None).0, stored(&server)), (404, 0));
    // In three requests, and then whole.
    broken();
    let middle = sent + 1000;
    assert_eq!(put(&server, &file, &format!("bytes {sent}-{}/{total}", middle - 1), &all[sent..middle], None).0, 202);
    let last = format!("bytes {middle}-{}/{total}", total - 1);
    assert_eq!(put(&server, &file, &last, &all[middle..], Some(&all)).0, 204);
    let found = there(&server, &file, |status, _| status == 200);
    assert_eq!((&found["whole"], &found["bytes"]), (&json!(true), &json!(total)));
    assert!(std::fs::read(kept.join("files/a/b.bin")).unwrap() == all);
    assert_eq!(stored(&server), total as u64 + 4096);
    // A part beside it is dropped where nobody goes on with it.
    drop(half(&server, &format!("/v1/uploads/{id}/files/c"), &all, 10));
    there(&server, &format!("/v1/uploads/{id}/files/c"), |status, found| status == 200 && found["sending"] == false);
    let done = server.done("POST", &format!("/v1/uploads/{id}/finish"), None);
    assert_eq!((&done["count"], &done["bytes"]), (&json!(1), &json!(total)));
    assert!(!kept.join("parts").exists());
    assert_eq!(server.ask("DELETE", &format!("/v1/uploads/{id}"), None).0, 204);
    assert_eq!(stored(&server), 0);
}

/// How many bytes a range says.
fn range_length(range: &str) -> usize {
    let (first, last) = range["bytes ".len()..].split('/').next().unwrap().split_once('-').unwrap();
    last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
}

#[test]
fn two_who_send_one_file_do_not_mix_it() {
    let place = Place::new();
    let server = server(&place, &[]);
    let (id, all) = (begin(&server), bytes(2 << 20));
    let file = format!("/v1/uploads/{id}/files/a");
    let mut first = half(&server, &file, &all, 1 << 20);
    there(&server, &file, |_, found| found["sending"] == true);
    let other = vec![7; all.len()];
    let range = format!("bytes 0-{}/{}", all.len() - 1, all.len());
    let (status, problem) = put(&server, &file, &range, &other, None);
    assert_eq!((status, problem["detail"].as_str()), (409, Some("the file `a` is being sent")), "{problem}");
    // One who sends it as a whole replaces it when all is there.
    let whole = server.http.put(format!("{}{file}", server.url)).bearer_auth(&server.token).body(other.clone());
    assert_eq!(whole.send().unwrap().status(), 204);
    first.write_all(&all[1 << 20..]).unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert!(std::fs::read(place.at("data/tenants/1/uploads").join(&id).join("files/a")).unwrap() == all);
    // And once nobody sends it, anybody may.
    assert_eq!(put(&server, &file, &range, &other, Some(&other)).0, 204);
    assert_eq!(stored(&server), all.len() as u64 + 4096);
}

#[test]
fn a_host_that_is_opened_again_has_whole_files_only() {
    let place = Place::new();
    let mut one = server(&place, &[]);
    let (id, all) = (begin(&one), bytes(1 << 20));
    let file = |name: &str| format!("/v1/uploads/{id}/files/{name}");
    assert_eq!(put(&one, &file("a"), &format!("bytes 0-{}/{}", all.len() - 1, all.len()), &all, None).0, 204);
    drop(half(&one, &file("b"), &all, 1000));
    there(&one, &file("b"), |status, found| status == 200 && found["sending"] == false);
    let token = one.token.clone();
    one.kill();
    let again = Server::start(&place.at("data"), Some(&token), &[]);
    assert_eq!(again.done("GET", &file("a"), None)["whole"], true);
    assert_eq!(again.ask("GET", &file("b"), None).0, 404);
    // Nothing is there to go on with.
    assert_eq!(
        put(&again, &file("b"), &format!("bytes 1000-{}/{}", all.len() - 1, all.len()), &all[1000..], None).0,
        409
    );
}

/// A line to a host that breaks each connection over which so many bytes went, as often as it is told; and counts them.
struct Line {
    url: String,
    sent: Arc<AtomicU64>,
    /// How often it still breaks.
    left: Arc<AtomicU64>,
}

impl Line {
    fn new(server: &Caller, breaks: u64, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sent, left) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(breaks)));
        let (to, all) = (server.url.strip_prefix("http://").unwrap().to_owned(), Arc::clone(&sent));
        let breaks = Arc::clone(&left);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, host) = (client.unwrap(), TcpStream::connect(&to).unwrap());
                let (mut back, mut answers) = (client.try_clone().unwrap(), host.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                let (all, left) = (Arc::clone(&all), Arc::clone(&breaks));
                std::thread::spawn(move || forward(client, host, (&all, &left), after));
            }
        });
        Self { url, sent, left }
    }
}

fn forward(mut client: TcpStream, mut host: TcpStream, (all, left): (&AtomicU64, &AtomicU64), after: u64) {
    let (mut part, mut over) = (vec![0; 32 << 10], 0);
    while let Ok(count) = client.read(&mut part) {
        if count == 0 || host.write_all(&part[..count]).is_err() {
            break;
        }
        over += count as u64;
        all.fetch_add(count as u64, Ordering::Relaxed);
        let is_over = over > after;
        if is_over && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let _ = client.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = host.shutdown(Shutdown::Write);
}

fn command(url: &str, token: &str, arguments: &[&str]) -> Command {
    let mut command = scorehost();
    command.args(arguments).env("SCOREHOST_URL", url).env("SCOREHOST_TOKEN", token);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_command_goes_on_within_a_file_when_the_line_breaks() {
    let place = Place::new();
    let server = server(&place, &[]);
    let all = bytes(24 << 20);
    std::fs::write(place.at("model.bin"), &all).unwrap();
    let line = Line::new(&server, 3, 5 << 20);
    let path = place.at("model.bin");
    let arguments = ["model", "create", "--name", "big", "--path", path.to_str().unwrap(), "-o", "json"];
    let made = command(&line.url, &server.token, &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    assert_eq!(line.left.load(Ordering::Relaxed), 0, "it broke as often as it was to");
    let sent = line.sent.load(Ordering::Relaxed);
    println!("{} bytes went over the line for a file of {}: {said}", sent, all.len());
    // What was in buffers when it broke goes again, and no more.
    assert!(sent < all.len() as u64 + (8 << 20), "{sent}");
    let folder = std::fs::read_dir(place.at("data/tenants/1/models")).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read(folder.join("model.bin")).unwrap() == all);
    // What the model was made of is not kept twice.
    assert_eq!(server.done("GET", "/v1/uploads", None)["items"], json!([]));
}

#[test]
fn a_second_command_goes_on_within_the_file_that_the_first_broke_off() {
    let place = Place::new();
    let server = server(&place, &[]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "e"})));
    let all = bytes(64 << 20);
    std::fs::write(place.at("big.bin"), &all).unwrap();
    let path = place.at("big.bin");
    let invoke = |url: &str, more: &[&str]| {
        // With a key, nothing is asked before that this endpoint cannot answer.
        let line = ["endpoint", "invoke", "-n", "e", "--idempotency-key", "k", "-i", path.to_str().unwrap()];
        command(url, &server.token, &[&line, more].concat())
    };
    // The line goes for good: the command is killed.
    let line = Line::new(&server, 0, 0);
    let mut first = invoke(&line.url, &[]).spawn().unwrap();
    let began = Instant::now();
    while line.sent.load(Ordering::Relaxed) < 16 << 20 {
        assert!(began.elapsed() < Duration::from_secs(60) && first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let id = server.done("GET", "/v1/uploads", None)["items"][0]["id"].as_str().unwrap().to_owned();
    let file = format!("/v1/uploads/{id}/files/big.bin");
    let found = there(&server, &file, |status, found| status == 200 && found["sending"] == false);
    let before = found["bytes"].as_u64().unwrap();
    assert!(before > 4 << 20 && before < all.len() as u64, "{found}");
    let again = Line::new(&server, 0, 0);
    let second = invoke(&again.url, &["--upload", &id]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    // Sent, and then refused, since nothing is deployed.
    assert!(said.contains("of these were there") && said.contains("no default deployment"), "{said}");
    let sent = again.sent.load(Ordering::Relaxed);
    assert!(sent < all.len() as u64 - before + (1 << 20), "{sent} beside {before}");
    let kept = place.at("data/tenants/1/uploads").join(&id).join("files/big.bin");
    assert!(std::fs::read(&kept).unwrap() == all);
    // An upload that was there before stays.
    assert_eq!(server.done("GET", &format!("/v1/uploads/{id}"), None)["finished"], true);
}

#[test]
fn a_file_that_changed_since_it_broke_off_is_sent_whole() {
    let place = Place::new();
    let server = server(&place, &[]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "e"})));
    let (id, before) = (begin(&server), bytes(8 << 20));
    let file = format!("/v1/uploads/{id}/files/big.bin");
    drop(half(&server, &file, &before, 5 << 20));
    there(&server, &file, |status, found| status == 200 && found["sending"] == false);
    let now: Vec<u8> = before.iter().map(|byte| byte ^ 1).collect();
    std::fs::write(place.at("big.bin"), &now).unwrap();
    let path = place.at("big.bin");
    let line =
        ["endpoint", "invoke", "-n", "e", "--idempotency-key", "k", "-i", path.to_str().unwrap(), "--upload", &id];
    let said = command(&server.url, &server.token, &line).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("no default deployment"), "{said:?}");
    assert!(std::fs::read(place.at("data/tenants/1/uploads").join(&id).join("files/big.bin")).unwrap() == now);
}

#[test]
fn what_is_refused_sends_nothing_and_leaves_nothing() {
    let place = Place::new();
    let server = server(&place, &[]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "e"})));
    let (input, yaml) = (demo("pictures"), place.at("deployment.yml"));
    std::fs::write(&yaml, "name: d\ntype: model\nmodel: model.onnx\n").unwrap();
    std::fs::write(place.at("model.onnx"), "no model").unwrap();
    let run = |arguments: &[&str]| {
        let output = command(&server.url, &server.token, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let invoke = |more: &[&str]| run(&[&["endpoint", "invoke", "-i", input.to_str().unwrap()], more].concat());
    let create = |endpoint: &str| run(&["deployment", "create", "-f", yaml.to_str().unwrap(), "-e", endpoint]);
    for (said, told) in [
        (invoke(&["-n", "lost"]), "there is no endpoint `lost`"),
        (invoke(&["-n", "e"]), "endpoint `e` has no default deployment"),
        (invoke(&["-n", "e", "-d", "lost"]), "there is no deployment `lost`"),
        (invoke(&["-n", "e", "--set", "mini_batch_sise=1"]), "`--set mini_batch_sise`"),
        (create("lost"), "there is no endpoint `lost`"),
    ] {
        assert!(said.contains(told) && !said.contains("sent "), "{said}");
    }
    // Refused when all was sent: what this command sent is deleted.
    for said in [invoke(&["-n", "e", "--idempotency-key", "k"]), create("e")] {
        assert!(said.contains("sent "), "{said}");
    }
    assert_eq!(server.done("GET", "/v1/uploads", None)["items"], json!([]));
    assert_eq!(stored(&server), 0);
}

#[test]
fn a_job_is_posted_with_settings_as_run_takes_them_or_refused_before_anything_is_sent() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let input = demo("pictures");
    let invoke = |more: &[&str]| {
        let line = ["endpoint", "invoke", "-n", "shapes", "-o", "json", "-i", input.to_str().unwrap()];
        command(&server.url, &server.token, &[&line, more].concat()).output().unwrap()
    };
    let made = invoke(&["--set", "mini_batch_size=3", "--set", "settings.error_threshold=5"]);
    let job: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(job["set"], json!({"settings.mini_batch_size": "3", "settings.error_threshold": "5"}), "{made:?}");
    server.ended(job["name"].as_str().unwrap());
    let uploads = || server.done("GET", "/v1/uploads", None)["items"].as_array().unwrap().len();
    let before = uploads();
    for (more, told) in [
        (&["--set", "limits.memory=1GiB"][..], "`settings.limits.memory` is not replaced by a job"),
        (&["--output-path", "s3://bucket/out"], "s3://bucket/out"),
    ] {
        let said = String::from_utf8(invoke(more).stderr).unwrap();
        assert!(said.contains(told) && !said.contains("sent "), "{said}");
    }
    server.done("PATCH", "/v1/tenants/default", Some(&json!({"quotas": {"queued": 0}})));
    let said = String::from_utf8(invoke(&[]).stderr).unwrap();
    assert!(said.contains("0 queued jobs") && !said.contains("sent "), "{said}");
    assert_eq!(uploads(), before);
}

fn words(server: &Caller, job: &str) -> String {
    server.job(job)["waits"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_job_that_waits_says_why() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "");
    let limit = |quotas: Value| {
        server.done("PATCH", "/v1/tenants/default", Some(&json!({ "quotas": quotas })));
    };
    limit(json!({"running": 0}));
    let upload = server.upload_folder(&demo("pictures"));
    let jobs: Vec<String> = (0..3).map(|_| server.submit(&json!({ "upload": upload }))).collect();
    assert_eq!(words(&server, &jobs[0]), "the tenant may run no jobs");
    assert_eq!(words(&server, &jobs[2]), "the tenant may run no jobs; 2 jobs of the tenant are before it");
    assert!(server.done("GET", "/v1/jobs", None)["items"][0].get("waits").is_none());
    let shown = command(&server.url, &server.token, &["job", "show", "-n", &jobs[1]]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("waits       the tenant may run no jobs; 1 job of the tenant is before it"), "{shown}");
    limit(json!({"running": 1, "device_seconds": 0}));
    let told = words(&server, &jobs[0]);
    assert!(told.starts_with("the tenant's device seconds of this month are spent until 20"), "{told}");
    limit(json!({"device_seconds": null}));
    for job in &jobs {
        let ended = server.ended(job);
        assert!(ended["status"] == "Completed" && ended.get("waits").is_none(), "{ended}");
    }
}
