//! `push` and `pull`: scripts from and to where artifacts lie. What is pushed and what is pulled is a scoring script that
//! this host would run, checked as `check` does.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::ServiceError;
use crate::registry::{self, Artifact, Interfaces, PublicKey, Reference};
use crate::script::{self, CompileCache, Compiler, Engine, Script, ScriptError};

/// What is pulled, and to where.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Which script.
    pub reference: Reference,
    /// The file that it becomes.
    pub file: PathBuf,
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// The key that has to vouch for it.
    pub key: Option<PublicKey>,
    /// Whether a registry on this machine is asked by HTTP.
    pub is_plain: bool,
}

/// A script that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its reference, with the digest of its manifest.
    pub reference: Reference,
    /// The digest of the component, as job records have it.
    pub script: String,
    /// The component's size.
    pub bytes: u64,
}

/// Pushes the script at `path`; what comes out is the reference that pins it. `created` as in [`Artifact`].
///
/// # Errors
/// If it is refused as a script, or not taken.
pub fn push_script(
    path: &Path,
    reference: &Reference,
    created: u64,
    is_plain: bool,
    compiler: &Compiler,
) -> Result<Reference, ServiceError> {
    let refused = |source| ServiceError::Script { path: path.to_owned(), source };
    let component = script::read(path).map_err(refused)?;
    let script = checked(&component, compiler, refused)?;
    let interfaces = script.interfaces();
    let interfaces = Interfaces { exports: interfaces.exports.clone(), imports: interfaces.imports.clone() };
    Ok(registry::push(reference, &Artifact { component: &component, interfaces, created }, is_plain)?)
}

/// Pulls a script, if it is one that this host would run. What its config says is looked at first; a file appears only
/// when all has been looked at.
///
/// # Errors
/// If it is not there, is not what its digest says, is not signed, or is refused as a script.
pub fn pull_script(request: &PullRequest, compiler: &Compiler) -> Result<Pulled, ServiceError> {
    if !request.overwrite && request.file.exists() {
        return Err(ServiceError::Exists(request.file.clone()));
    }
    let offer = registry::look(&request.reference, request.key.as_ref(), script::MAX_SCRIPT_BYTES, request.is_plain)?;
    let refused = |source| ServiceError::Script { path: offer.reference.to_string().into(), source };
    script::check_names(&offer.interfaces.exports, &offer.interfaces.imports).map_err(refused)?;
    let mut component = Vec::new();
    offer.fetch(&mut component)?;
    let script = checked(&component, compiler, refused)?;
    write(&request.file, request.overwrite, &component)?;
    Ok(Pulled { reference: offer.reference.clone(), script: script.digest().to_owned(), bytes: offer.size() })
}

fn checked(
    component: &[u8],
    compiler: &Compiler,
    refused: impl FnOnce(ScriptError) -> ServiceError,
) -> Result<Script, ServiceError> {
    let engine = Engine::new().map_err(ServiceError::Engine)?;
    Script::compile(&engine, &CompileCache::of_user(compiler.clone()), component).map_err(refused)
}

/// The whole file or none.
fn write(path: &Path, overwrite: bool, bytes: &[u8]) -> Result<(), ServiceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| ServiceError::Write { path: path.to_owned(), source };
    let mut builder = tempfile::Builder::new();
    // As any file that the user makes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let placed = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    match placed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(ServiceError::Exists(path.to_owned()))
        }
        Err(error) => Err(failed(error.error)),
    }
}
