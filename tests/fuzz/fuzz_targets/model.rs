//! A model's file: read or refused in words by the reader for GPUs, and by what looks at it before the embedded engine
//! does. The engine itself is a dependency, and is not fed here: it opens each file in a process of its own first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scorehost::infer::{graph, onnx, sound};

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    let _ = sound::check(bytes);
    if let Ok(file) = onnx::parse(bytes) {
        let _ = graph::unfused(&file);
        if let Ok(graph) = graph::build(&file) {
            let _ = graph::plan::plan(&graph, |value| graph.values[value].len());
        }
    }
});
