//! The few things that are done to a disk, each with its error named, and each a step that a test can be killed at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::OutputError;

/// One thing about to be done.
#[cfg_attr(not(test), expect(dead_code, reason = "only the tests' hook looks inside"))]
pub(super) enum Step<'a> {
    Append(&'a Path, &'a [u8]),
    Create(&'a Path),
    SyncFile(&'a Path),
    SyncFolder(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "its twin of the tests fails")]
fn before(_: &Step<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use super::crash::before;

/// A file that only grows.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    dirty: bool,
}

impl Part {
    /// A new file that holds `bytes`, durably; its name is durable with the folder's next [`sync_folder`].
    pub(super) fn create(path: PathBuf, bytes: &[u8]) -> Result<Self, OutputError> {
        let fail = |source| OutputError::from_io("create", &path, source);
        before(&Step::Create(&path)).map_err(fail)?;
        let file = File::create(&path).map_err(fail)?;
        let mut part = Self { path, file, len: 0, dirty: true };
        part.append(bytes)?;
        part.sync()?;
        Ok(part)
    }

    /// An earlier file, of which the first `len` bytes are true; what is after them is cut off.
    pub(super) fn open(path: PathBuf, len: u64) -> Result<Self, OutputError> {
        let fail = |source| OutputError::from_io("open", &path, source);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(fail)?;
        let there = file.metadata().map_err(fail)?.len();
        if there < len {
            let reason = format!("{there} bytes, where {len} were written");
            return Err(OutputError::Damaged { path, reason });
        }
        file.set_len(len).map_err(fail)?;
        file.seek(SeekFrom::Start(len)).map_err(fail)?;
        Ok(Self { path, file, len, dirty: there > len })
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends; durable after [`Part::sync`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let fail = |source| OutputError::from_io("write to", &self.path, source);
        before(&Step::Append(&self.path, bytes)).map_err(fail)?;
        self.dirty = true;
        self.file.write_all(bytes).map_err(fail)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), OutputError> {
        if self.dirty {
            sync_file(&self.path, &self.file)?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Makes a file's bytes and length durable.
pub(super) fn sync_file(path: &Path, file: &File) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("sync", path, source);
    before(&Step::SyncFile(path)).map_err(fail)?;
    file.sync_data().map_err(fail)
}

/// A whole new file, durable under its name once the folder is synced; a crash leaves the old one or the new one.
pub(super) fn replace(path: &Path, draft: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    Part::create(draft.to_owned(), bytes)?;
    rename(draft, path)
}

/// Renames, replacing what was there.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("rename a file to", to, source);
    before(&Step::Rename(from, to)).map_err(fail)?;
    fs::rename(from, to).map_err(fail)
}

/// Makes names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("sync folder", path, source);
    before(&Step::SyncFolder(path)).map_err(fail)?;
    // Elsewhere folders cannot be opened as files, and renames are journaled by the system.
    #[cfg(unix)]
    File::open(path).and_then(|folder| folder.sync_all()).map_err(fail)?;
    Ok(())
}

/// Makes a folder, whose parent is there; it may be there itself.
pub(super) fn make_folder(path: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("make folder", path, source);
    if path.is_dir() {
        return Ok(());
    }
    before(&Step::Create(path)).map_err(fail)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fail(error)),
        _ => Ok(()),
    }
}

/// Removes a folder, however deep it is: what a script made can be deeper than a stack or a path may be, so folders further
/// down are moved up on the way. Links are not followed.
///
/// # Errors
/// If something in it cannot be read or removed.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    let mut left = Vec::new();
    empty(folder, |inner| {
        left.push(inner);
        Ok(())
    })?;
    let mut moved = 0_u64;
    while let Some(next) = left.pop() {
        empty(&next, |inner| {
            // A name that is taken is another folder's, which has files in it.
            let up = loop {
                moved += 1;
                let up = folder.join(format!(".gone-{moved}"));
                match fs::symlink_metadata(&up) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break up,
                    _ => {}
                }
            };
            fs::rename(&inner, &up)?;
            left.push(up);
            Ok(())
        })?;
        fs::remove_dir(&next)?;
    }
    fs::remove_dir(folder)
}

/// Removes all of a folder but its own folders, which `keep` is given.
fn empty(folder: &Path, mut keep: impl FnMut(PathBuf) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            keep(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, a link, or a folder with all that is in it; links are not followed. It may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("remove", path, source);
    let Some(kind) = kind(path)? else { return Ok(()) };
    before(&Step::Remove(path)).map_err(fail)?;
    let removed = if kind.is_dir() { remove_tree(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
        _ => Ok(()),
    }
}

/// What is at a path, not following links; none if nothing is.
pub(super) fn kind(path: &Path) -> Result<Option<fs::FileType>, OutputError> {
    match fs::symlink_metadata(path) {
        Ok(data) => Ok(Some(data.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OutputError::from_io("look at", path, error)),
    }
}
