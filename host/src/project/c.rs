//! C and C++ projects: every `*.c` and `*.cpp` of the folder, and the SDK's own → a component.
//!
//! Zig's compiler is Clang with the libraries for WebAssembly beside it, in one package. What it makes is a core module;
//! [`component`](super::component) does the rest.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{pinned, run};
use super::{ProjectError, Workplace, component, refused};

/// Compiles the project at `place`.
///
/// # Errors
/// If Zig is not installed, the source does not compile, or the result is no script.
pub(super) fn build(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let hint = format!("pip install {}", pinned("ziglang"));
    let zig = place.find_tool("ZIG", &["zig", "python-zig"], &hint)?;
    let sources = sources(place.project)?;
    let has_cpp = sources.iter().any(|source| source.extension() == Some(OsStr::new("cpp")));
    let mut command = Command::new(zig);
    command.arg(if has_cpp { "c++" } else { "cc" }).args(OPTIONS).arg("-I").arg(place.sdk);
    let module = place.scratch.join("core.wasm");
    command.arg("-o").arg(&module).args(&sources).args(self::sources(place.sdk)?);
    command.args(self::sources(&place.sdk.join("generated"))?);
    command.current_dir(place.project).env("ZIG_LOCAL_CACHE_DIR", place.scratch.join("zig"));
    run(&mut command)?;
    let module = std::fs::read(&module).map_err(refused(&module))?;
    let component = component::from_core(&module, place.wit)?;
    std::fs::write(place.component, component).map_err(refused(place.component))
}

/// A library without `main`, for WebAssembly with WASI.
const OPTIONS: [&str; 6] = ["-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-Wall"];

/// The files of a folder that are compiled, in order, so that the same sources give the same component.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, ProjectError> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused(folder))? {
        let path = entry.map_err(refused(folder))?.path();
        if path.extension().is_some_and(|ending| ending == "c" || ending == "cpp") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}
