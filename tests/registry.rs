//! Scripts as OCI artifacts: to and from layout folders, a real registry (`docker-registry`, required as `registry`), and
//! one that lies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::service::server;
use crate::support::{Place, demo, http, scorehost, scripts, skip};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The command with these arguments, known to no registry.
fn command(arguments: &[&str]) -> Command {
    let mut command = scorehost();
    command.args(arguments).env("DOCKER_CONFIG", "/nonexistent").env_remove("REGISTRY_AUTH_FILE");
    command
}

/// What it printed, if it was content.
#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What it said, if it refused for a fault of the caller's.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// A folder with a layout `store` in it, into which the by-file example was pushed as `v1`; and its pinned reference.
fn pushed() -> Option<(tempfile::TempDir, PathBuf, String)> {
    let script = scripts()?.join("score-by-file.wasm");
    let folder = tempfile::tempdir().unwrap();
    let reference = format!("oci:{}:v1", folder.path().join("store").display());
    let pinned = done(command(&["push"]).arg(&script).arg(&reference));
    Some((folder, script, pinned))
}

fn blob(store: &Path, digest: &str) -> PathBuf {
    store.join("blobs/sha256").join(digest.rsplit(':').next().unwrap())
}

#[test]
fn a_layout_folder_gives_back_what_was_put_there_and_the_same_script_the_same_digest() {
    let Some((folder, script, pinned)) = pushed() else { return };
    let at = |name: &str| folder.path().join(name);
    let (tag, digest) = pinned.rsplit_once('@').unwrap();
    for (i, reference) in [tag, pinned.as_str()].into_iter().enumerate() {
        let file = at(&format!("{i}.wasm"));
        assert_eq!(done(command(&["pull", reference, "-o"]).arg(&file)), pinned);
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&script).unwrap());
        let again = refused(command(&["pull", reference, "-o"]).arg(&file));
        assert!(again.contains("exists") && again.contains("--overwrite"), "{again}");
        done(command(&["pull", "--overwrite", reference, "-o"]).arg(&file));
    }
    // Elsewhere, later, beside another: the same digest; with another time, another.
    let other = format!("oci:{}:v1", at("other").display());
    let push = |epoch: &str| done(command(&["push"]).arg(&script).arg(&other).env("SOURCE_DATE_EPOCH", epoch));
    assert!(push("0").ends_with(digest));
    let moved = push("86400");
    assert!(!moved.ends_with(digest));
    let index: Value = serde_json::from_slice(&std::fs::read(at("other/index.json")).unwrap()).unwrap();
    let named: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    assert_eq!(named.len(), 1, "a tag moves: {index}");
    assert!(moved.ends_with(named[0]["digest"].as_str().unwrap()));
    // Whom the tag left is there for those who pinned it.
    done(command(&["pull", &format!("{other}@{digest}"), "-o"]).arg(at("pinned.wasm")));
}

#[test]
fn what_is_no_script_is_not_pushed_and_what_is_no_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text.wasm"), "text").unwrap();
    let store = format!("oci:{}", at("store").display());
    let said = refused(command(&["push"]).arg(at("text.wasm")).arg(&store));
    assert!(said.contains("not WebAssembly") && !at("store").exists(), "{said}");
    let said = refused(command(&["pull", &store, "-o"]).arg(at("x.wasm")));
    assert!(said.contains("no OCI image layout"), "{said}");
    let Some(scripts) = scripts() else { return };
    let here = format!("oci:{}", folder.path().display());
    let said = refused(command(&["push"]).arg(scripts.join("score-by-file.wasm")).arg(&here));
    assert!(said.contains("it has other files") && !at("index.json").exists(), "{said}");
    let said = refused(command(&["push"]).arg(scripts.join("score-by-file.wasm")).arg("registry.example/a@x"));
    assert!(said.contains("a digest is"), "{said}");
}

#[test]
fn a_layout_that_lies_is_refused_and_leaves_no_file() {
    let Some((folder, _, pinned)) = pushed() else { return };
    let store = folder.path().join("store");
    let (tag, manifest_digest) = pinned.rsplit_once('@').unwrap();
    let index = std::fs::read_to_string(store.join("index.json")).unwrap();
    let manifest = std::fs::read(blob(&store, manifest_digest)).unwrap();
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = blob(&store, parsed["layers"][0]["digest"].as_str().unwrap());
    let component = std::fs::read(&layer).unwrap();
    let file = folder.path().join("out.wasm");
    let check = |reason: &str| {
        let said = refused(command(&["pull", tag, "-o"]).arg(&file));
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!file.exists());
    };
    let of_index = |text: &str, reason: &str| {
        std::fs::write(store.join("index.json"), text).unwrap();
        check(reason);
        std::fs::write(store.join("index.json"), &index).unwrap();
    };
    of_index(&index.replace(manifest_digest, "sha256:../../../etc/passwd"), "is no SHA-256 digest");
    of_index(
        &index.replace(manifest_digest, &format!("sha256:{}", "0".repeat(64))),
        "which belongs to what was asked for",
    );
    of_index(&index.replace("\"v1\"", "\"v2\""), "there is no");
    of_index("[]", "no list of manifests");
    of_index(&" ".repeat((4 << 20) + 1), "larger than 4194304 bytes");
    let mut twice: Value = serde_json::from_str(&index).unwrap();
    let entry = twice["manifests"][0].clone();
    twice["manifests"].as_array_mut().unwrap().push(entry);
    of_index(&twice.to_string(), "two manifests of tag `v1`");
    let of_layer = |bytes: &[u8], reason: &str| {
        std::fs::write(&layer, bytes).unwrap();
        check(reason);
        std::fs::write(&layer, &component).unwrap();
    };
    let mut other = component.clone();
    *other.last_mut().unwrap() ^= 1;
    of_layer(&other, "it digests to");
    // Which file, and what is done about it.
    of_layer(&other, &format!("`{}` is damaged", layer.display()));
    of_layer(&other, "hint: nothing of it was used");
    of_layer(&component[1..], "fewer than");
    of_layer(&[&component[..], b"x"].concat(), "more than");
    std::fs::write(blob(&store, manifest_digest), [&manifest[..], b" "].concat()).unwrap();
    check("it digests to");
    std::fs::write(blob(&store, manifest_digest), &manifest).unwrap();
    std::fs::remove_file(&layer).unwrap();
    std::fs::create_dir(&layer).unwrap();
    check("is not a file");
    std::fs::remove_dir(&layer).unwrap();
    std::fs::write(&layer, &component).unwrap();
    done(command(&["pull", tag, "-o"]).arg(&file));
}

/// Keys made by openssl; nothing where there is none.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Option<Self> {
        let keys = Self(tempfile::tempdir().unwrap());
        for name in ["ours", "theirs"] {
            let arguments = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name];
            let made = Command::new("openssl").args(arguments).current_dir(keys.0.path()).output();
            if !made.is_ok_and(|made| made.status.success()) {
                return skip("registry", "there is no openssl");
            }
            let public = ["ec", "-in", name, "-pubout", "-out", &format!("{name}.pub")];
            assert!(Command::new("openssl").args(public).current_dir(keys.0.path()).output().unwrap().status.success());
        }
        Some(keys)
    }

    fn sign(&self, name: &str, payload: &[u8]) -> String {
        std::fs::write(self.0.path().join("payload"), payload).unwrap();
        let arguments = ["dgst", "-sha256", "-sign", name, "payload"];
        let signed = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        STANDARD.encode(signed.stdout)
    }
}

/// As cosign signs a digest.
fn payload(digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    });
    json!({"critical": critical, "optional": null}).to_string().into_bytes()
}

/// A payload and a signature.
type Signed<'a> = (&'a [u8], &'a str);

/// The manifest of signatures, each a payload with what is told of it, and its config, as cosign stores them.
fn signatures(all: &[Signed<'_>]) -> (Vec<u8>, &'static [u8]) {
    let layer = |(payload, signature): &Signed<'_>| {
        json!({
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": digest(payload),
            "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        })
    };
    let config = b"{}";
    let kind = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": kind, "digest": digest(config), "size": 2},
        "layers": all.iter().map(layer).collect::<Vec<_>>(),
    });
    (manifest.to_string().into_bytes(), config)
}

/// Puts these signatures, and no others, beside the manifest of this digest in a layout whose index was `index`.
fn put_signatures(store: &Path, index: &str, signed: &str, all: &[Signed<'_>]) {
    let (manifest, _) = signatures(all);
    std::fs::write(blob(store, &digest(&manifest)), &manifest).unwrap();
    for (payload, _) in all {
        std::fs::write(blob(store, &digest(payload)), payload).unwrap();
    }
    let mut index: Value = serde_json::from_str(index).unwrap();
    let name = format!("{}.sig", signed.replace(':', "-"));
    index["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": MANIFEST,
        "digest": digest(&manifest),
        "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }));
    std::fs::write(store.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn where_a_signature_is_required_only_what_the_key_signed_is_pulled() {
    let (Some((folder, _, pinned)), Some(keys)) = (pushed(), Keys::new()) else { return };
    let store = folder.path().join("store");
    let (tag, signed_digest) = pinned.rsplit_once('@').unwrap();
    let index = std::fs::read_to_string(store.join("index.json")).unwrap();
    let sign = |all: &[Signed<'_>]| put_signatures(&store, &index, signed_digest, all);
    let pull = || {
        let mut pull = command(&["pull", "--overwrite", tag, "--require-signature"]);
        pull.arg(keys.0.path().join("ours.pub")).arg("-o").arg(folder.path().join("out.wasm"));
        pull
    };
    assert!(refused(&mut pull()).contains("there is no `sha256-"));
    let (right, other) = (payload(signed_digest), payload(&digest(b"other")));
    let (ours, theirs) = (keys.sign("ours", &right), keys.sign("theirs", &right));
    let of_other = keys.sign("ours", &other);
    let odd = b"{}".as_slice();
    let of_odd = keys.sign("ours", odd);
    let cases: [(&[Signed<'_>], &str); 7] = [
        (&[], "list of signatures is empty"),
        (&[(&right, &theirs)], "by another key"),
        (&[(&other, &of_other)], "of another digest"),
        // Another's signature beside the right payload.
        (&[(&right, &of_other)], "by another key"),
        (&[(&right, "%%")], "not base64"),
        (&[(&right, "")], "by another key"),
        (&[(odd, &of_odd)], "not cosign's payload"),
    ];
    for (all, reason) in cases {
        sign(all);
        let said = refused(&mut pull());
        assert!(said.contains(reason) && said.contains("hint: "), "{reason}: {said}");
        assert!(!folder.path().join("out.wasm").exists());
    }
    // One that fits is enough.
    sign(&[(&right, &theirs), (&right, &ours)]);
    assert_eq!(done(&mut pull()), pinned);
    // What is asked for by the environment is asked for.
    let mut by_environment = command(&["pull", tag, "--overwrite", "-o"]);
    by_environment.arg(folder.path().join("out.wasm"));
    by_environment.env("SCOREHOST_REQUIRE_SIGNATURE", keys.0.path().join("theirs.pub"));
    sign(&[(&right, &ours)]);
    assert!(refused(&mut by_environment).contains("by another key"));
    by_environment.env("SCOREHOST_REQUIRE_SIGNATURE", keys.0.path().join("ours"));
    assert!(refused(&mut by_environment).contains("is no public key"));
}

/// Writes a deployment of the demo's model whose script is this artifact, beside the layout `store`.
fn deployment(folder: &Path, artifact: &str) -> PathBuf {
    let model = demo("model").join("resnet14v2-shapes.onnx");
    let text = format!(
        "name: shapes\ncode_configuration:\n  code: {artifact}\n  scoring_script: by/file.wasm\nmodel: {}\nsettings:\n  device: cpu\n",
        model.display()
    );
    let file = folder.join("deployment.yml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Scores the demo's pictures with it.
fn run(file: &Path, cache: &Path, output: &Path) -> Command {
    let mut run = command(&["run", "--quiet", "-f"]);
    run.arg(file).arg("-i").arg(demo("pictures")).arg("-o").arg(output).env("SCOREHOST_CACHE", cache);
    run
}

#[test]
fn a_deployment_may_name_a_script_where_artifacts_lie() {
    let Some((folder, script, pinned)) = pushed() else { return };
    let at = |name: &str| folder.path().join(name);
    let (_, digest) = pinned.rsplit_once('@').unwrap();
    let plain = {
        let file = deployment(folder.path(), "scripts");
        std::fs::create_dir_all(at("scripts/by")).unwrap();
        std::fs::copy(&script, at("scripts/by/file.wasm")).unwrap();
        done(&mut run(&file, &at("cache"), &at("plain")));
        std::fs::read(at("plain/predictions.csv")).unwrap()
    };
    // A layout folder is looked for from the deployment's; by tag, by digest, and what was fetched not again.
    for (i, artifact) in ["oci:store:v1", &format!("oci:store@{digest}"), "oci:store:v1"].into_iter().enumerate() {
        let file = deployment(folder.path(), artifact);
        done(command(&["check"]).arg(&file).env("SCOREHOST_CACHE", at("cache")));
        let output = at(&format!("{i}"));
        done(&mut run(&file, &at("cache"), &output));
        assert_eq!(std::fs::read(output.join("predictions.csv")).unwrap(), plain);
        let manifest: Value = serde_json::from_slice(&std::fs::read(blob(&at("store"), digest)).unwrap()).unwrap();
        let layer = blob(&at("store"), manifest["layers"][0]["digest"].as_str().unwrap());
        if i == 0 {
            std::fs::remove_file(layer).unwrap();
        }
    }
    // What lies in the cache is believed as little: changed there, it is fetched, and is not there any more.
    let cached = at("cache/scripts").read_dir().unwrap().next().unwrap().unwrap().path().join("by/file.wasm");
    std::fs::write(cached, "changed").unwrap();
    let file = deployment(folder.path(), "oci:store:v1");
    assert!(refused(&mut run(&file, &at("cache"), &at("changed"))).contains("there is no"));
    for (artifact, reason) in [
        ("oci:store:v2", "there is no"),
        ("oci:nowhere:v1", "no OCI image layout"),
        ("oci://store", "it names no registry"),
        ("oci:store@sha256:1", "a digest is"),
    ] {
        let said = refused(&mut run(&deployment(folder.path(), artifact), &at("cache"), &at("not")));
        assert!(said.contains(reason) && said.contains("hint: "), "{artifact}: {said}");
        assert!(!at("not").exists());
    }
    // For a stranger's YAML nothing is fetched.
    let mut within = run(&deployment(folder.path(), "oci:store:v1"), &at("other"), &at("not"));
    let said = refused(within.arg("--within").arg(folder.path()).arg("--within").arg(demo("model")));
    assert!(said.contains("nothing is fetched for a deployment that was sent here"), "{said}");
    assert!(!at("other/scripts").exists() && !at("not").exists());
}

#[test]
fn a_host_that_asks_for_signatures_takes_no_other_script() {
    let (Some((folder, script, pinned)), Some(keys)) = (pushed(), Keys::new()) else { return };
    let at = |name: &str| folder.path().join(name);
    let store = at("store");
    let (_, signed) = pinned.rsplit_once('@').unwrap();
    let index = std::fs::read_to_string(store.join("index.json")).unwrap();
    let place = Place::new();
    let key = keys.0.path().join("ours.pub").display().to_string();
    let server = server(&place, &["--require-signature", &key]);
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    let create = |artifact: &str| {
        let file = deployment(folder.path(), artifact);
        let mut create = command(&["deployment", "create", "-e", "shapes", "-o", "json", "-f"]);
        create.arg(file).env("SCOREHOST_URL", &server.url).env("SCOREHOST_TOKEN", &server.token);
        create.env("SCOREHOST_CACHE", at("cache"));
        create
    };
    std::fs::create_dir_all(at("scripts/by")).unwrap();
    std::fs::copy(&script, at("scripts/by/file.wasm")).unwrap();
    for artifact in ["scripts", "oci:store:v1"] {
        let said = refused(&mut create(artifact));
        assert!(said.contains("takes signed scripts only") && said.contains("hint: "), "{said}");
    }
    let right = payload(signed);
    let (ours, theirs) = (keys.sign("ours", &right), keys.sign("theirs", &right));
    put_signatures(&store, &index, signed, &[(&right, &theirs)]);
    assert!(refused(&mut create("oci:store:v1")).contains("by another key"));
    put_signatures(&store, &index, signed, &[(&right, &theirs), (&right, &ours)]);
    let made: Value = serde_json::from_str(&done(&mut create("oci:store:v1"))).unwrap();
    assert_eq!((&made["name"], &made["version"]), (&json!("shapes"), &json!(1)), "{made}");
    server.done("PATCH", "/v1/endpoints/shapes", Some(&json!({"defaults": {"deployment_name": "shapes"}})));
    let job = server.submit(&json!({"upload": server.upload_folder(&demo("pictures"))}));
    assert_eq!(server.ended(&job)["status"], "Completed");

    // The right signature beside another script.
    let parts = |script: &[u8]| {
        let mut parts = vec![
            ("deployment.yml".to_owned(), std::fs::read(at("deployment.yml")).unwrap()),
            ("code/by/file.wasm".to_owned(), script.to_vec()),
        ];
        let voucher = store.clone();
        for file in ["index.json", "oci-layout"] {
            parts.push((format!("voucher/{file}"), std::fs::read(voucher.join(file)).unwrap()));
        }
        for blob in voucher.join("blobs/sha256").read_dir().unwrap().map(|blob| blob.unwrap().path()) {
            let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
            parts.push((format!("voucher/blobs/sha256/{name}"), std::fs::read(blob).unwrap()));
        }
        parts
    };
    let post = |script: &[u8], index: &str| {
        let mut parts = parts(script);
        let text = String::from_utf8(parts[0].1.clone()).unwrap();
        let model = std::fs::read(demo("model").join("resnet14v2-shapes.onnx")).unwrap();
        let yaml = text.lines().map(|line| if line.starts_with("model:") { "model: model" } else { line });
        parts[0].1 = yaml.collect::<Vec<_>>().join("\n").into_bytes();
        parts.push(("model/m.onnx".to_owned(), model));
        for (_, bytes) in parts.iter_mut().filter(|(name, _)| name == "voucher/index.json") {
            *bytes = index.replace("\"v1\"", "\"script\"").into_bytes();
        }
        let parts: Vec<_> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let upload = server.upload(&parts);
        server.ask("POST", "/v1/endpoints/shapes/deployments", Some(&json!({ "upload": upload })))
    };
    let index = std::fs::read_to_string(store.join("index.json")).unwrap();
    let component = std::fs::read(&script).unwrap();
    let (status, made) = post(&component, &index);
    assert_eq!(status, 201, "what is sent here is what the command sends: {made}");
    let other = std::fs::read(script.with_file_name("score-by-batch.wasm")).unwrap();
    let (status, problem) = post(&other, &index);
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("is for the script `sha256:"), "{problem}");
    for index in ["{}", "", &index.replace("sha256:", "sha256:../")] {
        let (status, problem) = post(&component, index);
        assert_eq!(status, 400, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("takes signed scripts only") && !detail.contains("/tenants/"), "{detail}");
    }
}

/// Debian's `docker-registry`, gone when dropped.
struct Registry {
    child: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// One that lets `me` in with `word`, or everybody.
    fn start(is_closed: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let users = folder.path().join("users");
        // bcrypt of `word`, by perl's crypt with the salt `abcdefghijklmnopqrstuu`.
        std::fs::write(&users, "me:$2y$04$abcdefghijklmnopqrstuuB/GrfUOm5dtrEiT8lcouu5XB5ftbWLi\n").unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n{}",
            folder.path().join("store").display(),
            if is_closed { auth.as_str() } else { "" }
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            return skip("registry", "there is no docker-registry");
        };
        let began = Instant::now();
        while TcpStream::connect(&host).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, host, _folder: folder })
    }

    /// Puts a blob there, as any client does.
    fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let begun = http().post(url).body("").send().unwrap();
        let location = begun.headers()["location"].to_str().unwrap();
        let put = format!("{location}&digest={}", digest(bytes));
        assert_eq!(http().put(put).body(bytes.to_vec()).send().unwrap().status(), 201);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_registry_gives_back_what_was_put_there_signed_or_not() {
    let (Some((folder, script, pinned)), Some(registry)) = (pushed(), Registry::start(false)) else { return };
    let digest_of = |text: &str| text.rsplit_once('@').unwrap().1.to_owned();
    let reference = format!("{}/team/score-by-file:v1", registry.host);
    let there = done(command(&["push", "--plain-http"]).arg(&script).arg(&reference));
    assert_eq!(digest_of(&there), digest_of(&pinned), "the digest depends on where it lies");
    // What is there is not sent again.
    assert_eq!(done(command(&["push", "--plain-http"]).arg(&script).arg(&reference)), there);
    let file = folder.path().join("out.wasm");
    for wanted in [&reference, &there] {
        assert_eq!(done(command(&["pull", "--plain-http", "--overwrite", wanted, "-o"]).arg(&file)), there);
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&script).unwrap());
    }
    // As it is read by others.
    let url = format!("http://{}/v2/team/score-by-file/manifests/v1", registry.host);
    let manifest = http().get(&url).header("accept", MANIFEST).send().unwrap();
    assert_eq!(manifest.headers()["content-type"], MANIFEST);
    let manifest: Value = manifest.json().unwrap();
    assert_eq!(
        (&manifest["config"]["mediaType"], &manifest["layers"][0]["mediaType"]),
        (&json!(CONFIG), &json!(LAYER))
    );
    let lost = format!("{}/team/score-by-file:v2", registry.host);
    assert!(
        refused(command(&["pull", "--plain-http", &lost, "-o"]).arg(folder.path().join("x"))).contains("there is no")
    );
    let away = "registry.example/a:v1";
    let said = refused(command(&["pull", "--plain-http", away, "-o"]).arg(folder.path().join("x")));
    assert!(said.contains("over https only"), "{said}");

    let Some(keys) = Keys::new() else { return };
    let payload = payload(&digest_of(&there));
    let (signed, config) = signatures(&[(&payload, &keys.sign("ours", &payload))]);
    registry.put_blob("team/score-by-file", &payload);
    registry.put_blob("team/score-by-file", config);
    let url = url.replace("manifests/v1", &format!("manifests/{}.sig", digest_of(&there).replace(':', "-")));
    let put = http().put(&url).header("content-type", MANIFEST).body(signed).send().unwrap();
    assert_eq!(put.status(), 201);
    let pull = |key: &str| {
        let mut pull = command(&["pull", "--plain-http", "--overwrite", &reference, "--require-signature"]);
        pull.arg(keys.0.path().join(key)).arg("-o").arg(&file);
        pull
    };
    assert_eq!(done(&mut pull("ours.pub")), there);
    assert!(refused(&mut pull("theirs.pub")).contains("by another key"));
}

#[test]
fn a_registry_that_asks_who_it_is_is_told_and_nobody_else() {
    let (Some((folder, script, _)), Some(registry)) = (pushed(), Registry::start(true)) else { return };
    let reference = format!("{}/score:v1", registry.host);
    let push = || {
        let mut push = command(&["push", "--plain-http"]);
        push.arg(&script).arg(&reference);
        push
    };
    let said = refused(&mut push());
    assert!(said.contains("denies it") && said.contains("hint: "), "{said}");
    let wrong = refused(push().env("SCOREHOST_REGISTRY_USER", "me").env("SCOREHOST_REGISTRY_PASSWORD", "other-word"));
    assert!(wrong.contains("denies it") && !wrong.contains("other-word"), "{wrong}");
    let pinned = done(push().env("SCOREHOST_REGISTRY_USER", "me").env("SCOREHOST_REGISTRY_PASSWORD", "word"));
    // As `docker login` writes it.
    let logins = json!({"auths": {&registry.host: {"auth": STANDARD.encode("me:word")}}});
    std::fs::write(folder.path().join("config.json"), logins.to_string()).unwrap();
    let file = folder.path().join("out.wasm");
    let pull = || {
        let mut pull = command(&["pull", "--plain-http", "--overwrite", &reference, "-o"]);
        pull.arg(&file);
        pull
    };
    assert_eq!(done(pull().env("DOCKER_CONFIG", folder.path())), pinned);
    assert_eq!(done(pull().env("REGISTRY_AUTH_FILE", folder.path().join("config.json"))), pinned);
    assert!(refused(&mut pull()).contains("denies it"));
}

/// What a registry that lies answers.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The body comes again and again.
    is_endless: bool,
}

impl Answer {
    fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), is_endless: false }
    }

    fn status(status: u16, header: (&'static str, String)) -> Self {
        Self { status, headers: vec![header], body: Vec::new(), is_endless: false }
    }

    fn endless() -> Self {
        Self { is_endless: true, ..Self::ok(vec![b' '; 64 << 10]) }
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.is_endless {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body)?;
        if self.is_endless {
            loop {
                stream.write_all(&self.body)?;
            }
        }
        Ok(())
    }
}

/// A registry that answers as it is told, path by path, and keeps the heads of what it was asked.
struct Liar {
    host: String,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, asked) =
            (Arc::<Mutex<BTreeMap<String, Answer>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let liar = Self { host, answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                asked.lock().unwrap().push(head.join("\n"));
                let lost = Answer { status: 404, ..Answer::ok("{}") };
                let answer = answers.lock().unwrap().get(&path).cloned().unwrap_or(lost);
                // Whoever has heard enough closes.
                let _ = answer.send(&mut stream);
            }
        });
        liar
    }

    fn tell(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(format!("/v2/a/{path}"), answer);
    }

    /// An artifact of this component under `v1`; its manifest and its config, for lies.
    fn hold(&self, component: &[u8], imports: &[&str]) -> (Value, Value) {
        self.answers.lock().unwrap().clear();
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "author": null, "architecture": "wasm", "os": "wasip2",
            "layerDigests": [digest(component)],
            "component": {"exports": ["scorehost:script/script@0.2.0"], "imports": imports, "target": null},
        });
        let text = config.to_string();
        self.tell(&format!("blobs/{}", digest(component)), Answer::ok(component));
        self.tell(&format!("blobs/{}", digest(text.as_bytes())), Answer::ok(text.clone()));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(text.as_bytes()), "size": text.len()},
            "layers": [{"mediaType": LAYER, "digest": digest(component), "size": component.len()}],
        });
        self.tell("manifests/v1", Answer::ok(manifest.to_string()));
        self.asked.lock().unwrap().clear();
        (manifest, config)
    }

    /// How often something with this in its first line was asked for.
    fn asked(&self, part: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|head| head.lines().next().is_some_and(|line| line.contains(part))).count()
    }

    fn pull(&self, reference: &str) -> Command {
        let reference = format!("{}/a{reference}", self.host);
        let mut pull = command(&["pull", "--plain-http", &reference, "-o", "/nonexistent/out.wasm"]);
        pull.env("SCOREHOST_REGISTRY_USER", "me").env("SCOREHOST_REGISTRY_PASSWORD", "hunter2");
        pull
    }

    /// A pull fails, for this reason, whoever's fault it is, and soon.
    #[track_caller]
    fn fails(&self, reference: &str, reason: &str) {
        let began = Instant::now();
        let output = self.pull(reference).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{reason}: {said}");
        assert!(!said.contains("hunter2") && !said.contains('\u{1b}'), "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{reason}");
    }
}

const JUNK: &[u8] = b"a component, or so it says";

#[test]
fn a_script_whose_imports_are_not_offered_is_refused_before_it_is_fetched() {
    let liar = Liar::new();
    for (imports, reason) in [
        (&["wasi:http/types@0.2.0"][..], "does not offer: `wasi:http/types@0.2.0`"),
        (&["wasi:io/poll@0.2.0", "wasi:keyvalue/store@0.2.0"], "does not offer: `wasi:keyvalue/store@0.2.0`"),
    ] {
        liar.hold(JUNK, imports);
        liar.fails(":v1", reason);
        assert_eq!((liar.asked("/blobs/"), liar.asked(&digest(JUNK))), (1, 0), "only the config is looked at");
    }
    // A config that lies is found out: what is fetched is checked itself.
    liar.hold(JUNK, &["wasi:io/poll@0.2.0"]);
    liar.fails(":v1", "not WebAssembly");
    assert_eq!(liar.asked(&digest(JUNK)), 1);
}

#[test]
fn a_registry_that_lies_about_bytes_is_found_out() {
    let liar = Liar::new();
    let layer = format!("blobs/{}", digest(JUNK));
    let imports = ["wasi:io/poll@0.2.0"];
    for (body, reason) in [(&JUNK[1..], "fewer than 26"), (b"a component, or so it said", "it digests to")] {
        liar.hold(JUNK, &imports);
        liar.tell(&layer, Answer::ok(body));
        liar.fails(":v1", reason);
    }
    liar.hold(JUNK, &imports);
    liar.tell(&layer, Answer::endless());
    liar.fails(":v1", "more than 26 bytes");
    liar.tell("manifests/v1", Answer::endless());
    liar.fails(":v1", "the manifest is larger than 4194304 bytes");
    let (manifest, _) = liar.hold(JUNK, &imports);
    let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
    liar.tell(&format!("blobs/{config}"), Answer::endless());
    liar.fails(":v1", "it has more than");
    // What is pinned is not what comes.
    let pinned = format!("sha256:{}", "1".repeat(64));
    liar.tell(&format!("manifests/{pinned}"), Answer::ok(manifest.to_string()));
    liar.fails(&format!(":v1@{pinned}"), "is not what its digest and length say");
    for (at, value, reason) in [
        ("/layers/0/size", json!(1_u64 << 40), "the script is larger than 268435456 bytes"),
        ("/layers/0/size", json!(u64::MAX), "the script is larger than"),
        ("/config/size", json!(2 << 20), "its config is larger than 1048576 bytes"),
        ("/layers/0/mediaType", json!("application/octet-stream"), "its layer is of type"),
        ("/mediaType", json!("application/vnd.oci.image.index.v1+json"), "image.index"),
        ("/config/digest", json!("../../../secret"), "no SHA-256 digest"),
    ] {
        let (mut odd, _) = liar.hold(JUNK, &imports);
        *odd.pointer_mut(at).unwrap() = value;
        liar.tell("manifests/v1", Answer::ok(odd.to_string()));
        liar.fails(":v1", reason);
        assert_eq!(liar.asked(&digest(JUNK)), 0, "{reason}");
    }
}

#[test]
fn a_registry_leads_nobody_elsewhere() {
    let (liar, other) = (Liar::new(), Liar::new());
    let layer = format!("blobs/{}", digest(JUNK));
    liar.hold(JUNK, &[]);
    let here = format!("http://{}/x", other.host);
    // What is no web's address is not followed at all.
    for (place, reason) in [
        (here.as_str(), "to where it must not"),
        ("http://registry.example/x", "to where it must not"),
        ("file:///etc/passwd", "answers 307"),
    ] {
        liar.tell(&layer, Answer::status(307, ("location", place.to_owned())));
        liar.fails(":v1", reason);
    }
    liar.tell(&layer, Answer::status(307, ("location", format!("/v2/a/{layer}"))));
    liar.fails(":v1", "without end");
    assert!(liar.asked(&digest(JUNK)) < 12);
    // To where names and passwords would be sent.
    let realm = format!("Bearer realm=\"http://{}/token\"", other.host);
    liar.tell("manifests/v1", Answer::status(401, ("www-authenticate", realm)));
    liar.fails(":v1", "unencrypted, or inside this network");
    assert_eq!(other.asked(""), 0);
    // What it says is shown as harmless text.
    let said = json!({"errors": [{"message": "\u{1b}[2Jgo away"}]}).to_string();
    liar.tell("manifests/v1", Answer { status: 403, ..Answer::ok(said) });
    liar.fails(":v1", "go away");
    liar.tell("manifests/v1", Answer { status: 500, ..Answer::endless() });
    liar.fails(":v1", "answers 500");
}

#[test]
fn a_token_is_asked_for_once_and_a_tag_once() {
    let Some(scripts) = scripts() else { return };
    let component = std::fs::read(scripts.join("score-by-file.wasm")).unwrap();
    let liar = Liar::new();
    let (manifest, _) = liar.hold(&component, &["wasi:io/poll@0.2.0"]);
    let folder = tempfile::tempdir().unwrap();
    let mut pull = command(&["pull", "--plain-http", &format!("{}/a:v1", liar.host), "-o"]);
    pull.arg(folder.path().join("out.wasm"));
    // The manifest is asked for by its tag once: a tag that moves meanwhile changes nothing.
    assert!(done(&mut pull).ends_with(&digest(manifest.to_string().as_bytes())));
    assert_eq!((liar.asked("/manifests/"), liar.asked("/blobs/")), (1, 2));
    // A token, from where the registry says, for what it says.
    let realm = format!("Bearer realm=\"http://{}/v2/a/token\",service=\"s\",scope=\"repository:a:pull\"", liar.host);
    liar.tell("manifests/v1", Answer::status(401, ("www-authenticate", realm)));
    liar.tell("token?service=s&scope=repository%3Aa%3Apull", Answer::ok(json!({"token": "t0ken"}).to_string()));
    liar.asked.lock().unwrap().clear();
    liar.fails(":v1", "denies it");
    let asked = liar.asked.lock().unwrap();
    let with = |part: &str| asked.iter().filter(|head| head.to_lowercase().contains(&part.to_lowercase())).count();
    assert_eq!((with("authorization: Bearer t0ken"), with("authorization: Basic"), asked.len()), (1, 1, 3));
}
