//! Folders that callers send, file by file: each file is there whole or not at all, so that what broke off goes on with
//! the files that are missing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::folders::{Folders, list, sync_tree};
use super::{Caller, Host, HostError, Scope, UploadView, disk, names};
use crate::state::{StateError, Tenant};

/// The largest file that is taken; a model of the largest size fits.
pub const MOST_FILE_BYTES: u64 = 4 << 30;

/// Stands beside the files once nothing is added any more.
const FINISHED: &str = "finished";
const FILES: &str = "files";

/// A file that is being sent. It is nowhere until [`UploadFile::finish`].
pub struct UploadFile {
    part: tempfile::NamedTempFile,
    place: PathBuf,
    bytes: u64,
    folders: Folders,
    tenant: Tenant,
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
        self.part.write_all(bytes).map_err(disk("keep the file"))
    }

    /// Puts the file in its place, in the stead of one that is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(self) -> Result<(), HostError> {
        let failed = disk("keep the file");
        self.part.as_file().sync_all().map_err(&failed)?;
        let parent = self.place.parent().expect("files lie in folders; this is a bug");
        fs::create_dir_all(parent).map_err(&failed)?;
        self.part.persist(&self.place).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

impl Host {
    /// Begins an upload.
    ///
    /// # Errors
    /// If the caller may not, or the disk refuses.
    pub fn begin_upload(&self, caller: &Caller) -> Result<UploadView, HostError> {
        caller.may(Scope::Invoke).or_else(|_| caller.may(Scope::Write))?;
        let id = super::jobs::new_id("upload");
        let files = self.folders.upload(caller.tenant.id, &id).join(FILES);
        fs::create_dir_all(files).map_err(disk("begin the upload"))?;
        Ok(UploadView { id, finished: false, files: Vec::new() })
    }

    /// Where an upload is, if there is one.
    fn upload_folder(&self, caller: &Caller, id: &str) -> Result<PathBuf, HostError> {
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
        caller.may(Scope::Invoke).or_else(|_| caller.may(Scope::Write))?;
        let folder = self.upload_folder(caller, id)?;
        if folder.join(FINISHED).exists() {
            return Err(HostError::Refused(format!("the upload `{id}` is finished")));
        }
        let place = folder.join(FILES).join(names::path(path)?);
        let part = tempfile::NamedTempFile::new_in(&folder).map_err(disk("keep the file"))?;
        Ok(UploadFile { part, place, bytes: 0, folders: self.folders.clone(), tenant: caller.tenant.clone() })
    }

    /// What is there of an upload.
    ///
    /// # Errors
    /// If there is none.
    pub fn upload(&self, caller: &Caller, id: &str) -> Result<UploadView, HostError> {
        caller.may(Scope::Invoke).or_else(|_| caller.may(Scope::Write))?;
        let folder = self.upload_folder(caller, id)?;
        let finished = folder.join(FINISHED).exists();
        Ok(UploadView { id: id.to_owned(), finished, files: list(&folder.join(FILES), None)? })
    }

    /// Ends an upload: it is whole and on the disk, and nothing is added any more.
    ///
    /// # Errors
    /// If there is none, or the disk refuses.
    pub fn finish_upload(&self, caller: &Caller, id: &str) -> Result<UploadView, HostError> {
        caller.may(Scope::Invoke).or_else(|_| caller.may(Scope::Write))?;
        let folder = self.upload_folder(caller, id)?;
        let failed = disk("finish the upload");
        if !folder.join(FINISHED).exists() {
            sync_tree(&folder.join(FILES)).map_err(&failed)?;
            File::create(folder.join(FINISHED)).and_then(|mark| mark.sync_all()).map_err(&failed)?;
            sync_tree(&folder).map_err(&failed)?;
            let parent = folder.parent().expect("uploads lie in a folder; this is a bug");
            #[cfg(unix)]
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(&failed)?;
        }
        self.upload(caller, id)
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

/// Where an upload's files are.
pub(super) fn files(upload: &Path) -> PathBuf {
    upload.join(FILES)
}
