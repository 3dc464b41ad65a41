//! What operators see of a host that stays: numbers, the log, and traces.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::{Value, json};

use crate::service::{Server, bundle};
use crate::support::{Place, demo, python, scripts};

/// A host whose numbers are served too, and its whole log in JSON.
fn server(place: &Place, more: &[&str]) -> Server {
    let options = [&["--metrics", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"], more].concat();
    Server::start(&place.at("data"), None, &options)
}

fn log(server: &Server) -> String {
    server.log.lock().unwrap().clone()
}

/// Waits for what the log is to say.
#[track_caller]
fn logged(server: &Server, what: &str) -> String {
    let began = Instant::now();
    loop {
        let log = log(server);
        if log.contains(what) {
            return log;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no `{what}` in {log}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The lines with this message.
fn said<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

/// The text of the numbers.
fn numbers(server: &Server) -> String {
    let log = logged(server, "/metrics\"");
    let url = log.split("numbers for Prometheus at ").nth(1).unwrap().split('"').next().unwrap();
    let answer = server.http.get(url).send().unwrap();
    assert_eq!(answer.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.text().unwrap()
}

/// The number of a line that begins so.
#[track_caller]
fn number(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no `{line}` in {text}")).parse().unwrap()
}

/// Scores the demo's pictures with a script that behaves so; the job's name.
fn scored(server: &Server, behave: &str, end: &str) -> String {
    let settings = format!("  mini_batch_size: 10\ntags:\n  behave: {behave}\n");
    let upload = server.upload(&bundle("probe", &settings));
    server.done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})));
    let input = server.upload_folder(&demo("pictures"));
    let name = server.submit(&json!({ "upload": input }));
    let job = server.ended(&name);
    assert_eq!(job["status"], end, "{job}");
    name
}

#[test]
fn numbers_count_what_happened_and_the_log_tells_it() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    let retried = scored(&server, "panics-once", "Completed");
    let partly = scored(&server, "permanent-on-odd", "Completed");
    for path in ["/v1/nothing", "/v1/no/thing", "/v1/jobs/job-x", "/v1/jobs/job-y?limit=secret-query"] {
        assert_eq!(server.ask("GET", path, None).0, 404, "{path}");
    }
    assert_eq!(server.ask_as("sh_wrong_token", "GET", "/v1/jobs", None, &[]).0, 401);
    // Ends are written before they are counted.
    let log = logged(
        &server,
        &format!(
            "\"job\":\"{partly}\",\"tenant\":\"default\",\"endpoint\":\"shapes\",\"deployment\":\"shapes\",\"version\":2,\"status\":\"Completed\""
        ),
    );
    let text = numbers(&server);
    for (line, count) in [
        ("scorehost_mini_batches_total{outcome=\"succeeded\"}", 6.0),
        ("scorehost_mini_batches_total{outcome=\"failed\"}", 2.0),
        ("scorehost_files_total{outcome=\"succeeded\"}", 60.0),
        ("scorehost_files_total{outcome=\"failed\"}", 20.0),
        ("scorehost_retries_total{reason=\"trap\"}", 4.0),
        ("scorehost_mini_batch_seconds_count", 8.0),
        ("scorehost_jobs_accepted_total{tenant=\"default\"}", 2.0),
        ("scorehost_jobs_ended_total{end=\"Completed\",tenant=\"default\"}", 2.0),
        ("scorehost_job_wait_seconds_count", 2.0),
        ("scorehost_jobs{state=\"Queued\"}", 0.0),
        ("scorehost_jobs{state=\"Running\"}", 0.0),
        ("scorehost_http_requests_total{route=\"/v1/endpoints/{endpoint}/jobs\",method=\"POST\",status=\"2xx\"}", 2.0),
        ("scorehost_http_requests_total{route=\"/v1/jobs/{name}\",method=\"GET\",status=\"4xx\"}", 2.0),
        ("scorehost_http_requests_total{route=\"none\",method=\"GET\",status=\"4xx\"}", 2.0),
        ("scorehost_http_requests_total{route=\"/v1/jobs\",method=\"GET\",status=\"4xx\"}", 1.0),
    ] {
        assert_eq!(number(&text, line), count, "{line}");
    }
    assert!((1.0..=8.0).contains(&number(&text, "scorehost_commit_seconds_count")));
    assert!(number(&text, "scorehost_tenant_storage_bytes{tenant=\"default\"}") > 1e6);
    assert!(number(&text, "scorehost_resident_memory_bytes") > 1e6 || !cfg!(target_os = "linux"));
    assert!(!text.contains("shapes") && !text.contains("job-"), "nothing that tenants name is a label: {text}");
    is_read_by_prometheus(&text);

    let lines = lines(&log);
    for (message, job) in [("job accepted", &retried), ("job started", &retried), ("job ended", &retried)] {
        let found = said(&lines, message);
        assert_eq!(found.len(), 2, "{message}");
        assert_eq!(
            (&found[0]["job"], &found[0]["tenant"], &found[0]["level"]),
            (&json!(job), &json!("default"), &json!("INFO"))
        );
    }
    let again = said(&lines, "a mini-batch was tried again");
    let numbers: Vec<_> = again.iter().map(|line| line["mini_batch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(
        (&again[0]["job"], &again[0]["attempts"], &again[0]["retried"]),
        (&json!(retried), &json!(2), &json!("trap"))
    );
    let failed = said(&lines, "files of a mini-batch failed");
    assert_eq!(failed.iter().map(|line| line["mini_batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        (&failed[0]["job"], &failed[0]["kind"], &failed[0]["failed"]),
        (&json!(partly), &json!("permanent"), &json!(10))
    );
    let requests = said(&lines, "request");
    assert!(requests.iter().any(|line| line["route"] == "/v1/whoami" || line["route"] == "/v1/jobs/{name}"));
    assert!(requests.iter().all(|line| line["request"].is_string() && line["ms"].is_number()));
    let (token, secret) = (server.token.as_str(), server.token.splitn(3, '_').nth(2).unwrap());
    assert!(!log.contains(token) && !log.contains(secret) && !log.contains("secret-query"), "{log}");
}

/// As Prometheus's own parser reads it.
fn is_read_by_prometheus(text: &str) {
    let Some(python) = python("prometheus_client.openmetrics.parser") else { return };
    let script = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        families = list(parse(sys.stdin.read()))\n\
        kinds = {family.name: family.type for family in families}\n\
        assert kinds['scorehost_mini_batch_seconds'] == 'histogram', kinds\n\
        assert kinds['scorehost_files'] == 'counter', kinds\n\
        assert kinds['scorehost_build'] == 'info', kinds\n\
        assert all(family.documentation for family in families)\n\
        print(len(families))";
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().unwrap() > 15);
}

#[test]
fn a_request_is_found_again_by_its_identifier() {
    let place = Place::new();
    let server = server(&place, &[]);
    let ask = |id: &str| {
        let request = server.http.get(format!("{}/v1/jobs/lost", server.url)).bearer_auth(&server.token);
        let answer = request.header("x-request-id", id).send().unwrap();
        let told = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let problem: Value = serde_json::from_str(&answer.text().unwrap()).unwrap();
        assert_eq!(problem["request_id"], told);
        told
    };
    assert_eq!(ask("mine-1"), "mine-1");
    // What could be taken for something else in a log is not taken.
    let own = ask("mine 2 level=ERROR");
    assert!(own.len() == 16 && own.bytes().all(|b| b.is_ascii_hexdigit()), "{own}");
    let lines = lines(&logged(&server, &own));
    let requests = said(&lines, "request");
    assert_eq!((&requests[0]["request"], &requests[0]["status"]), (&json!("mine-1"), &json!(404)));
    let token = server.token.split('_').nth(1).unwrap();
    assert_eq!((&requests[0]["tenant"], &requests[0]["token"]), (&json!("default"), &json!(token)));
}

#[test]
fn numbers_are_on_an_address_of_their_own() {
    let place = Place::new();
    let server = server(&place, &[]);
    // The page to sign in, as at every path that is none.
    assert_eq!(server.ask("GET", "/metrics", None).0, 401, "callers see no other tenants' numbers");
    let text = numbers(&server);
    assert_eq!(number(&text, "scorehost_http_requests_total{route=\"none\",method=\"GET\",status=\"4xx\"}"), 1.0);
    let address =
        log(&server).split("numbers for Prometheus at http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    let refused = serve(&place.at("other"), &["--metrics", "0.0.0.0:0"]);
    assert!(refused.contains("would reach `0.0.0.0:0` unencrypted"), "{refused}");
}

/// What `serve` says that does not start.
fn serve(data: &Path, more: &[&str]) -> String {
    let mut command = crate::support::scorehost();
    let output = command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn text_of_strangers_moves_no_terminal() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = Server::start(&place.at("data"), None, &[]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    scored(&server, "strange-words", "Failed");
    let log = logged(&server, "job ended");
    assert!(log.contains("job accepted") && log.contains("WARN"), "{log}");
    assert!(!log.contains(" request "), "requests are for the level `debug`: {log}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}

/// A collector of OpenTelemetry's that keeps what it is sent.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(stream.unwrap(), &kept));
            }
        });
        Self { url, spans }
    }

    /// Waits for a span of this name.
    #[track_caller]
    fn has(&self, name: &str) -> Vec<Span> {
        let began = Instant::now();
        loop {
            let spans = self.spans.lock().unwrap().clone();
            if spans.iter().any(|span| span.name == name) {
                return spans;
            }
            let names: Vec<_> = spans.into_iter().map(|span| span.name).collect();
            assert!(began.elapsed() < Duration::from_secs(20), "no `{name}` in {names:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Requests of one connection.
fn take(stream: TcpStream, kept: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        assert_eq!(first.trim_end(), "POST /v1/traces HTTP/1.1");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for resource in request.resource_spans {
            let about = attributes(&resource.resource.unwrap().attributes);
            assert_eq!(about["service.name"], "scorehost");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.lock().unwrap().extend(spans);
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    list.iter().map(|each| (each.key.clone(), text(each))).collect()
}

#[test]
fn a_trace_leads_from_the_callers_request_to_each_mini_batch() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let collector = Collector::start();
    let server = server(&place, &["--otlp", &collector.url]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    let upload = server.upload(&bundle("probe", "  mini_batch_size: 10\ntags:\n  behave: panics-once\n"));
    server.done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})));
    let input = server.upload_folder(&demo("pictures"));
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = format!("00-{trace}-{caller}-01");
    let body = json!({"input": {"upload": input}});
    let headers = [("traceparent", traceparent.as_str())];
    let (status, job) = server.ask_as(&server.token, "POST", "/v1/endpoints/shapes/jobs", Some(&body), &headers);
    assert_eq!(status, 202, "{job}");
    let name = job["name"].as_str().unwrap();
    assert_eq!(server.ended(name)["status"], "Completed");
    collector.has("process");
    let spans = collector.has("job");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mine: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
    let only = |name: &str| {
        let found: Vec<_> = mine.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        *found[0]
    };
    let (request, job, process) = (only("POST /v1/endpoints/{endpoint}/jobs"), only("job"), only("process"));
    assert_eq!((hex(&request.parent_span_id).as_str(), request.kind), (caller, SpanKind::Server as i32));
    assert_eq!((&job.parent_span_id, &process.parent_span_id), (&request.span_id, &job.span_id));
    assert_eq!(attributes(&request.attributes)["http.response.status_code"], "202");
    let about = attributes(&job.attributes);
    assert_eq!((about["scorehost.job"].as_str(), about["scorehost.job.status"].as_str()), (name, "Completed"));
    assert_eq!(attributes(&process.attributes)["process.exit.code"], "0");
    let mini_batches: Vec<_> = mine.iter().filter(|span| span.name == "mini_batch").collect();
    assert_eq!(mini_batches.len(), 4);
    for span in mini_batches {
        assert_eq!(span.parent_span_id, process.span_id);
        let about = attributes(&span.attributes);
        assert_eq!(
            (about["scorehost.mini_batch.attempts"].as_str(), about["scorehost.mini_batch.retried"].as_str()),
            ("2", "trap")
        );
        assert!(
            process.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= process.end_time_unix_nano
        );
    }
    // What no caller traced is traced all the same, and apart.
    assert!(spans.iter().any(|span| span.name == "POST /v1/uploads" && hex(&span.trace_id) != trace));
}

#[test]
fn a_collector_that_is_gone_costs_only_a_line() {
    let place = Place::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = server(&place, &["--otlp", &format!("http://{gone}")]);
    for _ in 0..3 {
        server.done("GET", "/v1/jobs", None);
        std::thread::sleep(Duration::from_millis(1200));
    }
    let log = logged(&server, "traces are lost");
    assert_eq!(log.matches("traces are lost").count(), 1, "{log}");
    let refused = serve(&place.at("other"), &["--otlp", "not an address"]);
    assert!(
        refused.contains("cannot send traces to `not an address`") && refused.contains("hint: --otlp"),
        "{refused}"
    );
}
