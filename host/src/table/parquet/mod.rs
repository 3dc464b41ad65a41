//! Parquet, of flat columns, row group by row group and page by page.
//!
//! The crate of this name decodes footers and values. Pages are found and decompressed here (`pages`), since nothing in
//! a file may decide how much memory that takes; the footer is walked first for the same reason (`compact`).

mod compact;
mod pages;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::column::reader::get_column_reader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use self::pages::{Budget, Pages};
use self::values::{Conversion, Decoded};
use super::source::Source;
use super::{Field, Kind, TableError, check_names};
use crate::row::Column;

/// The largest footer: ten thousand columns, or a hundred row groups of a thousand, take a few of these.
const MAX_FOOTER: usize = 16 << 20;

/// What the pages in use may take together, dictionaries included: some hundred columns with pages of the usual 1 MiB.
const MAX_PAGES: usize = 512 << 20;

/// What they may take in any case.
const MIN_PAGES: usize = 16 << 20;

/// Rows decoded at a time, unless they are long.
const CHUNK_ROWS: usize = 1024;

/// Bytes decoded at a time, as far as the footer tells how long rows are.
const CHUNK_BYTES: u64 = 4 << 20;

/// Gives the rows of one file.
pub(super) struct ParquetReader {
    source: Arc<Source>,
    meta: ParquetMetaData,
    conversions: Vec<Conversion>,
    memory: usize,
    budget: Arc<Budget>,
    next_group: usize,
    group: Group,
    /// Rows before the group in progress.
    row: u64,
}

/// The row group in progress, and what of it was decoded and not taken yet.
#[derive(Default)]
struct Group {
    columns: Vec<Decoded>,
    /// Rows that are not decoded yet.
    left: u64,
    chunk_rows: usize,
    /// What each decoded row takes in a batch.
    row_bytes: Vec<usize>,
    /// Rows that are decoded, and those of them that were taken.
    decoded: usize,
    taken: usize,
}

impl ParquetReader {
    /// Reads the footer.
    pub(super) fn open(source: Source) -> Result<(Self, Vec<Field>), TableError> {
        let footer = footer(&source)?;
        compact::check(&footer).ok_or_else(|| damaged("its footer does not add up"))?;
        let meta = guarded(|| ParquetMetaDataReader::decode_metadata(&footer))?;
        let schema = meta.file_metadata().schema_descr();
        let mut fields = Vec::new();
        let mut conversions = Vec::new();
        if schema.num_columns() == 0 {
            return Err(TableError::Header("there are no columns".into()));
        }
        for column in schema.columns() {
            let name = column.path().string();
            let refuse = |reason: String| TableError::Column { column: name.clone(), reason };
            let is_flat =
                column.path().parts().len() == 1 && column.max_rep_level() == 0 && column.max_def_level() <= 1;
            if !is_flat || column.self_type().get_basic_info().repetition() == Repetition::REPEATED {
                return Err(refuse("a list, map or struct; only plain columns are read".into()));
            }
            if column.converted_type() == ConvertedType::LIST {
                return Err(refuse("a list; only plain columns are read".into()));
            }
            let conversion = Conversion::of(column).map_err(refuse)?;
            // What writers say of a column that has no value, and so no type.
            let is_blank = matches!(column.logical_type_ref(), Some(LogicalType::Unknown));
            fields.push(Field { name: column.name().to_owned(), kind: conversion.kind(), is_blank });
            conversions.push(conversion);
        }
        check_names(fields.iter().map(|field| field.name.as_str()))?;
        let largest = check_groups(&meta, fields.len())?;
        // More than once, since dictionaries are larger when they are decoded, those of short texts by far; what the
        // footer says is only a bound to hold it to.
        let times = if fields.iter().any(|field| field.kind == Kind::Text) { 6 } else { 2 };
        let memory = usize::try_from(largest).unwrap_or(usize::MAX).saturating_mul(times).clamp(MIN_PAGES, MAX_PAGES);
        let budget = Budget::new(memory);
        let source = Arc::new(source);
        let (next_group, group, row) = (0, Group::default(), 0);
        Ok((Self { source, meta, conversions, memory, budget, next_group, group, row }, fields))
    }

    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The next rows, as [`super::Table::next`] has them.
    pub(super) fn next(
        &mut self,
        fields: &[Field],
        rows: usize,
        bytes: usize,
    ) -> Result<Option<Vec<Column>>, TableError> {
        let mut columns: Vec<Column> = fields.iter().map(|field| values::empty(&field.name, field.kind)).collect();
        let (mut count, mut held) = (0, 0usize);
        while count < rows && (held < bytes || count == 0) {
            if self.group.taken == self.group.decoded && !self.decode(fields)? {
                break;
            }
            let first = self.group.taken;
            let mut end = first;
            // As many as fit, one at least.
            while end < self.group.decoded && count + (end - first) < rows && (held < bytes || count + end == first) {
                held += self.group.row_bytes[end];
                end += 1;
            }
            for (column, decoded) in columns.iter_mut().zip(&mut self.group.columns) {
                decoded.take(first..end, column);
            }
            self.group.taken = end;
            count += end - first;
        }
        Ok((count > 0).then_some(columns))
    }

    /// Decodes some more rows; false at the end of the file.
    fn decode(&mut self, fields: &[Field]) -> Result<bool, TableError> {
        while self.group.left == 0 {
            if self.next_group == self.meta.num_row_groups() {
                return Ok(false);
            }
            self.group = guarded(|| self.open_group(self.next_group)).map_err(|e| self.in_group(e))?;
            self.next_group += 1;
        }
        let group = &mut self.group;
        let rows = group.chunk_rows.min(usize::try_from(group.left).unwrap_or(usize::MAX));
        for ((column, conversion), field) in group.columns.iter_mut().zip(&self.conversions).zip(fields) {
            let read = catch_unwind(AssertUnwindSafe(|| column.decode(rows, conversion)));
            let read = read.unwrap_or_else(|_| Err(ParquetError::General("its decoder panicked".into()).into()));
            read.map_err(|error| values::table_error(error, &field.name, self.row))?;
        }
        group.row_bytes = vec![0; rows];
        group.columns.iter().for_each(|column| column.add_row_bytes(&mut group.row_bytes));
        group.left -= rows as u64;
        (group.decoded, group.taken) = (rows, 0);
        self.row += rows as u64;
        Ok(true)
    }

    fn in_group(&self, error: TableError) -> TableError {
        match error {
            TableError::Damaged { format, reason } => {
                TableError::Damaged { format, reason: format!("row group {}: {reason}", self.next_group) }
            }
            other => other,
        }
    }

    fn open_group(&self, index: usize) -> Result<Group, ParquetError> {
        let group = self.meta.row_group(index);
        let left = u64::try_from(group.num_rows())?;
        let bytes: i64 =
            group.columns().iter().map(|column| column.uncompressed_size().max(0)).fold(0, i64::saturating_add);
        let row_bytes = u64::try_from(bytes)?.checked_div(left).unwrap_or(0).max(1);
        let chunk_rows = usize::try_from(CHUNK_BYTES / row_bytes)?.clamp(1, CHUNK_ROWS);
        let column = |chunk: &parquet::file::metadata::ColumnChunkMetaData| {
            let pages = Pages::new(&self.source, chunk, &self.budget)?;
            Ok(Decoded::new(get_column_reader(chunk.column_descr_ptr(), Box::new(pages))))
        };
        let columns = group.columns().iter().map(column).collect::<Result<_, ParquetError>>()?;
        Ok(Group { columns, left, chunk_rows, ..Group::default() })
    }
}

/// The bytes of the footer.
fn footer(source: &Source) -> Result<Vec<u8>, TableError> {
    let mut tail = [0; 8];
    let at = source.len().checked_sub(8).filter(|&at| at >= 4).ok_or_else(|| damaged("it is cut off"))?;
    if source.read_at(at, &mut tail)? != tail.len() {
        return Err(TableError::Changed);
    }
    let ([len @ .., b'P', b'A', b'R', last], at) = (tail, at) else {
        return Err(damaged("it does not end with `PAR1`, so that it may be cut off"));
    };
    if last == b'E' {
        return Err(TableError::Unsupported { format: "Parquet", reason: "it is encrypted".into() });
    }
    let len = u32::from_le_bytes(len);
    let start = at.checked_sub(u64::from(len)).filter(|&start| last == b'1' && start >= 4);
    let start = start.ok_or_else(|| damaged("its footer does not fit into it"))?;
    let len = len as usize;
    if len > MAX_FOOTER {
        return Err(TableError::TooMuch { what: "bytes in the footer".into(), limit: MAX_FOOTER as u64 });
    }
    let mut footer = vec![0; len];
    if source.read_at(start, &mut footer)? != len {
        return Err(TableError::Changed);
    }
    Ok(footer)
}

/// Checks what the rest relies on, and answers with the bytes of the largest row group, as the file has it.
fn check_groups(meta: &ParquetMetaData, columns: usize) -> Result<u64, TableError> {
    let mut largest = 0;
    for group in meta.row_groups() {
        if group.num_columns() != columns || group.num_rows() < 0 {
            return Err(damaged("a row group does not have the columns of the file"));
        }
        let bytes = group.columns().iter().map(|column| u64::try_from(column.uncompressed_size()).unwrap_or(0));
        largest = largest.max(bytes.fold(0, u64::saturating_add));
        for column in group.columns() {
            if column.file_path().is_some() {
                let reason = "its columns are in other files".into();
                return Err(TableError::Unsupported { format: "Parquet", reason });
            }
            pages::check_codec(column.compression())?;
        }
    }
    Ok(largest)
}

fn damaged(reason: &str) -> TableError {
    TableError::Damaged { format: "Parquet", reason: reason.to_owned() }
}

/// Runs a decoder; its panic is a damaged file, since only a file can have brought it about.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, TableError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(&error.to_string())),
        Err(_) => Err(damaged("its decoder panicked")),
    }
}

#[cfg(test)]
mod tests {
    use parquet::data_type::Int64Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    const COLUMNS: usize = 4;

    /// Distinct values of each column, each of which is there twice, so that a dictionary is written.
    const DISTINCT: usize = 100_000;

    fn with_dictionaries(path: &std::path::Path) {
        let schema: String = (0..COLUMNS).map(|at| format!("required int64 c{at};")).collect();
        let schema = parse_message_type(&format!("message m {{ {schema} }}")).unwrap();
        let properties = WriterProperties::builder().set_dictionary_page_size_limit(1 << 20).build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let values: Vec<i64> = (0..2 * DISTINCT as i64).map(|at| at % DISTINCT as i64).collect();
        while let Some(mut column) = group.next_column().unwrap() {
            column.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn a_dictionary_is_counted_as_long_as_its_column_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        with_dictionaries(&path);
        let open = || ParquetReader::open(Source::open(&path, &Arc::default()).unwrap()).unwrap();
        let all = COLUMNS * DISTINCT * size_of::<i64>();

        let (mut reader, fields) = open();
        let columns = reader.next(&fields, 10, usize::MAX).unwrap().unwrap();
        assert_eq!(columns[COLUMNS - 1].cells, crate::row::Cells::Integers((0..10).collect()));
        let budget = Arc::clone(&reader.budget);
        let held = budget.held();
        assert!((all..all + (4 << 20)).contains(&held), "{held} bytes for {all}");
        while reader.next(&fields, 50_000, usize::MAX).unwrap().is_some() {}
        drop(reader);
        assert_eq!(budget.held(), 0);

        // What all columns hold at once is what is bounded, not what one does.
        let (mut reader, fields) = open();
        reader.budget = Budget::new(all / 2);
        let error = reader.next(&fields, 10, usize::MAX).unwrap_err();
        assert!(error.to_string().starts_with("bytes of pages that are needed at once: more than"), "{error}");
    }
}
