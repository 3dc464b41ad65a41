//! A core module that a compiler made, and the contract → a component.
//!
//! What Go and C compile to speaks WASI's first preview; the adapter in here, which is wasmtime's own, turns that into
//! WASI 0.2. Whether the component is a scoring script that this host takes is not asked here.

use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::ProjectError;

/// The world that every script is written for.
const WORLD: &str = "scoring-script";

/// What the crates that read the contract and write components fail with.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a core module did not become a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The files of the contract are not as they were shipped.
    #[error("the contract in `.scorehost/wit` cannot be read")]
    Contract(#[source] Cause),
    /// The module does not fit the contract, or is none.
    #[error("the compiled module does not fit the contract")]
    Module(#[source] Cause),
}

/// The component of `core_module`, which imports and exports what the world of the folder `wit` says, in the names of
/// the canonical ABI, and WASI's first preview.
///
/// # Errors
/// If the contract cannot be read, or the module is not one of it.
pub(super) fn from_core(core_module: &[u8], wit: &Path) -> Result<Vec<u8>, ProjectError> {
    let module = with_contract(core_module, wit).map_err(ComponentError::Contract);
    let component = module.and_then(|module| encode(&module).map_err(ComponentError::Module));
    component.map_err(ProjectError::Component)
}

/// The module with a section that says which world it is of.
fn with_contract(core_module: &[u8], wit: &Path) -> Result<Vec<u8>, Cause> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    let mut module = core_module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    Ok(module)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, Cause> {
    let mut encoder = ComponentEncoder::default()
        .module(module)?
        .validate(true)
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    Ok(encoder.encode()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error and its causes, in words.
    fn cause(core_module: &[u8], wit: &Path) -> String {
        let Err(ProjectError::Component(error)) = from_core(core_module, wit) else { panic!("it became a component") };
        crate::fault::chain(&error)
    }

    #[test]
    fn what_is_no_script_is_refused_with_a_reason() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let empty = b"\0asm\x01\0\0\0";
        let said = cause(empty, &wit);
        assert!(said.contains("does not fit the contract") && said.contains("script@"), "{said}");
        cause(b"", &wit);
        cause(b"not wasm at all", &wit);
        // A component, which would be one already.
        cause(b"\0asm\x0d\0\x01\0", &wit);
        let said = cause(empty, Path::new("/nowhere"));
        assert!(said.contains("cannot be read"), "{said}");
    }
}
