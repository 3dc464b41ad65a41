//! The host that stays: over HTTP as a caller sees it, and under kills.

mod access;
mod api;
mod connections;
mod jobs;
mod places;
#[cfg(target_os = "linux")]
mod power;
mod tenants;
mod uploads;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Place, demo, http, root, scorehost, scripts};

/// A served data folder; the process is killed when this is dropped.
pub(crate) struct Server {
    /// None where something else ends it.
    child: Option<Child>,
    caller: Caller,
    /// What it said on stderr so far.
    pub(crate) log: Arc<Mutex<String>>,
}

/// What a caller with one token sees.
pub(crate) struct Caller {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) http: reqwest::blocking::Client,
}

impl std::ops::Deref for Server {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Server {
    /// Starts on a folder; the token is that of its first start.
    pub(crate) fn start(data: &Path, token: Option<&str>, more: &[&str]) -> Self {
        Self::begin(scorehost(), data, token, more).unwrap()
    }

    /// As [`Server::start`], by a command that the rest is appended to; none if it says nothing of where it listens.
    fn begin(mut command: Command, data: &Path, token: Option<&str>, more: &[&str]) -> Option<Self> {
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let (mut url, mut words) = (None, String::new());
        for _ in 0..3 {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            words.push_str(&line);
            if let Some((_, rest)) = line.split_once(" at ") {
                url = rest.split_once(';').map(|(url, _)| url.to_owned());
                break;
            }
        }
        // What it says later must not fill the pipe.
        let log = Arc::new(Mutex::new(words));
        let later = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                later.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let Some(url) = url else {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        };
        let token = token.map(str::to_owned).unwrap_or_else(|| {
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            line.trim().to_owned()
        });
        Some(Self { child: Some(child), caller: Caller { url, token, http: http() }, log })
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Caller {
    /// The same host for another token.
    pub(crate) fn of(&self, token: &str) -> Caller {
        Caller { url: self.url.clone(), token: token.to_owned(), http: self.http.clone() }
    }

    /// A request with JSON, or none; the status and the JSON of the answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.ask_as(&self.token, method, path, body, &[])
    }

    pub(crate) fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    #[track_caller]
    pub(crate) fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Sends files, and finishes the upload.
    pub(crate) fn upload(&self, files: &[(&str, Vec<u8>)]) -> String {
        let id = self.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
        for (path, bytes) in files {
            let url = format!("{}/v1/uploads/{id}/files/{path}", self.url);
            let sent = self.http.put(url).bearer_auth(&self.token).body(bytes.clone()).send();
            assert_eq!(sent.unwrap().status(), 204, "{path}");
        }
        self.done("POST", &format!("/v1/uploads/{id}/finish"), None);
        id
    }

    pub(crate) fn upload_folder(&self, folder: &Path) -> String {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        self.upload(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
    }

    /// Makes the endpoint `shapes` with the deployment `shapes`, which answers by default.
    pub(crate) fn deploy(&self, script: &str, settings: &str) -> Value {
        let _ = self.ask("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
        let upload = self.upload(&bundle(script, settings));
        self.done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})))
    }

    pub(crate) fn submit(&self, input: &Value) -> String {
        let job = self.done("POST", "/v1/endpoints/shapes/jobs", Some(&json!({"input": input})));
        job["name"].as_str().unwrap().to_owned()
    }

    pub(crate) fn job(&self, name: &str) -> Value {
        self.done("GET", &format!("/v1/jobs/{name}"), None)
    }

    /// Waits for the job's end.
    #[track_caller]
    pub(crate) fn ended(&self, name: &str) -> Value {
        let began = Instant::now();
        loop {
            let job = self.job(name);
            if !["Queued", "Running"].contains(&job["status"].as_str().unwrap()) {
                return job;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn output(&self, job: &str, file: &str) -> Vec<u8> {
        let url = format!("{}/v1/jobs/{job}/outputs/{file}", self.url);
        let answer = self.http.get(url).bearer_auth(&self.token).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().unwrap().into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The files of a deployment of the demo's model.
pub(crate) fn bundle(script: &str, settings: &str) -> Vec<(&'static str, Vec<u8>)> {
    let yaml = format!(
        "name: shapes\ncode_configuration:\n  code: src\n  scoring_script: script.wasm\nmodel: weights\nsettings:\n  device: cpu\n{settings}"
    );
    let script = std::fs::read(root().join(format!("target/scripts/{script}.wasm"))).unwrap();
    let model = std::fs::read(demo("model").join("resnet14v2-shapes.onnx")).unwrap();
    vec![("deployment.yml", yaml.into_bytes()), ("code/script.wasm", script), ("model/shapes.onnx", model)]
}

/// What `run` writes for the same, undisturbed.
fn undisturbed(settings: &str) -> Vec<u8> {
    let place = Place::new();
    for (path, bytes) in bundle("score-by-file", settings) {
        let path = place.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let status = scorehost()
        .arg("run")
        .arg("-f")
        .arg(place.at("deployment.yml"))
        .arg("-i")
        .arg(demo("pictures"))
        .arg("-o")
        .arg(place.at("output"))
        .args(["--set", "code_configuration.code=code", "--set", "model=model", "--quiet"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(place.at("output/predictions.csv")).unwrap()
}

pub(crate) fn server(place: &Place, more: &[&str]) -> Server {
    Server::start(&place.at("data"), None, more)
}

#[test]
fn a_folder_is_posted_to_a_name_and_comes_back_scored() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let deployment = server.deploy("score-by-file", "  mini_batch_size: 5\n");
    assert_eq!((&deployment["version"], &deployment["is_default"]), (&json!(1), &json!(true)));
    let upload = server.upload_folder(&demo("pictures"));
    let name = server.submit(&json!({ "upload": upload }));
    let job = server.ended(&name);
    assert_eq!(job["status"], "Completed", "{job}");
    assert_eq!(job["record"]["counts"]["succeeded"], 40);
    assert_eq!(job["record"]["name"], job["name"]);
    assert_eq!(server.output(&name, "predictions.csv"), undisturbed("  mini_batch_size: 5\n"));
    let files = server.done("GET", &format!("/v1/jobs/{name}/outputs"), None);
    let names: Vec<_> = files["items"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["errors.csv", "job.json", "mini_batches.csv", "predictions.csv"]);
}

/// The command, as its user types it.
#[track_caller]
fn typed(server: &Server, place: &Place, line: &str) -> String {
    let output = scorehost()
        .args(line.split(' '))
        .current_dir(place.at(""))
        .env("SCOREHOST_URL", &server.url)
        .env("SCOREHOST_TOKEN", &server.token)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

#[test]
fn the_walk_through_of_azure_works_command_for_command() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let code = root().join("target/scripts");
    let deployment = |name: &str, script: &str| {
        format!(
            "$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json\nname: {name}\n\
             endpoint_name: shapes-batch\ntype: model\nmodel: azureml:shapes@latest\ncompute: azureml:gpu-cluster\n\
             environment: azureml:tf@latest\ncode_configuration:\n  code: {}\n  scoring_script: {script}.wasm\n\
             resources:\n  instance_count: 1\nsettings:\n  max_concurrency_per_instance: 1\n  mini_batch_size: 5\n  \
             output_action: append_row\n  output_file_name: predictions.csv\n  retry_settings:\n    max_retries: 3\n    \
             timeout: 300\n  error_threshold: -1\n  logging_level: info\n",
            code.display()
        )
    };
    std::fs::write(place.at("by-file.yml"), deployment("by-file", "score-by-file")).unwrap();
    std::fs::write(place.at("by-batch.yml"), deployment("by-batch", "score-by-batch")).unwrap();
    let endpoint = "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\nname: shapes-batch\n\
                    description: Tells shapes apart.\nauth_mode: aad_token\n";
    std::fs::write(place.at("endpoint.yml"), endpoint).unwrap();
    let typed = |line: &str| typed(&server, &place, line);
    let (model, pictures) = (demo("model"), demo("pictures"));
    let (model, pictures) = (model.display(), pictures.display());
    assert_eq!(typed(&format!("model create --name shapes --path {model} -o name")), "shapes");
    assert_eq!(typed("endpoint create --file endpoint.yml -o name"), "shapes-batch");
    typed("deployment create --file by-file.yml --set-default");
    let job = typed(&format!("endpoint invoke --name shapes-batch --input {pictures} -o name"));
    typed(&format!("job stream --name {job}"));
    let shown: Value = serde_json::from_str(&typed(&format!("job show -n {job} -o json"))).unwrap();
    assert_eq!((&shown["status"], &shown["deployment"]), (&json!("Completed"), &json!("by-file")));
    typed(&format!("job download --name {job} --path one"));
    let by_file = std::fs::read_to_string(place.at("one/predictions.csv")).unwrap();
    assert_eq!(by_file.lines().count(), 40);
    assert!(by_file.starts_with("0000_arrow.jpg 0 0.99"), "{by_file}");

    typed("deployment create --file by-batch.yml");
    // Tried by name first, then made the default, then taken back.
    let job = typed(&format!(
        "endpoint invoke -n shapes-batch -i {pictures} -d by-batch:1 --set settings.mini_batch_size=7 -o name"
    ));
    typed(&format!("job stream --name {job}"));
    typed("endpoint update --name shapes-batch --set defaults.deployment_name=by-batch");
    typed("endpoint update --name shapes-batch --set defaults.deployment_name=by-file");
    let shown = typed("endpoint show --name shapes-batch");
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["default", "deployment", "by-file:1"])), "{shown}");
    let listed = typed("deployment list -e shapes-batch -o name");
    assert_eq!(listed, "by-batch\nby-file");
    assert_eq!(typed("job list -o name").lines().count(), 2);

    // Another tenant sees nothing of it.
    typed("tenant create --name other --weight 2");
    let token = typed("token create --name theirs --tenant other --scope read -o name");
    assert_eq!(server.ask_as(&token, "GET", "/v1/jobs", None, &[]).1["items"], json!([]));
    typed("tenant update --name other --weight 3 --instances 8 --memory 4GiB --cpu-seconds 3600");
    let shown: Value = serde_json::from_str(&typed("tenant show --name other -o json")).unwrap();
    let limits = (&shown["weight"], &shown["quotas"]["memory"], &shown["quotas"]["device_seconds"]);
    assert_eq!(limits, (&json!(3), &json!(4u64 << 30), &json!(null)));

    assert_eq!(typed("job list --status Completed -o name").lines().count(), 2);
    assert_eq!(typed("job list --status Failed -o name"), "");
    let report = typed("usage --jobs -o csv");
    assert!(report.starts_with("tenant,job,jobs,CPU s,") && report.lines().count() == 3, "{report}");
    assert!(typed("audit -o csv").contains(",tenant update,other"));
    typed(&format!("job delete --name {job} --yes"));
    assert_eq!(typed("job list -o name").lines().count(), 1);
    typed("endpoint delete --name shapes-batch --yes");
    assert_eq!(typed("model show --name shapes -o name"), "shapes");
    typed("model delete --name shapes --version 1 --yes");
    assert_eq!(typed("model list -o name"), "");
    assert_eq!(typed("endpoint list -o name"), "");
}

#[test]
fn versions_stay_and_the_default_moves_back_and_forth() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let first = server.deploy("score-by-file", "");
    let again = server.deploy("score-by-file", "");
    assert_eq!((&first["digest"], &again["version"]), (&again["digest"], &json!(1)));
    let second = server.deploy("score-by-batch", "");
    assert_eq!(second["version"], 2);
    assert_ne!(first["script"], second["script"]);
    let upload = server.upload_folder(&demo("pictures"));
    let name = server.submit(&json!({ "upload": upload }));
    assert_eq!(server.ended(&name)["version"], 2);
    // A version that nobody made the default answers those who name it.
    let upload = server.upload(&bundle("score-by-file", "  mini_batch_size: 3\n"));
    let body = json!({"upload": upload});
    let third = server.done("POST", "/v1/endpoints/shapes/deployments", Some(&body));
    assert_eq!((&third["version"], &third["is_default"]), (&json!(3), &json!(false)));
    let back = json!({"defaults": {"deployment_name": "shapes:1"}});
    let back = server.done("PATCH", "/v1/endpoints/shapes", Some(&back));
    assert_eq!(back["defaults"], json!({"deployment_name": "shapes", "deployment_version": 1}));
    let upload = server.upload_folder(&demo("pictures"));
    let name = server.submit(&json!({ "upload": upload }));
    assert_eq!(server.ended(&name)["digest"], first["digest"]);
    let (status, _) = server.ask("DELETE", "/v1/endpoints/shapes/deployments/shapes?version=3", None);
    assert_eq!(status, 400);
    // The endpoint's default is in use; what is not there is not made the default.
    assert_eq!(server.ask("DELETE", "/v1/endpoints/shapes/deployments/shapes", None).0, 409);
    let (status, problem) =
        server.ask("PATCH", "/v1/endpoints/shapes", Some(&json!({"defaults": {"deployment_name": "none"}})));
    assert_eq!((status, problem["detail"].as_str().unwrap()), (404, "there is no deployment `none`"));
}

#[test]
fn a_registered_model_is_part_of_the_version() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let model = std::fs::read(demo("model").join("resnet14v2-shapes.onnx")).unwrap();
    let upload = server.upload(&[("shapes.onnx", model)]);
    let made = server.done("POST", "/v1/models", Some(&json!({"name": "shapes", "upload": upload})));
    assert_eq!((&made["version"], made["digest"].as_str().unwrap().len()), (&json!(1), 71));
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "e"})));
    let deploy = |version: &str| {
        let yaml = format!(
            "name: d\nmodel: azureml:shapes@{version}\ncompute: azureml:gpu-cluster\nsettings:\n  output_format: csv\n"
        );
        let yaml = yaml.replace("@1", ":1");
        let upload = server.upload(&[("deployment.yml", yaml.into_bytes())]);
        server.ask("POST", "/v1/endpoints/e/deployments", Some(&json!({"upload": upload, "set_default": true})))
    };
    let (status, deployment) = deploy("latest");
    assert_eq!((status, &deployment["model"]), (201, &made["digest"]), "{deployment}");
    let (status, problem) = deploy("7");
    assert_eq!((status, problem["detail"].as_str().unwrap()), (404, "there is no model `shapes:7`"));
    let upload = server.upload_folder(&demo("pictures"));
    let job = server.done("POST", "/v1/endpoints/e/jobs", Some(&json!({"input": {"upload": upload}})));
    let name = job["name"].as_str().unwrap();
    assert_eq!(server.ended(name)["status"], "Completed");
    assert!(String::from_utf8(server.output(name, "predictions.csv")).unwrap().starts_with("file,class,probability"));
}

/// A tenant's token that may post jobs, with its endpoint `shapes` and an input.
fn tenant(server: &Server, name: &str, settings: &str) -> (String, String) {
    server.done("POST", "/v1/tenants", Some(&json!({ "name": name })));
    let body = json!({"name": "all", "tenant": name, "scopes": ["read", "invoke", "write"]});
    let token = server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
    let theirs = server.of(&token);
    theirs.deploy("score-by-file", settings);
    (token, theirs.upload_folder(&demo("pictures")))
}

#[test]
fn a_second_host_on_the_same_folder_is_refused() {
    let place = Place::new();
    let server = server(&place, &[]);
    let second =
        scorehost().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(place.at("data")).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another process serves this folder"), "{said}");
    drop(server);
}

#[test]
fn a_body_that_is_too_large_or_no_json_is_refused_in_words() {
    let place = Place::new();
    let server = server(&place, &[]);
    let long = json!({"name": "a", "description": "x".repeat(2 << 20)});
    let (status, problem) = server.ask("POST", "/v1/endpoints", Some(&long));
    assert_eq!(status, 413, "{problem}");
    for body in [json!([]), json!({"name": 1}), json!({"name": "a", "other": 1}), json!({})] {
        let (status, problem) = server.ask("POST", "/v1/endpoints", Some(&body));
        assert_eq!((status, problem["status"].as_u64()), (422, Some(422)), "{problem}");
    }
    assert_eq!(server.ask("POST", "/v1/endpoints", Some(&json!({"name": "1 2"}))).0, 400);
}

#[test]
fn an_idle_host_is_small_and_ready_at_once() {
    let place = Place::new();
    let began = Instant::now();
    let mut server = server(&place, &[]);
    let ready = began.elapsed();
    let facts =
        std::fs::read_to_string(format!("/proc/{}/status", server.child.as_ref().unwrap().id())).unwrap_or_default();
    let resident = facts.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(resident) = resident {
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 60 << 10, "{kib} KiB");
    }
    println!("ready after {ready:?}, resident {resident:?}");
    server.kill();
}
