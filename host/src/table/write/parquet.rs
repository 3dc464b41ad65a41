//! Row groups of Apache Parquet, compressed with Snappy, every column optional.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::cells;
use crate::row::{Cells, Rows};

/// Rows and bytes after which a row group ends: what readers take at a time, and what is held in memory here, plus
/// the rows that were added last.
pub(crate) const GROUP_ROWS: usize = 1 << 17;
pub(crate) const GROUP_BYTES: usize = 64 << 20;

pub(crate) fn properties() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::SNAPPY).build()
}

/// The schema as Parquet has it, of names and the kinds of [`Cells::kind`].
pub(crate) fn tree<'a>(columns: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<TypePtr, ParquetError> {
    let names = cells::names(columns.clone().map(|(name, _)| name));
    let field = |(name, (_, kind)): (&Cow<'_, str>, (&str, &str))| {
        let (physical, logical) = match kind {
            "booleans" => (Physical::BOOLEAN, None),
            "integers" => (Physical::INT64, None),
            "numbers" => (Physical::DOUBLE, None),
            // Texts, and columns that never had a cell.
            _ => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        field.with_repetition(Repetition::OPTIONAL).build().map(Arc::new)
    };
    let fields = names.iter().zip(columns).map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?))
}

/// The cells of one column that are not null, and for each row whether there is one.
pub(crate) struct Gathered {
    pub(crate) levels: Vec<i16>,
    pub(crate) values: Values,
}

pub(crate) enum Values {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Texts(Vec<ByteArray>),
}

/// A row group that is being gathered.
pub(crate) struct Group {
    pub(crate) columns: Vec<Gathered>,
    pub(crate) rows: usize,
}

impl Group {
    /// Of columns of these kinds.
    pub(crate) fn new<'a>(kinds: impl Iterator<Item = &'a str>) -> Self {
        let values = |kind| match kind {
            "booleans" => Values::Booleans(Vec::new()),
            "integers" => Values::Integers(Vec::new()),
            "numbers" => Values::Numbers(Vec::new()),
            _ => Values::Texts(Vec::new()),
        };
        let columns = kinds.map(|kind| Gathered { levels: Vec::new(), values: values(kind) }).collect();
        Self { columns, rows: 0 }
    }

    /// Adds rows of the same columns, and answers with about the bytes that they take.
    fn add(&mut self, rows: &Rows) -> usize {
        let mut bytes = 0;
        for (gathered, column) in self.columns.iter_mut().zip(rows.columns()) {
            let first = gathered.levels.len();
            gathered.levels.resize(first + rows.len(), 1);
            column.nulls.iter().for_each(|&null| gathered.levels[first + null as usize] = 0);
            let is_there = gathered.levels[first..].iter().map(|&level| level == 1);
            match (&mut gathered.values, &column.cells) {
                (Values::Booleans(to), Cells::Booleans(v)) => to.extend(kept(v, is_there)),
                (Values::Integers(to), Cells::Integers(v)) => to.extend(kept(v, is_there)),
                (Values::Numbers(to), Cells::Numbers(v)) => to.extend(kept(v, is_there)),
                (Values::Texts(to), Cells::Texts(v)) => {
                    let texts = v.iter().zip(is_there).filter(|(_, is_there)| *is_there);
                    to.extend(texts.map(|(text, _)| ByteArray::from(text.as_bytes().to_vec())));
                    bytes += v.iter().map(String::len).sum::<usize>();
                }
                _ => unreachable!("columns are of the kinds that the group was made for; this is a bug"),
            }
            bytes += rows.len() * size_of::<ByteArray>();
        }
        self.rows += rows.len();
        bytes
    }

    /// Writes all columns.
    pub(crate) fn write<W: io::Write + Send>(
        &self,
        mut to: SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        for column in &self.columns {
            let levels = &column.levels;
            match &column.values {
                Values::Booleans(v) => write_column::<BoolType, W>(&mut to, v, levels)?,
                Values::Integers(v) => write_column::<Int64Type, W>(&mut to, v, levels)?,
                Values::Numbers(v) => write_column::<DoubleType, W>(&mut to, v, levels)?,
                Values::Texts(v) => write_column::<ByteArrayType, W>(&mut to, v, levels)?,
            }
        }
        to.close().map(|_| ())
    }
}

fn kept<T: Copy>(cells: &[T], is_there: impl Iterator<Item = bool>) -> impl Iterator<Item = T> {
    cells.iter().zip(is_there).filter(|(_, is_there)| *is_there).map(|(&cell, _)| cell)
}

fn write_column<T: DataType, W: io::Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: &[i16],
) -> Result<(), ParquetError> {
    let mut column = to.next_column()?.ok_or_else(|| ParquetError::General("too few columns".to_owned()))?;
    column.typed::<T>().write_batch(values, Some(levels), None)?;
    column.close()
}

/// A file that grows by rows.
pub(super) struct ParquetWriter<W: io::Write + Send> {
    writer: SerializedFileWriter<W>,
    kinds: Vec<&'static str>,
    group: Group,
    bytes: usize,
}

impl<W: io::Write + Send> ParquetWriter<W> {
    /// Begins a file of the columns of `rows`, which are not written yet.
    pub(super) fn new(file: W, rows: &Rows) -> io::Result<Self> {
        let kinds: Vec<_> = rows.columns().iter().map(|column| column.cells.kind()).collect();
        let named = rows.columns().iter().map(|column| column.name.as_str()).zip(kinds.iter().copied());
        let tree = tree(named).map_err(io_error)?;
        let writer = SerializedFileWriter::new(file, tree, Arc::new(properties())).map_err(io_error)?;
        let group = Group::new(kinds.iter().copied());
        Ok(Self { writer, kinds, group, bytes: 0 })
    }

    pub(super) fn write(&mut self, rows: &Rows) -> io::Result<()> {
        self.bytes += self.group.add(rows);
        if self.group.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> io::Result<()> {
        self.writer.next_row_group().and_then(|to| self.group.write(to)).map_err(io_error)?;
        (self.group, self.bytes) = (Group::new(self.kinds.iter().copied()), 0);
        Ok(())
    }

    /// Ends the file, and gives it back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.group.rows > 0 {
            self.write_group()?;
        }
        self.writer.into_inner().map_err(io_error)
    }
}

/// A full disk stays a full disk, however the library wraps it.
pub(crate) fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}
