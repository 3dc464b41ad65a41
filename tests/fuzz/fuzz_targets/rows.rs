//! Columns as a script returns them: refused in words, or written in a format so that a reader of that format finds
//! each row once, and each text as it was.
#![no_main]

use std::path::Path;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use scorehost::output::{Done, Existing, Format, Output, OutputOptions};
use scorehost::row::{Cells, Column, Rows};

const FORMATS: [Format; 4] = [Format::Azure, Format::Csv, Format::Jsonl, Format::Parquet];

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    let _ = score(&mut Unstructured::new(bytes));
});

fn score(u: &mut Unstructured<'_>) -> Result<()> {
    let format = *u.choose(&FORMATS)?;
    let folder = scorehost_fuzz::folder();
    let options = OutputOptions {
        folder: folder.path().join("output"),
        file_name: "predictions".into(),
        format,
        keep_rows: true,
        existing: Existing::Refuse,
    };
    let mut output = Output::create(options, b"plan", &serde_json::json!({})).expect("an empty folder is taken");
    let mut accepted = Vec::new();
    for index in 0..u.int_in_range(1..=3)? {
        let rows = Rows::new(columns(u)?, 100).ok().filter(|rows| output.accept(rows).is_ok());
        accepted.extend(rows.clone());
        let done = Done { index, files: 1, failed: u32::from(rows.is_none()), rows, ..Done::default() };
        output.commit(&[done]).expect("what was accepted can be committed");
    }
    output.finish(&serde_json::json!({})).expect("what was committed can be finished");
    check(format, &folder.path().join("output/predictions"), &accepted);
    Ok(())
}

/// Up to five columns: as a rule of one length and with sound nulls, since others are refused at once.
fn columns(u: &mut Unstructured<'_>) -> Result<Vec<Column>> {
    let rows = u.int_in_range(0..=6)?;
    let count = u.int_in_range(0..=5)?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let rows = if u.ratio(1, 50)? { u.int_in_range(0..=6)? } else { rows };
        let cells = match u.int_in_range(0..=3)? {
            0 => Cells::Booleans((0..rows).map(|_| u.arbitrary()).collect::<Result<_>>()?),
            1 => Cells::Integers((0..rows).map(|_| u.arbitrary()).collect::<Result<_>>()?),
            2 => Cells::Numbers((0..rows).map(|_| u.arbitrary()).collect::<Result<_>>()?),
            _ => Cells::Texts((0..rows).map(|_| u.arbitrary()).collect::<Result<_>>()?),
        };
        let mut nulls = Vec::new();
        for row in 0..rows {
            if u.ratio(1, 4)? {
                nulls.push(if u.ratio(1, 50)? { u.arbitrary()? } else { row });
            }
        }
        columns.push(Column { name: u.arbitrary()?, cells, nulls });
    }
    Ok(columns)
}

fn check(format: Format, path: &Path, accepted: &[Rows]) {
    let count: usize = accepted.iter().map(Rows::len).sum();
    let bytes = std::fs::read(path).expect("a finished output has its predictions");
    match format {
        Format::Azure => assert_eq!(delimited(&bytes, b' ', false, accepted), count),
        Format::Csv => assert_eq!(delimited(&bytes, b',', true, accepted), count),
        Format::Jsonl => {
            let text = std::str::from_utf8(&bytes).expect("JSON is text");
            let rows: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
            assert!(rows.iter().all(serde_json::Value::is_object));
            assert_eq!(rows.len(), count);
        }
        Format::Parquet => {
            assert_eq!((&bytes[..4], &bytes[bytes.len() - 4..]), (b"PAR1".as_slice(), b"PAR1".as_slice()))
        }
    }
}

/// How many rows a reader of comma-separated values finds, after the texts in them were compared.
fn delimited(bytes: &[u8], delimiter: u8, header: bool, accepted: &[Rows]) -> usize {
    let mut reader = csv::ReaderBuilder::new();
    let mut reader = reader.delimiter(delimiter).has_headers(header).flexible(true).from_reader(bytes);
    let records: Vec<csv::ByteRecord> = reader.byte_records().map(|r| r.expect("rows can be read")).collect();
    let written = accepted.iter().flat_map(|rows| (0..rows.len()).map(move |row| (rows, row)));
    for (record, (rows, row)) in records.iter().zip(written) {
        assert_eq!(record.len(), rows.columns().len(), "as many fields as columns");
        for (field, column) in record.iter().zip(rows.columns()) {
            let is_null = column.nulls.iter().any(|&null| null as usize == row);
            match &column.cells {
                _ if is_null => assert_eq!(field, b""),
                Cells::Texts(texts) => assert_eq!(field, texts[row].as_bytes()),
                // As pandas has it.
                Cells::Numbers(numbers) if numbers[row].is_nan() => {}
                _ => assert!(!field.is_empty()),
            }
        }
    }
    records.len()
}
