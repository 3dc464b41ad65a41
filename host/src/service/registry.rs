//! `push` and `pull`: scripts from and to where artifacts lie. What is pushed and what is pulled is a scoring script that
//! this host would run, checked as `check` does.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ServiceError;
use crate::cache::{Private, hex};
use crate::deployment::Spec;
use crate::registry::{self, Artifact, Interfaces, Offer, PublicKey, Reference};
use crate::script::{self, CompileCache, Compiler, Engine, Script, ScriptError};

/// The folder of the user's cache for scripts that were fetched, each in a folder named by its digest.
const SCRIPTS: &str = "scripts";

/// How places are asked for scripts.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// The file with the key that has to vouch for them; read where something is fetched.
    pub key: Option<PathBuf>,
    /// Whether a registry on this machine is asked by HTTP.
    pub is_plain: bool,
}

/// What is pulled, and to where.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Which script.
    pub reference: Reference,
    /// The file that it becomes.
    pub file: PathBuf,
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// How it is asked for.
    pub asking: Asking,
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
    let offer = look(&request.reference, &request.asking)?;
    let refused = |source| ServiceError::Script { path: offer.reference.to_string().into(), source };
    let mut component = Vec::new();
    offer.fetch(&mut component)?;
    let script = checked(&component, compiler, refused)?;
    write(&request.file, request.overwrite, &component)?;
    Ok(Pulled { reference: offer.reference.clone(), script: script.digest().to_owned(), bytes: offer.size() })
}

/// A script in a registry or a layout folder, if it is one by what its config says.
fn look(reference: &Reference, asking: &Asking) -> Result<Offer, ServiceError> {
    let key = asking.key.as_deref().map(PublicKey::read).transpose()?;
    let offer = registry::look(reference, key.as_ref(), script::MAX_SCRIPT_BYTES, asking.is_plain)?;
    let refused = |source| ServiceError::Script { path: offer.reference.to_string().into(), source };
    script::check_names(&offer.interfaces.exports, &offer.interfaces.imports).map_err(refused)?;
    Ok(offer)
}

/// Where a deployment's `code` names an artifact: fetches it, unless it was before, and lets `code` be the folder of the
/// user's cache where it lies. It is compiled and checked by whoever opens it. None where `code` names no artifact.
///
/// # Errors
/// If it is not there, is not what its digest says, is not signed, is no script of this host's by its config, or there is
/// no cache.
pub fn fetch_script(spec: &mut Spec, asking: &Asking) -> Result<Option<Offer>, ServiceError> {
    let (Some(artifact), Some(name)) = (spec.artifact(), spec.script_name()?) else { return Ok(None) };
    let reference = artifact.parse::<Reference>()?.seen_from(spec.folder());
    let offer = look(&reference, asking)?;
    let digits = offer.digest().trim_start_matches("sha256:");
    let cache = Private::of_user(SCRIPTS);
    let folder = cache.folder().and_then(|folder| std::path::absolute(folder).ok()).ok_or(ServiceError::NoCache)?;
    let folder = folder.join(digits);
    let file = folder.join(&name);
    // What was fetched before is believed as little as what comes now.
    let is_there = fs::read(&file).is_ok_and(|bytes| hex(&Sha256::digest(bytes)) == digits);
    if !is_there {
        let mut component = Vec::new();
        offer.fetch(&mut component)?;
        let made = file.parent().map_or(Ok(()), fs::create_dir_all);
        made.map_err(|source| ServiceError::Write { path: file.clone(), source })?;
        write(&file, true, &component)?;
    }
    // A deployment's paths are texts.
    spec.set("code_configuration.code", folder.to_str().ok_or(ServiceError::NoCache)?)?;
    Ok(Some(offer))
}

/// Whether what [`Offer::vouch`] wrote to `folder` vouches by this key for the script at `path`.
///
/// # Errors
/// If it does not, or one of them cannot be read. Both may be a stranger's.
pub fn check_signature(folder: &Path, path: &Path, key: &PublicKey) -> Result<(), ServiceError> {
    let digest = registry::vouched(folder, key, script::MAX_SCRIPT_BYTES)?;
    let component = script::read(path).map_err(|source| ServiceError::Script { path: path.to_owned(), source })?;
    let found = format!("sha256:{}", hex(&Sha256::digest(component)));
    if found == digest { Ok(()) } else { Err(ServiceError::SignatureOfAnother { signed: digest, found }) }
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
