//! What is returned: rows, failed files, and too much of either.

use scorehost_sdk::{Cell, Level, Output, Result, context, file_name, log};

use crate::{Probe, constant};

pub(crate) fn behave(probe: &mut Probe, behave: &str, files: &[String]) -> Result<Option<Output>> {
    match behave {
        "prints" => {
            println!("out {}", file_name(&files[0]));
            eprintln!("err");
            log::write(Level::Debug, "quiet");
            log::write(Level::Warning, "loud");
        }
        "floods" => (0..100_000).for_each(|i| println!("line {i} \x1b[31mred")),
        "floods-stderr" => (0..100_000).for_each(|i| eprintln!("line {i} \x1b[31mred")),
        "floods-the-log" => (0..100_000).for_each(|i| log::write(Level::Error, &format!("line {i} \x1b[31mred"))),
        "logs-at-length" => (0..4).for_each(|_| log::write(Level::Error, &"\x1b[31m".repeat(16 << 20))),
        "short" => return Ok(Some(constant(&files[1..]))),
        "none" => return Ok(Some(Output::new(["file"]))),
        "many" => return many(files).map(Some),
        "types-change" => return types_change(files).map(Some),
        "names-failed" => return names_failed(files, 0).map(Some),
        "names-failed-wrongly" => return names_failed(files, 1000).map(Some),
        "names-failed-at-length" => return Ok(Some(names_failed_at_length(files))),
        "returns-gigabytes" => return Ok(Some(texts(300, 1 << 20))),
        "millions-of-rows" => return Ok(Some(texts(2_000_000, 1))),
        "thousands-of-columns" => return Ok(Some(thousands_of_columns())),
        "counts-calls" => return counted(files, probe.calls).map(Some),
        "retires" => {
            context::retire();
            return counted(files, probe.calls).map(Some);
        }
        _ => {}
    }
    Ok(None)
}

fn many(files: &[String]) -> Result<Output> {
    let mut output = Output::new(["file", "part"]);
    for file in files {
        for part in 0..3 {
            output.push((file_name(file), part));
        }
    }
    Ok(output)
}

fn types_change(files: &[String]) -> Result<Output> {
    let mut output = Output::new(["value"]);
    for file in files {
        let value = if context::mini_batch() == 0 { Cell::Integer(1) } else { Cell::from(file.as_str()) };
        output.push(vec![value]);
    }
    Ok(output)
}

fn names_failed(files: &[String], offset: usize) -> Result<Output> {
    let mut output = constant(&files[1..]);
    output.fail(offset, "not to my taste");
    Ok(output)
}

pub(crate) fn counted(files: &[String], count: u64) -> Result<Output> {
    let mut output = Output::new(["file", "count"]);
    for file in files {
        output.push((file_name(file), count.to_string()));
    }
    Ok(output)
}

fn names_failed_at_length(files: &[String]) -> Output {
    let mut output = Output::new(["file"]);
    for index in 0..files.len() {
        output.fail(index, "long ".repeat(1 << 20));
    }
    output
}

fn texts(rows: usize, bytes: usize) -> Output {
    let mut output = Output::new(["text"]);
    for _ in 0..rows {
        output.push(("x".repeat(bytes),));
    }
    output
}

fn thousands_of_columns() -> Output {
    let names: Vec<_> = (0..5000).map(|i| i.to_string()).collect();
    Output::new(std::array::from_fn::<&str, 5000, _>(|i| &names[i]))
}
