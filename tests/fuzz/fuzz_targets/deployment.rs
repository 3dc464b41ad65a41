//! A deployment's YAML, and a value that `--set` gives: refused in words, or resolved.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scorehost::deployment::Spec;

fuzz_target!(init: scorehost_fuzz::prepare(), |text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(mut spec) = Spec::parse(text, Path::new("/nowhere/deployment.yml")) else { return };
    let _ = spec.registered_model();
    let _ = spec.resolve();
    // Each pair of lines once more, as a key and a value.
    let mut lines = text.lines();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        let _ = spec.set(key, value);
    }
    let _ = spec.resolve();
});
