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
    let own = sources(place.project)?;
    let has_cpp = own.iter().any(|source| source.extension() == Some(OsStr::new("cpp")));
    let given = [own, sources(place.sdk)?, sources(&place.sdk.join("generated"))?].concat();
    let module = place.scratch.join("core.wasm");
    let mut command = Command::new(zig);
    command.arg(if has_cpp { "c++" } else { "cc" }).args(OPTIONS).arg("-o").arg(&module);
    // From the project on: `assert` puts the names of files into the component, and they are nobody else's business.
    // With a dot before them, since a file may be called as an option is.
    let below =
        |path: &Path| path.strip_prefix(place.project).map_or(path.to_owned(), |path| Path::new(".").join(path));
    command.arg("-I").arg(below(place.sdk)).args(given.iter().map(|source| below(source)));
    command.current_dir(place.project).env("ZIG_LOCAL_CACHE_DIR", place.scratch.join("zig"));
    run(&mut command)?;
    let module = std::fs::read(&module).map_err(refused(&module))?;
    let component = component::from_core(&module, place.wit)?;
    std::fs::write(place.component, component).map_err(refused(place.component))
}

/// A library without `main`, for WebAssembly with WASI. Optimised code keeps its `assert`, which Zig would leave out; C++
/// has no exceptions there, and says so where one is thrown instead of when it is linked.
const OPTIONS: [&str; 8] =
    ["-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-Wall", "-UNDEBUG", "-fno-exceptions"];

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
