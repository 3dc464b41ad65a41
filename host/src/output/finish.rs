//! The end of an output: parts become the final files, or stay for a resume.
//!
//! Every step is safe to be killed after, and safe to do again: the marker `finishing` says that all is committed;
//! files take their final names; `job.json`, last, says that the output is complete; the journal goes first of what is
//! then removed, so that its presence always means there is something to resume.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::OutputError;
use super::commit::{Output, Parts, is_converted};
use super::disk::{self, Part};

impl Output {
    /// Ends a job whose mini-batches are all committed: the final files appear, then `job.json` with `record`.
    ///
    /// # Errors
    /// If an earlier commit failed, or the disk refuses; it can be resumed and finished then.
    pub fn finish(self, record: &Value) -> Result<(), OutputError> {
        let (folder, hidden) = (self.options.folder.clone(), self.hidden.clone());
        let converted = is_converted(self.options.format);
        if self.is_broken()? {
            return Err(OutputError::Closed { folder });
        }
        if let Some(part) = self.parts.predictions.as_ref().filter(|_| converted) {
            convert(part, &hidden, self.schema.as_ref())?;
        }
        Part::create(hidden.join("finishing"), b"")?;
        disk::sync_folder(&hidden)?;
        let Parts { predictions, errors, mini_batches, journal } = self.parts;
        for (part, name) in
            [(errors, "errors.csv"), (mini_batches, "mini_batches.csv"), (predictions, self.options.file_name.as_str())]
        {
            // A part that is missing got its name before the job was killed.
            let Some(part) = part else { continue };
            let predictions = part.path().ends_with("predictions.part");
            let from = if predictions && converted { hidden.join("predictions.final") } else { part.path().to_owned() };
            drop(part);
            disk::rename(&from, &folder.join(name))?;
        }
        disk::sync_folder(&folder)?;
        write_record(&folder, &hidden, record)?;
        drop(journal);
        remove_hidden(&folder, &hidden)
    }

    /// Ends a job that stopped before its end: `record`, and what is known of errors and mini-batches, can be read
    /// beside; the rows stay hidden, for [`Output::resume`].
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn suspend(self, record: &Value) -> Result<(), OutputError> {
        let (folder, hidden) = (&self.options.folder, &self.hidden);
        for (part, name) in [(&self.parts.errors, "errors.csv"), (&self.parts.mini_batches, "mini_batches.csv")] {
            // Killed while finishing, it has its final name already.
            let Some(part) = part else { continue };
            let mut bytes = Vec::new();
            File::open(part.path())
                .and_then(|file| file.take(part.len()).read_to_end(&mut bytes))
                .map_err(|error| OutputError::from_io("read", part.path(), error))?;
            disk::replace(&folder.join(name), &hidden.join("copy.draft"), &bytes)?;
        }
        write_record(folder, hidden, record)
    }

    /// Whether a commit failed; a job that was killed while finishing is closed, but whole.
    fn is_broken(&self) -> Result<bool, OutputError> {
        Ok(self.is_closed() && disk::kind(&self.hidden.join("finishing"))?.is_none())
    }
}

fn write_record(folder: &Path, hidden: &Path, record: &Value) -> Result<(), OutputError> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("JSON values are written as they are; this is a bug");
    bytes.push(b'\n');
    disk::replace(&folder.join("job.json"), &hidden.join("job.draft"), &bytes)?;
    disk::sync_folder(folder)
}

/// Removes `.scorehost`, the journal first.
pub(super) fn remove_hidden(folder: &Path, hidden: &Path) -> Result<(), OutputError> {
    disk::remove(&hidden.join("journal"))?;
    disk::sync_folder(hidden)?;
    let fail = |source| OutputError::from_io("list", hidden, source);
    // The lock last: while its name is there, others wait for us and not for a file that is gone.
    let mut paths = fs::read_dir(hidden)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .map_err(fail)?;
    paths.sort_by_key(|path| path.ends_with("lock"));
    for path in paths {
        disk::remove(&path)?;
    }
    disk::remove(hidden)?;
    disk::sync_folder(folder)
}

#[cfg(feature = "parquet")]
fn convert(part: &Part, hidden: &Path, schema: Option<&super::format::Schema>) -> Result<(), OutputError> {
    super::parquet::convert(part, &hidden.join("predictions.final"), schema)
}

#[cfg(not(feature = "parquet"))]
fn convert(_: &Part, _: &Path, _: Option<&super::format::Schema>) -> Result<(), OutputError> {
    unreachable!("such an output is refused when it is made; this is a bug")
}
