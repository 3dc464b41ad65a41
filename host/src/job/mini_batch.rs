//! One mini-batch's files, and what its score becomes: rows and errors that can be committed.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::tally::failed_files;
use crate::fault;
use crate::output::{Done, ErrorRow};
use crate::row::{Cells, FailedFile, Rows};
use crate::script::{RunOutput, ScriptError};

/// A mini-batch that is ready to be committed.
pub(super) struct Scored {
    pub(super) done: Done,
    pub(super) device_time: Duration,
    /// Of its files.
    pub(super) input_bytes: u64,
    /// When it was begun.
    pub(super) started: SystemTime,
    /// Why each attempt but the last failed.
    pub(super) retried: Vec<&'static str>,
    /// About how much memory it takes.
    pub(super) bytes: usize,
}

/// Bytes that the repetitions of one mini-batch's error may take, unless each would be too short to say anything.
const MAX_REPEATED_BYTES: usize = 4 << 20;
const MIN_MESSAGE_BYTES: usize = 256;

/// When and how long a mini-batch was scored.
pub(super) struct Timing {
    pub(super) started: SystemTime,
    pub(super) seconds: f64,
    pub(super) device_time: Duration,
    pub(super) input_bytes: u64,
    pub(super) attempts: u32,
    pub(super) retried: Vec<&'static str>,
}

/// One mini-batch: the files that the script gets, and those whose names it cannot be given.
pub(super) struct MiniBatch<'a> {
    pub(super) index: u64,
    names: &'a [&'a [u8]],
    /// Names for the script, which are Unicode in the contract.
    pub(super) files: Vec<String>,
    /// For each of `files`, its place in `names`.
    places: Vec<usize>,
}

impl<'a> MiniBatch<'a> {
    pub(super) fn new(index: u64, names: &'a [&'a [u8]]) -> Self {
        let unicode = |(i, name): (usize, &&[u8])| Some((std::str::from_utf8(name).ok()?.to_owned(), i));
        let (files, places) = names.iter().enumerate().filter_map(unicode).unzip();
        Self { index, names, files, places }
    }

    pub(super) fn succeeded(
        &self,
        output: RunOutput,
        staged: Option<PathBuf>,
        timing: Timing,
        rows_count: bool,
    ) -> Scored {
        let mut errors = self.unnameable();
        let named = output.failed.len();
        for FailedFile { index, reason } in &output.failed {
            let name = self.places.get(*index as usize).map_or_else(String::new, |&i| shown(self.names[i]));
            errors.push(error_row(&name, timing.attempts, "file", reason));
        }
        let failed = failed_files(self.files.len(), named, output.rows.len(), rows_count);
        if failed > named {
            let message = format!("{failed} of {} files gave no row, and none was named as failed", self.files.len());
            errors.push(error_row("", timing.attempts, "missing_rows", &message));
        }
        let failed = failed + self.names.len() - self.files.len();
        let bytes = byte_count(&output.rows) + error_bytes(&errors);
        self.scored(Outcome { rows: Some(output.rows), errors, failed, staged, bytes }, timing)
    }

    pub(super) fn failed(&self, error: &ScriptError, timing: Timing) -> Scored {
        let message = fault::chain(error);
        // Once for each file: a long message of a large mini-batch would be gigabytes.
        let most = (MAX_REPEATED_BYTES / self.files.len().max(1)).max(MIN_MESSAGE_BYTES);
        let message = &message[..message.floor_char_boundary(most)];
        let mut errors = self.unnameable();
        for file in &self.files {
            errors.push(error_row(file, timing.attempts, error.kind(), message));
        }
        let bytes = error_bytes(&errors);
        self.scored(Outcome { rows: None, errors, failed: self.names.len(), staged: None, bytes }, timing)
    }

    fn unnameable(&self) -> Vec<ErrorRow> {
        let bad = self.names.iter().filter(|name| std::str::from_utf8(name).is_err());
        bad.map(|name| error_row(&shown(name), 0, "name", "the file's name is not UTF-8, which scripts need")).collect()
    }

    fn scored(&self, outcome: Outcome, timing: Timing) -> Scored {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Scored {
            device_time: timing.device_time,
            input_bytes: timing.input_bytes,
            started: timing.started,
            retried: timing.retried,
            bytes: outcome.bytes,
            done: Done {
                index: self.index,
                files: count(self.names.len()),
                failed: count(outcome.failed),
                rows: outcome.rows,
                errors: outcome.errors,
                attempts: timing.attempts,
                started: humantime::format_rfc3339_millis(timing.started).to_string(),
                seconds: timing.seconds,
                device_seconds: timing.device_time.as_secs_f64(),
                staged: outcome.staged,
            },
        }
    }
}

struct Outcome {
    rows: Option<Rows>,
    errors: Vec<ErrorRow>,
    failed: usize,
    staged: Option<PathBuf>,
    bytes: usize,
}

/// About how much memory errors take.
fn error_bytes(errors: &[ErrorRow]) -> usize {
    errors.iter().map(|error| error.file.len() + error.message.len() + 64).sum()
}

/// About how much memory rows take.
fn byte_count(rows: &Rows) -> usize {
    let cells = |cells: &Cells| match cells {
        Cells::Booleans(v) => v.len(),
        Cells::Integers(v) => v.len() * 8,
        Cells::Numbers(v) => v.len() * 8,
        Cells::Texts(v) => v.iter().map(|text| text.capacity() + 24).sum(),
    };
    rows.columns().iter().map(|column| cells(&column.cells)).sum()
}

pub(super) fn error_row(file: &str, attempts: u32, kind: &str, message: &str) -> ErrorRow {
    ErrorRow { file: file.to_owned(), attempts, kind: kind.to_owned(), message: message.to_owned() }
}

/// A file's name as tables print it; bytes that are not UTF-8 as `\xff`.
pub(super) fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.utf8_chunks().fold(String::new(), |mut all, chunk| {
            all.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| all.push_str(&format!("\\x{byte:02x}")));
            all
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_shorter_where_it_is_repeated_for_many_files() {
        for (files, bytes) in [(1, 4000), (1000, 4000), (100_000, MIN_MESSAGE_BYTES)] {
            let names = vec![b"name".as_slice(); files];
            let (started, device_time) = (SystemTime::UNIX_EPOCH, Duration::ZERO);
            let timing =
                Timing { started, seconds: 0.0, device_time, input_bytes: 0, attempts: 1, retried: Vec::new() };
            let error = ScriptError::Trap { reason: "x".repeat(4000 - "the script trapped: ".len()) };
            let errors = MiniBatch::new(0, &names).failed(&error, timing).done.errors;
            assert_eq!(errors.len(), files);
            assert!(errors.iter().all(|error| error.message.len() == bytes), "{files}: {}", errors[0].message.len());
        }
    }
}
