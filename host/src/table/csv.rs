//! CSV: records → columns of the narrowest kinds that their cells fit.
//!
//! A file is read twice. The first pass looks at every cell, to learn the narrowest kind that its column fits; the
//! second gives batches. In neither is more in memory than one record and one batch. How a file is cut into records and
//! cells is no matter here ([`super::records`]).

use super::kinds::{self, Guess, class_of};
use super::records::Records;
use super::source::Source;
use super::{Field, Kind, MAX_HEADER, TableError, check_names};
use crate::row::{Cells, Column};

/// Gives the rows of one file.
pub(super) struct CsvReader {
    records: Records,
}

impl CsvReader {
    /// Reads the header and looks at every cell, which `delimiter` separates, or what the header tells.
    pub(super) fn open(source: Source, delimiter: Option<u8>) -> Result<(Self, Vec<Field>), TableError> {
        let mut records = Records::open(source, delimiter)?;
        let names = header(&mut records)?;
        let mut guesses = vec![Guess::default(); names.len()];
        while records.read()? {
            if records.width() != names.len() {
                return Err(TableError::Ragged { row: records.row(), given: records.width(), expected: names.len() });
            }
            for (at, (guess, cell)) in guesses.iter_mut().zip(records.cells()).enumerate() {
                if !guess.is_text() {
                    guess.admit(class_of(cell));
                }
                // What is no text is ASCII.
                if guess.is_text() {
                    text(cell).map_err(|reason| TableError::Cell {
                        row: records.row(),
                        column: names[at].clone(),
                        reason,
                    })?;
                }
            }
        }
        records.rewind()?;
        let field = |(name, guess): (String, Guess)| Field { name, kind: guess.kind(), is_blank: guess.is_blank() };
        let fields = names.into_iter().zip(guesses).map(field).collect();
        Ok((Self { records }, fields))
    }

    pub(super) fn memory(&self) -> usize {
        self.records.memory()
    }

    /// The next rows, as [`super::Table::next`] has them.
    pub(super) fn next(
        &mut self,
        fields: &[Field],
        rows: usize,
        bytes: usize,
    ) -> Result<Option<Vec<Column>>, TableError> {
        let mut columns: Vec<Growing> = fields.iter().map(Growing::new).collect();
        let (mut count, mut held) = (0u32, 0usize);
        while (count as usize) < rows && (held < bytes || count == 0) && self.records.read()? {
            if self.records.width() != fields.len() {
                return Err(TableError::Changed);
            }
            for (column, cell) in columns.iter_mut().zip(self.records.texts()) {
                held += cell.and_then(|cell| column.push(cell, count)).ok_or(TableError::Changed)?;
            }
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        let named = fields.iter().zip(columns);
        Ok(Some(named.map(|(field, column)| column.named(&field.name)).collect()))
    }
}

/// The names of the columns.
fn header(records: &mut Records) -> Result<Vec<String>, TableError> {
    if !records.read()? {
        return Err(TableError::Header("the file is empty".into()));
    }
    if records.cells().map(<[u8]>::len).sum::<usize>() > MAX_HEADER {
        return Err(TableError::TooMuch { what: "bytes in the header".into(), limit: MAX_HEADER as u64 });
    }
    let name = |(at, cell)| text(cell).map_err(|e| TableError::Header(format!("column {}: {e}", at + 1)));
    let names = records.cells().enumerate().map(|named| name(named).map(str::to_owned));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    check_names(names.iter().map(String::as_str))?;
    Ok(names)
}

fn text(cell: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(cell).map_err(|error| {
        format!("byte {} of the cell is not UTF-8; save the file with that encoding", error.valid_up_to() + 1)
    })
}

/// A column of a batch while it is read.
struct Growing {
    cells: Cells,
    nulls: Vec<u32>,
}

impl Growing {
    fn new(field: &Field) -> Self {
        let cells = match field.kind {
            Kind::Boolean => Cells::Booleans(Vec::new()),
            Kind::Integer => Cells::Integers(Vec::new()),
            Kind::Number => Cells::Numbers(Vec::new()),
            Kind::Text => Cells::Texts(Vec::new()),
        };
        Self { cells, nulls: Vec::new() }
    }

    /// Adds the cell of this row, and answers with the bytes that it takes; none if it is not of the column's kind.
    fn push(&mut self, cell: &str, row: u32) -> Option<usize> {
        if let Cells::Texts(texts) = &mut self.cells {
            if cell.is_empty() {
                self.nulls.push(row);
            }
            texts.push(cell.to_owned());
            return Some(size_of::<String>() + cell.len());
        }
        let cell = cell.trim_ascii();
        let is_there = match &mut self.cells {
            Cells::Booleans(values) => push(values, kinds::boolean(cell.as_bytes())),
            Cells::Integers(values) => push(values, kinds::integer(cell.as_bytes())),
            // What is said to be no number is nothing, and not a number that is none.
            Cells::Numbers(values) => push(values, number(cell)),
            Cells::Texts(_) => false,
        };
        if !is_there {
            if !kinds::is_missing(cell.as_bytes()) {
                return None;
            }
            self.nulls.push(row);
        }
        Some(size_of::<f64>())
    }

    fn named(self, name: &str) -> Column {
        Column { name: name.to_owned(), cells: self.cells, nulls: self.nulls }
    }
}

/// Adds the value, or an entry that is ignored; answers with whether there was one.
fn push<T: Default>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let is_there = value.is_some();
    values.push(value.unwrap_or_default());
    is_there
}

fn number(cell: &str) -> Option<f64> {
    cell.parse().ok().filter(|value: &f64| !value.is_nan())
}
