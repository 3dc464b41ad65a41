//! How a host that stays bears load: 200 callers at once post 1,000 jobs, five times while nothing runs and five times while
//! jobs do; then a page of the list of these ten thousand is asked for. Prints medians and the slowest hundredth, in milliseconds. And how it is
//! shared: what a tenant's one job takes while another tenant has a hundred, as a ratio of its fair share.
//!
//! `cargo bench --bench serve`, and `-- fairness` or `-- device` for the last parts alone.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use reqwest::blocking::Client as Http;
use serde_json::{Value, json};

const CALLERS: usize = 200;
const JOBS: usize = 1_000;
const TURNS: usize = 5;

struct Server {
    child: Child,
    caller: Caller,
}

/// What a caller with one token sees.
struct Caller {
    url: String,
    token: String,
}

impl std::ops::Deref for Server {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &std::path::Path, jobs: &str) -> (Server, Duration) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scorehost"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--jobs", jobs, "--data"]).arg(data);
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
    (Server { child, caller: Caller { url, token: token.trim().to_owned() } }, took)
}

impl Caller {
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

    fn done(&self, http: &Http, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(http, method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Makes the endpoint `shapes` with the demo's model on a device; false if the host has none.
    fn deploy(&self, http: &Http, device: &str) -> bool {
        self.done(http, "POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
        let upload = self.done(http, "POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
        let yaml = format!("name: shapes\nmodel: model\nsettings:\n  device: {device}\n  mini_batch_size: 8\n");
        self.put(http, &upload, "deployment.yml", yaml.as_bytes());
        let model = std::fs::read(demo().join("model/resnet14v2-shapes.onnx")).unwrap();
        self.put(http, &upload, "model/shapes.onnx", &model);
        self.done(http, "POST", &format!("/v1/uploads/{upload}/finish"), None);
        let body = json!({"upload": upload, "set_default": true});
        self.ask(http, "POST", "/v1/endpoints/shapes/deployments", Some(&body)).0 == 201
    }

    /// The first so many of the demo's pictures, each so many times, as an upload.
    fn pictures(&self, http: &Http, files: usize, times: usize) -> String {
        let input = self.done(http, "POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
        for entry in std::fs::read_dir(demo().join("pictures")).unwrap().take(files) {
            let entry = entry.unwrap();
            let (name, bytes) = (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
            (0..times).for_each(|i| self.put(http, &input, &format!("{i}-{name}"), &bytes));
        }
        self.done(http, "POST", &format!("/v1/uploads/{input}/finish"), None);
        input
    }

    fn post(&self, http: &Http, upload: &str) -> String {
        let job = self.done(http, "POST", "/v1/endpoints/shapes/jobs", Some(&json!({"input": {"upload": upload}})));
        job["name"].as_str().unwrap().to_owned()
    }

    /// Posts a job, and waits until it is complete.
    fn score(&self, http: &Http, upload: &str) -> Duration {
        let began = Instant::now();
        let name = self.post(http, upload);
        loop {
            let job = self.done(http, "GET", &format!("/v1/jobs/{name}"), None);
            match job["status"].as_str().unwrap() {
                "Completed" => return began.elapsed(),
                "Queued" | "Running" => std::thread::sleep(Duration::from_millis(10)),
                _ => panic!("{job}"),
            }
        }
    }

    fn put(&self, http: &Http, upload: &str, path: &str, bytes: &[u8]) {
        let url = format!("{}/v1/uploads/{upload}/files/{path}", self.url);
        http.put(url).bearer_auth(&self.token).body(bytes.to_vec()).send().unwrap();
    }
}

impl Server {
    fn resident_kib(&self) -> u64 {
        let facts = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = facts.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }
}

/// A connection that asks for one thing after the other, and takes next to nothing of the processors that it shares with
/// the host: two hundred clients of a library take as much as the host does.
struct Line {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Line {
    fn open(at: &Caller) -> Self {
        let address = at.url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let head =
            format!("host: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n", at.token);
        Self { stream: BufReader::new(stream), head }
    }

    /// The answer's status, once all of it is there.
    fn post(&mut self, path: &str, body: &Value) -> u16 {
        let body = body.to_string();
        let request = format!("POST {path} HTTP/1.1\r\n{}content-length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        self.stream.read_exact(&mut vec![0; length]).unwrap();
        status
    }
}

/// How callers fared, in milliseconds and jobs a second.
struct Posted {
    median: f64,
    slowest: f64,
    rate: f64,
}

/// All callers at once, each one job after the other.
fn posted(server: &Server, body: &Value) -> Posted {
    let (ready, began) = (Barrier::new(CALLERS), Instant::now());
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let call = || {
            let mut line = Line::open(server);
            ready.wait();
            let post = |_| {
                let began = Instant::now();
                let status = line.post("/v1/endpoints/shapes/jobs", body);
                let took = began.elapsed();
                assert_eq!(status, 202);
                took.as_secs_f64() * 1e3
            };
            (0..JOBS / CALLERS).map(post).collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Posted { median: times[times.len() / 2], slowest: times[times.len() * 99 / 100], rate }
}

/// Waits until no job runs.
fn settled(server: &Server, http: &Http) {
    while !server.done(http, "GET", "/v1/jobs?status=Running", None)["items"].as_array().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
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

fn demo() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

/// How long one tenant's job takes while another has a hundred of the same, beside its fair share: with one place, or
/// with two of a machine that they share, half of the machine, so twice the time that it takes alone.
fn fairness(places: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(&folder.path().join("data"), places);
    let http = agent();
    let tenant = |name: &str| {
        server.done(&http, "POST", "/v1/tenants", Some(&json!({ "name": name })));
        let body = json!({"name": "all", "tenant": name, "scopes": ["read", "invoke", "write"]});
        let token = server.done(&http, "POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
        Caller { url: server.url.clone(), token }
    };
    let [many, one] = ["many", "one"].map(tenant);
    let uploads = [&many, &one].map(|who| {
        assert!(who.deploy(&http, "cpu"));
        who.pictures(&http, 40, 12)
    });
    one.score(&http, &uploads[1]);
    let mut alone: Vec<Duration> = (0..3).map(|_| one.score(&http, &uploads[1])).collect();
    alone.sort();
    let names: Vec<String> = (0..100).map(|_| many.post(&http, &uploads[0])).collect();
    let running = || many.done(&http, "GET", "/v1/jobs?status=Running", None)["items"].as_array().unwrap().len();
    let (mut ratios, random) = (Vec::new(), Instant::now());
    for _ in 0..7 {
        while running() < places.parse().unwrap() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Somewhere in the middle of the others' jobs.
        std::thread::sleep(Duration::from_millis(300 + u64::from(random.elapsed().subsec_millis()) % 1500));
        ratios.push(one.score(&http, &uploads[1]).as_secs_f64() / (2.0 * alone[1].as_secs_f64()));
    }
    let waiting = many.done(&http, "GET", &format!("/v1/jobs/{}", names[99]), None)["status"].clone();
    assert_eq!(waiting, "Queued", "the hundred jobs were too few to say anything");
    ratios.sort_by(f64::total_cmp);
    let shown: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!(
        "{:<44} {:>8.2} s alone; beside 100 others, of its fair share: median {:.2}, most {:.2} ({})",
        format!("one job, --jobs {places}"),
        alone[1].as_secs_f64(),
        ratios[3],
        ratios[6],
        shown.join(" ")
    );
}

/// What two tenants have of the GPU, one of three times the other's weight, while both want it all the time.
fn device() {
    const WAIT: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(&folder.path().join("data"), "1");
    let http = agent();
    for (name, weight) in [("light", 1), ("heavy", 3)] {
        server.done(&http, "POST", "/v1/tenants", Some(&json!({ "name": name, "weight": weight })));
        let body = json!({"name": "all", "tenant": name, "scopes": ["read", "invoke", "write"]});
        let token = server.done(&http, "POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
        let who = Caller { url: server.url.clone(), token };
        if !who.deploy(&http, "gpu") {
            println!("{:<44} not measured: there is no GPU, nor a driver that does as one", "two tenants on a GPU");
            return;
        }
        let upload = who.pictures(&http, 40, 12);
        (0..100).for_each(|_| drop(who.post(&http, &upload)));
    }
    std::thread::sleep(WAIT);
    let used = server.done(&http, "GET", "/v1/usage", None);
    let of = |name: &str| {
        let lines = used["items"].as_array().unwrap().iter().filter(|line| line["tenant"] == name);
        lines.map(|line| line["device_seconds"].as_f64().unwrap()).sum::<f64>()
    };
    let (light, heavy) = (of("light"), of("heavy"));
    println!(
        "{:<44} {heavy:.1} s of the GPU for weight 3, {light:.1} s for weight 1, in {} s: {:.2} to 1",
        "two tenants on a GPU, --jobs 1",
        WAIT.as_secs(),
        heavy / light
    );
}

fn main() {
    let is_asked = |what: &str| std::env::args().any(|argument| argument == what);
    match (is_asked("fairness"), is_asked("device")) {
        (true, _) => return ["1", "2"].into_iter().for_each(fairness),
        (_, true) => return device(),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, ready) = start(&folder.path().join("data"), "1");
    println!(
        "{:<44} {:>8.1} ms, {} KiB resident",
        "from start to ready",
        ready.as_secs_f64() * 1e3,
        server.resident_kib()
    );
    let http = agent();
    let done = |method: &str, path: &str, body: Option<&Value>| server.done(&http, method, path, body);
    assert!(server.deploy(&http, "cpu"));
    let input = server.pictures(&http, 4, 1);

    // Five times: while nothing runs, and with more and more jobs waiting; and while jobs run beside it.
    let body = json!({"input": {"upload": input}});
    let quotas = |quotas: Value| drop(done("PATCH", "/v1/tenants/default", Some(&json!({ "quotas": quotas }))));
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        quotas(json!({"queued": 20_000, "running": 0}));
        settled(&server, &http);
        alone.push(posted(&server, &body));
        quotas(json!({"running": 4}));
        beside.push(posted(&server, &body));
    }
    for (what, mut turns) in [("nothing runs", alone), ("jobs run", beside)] {
        turns.sort_by(|a, b| a.slowest.total_cmp(&b.slowest));
        let middle = &turns[TURNS / 2];
        println!(
            "{:<44} {:>8.1} ms median {:>8.1} ms p99   {:.0} jobs/s ({TURNS} turns: p99 {:.1} to {:.1} ms)",
            format!("{CALLERS} callers post {JOBS} jobs, {what}"),
            middle.median,
            middle.slowest,
            middle.rate,
            turns[0].slowest,
            turns[TURNS - 1].slowest
        );
    }
    println!("{:<44} {} KiB resident", "", server.resident_kib());

    // What is beyond the limit is refused, with when to come again.
    quotas(json!({"queued": 1000}));
    let mut refused = 0;
    for _ in 0..300 {
        refused += usize::from(server.ask(&http, "POST", "/v1/endpoints/shapes/jobs", Some(&body)).0 == 429);
    }
    println!("{:<44} {refused} of 300 refused with 429", "beyond 1,000 waiting");
    let list = |path: &str| {
        let began = Instant::now();
        done("GET", path, None);
        began.elapsed()
    };
    let mut names: Vec<String> = Vec::new();
    while names.len() < TURNS * JOBS {
        let before = names.last().map(|name| format!("&before={name}")).unwrap_or_default();
        let page = done("GET", &format!("/v1/jobs?limit=200{before}"), None);
        names.extend(page["items"].as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap().to_owned()));
    }
    for (what, path) in [
        ("a page of 200 of 10,000 jobs", "/v1/jobs?limit=200".to_owned()),
        ("the same from the middle", format!("/v1/jobs?limit=200&before={}", names[TURNS * JOBS - 1])),
        ("the same of one endpoint that wait", "/v1/jobs?limit=200&endpoint=shapes&status=Queued".to_owned()),
    ] {
        told(what, (0..50).map(|_| list(&path)).collect());
    }
    drop(server);
    ["1", "2"].into_iter().for_each(fairness);
    device();
}
