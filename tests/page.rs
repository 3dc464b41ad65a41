//! The web page: what it answers, byte by byte, and what a browser makes of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::service::{Caller, Server, bundle, server};
use crate::support::{Place, demo, http, python, root, scripts, skip};

/// A file's name as no page should write it; and as an address holds it.
const HOSTILE: &str = "b<img src=x onerror=document.title='caught'>.txt";
const HOSTILE_ADDRESS: &str = "b%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D%27caught%27%3E.txt";

/// An answer: its status, its headers by name, its text.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

/// What a browser would send, by hand.
struct Browser {
    url: String,
    cookie: String,
    http: reqwest::blocking::Client,
}

impl Browser {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), cookie: String::new(), http: http() }
    }

    fn signed_in(caller: &Caller) -> Self {
        let mut browser = Self::new(&caller.url);
        let answer = browser.post("/jobs", &[("token", &caller.token)], &[("sec-fetch-site", "same-origin")]);
        assert_eq!((answer.status, answer.headers["location"].as_str()), (303, "/jobs"), "{}", answer.text);
        browser.cookie = answer.headers["set-cookie"].split(';').next().unwrap().to_owned();
        browser
    }

    fn send(&self, request: reqwest::blocking::RequestBuilder) -> Answer {
        let answer = request.header("cookie", &self.cookie).send().unwrap();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = answer.status().as_u16();
        Answer { status, headers, text: String::from_utf8_lossy(&answer.bytes().unwrap()).into_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.url)))
    }

    fn post(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url));
        request = request.header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.send(request.body(fields.join("&")))
    }

    fn form_key(&self) -> String {
        let page = self.get("/jobs").text;
        page.split("name=\"form_key\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

/// A deployment of the probe, below the endpoint `probe`.
fn probe(server: &Server, name: &str, settings: &str, tags: &str) {
    let _ = server.ask("POST", "/v1/endpoints", Some(&json!({"name": "probe"})));
    let yaml = format!(
        "name: {name}\ncode_configuration:\n  code: src\n  scoring_script: script.wasm\nsettings:\n  mini_batch_size: 1\n{settings}tags:\n{tags}"
    );
    let script = std::fs::read(root().join("target/scripts/probe.wasm")).unwrap();
    let upload = server.upload(&[("deployment.yml", yaml.into_bytes()), ("code/script.wasm", script)]);
    server.done("POST", "/v1/endpoints/probe/deployments", Some(&json!({"upload": upload, "set_default": true})));
}

fn ended(server: &Server, endpoint: &str, deployment: &str, upload: &str) -> String {
    let wish = json!({"input": {"upload": upload}, "deployment": deployment});
    let job = server.done("POST", &format!("/v1/endpoints/{endpoint}/jobs"), Some(&wish));
    let name = job["name"].as_str().unwrap().to_owned();
    let job = server.ended(&name);
    assert_eq!(job["status"], "Completed", "{job}");
    name
}

fn pictures() -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(demo("pictures")).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

/// The demo's shapes, with the names of their classes, and one file that is no picture.
fn shapes(server: &Server) -> String {
    let mut files = bundle("score-by-file", "  mini_batch_size: 5\n");
    files.push(("model/shapes.labels.txt", std::fs::read(demo("model").join("resnet14v2-shapes.labels.txt")).unwrap()));
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes", "description": "Ten shapes"})));
    let upload = server.upload(&files);
    server.done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})));
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for path in pictures() {
        files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
    }
    files.push(("0040_torn.jpg".into(), b"no picture".to_vec()));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    ended(server, "shapes", "shapes", &server.upload(&files))
}

#[test]
fn strangers_see_where_to_sign_in_and_nothing_else() {
    let place = Place::new();
    let server = server(&place, &[]);
    let browser = Browser::new(&server.url);
    let first = browser.get("/");
    assert_eq!(first.status, 401);
    assert!(first.text.contains("<label for=\"token\">"), "{}", first.text);
    for path in ["/jobs", "/jobs/job-1", "/tenants", "/nothing", "/live?job=job-1", "/jobs/x/pictures/a.png"] {
        let answer = browser.get(path);
        assert_eq!((answer.status, &answer.text), (401, &first.text), "{path}");
    }
    // Nor after a wrong token, a form of another site, or something that is no form.
    let own = [("sec-fetch-site", "same-origin")];
    let wrong = browser.post("/jobs", &[("token", "sh_0_x")], &own);
    assert!(wrong.status == 401 && wrong.text.contains("unknown, expired or revoked"));
    assert!(!wrong.headers.contains_key("set-cookie"));
    let foreign = browser.post("/jobs", &[("token", &server.token)], &[("origin", "http://elsewhere.example")]);
    assert_eq!((foreign.status, foreign.headers.get("set-cookie")), (403, None));
    let long = "x".repeat(100_000);
    assert_eq!(browser.post("/jobs", &[("token", &long)], &own).status, 400);
    // What the sign-in page is made with is there, and what a browser is told holds for all.
    for path in ["/", "/assets/page.css", "/assets/page.js", "/assets/icon.svg"] {
        let headers = browser.get(path).headers;
        let policy = &headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("data:"), "{policy}");
        assert_eq!((headers["x-frame-options"].as_str(), headers["cache-control"].as_str()), ("DENY", "no-store"));
        assert_eq!(
            (headers["x-content-type-options"].as_str(), headers["referrer-policy"].as_str()),
            ("nosniff", "same-origin")
        );
    }
}

#[test]
fn a_session_is_a_cookie_that_ends_with_its_token() {
    let place = Place::new();
    let server = server(&place, &[]);
    let made = server.done("POST", "/v1/tokens", Some(&json!({"name": "reader", "scopes": ["read", "invoke"]})));
    let reader = server.of(made["token"].as_str().unwrap());
    let signing = Browser::new(&server.url);
    let fields = [("token", reader.token.as_str())];
    let answer = signing.post("/devices", &fields, &[("origin", &server.url)]);
    let cookie = &answer.headers["set-cookie"];
    assert_eq!(answer.headers["location"], "/devices");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict") && !cookie.contains(&reader.token), "{cookie}");
    let secret = reader.token.split('_').nth(2).unwrap();
    let browser = Browser::signed_in(&reader);
    for path in ["/jobs", "/endpoints", "/tenants", "/audit"] {
        let page = browser.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.text.contains(secret), "{path} holds the token");
    }
    assert_eq!(browser.get("/nothing").status, 404);
    assert_eq!(browser.get("/jobs/job-1").status, 404);
    // Forms need the key of the session, from this host's own page.
    let own = [("sec-fetch-site", "same-origin")];
    let key = browser.form_key();
    assert_eq!(browser.post("/signout", &[("form_key", "other")], &own).status, 403);
    assert_eq!(browser.post("/signout", &[("form_key", &key)], &[("sec-fetch-site", "cross-site")]).status, 403);
    assert_eq!(browser.post("/endpoints/none", &[("form_key", &key), ("default", "a:1")], &own).status, 403);
    assert_eq!(browser.get("/jobs").status, 200);
    assert_eq!(browser.post("/signout", &[("form_key", &key)], &own).status, 303);
    assert_eq!(browser.get("/jobs").status, 401);
    // Another session of a token that is revoked.
    let browser = Browser::signed_in(&reader);
    assert_eq!(browser.get("/jobs").status, 200);
    server.done("DELETE", &format!("/v1/tokens/{}", made["id"].as_str().unwrap()), None);
    assert_eq!(browser.get("/jobs").status, 401);
}

#[test]
fn what_strangers_named_is_text_and_stays_in_its_tenant() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    probe(&server, "prints", "", "  behave: prints\n");
    probe(&server, "panics", "  retry_settings:\n    max_retries: 1\n", "  behave: panics\n  on: odd\n");
    let png = std::fs::read(demo("pictures").join("0003_cross.png")).unwrap();
    let files = [
        ("a.png", png.clone()),
        (HOSTILE_ADDRESS, b"text".to_vec()),
        ("c.html", b"<script>alert(1)</script>".to_vec()),
    ];
    let upload = server.upload(&files);
    let prints = ended(&server, "probe", "prints", &upload);
    let panics = ended(&server, "probe", "panics", &upload);
    let browser = Browser::signed_in(&server);
    let shown = "b&#60;img src=x onerror=document.title=&#39;caught&#39;&#62;.txt";
    let page = browser.get(&format!("/jobs/{panics}")).text;
    assert!(page.contains(shown) && page.contains("boom at mini-batch 1"), "{page}");
    assert!(page.contains("What the script printed in mini-batch 1") && page.contains("2 attempts"), "{page}");
    let log = browser.get(&format!("/jobs/{prints}/logs/1/1")).text;
    assert!(log.contains(&format!("out {shown}")) && log.contains("WARNING loud"), "{log}");
    let gallery = browser.get(&format!("/jobs/{prints}/gallery")).text;
    assert!(gallery.contains(shown) && gallery.contains("no picture that browsers show"), "{gallery}");
    for page in [page, log, gallery] {
        assert!(!page.contains("<img src=x") && !page.contains("<script>"), "{page}");
    }
    // Pictures are handed on as they are, and can do nothing; what is none is not there.
    let picture = browser.get(&format!("/jobs/{prints}/pictures/a.png"));
    assert_eq!((picture.status, picture.headers["content-type"].as_str()), (200, "image/png"));
    assert_eq!(picture.headers["content-length"], png.len().to_string());
    assert_eq!(picture.headers["content-security-policy"], "default-src 'none'; sandbox");
    for path in [HOSTILE_ADDRESS, "c.html", "..%2Foutput%2Fjob.json", "%2Fetc%2Fpasswd", "none.png"] {
        let answer = browser.get(&format!("/jobs/{prints}/pictures/{path}"));
        assert!(answer.status == 404 || answer.status == 400, "{path}: {}", answer.status);
    }
    let output = browser.get(&format!("/jobs/{prints}/outputs/predictions.csv"));
    let facts = (output.headers["content-type"].as_str(), output.headers["content-disposition"].as_str());
    assert_eq!((output.status, facts), (200, ("application/octet-stream", "attachment")));
    // Another tenant finds nothing of it.
    server.done("POST", "/v1/tenants", Some(&json!({"name": "other"})));
    let made = json!({"name": "o", "tenant": "other", "scopes": ["read", "invoke", "write"]});
    let made = server.done("POST", "/v1/tokens", Some(&made));
    let other = Browser::signed_in(&server.of(made["token"].as_str().unwrap()));
    for path in ["", "/gallery", "/logs/1/1", "/pictures/a.png", "/outputs/predictions.csv"] {
        assert_eq!(other.get(&format!("/jobs/{prints}{path}")).status, 404, "{path}");
    }
    assert!(!other.get("/jobs").text.contains(&prints) && !other.get("/tenants").text.contains(">default<"));
    assert_eq!(other.get(&format!("/live?job={prints}")).status, 404);
}

/// A browser, where there is one.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    let found = named.into_iter().chain(usual).find(|path| path.is_file());
    found.or_else(|| skip("chromium", "there is no Chromium; CHROMIUM names one"))
}

#[test]
fn a_browser_sees_a_job_go_from_running_to_completed() {
    let (Some(_), Some(chromium), Some(python)) = (scripts(), chromium(), python("playwright")) else { return };
    let axe = root().join("target/node/node_modules/axe-core/axe.min.js");
    if !axe.is_file() && skip::<()>("chromium", "there is no axe-core; tests/run installs it").is_none() {
        return;
    }
    let place = Place::with_files(120);
    // The demo's pictures again and again: a job of some seconds.
    let many = place.at("many");
    std::fs::create_dir(&many).unwrap();
    for (i, path) in (0..8000).zip(pictures().iter().cycle()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::copy(path, many.join(format!("{i:04}{}", &name[4..]))).unwrap();
    }
    let inputs = [place.at("input"), many.clone()];
    let allowed: Vec<&str> = inputs.iter().flat_map(|path| ["--allow-input", path.to_str().unwrap()]).collect();
    let server = server(&place, &allowed);
    let shapes = shapes(&server);
    probe(&server, "prints", "", "  behave: prints\n");
    probe(&server, "panics", "  retry_settings:\n    max_retries: 1\n", "  behave: panics\n  on: odd\n");
    let upload = server.upload(&[("a.txt", b"a".to_vec()), (HOSTILE_ADDRESS, b"b".to_vec())]);
    let (prints, panics) = (ended(&server, "probe", "prints", &upload), ended(&server, "probe", "panics", &upload));
    probe(&server, "slow", "", "  behave: slow\n  milliseconds: 60\n");
    let screenshots = root().join("target/page");
    let facts = json!({
        "url": server.url, "token": server.token, "chromium": chromium, "axe": axe, "screenshots": screenshots,
        "shapes": shapes, "prints": prints, "panics": panics, "hostile": HOSTILE,
        "slow_input": place.at("input"), "files": 120, "many": many,
    });
    let mut command = Command::new(python);
    command.arg(root().join("tests/tools/page.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(facts.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{wrong}");
    let told: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(told["looks"].as_u64().unwrap() >= 3, "{told}");
    println!("{told}");
}
