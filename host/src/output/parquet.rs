//! Apache Parquet, compressed with Snappy, every column optional.
//!
//! Such a file cannot grow mini-batch by mini-batch and survive a kill, since its directory is at its end. So the part
//! holds blocks, one for each mini-batch with rows, column by column, and the file is made of them when the job ends.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::ByteArray;
use parquet::file::writer::SerializedFileWriter;

use super::OutputError;
use super::disk::{self, Part};
use super::format::Schema;
use crate::row::{Cells, Rows};
use crate::table::write::parquet::{GROUP_BYTES, GROUP_ROWS, Gathered, Group, Values, io_error, properties, tree};

/// Appends one block: its length in bytes, the number of rows, then for each column its nulls and its cells, all
/// little-endian, texts behind their lengths. A column that is null throughout has no cells there: they are of a type
/// that need not be the column's.
pub(super) fn write_block(rows: &Rows, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    for column in rows.columns() {
        out.extend_from_slice(&(column.nulls.len() as u64).to_le_bytes());
        column.nulls.iter().for_each(|null| out.extend_from_slice(&null.to_le_bytes()));
        if column.nulls.len() == rows.len() {
            continue;
        }
        match &column.cells {
            Cells::Booleans(v) => out.extend(v.iter().map(|&b| u8::from(b))),
            Cells::Integers(v) => v.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
            Cells::Numbers(v) => v.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
            Cells::Texts(v) => v.iter().for_each(|text| {
                out.extend_from_slice(&(text.len() as u64).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }),
        }
    }
    let len = (out.len() - start - 8) as u64;
    out[start..start + 8].copy_from_slice(&len.to_le_bytes());
}

/// Makes the file `to`, durable, of the blocks in `part`. Without a schema there were no rows, and no columns are
/// known.
pub(super) fn convert(part: &Part, to: &Path, schema: Option<&Schema>) -> Result<(), OutputError> {
    let fail = |source| OutputError::from_io("write", to, source);
    let columns = schema.map_or(&[][..], |schema| &schema.0);
    let named = || columns.iter().map(|column| (column.name.as_str(), column.kind.as_str()));
    let tree = tree(named()).map_err(|error| fail(io_error(error)))?;
    disk::remove(to)?;
    let file = File::create(to).map_err(fail)?;
    let mut writer =
        SerializedFileWriter::new(&file, tree, Arc::new(properties())).map_err(|error| fail(io_error(error)))?;
    let mut blocks = Blocks::open(part)?;
    let mut group = Group::new(named().map(|(_, kind)| kind));
    let mut bytes = 0;
    loop {
        let block = blocks.next(&mut group)?;
        bytes += block.unwrap_or(0);
        let full = group.rows >= GROUP_ROWS || bytes >= GROUP_BYTES as u64;
        if group.rows > 0 && (full || block.is_none()) {
            let written = writer.next_row_group().and_then(|to| group.write(to));
            written.map_err(|error| fail(io_error(error)))?;
            group = Group::new(named().map(|(_, kind)| kind));
            bytes = 0;
        }
        if block.is_none() {
            break;
        }
    }
    writer.close().map_err(|error| fail(io_error(error)))?;
    disk::sync_file(to, &file)
}

/// Reads a part block by block. It is ours, and durable, and still every length in it is checked.
struct Blocks<'p> {
    path: &'p Path,
    file: std::io::Take<BufReader<File>>,
    block: Vec<u8>,
}

impl<'p> Blocks<'p> {
    fn open(part: &'p Part) -> Result<Self, OutputError> {
        let path = part.path();
        let file = File::open(path).map_err(|source| OutputError::from_io("open", path, source))?;
        Ok(Self { path, file: BufReader::new(file).take(part.len()), block: Vec::new() })
    }

    /// Adds the next block to `group`, and answers with its size; none at the end.
    fn next(&mut self, group: &mut Group) -> Result<Option<u64>, OutputError> {
        let fail = |source| OutputError::from_io("read", self.path, source);
        if self.file.limit() == 0 {
            return Ok(None);
        }
        let mut len = [0; 8];
        self.file.read_exact(&mut len).map_err(fail)?;
        let len = u64::from_le_bytes(len);
        self.block.clear();
        if len <= self.file.limit() {
            (&mut self.file).take(len).read_to_end(&mut self.block).map_err(fail)?;
            let mut rest = self.block.as_slice();
            if add(group, &mut rest).is_some() && rest.is_empty() {
                return Ok(Some(len));
            }
        }
        let reason = "a block of rows does not add up".to_owned();
        Err(OutputError::Damaged { path: self.path.to_owned(), reason })
    }
}

/// Adds the rows of a block; none if it does not add up.
fn add(group: &mut Group, from: &mut &[u8]) -> Option<()> {
    let rows = number(from)?;
    for Gathered { levels, values } in &mut group.columns {
        let first = levels.len();
        // Every cell takes a byte at least, or a null's four, so a false count cannot make us set aside more than the block.
        levels.resize(first.checked_add(rows.min(from.len()))?, 1);
        for _ in 0..number(from)? {
            let null = u32::from_le_bytes(from.split_off(..4)?.try_into().ok()?);
            *levels.get_mut(first.checked_add(null as usize)?)? = 0;
        }
        let levels = levels.get(first..first.checked_add(rows)?)?;
        if levels.iter().all(|&level| level == 0) {
            continue;
        }
        match values {
            Values::Booleans(v) => v.extend(kept(levels, from.split_off(..rows)?.iter().map(|&b| b != 0))),
            Values::Integers(v) => v.extend(kept(levels, words(from, rows)?.map(i64::from_le_bytes))),
            Values::Numbers(v) => v.extend(kept(levels, words(from, rows)?.map(f64::from_le_bytes))),
            Values::Texts(v) => {
                for level in levels {
                    let len = number(from)?;
                    let text = from.split_off(..len)?;
                    if *level == 1 {
                        v.push(ByteArray::from(text.to_vec()));
                    }
                }
            }
        }
    }
    group.rows += rows;
    Some(())
}

/// The cells of rows that have one.
fn kept<T>(levels: &[i16], cells: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    levels.iter().zip(cells).filter(|(level, _)| **level == 1).map(|(_, cell)| cell)
}

fn number(from: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(from.split_off(..8)?.try_into().ok()?)).ok()
}

fn words<'a>(from: &mut &'a [u8], count: usize) -> Option<impl Iterator<Item = [u8; 8]> + use<'a>> {
    let (words, _) = from.split_off(..count.checked_mul(8)?)?.as_chunks::<8>();
    Some(words.iter().copied())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::row::Column;

    fn rows(first: i64, count: i64, nulls: &[u32]) -> Rows {
        let range = first..first + count;
        let column = |name: &str, cells| Column { name: name.into(), cells, nulls: nulls.to_vec() };
        let columns = vec![
            column("n", Cells::Integers(range.clone().collect())),
            column("", Cells::Numbers(range.clone().map(|n| n as f64 / 3.0).collect())),
            column("t", Cells::Texts(range.clone().map(|n| format!("text {n}, \"é\"")).collect())),
            column("b", Cells::Booleans(range.map(|n| n % 2 == 0).collect())),
        ];
        Rows::new(columns, 1 << 20).unwrap()
    }

    fn written(batches: &[Rows]) -> (tempfile::TempDir, SerializedFileReader<File>) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        batches.iter().for_each(|rows| write_block(rows, &mut bytes));
        let part = Part::create(folder.path().join("part"), &bytes).unwrap();
        let to = folder.path().join("p.parquet");
        convert(&part, &to, batches.first().map(Schema::of).as_ref()).unwrap();
        let reader = SerializedFileReader::new(File::open(to).unwrap()).unwrap();
        (folder, reader)
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let (_folder, reader) = written(&[rows(0, 3, &[1]), rows(3, 2, &[])]);
        let read: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(read.len(), 5);
        assert_eq!(read[1], "{n: null, column1: null, t: null, b: null}");
        assert_eq!(read[3], "{n: 3, column1: 1.0, t: \"text 3, \"é\"\", b: false}");
        assert_eq!(read[4], "{n: 4, column1: 1.3333333333333333, t: \"text 4, \"é\"\", b: true}");
    }

    #[test]
    fn long_outputs_are_cut_into_row_groups() {
        let batches: Vec<Rows> = (0..5).map(|i| rows(i * 60_000, 60_000, &[0])).collect();
        let (_folder, reader) = written(&batches);
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [180_000, 120_000]);
    }

    #[test]
    fn without_rows_the_file_is_empty_and_whole() {
        let (_folder, reader) = written(&[]);
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }

    #[test]
    fn blocks_that_lie_are_damage_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let good = rows(0, 5, &[2]);
        let mut bytes = Vec::new();
        write_block(&good, &mut bytes);
        let mut refused = 0;
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 0xff;
            let part = Part::create(folder.path().join("part"), &bad).unwrap();
            let made = convert(&part, &folder.path().join("p.parquet"), Some(&Schema::of(&good)));
            refused += usize::from(made.is_err());
        }
        assert!(refused > 8, "{refused} of {} lies were noticed", bytes.len());
    }
}
