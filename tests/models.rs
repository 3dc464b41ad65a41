//! Models that are made to harm their engine: refused within the limits of a first opening, and nothing else is harmed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use scorehost::cache::Private;
use scorehost::child::ChildLimits;
use scorehost::fault::Fault;
use scorehost::infer::InferError;
use scorehost::infer::trial::{Engine, STANDARD_LIMITS, Trial};

use crate::support::{Place, demo, root};

fn hostile(name: &str) -> PathBuf {
    root().join("tests/reference/hostile").join(name)
}

fn refused(limits: ChildLimits, name: &str) -> (String, Duration) {
    let trial = Trial::child(env!("CARGO_BIN_EXE_scorehost").into(), limits, Private::none());
    let began = Instant::now();
    let error = trial.pass(Engine::Cpu, &hostile(name), name).unwrap_err();
    assert_eq!(error.fault(), Fault::Caller);
    assert!(matches!(error, InferError::Exhausting { .. }), "{error:?}");
    (error.to_string(), began.elapsed())
}

#[test]
fn a_model_that_never_opens_is_stopped_in_time() {
    let (text, took) = refused(ChildLimits { seconds: 1, ..STANDARD_LIMITS }, "endless.onnx");
    assert!(text.contains("does not open within 1 s") && text.contains("was stopped after 1 s"), "{text}");
    assert!(text.contains("\nhint: ") && text.contains("SCOREHOST_MODEL_SECONDS"), "{text}");
    // Starting and killing a process takes a moment where others compute.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_model_that_takes_gigabytes_ends_its_own_process_only() {
    let (text, _) = refused(STANDARD_LIMITS, "gigabytes.onnx");
    assert!(text.contains("memory allocation of 34359738352 bytes failed"), "{text}");
}

/// A field of a protocol buffer that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut all, mut length) = (vec![number << 3 | 2], bytes.len());
    while length > 127 {
        all.push(length as u8 | 128);
        length >>= 7;
    }
    all.push(length as u8);
    [all, bytes.to_vec()].concat()
}

/// A model of so many operations, each on what the one before gives.
fn chain(operations: usize) -> Vec<u8> {
    let name = |i: usize| {
        if i == 0 {
            "x".into()
        } else if i == operations {
            "y".into()
        } else {
            format!("v{i}")
        }
    };
    let node = |i| [field(1, name(i).as_bytes()), field(2, name(i + 1).as_bytes()), field(4, b"Neg")].concat();
    let nodes = (0..operations).flat_map(|i| field(1, &node(i)));
    // Floats of shape N.
    let tensor = [vec![1 << 3, 1], field(2, &field(1, &field(2, b"N")))].concat();
    let port = |number, name: &[u8]| field(number, &[field(1, name), field(2, &field(1, &tensor))].concat());
    let graph = nodes.chain(field(2, b"g")).chain(port(11, b"x")).chain(port(12, b"y")).collect::<Vec<_>>();
    [vec![1 << 3, 8], field(8, &[2 << 3, 13]), field(7, &graph)].concat()
}

#[test]
fn a_model_that_lies_too_deep_ends_its_own_process_only() {
    let place = Place::new();
    let trial = Trial::child(env!("CARGO_BIN_EXE_scorehost").into(), STANDARD_LIMITS, Private::none());
    let path = place.at("chain.onnx");
    std::fs::write(&path, chain(100)).unwrap();
    trial.pass(Engine::Cpu, &path, "shallow").unwrap();
    for deep in [8_000, 30_000] {
        std::fs::write(&path, chain(deep)).unwrap();
        let error = trial.pass(Engine::Cpu, &path, "deep").unwrap_err();
        assert!(error.to_string().contains("stack overflow"), "{deep}: {error}");
    }
}

#[test]
fn check_and_run_refuse_such_a_model_before_anything_is_made() {
    let place = Place::new();
    place.deploy_built_in(&hostile("gigabytes.onnx"), &["output_format: csv"], &[]);
    let ran = place.score(&demo("pictures"), &["--device", "cpu"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("gigabytes.onnx` does not open within"), "{}", ran.stderr);
    assert!(!place.at("output").exists());
}

#[test]
fn a_sound_model_passes_and_is_remembered() {
    let place = Place::new();
    let passed = Private::at(&place.at("passed")).unwrap();
    let trial = Trial::child(env!("CARGO_BIN_EXE_scorehost").into(), STANDARD_LIMITS, passed.clone());
    let model = demo("model").join("resnet14v2-shapes.onnx");
    trial.pass(Engine::Cpu, &model, "sound").unwrap();
    // With a program that would fail, what was remembered shows.
    let other = Trial::child("/nowhere".into(), STANDARD_LIMITS, passed);
    other.pass(Engine::Cpu, &model, "sound").unwrap();
    assert!(other.pass(Engine::Cpu, &model, "another").is_err());
}
