//! Compiled code, kept by digest in a folder that only this user can enter.
//! What goes in: a component's bytes, already checked. Compiled code is never taken from anybody else.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub struct CompileCache {
    folder: Option<PathBuf>,
}

impl CompileCache {
    /// The folder `compiled` in `SCOREHOST_CACHE`, or in the user's cache folder. Where it cannot be made private, code
    /// is compiled anew each time.
    pub fn of_user() -> Self {
        Self { folder: user_folder().map(|f| f.join("compiled")).filter(|f| make_private(f).is_ok()) }
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// The component of these bytes: opened if it was compiled before by this very build, else compiled and kept.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Component> {
        let Some(folder) = &self.folder else { return Component::from_binary(engine, wasm) };
        let path = folder.join(format!("{}.cwasm", key(engine, wasm)));
        if let Some(component) = open(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, wasm)?;
        // A cache that cannot be written costs time, not correctness.
        let _ = component.serialize().map_err(std::io::Error::other).and_then(|code| keep(folder, &path, &code));
        Ok(component)
    }
}

/// The folder for what can be made again: `SCOREHOST_CACHE`, else the platform's cache folder.
pub fn user_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("SCOREHOST_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|p| p.join("scorehost")))
        .or_else(|| variable("LOCALAPPDATA").map(|p| p.join("scorehost")))
        .or_else(|| variable("HOME").map(|p| p.join(".cache").join("scorehost")))
}

#[expect(unsafe_code, reason = "opening compiled code is wasmtime's fast start")]
fn open(engine: &Engine, path: &Path) -> Option<Component> {
    if !path.is_file() || !is_private(path.parent()?) {
        return None;
    }
    // SAFETY: the file lies in a folder that only this user can enter, was written there by `keep` from
    // `Component::serialize`, and is replaced by rename, never changed. wasmtime itself refuses another version's.
    unsafe { Component::deserialize_file(engine, path) }.ok()
}

fn key(engine: &Engine, wasm: &[u8]) -> String {
    let mut build = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut build);
    format!("{}-{:016x}", hex(&Sha256::digest(wasm)), build.finish())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes beside and renames, so that a reader sees all of a file or none of it.
fn keep(folder: &Path, path: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(code)?;
    // A name must never stand for half of a file, not after a power cut either: what is opened is run.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !is_private(folder) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Whether nobody but the owner, who is this process's user, can enter.
#[cfg(unix)]
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let mine = std::fs::metadata("/proc/self").map(|m| m.uid());
    match std::fs::metadata(folder) {
        Ok(m) => m.mode() & 0o077 == 0 && mine.map_or(true, |uid| uid == m.uid()),
        Err(_) => false,
    }
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// The user's cache folder is private by inheritance there.
#[cfg(not(unix))]
fn is_private(folder: &Path) -> bool {
    folder.is_dir()
}
