//! The host that stays: over HTTP as a caller sees it, and under kills.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Place, demo, root, scorehost, scripts};

/// A served data folder; the process is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    caller: Caller,
}

/// What a caller with one token sees.
pub(crate) struct Caller {
    pub(crate) url: String,
    pub(crate) token: String,
    http: ureq::Agent,
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
        let mut command = scorehost();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut url = None;
        let mut words = String::new();
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
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let token = token.map(str::to_owned).unwrap_or_else(|| {
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            line.trim().to_owned()
        });
        let http = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { child, caller: Caller { url: url.expect(&words), token, http } }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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

    fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string()).unwrap();
                self.http.run(request).unwrap()
            }
            None => self.http.run(request.body(()).unwrap()).unwrap(),
        };
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
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
            let sent =
                self.http.put(url).header("authorization", format!("Bearer {}", self.token)).send(bytes.as_slice());
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
    fn deploy(&self, script: &str, settings: &str) -> Value {
        let _ = self.ask("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
        let upload = self.upload(&bundle(script, settings));
        self.done("POST", "/v1/endpoints/shapes/deployments", Some(&json!({"upload": upload, "set_default": true})))
    }

    fn submit(&self, input: &Value) -> String {
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

    fn output(&self, job: &str, file: &str) -> Vec<u8> {
        let url = format!("{}/v1/jobs/{job}/outputs/{file}", self.url);
        let mut answer = self.http.get(url).header("authorization", format!("Bearer {}", self.token)).call().unwrap();
        assert_eq!(answer.status(), 200);
        answer.body_mut().read_to_vec().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    typed("endpoint delete --name shapes-batch --yes");
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

#[test]
fn the_same_key_gives_the_same_job() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let upload = server.upload_folder(&demo("pictures"));
    let post = |body: &Value| {
        server.ask_as(&server.token, "POST", "/v1/endpoints/shapes/jobs", Some(body), &[("idempotency-key", "k1")])
    };
    let body = json!({"input": {"upload": upload}});
    let ((first, job), (second, again)) = (post(&body), post(&body));
    assert_eq!((first, second, &job["name"]), (202, 200, &again["name"]));
    let (status, problem) = post(&json!({"input": {"upload": upload}, "set": {"settings.mini_batch_size": "1"}}));
    assert_eq!(status, 422, "{problem}");
    assert_eq!(server.done("GET", "/v1/jobs", None)["items"].as_array().unwrap().len(), 1);
}

#[test]
fn what_a_job_may_not_choose_is_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let upload = server.upload_folder(&demo("pictures"));
    for (body, detail) in [
        (json!({"input": {"upload": upload}, "set": {"model": "/etc"}}), "`model` is not replaced by a job"),
        (
            json!({"input": {"upload": upload}, "set": {"settings.limits.memory": "1TiB"}}),
            "`settings.limits.memory` is not replaced by a job",
        ),
        (json!({"input": {"upload": "../1"}}), "there is no upload `../1`"),
        (json!({"input": {"path": "/etc"}}), "`/etc` is no input that this host allows"),
        (json!({"input": {"path": "/etc/nothing-there"}}), "`/etc/nothing-there` is no input that this host allows"),
        (json!({"input": {"upload": upload}, "deployment": "other"}), "there is no deployment `other`"),
    ] {
        let (status, problem) = server.ask("POST", "/v1/endpoints/shapes/jobs", Some(&body));
        assert!((400..500).contains(&status), "{status}");
        assert_eq!(problem["detail"].as_str().unwrap(), detail);
    }
    // A setting that is wrong is found when the job begins, and told.
    let body = json!({"input": {"upload": upload}, "set": {"settings.mini_batch_size": "none"}});
    let job = server.done("POST", "/v1/endpoints/shapes/jobs", Some(&body));
    let job = server.ended(job["name"].as_str().unwrap());
    assert_eq!(job["status"], "Failed");
    assert!(job["error"].as_str().unwrap().contains("mini_batch_size"), "{job}");
}

#[test]
fn a_deployment_reaches_nothing_of_the_host_or_of_other_tenants() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let theirs = std::fs::read_dir(place.at("data/tenants/1/deployments")).unwrap().next().unwrap().unwrap().path();
    let script = std::fs::read(root().join("target/scripts/score-by-file.wasm")).unwrap();
    let code = "code_configuration:\n  code: src\n  scoring_script: script.wasm\n";
    let mut answers = Vec::new();
    for yaml in [
        format!("name: d\nmodel: {}\n", theirs.join("model").display()),
        "name: d\nmodel: /etc/hostname\n".into(),
        "name: d\nmodel: /etc/nothing-there\n".into(),
        "name: d\nmodel: ../x\n".into(),
        format!(
            "name: d\ncode_configuration:\n  code: {}\n  scoring_script: script.wasm\n",
            theirs.join("code").display()
        ),
        format!("name: d\nmodel: /etc\n{code}"),
    ] {
        let mut files = vec![("deployment.yml", yaml.clone().into_bytes())];
        if yaml.contains("code: src") {
            files.push(("code/script.wasm", script.clone()));
        }
        let upload = server.upload(&files);
        let (status, problem) = server.ask(
            "POST",
            "/v1/endpoints/shapes/deployments",
            Some(&json!({"upload": upload, "set_default": true})),
        );
        assert_eq!(status, 400, "{yaml}: {problem}");
        answers.push(problem["detail"].as_str().unwrap().to_owned());
    }
    // One answer: whether something is there is not told.
    answers.dedup();
    assert_eq!(answers, ["the deployment names a script or a model that does not lie in its own folder"]);
}

/// The demo's pictures so many times, each under another name.
fn many_pictures(server: &Caller, times: usize) -> String {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(demo("pictures")).unwrap() {
        let entry = entry.unwrap();
        let (name, bytes) = (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        files.extend((0..times).map(|i| (format!("{i}-{name}"), bytes.clone())));
    }
    server.upload(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

#[test]
fn a_job_is_canceled_and_resumed_without_losing_or_repeating_a_row() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let waits = |name: &str| {
        let began = Instant::now();
        while server.job(name)["progress"]["done"].as_u64().is_none_or(|done| done == 0) {
            assert!(began.elapsed() < Duration::from_secs(60) && server.job(name)["ended"].is_null());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = server.submit(&json!({ "upload": upload }));
    let second = server.submit(&json!({ "upload": upload }));
    waits(&first);
    let cancel = |name: &str| server.done("POST", &format!("/v1/jobs/{name}/cancel"), None);
    // The one that waits is canceled at once, the one that runs when its process has ended.
    assert_eq!(cancel(&second)["status"], "Canceled");
    assert_eq!(cancel(&first)["canceling"], true);
    // Which cannot be taken back meanwhile.
    let (status, problem) = server.ask("POST", &format!("/v1/jobs/{first}/resume"), None);
    assert!(status == 409 || server.job(&first)["status"] != "Canceled", "{problem}");
    let canceled = server.ended(&first);
    assert_eq!(canceled["status"], "Canceled");
    let done = canceled["record"]["counts"]["mini_batches_done"].as_u64().unwrap();
    assert!(done > 0 && done < 1600, "{done}");
    // Once more in the middle, this time by the end of its process.
    assert_eq!(server.done("POST", &format!("/v1/jobs/{first}/resume"), None)["status"], "Queued");
    waits(&first);
    for name in [&first, &second] {
        let _ = server.ask("POST", &format!("/v1/jobs/{name}/resume"), None);
        assert_eq!(server.ended(name)["status"], "Completed");
    }
    let rows = server.output(&first, "predictions.csv");
    assert_eq!(rows, server.output(&second, "predictions.csv"));
    assert_eq!(rows.iter().filter(|&&byte| byte == b'\n').count(), 1600);
}

#[cfg(target_os = "linux")]
#[test]
fn a_job_whose_process_is_killed_goes_on_and_gives_up_the_third_time() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let name = server.submit(&json!({ "upload": upload }));
    let mut killed = std::collections::BTreeSet::new();
    let began = Instant::now();
    while server.job(&name)["ended"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(60));
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            let process: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(process) = process
                && words.contains("--follow")
                && words.contains(&name)
                && killed.insert(process)
            {
                std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let job = server.job(&name);
    assert_eq!((&job["status"], &job["starts"]), (&json!("Failed"), &json!(3)), "{job}");
    assert!(job["error"].as_str().unwrap().starts_with("its process died 3 times, at last with signal: 9"), "{job}");
    server.done("POST", &format!("/v1/jobs/{name}/resume"), None);
    assert_eq!(server.ended(&name)["status"], "Completed");
    let rows = server.output(&name, "predictions.csv");
    assert_eq!(rows.iter().filter(|&&byte| byte == b'\n').count(), 1600);
}

#[test]
fn an_end_that_cannot_be_written_at_first_is_written_later() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    server.deploy("score-by-file", "  mini_batch_size: 1\n");
    let upload = many_pictures(&server, 40);
    let name = server.submit(&json!({ "upload": upload }));
    let began = Instant::now();
    while server.job(&name)["status"] != "Running" {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    // Somebody else writes for longer than the host waits for that.
    let other = rusqlite::Connection::open(place.at("data/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(server.job(&name)["status"], "Running");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(server.ended(&name)["status"], "Completed");
}

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
        theirs
            .http
            .put(url)
            .header("authorization", format!("Bearer {token}"))
            .send(vec![0u8; size])
            .unwrap()
            .status()
            .as_u16()
    };
    // The same file again takes the place of the first.
    for _ in 0..5 {
        assert_eq!(put("a", 1 << 20), 204);
    }
    // A file is no folder, and what is refused does not count.
    assert_eq!(put("a/b", 1 << 20), 400);
    assert_eq!((put("b", 1 << 20), put("c", 900 << 10)), (204, 204));
    assert_eq!(put("d", 200 << 10), 429);
    assert_eq!(put("e", 10 << 10), 204);
    // Names take room too.
    assert!((0..30).any(|i| put(&format!("empty{i}"), 0) == 429));
}

/// Every route, with a body that would be taken.
const ROUTES: [(&str, &str); 30] = [
    ("GET", "/v1/whoami"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/uploads/UPLOAD"),
    ("PUT", "/v1/uploads/UPLOAD/files/a"),
    ("POST", "/v1/uploads/UPLOAD/finish"),
    ("GET", "/v1/models"),
    ("POST", "/v1/models"),
    ("GET", "/v1/endpoints"),
    ("POST", "/v1/endpoints"),
    ("GET", "/v1/endpoints/shapes"),
    ("PATCH", "/v1/endpoints/shapes"),
    ("DELETE", "/v1/endpoints/shapes"),
    ("GET", "/v1/endpoints/shapes/deployments"),
    ("POST", "/v1/endpoints/shapes/deployments"),
    ("GET", "/v1/endpoints/shapes/deployments/shapes"),
    ("DELETE", "/v1/endpoints/shapes/deployments/shapes"),
    ("POST", "/v1/endpoints/shapes/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/JOB"),
    ("POST", "/v1/jobs/JOB/cancel"),
    ("POST", "/v1/jobs/JOB/resume"),
    ("GET", "/v1/jobs/JOB/events"),
    ("GET", "/v1/jobs/JOB/outputs"),
    ("GET", "/v1/jobs/JOB/outputs/predictions.csv"),
    ("GET", "/v1/tenants"),
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/TOKEN"),
    ("GET", "/v1/audit"),
];

#[test]
fn every_route_is_in_the_list_that_strangers_try() {
    let source = std::fs::read_to_string(root().join("host/src/api/routes.rs")).unwrap();
    let methods = ["get(", "post(", "put(", "patch(", "delete("];
    let count = |line: &str| methods.iter().map(|method| line.matches(method).count()).sum::<usize>();
    let routes: usize = source.lines().filter(|line| line.trim_start().starts_with(".route(")).map(count).sum();
    assert_eq!(routes, ROUTES.len());
}

#[test]
fn a_stranger_learns_nothing_and_another_tenant_finds_nothing() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    server.deploy("score-by-file", "");
    let upload = server.upload_folder(&demo("pictures"));
    let job = server.submit(&json!({ "upload": upload }));
    server.ended(&job);
    let token = |body: Value| server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
    server.done("POST", "/v1/tenants", Some(&json!({"name": "other"})));
    let all = json!(["read", "invoke", "write"]);
    let other = token(json!({"name": "o", "tenant": "other", "scopes": all}));
    let reader = token(json!({"name": "r", "scopes": ["read"]}));
    let revoked = token(json!({"name": "x", "scopes": all}));
    let id = revoked.split('_').nth(1).unwrap();
    server.done("DELETE", &format!("/v1/tokens/{id}"), None);
    let expired = token(json!({"name": "y", "scopes": all, "lifetime_seconds": 0}));
    let own_id = server.token.split('_').nth(1).unwrap();
    let forged = format!("sh_{own_id}_{}", "A".repeat(43));
    let path = |path: &str| path.replace("UPLOAD", &upload).replace("JOB", &job).replace("TOKEN", own_id);
    let body = |path: &str| match path.rsplit('/').next().unwrap() {
        "models" => json!({"name": "m", "upload": upload}),
        "endpoints" => json!({"name": "new"}),
        "deployments" => json!({"upload": upload}),
        "jobs" => json!({"input": {"upload": upload}}),
        "tenants" => json!({"name": "t"}),
        "tokens" => json!({"name": "t", "scopes": ["read"]}),
        _ => json!({"description": "d"}),
    };
    let mut told = None;
    for (method, route) in ROUTES.iter().chain(&[("GET", "/v1/no-such-route"), ("PUT", "/v1/jobs"), ("GET", "/v1")]) {
        let body = (*method != "GET").then(|| body(route));
        for stranger in ["", "x", "sh__", &forged, &revoked, &expired] {
            let (status, answer) = server.ask_as(stranger, method, &path(route), body.as_ref(), &[]);
            assert_eq!(status, 401, "{method} {route}: {answer}");
            // The same words for every reason.
            assert_eq!(told.get_or_insert_with(|| answer.clone()), &answer);
        }
    }
    for (method, route) in ROUTES {
        let body = (method != "GET").then(|| body(route));
        let (status, answer) = server.ask_as(&other, method, &path(route), body.as_ref(), &[]);
        let text = answer.to_string();
        let names_something = route.contains("shapes") || route.contains("UPLOAD") || route.contains("JOB");
        match status {
            // What it may ask is answered with its own, which is nothing.
            200 | 201 => assert!(
                !names_something && !text.contains("shapes") && !text.contains(&job),
                "{method} {route}: {text}"
            ),
            403 => assert!(route.contains("/tenants") || route.contains("/tokens"), "{method} {route}"),
            // What it names of others is as if it were not there, and so are others' uploads.
            404 => {}
            _ => panic!("{method} {route}: {status} {text}"),
        }
        // A token to read with changes nothing.
        if method != "GET" {
            let (status, answer) = server.ask_as(&reader, method, &path(route), body.as_ref(), &[]);
            assert_eq!(status, 403, "{method} {route}: {answer}");
        }
    }
    // Nothing of all this happened.
    assert_eq!(server.job(&job)["status"], "Completed");
    assert_eq!(server.done("GET", "/v1/endpoints", None)["items"].as_array().unwrap().len(), 1);
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

/// `SCOREHOST_KILLS` is how often; ten jobs of three tenants are under way from the first kill to the last.
#[test]
fn a_killed_host_goes_on_with_every_job_it_accepted() {
    if scripts().is_none() {
        return;
    }
    let kills = std::env::var("SCOREHOST_KILLS").map_or(12, |text| text.parse().unwrap());
    let (place, settings) = (Place::new(), "  mini_batch_size: 2\n");
    let data = place.at("data");
    let mut server = Server::start(&data, None, &[]);
    let tenants = ["one", "two", "three"].map(|name| tenant(&server, name, settings));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let (mut accepted, token) = (Vec::new(), server.token.clone());
    for round in 0..kills {
        let under_way = |(of, name): &&(usize, String)| {
            let status = server.of(&tenants[*of].0).job(name)["status"].clone();
            status == "Queued" || status == "Running"
        };
        let missing = 10usize.saturating_sub(accepted.iter().filter(under_way).count());
        for i in 0..missing {
            let of = (round + i) % tenants.len();
            let (token, upload) = &tenants[of];
            accepted.push((of, server.of(token).submit(&json!({ "upload": upload }))));
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..250_000)));
        server.kill();
        server = Server::start(&data, Some(&token), &[]);
    }
    let expected = undisturbed(settings);
    for (of, name) in &accepted {
        let theirs = server.of(&tenants[*of].0);
        let job = theirs.ended(name);
        assert_eq!(job["status"], "Completed", "{job}");
        assert_eq!(theirs.output(name, "predictions.csv"), expected, "{name}");
    }
    println!("{} jobs, {kills} kills", accepted.len());
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
    let facts = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap_or_default();
    let resident = facts.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(resident) = resident {
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 60 << 10, "{kib} KiB");
    }
    println!("ready after {ready:?}, resident {resident:?}");
    server.kill();
}
