//! A CSV file → its records, one at a time, each cut into cells.
//!
//! Cells are separated by commas, semicolons or tabs, and quoted as RFC 4180 has it; lines end with LF, CR or both. Lines
//! that are empty, or of spaces only, are none, as for pandas. What is in a cell, and how many a record has, is no matter
//! here. Most records have no quotes: the end of such a line is found first, and then what separates its cells.

use std::ops::Range;

use memchr::{memchr, memchr3};

use super::source::Source;
use super::{MAX_COLUMNS, TableError};

/// Bytes read from the file at a time.
const INPUT: usize = 256 << 10;

/// The longest record, in bytes: a page of text is 4 KiB, and an unclosed quote makes one record of the rest of a file.
const MAX_RECORD: usize = 16 << 20;

/// What some programs begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The records of a file. The first is its header.
pub(super) struct Records {
    source: Source,
    delimiter: u8,
    /// A part of the file, that of the record in progress at least.
    input: Vec<u8>,
    /// That record in `input`, without the end of its line.
    line: Range<usize>,
    /// What of `input` comes after it.
    rest: Range<usize>,
    /// Where in the file the bytes after `input` are.
    at: u64,
    is_at_end: bool,
    /// The cells of the record, by their places in `input`.
    cells: Vec<Range<usize>>,
    /// Records after the header.
    row: u64,
    is_header: bool,
}

/// Where a record ends.
enum End {
    /// Before this byte, which ends its line.
    At(usize),
    /// Not among these bytes.
    Beyond,
    /// Not among these bytes, and a quote is open at their end.
    Quoted,
}

impl Records {
    /// Begins before the header. Without a `delimiter` the one that is most often in the header is taken.
    pub(super) fn open(source: Source, delimiter: Option<u8>) -> Result<Self, TableError> {
        let mut records = Self {
            source,
            delimiter: b',',
            input: vec![0; INPUT],
            line: 0..0,
            rest: 0..0,
            at: 0,
            is_at_end: false,
            cells: Vec::new(),
            row: 0,
            is_header: true,
        };
        records.start()?;
        let start = &records.input[records.rest.clone()];
        if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
            let reason = "it is UTF-16; save it as UTF-8".into();
            return Err(TableError::Unsupported { format: "CSV", reason });
        }
        records.delimiter = delimiter.unwrap_or_else(|| delimiter_of(start));
        Ok(records)
    }

    /// The bytes that it may hold.
    pub(super) fn memory(&self) -> usize {
        MAX_RECORD + MAX_COLUMNS * size_of::<Range<usize>>()
    }

    /// Back to the first row.
    pub(super) fn rewind(&mut self) -> Result<(), TableError> {
        self.start()?;
        self.read().map(|_| ())
    }

    fn start(&mut self) -> Result<(), TableError> {
        (self.at, self.rest, self.is_at_end, self.row, self.is_header) = (0, 0..0, false, 0, true);
        self.fill()?;
        if self.input[self.rest.clone()].starts_with(BYTE_ORDER_MARK) {
            self.rest.start += BYTE_ORDER_MARK.len();
        }
        Ok(())
    }

    /// The record's row, from 1 below the header.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// How many cells the record has.
    pub(super) fn width(&self) -> usize {
        self.cells.len()
    }

    /// The cells of the record.
    pub(super) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        self.cells.iter().map(|cell| &self.input[cell.clone()])
    }

    /// The same as texts; none for those that are not UTF-8.
    pub(super) fn texts(&self) -> impl Iterator<Item = Option<&str>> {
        // The record is checked as a whole, which is quicker, unless quotes that were taken out have left parts of letters.
        let line = str::from_utf8(&self.input[self.line.clone()]).ok();
        let of_line = move |cell: &Range<usize>| line?.get(cell.start - self.line.start..cell.end - self.line.start);
        self.cells.iter().map(move |cell| of_line(cell).or_else(|| str::from_utf8(&self.input[cell.clone()]).ok()))
    }

    /// Goes to the next record; false at the end of the file.
    pub(super) fn read(&mut self) -> Result<bool, TableError> {
        loop {
            let input = &self.input[self.rest.clone()];
            let has_quotes = match memchr3(b'\n', b'\r', b'"', input) {
                Some(at) if input[at] != b'"' => {
                    self.take_line(at)?;
                    false
                }
                Some(_) => match end(input, self.delimiter) {
                    End::At(at) => self.take_quoted(at)?,
                    _ if !self.is_at_end => {
                        self.fill()?;
                        continue;
                    }
                    End::Beyond => self.take_quoted(input.len())?,
                    End::Quoted => {
                        let reason = format!("a quote in {} is never closed", self.next_row());
                        return Err(TableError::Damaged { format: "CSV", reason });
                    }
                },
                None if !self.is_at_end => {
                    self.fill()?;
                    continue;
                }
                None if input.is_empty() => return Ok(false),
                // The last line may lack its end.
                None => {
                    self.take_line(input.len())?;
                    false
                }
            };
            let is_blank = |cell: &Range<usize>| self.input[cell.clone()].iter().all(|b| matches!(b, b' ' | b'\t'));
            let is_no_record = !has_quotes && self.cells.len() == 1 && is_blank(&self.cells[0]);
            if !is_no_record {
                self.row += u64::from(!std::mem::take(&mut self.is_header));
                return Ok(true);
            }
        }
    }

    fn next_row(&self) -> String {
        if self.is_header { "the header".into() } else { format!("row {}", self.row + 1) }
    }

    /// Reads more of the file behind the rest, for which room is made.
    fn fill(&mut self) -> Result<(), TableError> {
        self.input.copy_within(self.rest.clone(), 0);
        self.rest = 0..self.rest.len();
        if self.rest.end == self.input.len() {
            if self.input.len() >= MAX_RECORD {
                let what = format!("bytes in {}, which may have a quote that is never closed", self.next_row());
                return Err(TableError::TooMuch { what, limit: MAX_RECORD as u64 });
            }
            self.input.resize(self.input.len() * 2, 0);
        }
        let count = self.source.read_at(self.at, &mut self.input[self.rest.end..])?;
        self.at += count as u64;
        self.rest.end += count;
        self.is_at_end = count == 0;
        Ok(())
    }

    /// Makes a record of the next `len` bytes, which have no quotes.
    fn take_line(&mut self, len: usize) -> Result<(), TableError> {
        self.begin(len);
        let mut start = self.line.start;
        let mut end = |cells: &mut Vec<_>, at| push(cells, std::mem::replace(&mut start, at + 1)..at);
        // Cells are short: to call a search for each takes longer than eight bytes at a time do.
        let (words, bytes) = self.input[self.line.clone()].as_chunks::<8>();
        let delimiters = u64::from_le_bytes([self.delimiter; 8]);
        let mut at = self.line.start;
        for word in words {
            let mut found = zeros(u64::from_le_bytes(*word) ^ delimiters);
            while found != 0 {
                end(&mut self.cells, at + found.trailing_zeros() as usize / 8)?;
                found &= found - 1;
            }
            at += word.len();
        }
        for byte in bytes {
            if *byte == self.delimiter {
                end(&mut self.cells, at)?;
            }
            at += 1;
        }
        end(&mut self.cells, at)
    }

    /// Makes the next `len` bytes, and the end of the line behind them, the record in progress, without cells yet.
    fn begin(&mut self, len: usize) {
        self.line = self.rest.start..self.rest.start + len;
        self.rest.start = (self.line.end + 1).min(self.rest.end);
        self.cells.clear();
    }

    /// Makes a record of the next `len` bytes; true if one of its cells is quoted. What stands for a quote becomes one
    /// where it is.
    fn take_quoted(&mut self, len: usize) -> Result<bool, TableError> {
        self.begin(len);
        let line = &mut self.input[..self.line.end];
        let (mut at, mut has_quotes) = (self.line.start, false);
        loop {
            let mut cell = at..at;
            if line.get(at) == Some(&b'"') {
                has_quotes = true;
                at += 1;
                cell = at..at;
                while let Some(len) = memchr(b'"', &line[at..]) {
                    // The first of two quotes belongs to the cell; one alone ends what is quoted.
                    let is_two = line.get(at + len + 1) == Some(&b'"');
                    let kept = len + usize::from(is_two);
                    line.copy_within(at..at + kept, cell.end);
                    cell.end += kept;
                    at += len + 1 + usize::from(is_two);
                    if !is_two {
                        break;
                    }
                }
            }
            // What follows a quoted part belongs to the cell, too.
            let len = memchr(self.delimiter, &line[at..]).unwrap_or(line.len() - at);
            line.copy_within(at..at + len, cell.end);
            cell.end += len;
            at += len;
            push(&mut self.cells, cell)?;
            if at == line.len() {
                break;
            }
            at += 1;
        }
        Ok(has_quotes)
    }
}

fn push(cells: &mut Vec<Range<usize>>, cell: Range<usize>) -> Result<(), TableError> {
    // One more than may be is seen where names are counted; here is an end to what a record takes.
    if cells.len() > MAX_COLUMNS {
        return Err(TableError::TooMuch { what: "columns".into(), limit: MAX_COLUMNS as u64 });
    }
    cells.push(cell);
    Ok(())
}

/// The highest bit of each byte that is zero.
const fn zeros(word: u64) -> u64 {
    const LOWER: u64 = u64::from_le_bytes([0x7f; 8]);
    !(((word & LOWER) + LOWER) | word | LOWER)
}

/// Where the record ends that `input` begins with.
fn end(input: &[u8], delimiter: u8) -> End {
    let mut at = 0;
    loop {
        if input.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let Some(len) = memchr(b'"', &input[at..]) else { return End::Quoted };
                at += len + 1;
                if input.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        let Some(len) = memchr3(delimiter, b'\n', b'\r', &input[at..]) else { return End::Beyond };
        at += len;
        if input[at] != delimiter {
            return End::At(at);
        }
        at += 1;
    }
}

/// The delimiter that is most often in the first line that is not empty, outside quotes; a comma if none is.
fn delimiter_of(start: &[u8]) -> u8 {
    let (mut counts, mut is_quoted) = ([(b',', 0), (b';', 0), (b'\t', 0)], false);
    let mut before = b',';
    for &byte in start.iter().skip_while(|byte| b" \r\n".contains(byte)) {
        // A quote inside a cell is a character like others.
        let begins = matches!(std::mem::replace(&mut before, byte), b',' | b';' | b'\t');
        match byte {
            b'"' if is_quoted || begins => is_quoted = !is_quoted,
            b'\n' | b'\r' if !is_quoted => break,
            _ if is_quoted => {}
            _ => counts.iter_mut().filter(|(delimiter, _)| *delimiter == byte).for_each(|(_, count)| *count += 1),
        }
    }
    // The first of equals is the comma.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_that_of_the_first_line_which_is_not_empty() {
        assert_eq!(delimiter_of(b"\n \r\na;b;c\n1,2,3,4,5"), b';');
        // A quote begins only where a cell does.
        assert_eq!(delimiter_of(b"5\" pipe;a;b\n\",,,,\"\n"), b';');
        assert_eq!(delimiter_of(b"\"a;b;c;d\",e\n"), b',');
        assert_eq!(delimiter_of(b"\ta\n1\t2\n"), b'\t');
        assert_eq!(delimiter_of(b""), b',');
    }
}
