//! What strangers, other tenants and hostile deployments get: nothing.

use serde_json::{Value, json};

use super::{Server, server};
use crate::support::{Place, demo, root, scorehost, scripts};

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

#[test]
fn a_lost_token_is_made_anew_by_whoever_has_the_folder_of_a_host_that_is_stopped() {
    let place = Place::new();
    let recover = |data: &str| {
        let output = scorehost().args(["token", "recover", "--data"]).arg(place.at(data)).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout).trim().to_owned(), text(output.stderr))
    };
    let (code, _, told) = recover("none");
    assert!(code == Some(2) && told.contains("is no host's folder") && told.contains("hint: "), "{told}");
    assert!(!place.at("none").exists(), "nothing is made where there was nothing");
    let mut first = server(&place, &[]);
    let (code, token, told) = recover("data");
    assert!(code == Some(2) && token.is_empty() && told.contains("hint: stop that one first"), "{told}");
    first.kill();
    let (code, token, told) = recover("data");
    assert_eq!(code, Some(0), "{told}");
    let server = Server::start(&place.at("data"), Some(&token), &[]);
    server.done("POST", "/v1/tenants", Some(&json!({"name": "other"})));
    let log = server.done("GET", "/v1/audit", None);
    let line = &log["items"][1];
    let told = (&line["action"], &line["token"], &line["detail"]);
    let detail = "`recovered` of tenant `default`: read invoke write admin, without an end";
    assert_eq!(told, (&json!("token recover"), &json!(""), &json!(detail)), "{log}");
    assert_eq!(log["items"][0]["token_name"], "recovered");
    // What was there stays, until somebody revokes it.
    assert_eq!(server.ask_as(&first.token, "GET", "/v1/whoami", None, &[]).0, 200);
}

/// Every route, with a body that would be taken.
const ROUTES: [(&str, &str); 43] = [
    ("GET", "/v1/whoami"),
    ("GET", "/v1/uploads"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/uploads/UPLOAD"),
    ("DELETE", "/v1/uploads/UPLOAD"),
    ("GET", "/v1/uploads/UPLOAD/files/a"),
    ("PUT", "/v1/uploads/UPLOAD/files/a"),
    ("POST", "/v1/uploads/UPLOAD/finish"),
    ("GET", "/v1/models"),
    ("POST", "/v1/models"),
    ("GET", "/v1/models/shapes"),
    ("DELETE", "/v1/models/shapes?version=1"),
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
    ("POST", "/v1/endpoints/shapes/jobs/check"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/JOB"),
    ("DELETE", "/v1/jobs/JOB"),
    ("POST", "/v1/jobs/JOB/cancel"),
    ("POST", "/v1/jobs/JOB/resume"),
    ("GET", "/v1/jobs/JOB/events"),
    ("GET", "/v1/jobs/JOB/outputs"),
    ("GET", "/v1/jobs/JOB/outputs/predictions.csv"),
    ("GET", "/v1/tenants"),
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tenants/default"),
    ("PATCH", "/v1/tenants/default"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/TOKEN"),
    ("GET", "/v1/audit"),
    ("POST", "/endpoints/shapes/jobs"),
    ("GET", "/endpoints/shapes/jobs"),
    ("GET", "/endpoints/shapes/jobs/JOB"),
];

/// The OpenAPI document holds every route of the router: it is made of the same functions.
#[test]
fn every_route_is_in_the_list_that_strangers_try() {
    let document: Value = serde_json::from_slice(&scorehost().arg("openapi").output().unwrap().stdout).unwrap();
    let mut described = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let secured = methods.as_object().unwrap().iter().filter(|(_, operation)| operation["security"].is_array());
        described.extend(secured.map(|(method, _)| (method.to_uppercase(), path.split('/').count(), path.clone())));
    }
    // The names in their paths aside.
    let is = |(method, path): (&str, &str), described: &(String, usize, String)| {
        let mut parts = path.split('/').zip(described.2.split('/'));
        method == described.0
            && path.split('/').count() == described.1
            && parts.all(|(part, name)| part == name || name.starts_with('{'))
    };
    for route in &described {
        assert!(ROUTES.into_iter().any(|tried| is(tried, route)), "{route:?} is not tried");
    }
    assert_eq!(described.len(), ROUTES.len());
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
    let expired = token(json!({"name": "y", "scopes": all, "lifetime_seconds": 1}));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let own_id = server.token.split('_').nth(1).unwrap();
    let forged = format!("sh_{own_id}_{}", "A".repeat(43));
    let path = |path: &str| path.replace("UPLOAD", &upload).replace("JOB", &job).replace("TOKEN", own_id);
    let azure = json!({"properties": {"inputData": {"a": {"jobInputType": "UriFolder", "uri": format!("scorehost:uploads/{upload}")}}}});
    let body = |path: &str| match path.rsplit('/').next().unwrap() {
        "jobs" if path.starts_with("/endpoints") => azure.clone(),
        "check" => json!({}),
        "default" => json!({"weight": 2}),
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
            let (status, mut answer) = server.ask_as(stranger, method, &path(route), body.as_ref(), &[]);
            assert_eq!(status, 401, "{method} {route}: {answer}");
            // Azure's clients read it in another place too.
            let azures = answer.as_object_mut().unwrap().remove("error");
            assert!(answer.as_object_mut().unwrap().remove("request_id").is_some(), "{method} {route}");
            assert_eq!(azures.is_some(), route.starts_with("/endpoints"), "{method} {route}");
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
