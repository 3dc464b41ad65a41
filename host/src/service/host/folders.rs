//! Where a host's bytes lie below its data folder: one folder for each tenant, and in it uploads, models and deployments
//! by their digests, and jobs.
//!
//! What is found under a digest was put there whole, and is not changed any more.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::parts::PARTS;
use super::{FileView, HostError, disk};
use crate::output::remove_tree;
use crate::state::Tenant;

/// Files of one upload or output that are listed: a list of more is no answer but a burden.
pub(super) const MOST_FILES: usize = 1_000_000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    tenants: PathBuf,
    /// Bytes of each tenant, counted when they are first asked for.
    used: Arc<Mutex<HashMap<i64, u64>>>,
}

impl Folders {
    pub(super) fn open(data: &Path) -> Result<Self, HostError> {
        let failed = disk("make the data folder");
        let is_anothers = data.is_dir()
            && !data.join("state.db").exists()
            && fs::read_dir(data).map_err(&failed)?.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lock"));
        if is_anothers {
            let text =
                "the data folder holds other things than a host's\nhint: name an empty one, or one that is not there";
            return Err(HostError::Refused(text.into()));
        }
        make_private(data).map_err(&failed)?;
        let data = data.canonicalize().map_err(&failed)?;
        let tenants = data.join("tenants");
        fs::create_dir_all(&tenants).map_err(&failed)?;
        Ok(Self { tenants, used: Arc::default() })
    }

    /// All that is a tenant's.
    pub(super) fn of(&self, tenant: i64) -> PathBuf {
        self.tenants.join(tenant.to_string())
    }

    pub(super) fn upload(&self, tenant: i64, id: &str) -> PathBuf {
        self.of(tenant).join("uploads").join(id)
    }

    pub(super) fn model(&self, tenant: i64, digest: &str) -> PathBuf {
        self.of(tenant).join("models").join(plain(digest))
    }

    pub(super) fn deployment(&self, tenant: i64, digest: &str) -> PathBuf {
        self.of(tenant).join("deployments").join(plain(digest))
    }

    pub(super) fn job(&self, tenant: i64, id: &str) -> PathBuf {
        self.of(tenant).join("jobs").join(id)
    }

    /// What was being put in its place when the host ended: never named by the state. And parts of files, which the disk may
    /// not have as they came.
    pub(super) fn remove_leavings(&self) -> Result<(), HostError> {
        let failed = disk("clear the data folder");
        for tenant in fs::read_dir(&self.tenants).map_err(&failed)? {
            let tenant = tenant.map_err(&failed)?.path();
            let uploads = fs::read_dir(tenant.join("uploads")).into_iter().flatten();
            let parts = uploads.filter_map(|upload| Some(upload.ok()?.path().join(PARTS)));
            for left in parts.chain([tenant.join("making")]) {
                if left.is_dir() {
                    remove_tree(&left).map_err(&failed)?;
                }
            }
        }
        Ok(())
    }

    /// A new folder on the same file system, to be filled and then moved into its place.
    pub(super) fn making(&self, tenant: i64) -> Result<tempfile::TempDir, HostError> {
        let making = self.of(tenant).join("making");
        fs::create_dir_all(&making).map_err(disk("make a folder"))?;
        tempfile::tempdir_in(making).map_err(disk("make a folder"))
    }

    /// A new file on the same file system, likewise.
    pub(super) fn part(&self, tenant: i64) -> Result<tempfile::NamedTempFile, HostError> {
        let making = self.of(tenant).join("making");
        fs::create_dir_all(&making).map_err(disk("keep the file"))?;
        tempfile::NamedTempFile::new_in(making).map_err(disk("keep the file"))
    }

    /// Makes a folder, durably.
    pub(super) fn make(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        sync_parents(folder, &self.tenants)
    }

    /// Everything in a folder is on the disk, and so is its name.
    pub(super) fn sync(&self, folder: &Path) -> std::io::Result<()> {
        sync_tree(folder)?;
        sync_parents(folder, &self.tenants)
    }

    /// Moves a filled folder into its place, durably; another that is there already has the same content.
    pub(super) fn place(&self, made: tempfile::TempDir, place: &Path) -> Result<(), HostError> {
        let failed = disk("keep the files");
        sync_tree(made.path()).map_err(&failed)?;
        let parent = place.parent().expect("places lie in folders; this is a bug");
        fs::create_dir_all(parent).map_err(&failed)?;
        match fs::rename(made.path(), place) {
            // The folder of its own is gone with the name.
            Ok(()) => drop(made.keep()),
            // Somebody was first; what was made is removed.
            Err(_) if place.is_dir() => {}
            Err(error) => return Err(failed(error)),
        }
        sync_parents(parent, &self.tenants).map_err(&failed)
    }

    /// Counts what a tenant has, the first time that somebody asks. Takes as long as a walk through all of it.
    pub(super) fn count(&self, tenant: i64) {
        if !self.used().contains_key(&tenant) {
            let bytes = measure(&self.of(tenant)).counted();
            self.used().entry(tenant).or_insert(bytes);
        }
    }

    /// What a tenant has, once that was counted.
    pub(super) fn used_by(&self, tenant: i64) -> Option<u64> {
        self.used().get(&tenant).copied()
    }

    /// Whether the tenant, whose bytes were counted, may keep so many more; they count from now on.
    pub(super) fn take(&self, tenant: &Tenant, bytes: u64) -> Result<(), HostError> {
        let mut used = self.used();
        let used = used.entry(tenant.id).or_insert(0);
        let then = used.saturating_add(bytes);
        if then > tenant.quotas.storage {
            let (have, most) = (*used, tenant.quotas.storage);
            return Err(crate::state::StateError::Full { have, most, more: bytes }.into());
        }
        *used = then;
        Ok(())
    }

    /// What was taken and is not kept.
    pub(super) fn give_back(&self, tenant: i64, bytes: u64) {
        if let Some(used) = self.used().get_mut(&tenant) {
            *used = used.saturating_sub(bytes);
        }
    }

    /// What lies somewhere counts as so many bytes now, and no more as what it did before.
    pub(super) fn replace(&self, tenant: i64, before: u64, now: u64) {
        if let Some(used) = self.used().get_mut(&tenant) {
            *used = used.saturating_add(now).saturating_sub(before);
        }
    }

    /// Bytes of a tenant, where they were counted already.
    pub(super) fn counted(&self, tenant: i64) -> u64 {
        self.used().get(&tenant).copied().unwrap_or(0)
    }

    /// Every tenant that has a folder.
    pub(super) fn tenants(&self) -> std::io::Result<Vec<i64>> {
        let names = fs::read_dir(&self.tenants)?.map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()));
        names.filter_map(std::io::Result::transpose).collect()
    }

    /// Takes a folder out of its place at once; what it holds is removed then, or when the host is opened again. What
    /// names it has to be gone already: a name without its folder would be a lie, a folder without a name is swept.
    pub(super) fn take_away(&self, tenant: i64, folder: &Path) -> Result<Option<TakenAway>, HostError> {
        let away = self.making(tenant)?;
        match fs::rename(folder, away.path().join("removed")) {
            Ok(()) => Ok(Some(TakenAway { away, tenant })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk("remove a folder")(error)),
        }
    }

    /// Removes what was taken away; it counts no more.
    pub(super) fn remove(&self, taken: TakenAway) -> Result<(), HostError> {
        let TakenAway { away, tenant } = taken;
        let bytes = measure(away.path()).counted();
        let away = away.keep();
        remove_tree(&away).map_err(disk("remove a folder"))?;
        self.give_back(tenant, bytes);
        Ok(())
    }

    /// What each tenant has that was counted.
    pub(super) fn all_counted(&self) -> HashMap<i64, u64> {
        self.used().clone()
    }

    fn used(&self) -> MutexGuard<'_, HashMap<i64, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest as the name of a folder.
fn plain(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // One that was there already, too: it holds what tenants sent.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// A folder that is in its place no more.
pub(super) struct TakenAway {
    away: tempfile::TempDir,
    tenant: i64,
}

/// What a file counts for beside its bytes: names take room too.
pub(super) const ENTRY: u64 = 4096;

/// How much lies below a folder.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Measured {
    /// As it counts for its tenant.
    pub(super) fn counted(self) -> u64 {
        self.bytes.saturating_add(self.files.saturating_mul(ENTRY))
    }
}

/// All files below; what cannot be read is as if it were not there.
pub(super) fn measure(folder: &Path) -> Measured {
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
    files.fold(Measured::default(), |all, facts| Measured {
        files: all.files + 1,
        bytes: all.bytes.saturating_add(facts.len()),
    })
}

/// As [`measure`], while `left` files and folders may still be looked at; none where there are more.
pub(super) fn measure_within(folder: &Path, left: &mut usize) -> Option<Measured> {
    let mut all = Measured::default();
    for entry in walkdir::WalkDir::new(folder) {
        *left = left.checked_sub(1)?;
        if let Some(facts) = entry.ok().and_then(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file) {
            (all.files, all.bytes) = (all.files + 1, all.bytes.saturating_add(facts.len()));
        }
    }
    Some(all)
}

/// Every file below, by path; links and what is hidden from callers are left out.
pub(super) fn list(folder: &Path, hidden: Option<&str>) -> Result<Vec<FileView>, HostError> {
    let failed = disk("list the files");
    let mut found = Vec::new();
    let walk = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name();
    let shown = |entry: &walkdir::DirEntry| hidden.is_none_or(|hidden| entry.file_name() != hidden);
    for entry in walk.into_iter().filter_entry(shown) {
        let entry = entry.map_err(|e| failed(e.into()))?;
        let facts = entry.metadata().map_err(|e| failed(e.into()))?;
        if !facts.is_file() {
            continue;
        }
        if found.len() == MOST_FILES {
            return Err(HostError::Refused(format!("there are more than {MOST_FILES} files")));
        }
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        found.push(FileView { path: path.to_string_lossy().replace('\\', "/"), bytes: facts.len() });
    }
    Ok(found)
}

/// Everything below is on the disk, names too.
fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in walkdir::WalkDir::new(folder).contents_first(true) {
        let entry = entry?;
        if entry.file_type().is_file() || (cfg!(unix) && entry.file_type().is_dir()) {
            File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}

/// The names of a folder and of those above it, up to `top`, are on the disk.
fn sync_parents(folder: &Path, top: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(top)) {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}
