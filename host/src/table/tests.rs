//! Tables against pandas, whose values `tests/reference/tables/make.py` wrote down, and against files that lie.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::*;
use crate::row::{Cells, Column, Rows};

fn reference(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/tables").join(name)
}

fn open(path: &Path) -> Result<Table, TableError> {
    Table::open(path, &path.to_string_lossy(), &Arc::default())
}

/// All of a table, in batches of at most this many rows, joined.
fn read(path: &Path, rows: usize) -> Result<(Vec<Field>, Vec<Batch>), TableError> {
    let mut table = open(path)?;
    let mut batches = Vec::new();
    while let Some(batch) = table.next(rows, usize::MAX)? {
        assert!(batch.rows() > 0 && batch.rows() <= rows, "{} rows", batch.rows());
        batches.push(batch);
    }
    Ok((table.fields().to_vec(), batches))
}

fn text(path: &Path, text: &[u8]) -> String {
    std::fs::write(path, text).unwrap();
    read(path, 2).unwrap_err().to_string()
}

/// The cells of a column of a batch, as JSON.
fn values(column: &Column) -> Vec<Value> {
    let mut values: Vec<Value> = match &column.cells {
        Cells::Booleans(v) => v.iter().map(|&v| v.into()).collect(),
        Cells::Integers(v) => v.iter().map(|&v| v.into()).collect(),
        Cells::Numbers(v) => v.iter().map(|&v| if v.is_finite() { v.into() } else { v.to_string().into() }).collect(),
        Cells::Texts(v) => v.iter().map(|v| v.as_str().into()).collect(),
    };
    column.nulls.iter().for_each(|&null| values[null as usize] = Value::Null);
    values
}

/// Floats are texts in the reference; and pandas makes floats of integers among which one is missing.
fn is_same(ours: &Value, pandas: &Value) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    ours == pandas || ours.is_number() && ours.as_f64() == pandas.as_str().and_then(number)
}

fn compare(file: &str, expected: &str) {
    let expected: Value = serde_json::from_slice(&std::fs::read(reference(expected)).unwrap()).unwrap();
    for rows in [1, 7, 1 << 20] {
        let (fields, batches) = read(&reference(file), rows).unwrap();
        let expected = expected.as_array().unwrap();
        assert_eq!(fields.len(), expected.len(), "{file}");
        for (at, (field, expected)) in fields.iter().zip(expected).enumerate() {
            assert_eq!(field.name, expected["name"].as_str().unwrap(), "{file}");
            let ours: Vec<_> = batches.iter().flat_map(|batch| values(&batch.columns()[at])).collect();
            let pandas = expected["values"].as_array().unwrap();
            assert_eq!(ours.len(), pandas.len(), "{file}, `{}`", field.name);
            for (row, (ours, pandas)) in ours.iter().zip(pandas).enumerate() {
                assert!(is_same(ours, pandas), "{file}, `{}`, row {row}: {ours} is {pandas} in pandas", field.name);
            }
        }
    }
}

#[test]
fn csv_is_read_as_pandas_reads_it() {
    let names = "quotes kinds missing byte-order-mark semicolons tabs index one-column spaces no-rows no-end-of-line";
    for name in names.split(' ') {
        compare(&format!("{name}.csv"), &format!("{name}.json"));
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_read_as_pandas_reads_it() {
    for codec in ["none", "snappy", "gzip", "zstd"] {
        compare(&format!("plain-{codec}.parquet"), "plain.json");
    }
    compare("holes.parquet", "holes.json");
    compare("odd.parquet", "odd.json");
}

#[cfg(feature = "parquet")]
#[test]
fn csv_and_parquet_give_the_same_columns() {
    let (fields, csv) = read(&reference("people.csv"), 100).unwrap();
    let (same_fields, parquet) = read(&reference("people.parquet"), 100).unwrap();
    assert_eq!(fields, same_fields);
    assert_eq!(csv, parquet);
}

#[test]
fn where_pandas_guesses_a_text_stays_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "code,phone,country\n007,+49,NA\n12,1,DE\n").unwrap();
    let (fields, batches) = read(&path, 9).unwrap();
    assert!(fields.iter().all(|field| field.kind == Kind::Text), "{fields:?}");
    assert_eq!(values(&batches[0].columns()[0]), ["007", "12"]);
    assert_eq!(values(&batches[0].columns()[2]), ["NA", "DE"]);
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("a.csv");
    let wide = format!("a{}\n", ",a".repeat(5000));
    let cases: &[(&[u8], &str)] = &[
        (b"", "the file is empty"),
        (b"a,b,a\n1,2,3\n", "two columns are named `a`"),
        (b"a,b\n1,2\n3\n", "row 2 has 1 cells, and the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "row 2 has 3 cells"),
        (b"a,b\n1,2\n3,\xff\n", "row 2, column `b`: byte 1 of the cell is not UTF-8"),
        (b"\xff,b\n", "the header: column 1: byte 1"),
        (b"\xff\xfea\0", "UTF-16"),
        (wide.as_bytes(), "columns: more than 4096"),
    ];
    for (bytes, expected) in cases {
        let error = text(&csv, bytes);
        assert!(error.contains(expected), "{error}");
    }
    let error = text(&folder.path().join("a.parquet"), b"a,b\n");
    assert!(error.contains("does not begin with `PAR1`"), "{error}");
    let error = text(&folder.path().join("a.xlsx"), b"a,b\n");
    assert!(error.contains("not a table"), "{error}");
    assert!(matches!(open(&folder.path().join("none.csv")), Err(TableError::Read(_))));
    assert!(matches!(open(folder.path()), Err(TableError::Read(_))));
}

#[test]
fn an_unclosed_quote_does_not_take_the_memory_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = text(&folder.path().join("a.csv"), format!("a\n\"{}", "x\n".repeat(10 << 20)).as_bytes());
    assert!(error.contains("a quote that is never closed"), "{error}");
}

#[cfg(feature = "parquet")]
#[test]
fn what_is_not_read_of_parquet_is_told() {
    let cases = [
        ("list.parquet", "column `a.list.element`: a list, map or struct"),
        ("too-large.parquet", "row 2, column `a`: 18446744073709551615 does not fit"),
        ("brotli.parquet", "compressed with Brotli"),
    ];
    for (name, expected) in cases {
        let error = read(&reference(name), 9).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_batch_ends_early_where_rows_are_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, format!("a,b\n{}", format!("1,{}\n", "x".repeat(1000)).repeat(100))).unwrap();
    let mut table = open(&path).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = table.next(1000, 10_000).unwrap() {
        sizes.push(batch.rows());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|&size| size <= 10) && sizes.len() <= 12, "{sizes:?}");
}

#[test]
fn a_reader_ends_when_nobody_waits() {
    let stop = Arc::new(AtomicBool::new(true));
    assert!(matches!(Table::open(&reference("people.csv"), "people.csv", &stop), Err(TableError::Stopped)));
}

#[test]
fn a_tensor_is_made_of_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "n,flag,x,t\n1,true,0.5,a\n2,,,b\n").unwrap();
    let batch = read(&path, 9).unwrap().1.remove(0);
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let tensor = batch.tensor(&names(&["x", "n", "flag", "n"])).unwrap();
    assert_eq!(tensor.shape(), [2, 4]);
    let floats = tensor.to_f32();
    assert_eq!(floats[..4], [0.5, 1.0, 1.0, 1.0]);
    assert!(floats[4].is_nan() && floats[6].is_nan());
    assert_eq!((floats[5], floats[7]), (2.0, 2.0));
    assert_eq!(batch.tensor(&[]).unwrap().shape(), [2, 0]);
    let error = |name| batch.tensor(&names(&[name])).unwrap_err().to_string();
    assert_eq!(error("t"), "column `t` holds texts, of which no tensor can be made");
    assert_eq!(error("y"), "there is no column `y`; there are `n`, `flag`, `x`, `t`");
}

fn columns(shift: i64) -> Vec<Column> {
    let column = |name: &str, cells, nulls| Column { name: name.into(), cells, nulls };
    vec![
        column("n", Cells::Integers(vec![shift, 2, i64::MIN]), vec![1]),
        column("x", Cells::Numbers(vec![0.1, -1e300, 2.0]), vec![2]),
        column("b", Cells::Booleans(vec![true, false, false]), vec![]),
        column("t", Cells::Texts(vec!["a \"b\", c\nd".into(), "é".into(), String::new()]), vec![2]),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let endings: &[&str] = if cfg!(feature = "parquet") { &["csv", "parquet"] } else { &["csv"] };
    for ending in endings {
        let path = folder.path().join(format!("a.{ending}"));
        let format = TableFormat::of(&path.to_string_lossy()).unwrap();
        let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), format);
        for shift in [1, 5] {
            writer.write(&Rows::new(columns(shift), 9).unwrap()).unwrap();
        }
        // Empty cells come as some type, and fit any.
        let blank = |column: Column| Column { cells: Cells::Integers(vec![7; 3]), nulls: vec![0, 1, 2], ..column };
        writer.write(&Rows::new(columns(1).into_iter().map(blank).collect(), 9).unwrap()).unwrap();
        drop(writer.finish().unwrap());
        let (_, batches) = read(&path, 3).unwrap();
        assert_eq!(batches.len(), 3, "{ending}");
        assert!(batches[2].columns().iter().all(Column::is_blank), "{ending}");
        for (batch, shift) in batches.iter().zip([1, 5]) {
            for (read, written) in batch.columns().iter().zip(columns(shift)) {
                assert_eq!(values(read), values(&written), "{ending}");
            }
        }
    }
}

#[test]
fn rows_of_other_columns_are_refused() {
    let mut writer = Writer::new(Vec::new(), TableFormat::Csv);
    writer.write(&Rows::new(columns(1), 9).unwrap()).unwrap();
    let mut other = columns(1);
    other[1].cells = Cells::Integers(vec![1, 2, 3]);
    let error = writer.write(&Rows::new(other, 9).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "column `x` of integers, where the table has `x` of numbers");
    let error = writer.write(&Rows::new(columns(1)[..2].to_vec(), 9).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "2 columns, where the table has 4");
    assert!(TableFormat::of("a.xlsx").is_err() && TableFormat::of("csv").is_err());
}

#[test]
fn a_quote_that_is_never_closed_is_an_error_and_swallows_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    for (text, expected) in [
        ("x,n\n1,a\n2,\"b\n3,c\n4,d\n", Some("a quote in row 2 is never closed")),
        ("x,n\n1,\"", Some("a quote in row 1 is never closed")),
        ("x,\"n\n1,2\n", Some("never closed")),
        ("x,n\n1,\"a\nb\"\n2,c", None),
        ("x,n\n1,\"a\"\"\"", None),
        ("x,n\r\n1,a\r", None),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read(&path, 9).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error.is_empty(), expected.is_none(), "{text:?}: {error}");
        assert!(error.contains(expected.unwrap_or_default()), "{text:?}: {error}");
    }
}

#[test]
fn a_name_that_says_tabs_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let names = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, 9).unwrap().0.into_iter().map(|field| field.name).collect::<Vec<_>>()
    };
    // As many commas as tabs, more of them, and no tab.
    assert_eq!(names("a.tsv", "name, first\tage, years\tb\nx,y\t1\t2\n"), ["name, first", "age, years", "b"]);
    assert_eq!(names("b.TSV", "a,b,c\td\n1\t2\n"), ["a,b,c", "d"]);
    assert_eq!(names("c.tsv", "a,b\n1\n"), ["a,b"]);
    assert_eq!(names("d.csv", "name, first\tage\nx,y\t1\n".replace("x,y\t1", "x,y").as_str()), ["name", " first\tage"]);
}

/// What `pandas.read_csv` gives of the same texts, with the same delimiter.
#[test]
fn lines_without_cells_are_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    for (text, expected) in [
        ("a\n1\n\n3\n", "1|3"),
        ("a\n1\n  \n3\n", "1|3"),
        ("a\r\n1\r\n  \r\n\r\n3", "1|3"),
        ("a\n1\n3\n  ", "1|3"),
        ("\n  \na\n1\n", "1"),
        ("a,b\n1,2\n \t \n3,4\n", "1|3"),
        ("a\tb\n1\t2\n  \n3\t4\n", "1|3"),
        // A line of its delimiters only has cells, and a quoted one is there, even if nothing is in it.
        ("a\tb\n1\t2\n\t\n3\t4\n", "1|null|3"),
        ("a\n1\n\"\"\n3\n", "1|null|3"),
        ("a\nx\n\" \"\ny\n", "\"x\"|\" \"|\"y\""),
        ("a\nu\n x\n", "\"u\"|\" x\""),
    ] {
        std::fs::write(&path, text).unwrap();
        let (_, batches) = read(&path, 9).unwrap();
        let cells: Vec<_> = values(&batches[0].columns()[0]).iter().map(Value::to_string).collect();
        assert_eq!(cells.join("|"), expected, "{text:?}");
    }
}

#[test]
fn a_column_without_values_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "a,b,c\n1,,NA\n,x,\n").unwrap();
    let mut table = open(&path).unwrap();
    assert_eq!(table.fields().iter().map(|field| field.is_blank).collect::<Vec<_>>(), [false, false, true]);
    // As texts, cells are what stands there.
    (0..3).for_each(|index| table.read_as_texts(index));
    let batch = table.next(9, usize::MAX).unwrap().unwrap();
    let cells: Vec<_> = batch.columns().iter().map(values).collect();
    assert_eq!(cells, [["1".into(), Value::Null], [Value::Null, "x".into()], ["NA".into(), Value::Null]]);
}

/// Quoted and plain cells that end anywhere in what is read at a time are those that another reader finds.
#[test]
fn records_do_not_depend_on_where_the_file_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut random = StdRng::seed_from_u64(3);
    let parts = ["a", "\"\"", ",", "\n", "\r\n", "é", "x y", "12"];
    let mut text = String::from("a,b\n");
    while text.len() < 700_000 {
        for end in [",", "\n"] {
            let long = if random.random_range(0..1000) == 0 { 20_000 } else { 6 };
            let is_quoted = random.random_range(0..3) > 0;
            let chosen = if is_quoted { &parts[..] } else { &parts[5..] };
            let cell: String =
                (0..random.random_range(1..long)).map(|_| chosen[random.random_range(0..chosen.len())]).collect();
            let quote = if is_quoted { "\"" } else { "" };
            text.extend([quote, &cell, quote, end]);
        }
    }
    std::fs::write(&path, &text).unwrap();
    let (_, batches) = read(&path, 1000).unwrap();
    let column = |at: usize| batches.iter().flat_map(|batch| values(&batch.columns()[at])).collect::<Vec<_>>();
    let mut reader = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let expected: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert!(expected.len() > 10_000);
    for at in 0..2 {
        let expected: Vec<Value> = expected.iter().map(|record| record[at].into()).collect();
        assert_eq!(column(at), expected);
    }
}

/// Every way to cut a file off, and bits turned at random: rows or an error come, and nothing else.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = vec!["kinds.csv", "quotes.csv"];
    if cfg!(feature = "parquet") {
        names.extend(["holes.parquet", "odd.parquet", "people.parquet", "plain-gzip.parquet", "plain-snappy.parquet"]);
    }
    let mut refused = 0;
    for name in names {
        let whole = std::fs::read(reference(name)).unwrap();
        let path = folder.path().join(name);
        let mut random = StdRng::seed_from_u64(7);
        for turn in 0..400 {
            let mut bytes = whole.clone();
            if turn % 4 == 0 {
                bytes.truncate(random.random_range(0..whole.len()));
            } else {
                for _ in 0..=turn % 8 {
                    // Half of the time near the end, where Parquet has its footer.
                    let from = if turn % 2 == 0 { 0 } else { whole.len().saturating_sub(2000) };
                    let at = random.random_range(from..whole.len());
                    bytes[at] ^= 1 << random.random_range(0..8);
                }
            }
            std::fs::write(&path, &bytes).unwrap();
            refused += usize::from(read(&path, 50).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
}
