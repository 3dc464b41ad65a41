//! Beginning an output, and coming back to one: what is refused, what is removed, what is cut off.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::commit::{ERROR_HEADER, MINI_BATCH_HEADER, Output, Parts};
use super::disk::{self, Part};
use super::journal::{self, Counts, Lengths, Start, VERSION};
use super::{Existing, OutputError, OutputOptions};

/// Files and folders that a job writes beside the predictions.
pub(super) const OWN: [&str; 4] = ["job.json", "errors.csv", "mini_batches.csv", "logs"];
/// Where everything is until the job ends.
pub(super) const HIDDEN: &str = ".scorehost";
/// A plan of a hundred million files fits; what is larger is no plan.
const MAX_FILE: u64 = 16 << 30;

/// How much there is of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing that could be continued.
    Not,
    /// It can be continued.
    Partly,
    /// All of it.
    Complete,
}

/// Looks into an output folder that nobody writes now, and changes nothing.
///
/// # Errors
/// If the disk refuses.
pub fn begun(folder: &Path) -> Result<Begun, OutputError> {
    let hidden = folder.join(HIDDEN);
    Ok(if disk::kind(&hidden.join("journal"))?.is_some() {
        Begun::Partly
    } else if disk::kind(&folder.join("job.json"))?.is_some() {
        // What is left of the hidden folder goes last, and its journal first.
        Begun::Complete
    } else {
        Begun::Not
    })
}

/// An output that was begun before.
#[derive(Debug)]
pub struct Resumed {
    /// The output, ready for mini-batch `next`.
    pub output: Output,
    /// The plan that it was begun with.
    pub plan: Vec<u8>,
    /// The header that it was begun with.
    pub header: Value,
    /// The first mini-batch that is not committed.
    pub next: u64,
    /// What is committed.
    pub counts: Counts,
}

/// Holds the output folder for this process, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing the file would not do while a process is being started: until it runs its program, it has the file open
    /// too, and with it the lock. Where this fails, closing does.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Output {
    /// Whether [`Output::create`] or [`Output::resume`] would refuse what is in the folder: asked before anything that
    /// takes long. Changes nothing.
    ///
    /// # Errors
    /// Their refusals, as far as a look tells.
    pub fn check(options: &OutputOptions) -> Result<(), OutputError> {
        options.format.check()?;
        is_output_folder(&options.folder)?;
        if options.existing != Existing::Resume {
            return refuse_existing(options);
        }
        let folder = options.folder.clone();
        match (folder.join(HIDDEN).is_dir(), folder.join("job.json").is_file()) {
            (true, _) => Ok(()),
            (false, true) => Err(OutputError::AlreadyComplete { folder }),
            (false, false) => Err(OutputError::Nothing { folder }),
        }
    }

    /// Begins an output; `plan` and `header` are kept for [`Output::resume`], as they are.
    ///
    /// # Errors
    /// If there is an output and it may not be overwritten, if another process writes it, if this build cannot write
    /// the format, or if the disk refuses.
    pub fn create(options: OutputOptions, plan: &[u8], header: &Value) -> Result<Self, OutputError> {
        options.format.check()?;
        make_output_folder(&options.folder)?;
        // Before the lock too: an output that is complete is left as it is, without a `.scorehost`.
        refuse_existing(&options)?;
        let hidden = options.folder.join(HIDDEN);
        let lock = lock(&hidden, &options.folder)?;
        refuse_existing(&options)?;
        if options.existing == Existing::Overwrite {
            remove_output(&options, &hidden)?;
        }
        clear(&hidden)?;
        let header = serde_json::to_vec(header).expect("JSON values are written as they are; this is a bug");
        Part::create(hidden.join("plan"), plan)?;
        Part::create(hidden.join("header.json"), &header)?;
        let predictions =
            if options.keep_rows { Some(Part::create(hidden.join("predictions.part"), b"")?) } else { None };
        let errors = Part::create(hidden.join("errors.part"), ERROR_HEADER)?;
        let mini_batches = Part::create(hidden.join("mini_batches.part"), MINI_BATCH_HEADER)?;
        let start = start(&options, crc32fast::hash(plan), crc32fast::hash(&header));
        // The journal comes last and whole: an output without one was never begun.
        let mut line = Vec::new();
        journal::write_line(&start, &mut line);
        disk::replace(&hidden.join("journal"), &hidden.join("journal.draft"), &line)?;
        disk::sync_folder(&hidden)?;
        disk::sync_folder(&options.folder)?;
        let journal = Part::open(hidden.join("journal"), line.len() as u64)?;
        let parts = Parts { predictions, errors: Some(errors), mini_batches: Some(mini_batches), journal };
        Ok(Self::new(options, lock, parts))
    }

    /// Comes back to an output that was begun and not finished. What was not committed is cut off; what was is kept.
    ///
    /// # Errors
    /// If there is none ([`OutputError::Nothing`]), it is complete ([`OutputError::AlreadyComplete`]), another process
    /// writes it, it was begun with other options or by another version, or what is there is not what was written.
    pub fn resume(options: OutputOptions) -> Result<Resumed, OutputError> {
        options.format.check()?;
        let folder = options.folder.clone();
        let hidden = folder.join(HIDDEN);
        let complete = || folder.join("job.json").is_file();
        let ended = || {
            let folder = folder.clone();
            if complete() { OutputError::AlreadyComplete { folder } } else { OutputError::Nothing { folder } }
        };
        if !hidden.is_dir() {
            return Err(ended());
        }
        let lock = lock(&hidden, &folder)?;
        let path = hidden.join("journal");
        if disk::kind(&path)?.is_none() {
            if complete() {
                // Killed after the last file was in place.
                super::finish::remove_hidden(&folder, &hidden)?;
            }
            return Err(ended());
        }
        let read = journal::read(&path)?;
        refuse_changed(&read.start, &options)?;
        let plan = checked(hidden.join("plan"), read.start.plan)?;
        let header_path = hidden.join("header.json");
        let header = serde_json::from_slice(&checked(header_path.clone(), read.start.header)?)
            .map_err(|error| OutputError::Damaged { path: header_path, reason: error.to_string() })?;
        let finishing = disk::kind(&hidden.join("finishing"))?.is_some();
        let lengths = read.last.as_ref().map_or_else(first_lengths, |last| last.lengths);
        let parts = open_parts(&options, &hidden, &lengths, finishing, Part::open(path, read.len)?)?;
        if !finishing {
            // Left by a suspension, they would speak of a job that has ended. The journal stays, so nothing is lost.
            for name in ["job.json", "errors.csv", "mini_batches.csv"] {
                disk::remove(&folder.join(name))?;
            }
        }
        disk::remove(&hidden.join("staged"))?;
        let counts = read.last.as_ref().map_or_else(Counts::default, |last| last.counts);
        let mut output = Self::new(options, lock, parts);
        let next = read.last.map_or(0, |last| last.next);
        output.restore(next, counts, read.schema, finishing);
        Ok(Resumed { output, plan, header, next, counts })
    }
}

fn start(options: &OutputOptions, plan: u32, header: u32) -> Start {
    let file_name = options.file_name.clone();
    Start { version: VERSION, format: options.format, file_name, keep_rows: options.keep_rows, plan, header }
}

fn first_lengths() -> Lengths {
    Lengths { predictions: 0, errors: ERROR_HEADER.len() as u64, mini_batches: MINI_BATCH_HEADER.len() as u64 }
}

/// The parts as the journal knows them. One that is missing has its final name already, if the job was finishing.
fn open_parts(
    options: &OutputOptions,
    hidden: &Path,
    lengths: &Lengths,
    finishing: bool,
    journal: Part,
) -> Result<Parts, OutputError> {
    let open = |part: &str, last: &str, len: u64, whole: bool| {
        let path = hidden.join(part);
        if !finishing || disk::kind(&path)?.is_some() {
            return Part::open(path, len).map(Some);
        }
        let path = options.folder.join(last);
        let there = fs::metadata(&path).map_err(|error| OutputError::from_io("look at", &path, error))?.len();
        if whole && there != len {
            let reason = format!("{there} bytes, where {len} were written");
            return Err(OutputError::Damaged { path, reason });
        }
        Ok(None)
    };
    let predictions = if options.keep_rows {
        let converted = options.format == super::Format::Parquet;
        open("predictions.part", &options.file_name, lengths.predictions, !converted)?
    } else {
        None
    };
    let errors = open("errors.part", "errors.csv", lengths.errors, true)?;
    let mini_batches = open("mini_batches.part", "mini_batches.csv", lengths.mini_batches, true)?;
    Ok(Parts { predictions, errors, mini_batches, journal })
}

fn refuse_changed(start: &Start, options: &OutputOptions) -> Result<(), OutputError> {
    let now = self::start(options, start.plan, start.header);
    let changed = |what, before: &str, now: &str| {
        Err(OutputError::Changed { what, before: before.to_owned(), now: now.to_owned() })
    };
    if start.format != now.format {
        return changed("output_format", start.format.name(), now.format.name());
    }
    if start.keep_rows != now.keep_rows {
        let action = |keep| if keep { "append_row" } else { "summary_only" };
        return changed("output_action", action(start.keep_rows), action(now.keep_rows));
    }
    if start.file_name != now.file_name {
        return changed("output_file_name", &start.file_name, &now.file_name);
    }
    Ok(())
}

/// The output folder, there from now on; gone again when this is dropped, if nothing came into it.
#[derive(Debug)]
pub struct MadeFolder(Option<PathBuf>);

impl MadeFolder {
    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or its place is taken.
    pub fn make(folder: &Path) -> Result<Self, OutputError> {
        let is_new = !is_output_folder(folder)?;
        make_output_folder(folder)?;
        Ok(Self(is_new.then(|| folder.to_owned())))
    }
}

impl Drop for MadeFolder {
    /// Only an empty folder can be removed like this.
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(fs::remove_dir);
    }
}

fn make_output_folder(folder: &Path) -> Result<(), OutputError> {
    if is_output_folder(folder)? {
        return Ok(());
    }
    disk::make_folder(folder)?;
    parent(folder).map_or(Ok(()), disk::sync_folder)
}

fn parent(folder: &Path) -> Option<&Path> {
    folder.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Whether the folder is there, or, where it is not, can be made.
fn is_output_folder(folder: &Path) -> Result<bool, OutputError> {
    match fs::metadata(folder) {
        Ok(data) if data.is_dir() => return Ok(true),
        Ok(_) => return Err(OutputError::NotAFolder { path: folder.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(OutputError::MissingParent { folder: folder.to_owned() });
        }
        Err(error) => return Err(OutputError::from_io("look at", folder, error)),
    }
    match parent(folder) {
        Some(parent) if parent.is_dir() => Ok(false),
        _ => Err(OutputError::MissingParent { folder: folder.to_owned() }),
    }
}

fn refuse_existing(options: &OutputOptions) -> Result<(), OutputError> {
    if options.existing == Existing::Overwrite {
        return Ok(());
    }
    let predictions = options.keep_rows.then_some(options.file_name.as_str());
    let files = predictions.into_iter().chain(OWN.into_iter().filter(|name| *name != "logs"));
    let journal = options.folder.join(HIDDEN).join("journal");
    for path in files.map(|name| options.folder.join(name)).chain([journal]) {
        if disk::kind(&path)?.is_some() {
            return Err(OutputError::Exists { path });
        }
    }
    Ok(())
}

/// Takes the lock file, and with it the folder.
fn lock(hidden: &Path, folder: &Path) -> Result<Lock, OutputError> {
    let path = hidden.join("lock");
    // A process that ends between our opening and our locking removes the file that we have open.
    for _ in 0..8 {
        disk::make_folder(hidden)?;
        let fail = |source| OutputError::from_io("lock", &path, source);
        let file = match File::options().write(true).create(true).truncate(false).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(fail)?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => return Ok(Lock { file }),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
    Err(OutputError::Busy { folder: folder.to_owned() })
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(theirs)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes what a job writes, and nothing else. Killed on the way, what is left is the old job, or an output that
/// [`Existing::Refuse`] still refuses, or none.
fn remove_output(options: &OutputOptions, hidden: &Path) -> Result<(), OutputError> {
    let earlier = earlier_predictions(&options.folder);
    disk::remove(&options.folder.join("job.json"))?;
    disk::sync_folder(&options.folder)?;
    disk::remove(&hidden.join("journal"))?;
    disk::sync_folder(hidden)?;
    for name in OWN.into_iter().chain(["report.html"]) {
        disk::remove(&options.folder.join(name))?;
    }
    for name in options.keep_rows.then(|| options.file_name.clone()).into_iter().chain(earlier) {
        disk::remove(&options.folder.join(name))?;
    }
    Ok(())
}

/// The predictions file that the output to be replaced names, which may be called otherwise than the new one.
fn earlier_predictions(folder: &Path) -> Option<String> {
    let record: Value = serde_json::from_slice(&fs::read(folder.join("job.json")).ok()?).ok()?;
    let name = record.get("predictions")?.as_str()?;
    // A record is a file that anybody may have written.
    let is_plain = Path::new(name).file_name().is_some_and(|plain| plain == name);
    is_plain.then(|| name.to_owned())
}

/// Removes all but the lock: what an output left that was killed while it was begun.
fn clear(hidden: &Path) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("list", hidden, source);
    for entry in fs::read_dir(hidden).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.file_name().is_some_and(|name| name != "lock") {
            disk::remove(&path)?;
        }
    }
    Ok(())
}

/// A whole file that has this CRC-32.
fn checked(path: PathBuf, crc: u32) -> Result<Vec<u8>, OutputError> {
    let fail = |source| OutputError::from_io("read", &path, source);
    let mut bytes = Vec::new();
    File::open(&path).map_err(fail)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(fail)?;
    if crc32fast::hash(&bytes) == crc {
        Ok(bytes)
    } else {
        Err(OutputError::Damaged { path, reason: "its checksum is not the one that was written".to_owned() })
    }
}
