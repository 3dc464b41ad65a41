//! Appending finished mini-batches, durably, in plan order.
//!
//! A group is committed in this order: files that scripts wrote are moved into place, the parts grow and are synced,
//! the journal grows and is synced. Killed before the last step, the group was never committed, and is done again:
//! moved files are then replaced by the same files, and the parts are cut back.

use std::path::{Path, PathBuf};

use super::disk::Part;
use super::format::Schema;
use super::journal::{self, Counts, Lengths, Record};
use super::open::{HIDDEN, Lock};
use super::{Done, Format, OutputError, OutputOptions, staged};
use crate::row::Rows;
use crate::table::write::delimited::field;

/// The first lines of the two tables.
pub(super) const ERROR_HEADER: &[u8] = b"file,mini_batch,attempts,kind,message\n";
pub(super) const MINI_BATCH_HEADER: &[u8] = b"index,files,rows,attempts,start,seconds,device_seconds\n";
/// A message longer than this says no more; scripts write them.
const MAX_MESSAGE: usize = 4 << 10;

/// The files of a running job.
#[derive(Debug)]
pub(super) struct Parts {
    /// None if rows are dropped, or if it has its final name already.
    pub(super) predictions: Option<Part>,
    pub(super) errors: Option<Part>,
    pub(super) mini_batches: Option<Part>,
    pub(super) journal: Part,
}

/// The output of one job, which this process alone writes.
#[derive(Debug)]
pub struct Output {
    pub(super) options: OutputOptions,
    pub(super) hidden: PathBuf,
    pub(super) parts: Parts,
    /// Of the rows accepted so far; those of the last few may not be committed.
    pub(super) schema: Option<Schema>,
    /// Whether it is other than the journal says: the next commit is to write it there.
    schema_is_new: bool,
    /// The folders accepted since the last commit, which will be in the output before those asked about next.
    staged: Vec<PathBuf>,
    next: u64,
    counts: Counts,
    /// Whether nothing may be committed any more.
    closed: bool,
    #[expect(dead_code, reason = "holding it is what it is for; last, so that it is dropped after the files")]
    lock: Lock,
}

impl Output {
    pub(super) fn new(options: OutputOptions, lock: Lock, parts: Parts) -> Self {
        let hidden = options.folder.join(HIDDEN);
        let counts = Counts::default();
        let (schema, schema_is_new, staged) = (None, false, Vec::new());
        Self { options, hidden, parts, schema, schema_is_new, staged, next: 0, counts, closed: false, lock }
    }

    /// Takes up where a journal ended.
    pub(super) fn restore(&mut self, next: u64, counts: Counts, schema: Option<Schema>, closed: bool) {
        (self.next, self.counts, self.schema, self.closed) = (next, counts, schema, closed);
    }

    /// What is committed.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The mini-batch that is to be committed next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether nothing may be committed any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A place for the files that scripts write before they are committed, on the same disk as the output. It is not
    /// made; it is emptied on resume, and goes when the job is finished.
    pub fn staging_folder(&self) -> PathBuf {
        self.hidden.join("staged")
    }

    /// Asked in plan order, for the mini-batches of the next commit: whether the format can hold these rows beside those
    /// before. The first rows settle the columns; a column without a cell there takes its type from the first rows that
    /// have one. That holds even if the rows are dropped then, for another reason.
    ///
    /// # Errors
    /// [`OutputError::Columns`]: the mini-batch has failed, and is to be committed without rows.
    pub fn accept(&mut self, rows: &Rows) -> Result<(), OutputError> {
        if rows.is_empty() || !self.options.keep_rows || !self.options.format.is_fixed() {
            return Ok(());
        }
        let schema = Schema::of(rows);
        match &mut self.schema {
            Some(known) => {
                known.admit(&schema)?;
                self.schema_is_new |= known.learn(schema);
            }
            None => {
                schema.check()?;
                self.schema = Some(schema);
                self.schema_is_new = true;
            }
        }
        Ok(())
    }

    /// How many files and folders scripts have in the output, and their bytes. Others that lie there count as well.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn script_files(&self) -> Result<(u64, u64), OutputError> {
        staged::count(&self.options)
    }

    /// Bytes of rows, errors and mini-batches so far, and of what scripts have in the output.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn bytes(&self) -> Result<u64, OutputError> {
        let Parts { predictions, errors, mini_batches, journal: _ } = &self.parts;
        let parts = [predictions, errors, mini_batches].into_iter().flatten().map(Part::len).sum::<u64>();
        // Scripts write files only where rows are dropped.
        let theirs = if self.options.keep_rows { 0 } else { self.script_files()?.1 };
        Ok(parts.saturating_add(theirs))
    }

    /// Asked in plan order, for the mini-batches of the next commit: whether the files below `folder`, which a script
    /// wrote, may be moved into the output. They may replace each other, but not what the job writes, nor be links, nor
    /// be folders where earlier mini-batches have files. An accepted folder is to be committed.
    ///
    /// # Errors
    /// [`OutputError::Staged`]: the mini-batch has failed, and is to be committed without the folder.
    pub fn accept_staged(&mut self, folder: &Path) -> Result<(), OutputError> {
        staged::check(&self.options, folder, &self.staged)?;
        self.staged.push(folder.to_owned());
        Ok(())
    }

    /// Commits a group of mini-batches, the next ones of the plan; durable when it returns.
    ///
    /// # Errors
    /// If they are not the next ones, a row was not accepted, or the disk refuses; after that, nothing can be
    /// committed until the job is resumed.
    pub fn commit(&mut self, group: &[Done]) -> Result<(), OutputError> {
        if self.closed {
            return Err(OutputError::Closed { folder: self.options.folder.clone() });
        }
        if group.is_empty() {
            return Ok(());
        }
        let result = self.try_commit(group);
        self.closed = result.is_err();
        result
    }

    fn try_commit(&mut self, group: &[Done]) -> Result<(), OutputError> {
        let Self { options, parts: Parts { predictions, errors, mini_batches, journal }, .. } = self;
        let (Some(errors), Some(mini_batches)) = (errors, mini_batches) else {
            return Err(OutputError::Closed { folder: options.folder.clone() });
        };
        let mut lengths = Lengths {
            predictions: predictions.as_ref().map_or(0, Part::len),
            errors: errors.len(),
            mini_batches: mini_batches.len(),
        };
        let mut text = Texts::default();
        let (mut next, mut counts) = (self.next, self.counts);
        for done in group {
            if done.index != next {
                return Err(OutputError::OutOfOrder { expected: next, given: done.index });
            }
            let is_first = lengths.predictions + text.predictions.len() as u64 == 0;
            text.add(done, options, self.schema.as_ref(), is_first)?;
            next += 1;
            counts.add(done);
        }
        lengths.grow(&text);
        // With the group whose rows brought it, even if they were dropped then: a resume must not let others settle it.
        let schema = if self.schema_is_new { self.schema.clone() } else { None };
        let mut line = Vec::new();
        journal::write_line(&Record { first: self.next, next, lengths, counts, schema }, &mut line);
        for folder in group.iter().filter_map(|done| done.staged.as_deref()) {
            staged::publish(options, folder, &self.hidden)?;
        }
        for (part, bytes) in [
            (predictions.as_mut(), &text.predictions),
            (Some(errors), &text.errors),
            (Some(mini_batches), &text.mini_batches),
        ] {
            if let Some(part) = part {
                part.append(bytes)?;
                part.sync()?;
            }
        }
        journal.append(&line)?;
        journal.sync()?;
        (self.next, self.counts, self.schema_is_new) = (next, counts, false);
        self.staged.clear();
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, done: &Done) {
        self.mini_batches += 1;
        self.files += u64::from(done.files);
        self.failed += u64::from(done.failed);
        self.rows += done.rows.as_ref().map_or(0, |rows| rows.len() as u64);
        self.attempts += u64::from(done.attempts);
    }
}

impl Lengths {
    fn grow(&mut self, by: &Texts) {
        self.predictions += by.predictions.len() as u64;
        self.errors += by.errors.len() as u64;
        self.mini_batches += by.mini_batches.len() as u64;
    }
}

/// What one group adds to each part.
#[derive(Default)]
struct Texts {
    predictions: Vec<u8>,
    errors: Vec<u8>,
    mini_batches: Vec<u8>,
}

impl Texts {
    /// Adds one mini-batch, whose rows would be the `first`, or not.
    fn add(
        &mut self,
        done: &Done,
        options: &OutputOptions,
        schema: Option<&Schema>,
        first: bool,
    ) -> Result<(), OutputError> {
        for error in &done.errors {
            let number = done.index.to_string();
            let attempts = error.attempts.to_string();
            line(&mut self.errors, &[&error.file, &number, &attempts, &error.kind, cut(&error.message)]);
        }
        let rows = done.rows.as_ref();
        line(
            &mut self.mini_batches,
            &[
                &done.index.to_string(),
                &done.files.to_string(),
                &rows.map_or(0, Rows::len).to_string(),
                &done.attempts.to_string(),
                &done.started,
                &format!("{:.6}", done.seconds),
                &format!("{:.6}", done.device_seconds),
            ],
        );
        let Some(rows) = rows.filter(|rows| options.keep_rows && !rows.is_empty()) else { return Ok(()) };
        if options.format.is_fixed() {
            // Asked already, so this is an error of the host's if it fails; but a wrong row must not get through.
            let settled = schema.ok_or_else(|| OutputError::Columns("rows that were not accepted".to_owned()))?;
            settled.admit(&Schema::of(rows))?;
        }
        options.format.write(rows, first, &mut self.predictions);
        Ok(())
    }
}

/// Appends one line of a table.
fn line(out: &mut Vec<u8>, fields: &[&str]) {
    for (i, text) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        field(text, b',', false, out);
    }
    out.push(b'\n');
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

/// The part that a Parquet file is made from holds blocks, not the file itself.
pub(super) fn is_converted(format: Format) -> bool {
    format == Format::Parquet
}
