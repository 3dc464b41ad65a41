//! Folders that callers send, file by file: each file is there whole or not at all, so that what broke off goes on with
//! the files that are missing, and within a large one with the bytes that are ([`super::parts`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::folders::{ENTRY, Folders, Measured, list, measure, measure_within};
use super::parts::{self, MOST_HASHING, Part, SLOTS, Span};
use super::{
    Caller, FinishedUploadView, Host, HostError, MOST_PAGE, Scope, UploadFileView, UploadLineView, UploadView, disk,
    names,
};
use crate::fault;
use crate::service::digest::ModelDigest;
use crate::state::{StateError, Tenant};

/// The largest file that is taken; a model of the largest size fits.
pub const MOST_FILE_BYTES: u64 = 4 << 30;

/// Stands beside the files once nothing is added any more.
const FINISHED: &str = "finished";
const FILES: &str = "files";
/// What the files are, once somebody asked.
const DIGEST: &str = "digest";
/// How many files there are, and their bytes, once it is finished.
const COUNTED: &str = "counted";

/// Files and folders of uploads that are not finished which are looked at for one page of a list: some 50 ms of work.
const MOST_LOOKED: usize = 20_000;

/// An upload that is digested, or is to be next.
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

/// A file to be sent.
#[derive(Clone, Debug, Default)]
pub struct FilePut {
    /// Its path below the upload's folder.
    pub path: String,
    /// Which bytes of it come, where what comes is kept if it breaks off.
    pub span: Option<Span>,
    /// SHA-256 of the whole file, which is checked at the end.
    pub digest: Option<[u8; 32]>,
}

/// A file that is being sent. It is nowhere until [`UploadFile::finish`]; dropped before that, what came is kept if it came
/// as a span.
pub struct UploadFile {
    file: Option<tempfile::NamedTempFile>,
    part: Option<Part>,
    digest: Option<[u8; 32]>,
    /// Whether what came is of no use.
    is_wrong: bool,
    /// The upload's folder, the file's place in it, and that of what came of it.
    upload: PathBuf,
    place: PathBuf,
    parts: PathBuf,
    /// Bytes that are there, with those that were.
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
        let most = self.part.as_ref().map_or(MOST_FILE_BYTES, |part| part.span.end);
        let then = self.bytes.saturating_add(bytes.len() as u64);
        if then > most {
            // Nobody could tell which of the bytes were meant.
            self.is_wrong = true;
            let text = if most == MOST_FILE_BYTES { "a file" } else { "the body" };
            return Err(HostError::Refused(format!("{text} of more than {most} bytes is not taken")));
        }
        self.folders.take(&self.tenant, bytes.len() as u64)?;
        self.taken += bytes.len() as u64;
        self.bytes = then;
        let file = self.file.as_mut().expect("it is taken at the end only; this is a bug");
        file.write_all(bytes).map_err(|error| {
            // How much of it the disk has is not known.
            self.is_wrong = true;
            disk("keep the file")(error)
        })
    }

    /// Puts the file in its place, in the stead of one that is there; false where more of it is to come, and what came is
    /// kept.
    ///
    /// # Errors
    /// If less came than was said, or other bytes, the upload was finished meanwhile, a folder is in its place, or the disk
    /// refuses.
    pub fn finish(mut self) -> Result<bool, HostError> {
        if let Some(Span { first, end, total }) = self.part.as_ref().map(|part| part.span) {
            if self.bytes < end {
                let (came, said) = (self.bytes - first, end - first);
                return Err(HostError::Refused(format!("the body has {came} bytes in the place of {said}")));
            }
            if end < total {
                return self.keep().map(|()| false);
            }
        }
        let failed = disk("keep the file");
        let file = self.file.take().expect("it is taken here only; this is a bug");
        let came = self.digest.map(|_| {
            let _slot = SLOTS.wait();
            parts::digest(file.path())
        });
        if came.transpose().map_err(&failed)? != self.digest {
            let text = "the file is not what its digest says\nhint: it changed since its beginning was sent, perhaps: send all of it again";
            return Err(HostError::Refused(text.into()));
        }
        file.as_file().sync_all().map_err(&failed)?;
        let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_open()?;
        let in_the_way =
            || HostError::Refused("a file is where the path needs a folder, or a folder where it needs a file".into());
        let refused = |error: std::io::Error| match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => in_the_way(),
            _ => failed(error),
        };
        let parent = self.place.parent().expect("files lie in folders; this is a bug");
        fs::create_dir_all(parent).map_err(refused)?;
        let before = self.place.metadata().map_or(0, |facts| facts.len() + ENTRY);
        file.persist(&self.place).map_err(|e| refused(e.error))?;
        self.taken = before;
        // What came of it earlier is of no use any more.
        parts::discard(&self.folders, self.tenant.id, &self.parts)?;
        self.touch();
        Ok(true)
    }

    /// That it is still being sent is seen by this time; without it, it would be removed as one that was given up.
    fn touch(&self) {
        let _ = File::open(&self.upload).and_then(|folder| folder.set_modified(SystemTime::now()));
    }

    /// Whether files may still be put into the upload, as long as nobody seals it.
    fn is_open(&self) -> Result<(), HostError> {
        if self.upload.join(FINISHED).exists() {
            return Err(HostError::Refused("the upload is finished".into()));
        }
        // Removed while this was sent: its folder is not to be made again.
        if !self.upload.is_dir() {
            return Err(HostError::Refused("the upload was deleted".into()));
        }
        Ok(())
    }

    /// Keeps what came, if it may go on from there.
    fn keep(&mut self) -> Result<(), HostError> {
        let Some(part) = &self.part else { return Ok(()) };
        let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.file.take().filter(|_| self.bytes > 0 && !self.is_wrong) else {
            // Where the part was that it began with; one that is not empty stays.
            let _ = fs::remove_dir(&self.parts);
            return Ok(());
        };
        self.is_open()?;
        part.keep(file, self.bytes).map_err(disk("keep what came of the file"))?;
        // All but the last byte, where all came.
        self.taken = self.bytes / part.span.total;
        self.touch();
        Ok(())
    }
}

impl Drop for UploadFile {
    /// What is not kept does not count, nor what was replaced.
    fn drop(&mut self) {
        if let Err(error) = self.keep() {
            tracing::info!(error = fault::chain(&error), "what came of a file is not kept");
        }
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
        let begun = begun(&id).unwrap_or_default();
        Ok(UploadView { id, finished: false, begun, files: Vec::new() })
    }

    /// The tenant's uploads, the newest first, from before one of them on. Of those that are not finished, files are counted
    /// as far as one page may take; where that ends, how many there are is not told.
    ///
    /// # Errors
    /// If the caller may not, or the disk refuses.
    pub fn uploads(&self, caller: &Caller, before: Option<&str>, most: u32) -> Result<Vec<UploadLineView>, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let most = most.clamp(1, MOST_PAGE) as usize;
        let failed = disk("list the uploads");
        let all = match fs::read_dir(self.folders.upload(caller.tenant.id, "")) {
            Ok(all) => all,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        // Only the names of one page are held, however many there are.
        let mut newest = BinaryHeap::new();
        for entry in all {
            let Ok(id) = entry.map_err(&failed)?.file_name().into_string() else { continue };
            if begun(&id).is_some() && before.is_none_or(|before| *id < *before) {
                newest.push(Reverse(id));
                if newest.len() > most {
                    newest.pop();
                }
            }
        }
        let newest = newest.into_sorted_vec();
        let (held, oldest) = (newest.len(), newest.last().map(|Reverse(id)| id.clone()));
        let mut left = MOST_LOOKED;
        let lines = newest.into_iter().filter_map(|Reverse(id)| {
            let (begun, folder) = (begun(&id)?, self.folders.upload(caller.tenant.id, &id));
            // Deleted meanwhile.
            if !folder.is_dir() {
                return None;
            }
            let finished = folder.join(FINISHED).exists();
            let counted = counted(&folder).or_else(|| measure_within(&folder.join(FILES), &mut left));
            let (count, bytes) = counted.map(|there| (there.files, there.bytes)).unzip();
            Some(UploadLineView { id, finished, begun, count, bytes })
        });
        let mut lines: Vec<_> = lines.collect();
        // A page that is not full would be taken for the last one.
        if let Ok(lost @ 1..) = u32::try_from(held - lines.len()) {
            lines.extend(self.uploads(caller, oldest.as_deref(), lost)?);
        }
        Ok(lines)
    }

    /// Where an upload is, if there is one.
    pub(super) fn upload_folder(&self, caller: &Caller, id: &str) -> Result<PathBuf, HostError> {
        let unknown = || StateError::Unknown { what: "upload", name: id.chars().take(64).collect() };
        // As `new_id` makes them: no path.
        let is_id = id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let folder = self.folders.upload(caller.tenant.id, id);
        if is_id && folder.is_dir() { Ok(folder) } else { Err(unknown().into()) }
    }

    /// Begins a file of an upload, or goes on with one.
    ///
    /// # Errors
    /// If the caller may not, the path leaves the folder, there is no such upload that is not finished, somebody else sends
    /// the file, or the bytes are not those that are missing.
    pub fn put_file(&self, caller: &Caller, id: &str, put: &FilePut) -> Result<UploadFile, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        if folder.join(FINISHED).exists() {
            return Err(HostError::Refused(format!("the upload `{id}` is finished")));
        }
        let place = folder.join(FILES).join(names::path(&put.path)?);
        let tenant = caller.tenant.id;
        self.folders.count(tenant);
        // On the same disk, and where what was left over is removed.
        let (part, file, bytes) = match put.span {
            None => (None, self.folders.part(tenant)?, 0),
            Some(span) => {
                let (part, file, bytes) =
                    Part::begin((&self.folders, &self.sending), tenant, (&folder, &put.path), span)?;
                (Some(part), file, bytes)
            }
        };
        // What came earlier counts already.
        let mut taken = 0;
        if bytes > 0 {
            taken = bytes + ENTRY;
        }
        let mut file = UploadFile {
            file: Some(file),
            part,
            digest: put.digest,
            is_wrong: false,
            parts: parts::folder(&folder, &put.path),
            upload: folder,
            place,
            bytes,
            taken,
            folders: self.folders.clone(),
            tenant: caller.tenant.clone(),
            sealing: Arc::clone(&self.sealing),
        };
        if bytes == 0 {
            self.folders.take(&caller.tenant, ENTRY)?;
            file.taken = ENTRY;
        }
        Ok(file)
    }

    /// How much of a file of an upload is there.
    ///
    /// # Errors
    /// If there is no such upload, or nothing of such a file.
    pub fn upload_file(&self, caller: &Caller, id: &str, path: &str) -> Result<UploadFileView, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        let place = folder.join(FILES).join(names::path(path)?);
        let parts = parts::folder(&folder, path);
        // In this order: what is not being sent any more was kept before.
        let sending = self.sending.has(&parts);
        let whole = || place.metadata().ok().filter(fs::Metadata::is_file).map(|facts| (facts.len(), facts.len()));
        let found = parts::there(&parts).map(|there| (there, false)).or_else(|| Some((whole()?, true)));
        if found.is_none() && !sending {
            return Err(StateError::Unknown { what: "file", name: path.chars().take(64).collect() }.into());
        }
        let ((bytes, total), whole) = found.unwrap_or_default();
        Ok(UploadFileView { path: path.to_owned(), bytes, total, whole, sending })
    }

    /// What is there of an upload.
    ///
    /// # Errors
    /// If there is none.
    pub fn upload(&self, caller: &Caller, id: &str) -> Result<UploadView, HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        let (finished, begun) = (folder.join(FINISHED).exists(), begun(id).unwrap_or_default());
        Ok(UploadView { id: id.to_owned(), finished, begun, files: list(&folder.join(FILES), None)? })
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
        // Nobody goes on with these any more.
        parts::discard(&self.folders, caller.tenant.id, &folder.join(parts::PARTS))?;
        // Not listed: there may be a million.
        let there = measure(&folder.join(FILES));
        self.note(caller, folder.join(COUNTED), &format!("{} {}", there.files, there.bytes))?;
        // Again, too, where it was finished before: perhaps nobody lived to see that on the disk.
        self.folders.sync(&folder).map_err(&failed)?;
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
        // Few wait for those who digest a file.
        let _one = Hashing::begin(&self.hashing).ok_or(HostError::Busy)?;
        let _slot = SLOTS.wait();
        let digest = ModelDigest::of(&files).map_err(|e| failed(std::io::Error::other(e.to_string())))?.whole;
        // Kept, since it is read as a whole for it.
        self.note(caller, known, &digest)?;
        Ok(digest)
    }

    /// Writes what was found of an upload that does not change any more: whole or not at all, and made again where a crash
    /// loses it.
    fn note(&self, caller: &Caller, place: PathBuf, text: &str) -> Result<(), HostError> {
        let failed = disk("keep what was found of the upload");
        let mut part = self.folders.part(caller.tenant.id)?;
        part.write_all(text.as_bytes()).map_err(&failed)?;
        // An empty one in its place would be a lie.
        part.as_file().sync_all().map_err(&failed)?;
        match part.persist_noclobber(place) {
            Ok(_) => {
                self.folders.replace(caller.tenant.id, 0, ENTRY + text.len() as u64);
                Ok(())
            }
            // Somebody else found the same.
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error.error)),
        }
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

/// When an upload was begun: its name has it. None for what is no upload's name.
fn begun(id: &str) -> Option<String> {
    let digits = id.strip_prefix("upload-")?.get(..17).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let part = |from: usize, to: usize| &digits[from..to];
    let (date, time) = ((part(0, 4), part(4, 6), part(6, 8)), (part(8, 10), part(10, 12), part(12, 14)));
    Some(format!("{}-{}-{}T{}:{}:{}.{}Z", date.0, date.1, date.2, time.0, time.1, time.2, part(14, 17)))
}

/// What was counted when an upload was finished.
fn counted(upload: &Path) -> Option<Measured> {
    let text = fs::read_to_string(upload.join(COUNTED)).ok()?;
    let (files, bytes) = text.split_once(' ')?;
    Some(Measured { files: files.parse().ok()?, bytes: bytes.parse().ok()? })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uploads_name_tells_when_it_was_begun() {
        let id = super::super::jobs::new_id("upload");
        let told = humantime::parse_rfc3339(&begun(&id).unwrap()).unwrap();
        assert!(told.elapsed().unwrap().as_secs() < 60, "{id}");
        assert_eq!(begun("upload-20261121215106123-0badcafe").unwrap(), "2026-11-21T21:51:06.123Z");
        for other in ["", "upload-", "upload-2026", "job-20261121215106123-0badcafe", "upload-2026112121510612ü-0"] {
            assert_eq!(begun(other), None, "{other}");
        }
    }
}
