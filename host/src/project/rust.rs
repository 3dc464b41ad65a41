//! Rust: Cargo builds a library of type `cdylib` for the target `wasm32-wasip2`, whose linker makes components.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::output;
use super::{ProjectError, Workplace, refused};

const TARGET: &str = "wasm32-wasip2";

/// Builds with the profile `script` where the author's workspace has one, else with `release`.
pub(super) fn build(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let cargo = place.find_tool("CARGO", &["cargo"], "install Rust, https://rustup.rs")?;
    has_target(place)?;
    let mut command = Command::new(cargo);
    command.current_dir(place.project).args(["build", "--target", TARGET, "--profile", "script"]);
    // The profile is there then, whatever the author's file says, and inherits what it says.
    command.args(["--config", "profile.script.inherits='release'"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    // An author who shares a folder between projects goes on doing so.
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        command.arg("--target-dir").arg(place.scratch);
    }
    let messages = output(&mut command)?;
    let components = artifacts(&messages, place.project);
    let [component] = components.as_slice() else {
        let reason = match components.len() {
            0 => {
                "it gives no component\nhint: write `[lib]` and `crate-type = [\"cdylib\"]` into Cargo.toml".to_owned()
            }
            count => format!("it gives {count} components, not one"),
        };
        return Err(ProjectError::Source { path: place.project.join("Cargo.toml"), reason });
    };
    std::fs::copy(component, place.component).map_err(refused(component))?;
    Ok(())
}

/// That the toolchain which the project's folder selects has the target.
fn has_target(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let rustc = place.find_tool("RUSTC", &["rustc"], "install Rust, https://rustup.rs")?;
    let mut command = Command::new(rustc);
    command.current_dir(place.project).args(["--print", "target-libdir", "--target", TARGET]);
    let folder = output(&mut command)?;
    if Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return Ok(());
    }
    let (tool, hint) = (format!("the Rust target `{TARGET}`"), format!("rustup target add {TARGET}"));
    Err(ProjectError::ToolMissing { tool, hint })
}

/// The components among what Cargo says it made of the package in this folder.
fn artifacts(messages: &[u8], project: &Path) -> Vec<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    }
    let messages = messages.split(|byte| *byte == b'\n');
    // Messages of other kinds have other fields.
    let artifacts = messages.filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    let ours = artifacts
        .filter(|artifact| artifact.reason == "compiler-artifact")
        // Cargo's paths may go through links that ours do not.
        .filter(|artifact| {
            artifact.manifest_path.parent().and_then(|p| p.canonicalize().ok()) == project.canonicalize().ok()
        });
    ours.flat_map(|artifact| artifact.filenames).filter(|file| file.extension().is_some_and(|e| e == "wasm")).collect()
}
