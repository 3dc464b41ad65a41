//! Callers who are slow, many, or say one thing to a proxy and another to the host: over bare TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Caller, server};
use crate::support::{Place, demo, scripts};

/// How the connections of one address are limited.
const MOST_EACH: usize = 512;

fn connect(caller: &Caller) -> TcpStream {
    let stream = TcpStream::connect(caller.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Everything that comes until the host closes the connection. What it had not read makes the end of it a reset.
fn rest(mut stream: TcpStream) -> String {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&part[..count]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => panic!("the connection is not closed: {e}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What a request in these bytes is answered with.
fn said(caller: &Caller, bytes: &[u8]) -> String {
    let mut stream = connect(caller);
    // The host may have closed it before all was sent.
    let _ = stream.write_all(bytes);
    rest(stream)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A request whose end two readers could see in different places is refused, and nothing after it is read.
#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let place = Place::new();
    let server = server(&place, &[]);
    let token = &server.token;
    let begin = format!(
        "POST /v1/endpoints HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    // Were it taken for a request of its own, there would be a second answer, and an upload.
    let smuggled = format!("POST /v1/uploads HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\r\n");
    let cases = [
        (
            "length and chunks",
            format!("{begin}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "chunks and length",
            format!("{begin}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("two lengths", format!("{begin}content-length: 0\r\ncontent-length: 5\r\n\r\n{smuggled}")),
        ("two lengths in one", format!("{begin}content-length: 0, 5\r\n\r\n{smuggled}")),
        ("a signed length", format!("{begin}content-length: +2\r\n\r\n{{}}{smuggled}")),
        ("a negative length", format!("{begin}content-length: -2\r\n\r\n{{}}{smuggled}")),
        ("a hexadecimal length", format!("{begin}content-length: 0x2\r\n\r\n{{}}{smuggled}")),
        ("an endless length", format!("{begin}content-length: 99999999999999999999999\r\n\r\n{smuggled}")),
        ("chunks not last", format!("{begin}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}")),
        ("another encoding", format!("{begin}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a folded header", format!("{begin}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a header with a space", format!("{begin}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a chunk's size that is none", format!("{begin}transfer-encoding: chunked\r\n\r\nx\r\n\r\n{smuggled}")),
        ("a chunk's size with a sign", format!("{begin}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n{smuggled}")),
        (
            "a chunk's size beyond numbers",
            format!("{begin}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n{smuggled}"),
        ),
        (
            "a chunk longer than its size",
            format!("{begin}transfer-encoding: chunked\r\n\r\n1\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
        ),
        ("a chunk that ends bare", format!("{begin}transfer-encoding: chunked\r\n\r\n0\n\n{smuggled}")),
        (
            "chunks of 1.0",
            format!("{}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}", begin.replace("HTTP/1.1", "HTTP/1.0")),
        ),
        ("a null in a header", format!("{begin}x: a\0b\r\n\r\n{smuggled}")),
        ("a bare return in a header", format!("{begin}x: a\rcontent-length: 0\r\n\r\n{smuggled}")),
        (
            "two tokens",
            format!(
                "GET /v1/whoami HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\nauthorization: Bearer x\r\nconnection: close\r\n\r\n"
            ),
        ),
    ];
    for (what, bytes) in cases {
        let answer = said(&server, bytes.as_bytes());
        let refused = (400..500).contains(&status(&answer)) || answer.is_empty();
        assert!(refused && answer.matches("HTTP/1.1").count() <= 1, "{what}: {answer}");
        assert!(!answer.contains("201 Created"), "{what}: {answer}");
    }
    assert_eq!(server.ask("GET", "/v1/whoami", None).0, 200);
}

#[test]
fn headers_and_bodies_that_are_too_large_are_refused() {
    let place = Place::new();
    let server = server(&place, &[]);
    let token = &server.token;
    let many: String = (0..200).map(|i| format!("x-{i}: a\r\n")).collect();
    let long = format!("x: {}\r\n", "a".repeat(1 << 20));
    for (what, lines, expected) in [("many", many, 431), ("long", long, 431)] {
        let answer = said(&server, format!("GET /v1/whoami HTTP/1.1\r\nhost: h\r\n{lines}\r\n").as_bytes());
        assert!(status(&answer) == expected || answer.is_empty(), "{what}: {answer}");
    }
    let target = format!("GET /{} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n", "a".repeat(100_000));
    let answer = said(&server, target.as_bytes());
    assert!([404, 414, 431].contains(&status(&answer)), "{answer}");
    // One that says so, and one that comes in chunks without saying.
    let begin = format!(
        "POST /v1/endpoints HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    let body = " ".repeat(2 << 20);
    let said_so = format!("{begin}content-length: {}\r\n\r\n{body}", body.len());
    let in_chunks = format!("{begin}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for bytes in [said_so, in_chunks] {
        assert_eq!(status(&said(&server, bytes.as_bytes())), 413);
    }
}

#[test]
fn callers_who_send_slowly_or_nothing_are_let_go() {
    let place = Place::new();
    let server = server(&place, &[]);
    let began = Instant::now();
    let silent = connect(&server);
    // Idle after an answer.
    let mut idle = connect(&server);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    // A byte of a header each second, for ever.
    let slow = connect(&server);
    let mut feet = slow.try_clone().unwrap();
    std::thread::spawn(move || {
        let bytes = b"GET /healthz HTTP/1.1\r\nhost: ".iter().chain(std::iter::repeat(&b'h'));
        for byte in bytes {
            if feet.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    // A file that never comes.
    let id = server.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    let mut body = connect(&server);
    let head =
        format!("PUT /v1/uploads/{id}/files/a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n", server.token);
    body.write_all(format!("{head}content-length: 100\r\n\r\na").as_bytes()).unwrap();

    assert_eq!(status(&rest(idle)), 200);
    let mut end = [0; 256];
    for mut stream in [silent, slow.try_clone().unwrap()] {
        while stream.read(&mut end).is_ok_and(|count| count > 0) {}
    }
    let _ = slow.shutdown(std::net::Shutdown::Both);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(status(&rest(body)), 408);
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    assert_eq!(server.done("GET", &format!("/v1/uploads/{id}"), None)["files"], json!([]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_who_never_reads_is_let_go() {
    let place = Place::new();
    let server = server(&place, &[]);
    let sockets = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.child.as_ref().unwrap().id())).unwrap();
        let names = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
    };
    let before = sockets();
    // More than all buffers on the way hold.
    let ask = b"GET /docs/openapi.json HTTP/1.1\r\nhost: h\r\n\r\n".repeat(400);
    let mut stream = connect(&server);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(&ask);
    let began = Instant::now();
    while sockets() <= before {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not accepted");
        std::thread::sleep(Duration::from_millis(20));
    }
    while sockets() > before {
        assert!(began.elapsed() < Duration::from_secs(60), "it is held for ever");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() > Duration::from_secs(15), "it is let go too soon: {:?}", began.elapsed());
}

#[test]
fn one_address_does_not_hold_all_connections() {
    let place = Place::new();
    let server = server(&place, &[]);
    let held: Vec<_> = (0..MOST_EACH).map(|_| connect(&server)).collect();
    let began = Instant::now();
    // Accepted one after the other: those before count by then.
    let refused = said(&server, b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert!(status(&refused) == 429 || refused.is_empty(), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(held);
    let began = Instant::now();
    while status(&said(&server, b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")) != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "places do not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_tenant_does_not_hold_all_places_to_follow_jobs() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    let [(one, job), (other, others)] = ["one", "other"].map(|name| {
        server.done("POST", "/v1/tenants", Some(&json!({"name": name, "quotas": {"running": 0}})));
        let body = json!({"name": "t", "tenant": name, "scopes": ["read", "invoke", "write"]});
        let token = server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
        let theirs = server.of(&token);
        theirs.deploy("score-by-file", "");
        // It waits for ever: the tenant may have none that runs.
        let job = theirs.submit(&json!({"upload": theirs.upload_folder(&demo("pictures"))}));
        (token, job)
    });
    let follow = |token: &str, job: &str| {
        let mut stream = connect(&server);
        let ask = format!("GET /v1/jobs/{job}/events HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (status(std::str::from_utf8(&begin).unwrap()), stream)
    };
    let held: Vec<_> = (0..64).map(|_| follow(&one, &job)).collect();
    assert!(held.iter().all(|(status, _)| *status == 200));
    assert_eq!(follow(&one, &job).0, 429);
    assert_eq!(follow(&other, &others).0, 200);
    drop(held);
    let began = Instant::now();
    while follow(&one, &job).0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "places do not come back");
        std::thread::sleep(Duration::from_millis(200));
    }
}
