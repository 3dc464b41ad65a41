//! What authors in Python and JavaScript get wrong, and what they are told: whatever a script does ends in rows or in plain
//! words. `tests/authors/` holds the script of each language that behaves as a tag says; what languages give alike is in
//! `languages.rs`.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::support::{Place, Ran, root, scorehost, skip};

/// Builds a folder of the checkout to `target/scripts/NAME.wasm`, once; a copy of it, as an author has it.
fn built(language: &str, folder: &str, name: &str) -> Option<()> {
    static BUILT: Mutex<Vec<(String, Result<(), String>)>> = Mutex::new(Vec::new());
    let mut all = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let done = match all.iter().find(|(there, _)| there == name) {
        Some((_, done)) => done.clone(),
        None => {
            let done = build(folder, name);
            all.push((name.to_owned(), done.clone()));
            done
        }
    };
    drop(all);
    done.map_or_else(|reason| skip(language, &reason), Some)
}

fn build(folder: &str, name: &str) -> Result<(), String> {
    let project = root().join("target/test-projects").join(name);
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    std::fs::create_dir_all(&project).unwrap();
    for entry in std::fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), project.join(entry.file_name())).unwrap();
        }
    }
    std::fs::create_dir_all(root().join("target/scripts")).unwrap();
    let component = root().join("target/scripts").join(format!("{name}.wasm"));
    let output = scorehost().arg("build").arg(&project).arg("--output").arg(component).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        // A tool that is not here.
        Some(2) => Err(stderr),
        _ => panic!("{folder}: {stderr}"),
    }
}

const LANGUAGES: [&str; 2] = ["python", "javascript"];

/// What a behaviour must lead to.
enum Expected {
    /// These predictions.
    Rows(&'static str),
    /// All files failed: the kind, and a part of the message.
    Fails(&'static str, &'static str),
}
use Expected::{Fails, Rows};

/// How a script behaves, and what that leads to in Python and in JavaScript, where it is there.
type Case = (&'static str, Option<Expected>, Option<Expected>);

fn cases() -> Vec<Case> {
    let both = |behave, expected: fn() -> Expected| (behave, Some(expected()), Some(expected()));
    vec![
        // Errors, in the author's words.
        (
            "raise_error",
            Some(Fails("permanent", "KeyError: 'no such key'")),
            Some(Fails("permanent", "TypeError: cannot read property 'missing' of undefined")),
        ),
        both("transient", || Rows("0,1\n000.txt,2\n001.txt,2\n002.txt,2\n")),
        (
            "recurse",
            Some(Fails("permanent", "RecursionError: maximum recursion depth exceeded")),
            Some(Fails("trap", "call stack exhausted")),
        ),
        ("leave", Some(Fails("exit", "ended its process")), None),
        // What no exception ends.
        both("regex_without_end", || Fails("timeout", "did not end within 2s")),
        both("loop", || Fails("timeout", "did not end within 2s")),
        both("memory", || Fails("memory", "the limit is 268435456")),
        // Files that are none of its business.
        ("no_file", Some(Fails("permanent", "FileNotFoundError")), None),
        ("write_input", Some(Fails("permanent", "PermissionError")), None),
        // What run may return, and what it may not.
        both("plain_values", || Rows("0\n0\n1\n2\n")),
        both("dicts", || Rows("file,even,odd\n000.txt,0,\n001.txt,,1\n002.txt,2,\n")),
        both("kinds", || {
            Rows(
                "empty,boolean,integer,number,score,text\n\
                 ,True,4611686018427387904,0.0,0.1,\"é \"\"0\"\"\"\n\
                 ,False,4611686018427387905,1.0,0.1,\n\
                 ,False,4611686018427387906,0.25,0.1,\"é \"\"2\"\"\"\n",
            )
        }),
        // JavaScript would put these columns in an order of its own.
        ("whole_numbers", None, Some(Fails("permanent", "a column named 1 loses its place in an object"))),
        (
            "mixed",
            Some(Fails("permanent", "column `0` mixes integers and texts")),
            Some(Fails("permanent", "column `0` mixes numbers and texts")),
        ),
        (
            "too_large",
            Some(Fails("permanent", "column `0` holds an integer of more than 64 bits")),
            Some(Fails("permanent", "column `a` holds whole numbers, not `9223372036854775808`")),
        ),
        ("fraction", None, Some(Fails("permanent", "column `a` holds whole numbers, not `0.5`"))),
        both("no_rows", || Fails("permanent", "run must return rows as a")),
        both("wrong_width", || Fails("file", "one value per column, 2 of them")),
        ("asynchronous", None, Some(Fails("permanent", "run must not be async"))),
        both("half_a_character", || Rows("0\n\u{fffd}\n\u{fffd}\n\u{fffd}\n")),
        both("wrong_argument", || Fails("permanent", "TypeError: ")),
        // More handles than an instance may hold, each of them let go at once.
        both("many_tensors", || Rows("0\n149999.0\n149999.0\n149999.0\n")),
        both("settings", || Rows("0,1,2,3\n7,0.5,True,so\n7,0.5,True,so\n7,0.5,True,so\n")),
        (
            "wrong_setting",
            Some(Fails("permanent", "setting `half` is `0.5`, which is not a whole number")),
            Some(Fails("permanent", "setting `behave` is `wrong_setting`, which is not a number")),
        ),
        both("no_model", || Fails("permanent", "the deployment has no model")),
    ]
}

/// Three files, one mini-batch, and the tags that the scripts read.
fn deployed(name: &str, behave: &str, timeout: u32) -> Place {
    let place = Place::with_files(3);
    let retries = format!("retry_settings: {{ max_retries: 1, timeout: {timeout} }}");
    let settings = [&*retries, "output_format: csv", "limits: { memory: 256MiB }"];
    let behave = format!("behave: {behave}");
    place.deploy(name, &settings, &[&behave, "whole: 7", "half: 0.5", "flag: true"]);
    place
}

/// Whether the language's script that behaves is there, under this name.
fn behaving(language: &str) -> Option<String> {
    let name = format!("{language}-behaving");
    built(language, &format!("tests/authors/{language}"), &name).map(|()| name)
}

#[test]
fn whatever_a_script_does_ends_in_rows_or_in_plain_words() {
    for (index, language) in LANGUAGES.into_iter().enumerate() {
        let Some(name) = behaving(language) else { continue };
        for (behave, python, javascript) in cases() {
            let Some(expected) = [python, javascript].into_iter().nth(index).flatten() else { continue };
            let is_endless = matches!(expected, Fails("timeout", _));
            let place = deployed(&name, behave, if is_endless { 2 } else { 60 });
            let ran = place.run(&[]);
            match expected {
                Rows(rows) => assert_eq!(ran.completed().predictions(), rows, "{language}, {behave}"),
                Fails(kind, text) => {
                    let errors = ran.errors();
                    assert_eq!(errors.len(), 3, "{language}, {behave}: {}", ran.stderr);
                    let is_right = |error: &Vec<String>| error[3] == kind && error[4].contains(text);
                    assert!(errors.iter().all(is_right), "{language}, {behave}: {errors:?}");
                }
            }
        }
    }
}

#[test]
fn a_file_that_fails_leaves_the_others_and_its_trace_is_in_the_log() {
    for (language, error) in [("python", "ValueError: odd"), ("javascript", "RangeError: odd")] {
        let Some(name) = behaving(language) else { continue };
        let place = deployed(&name, "by_files", 60);
        let ran = place.run(&[]).completed();
        let failed: Vec<_> = ran.errors().into_iter().map(|error| (error[0].clone(), error[4].clone())).collect();
        let expected = [("001.txt", error), ("002.txt", "bad file")].map(|(f, r)| (f.to_owned(), r.to_owned()));
        assert_eq!(failed, expected, "{language}");
        assert_eq!(ran.predictions().lines().count(), 2, "{language}");
        let log = ran.file("logs/000000.1.log");
        assert!(log.contains("init was called") && log.contains(error), "{language}: {log}");
        // Python's traces show the line, though its source is not there when the script runs.
        assert!(language != "python" || log.contains("raise ValueError(\"odd\")"), "{log}");
    }
}

#[test]
fn a_failed_init_is_the_jobs_error() {
    for language in LANGUAGES {
        let Some(name) = behaving(language) else { continue };
        let ran = deployed(&name, "fail_init", 60).run(&[]);
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains("not today"), "{language}: {}", ran.stderr);
    }
}

#[test]
fn random_numbers_depend_on_the_mini_batch_alone() {
    for language in LANGUAGES {
        let Some(name) = behaving(language) else { continue };
        let draw = |together: usize| {
            let place = Place::with_files(6);
            let at_once = format!("max_concurrency_per_instance: {together}");
            place.deploy(&name, &["mini_batch_size: 2", &at_once], &["behave: draw"]);
            place.run(&[]).completed().predictions()
        };
        let alone = draw(1);
        assert_eq!(alone, draw(3), "{language}: on one instance as on three");
        let drawn: std::collections::BTreeSet<_> = alone.lines().map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(drawn.len(), 6, "{language}: {alone}");
        assert!(alone.contains("square"), "{language}: a module beside the script is there: {alone}");
    }
}

#[test]
fn what_is_printed_is_in_the_log() {
    for (language, lines) in [
        ("python", ["WARNING careful", "printed"]),
        ("javascript", ["WARNING careful {\"a\":\"1n\"}", "ERROR printed"]),
    ] {
        let Some(name) = behaving(language) else { continue };
        let log = deployed(&name, "logged", 60).run(&[]).completed().file("logs/000000.1.log");
        assert!(lines.iter().all(|line| log.contains(line)) && !log.contains("no\n"), "{language}: {log}");
    }
}

/// Builds a project of this one file, and returns what is said of it.
fn refused(language: &str, source: &str, text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(source), text).unwrap();
    let output = scorehost().arg("build").arg(folder.path()).output().unwrap();
    let ran = Ran::of(&output, Path::new(""));
    assert_ne!(ran.code, 0, "{text}");
    if ran.stderr.contains("is not found") {
        return skip(language, &ran.stderr);
    }
    let left = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert!(left.iter().all(|name| name == source || name == ".scorehost"), "nothing else is left: {left:?}");
    Some(ran.stderr)
}

#[test]
fn a_script_that_does_not_build_is_shown_where() {
    for (text, expected) in [
        ("def run(mini_batch)\n    pass\n", ["File \"script.py\", line 1", "SyntaxError: expected ':'"]),
        ("import numpy\ndef run(m): pass\n", ["File \"script.py\", line 1", "No module named 'numpy'"]),
        ("def score(m): pass\n", ["script.py has no function `run(mini_batch)`", "ImportError"]),
        (
            "from scorehost import Model\nModel.open()\ndef run(m): pass\n",
            ["models@0.2.0#[static]model.open`", "hint: do it in `init`"],
        ),
    ] {
        let Some(said) = refused("python", "script.py", text) else { break };
        assert!(expected.iter().all(|part| said.contains(part)) && !said.contains("Caused by"), "{text}\n{said}");
    }
    for (source, text, expected) in [
        ("script.ts", "export function run(m: string[] {}", ["script.ts:1:32", "Expected \")\""]),
        ("script.js", "import fs from 'fs'; export function run() { fs.x }", ["script.js:1:15", "resolve \"fs\""]),
        (
            "script.js",
            "export function score() {}",
            ["script.js", "No matching export in \"script.js\" for import \"run\""],
        ),
        (
            "script.ts",
            "import { Model } from 'scorehost'; Model.open(); export function run() {}",
            ["models@0.2.0#[static]model.open`", "hint: do it in `init`"],
        ),
    ] {
        let Some(said) = refused("javascript", source, text) else { break };
        assert!(expected.iter().all(|part| said.contains(part)), "{text}\n{said}");
    }
}

/// The types of the SDK and of the example, by TypeScript's own compiler where there is one.
#[test]
fn the_types_hold_in_a_strict_project() {
    let compiler = std::env::var_os("TSC").unwrap_or_else(|| "tsc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return skip("tsc", "there is no TypeScript compiler; TSC names one").unwrap_or_default();
    }
    if built("javascript", "plugins/javascript/score-by-file", "javascript-score-by-file").is_some() {
        let project = root().join("target/test-projects/javascript-score-by-file");
        let output = Command::new(compiler).arg("--project").arg(project).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
