//! A component's bytes: refused in words, or compiled.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scorehost::script::{CompileCache, Compiler, Engine, Script};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().expect("this machine runs WebAssembly"));

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    if let Ok(script) = Script::compile(&ENGINE, &CompileCache::none(Compiler::in_process()), bytes) {
        assert!(script.interfaces().exports.iter().any(|name| name.starts_with("scorehost:script/script@")));
    }
});
