//! What REST is written to be, what it is, and what Azure's clients make of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, server};
use crate::support::{Place, demo, python, root, scorehost, scripts};

/// `REWRITE_GOLDEN=1 cargo test --test scenarios openapi` writes what it is now.
#[test]
fn the_openapi_document_is_the_one_that_is_kept() {
    let written = String::from_utf8(scorehost().arg("openapi").output().unwrap().stdout).unwrap();
    let path = root().join("host/docs/openapi.json");
    if std::env::var_os("REWRITE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == kept, "host/docs/openapi.json is not what it was; REWRITE_GOLDEN=1 takes the new text");
}

#[test]
fn a_host_shows_its_document_to_programs_and_to_readers() {
    let place = Place::new();
    let server = server(&place, &[]);
    let get = |path: &str| {
        let answer = server.http.get(format!("{}{path}", server.url)).send().unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = answer.headers().get("content-security-policy").map(|policy| policy.to_str().unwrap().to_owned());
        let (status, kind) = (answer.status().as_u16(), header("content-type"));
        (status, kind, policy, answer.text().unwrap())
    };
    let (status, kind, _, text) = get("/docs/openapi.json");
    assert_eq!((status, &*kind), (200, "application/json"));
    assert_eq!(text, std::fs::read_to_string(root().join("host/docs/openapi.json")).unwrap());
    let (status, kind, policy, text) = get("/docs");
    assert_eq!((status, &*kind), (200, "text/html; charset=utf-8"));
    assert!(policy.unwrap().starts_with("default-src 'none'; style-src 'self'"));
    assert!(text.contains("/v1/endpoints/{endpoint}/jobs") && !text.contains("<script"));
    // Nothing is loaded but the page's own style.
    let loaded: Vec<_> = text.split(" src=\"").skip(1).chain(text.split("<link").skip(1)).collect();
    assert!(loaded.len() == 1 && loaded[0].starts_with(" rel=\"stylesheet\" href=\"/docs/style.css\""), "{loaded:?}");
    let (status, kind, ..) = get("/docs/style.css");
    assert_eq!((status, &*kind), (200, "text/css"));
}

#[test]
fn a_host_that_cannot_write_is_alive_but_not_ready() {
    let place = Place::new();
    let server = server(&place, &[]);
    let asked = |path: &str| server.ask_as("", "GET", path, None, &[]);
    assert_eq!(asked("/readyz"), (200, json!("ready\n")));
    let other = rusqlite::Connection::open(place.at("data/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // What was found before counts for a moment.
    let began = Instant::now();
    while asked("/readyz").0 == 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "it stays ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(asked("/readyz"), (503, json!("the database cannot be written; the log may say why\n")));
    assert_eq!(asked("/healthz").0, 200);
    other.execute_batch("ROLLBACK").unwrap();
    let began = Instant::now();
    while asked("/readyz").0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not come back");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn azures_clients_post_and_poll_jobs() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let allowed = demo("pictures");
    let server = server(&place, &["--allow-input", allowed.to_str().unwrap()]);
    server.deploy("score-by-file", "  mini_batch_size: 5\n");
    let uri = server.done("GET", "/v1/endpoints/shapes", None)["scoring_uri"].as_str().unwrap().to_owned();
    assert_eq!(uri, "/endpoints/shapes/jobs");
    let ended = |name: &str| {
        let mut seen = Vec::new();
        loop {
            let job = server.done("GET", &format!("{uri}/{name}"), None);
            let status = job["properties"]["status"].as_str().unwrap().to_owned();
            if seen.last() != Some(&status) {
                seen.push(status.clone());
            }
            if !["Queued", "Running", "CancelRequested"].contains(&&*status) {
                return (seen, job);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // As the documents of Azure's REST write it, from a folder of the host.
    let written = json!({"properties": {
        "InputData": {"pictures": {"JobInputType": "UriFolder", "Uri": format!("file://{}", allowed.display())}},
        "MiniBatchSize": "7", "ErrorThreshold": -1, "RetrySettings": {"MaxRetries": 1, "Timeout": "PT30S"},
        "OutputFileName": "shapes.csv", "LoggingLevel": "Info", "Properties": {"experimentName": "e"},
    }});
    let headers = [("azureml-model-deployment", "shapes:1"), ("repeatability_request-id", "2f0b")];
    let post = |body: &Value, headers: &[(&str, &str)]| server.ask_as(&server.token, "POST", &uri, Some(body), headers);
    let (status, job) = post(&written, &headers);
    assert_eq!(status, 201, "{job}");
    let name = job["name"].as_str().unwrap();
    assert_eq!(job["id"], format!("{uri}/{name}"));
    // The same once more, as clients do whose connection broke off.
    let (status, again) = post(&written, &headers);
    assert_eq!((status, &again["name"]), (200, &job["name"]));
    let (seen, done) = ended(name);
    assert_eq!(seen.last().unwrap(), "Completed", "{done}");
    assert_eq!(done["properties"]["deployment"], "shapes:1");
    assert_eq!(server.job(name)["record"]["counts"]["mini_batches_done"], 6);
    let output = done["properties"]["output"].as_str().unwrap();
    let files = server.done("GET", output, None)["items"].to_string();
    assert!(files.contains("shapes.csv"), "{files}");

    // As its client sends it, from an upload.
    let upload = server.upload_folder(&demo("pictures"));
    let sent = json!({"properties": {
        "inputData": {"UriFolder": {"jobInputType": "UriFolder", "uri": format!("scorehost:uploads/{upload}")}},
        "compute": {"isLocal": false, "instanceCount": 1}, "properties": {},
    }});
    let (status, job) = post(&sent, &[]);
    assert_eq!(status, 201, "{job}");
    assert_eq!(ended(job["name"].as_str().unwrap()).0.last().unwrap(), "Completed");
    let listed = server.done("GET", &uri, None);
    assert_eq!((listed["value"].as_array().unwrap().len(), &listed["nextLink"]), (2, &Value::Null));

    // What goes wrong is told in both ways, with the cure.
    let mut other = sent.clone();
    other["properties"]["inputData"]["UriFolder"]["uri"] = json!("azureml:pictures@latest");
    let (status, problem) = post(&other, &[]);
    assert_eq!((status, &problem["error"]["code"]), (400, &json!("Bad Request")));
    assert!(problem["error"]["message"].as_str().unwrap().contains("scorehost:uploads/ID"), "{problem}");
    for path in ["/endpoints/shapes/jobs/none".to_owned(), format!("/endpoints/other/jobs/{name}")] {
        assert_eq!(server.ask("GET", &path, None).0, 404, "{path}");
    }
    let (status, problem) = post(&sent, &[("azureml-model-deployment", "none")]);
    assert_eq!((status, &problem["error"]["code"]), (404, &json!("Not Found")));
}

#[test]
fn the_same_files_sent_again_are_the_same_request() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let submit = |upload: &str, key: &str| {
        let body = json!({"input": {"upload": upload}});
        let path = "/v1/endpoints/shapes/jobs";
        let (status, job) = server.ask_as(&server.token, "POST", path, Some(&body), &[("idempotency-key", key)]);
        (status, job["name"].as_str().unwrap_or_default().to_owned())
    };
    let first = server.upload(&[("a.png", vec![1]), ("b/c.png", vec![2])]);
    let (status, job) = submit(&first, "k");
    assert_eq!(status, 202);
    let again = server.upload(&[("b/c.png", vec![2]), ("a.png", vec![1])]);
    assert_eq!(submit(&again, "k"), (200, job.clone()));
    // Other bytes, or other names, are another request.
    for files in [[("a.png", vec![1]), ("b/c.png", vec![3])], [("a.png", vec![1]), ("b/d.png", vec![2])]] {
        assert_eq!(submit(&server.upload(&files), "k").0, 422);
    }
    let (status, other) = submit(&again, "l");
    assert!(status == 202 && other != job);
}

/// Runs schemathesis over the routes of these methods with one token; what it finds is shown.
fn fuzz(server: &Server, place: &Place, token: &str, names: &[(&str, Vec<&str>)], more: &[&str]) {
    let Some(python) = python("schemathesis") else { return };
    // Names that are there come up often enough to get behind the first refusal.
    let values = names.iter().map(|(name, values)| format!("[dictionaries.{name}]\nvalues = {values:?}\n"));
    let bound =
        names.iter().map(|(name, _)| format!("\"path.{name}\" = {{dictionary = \"{name}\", probability = 0.7}}\n"));
    let config = format!("[parameters]\n{}{}", bound.collect::<String>(), values.collect::<String>());
    std::fs::write(place.at("schemathesis.toml"), config).unwrap();
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,ignored_auth";
    let mut command = std::process::Command::new(python);
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(place.at("schemathesis.toml"));
    command.args(["run", &format!("{}/docs/openapi.json", server.url), "--checks", checks]);
    // One worker: two at once trip over a fault of Python 3.11's own parser.
    command.args(["--phases", "examples,coverage,fuzzing", "--workers", "1", "--continue-on-failure", "--no-color"]);
    command.args(["--suppress-health-check", "all", "--request-timeout", "20"]);
    command.args(["--header", &format!("Authorization: Bearer {token}")]).args(more);
    match std::env::var("SCHEMATHESIS_EXAMPLES") {
        Ok(examples) => command.args(["--generation-database", "none", "--max-examples", &examples]),
        // The same on every machine and every day.
        Err(_) => command.args(["--max-examples", "20", "--generation-deterministic"]),
    };
    let output = command.current_dir(place.at("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// `SCHEMATHESIS_EXAMPLES` is how many cases there are of each route, and makes them other ones each time.
#[test]
fn no_request_that_the_document_has_or_forbids_makes_the_host_fail() {
    if scripts().is_none() || python("schemathesis").is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "");
    let upload = server.upload(&[("a.txt", vec![1])]);
    let job = server.submit(&json!({ "upload": upload }));
    server.ended(&job);
    let body = json!({"name": "reader", "scopes": ["read"]});
    let reader = server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
    let open = server.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    let names = [
        ("endpoint", vec!["shapes"]),
        ("name", vec!["shapes", &job]),
        ("id", vec![&*upload, &open]),
        ("path", vec!["predictions.csv", "a.txt", "a/b.txt"]),
    ];
    fuzz(&server, &place, &server.token, &names, &["--exclude-method", "DELETE"]);
    fuzz(&server, &place, &reader, &names, &[]);
    // What is there would be gone for all the others.
    fuzz(&server, &place, &server.token, &[("id", vec!["none"])], &["--include-method", "DELETE"]);
    let (status, whoami) = server.ask("GET", "/v1/whoami", None);
    assert_eq!((status, whoami), (200, json!({"tenant": "default"})));
}
