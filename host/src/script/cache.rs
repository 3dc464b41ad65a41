//! Compiled code, kept by digest in a folder that only this user can enter.
//! What goes in: a component's bytes, already checked. Compiled code is never taken from anybody else.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::ScriptError;
use super::compile::Compiler;
use crate::cache::{COMPILED, Private, hex};

/// A folder of compiled components, and the compiler for what is not in it.
#[derive(Clone, Debug)]
pub struct CompileCache {
    folder: Private,
    compiler: Compiler,
}

impl CompileCache {
    /// The folder `compiled` of the user's cache. Where it cannot be made private, code is compiled anew each time.
    pub fn of_user(compiler: Compiler) -> Self {
        Self { folder: Private::of_user(COMPILED), compiler }
    }

    /// Keeps nothing.
    pub fn none(compiler: Compiler) -> Self {
        Self { folder: Private::none(), compiler }
    }

    /// The component of these bytes: opened if it was compiled before by this very build, else compiled and kept.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> Result<Component, ScriptError> {
        let name = format!("{}.cwasm", key(engine, wasm));
        if let Some(component) = self.open(engine, &name) {
            return Ok(component);
        }
        let code = self.compiler.compile(engine, wasm)?;
        // A cache that cannot be written costs time, not correctness.
        let _ = self.folder.keep(&name, &code);
        // The compiler keeps no pool of instances: what does not fit into this one's is found here.
        load(engine, &code).map_err(|error| match Engine::detect_precompiled(&code) {
            Some(_) => ScriptError::Compile(super::printable(format!("{error:#}").as_bytes())),
            None => ScriptError::Compiler(format!("its code does not open: {error:#}")),
        })
    }

    #[expect(unsafe_code, reason = "opening compiled code is wasmtime's fast start")]
    fn open(&self, engine: &Engine, name: &str) -> Option<Component> {
        let path = self.folder.find(name)?;
        // SAFETY: the file lies in a folder that only this user can enter, was written there by `keep` from what our
        // compiler gave, and is replaced by rename, never changed. wasmtime itself refuses another version's.
        unsafe { Component::deserialize_file(engine, path) }.ok()
    }
}

#[expect(unsafe_code, reason = "the compiler is another process, so its code comes as bytes")]
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what our own compiler wrote to a file that only it and this process have open.
    unsafe { Component::deserialize(engine, code) }
}

fn key(engine: &Engine, wasm: &[u8]) -> String {
    let mut build = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut build);
    format!("{}-{:016x}", hex(&Sha256::digest(wasm)), build.finish())
}
