//! Files that a script wrote itself, on their way into the output folder.
//!
//! The script chose their names, so the names are checked: none that the job writes, no links, bounded in number and
//! depth.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::disk;
use super::open::{HIDDEN, OWN};
use super::{OutputError, OutputOptions};

/// More files than this from one mini-batch are a runaway script.
const MAX_FILES: usize = 100_000;
/// Deeper than any sensible layout, and shallow enough to walk.
const MAX_DEPTH: usize = 32;

/// Whether every file below `folder` may be moved into the output after those below the folders `before`, which were
/// checked in their turn: the answer must not depend on how mini-batches are grouped.
pub(super) fn check(options: &OutputOptions, folder: &Path, before: &[PathBuf]) -> Result<(), OutputError> {
    walk(folder)?.iter().try_for_each(|(inside, is_dir)| refuse_conflict(options, inside, *is_dir, before))
}

/// Moves every file below `folder` into the output, durably. Doing it again after a crash gives the same files.
pub(super) fn publish(options: &OutputOptions, folder: &Path, hidden: &Path) -> Result<(), OutputError> {
    let mut touched = vec![options.folder.clone()];
    for (inside, is_dir) in walk(folder)? {
        // Checked again: what is in the output, or staged, may have changed since.
        refuse_conflict(options, &inside, is_dir, &[])?;
        let to = options.folder.join(&inside);
        if is_dir {
            disk::make_folder(&to)?;
            touched.push(to);
        } else {
            move_file(&folder.join(&inside), &to, hidden)?;
        }
    }
    touched.iter().try_for_each(|folder| disk::sync_folder(folder))
}

fn move_file(from: &Path, to: &Path, hidden: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("sync", from, source);
    disk::sync_file(from, &File::open(from).map_err(fail)?)?;
    match disk::rename(from, to) {
        Err(OutputError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
            let draft = hidden.join("staged.draft");
            // Not `fs::copy`, which sets the mode as well: a confined process may not.
            let copied = File::create(&draft).and_then(|mut draft| io::copy(&mut File::open(from)?, &mut draft));
            copied.map_err(|source| OutputError::from_io("copy a file to", to, source))?;
            disk::sync_file(&draft, &File::open(&draft).map_err(fail)?)?;
            disk::rename(&draft, to)
        }
        other => other,
    }
}

/// An error if this file or folder may not be in the output, for what is there or will be there `before` it.
fn refuse_conflict(
    options: &OutputOptions,
    inside: &Path,
    is_dir: bool,
    before: &[PathBuf],
) -> Result<(), OutputError> {
    let refuse = |reason| Err(OutputError::Staged { path: inside.to_owned(), reason });
    let top = inside.iter().next().unwrap_or_default().to_string_lossy().to_lowercase();
    let predictions = options.keep_rows && top == options.file_name.to_lowercase();
    if predictions || top == HIDDEN || top == "report.html" || OWN.contains(&top.as_str()) {
        return refuse("has the name of a file that the job writes");
    }
    for folder in [&options.folder].into_iter().chain(before) {
        match disk::kind(&folder.join(inside))? {
            Some(there) if is_dir && !there.is_dir() => return refuse("would be below a file of the output"),
            Some(there) if !is_dir && there.is_dir() => return refuse("has the name of a folder of the output"),
            _ => {}
        }
    }
    Ok(())
}

/// How many files and folders there are in the output but those that the job writes, and their bytes.
pub(super) fn count(options: &OutputOptions) -> Result<(u64, u64), OutputError> {
    let (mut entries, mut bytes) = (0u64, 0u64);
    let mut open = vec![options.folder.clone()];
    while let Some(here) = open.pop() {
        let fail = |source| OutputError::from_io("list", &here, source);
        for entry in fs::read_dir(&here).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let is_own = |own: &str| name == *own;
            if here == options.folder && OWN.into_iter().chain([HIDDEN, "report.html"]).any(is_own) {
                continue;
            }
            // Of a link itself, not of what it names.
            let found = entry.metadata().map_err(fail)?;
            entries = entries.saturating_add(1);
            if found.is_dir() {
                open.push(entry.path());
            } else {
                bytes = bytes.saturating_add(found.len());
            }
        }
    }
    Ok((entries, bytes))
}

/// Every file and folder below `folder`, relative to it, sorted, folders before what is in them.
fn walk(folder: &Path) -> Result<Vec<(PathBuf, bool)>, OutputError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let here = folder.join(&inside);
        let fail = |source| OutputError::from_io("list", &here, source);
        for entry in fs::read_dir(&here).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let (path, kind) = (inside.join(entry.file_name()), entry.file_type().map_err(fail)?);
            if !kind.is_dir() && !kind.is_file() {
                return Err(OutputError::Staged { path, reason: "is neither a file nor a folder" });
            }
            if found.len() >= MAX_FILES {
                return Err(OutputError::Staged { path, reason: "is one more than 100000, the most there may be" });
            }
            if kind.is_dir() {
                if path.iter().count() > MAX_DEPTH {
                    return Err(OutputError::Staged { path, reason: "is nested deeper than 32 folders" });
                }
                open.push(path.clone());
            }
            found.push((path, kind.is_dir()));
        }
    }
    found.sort();
    Ok(found)
}
