//! A table's file, CSV or Parquet: refused in words, or the same rows whatever the size of a batch.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use scorehost::row::{Cells, Column};
use scorehost::table::Table;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(scorehost_fuzz::folder);

/// Rows that are looked at: a few bytes of Parquet can stand for billions.
const ROWS: usize = 200;

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    let path = FOLDER.path().join("table.csv");
    std::fs::write(&path, bytes).expect("memory is not full");
    let (at_once, by_seven) = (read(&path, ROWS, 1 << 20), read(&path, 7, 1000));
    for (one, other) in at_once.iter().zip(&by_seven) {
        assert_eq!(one, other);
    }
});

/// The first rows, as texts, since what is no number equals nothing; up to where the file is damaged.
fn read(path: &Path, rows: usize, bytes: usize) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let Ok(mut table) = Table::open(path, "table.csv", &Arc::default()) else { return all };
    while all.len() < ROWS
        && let Ok(Some(batch)) = table.next(rows, bytes)
    {
        assert!((1..=rows).contains(&batch.rows()), "{} rows where {rows} were asked for", batch.rows());
        assert_eq!(batch.columns().len(), table.fields().len());
        let names: Vec<String> = table.fields().iter().map(|field| field.name.clone()).collect();
        let _ = batch.tensor(&names);
        all.extend((0..batch.rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect()));
    }
    all
}

fn cell(column: &Column, row: usize) -> String {
    if column.nulls.iter().any(|&null| null as usize == row) {
        return "null".into();
    }
    match &column.cells {
        Cells::Booleans(all) => format!("{:?}", all[row]),
        Cells::Integers(all) => format!("{:?}", all[row]),
        Cells::Numbers(all) => format!("{:?}", all[row]),
        Cells::Texts(all) => format!("{:?}", all[row]),
    }
}
