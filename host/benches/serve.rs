//! How a host that stays bears load: 200 callers at once post 1,000 jobs, while jobs run; then a page
//! of the list is asked for. Prints medians and the slowest hundredth, in milliseconds.
//!
//! `cargo bench --bench serve`

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use reqwest::blocking::Client as Http;
use serde_json::{Value, json};

const CALLERS: usize = 200;
const JOBS: usize = 1_000;

struct Server {
    child: Child,
    url: String,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &std::path::Path) -> (Server, Duration) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scorehost"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--jobs", "1", "--data"]).arg(data);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut token, mut said) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut token).unwrap();
    let url = loop {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        if let Some((_, rest)) = line.split_once(" at ") {
            break rest.split(';').next().unwrap().to_owned();
        }
    };
    let took = began.elapsed();
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (Server { child, url, token: token.trim().to_owned() }, took)
}

impl Server {
    fn ask(&self, http: &Http, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = http.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().unwrap()).unwrap_or(Value::Null))
    }

    fn put(&self, http: &Http, upload: &str, path: &str, bytes: &[u8]) {
        let url = format!("{}/v1/uploads/{upload}/files/{path}", self.url);
        http.put(url).bearer_auth(&self.token).body(bytes.to_vec()).send().unwrap();
    }

    fn resident_kib(&self) -> u64 {
        let facts = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = facts.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }
}

fn agent() -> Http {
    scorehost::tls::install();
    Http::builder().no_proxy().tls_certs_only([]).timeout(None).build().unwrap()
}

/// The median and the slowest hundredth, in milliseconds.
fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<44} {:>8.1} ms median {:>8.1} ms p99   of {}", at(50), at(99), times.len());
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (server, ready) = start(&folder.path().join("data"));
    println!(
        "{:<44} {:>8.1} ms, {} KiB resident",
        "from start to ready",
        ready.as_secs_f64() * 1e3,
        server.resident_kib()
    );
    let http = agent();
    let done = |method: &str, path: &str, body: Option<&Value>| {
        let (status, answer) = server.ask(&http, method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    };
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    let upload = done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    server.put(&http, &upload, "deployment.yml", b"name: shapes\nmodel: model\nsettings:\n  device: cpu\n");
    let model = std::fs::read(demo.join("model/resnet14v2-shapes.onnx")).unwrap();
    server.put(&http, &upload, "model/shapes.onnx", &model);
    done("POST", &format!("/v1/uploads/{upload}/finish"), None);
    done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})));
    let input = done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    for entry in std::fs::read_dir(demo.join("pictures")).unwrap().take(4) {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        server.put(&http, &input, entry.file_name().to_str().unwrap(), &bytes);
    }
    done("POST", &format!("/v1/uploads/{input}/finish"), None);

    // Tenants may have 1,000 jobs waiting; some of these run meanwhile, so none is refused.
    let body = json!({"input": {"upload": input}});
    let (ready, began) = (Barrier::new(CALLERS), Instant::now());
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let call = || {
            let http = agent();
            server.ask(&http, "GET", "/v1/whoami", None);
            ready.wait();
            let post = |_| {
                let began = Instant::now();
                let (status, answer) = server.ask(&http, "POST", "/v1/endpoints/shapes/jobs", Some(&body));
                assert_eq!(status, 202, "{answer}");
                began.elapsed()
            };
            (0..JOBS / CALLERS).map(post).collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    told(&format!("{CALLERS} callers post {JOBS} jobs"), times);
    println!(
        "{:<44} {:>8.0} jobs/s, {} KiB resident",
        "",
        JOBS as f64 / began.elapsed().as_secs_f64(),
        server.resident_kib()
    );

    // What is beyond the limit is refused, with when to come again.
    let mut refused = 0;
    for _ in 0..300 {
        refused += usize::from(server.ask(&http, "POST", "/v1/endpoints/shapes/jobs", Some(&body)).0 == 429);
    }
    println!("{:<44} {refused} of 300 refused with 429", "beyond 1,000 waiting");
    let waiting = done("GET", "/v1/jobs?limit=1", None)["items"][0]["name"].as_str().unwrap().to_owned();
    println!("{:<44} {waiting}", "the last one accepted");
    let list = |path: &str| {
        let began = Instant::now();
        done("GET", path, None);
        began.elapsed()
    };
    told("a page of 200 jobs", (0..50).map(|_| list("/v1/jobs?limit=200")).collect());
}
