//! A model's file: opened or refused in words, by the reader for GPUs and by the embedded CPU engine. Nothing is run.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scorehost::infer::cpu::Cpu;
use scorehost::infer::{Backend, graph, onnx};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(scorehost_fuzz::folder);

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    if let Ok(file) = onnx::parse(bytes) {
        let _ = graph::unfused(&file);
        if let Ok(graph) = graph::build(&file) {
            let _ = graph::plan::plan(&graph, |value| graph.values[value].len());
        }
    }
    let path = FOLDER.path().join("model.onnx");
    std::fs::write(&path, bytes).expect("memory is not full");
    if let Ok(model) = Cpu::new(1).open(&path) {
        assert!(model.inputs().iter().all(|port| port.shape.len() < 1000));
    }
});
