//! A component's bytes → a [`Script`] that can be instantiated, or a refusal in plain words.
//! Everything that can be known before a job is found out here.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use wasmtime::Store;
use wasmtime::component::InstancePre;
use wasmtime::component::types::ComponentItem;

use super::bindings::scorehost::script::types::{Failure, Output};
use super::bindings::{ScoringScript, ScoringScriptPre};
use super::cache::CompileCache;
use super::engine::Engine;
use super::state::State;
use super::{CONTRACT_VERSION, ScriptError, previous};
use crate::cache::hex;

/// The largest component taken, in bytes: several times the largest language runtime's.
pub const MAX_SCRIPT_BYTES: u64 = 256 << 20;

/// A checked and compiled scoring script. Cheap to clone.
#[derive(Clone)]
pub struct Script {
    pub(crate) engine: Engine,
    pub(crate) pre: Prepared,
    digest: String,
    bytes: usize,
    interfaces: Interfaces,
}

/// What a component exports and imports, by name.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Interfaces {
    /// What it offers.
    pub exports: Vec<String>,
    /// What it needs.
    pub imports: Vec<String>,
    /// The contract version that its `script` export names.
    pub contract: String,
}

impl Script {
    /// Reads, checks and compiles the component at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is not a scoring script of this contract, or imports what the host does not offer.
    pub fn open(engine: &Engine, cache: &CompileCache, path: &Path) -> Result<Self, ScriptError> {
        Self::compile(engine, cache, &read(path)?)
    }

    /// Checks and compiles a component.
    ///
    /// # Errors
    /// As [`Script::open`].
    pub fn compile(engine: &Engine, cache: &CompileCache, wasm: &[u8]) -> Result<Self, ScriptError> {
        check_is_component(wasm)?;
        let component = cache.component(engine.wasmtime(), wasm)?;
        let interfaces = interfaces(engine, &component);
        let contract = check_contract(&interfaces.exports)?;
        check_imports(&interfaces.imports)?;
        let misfit = |e| refused(format!("the script does not fit contract {contract}: {e:#}"));
        let pre = engine.linker().instantiate_pre(&component).map_err(misfit)?;
        check_functions(engine, &component, &contract)?;
        let pre = Prepared::new(&contract, pre).map_err(misfit)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(wasm)));
        let interfaces = Interfaces { contract, ..interfaces };
        Ok(Self { engine: engine.clone(), pre, digest, bytes: wasm.len(), interfaces })
    }

    /// `sha256:` and the digits of the component's bytes.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The component's size in bytes.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// What the component exports and imports.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }
}

/// Reads a component, whatever it is, if it is not too large.
///
/// # Errors
/// If it cannot be read, or is larger than [`MAX_SCRIPT_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, ScriptError> {
    let read = |source| ScriptError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read)?.len();
    let mut wasm = Vec::new();
    if size <= MAX_SCRIPT_BYTES {
        // Not the size that was told: a device has none, and a file may grow meanwhile.
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(MAX_SCRIPT_BYTES + 1).read_to_end(&mut wasm).map_err(read)?;
    }
    let size = size.max(wasm.len() as u64);
    if size > MAX_SCRIPT_BYTES {
        return Err(refused(format!("the script is {size} bytes; at most {MAX_SCRIPT_BYTES} are taken")));
    }
    Ok(wasm)
}

/// Whether a component that exports and imports these could be a scoring script of this host, before it is there.
///
/// # Errors
/// If not, with what does not fit and its cure.
pub fn check_names(exports: &[String], imports: &[String]) -> Result<(), ScriptError> {
    check_contract(exports)?;
    check_imports(imports)
}

/// A component whose imports are found, by the contract it was built for.
#[derive(Clone)]
pub(crate) enum Prepared {
    Today(ScoringScriptPre<State>),
    Previous(previous::ExportedPre<State>),
}

impl Prepared {
    fn new(contract: &str, pre: InstancePre<State>) -> wasmtime::Result<Self> {
        if series(contract) == series(previous::VERSION) {
            previous::ExportedPre::new(pre).map(Self::Previous)
        } else {
            ScoringScriptPre::new(pre).map(Self::Today)
        }
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Exported> {
        match self {
            Self::Today(pre) => pre.instantiate_async(store).await.map(Exported::Today),
            Self::Previous(pre) => pre.instantiate_async(store).await.map(Exported::Previous),
        }
    }
}

/// The functions of an instance.
pub(crate) enum Exported {
    Today(ScoringScript),
    Previous(previous::Exported),
}

impl Exported {
    pub(crate) async fn init(&self, store: &mut Store<State>) -> wasmtime::Result<Result<(), Failure>> {
        match self {
            Self::Today(script) => script.scorehost_script_script().call_init(store).await,
            Self::Previous(script) => script.scorehost_script_script().call_init(store).await,
        }
    }

    pub(crate) async fn run(
        &self,
        store: &mut Store<State>,
        files: &[String],
    ) -> wasmtime::Result<Result<Output, Failure>> {
        match self {
            Self::Today(script) => script.scorehost_script_script().call_run(store, files).await,
            Self::Previous(script) => script.scorehost_script_script().call_run(store, files).await,
        }
    }
}

fn refused(reason: String) -> ScriptError {
    ScriptError::Refused(reason)
}

/// The first eight bytes tell components, core modules and everything else apart.
fn check_is_component(wasm: &[u8]) -> Result<(), ScriptError> {
    if wasmtime::Engine::detect_precompiled(wasm).is_some() {
        return Err(refused(
            "the script is compiled native code, which is never accepted\nhint: give the component itself, the `.wasm` file"
                .into(),
        ));
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(refused(
            "the script is a core WebAssembly module, not a component\nhint: in Rust, build for the target wasm32-wasip2; \
             elsewhere, wrap it with `wasm-tools component new`"
                .into(),
        )),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', ..]) => Err(refused("the script is WebAssembly of an unknown version".into())),
        _ => Err(refused(
            "the script is not WebAssembly\nhint: `scoring_script` names the compiled component, not its source".into(),
        )),
    }
}

fn interfaces(engine: &Engine, component: &Component) -> Interfaces {
    let ty = component.component_type();
    let engine = engine.wasmtime();
    Interfaces {
        exports: ty.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        imports: ty.imports(engine).map(|(name, _)| name.to_owned()).collect(),
        contract: String::new(),
    }
}

/// Below 1.0.0, versions with the same second number are compatible.
fn series(version: &str) -> Option<&str> {
    version.rsplit_once('.').map(|(series, _)| series)
}

const SCRIPT_EXPORT: &str = "scorehost:script/script@";

/// The version in the name of the `script` export, if this host speaks it.
fn check_contract(exports: &[String]) -> Result<String, ScriptError> {
    let Some(version) = exports.iter().find_map(|name| name.strip_prefix(SCRIPT_EXPORT)) else {
        let found = if exports.is_empty() { "nothing".to_owned() } else { format!("`{}`", exports.join("`, `")) };
        return Err(refused(format!(
            "the component is not a scoring script: it exports {found}, not `{SCRIPT_EXPORT}{CONTRACT_VERSION}`\n\
             hint: build it against the contract's `scoring-script` world, which exports `init` and `run`"
        )));
    };
    if ![CONTRACT_VERSION, previous::VERSION].map(series).contains(&series(version)) {
        return Err(refused(format!(
            "the script was built for contract {version}; this host speaks {CONTRACT_VERSION} and {}\n\
             hint: rebuild the script against this host's `wit` folder, or run it on a host that speaks {version}",
            previous::VERSION
        )));
    }
    Ok(version.to_owned())
}

/// The export that [`check_contract`] found has the contract's functions.
fn check_functions(engine: &Engine, component: &Component, contract: &str) -> Result<(), ScriptError> {
    let name = format!("{SCRIPT_EXPORT}{contract}");
    match component.component_type().get_export(engine.wasmtime(), &name).map(|export| export.ty) {
        Some(ComponentItem::ComponentInstance(script)) => super::exports::check(engine.wasmtime(), &script, contract),
        _ => Err(refused(format!("the component's export `{name}` is not an interface"))),
    }
}

/// What the linker offers, by interface without version, with what to say of the tempting ones that it does not.
const OFFERED: [&str; 12] = [
    "scorehost:script/context@",
    "scorehost:script/images@",
    "scorehost:script/log@",
    "scorehost:script/models@",
    "scorehost:script/tables@",
    "scorehost:script/tensors@",
    "scorehost:script/types@",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
];

/// The only version of wasi-nn: below 1.0.0, release candidates promise nothing to each other.
const NN_VERSION: &str = "@0.2.0-rc-2024-10-28";

fn check_imports(imports: &[String]) -> Result<(), ScriptError> {
    let is_nn = |name: &str| name.starts_with("wasi:nn/");
    let offered = |name: &str| {
        OFFERED.iter().any(|o| name.starts_with(o))
            // Sockets link, since language runtimes import them unused, and refuse every address.
            || name.starts_with("wasi:sockets/")
            || is_nn(name) && name.ends_with(NN_VERSION)
    };
    let missing: Vec<_> = imports.iter().map(String::as_str).filter(|name| !offered(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = if missing.iter().any(|name| name.starts_with("wasi:http")) {
        "scripts have no network; hand data over in the input folder or the model folder".to_owned()
    } else if missing.iter().any(|name| is_nn(name)) {
        format!("of wasi-nn, this host offers `wasi:nn{NN_VERSION}` only; rebuild the script against that")
    } else {
        "scripts may import scorehost:script 0.2, WASI 0.2 (cli, clocks, filesystem, io, random) and wasi:nn".to_owned()
    };
    Err(refused(format!("the script imports what this host does not offer: `{}`\nhint: {why}", missing.join("`, `"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_that_are_not_offered_are_named_with_the_cure() {
        let offered = ["wasi:nn/tensor@0.2.0-rc-2024-10-28", "wasi:io/streams@0.2.6", "scorehost:script/log@0.2.0"];
        check_imports(&offered.map(str::to_owned)).unwrap();
        let cases = [
            // Another candidate's types are others, though its names are the same.
            ("wasi:nn/tensor@0.2.0-rc-2024-06-25", "offers `wasi:nn@0.2.0-rc-2024-10-28` only"),
            ("wasi:nn/tensor@0.2.0", "offers `wasi:nn@0.2.0-rc-2024-10-28` only"),
            ("wasi:http/types@0.2.0", "scripts have no network"),
            ("wasi:keyvalue/store@0.2.0", "(cli, clocks, filesystem, io, random) and wasi:nn"),
        ];
        for (name, cure) in cases {
            let error = check_imports(&[offered[0].to_owned(), name.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(&format!("not offer: `{name}`")) && error.contains(cure), "{error}");
        }
    }
}
