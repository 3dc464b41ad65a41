//! CSV: separated by commas, semicolons or tabs, with a header; quotes as RFC 4180 has them.
//!
//! A file is read twice. The first pass looks at every cell, to learn the narrowest kind that its column fits; the
//! second gives batches. In neither is more in memory than one record and one batch.

use csv_core::ReadRecordResult;

use super::kinds::{self, Guess, class_of};
use super::source::Source;
use super::{Field, Kind, MAX_COLUMNS, MAX_HEADER, TableError, check_names};
use crate::row::{Cells, Column};

/// Bytes read from the file at a time.
const INPUT: usize = 256 << 10;

/// The longest record, in bytes: a page of text is 4 KiB, and an unclosed quote makes one record of the rest of a file.
const MAX_RECORD: usize = 16 << 20;

/// Cells of one record that are looked at: one more than there may be columns, so that it is noticed.
const MAX_CELLS: usize = MAX_COLUMNS + 1;

/// Gives the rows of one file.
pub(super) struct CsvReader {
    records: Records,
}

impl CsvReader {
    /// Reads the header and looks at every cell.
    pub(super) fn open(source: Source) -> Result<(Self, Vec<Field>), TableError> {
        let mut records = Records::open(source)?;
        let names = records.header()?;
        let mut guesses = vec![Guess::default(); names.len()];
        while records.read()? {
            records.check_width(&names)?;
            for (at, (guess, cell)) in guesses.iter_mut().zip(records.cells()).enumerate() {
                if !guess.is_text() {
                    guess.admit(class_of(cell));
                }
                // What is no text is ASCII.
                if guess.is_text() {
                    text(cell).map_err(|reason| records.cell_error(&names[at], reason))?;
                }
            }
        }
        records.rewind()?;
        let fields = names.into_iter().zip(guesses).map(|(name, guess)| Field { name, kind: guess.kind() }).collect();
        Ok((Self { records }, fields))
    }

    pub(super) fn memory(&self) -> usize {
        INPUT + MAX_RECORD
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
            for (column, cell) in columns.iter_mut().zip(self.records.cells()) {
                held += column.push(cell, count).ok_or(TableError::Changed)?;
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
    fn push(&mut self, cell: &[u8], row: u32) -> Option<usize> {
        if let Cells::Texts(texts) = &mut self.cells {
            if cell.is_empty() {
                self.nulls.push(row);
            }
            texts.push(str::from_utf8(cell).ok()?.to_owned());
            return Some(size_of::<String>() + cell.len());
        }
        let cell = kinds::trim(cell);
        let is_there = match &mut self.cells {
            Cells::Booleans(values) => push(values, kinds::boolean(cell)),
            Cells::Integers(values) => push(values, kinds::integer(cell)),
            // What is said to be no number is nothing, and not a number that is none.
            Cells::Numbers(values) => push(values, number(cell)),
            Cells::Texts(_) => false,
        };
        if !is_there {
            if !kinds::is_missing(cell) {
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

fn number(cell: &[u8]) -> Option<f64> {
    str::from_utf8(cell).ok()?.parse().ok().filter(|value: &f64| !value.is_nan())
}

/// The records of a file, one at a time.
struct Records {
    source: Source,
    parser: csv_core::Reader,
    delimiter: u8,
    input: Vec<u8>,
    /// What of `input` is still to be parsed.
    rest: std::ops::Range<usize>,
    /// Where in the file the input after `rest` is.
    at: u64,
    /// Whether the end of the file was told to the parser, as a line's end.
    is_at_end: bool,
    /// The cells of the record, one after the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    width: usize,
    /// Records after the header.
    row: u64,
}

impl Records {
    fn open(source: Source) -> Result<Self, TableError> {
        let mut records = Self {
            source,
            parser: parser(b','),
            delimiter: b',',
            input: vec![0; INPUT],
            rest: 0..0,
            at: 0,
            is_at_end: false,
            bytes: vec![0; 4 << 10],
            ends: vec![0; 64],
            width: 0,
            row: 0,
        };
        records.fill()?;
        let start = &records.input[records.rest.clone()];
        if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
            let reason = "it is UTF-16; save it as UTF-8".into();
            return Err(TableError::Unsupported { format: "CSV", reason });
        }
        records.delimiter = delimiter_of(start);
        records.parser = parser(records.delimiter);
        Ok(records)
    }

    fn fill(&mut self) -> Result<(), TableError> {
        let count = self.source.read_at(self.at, &mut self.input)?;
        self.rest = 0..count;
        self.at += count as u64;
        if count == 0 && !std::mem::replace(&mut self.is_at_end, true) {
            // The last line may lack it; if a record is still open after it, a quote is.
            self.input[0] = b'\n';
            self.rest = 0..1;
        }
        Ok(())
    }

    /// Back to the first row.
    fn rewind(&mut self) -> Result<(), TableError> {
        (self.at, self.rest, self.row, self.is_at_end) = (0, 0..0, 0, false);
        self.parser = parser(self.delimiter);
        self.fill()?;
        self.read()?;
        self.row = 0;
        Ok(())
    }

    /// The names of the columns.
    fn header(&mut self) -> Result<Vec<String>, TableError> {
        if !self.read()? {
            return Err(TableError::Header("the file is empty".into()));
        }
        self.row = 0;
        if self.cells().map(<[u8]>::len).sum::<usize>() > MAX_HEADER {
            return Err(TableError::TooMuch { what: "bytes in the header".into(), limit: MAX_HEADER as u64 });
        }
        let name = |(at, cell)| text(cell).map_err(|e| TableError::Header(format!("column {}: {e}", at + 1)));
        let names = self.cells().enumerate().map(|named| name(named).map(str::to_owned));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        check_names(names.iter().map(String::as_str))?;
        Ok(names)
    }

    /// Goes to the next record; false at the end of the file.
    fn read(&mut self) -> Result<bool, TableError> {
        let (mut bytes, mut cells) = (0, 0);
        loop {
            if self.rest.is_empty() {
                self.fill()?;
                if self.rest.is_empty() && (bytes > 0 || cells > 0) {
                    let reason = format!("a quote in row {} is never closed", self.row + 1);
                    return Err(TableError::Damaged { format: "CSV", reason });
                }
            }
            let input = &self.input[self.rest.clone()];
            let (result, read, written, ended) =
                self.parser.read_record(input, &mut self.bytes[bytes..], &mut self.ends[cells..]);
            self.rest.start += read;
            (bytes, cells) = (bytes + written, cells + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.grow_bytes()?,
                ReadRecordResult::OutputEndsFull => self.grow_ends()?,
                ReadRecordResult::Record => {
                    self.width = cells;
                    self.row += 1;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    fn grow_bytes(&mut self) -> Result<(), TableError> {
        if self.bytes.len() >= MAX_RECORD {
            let what = format!("bytes in row {}, which may have a quote that is never closed", self.row + 1);
            return Err(TableError::TooMuch { what, limit: MAX_RECORD as u64 });
        }
        self.bytes.resize(self.bytes.len() * 2, 0);
        Ok(())
    }

    fn grow_ends(&mut self) -> Result<(), TableError> {
        if self.ends.len() >= MAX_CELLS {
            return Err(TableError::TooMuch { what: "columns".into(), limit: MAX_COLUMNS as u64 });
        }
        self.ends.resize((self.ends.len() * 2).min(MAX_CELLS), 0);
        Ok(())
    }

    fn width(&self) -> usize {
        self.width
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends[..self.width].iter().map(move |&end| &self.bytes[std::mem::replace(&mut start, end)..end])
    }

    fn check_width(&self, names: &[String]) -> Result<(), TableError> {
        if self.width == names.len() {
            return Ok(());
        }
        Err(TableError::Ragged { row: self.row, given: self.width, expected: names.len() })
    }

    fn cell_error(&self, column: &str, reason: String) -> TableError {
        TableError::Cell { row: self.row, column: column.to_owned(), reason }
    }
}

fn parser(delimiter: u8) -> csv_core::Reader {
    csv_core::ReaderBuilder::new().delimiter(delimiter).build()
}

/// The delimiter that is most often in the first line, outside quotes; a comma if none is.
fn delimiter_of(start: &[u8]) -> u8 {
    let (mut counts, mut is_quoted) = ([(b',', 0), (b';', 0), (b'\t', 0)], false);
    for &byte in start {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' | b'\r' if !is_quoted => break,
            _ if is_quoted => {}
            _ => counts.iter_mut().filter(|(delimiter, _)| *delimiter == byte).for_each(|(_, count)| *count += 1),
        }
    }
    // The first of equals is the comma.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}
