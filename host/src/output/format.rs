//! Which format, and whether a mini-batch's columns fit it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::OutputError;
use crate::row::{Column, Rows};
use crate::table::write::{csv, delimited, jsonl};

/// How the predictions file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Space-separated, no header, quotes where needed: as Azure writes it.
    Azure,
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet; in builds with the feature `parquet`.
    Parquet,
}

/// The columns of the first mini-batch with rows, which the later ones must have too; types come with the first cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schema(pub(super) Vec<SchemaColumn>);

/// One of them: its name as the script wrote it, and the type of its cells, as [`Cells::kind`](crate::row::Cells::kind)
/// names it. The type is empty until there is a cell: a script must send nulls as some type, and the one that it picked
/// says nothing of the cells to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SchemaColumn {
    pub(super) name: String,
    pub(super) kind: String,
}

impl SchemaColumn {
    fn is_typed(&self) -> bool {
        !self.kind.is_empty()
    }

    fn fits(&self, later: &SchemaColumn) -> bool {
        self.name == later.name && (self.kind == later.kind || !self.is_typed() || !later.is_typed())
    }
}

impl fmt::Display for SchemaColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "" => write!(f, "`{}` without a value", self.name),
            kind => write!(f, "`{}` of {kind}", self.name),
        }
    }
}

/// The names of all columns together; more than that is no table, and would swell the journal.
const MAX_NAMES: usize = 1 << 20;

impl Format {
    /// The name that deployments use.
    pub fn name(self) -> &'static str {
        match self {
            Format::Azure => "azure",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
        }
    }

    /// Whether all rows must have the same columns.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self, Format::Csv | Format::Parquet)
    }

    /// An error if this build cannot write it.
    pub(super) fn check(self) -> Result<(), OutputError> {
        if self == Format::Parquet && !cfg!(feature = "parquet") {
            return Err(OutputError::Unsupported(self.name()));
        }
        Ok(())
    }

    /// Appends rows, which are the `first` or not, to the part of the predictions.
    pub(super) fn write(self, rows: &Rows, first: bool, out: &mut Vec<u8>) {
        match self {
            Format::Azure => delimited::azure(rows, out),
            Format::Csv => csv::write(rows, first, out),
            Format::Jsonl => jsonl::write(rows, out),
            #[cfg(feature = "parquet")]
            Format::Parquet => super::parquet::write_block(rows, out),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => unreachable!("such an output is refused when it is made; this is a bug"),
        }
    }
}

impl Schema {
    /// The columns of `rows`.
    pub(super) fn of(rows: &Rows) -> Self {
        let kind = |c: &Column| if c.nulls.len() == rows.len() { "" } else { c.cells.kind() }.to_owned();
        Self(rows.columns().iter().map(|c| SchemaColumn { name: c.name.clone(), kind: kind(c) }).collect())
    }

    /// Whether names are short enough to keep.
    pub(super) fn check(&self) -> Result<(), OutputError> {
        let size: usize = self.0.iter().map(|column| column.name.len()).sum();
        if size > MAX_NAMES {
            let text = format!("the names of the columns take {size} bytes, more than the limit of {MAX_NAMES}");
            return Err(OutputError::Columns(text));
        }
        Ok(())
    }

    /// An error that names the first column that differs from those before.
    pub(super) fn admit(&self, later: &Schema) -> Result<(), OutputError> {
        if self.0.len() != later.0.len() {
            let text = format!("{} columns, where earlier mini-batches have {}", later.0.len(), self.0.len());
            return Err(OutputError::Columns(text));
        }
        match self.0.iter().zip(&later.0).enumerate().find(|(_, (a, b))| !a.fits(b)) {
            None => Ok(()),
            Some((i, (a, b))) => {
                Err(OutputError::Columns(format!("column {i} is {b}, where earlier mini-batches have {a}")))
            }
        }
    }

    /// Takes the types of `later`, which was admitted, for columns that had none; answers with whether there were any.
    pub(super) fn learn(&mut self, later: Schema) -> bool {
        let mut learned = false;
        for (column, later) in self.0.iter_mut().zip(later.0) {
            if !column.is_typed() && later.is_typed() {
                column.kind = later.kind;
                learned = true;
            }
        }
        learned
    }
}
