//! Tables: CSV and Parquet files → batches of typed columns, and typed columns → CSV, JSON lines and Parquet files.
//!
//! What goes in: a path, or columns. What comes out: a [`Batch`] at a time, so that the size of a file is no matter; the
//! whole of it is never in memory. No rule of which files may be opened is here. Files are hostile: no size in them is
//! trusted before it is checked, what is held has a bound, and a panic in a decoder is an error.

mod batch;
mod csv;
mod kinds;
#[cfg(feature = "parquet")]
mod parquet;
mod records;
mod source;
pub(crate) mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use batch::Batch;
pub use write::{TableFormat, Writer};

use crate::fault::Fault;
use source::Source;

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Signed 64-bit integers.
    Integer,
    /// 64-bit floats.
    Number,
    /// Unicode text.
    Text,
}

/// A column of a table, before its cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; unique, but may be empty.
    pub name: String,
    /// What its cells are.
    pub kind: Kind,
    /// Whether no cell has a value, so that `kind` is only a guess.
    pub is_blank: bool,
}

/// More columns than any table that is scored has; what a script may return is bounded by the same number.
const MAX_COLUMNS: usize = 4096;

/// The names of all columns together, in bytes.
const MAX_HEADER: usize = 1 << 20;

/// The largest file, in bytes. It is streamed, so this only bounds how long one call can be busy with it.
const MAX_FILE: u64 = 1 << 40;

/// The bytes after which a batch ends before it has the rows that were asked for: what fits any budget, and is large
/// enough that the cost of a batch is nothing beside its rows.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// Rows of a batch, whatever is asked for.
const MAX_BATCH_ROWS: usize = 1 << 22;

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    /// The file cannot be written.
    #[error("cannot write the file")]
    Write(#[source] std::io::Error),
    /// The name ends in nothing that says what it is, and the content does not either.
    #[error("not a table: it does not begin as Parquet does, and its name ends in none of `.csv`, `.tsv`, `.txt`")]
    Unknown,
    /// A name to write to that says no format.
    #[error("the name of a table must end in one of `.csv`, `.jsonl`, `.parquet`")]
    UnknownFormat,
    /// Something passes a bound.
    #[error("{what}: more than {limit}")]
    TooMuch {
        /// Of what there is too much, and where.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// The header is no header.
    #[error("the header: {0}")]
    Header(String),
    /// A row with more or fewer cells than the header.
    #[error("row {row} has {given} cells, and the header has {expected}")]
    Ragged {
        /// Which row, from 1 below the header.
        row: u64,
        /// Its cells.
        given: usize,
        /// The header's.
        expected: usize,
    },
    /// A cell that cannot be what its column is.
    #[error("row {row}, column `{column}`: {reason}")]
    Cell {
        /// Which row, from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// A column of a type that is not read.
    #[error("column `{column}`: {reason}")]
    Column {
        /// Its name.
        column: String,
        /// What is not read.
        reason: String,
    },
    /// The file contradicts its format.
    #[error("the {format} file is damaged: {reason}")]
    Damaged {
        /// `CSV` or `Parquet`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file is sound, but has what is not read here.
    #[error("the {format} file cannot be read here: {reason}")]
    Unsupported {
        /// `CSV` or `Parquet`.
        format: &'static str,
        /// What it has.
        reason: String,
    },
    /// The file is not what it was when it was opened.
    #[error("the file changed while it was read")]
    Changed,
    /// Nobody waits for it any more.
    #[error("reading was stopped")]
    Stopped,
    /// A column was asked for that the table does not have.
    #[error("there is no column `{name}`; there are {known}")]
    NoColumn {
        /// What was asked for.
        name: String,
        /// The columns that there are, the first of them.
        known: String,
    },
    /// Texts cannot be a tensor.
    #[error("column `{0}` holds texts, of which no tensor can be made")]
    Texts(String),
    /// The rows do not fit those written before.
    #[error("{0}")]
    Rows(String),
    /// The format is not in this build.
    #[error("this build reads and writes no Parquet; it was made without the feature `parquet`")]
    NoParquet,
}

impl TableError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        match self {
            TableError::Read(e) if !matches!(e.kind(), NotFound | PermissionDenied | IsADirectory) => Fault::Transient,
            TableError::Write(_) | TableError::Changed => Fault::Transient,
            TableError::Stopped => Fault::Host,
            TableError::NoColumn { .. } | TableError::Texts(_) | TableError::Rows(_) | TableError::UnknownFormat => {
                Fault::Script
            }
            _ => Fault::Caller,
        }
    }
}

/// A table that is read from its beginning to its end.
pub struct Table {
    reader: Reader,
    fields: Vec<Field>,
}

enum Reader {
    Csv(Box<csv::CsvReader>),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::ParquetReader>),
}

impl Table {
    /// Opens the file at `path`: Parquet if it begins like it, else CSV if `name` ends like it. Of a CSV file every cell
    /// is looked at, to learn what its columns are. Once `stop` is true, this and every other call ends soon.
    ///
    /// # Errors
    /// If the file cannot be read, is no table, or passes a bound.
    pub fn open(path: &Path, name: &str, stop: &Arc<AtomicBool>) -> Result<Self, TableError> {
        let source = Source::open(path, stop)?;
        let name = name.to_lowercase();
        if source.begins_with(b"PAR1")? {
            #[cfg(feature = "parquet")]
            {
                let (reader, fields) = parquet::ParquetReader::open(source)?;
                return Ok(Self { reader: Reader::Parquet(Box::new(reader)), fields });
            }
            #[cfg(not(feature = "parquet"))]
            return Err(TableError::NoParquet);
        }
        if name.ends_with(".parquet") {
            let reason = "it does not begin with `PAR1`".into();
            return Err(TableError::Damaged { format: "Parquet", reason });
        }
        if ![".csv", ".tsv", ".txt"].iter().any(|ending| name.ends_with(ending)) {
            return Err(TableError::Unknown);
        }
        // A header may hold as many commas as tabs; the name says which of them separate.
        let delimiter = name.ends_with(".tsv").then_some(b'\t');
        let (reader, fields) = csv::CsvReader::open(source, delimiter)?;
        Ok(Self { reader: Reader::Csv(Box::new(reader)), fields })
    }

    /// Its columns.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// From now on reads the column at `index` as the texts that stand in the file. Only the columns of CSV files have
    /// such texts; those of others keep their kind.
    pub fn read_as_texts(&mut self, index: usize) {
        if let (Reader::Csv(_), Some(field)) = (&self.reader, self.fields.get_mut(index)) {
            field.kind = Kind::Text;
        }
    }

    /// The bytes that it may hold while it is open, beside its batches.
    pub fn memory(&self) -> usize {
        match &self.reader {
            Reader::Csv(reader) => reader.memory(),
            #[cfg(feature = "parquet")]
            Reader::Parquet(reader) => reader.memory(),
        }
    }

    /// The next rows: at most `rows` of them, and fewer where they take more than `bytes`, but one at least; none at the
    /// end.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged. The table is of no use then.
    pub fn next(&mut self, rows: usize, bytes: usize) -> Result<Option<Batch>, TableError> {
        let (rows, bytes) = (rows.clamp(1, MAX_BATCH_ROWS), bytes.min(MAX_BATCH_BYTES));
        let columns = match &mut self.reader {
            Reader::Csv(reader) => reader.next(&self.fields, rows, bytes)?,
            #[cfg(feature = "parquet")]
            Reader::Parquet(reader) => reader.next(&self.fields, rows, bytes)?,
        };
        Ok(columns.map(Batch::new))
    }
}

/// Checks the names of a table's columns.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), TableError> {
    let (mut seen, mut bytes) = (std::collections::HashSet::new(), 0);
    for name in names {
        bytes += name.len();
        if bytes > MAX_HEADER {
            return Err(TableError::TooMuch {
                what: "bytes in the names of the columns".into(),
                limit: MAX_HEADER as u64,
            });
        }
        if !seen.insert(name) {
            return Err(TableError::Header(format!("two columns are named `{name}`")));
        }
        if seen.len() > MAX_COLUMNS {
            return Err(TableError::TooMuch { what: "columns".into(), limit: MAX_COLUMNS as u64 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
