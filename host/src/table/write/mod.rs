//! Typed columns → the bytes of a file, in the format that its name asks for. Where the file is, and what becomes of one
//! that is broken off, is its caller's.

pub(crate) mod cells;
pub(crate) mod csv;
pub(crate) mod delimited;
pub(crate) mod jsonl;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;

use std::borrow::Cow;
use std::io;

use super::TableError;
use crate::row::{Cells, Column, Rows};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet; in builds with the feature `parquet`.
    Parquet,
}

impl TableFormat {
    /// The format that a file of this name is written in.
    ///
    /// # Errors
    /// If its ending names none.
    pub fn of(name: &str) -> Result<Self, TableError> {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_lowercase();
        match ending.as_str() {
            "csv" => Ok(TableFormat::Csv),
            "jsonl" => Ok(TableFormat::Jsonl),
            "parquet" if cfg!(feature = "parquet") => Ok(TableFormat::Parquet),
            "parquet" => Err(TableError::NoParquet),
            _ => Err(TableError::UnknownFormat),
        }
    }

    /// The bytes that a writer of it may hold beside the rows that it is given.
    pub fn memory(self) -> usize {
        match self {
            TableFormat::Csv | TableFormat::Jsonl => 0,
            #[cfg(feature = "parquet")]
            TableFormat::Parquet => parquet::GROUP_BYTES,
            #[cfg(not(feature = "parquet"))]
            TableFormat::Parquet => 0,
        }
    }
}

/// Writes a table to a file, some rows at a time.
pub struct Writer<W: io::Write + Send> {
    format: TableFormat,
    to: To<W>,
    /// Name and kind of each column, as the first rows have them.
    /// The first rows' columns: name, and cells of their type.
    columns: Option<Vec<(String, Cells)>>,
}

enum To<W: io::Write + Send> {
    File(W),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::ParquetWriter<W>>),
    /// A write failed.
    Broken,
}

impl<W: io::Write + Send> Writer<W> {
    /// A table that is written to `file`.
    pub fn new(file: W, format: TableFormat) -> Self {
        Self { format, to: To::File(file), columns: None }
    }

    /// Adds rows. A column whose cells are all empty fits any type, but in the first rows, where it settles it.
    ///
    /// # Errors
    /// If their columns are not those of the rows before, or the file cannot be written; it is of no use then.
    pub fn write(&mut self, rows: &Rows) -> Result<(), TableError> {
        let is_first = self.columns.is_none();
        let rows = self.admit(rows)?;
        let rows = rows.as_ref();
        let written = match (self.format, std::mem::replace(&mut self.to, To::Broken)) {
            #[cfg(feature = "parquet")]
            (TableFormat::Parquet, To::File(file)) => {
                parquet::ParquetWriter::new(file, rows).map(|writer| To::Parquet(Box::new(writer)))
            }
            (TableFormat::Csv, To::File(mut file)) => {
                let mut bytes = Vec::new();
                csv::write(rows, is_first, &mut bytes);
                file.write_all(&bytes).map(|()| To::File(file))
            }
            (TableFormat::Jsonl, To::File(mut file)) => {
                let mut bytes = Vec::new();
                jsonl::write(rows, &mut bytes);
                file.write_all(&bytes).map(|()| To::File(file))
            }
            (_, To::Broken) => return Err(TableError::Rows("the table is of no use since an earlier failure".into())),
            (_, other) => Ok(other),
        };
        self.to = written.map_err(TableError::Write)?;
        #[cfg(feature = "parquet")]
        if let To::Parquet(writer) = &mut self.to
            && let Err(error) = writer.write(rows)
        {
            self.to = To::Broken;
            return Err(TableError::Write(error));
        }
        Ok(())
    }

    /// Ends the table, and gives the file back. One without rows is empty, and in Parquet has no columns.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<W, TableError> {
        match self.to {
            #[cfg(feature = "parquet")]
            To::File(file) if self.format == TableFormat::Parquet => {
                let writer = parquet::ParquetWriter::new(file, &Rows::default());
                writer.and_then(parquet::ParquetWriter::finish).map_err(TableError::Write)
            }
            To::File(mut file) => file.flush().map(|()| file).map_err(TableError::Write),
            #[cfg(feature = "parquet")]
            To::Parquet(writer) => writer.finish().map_err(TableError::Write),
            To::Broken => Err(TableError::Rows("the table is of no use since an earlier failure".into())),
        }
    }

    /// The rows as the table takes them.
    fn admit<'r>(&mut self, rows: &'r Rows) -> Result<Cow<'r, Rows>, TableError> {
        let Some(known) = &self.columns else {
            self.columns = Some(rows.columns().iter().map(|c| (c.name.clone(), c.cells.blank(0))).collect());
            return Ok(Cow::Borrowed(rows));
        };
        if known.len() != rows.columns().len() {
            let text = format!("{} columns, where the table has {}", rows.columns().len(), known.len());
            return Err(TableError::Rows(text));
        }
        let fits = |column: &Column, cells: &Cells| column.cells.kind() == cells.kind();
        for (column, (known_name, cells)) in rows.columns().iter().zip(known) {
            if column.name != *known_name || !(fits(column, cells) || column.is_blank()) {
                let (name, kind, known_kind) = (&column.name, column.cells.kind(), cells.kind());
                let text = format!("column `{name}` of {kind}, where the table has `{known_name}` of {known_kind}");
                return Err(TableError::Rows(text));
            }
        }
        if rows.columns().iter().zip(known).all(|(column, (_, cells))| fits(column, cells)) {
            return Ok(Cow::Borrowed(rows));
        }
        let retyped = rows.columns().iter().zip(known).map(|(column, (_, cells))| match fits(column, cells) {
            true => column.clone(),
            false => Column { cells: cells.blank(rows.len()), ..column.clone() },
        });
        Rows::new(retyped.collect(), rows.len()).map(Cow::Owned).map_err(|e| TableError::Rows(e.to_string()))
    }
}
