//! `tables`: files of the mini-batch as typed columns, and files below the instance's output folder.
//!
//! Reading and writing happen beside the script's thread, so that its deadline can end the wait. Nothing here knows a
//! format.

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tempfile::TempPath;
use wasmtime::component::Resource;

use super::models::MAX_PATH_BYTES;
use super::tensors::compute;
use super::{HostTensor, guest_size, permanent, size};
use crate::fault;
use crate::row::{Cells, Rows};
use crate::script::bindings::scorehost::script::tables::{
    Field as GuestField, Host, HostBatch as BatchMethods, HostTable as TableMethods, HostWriter as WriterMethods,
    Kind as GuestKind,
};
use crate::script::bindings::scorehost::script::types::{Cells as GuestCells, Column as GuestColumn, Failure};
use crate::script::files::ENTRY_BYTES;
use crate::script::limits::Held;
use crate::script::state::{GUEST_OUTPUT, State};
use crate::script::{instance, printable};
use crate::table::{Batch, Field, Kind, Table, TableError, TableFormat, Writer};

/// A table that a script reads.
pub struct HostTable {
    /// As the script named it.
    file: String,
    fields: Vec<Field>,
    /// Away while it is read, and after a failure.
    table: Option<Table>,
    _held: Arc<Held>,
    _open: Arc<()>,
    /// What reads for a script that has left ends soon.
    _leave: Leave,
}

/// Some rows that a script holds.
#[derive(Clone)]
pub struct HostBatch {
    batch: Arc<Batch>,
    _held: Arc<Held>,
}

/// A table that a script writes.
pub struct HostWriter {
    /// As the script named it.
    file: String,
    /// Where it goes, below the output folder.
    to: PathBuf,
    /// Away while it is written, after a failure, and when it is finished.
    draft: Option<Draft>,
    _held: Arc<Held>,
    _open: Arc<()>,
}

/// A file beside the output folder until it is whole; it is removed when dropped.
struct Draft {
    path: TempPath,
    writer: Writer<File>,
    /// Bytes of it that are counted.
    counted: u64,
}

/// Tables that a script reads or writes at once: each is one of the process's open files, which may be as few as a
/// thousand.
const MAX_OPEN: usize = 32;

/// Columns that one tensor is made of; no table has more.
const MAX_COLUMNS: usize = 4096;

/// Folders within folders, as for other files that a script writes.
const MAX_DEPTH: usize = 32;

/// Tells a reader that nobody waits for it any more.
struct Leave(Arc<AtomicBool>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Answered<T> = wasmtime::Result<Result<T, Failure>>;

/// What went wrong with a file, with its name before it.
fn failure(file: &str, error: &TableError) -> Failure {
    super::of_fault(error.fault(), format!("`{}`: {}", printable(file.as_bytes()), fault::chain(error)))
}

/// Runs what may wait for a disk beside the script's thread.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| permanent("the host failed to work on a table"))
}

/// Leaves the function with a failure, which the script is told of.
macro_rules! or_tell {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(failure) => return Ok(Err(failure)),
        }
    };
}

impl State {
    /// One more open table, if there may be one.
    fn open_one(&self) -> Result<Arc<()>, Failure> {
        if Arc::strong_count(&self.open_tables) > MAX_OPEN {
            return Err(permanent(format!(
                "a script may hold {MAX_OPEN} tables open at once; drop those that are done"
            )));
        }
        Ok(Arc::clone(&self.open_tables))
    }

    fn budget(&self, bytes: usize) -> Result<Arc<Held>, Failure> {
        self.tensors.take(bytes).map_err(permanent)
    }

    /// Counts a file that has grown to `size` bytes by one call, whose own size is bounded.
    fn count(&self, counted: &mut u64, size: u64) -> wasmtime::Result<()> {
        self.files.take(size.saturating_sub(*counted))?;
        *counted = size;
        Ok(())
    }

    /// A copy for the guest, if one call may give as much.
    fn copy_allowed(&self, bytes: usize) -> Result<(), Failure> {
        let limit = self.services.limits.output_bytes;
        if bytes > limit {
            let reason =
                format!("columns of {bytes} bytes pass limits.output_bytes, which is {limit}; ask for fewer rows");
            return Err(permanent(reason));
        }
        Ok(())
    }
}

impl Host for State {}

impl TableMethods for State {
    async fn open(&mut self, file: String) -> Answered<Resource<HostTable>> {
        let (_, path) = or_tell!(self.file(&file));
        let open = or_tell!(self.open_one());
        let leave = Leave(Arc::default());
        let (name, stop) = (file.clone(), Arc::clone(&leave.0));
        let opened = or_tell!(beside(move || Table::open(&path, &name, &stop)).await);
        let table = or_tell!(opened.map_err(|error| failure(&file, &error)));
        let held = or_tell!(self.budget(table.memory()));
        let fields = table.fields().to_vec();
        let table = HostTable { file, fields, table: Some(table), _held: held, _open: open, _leave: leave };
        Ok(Ok(self.things.push(table)?))
    }

    fn fields(&mut self, this: Resource<HostTable>) -> wasmtime::Result<Vec<GuestField>> {
        let kind = |kind| match kind {
            Kind::Boolean => GuestKind::Boolean,
            Kind::Integer => GuestKind::Integer,
            Kind::Number => GuestKind::Number,
            Kind::Text => GuestKind::Text,
        };
        let fields = self.things.get(&this)?.fields.iter();
        Ok(fields.map(|field| GuestField { name: field.name.clone(), kind: kind(field.kind) }).collect())
    }

    async fn next(&mut self, this: Resource<HostTable>, rows: u32) -> Answered<Option<Resource<HostBatch>>> {
        if rows == 0 {
            return Ok(Err(permanent("a batch of no rows was asked for")));
        }
        let free = self.tensors.free();
        let host = self.things.get_mut(&this)?;
        let file = host.file.clone();
        let Some(mut table) = host.table.take() else {
            return Ok(Err(permanent(format!("`{}` cannot be read on after a failure", printable(file.as_bytes())))));
        };
        let read = beside(move || table.next(size(rows), free).map(|batch| (batch, table))).await;
        let (batch, table) = or_tell!(or_tell!(read).map_err(|error| failure(&file, &error)));
        self.things.get_mut(&this)?.table = Some(table);
        let Some(batch) = batch else { return Ok(Ok(None)) };
        let held = or_tell!(self.budget(batch.byte_len()));
        Ok(Ok(Some(self.things.push(HostBatch { batch: Arc::new(batch), _held: held })?)))
    }

    fn drop(&mut self, this: Resource<HostTable>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl BatchMethods for State {
    fn rows(&mut self, this: Resource<HostBatch>) -> wasmtime::Result<u32> {
        Ok(guest_size(self.things.get(&this)?.batch.rows()))
    }

    async fn columns(&mut self, this: Resource<HostBatch>) -> Answered<Vec<GuestColumn>> {
        let batch = Arc::clone(&self.things.get(&this)?.batch);
        or_tell!(self.copy_allowed(batch.byte_len()));
        Ok(beside(move || batch.columns().iter().map(guest_column).collect()).await)
    }

    async fn column(&mut self, this: Resource<HostBatch>, name: String) -> Answered<GuestColumn> {
        let batch = Arc::clone(&self.things.get(&this)?.batch);
        or_tell!(self.copy_allowed(batch.byte_len()));
        let column = or_tell!(beside(move || batch.column(&name).map(guest_column)).await);
        Ok(column.map_err(|error| permanent(error.to_string())))
    }

    async fn tensor(&mut self, this: Resource<HostBatch>, columns: Vec<String>) -> Answered<Resource<HostTensor>> {
        let batch = Arc::clone(&self.things.get(&this)?.batch);
        if columns.len() > MAX_COLUMNS {
            return Ok(Err(permanent(format!("a tensor of {} columns, more than {MAX_COLUMNS}", columns.len()))));
        }
        let cells = batch.rows().saturating_mul(columns.len());
        // Counted before it is made, since a guest can name one column many times.
        let held = or_tell!(self.budget(cells.saturating_mul(size_of::<f32>())));
        let made = or_tell!(compute(cells > 1 << 18, move || batch.tensor(&columns)).await);
        let tensor = or_tell!(made.map_err(|error| permanent(error.to_string())));
        Ok(Ok(self.things.push(HostTensor::ready(tensor, held))?))
    }

    fn drop(&mut self, this: Resource<HostBatch>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

fn guest_column(column: &crate::row::Column) -> GuestColumn {
    let cells = match &column.cells {
        Cells::Booleans(v) => GuestCells::Booleans(v.clone()),
        Cells::Integers(v) => GuestCells::Integers(v.clone()),
        Cells::Numbers(v) => GuestCells::Numbers(v.clone()),
        Cells::Texts(v) => GuestCells::Texts(v.clone()),
    };
    GuestColumn { name: column.name.clone(), cells, nulls: column.nulls.clone() }
}

impl WriterMethods for State {
    async fn create(&mut self, file: String) -> Answered<Resource<HostWriter>> {
        if file.len() > MAX_PATH_BYTES {
            return Ok(Err(permanent(format!("a path of {} bytes; at most {MAX_PATH_BYTES} are taken", file.len()))));
        }
        let shown = printable(file.as_bytes());
        let Some(folder) = self.output.clone() else {
            let reason = format!(
                "`{shown}` cannot be written: under `output_action: append_row` a script has no folder of its own; \
                 set `output_action: summary_only`"
            );
            return Ok(Err(permanent(reason)));
        };
        let to = or_tell!(below_output(&file).ok_or_else(|| permanent(format!(
            "`{shown}` cannot be written: name a file below {GUEST_OUTPUT}, or one without a folder, and without `..`"
        ))));
        let format = or_tell!(TableFormat::of(&file).map_err(|error| failure(&file, &error)));
        let open = or_tell!(self.open_one());
        let held = or_tell!(self.budget(format.memory()));
        // Itself, and the folders on the way.
        self.files.take(ENTRY_BYTES.saturating_mul(to.components().count() as u64))?;
        let inside = to.clone();
        let made = or_tell!(beside(move || draft(&folder, &inside, format)).await);
        let draft = or_tell!(made.map_err(|error| failure(&file, &TableError::Write(error))));
        Ok(Ok(self.things.push(HostWriter { file, to, draft: Some(draft), _held: held, _open: open })?))
    }

    async fn write(&mut self, this: Resource<HostWriter>, columns: Vec<GuestColumn>) -> Answered<()> {
        let rows = Rows::new(columns.into_iter().map(instance::column).collect(), self.services.limits.output_rows);
        let host = self.things.get_mut(&this)?;
        let file = host.file.clone();
        let taken = host.draft.take();
        let Some(mut draft) = taken else { return Ok(Err(gone(&file))) };
        let rows = or_tell!(rows.map_err(|error| failure(&file, &TableError::Rows(error.to_string()))));
        let write = move || {
            draft.writer.write(&rows)?;
            let size = draft.size().map_err(TableError::Write)?;
            Ok((draft, size))
        };
        let written = or_tell!(beside(write).await);
        let (mut draft, size) = or_tell!(written.map_err(|error| failure(&file, &error)));
        self.count(&mut draft.counted, size)?;
        self.things.get_mut(&this)?.draft = Some(draft);
        Ok(Ok(()))
    }

    async fn finish(&mut self, this: Resource<HostWriter>) -> Answered<()> {
        let host = self.things.get_mut(&this)?;
        let (file, to) = (host.file.clone(), host.to.clone());
        let taken = host.draft.take();
        let (Some(draft), Some(folder)) = (taken, self.output.clone()) else { return Ok(Err(gone(&file))) };
        let mut counted = draft.counted;
        let ended = or_tell!(beside(move || draft.finish()).await);
        let (path, size) = or_tell!(ended.map_err(|error| failure(&file, &error)));
        self.count(&mut counted, size)?;
        let published = or_tell!(beside(move || publish(&path, &folder, &to)).await);
        Ok(published.map_err(|error| failure(&file, &TableError::Write(error))))
    }

    fn drop(&mut self, this: Resource<HostWriter>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

fn gone(file: &str) -> Failure {
    permanent(format!("`{}` is finished, or failed before", printable(file.as_bytes())))
}

/// Where a file is below the output folder, if it is; its name alone, or under the folder as the script sees it.
fn below_output(file: &str) -> Option<PathBuf> {
    let below = match file.strip_prefix(GUEST_OUTPUT) {
        Some(rest) => rest.strip_prefix('/')?,
        None => file,
    };
    let path = Path::new(below);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let depth = path.components().count();
    (is_plain && (1..=MAX_DEPTH).contains(&depth) && !below.ends_with('/')).then(|| path.to_owned())
}

/// Makes the folders on the way, and a file beside the output folder, where no guest sees it before it is whole.
fn draft(folder: &Path, to: &Path, format: TableFormat) -> std::io::Result<Draft> {
    if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // No link that a guest made leads out of the folder.
        Dir::open_ambient_dir(folder, ambient_authority())?.create_dir_all(parent)?;
    }
    let mut builder = tempfile::Builder::new();
    // Readable as any other file of the output, as far as the process's mask lets it be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let (file, path) = builder.tempfile_in(folder.parent().unwrap_or(folder))?.into_parts();
    Ok(Draft { path, writer: Writer::new(file, format), counted: 0 })
}

impl Draft {
    /// What is in the file already.
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.path.metadata()?.len())
    }

    /// Writes all of it; where it is, and its size.
    fn finish(self) -> Result<(TempPath, u64), TableError> {
        drop(self.writer.finish()?);
        let size = self.path.metadata().map_err(TableError::Write)?.len();
        Ok((self.path, size))
    }
}

/// Gives a file its name. What was at `path` is removed if that fails.
fn publish(path: &TempPath, folder: &Path, to: &Path) -> std::io::Result<()> {
    let beside = path.parent().unwrap_or(folder);
    let from = path.file_name().unwrap_or_default();
    let beside = Dir::open_ambient_dir(beside, ambient_authority())?;
    beside.rename(from, &Dir::open_ambient_dir(folder, ambient_authority())?, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_below_the_output_folder_only() {
        let cases = [
            ("a.csv", Some("a.csv")),
            ("/output/a.csv", Some("a.csv")),
            ("b/a.csv", Some("b/a.csv")),
            ("/output/b/c/a.csv", Some("b/c/a.csv")),
            ("/outputs/a.csv", None),
            ("/output", None),
            ("/output/", None),
            ("", None),
            ("/etc/passwd.csv", None),
            ("../a.csv", None),
            ("b/../../a.csv", None),
            ("/output//etc/a.csv", None),
            ("a.csv/", None),
        ];
        for (file, expected) in cases {
            assert_eq!(below_output(file), expected.map(PathBuf::from), "{file}");
        }
        assert_eq!(below_output(&"a/".repeat(MAX_DEPTH + 1)), None);
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_out() {
        let place = tempfile::tempdir().unwrap();
        let (folder, outside) = (place.path().join("output"), place.path().join("outside"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        assert!(draft(&folder, Path::new("link/below/a.csv"), TableFormat::Csv).is_err());
        let whole = draft(&folder, Path::new("a.csv"), TableFormat::Csv).unwrap();
        assert!(publish(&whole.finish().unwrap().0, &folder, Path::new("link/a.csv")).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        // A file that a link's name had is replaced, not what the link names.
        std::fs::write(outside.join("victim.csv"), "kept").unwrap();
        std::os::unix::fs::symlink(outside.join("victim.csv"), folder.join("b.csv")).unwrap();
        let whole = draft(&folder, Path::new("b.csv"), TableFormat::Csv).unwrap();
        publish(&whole.finish().unwrap().0, &folder, Path::new("b.csv")).unwrap();
        assert_eq!(std::fs::read_to_string(outside.join("victim.csv")).unwrap(), "kept");
        assert!(folder.join("b.csv").symlink_metadata().unwrap().is_file());
        // Nothing is left of what was not finished.
        drop(draft(&folder, Path::new("c.csv"), TableFormat::Csv).unwrap());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
