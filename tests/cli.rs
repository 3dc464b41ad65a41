//! What the command says for `--help` and for wrong use, word for word. `REWRITE_GOLDEN=1 cargo test --test scenarios cli`
//! writes what it says now to tests/golden.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Place, root, scorehost, skip};

/// Compares with the golden file of this name, or rewrites it.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = root().join("tests/golden").join(name);
    if std::env::var_os("REWRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name} is not what it was; REWRITE_GOLDEN=1 takes the new text");
}

/// The command line, its exit code and all that it prints, run in the place.
fn said(place: &Place, arguments: &[&str]) -> String {
    let mut command = scorehost();
    command.args(arguments).current_dir(place.at("")).env("COLUMNS", "100");
    for name in ["SCOREHOST_ADAPTER", "SCOREHOST_URL", "SCOREHOST_TOKEN"] {
        command.env_remove(name);
    }
    // No profile of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", place.at(""));
    let output = command.output().unwrap();
    let code = output.status.code().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("$ scorehost {}\n{text}{end}[{code}]\n\n", arguments.join(" "))
}

#[test]
fn help_is_what_it_was() {
    let place = Place::new();
    let of_hosts =
        ["model", "endpoint", "endpoint invoke", "deployment", "deployment create", "job", "job download", "upload"];
    let verbs = [
        "",
        "new",
        "build",
        "run",
        "check",
        "devices",
        "bench",
        "demo",
        "push",
        "pull",
        "tenant",
        "token",
        "token create",
    ];
    for verb in verbs.into_iter().chain(of_hosts) {
        let arguments: Vec<_> = verb.split_whitespace().chain(["--help"]).collect();
        let name = if verb.is_empty() { "help.txt".to_owned() } else { format!("help-{}.txt", verb.replace(' ', "-")) };
        let text = said(&place, &arguments);
        assert!(text.ends_with("[0]\n\n"), "{text}");
        golden(&name, &text);
    }
}

#[test]
fn refusals_are_what_they_were() {
    let place = Place::new();
    std::fs::write(place.at("input/a.txt"), "a").unwrap();
    std::fs::write(place.at("script.wasm"), "not wasm").unwrap();
    ["project", "several"].iter().for_each(|folder| std::fs::create_dir(place.at(folder)).unwrap());
    ["project/script.py", "several/script.js", "several/go.mod"]
        .iter()
        .for_each(|f| std::fs::write(place.at(f), "").unwrap());
    let files = [
        (
            "project/deployment.yml",
            "name: a\ntype: model\ncode_configuration: {code: ., scoring_script: project.wasm}\n",
        ),
        ("unknown-key.yml", "name: a\ntype: model\nsettings:\n  mini_batch_sise: 3\n"),
        ("wrong-type.yml", "name: a\ntype: model\nsettings:\n  mini_batch_size: many\n"),
        ("no-script.yml", "name: a\ntype: model\n"),
        ("lost-script.yml", "name: a\ntype: model\ncode_configuration: {code: ., scoring_script: lost.wasm}\n"),
        ("lost-model.yml", "name: a\ntype: model\nmodel: lost\n"),
        ("not-wasm.yml", "name: a\ntype: model\ncode_configuration: {code: ., scoring_script: script.wasm}\n"),
        ("pipeline.yml", "name: a\ntype: pipeline\n"),
    ];
    for (name, text) in files {
        std::fs::write(place.at(name), text).unwrap();
    }
    let lines = [
        "",
        "score",
        "run",
        "run -f no-script.yml -i input",
        "run -f no-script.yml -i input -o output --overwrite --resume",
        "run -f no-script.yml -i input -o output --set mini_batch_size",
        "run -f no-script.yml -i input -o output --set settings.nothing=1",
        "run -f no-script.yml -i input -o output --device tpu",
        "run -f no-script.yml -i input -o output --sett a=b",
        "run -f lost.yml -i input -o output",
        "run -f unknown-key.yml -i input -o output",
        "run -f wrong-type.yml -i input -o output",
        "run -f no-script.yml -i input -o output",
        "run -f lost-script.yml -i input -o output",
        "run -f lost-model.yml -i input -o output",
        "run -f not-wasm.yml -i input -o output",
        "run -f pipeline.yml -i input -o output",
        "check",
        "check lost.wasm",
        "check script.wasm",
        "check unknown-key.yml",
        "run -f project/deployment.yml -i input -o output",
        "new --lang rust 2nd",
        "new --lang rust project",
        "new --lang rust fresh --model lost.onnx",
        "new --lang rust sub/dir/fresh",
        "new --lang rust script.wasm/fresh",
        "new --lang cobol fresh",
        "build",
        "build project --output project/script.py",
        "build several",
        "build nowhere",
        "build unknown-key.yml",
        "job list",
        "job list --url ftp://127.0.0.1",
        "job show -n ",
        "endpoint create",
        "endpoint create -f unknown-key.yml --url http://127.0.0.1:9",
    ];
    let said: Vec<_> = lines.map(|line| said(&place, &line.split_whitespace().collect::<Vec<_>>())).to_vec();
    for text in &said {
        assert!(text.ends_with("[2]\n\n"), "wrong use is 2: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(!place.at("output").exists(), "a refused job leaves nothing");
    golden("refusals.txt", &said.concat());
}

#[test]
fn every_golden_file_is_compared() {
    if std::env::var_os("REWRITE_GOLDEN").is_some() {
        return;
    }
    let names = std::fs::read_dir(root().join("tests/golden")).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<PathBuf> = names.map(|path| path.file_name().unwrap().into()).collect();
    names.sort();
    let known = [
        "help-bench.txt",
        "help-build.txt",
        "help-check.txt",
        "help-demo.txt",
        "help-deployment-create.txt",
        "help-deployment.txt",
        "help-devices.txt",
        "help-endpoint-invoke.txt",
        "help-endpoint.txt",
        "help-job-download.txt",
        "help-job.txt",
        "help-model.txt",
        "help-new.txt",
        "help-pull.txt",
        "help-push.txt",
        "help-run.txt",
        "help-tenant.txt",
        "help-token-create.txt",
        "help-token.txt",
        "help-upload.txt",
        "help.txt",
        "refusals.txt",
    ];
    assert_eq!(names, known.map(PathBuf::from));
}

#[test]
fn shells_complete_what_people_type() {
    let script = |shell: &str| {
        let output = scorehost().args(["completion", shell]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["zsh", "fish", "bash"] {
        let script = script(shell);
        assert!(script.contains("endpoint") && !script.contains("try-model"), "{shell}: {script}");
    }
    let place = Place::new();
    std::fs::write(place.at("completion.bash"), script("bash")).unwrap();
    let completed = |words: &[&str]| {
        let last = words.len();
        let typed = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let ask = format!(
            "source '{}' || exit 1; COMP_WORDS=(scorehost {typed}); COMP_CWORD={last}; \
             _scorehost scorehost '{}' '{}'; echo \"${{COMPREPLY[*]}}\"",
            place.at("completion.bash").display(),
            words[last - 1],
            if last > 1 { words[last - 2] } else { "scorehost" },
        );
        Command::new("bash").args(["--norc", "-c", &ask]).output().map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    };
    let Ok(job) = completed(&["jo"]) else {
        let _ = skip::<()>("bash", "there is no bash");
        return;
    };
    assert_eq!(job, "job");
    assert_eq!(completed(&["job", "str"]).unwrap(), "stream");
    assert!(completed(&["serve", "--tls-"]).unwrap().split(' ').eq(["--tls-cert", "--tls-key"]));
}
