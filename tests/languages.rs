//! The same scenarios for every script language: the same files in, the same bytes out.
//!
//! A scenario is a folder of tests/languages/scenarios: `deployment.yml`, whose script is an example or `scenarios.wasm`;
//! `input/`, and `input.from`, a file of names of the demo's pictures; and `expected/`, every file that the job leaves but
//! its records and logs (`errors.csv` where files fail), or `error.txt`, which the command says. A file `without.LANGUAGE`
//! says why that language is left out. `scenarios.wasm` stands for the project of a language in tests/languages/scripts,
//! which does what the tag `scenario` says.
//! `REWRITE_GOLDEN=1 cargo test --test scenarios languages::rust` writes `expected/` as it is now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, demo, root, scorehost, skip};

/// What a job leaves besides its output.
const RECORDS: [&str; 3] = ["job.json", "mini_batches.csv", "logs"];

#[test]
fn rust_passes_every_scenario() {
    passes_every_scenario("rust");
}

#[test]
fn python_passes_every_scenario() {
    passes_every_scenario("python");
}

#[test]
fn javascript_passes_every_scenario() {
    passes_every_scenario("javascript");
}

#[test]
fn go_passes_every_scenario() {
    passes_every_scenario("go");
}

#[test]
fn c_passes_every_scenario() {
    passes_every_scenario("c");
}

#[test]
fn what_go_ends_badly_by_has_its_own_error() {
    ends_badly(
        "go",
        &[
            // Where it was, and what it said.
            ("panic", Some(("2", "trap", &["panicked at", "main.go:", "boom"]))),
            ("index", Some(("2", "trap", &["main.go:", "index out of range [1] with length 1"]))),
            // All that WASI tells of it is that it is none of success.
            ("exit", Some(("2", "exit", &["exit code 1"]))),
            ("values", Some(("1", "permanent", &["a row has 2 values, and the output 1 columns"]))),
        ],
    );
}

#[test]
fn what_c_ends_badly_by_has_its_own_error() {
    ends_badly(
        "c",
        &[
            ("abort", Some(("2", "trap", &["script.c: boom"]))),
            ("divide", Some(("2", "trap", &["divide by zero"]))),
            ("exit", Some(("2", "exit", &["exit code 1"]))),
            ("columns", Some(("1", "permanent", &["more than 256 columns; name them with sh_columns_of"]))),
            ("values", Some(("1", "permanent", &["more than 256 values in a row; hand them over with sh_row_of"]))),
            ("values-that-fit", None),
        ],
    );
}

#[test]
fn a_new_project_in_rust_builds_and_runs() {
    a_new_project_builds_and_runs("rust");
}

#[test]
fn a_new_project_in_python_builds_and_runs() {
    a_new_project_builds_and_runs("python");
}

#[test]
fn a_new_project_in_javascript_builds_and_runs() {
    a_new_project_builds_and_runs("javascript");
}

#[test]
fn a_new_project_in_go_builds_and_runs() {
    a_new_project_builds_and_runs("go");
}

#[test]
fn a_new_project_in_c_builds_and_runs() {
    a_new_project_builds_and_runs("c");
}

#[test]
fn every_scenario_is_complete() {
    for folder in scenarios() {
        let has = |name: &str| folder.join(name).exists();
        assert!(has("deployment.yml"), "{}", folder.display());
        assert!(has("input") || has("input.from"), "{}", folder.display());
        assert!(has("expected") != has("error.txt"), "{}", folder.display());
    }
}

fn scenarios() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/languages/scenarios")).unwrap();
    let mut folders: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 8, "the scenarios were not found");
    folders
}

fn passes_every_scenario(language: &str) {
    let Some(()) = build(language) else { return };
    let failures: Vec<String> = scenarios()
        .into_iter()
        .filter_map(|folder| {
            let reason = play(language, &folder).err()?;
            Some(format!("{language}, {}: {reason}", folder.file_name().unwrap().display()))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Attempts, kind, and what the message tells.
type Ending<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Runs a language's script on a file for each way to end; between them are files that end well, and do.
fn ends_badly(language: &str, ways: &[(&str, Option<Ending<'_>>)]) {
    let Some(()) = build(language) else { return };
    let place = Place::new();
    let bad: Vec<_> = ways.iter().filter_map(|(way, ending)| Some((*way, (*ending)?))).collect();
    for (way, _) in ways {
        std::fs::write(place.at("input").join(way), "").unwrap();
        std::fs::write(place.at("input").join(format!("{way}-not")), "").unwrap();
    }
    let settings = ["mini_batch_size: 1", "output_format: jsonl", "retry_settings: {max_retries: 1}"];
    place.deploy(&format!("{language}-scenarios"), &settings, &["scenario: ends-badly"]);
    let ran = place.run(&["--overwrite"]).completed();
    let errors = ran.errors();
    assert_eq!(errors.len(), bad.len(), "{language}: {errors:?}");
    for (way, (attempts, kind, told)) in bad {
        let row = errors.iter().find(|row| row[0] == way).unwrap_or_else(|| panic!("{language}, {way}: {errors:?}"));
        assert_eq!(row[2..4], [attempts, kind], "{language}, {way}: {row:?}");
        assert!(told.iter().all(|told| row[4].contains(told)), "{language}, {way}: {row:?}");
    }
    let rows = ran.file("predictions.jsonl");
    assert_eq!(rows.lines().count(), 2 * ways.len() - errors.len(), "{language}: {rows}");
    for (way, _) in ways {
        assert!(rows.contains(&format!("{way}-not\"")), "{language}, {way}: {rows}");
    }
}

/// Builds the language's scripts of all scenarios into target/scripts, where its tools are there.
fn build(language: &str) -> Option<()> {
    let mut examples = Command::new(root().join("plugins/build"));
    examples.arg(language).env("SCOREHOST", env!("CARGO_BIN_EXE_scorehost"));
    built(language, &mut examples)?;
    let mut scenarios = scorehost();
    scenarios.arg("build").arg(root().join(format!("tests/languages/scripts/{language}")));
    scenarios.arg("--output").arg(root().join("target/scripts").join(component(language, "scenarios.wasm")));
    built(language, &mut scenarios)
}

/// Runs a command that builds; skips where it says that a tool is missing.
fn built(language: &str, command: &mut Command) -> Option<()> {
    // Rust's dependencies are built once for all of them.
    command.current_dir(root()).env("CARGO_TARGET_DIR", root().join("target")).env("CARGO_NET_OFFLINE", "true");
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Some(());
    }
    let is_missing = stderr.contains("is not found") || stderr.contains("is missing");
    assert!(is_missing, "{language} does not build: {stderr}");
    skip(language, stderr.trim())
}

/// The examples in Rust have plain names.
fn component(language: &str, script: &str) -> String {
    let prefix = if language == "rust" && script != "scenarios.wasm" { "" } else { &format!("{language}-") };
    format!("{prefix}{script}")
}

/// Runs a scenario, and says how it went otherwise than expected.
fn play(language: &str, scenario: &Path) -> Result<(), String> {
    if let Ok(reason) = std::fs::read_to_string(scenario.join(format!("without.{language}"))) {
        println!("{language}, {}: left out, since {}", scenario.display(), reason.trim());
        return Ok(());
    }
    let place = Place::new();
    copy(&scenario.join("input"), &place.at("input"));
    for name in std::fs::read_to_string(scenario.join("input.from")).unwrap_or_default().lines() {
        std::fs::copy(demo("pictures").join(name), place.at("input").join(name)).unwrap();
    }
    let deployment = std::fs::read_to_string(scenario.join("deployment.yml")).unwrap();
    let script = deployment.lines().find_map(|line| line.trim().strip_prefix("scoring_script: ")).unwrap();
    let script = format!("code_configuration.scoring_script={}", component(language, script));
    let mut command = scorehost();
    command.args(["run", "--quiet", "--device", "cpu", "--set", &script, "-f"]).arg(scenario.join("deployment.yml"));
    command.arg("-i").arg(place.at("input")).arg("-o").arg(place.at("output"));
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();

    if let Ok(expected) = std::fs::read_to_string(scenario.join("error.txt")) {
        return if !ran.status.success() && said.contains(expected.trim()) {
            Ok(())
        } else {
            Err(format!("it ended with {}, and said {said}", ran.status))
        };
    }
    if !ran.status.success() {
        return Err(format!("{said}{}", std::fs::read_to_string(place.at("output/errors.csv")).unwrap_or_default()));
    }
    let mut found = contents(&place.at("output"));
    found.retain(|name, _| !RECORDS.contains(&name.split('/').next().unwrap_or_default()));
    // The header alone: no file failed.
    found.retain(|name, bytes| name != "errors.csv" || bytes.iter().filter(|b| **b == b'\n').count() > 1);
    let expected = scenario.join("expected");
    if std::env::var_os("REWRITE_GOLDEN").is_some() && language == "rust" {
        drop(std::fs::remove_dir_all(&expected));
        for (name, bytes) in &found {
            std::fs::create_dir_all(expected.join(name).parent().unwrap()).unwrap();
            std::fs::write(expected.join(name), bytes).unwrap();
        }
    }
    same(&contents(&expected), &found)
}

fn same(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    if names(expected) != names(found) {
        return Err(format!("it left {:?}, not {:?}", names(found), names(expected)));
    }
    match expected.iter().find(|(name, bytes)| found[*name] != **bytes) {
        None => Ok(()),
        Some((name, bytes)) => {
            let [found, expected] = [&found[name], bytes].map(|bytes| String::from_utf8_lossy(bytes));
            Err(format!("`{name}` is\n{found}\nnot\n{expected}"))
        }
    }
}

/// All files below a folder, by their path in it.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        std::fs::write(to.join(&name), bytes).unwrap();
    }
}

/// As a newcomer would: new, build, run; and the rows are those of the example.
fn a_new_project_builds_and_runs(language: &str) {
    let place = Place::new();
    let run = |folder: &Path, arguments: &[&str]| {
        let mut command = scorehost();
        command.args(arguments).current_dir(folder).env("CARGO_NET_OFFLINE", "true");
        command.env("CARGO_TARGET_DIR", root().join("target"));
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    };
    let model = demo("model");
    let (code, text) =
        run(&place.at(""), &["new", "--lang", language, "My-first_1", "--model", model.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let folder = place.at("My-first_1");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let source = readme.split('`').nth(1).unwrap();
    assert!(folder.join(source).is_file(), "the README names `{source}`, which is not there");

    let mut command = scorehost();
    let Some(()) = built(language, command.arg("build").arg(&folder)) else { return };
    let pictures = demo("pictures");
    let score = ["run", "-q", "-f", "deployment.yml", "-i", pictures.to_str().unwrap(), "-o", "results"];
    let (code, text) = run(&folder, &score);
    assert_eq!(code, 0, "{text}");
    let rows = std::fs::read_to_string(folder.join("results/predictions.csv")).unwrap();
    assert_eq!(
        rows,
        std::fs::read_to_string(root().join("tests/languages/scenarios/by-file/expected/predictions.csv")).unwrap()
    );

    // Built again, it is the same; but for snapshots of an interpreter that has run, whose memory is another each time.
    let component = folder.join("My-first_1.wasm");
    let before = std::fs::read(&component).unwrap();
    std::fs::remove_file(&component).unwrap();
    let (code, text) = run(&folder, &["build"]);
    assert_eq!(code, 0, "{text}");
    let after = std::fs::read(&component).unwrap();
    assert!(after == before || matches!(language, "python" | "javascript"), "the same source gives another component");
}
