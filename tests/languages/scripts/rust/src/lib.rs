//! Does what the deployment's tag `scenario` says; tests/languages.rs runs it. Every language has this script, and gives
//! the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scorehost_sdk::{
    Batch, Cell, Cells, Column, Failure, Model, Output, Result, Table, Writer, context, file_name, script,
};

fn init() -> Result<String> {
    Ok(context::setting("scenario").unwrap_or_default())
}

#[expect(clippy::ptr_arg, reason = "the state is what init returned")]
fn run(scenario: &mut String, mini_batch: &[String]) -> Result<Output> {
    match scenario.as_str() {
        "words" => words(mini_batch),
        "cells" => Ok(cells(mini_batch)),
        "failures" => failures(mini_batch),
        "own-files" => own_files(mini_batch),
        "once-more" => once_more(mini_batch),
        "texts" => texts(mini_batch),
        "rows" => rows(mini_batch),
        "parquet" => parquet(mini_batch),
        "partitions" => partitions(mini_batch),
        "written-once-more" => written_once_more(mini_batch),
        other => Err(format!("there is no scenario `{other}`").into()),
    }
}

/// Several rows a file: its words, and how many characters each has.
fn words(mini_batch: &[String]) -> Result<Output> {
    let mut output = Output::new(["file", "word", "characters"]);
    for (index, file) in mini_batch.iter().enumerate() {
        match std::fs::read_to_string(file) {
            Ok(text) => text.split_whitespace().for_each(|word| {
                output.push((file_name(file), word, i64::try_from(word.chars().count()).unwrap_or(i64::MAX)));
            }),
            Err(_) => output.fail(index, "not text"),
        }
    }
    Ok(output)
}

/// Cells of every kind, empty ones, and whole numbers among numbers.
fn cells(mini_batch: &[String]) -> Output {
    let mut output = Output::new(["file", "whole", "number", "maybe", "flag", "text", "nothing"]);
    for file in mini_batch {
        let file = Cell::from(file_name(file));
        let (text, empty) = (Cell::from, || Cell::Empty);
        let whole = [1, -9_007_199_254_740_993, i64::MAX].map(Cell::Integer);
        let number = [Cell::Integer(3), Cell::Number(0.1), Cell::Number(1e300)];
        let maybe = [empty(), Cell::Integer(7), empty()];
        let flag = [Cell::Boolean(true), Cell::Boolean(false), empty()];
        let texts = [text("plain"), text("\"quotes\", commas\nand lines"), text("")];
        let rows = whole.into_iter().zip(number).zip(maybe).zip(flag).zip(texts);
        for ((((whole, number), maybe), flag), text) in rows {
            output.push(vec![file.clone(), whole, number, maybe, flag, text, empty()]);
        }
    }
    output
}

/// A declared failure of each kind: one that stays, one that passes, one of a file.
fn failures(mini_batch: &[String]) -> Result<Output> {
    match (context::mini_batch(), context::attempt()) {
        (1, _) => return Err(Failure::permanent("not this one")),
        (2, 1) => return Err(Failure::transient("not yet")),
        (3, _) => return Err(Failure::transient("never")),
        _ => {}
    }
    let mut output = Output::new(["file", "mini_batch", "attempt"]);
    for (index, file) in mini_batch.iter().enumerate() {
        if file_name(file).starts_with("bad") {
            output.fail(index, "it is called bad");
        } else {
            let mini_batch = i64::try_from(context::mini_batch()).unwrap_or(i64::MAX);
            output.push((file_name(file), mini_batch, context::attempt()));
        }
    }
    Ok(output)
}

/// A row for each text of a table, and how many characters it has.
fn texts(mini_batch: &[String]) -> Result<Output> {
    let mut output = Output::new(["file", "text", "characters"]);
    for file in mini_batch {
        for batch in Table::open(file)?.batches(2) {
            let column = batch?.column("text")?;
            let Cells::Texts(texts) = column.cells else { return Err("the column holds no texts".into()) };
            for (row, text) in (0..).zip(&texts) {
                let text = (!column.nulls.contains(&row)).then_some(text);
                let characters = text.map(|text| i64::try_from(text.chars().count()).unwrap_or(i64::MAX));
                output.push((file_name(file), text, characters));
            }
        }
    }
    Ok(output)
}

/// The columns of a batch, and its prediction.
fn scored(model: &Model, batch: &Batch) -> Result<Vec<Column>> {
    let predictions = model.predict(&batch.tensor(&["height", "width"])?)?.floats()?;
    let mut columns = batch.columns()?;
    columns.push(Column::of("prediction", predictions)?);
    Ok(columns)
}

/// Each record of the tables, with its file and its prediction.
fn rows(mini_batch: &[String]) -> Result<Output> {
    let (model, mut output) = (Model::open(None)?, Output::default());
    for file in mini_batch {
        for batch in Table::open(file)?.batches(2) {
            let mut columns = scored(&model, &batch?)?;
            let rows = columns[0].cells.len();
            columns.insert(0, Column::of("file", std::iter::repeat_n(file_name(file), rows))?);
            output.append(columns)?;
        }
    }
    Ok(output)
}

/// A Parquet file for each table: its records with their predictions.
fn parquet(mini_batch: &[String]) -> Result<Output> {
    let model = Model::open(None)?;
    for file in mini_batch {
        let name = Path::new(file_name(file)).with_extension("parquet");
        let writer = Writer::create(&name.to_string_lossy())?;
        for batch in Table::open(file)?.batches(2) {
            writer.write(&scored(&model, &batch?)?)?;
        }
        writer.finish()?;
    }
    Ok(names(mini_batch))
}

/// A file for each class and mini-batch, in folders of classes.
fn partitions(mini_batch: &[String]) -> Result<Output> {
    let model = Model::open(None)?;
    let mut classes: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
    for file in mini_batch {
        for batch in Table::open(file)?.batches(2) {
            let batch = batch?;
            let predictions = scored(&model, &batch)?.pop();
            let (Cells::Integers(ids), Some(Column { cells: Cells::Numbers(predictions), .. })) =
                (batch.column("id")?.cells, predictions)
            else {
                return Err("the columns are of other kinds".into());
            };
            for (id, prediction) in ids.into_iter().zip(predictions) {
                classes.entry(if prediction >= 3.0 { "high" } else { "low" }).or_default().push((id, prediction));
            }
        }
    }
    for (class, members) in classes {
        let columns = [
            Column::of("id", members.iter().map(|member| member.0))?,
            Column::of("prediction", members.iter().map(|member| member.1))?,
        ];
        write(&format!("class={class}/part-{}.csv", context::mini_batch()), &columns, true)?;
    }
    Ok(names(mini_batch))
}

/// As [`once_more`], with files that the host writes; one of them is never finished.
fn written_once_more(mini_batch: &[String]) -> Result<Output> {
    let (number, attempt) = (context::mini_batch(), context::attempt());
    let columns = [Column::of("attempt", [attempt])?];
    write(&format!("{number}.{attempt}.jsonl"), &columns, true)?;
    write(&format!("{number}.{attempt}.open.jsonl"), &columns, false)?;
    if number == 1 || attempt == 1 { Err(Failure::transient("once more")) } else { Ok(names(mini_batch)) }
}

fn write(name: &str, columns: &[Column], finished: bool) -> Result<()> {
    let writer = Writer::create(name)?;
    writer.write(columns)?;
    if finished { writer.finish() } else { Ok(()) }
}

/// Where the script writes files of its own.
fn output_folder() -> Result<PathBuf> {
    Ok(std::env::var("SCOREHOST_OUTPUT_DIR").map_err(Failure::permanent)?.into())
}

/// The files' names alone: a row each, of which a job counts and drops the rows.
fn names(mini_batch: &[String]) -> Output {
    let mut output = Output::new(["file"]);
    mini_batch.iter().for_each(|file| output.push((file_name(file),)));
    output
}

/// A file of JSON lines for each input, in a folder: a line for each of its lines.
fn own_files(mini_batch: &[String]) -> Result<Output> {
    let folder = output_folder()?.join("lines");
    std::fs::create_dir_all(&folder)?;
    for file in mini_batch {
        let mut lines = String::new();
        for (number, line) in std::fs::read_to_string(file)?.lines().enumerate() {
            lines += &format!("{{\"line\": {}, \"words\": {}}}\n", number + 1, line.split_whitespace().count());
        }
        std::fs::write(folder.join(Path::new(file_name(file)).with_extension("jsonl")), lines)?;
    }
    Ok(names(mini_batch))
}

/// Writes a file, named by mini-batch and attempt; the first attempt at each fails, and all attempts at the second.
fn once_more(mini_batch: &[String]) -> Result<Output> {
    let (number, attempt) = (context::mini_batch(), context::attempt());
    std::fs::write(output_folder()?.join(format!("{number}.{attempt}.txt")), "written")?;
    if number == 1 || attempt == 1 { Err(Failure::transient("once more")) } else { Ok(names(mini_batch)) }
}

script!(init, run);
