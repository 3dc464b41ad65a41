//! Folders that callers send, file by file: each file is there whole or not at all, so that what broke off goes on with
//! the files that are missing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::folders::{ENTRY, Folders, list, measure};
use super::{Caller, FinishedUploadView, Host, HostError, Scope, UploadView, disk, names};
use crate::service::digest::ModelDigest;
use crate::state::{StateError, Tenant};

/// The largest file that is taken; a model of the largest size fits.
pub const MOST_FILE_BYTES: u64 = 4 << 30;

/// Stands beside the files once nothing is added any more.
const FINISHED: &str = "finished";
const FILES: &str = "files";
/// What the files are, once somebody asked.
const DIGEST: &str = "digest";

/// Uploads that are digested at once.
const MOST_HASHING: usize = 4;

/// One of them.
struct Hashing<'a>(&'a AtomicUsize);

impl<'a> Hashing<'a> {
    fn begin(all: &'a AtomicUsize) -> Option<Self> {
        let more = |now: usize| (now < MOST_HASHING).then_some(now + 1);
        all.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(all))
    }
}

impl Drop for Hashing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A file that is being sent. It is nowhere until [`UploadFile::finish`].
pub struct UploadFile {
    part: Option<tempfile::NamedTempFile>,
    /// The upload's folder, and the file's place in it.
    upload: PathBuf,
    place: PathBuf,
    bytes: u64,
    taken: u64,
    folders: Folders,
    tenant: Tenant,
    sealing: Arc<Mutex<()>>,
}

impl UploadFile {
    /// Adds some bytes.
    ///
    /// # Errors
    /// If the file gets too large, the tenant's storage is full, or the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST_FILE_BYTES {
            return Err(HostError::Refused(format!("a file of more than {MOST_FILE_BYTES} bytes is not taken")));
        }
        self.folders.take(&self.tenant, bytes.len() as u64)?;
        self.taken += bytes.len() as u64;
        let part = self.part.as_mut().expect("it is taken at the end only; this is a bug");
        part.write_all(bytes).map_err(disk("keep the file"))
    }

    /// Puts the file in its place, in the stead of one that is there.
    ///
    /// # Errors
    /// If the upload was finished meanwhile, a folder is in its place, or the disk refuses.
    pub fn finish(mut self) -> Result<(), HostError> {
        let failed = disk("keep the file");
        let part = self.part.take().expect("it is taken here only; this is a bug");
        part.as_file().sync_all().map_err(&failed)?;
        let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.upload.join(FINISHED).exists() {
            return Err(HostError::Refused("the upload is finished".into()));
        }
        // Removed while this was sent: its folder is not to be made again.
        if !self.upload.is_dir() {
            return Err(HostError::Refused("the upload was deleted".into()));
        }
        let in_the_way =
            || HostError::Refused("a file is where the path needs a folder, or a folder where it needs a file".into());
        let refused = |error: std::io::Error| match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => in_the_way(),
            _ => failed(error),
        };
        let parent = self.place.parent().expect("files lie in folders; this is a bug");
        fs::create_dir_all(parent).map_err(refused)?;
        let before = self.place.metadata().map_or(0, |facts| facts.len() + ENTRY);
        part.persist(&self.place).map_err(|e| refused(e.error))?;
        self.taken = before;
        // That it is still being sent is seen by this time; without it, it would be removed as one that was given up.
        let _ = File::open(&self.upload).and_then(|folder| folder.set_modified(SystemTime::now()));
        Ok(())
    }
}

impl Drop for UploadFile {
    /// What is not kept does not count, nor what was replaced.
    fn drop(&mut self) {
        self.folders.give_back(self.tenant.id, self.taken);
    }
}

impl Host {
    /// Begins an upload.
    ///
    /// # Errors
    /// If the caller may not, or the disk refuses.
    pub fn begin_upload(&self, caller: &Caller) -> Result<UploadView, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let id = super::jobs::new_id("upload");
        let files = self.folders.upload(caller.tenant.id, &id).join(FILES);
        fs::create_dir_all(files).map_err(disk("begin the upload"))?;
        Ok(UploadView { id, finished: false, files: Vec::new() })
    }

    /// Where an upload is, if there is one.
    pub(super) fn upload_folder(&self, caller: &Caller, id: &str) -> Result<PathBuf, HostError> {
        let unknown = || StateError::Unknown { what: "upload", name: id.chars().take(64).collect() };
        // As `new_id` makes them: no path.
        let is_id = id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let folder = self.folders.upload(caller.tenant.id, id);
        if is_id && folder.is_dir() { Ok(folder) } else { Err(unknown().into()) }
    }

    /// Begins a file of an upload.
    ///
    /// # Errors
    /// If the caller may not, the path leaves the folder, or there is no such upload that is not finished.
    pub fn put_file(&self, caller: &Caller, id: &str, path: &str) -> Result<UploadFile, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        if folder.join(FINISHED).exists() {
            return Err(HostError::Refused(format!("the upload `{id}` is finished")));
        }
        let place = folder.join(FILES).join(names::path(path)?);
        self.folders.count(caller.tenant.id);
        self.folders.take(&caller.tenant, ENTRY)?;
        let mut file = UploadFile {
            part: None,
            upload: folder,
            place,
            bytes: 0,
            taken: ENTRY,
            folders: self.folders.clone(),
            tenant: caller.tenant.clone(),
            sealing: Arc::clone(&self.sealing),
        };
        // On the same disk, and where what was left over is removed.
        file.part = Some(self.folders.part(caller.tenant.id)?);
        Ok(file)
    }

    /// What is there of an upload.
    ///
    /// # Errors
    /// If there is none.
    pub fn upload(&self, caller: &Caller, id: &str) -> Result<UploadView, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        let finished = folder.join(FINISHED).exists();
        Ok(UploadView { id: id.to_owned(), finished, files: list(&folder.join(FILES), None)? })
    }

    /// Ends an upload: it is whole and on the disk, and nothing is added any more.
    ///
    /// # Errors
    /// If there is none, or the disk refuses.
    pub fn finish_upload(&self, caller: &Caller, id: &str) -> Result<FinishedUploadView, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        let failed = disk("finish the upload");
        {
            // No file is put in its place beside this.
            let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
            if File::create_new(folder.join(FINISHED)).is_ok() {
                self.folders.replace(caller.tenant.id, 0, ENTRY);
            } else {
                // It was finished before, or cannot be.
                File::open(folder.join(FINISHED)).map_err(&failed)?;
            }
        }
        // Again, too, where it was finished before: perhaps nobody lived to see that on the disk.
        self.folders.sync(&folder).map_err(&failed)?;
        // Not listed: there may be a million.
        let there = measure(&folder.join(FILES));
        Ok(FinishedUploadView { id: id.to_owned(), finished: true, count: there.files, bytes: there.bytes })
    }

    /// What the files of an upload that is finished are, with their names: the same for the same files sent again.
    pub(super) fn upload_digest(&self, caller: &Caller, id: &str) -> Result<String, HostError> {
        let files = self.finished_upload(caller, id)?;
        let failed = disk("read the upload");
        let known = files.with_file_name(DIGEST);
        if let Ok(digest) = fs::read_to_string(&known) {
            return Ok(digest);
        }
        // Each takes a thread for as long as the disk takes to read it all.
        let _one = Hashing::begin(&self.hashing).ok_or(HostError::Busy)?;
        let digest = ModelDigest::of(&files).map_err(|e| failed(std::io::Error::other(e.to_string())))?.whole;
        // Kept, since it is read as a whole for it; whole or not at all, and made again where a crash loses it.
        let mut part = self.folders.part(caller.tenant.id)?;
        part.write_all(digest.as_bytes()).map_err(&failed)?;
        part.persist(known).map_err(|e| failed(e.error))?;
        Ok(digest)
    }

    /// The files of an upload that is finished.
    pub(super) fn finished_upload(&self, caller: &Caller, id: &str) -> Result<PathBuf, HostError> {
        let folder = self.upload_folder(caller, id)?;
        if !folder.join(FINISHED).exists() {
            return Err(HostError::Refused(format!("the upload `{id}` is not finished")));
        }
        Ok(files(&folder))
    }
}

/// When something was last done with an upload.
pub(super) fn touched(upload: &Path) -> std::io::Result<SystemTime> {
    let times = [upload.to_owned(), upload.join(FINISHED)];
    let times = times.iter().filter_map(|path| path.metadata().ok()).map(|facts| facts.modified());
    times.collect::<std::io::Result<Vec<_>>>().map(|times| times.into_iter().max().unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Where an upload's files are.
pub(super) fn files(upload: &Path) -> PathBuf {
    upload.join(FILES)
}
