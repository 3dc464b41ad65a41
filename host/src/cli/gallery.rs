//! A finished output → the page that shows it. What goes in: the output's own files, the input folder, and labels for
//! class numbers. What comes out: `report.html` in the output folder.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rayon::prelude::*;
use scorehost::deployment::OutputFormat;
use scorehost::job::record::Record;
use scorehost::{store, vision};

use super::report::{self, Class, ErrorLine, Field, Item, MAX_ERRORS, MAX_ITEMS, ReportData, Timing};

/// A row of the predictions, as far as pages show it.
pub(crate) struct Row {
    pub(crate) file: String,
    pub(crate) label: String,
    pub(crate) probability: Option<f64>,
}

/// Names of class numbers, one a line.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn read_labels(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read labels `{}`", path.display()))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// The rows of an output whose first columns are file, class and probability; columns further right are left out.
///
/// # Errors
/// If the predictions cannot be read, or are in a format that is no text.
pub(crate) fn read_rows(output: &Path, record: &Record, labels: &[String]) -> anyhow::Result<Vec<Row>> {
    let name = record.predictions.as_deref().context("the job has no predictions file")?;
    let path = output.join(name);
    let cells = match record.settings.output_format {
        OutputFormat::Azure => read_separated(&path, b' ', false),
        OutputFormat::Csv => read_separated(&path, b',', true),
        OutputFormat::Jsonl => read_json_lines(&path),
        OutputFormat::Parquet => anyhow::bail!("reports are made of text, not of `{name}`"),
    };
    let cells = cells.with_context(|| format!("cannot read `{}`", path.display()))?;
    let label = |class: &String| {
        let named = class.parse().ok().and_then(|i: usize| labels.get(i));
        named.unwrap_or(class).clone()
    };
    let row = |cells: Vec<String>| Row {
        file: cells.first().cloned().unwrap_or_default(),
        label: cells.get(1).map(label).unwrap_or_default(),
        probability: cells.get(2).and_then(|p| p.parse().ok()),
    };
    Ok(cells.into_iter().map(row).collect())
}

fn read_separated(path: &Path, delimiter: u8, header: bool) -> anyhow::Result<Vec<Vec<String>>> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(header).flexible(true).from_path(path)?;
    reader.records().map(|row| Ok(row?.iter().map(str::to_owned).collect())).collect()
}

fn read_json_lines(path: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |line: &str| {
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)?;
        Ok(row.values().map(cell).collect())
    };
    std::fs::read_to_string(path)?.lines().map(row).collect()
}

/// Writes `report.html` into `output` and returns its path.
///
/// # Errors
/// If the output's files cannot be read or the page cannot be written.
pub(crate) fn write(output: &Path, input: &Path, record: &Record, labels: &[String]) -> anyhow::Result<PathBuf> {
    let rows = read_rows(output, record, labels)?;
    let data = ReportData {
        title: format!("{} · {}", record.deployment, record.name),
        state: format!("{:?}", record.state),
        reason: record.error.clone().unwrap_or_default(),
        figures: figures(record),
        device: format!("{}: {}", record.device.name, record.device.description),
        device_reason: record.device.reason.clone(),
        fields: fields(record),
        items: items(&rows, input)?,
        histogram: histogram(&rows),
        errors: errors(output)?,
        timings: timings(output)?,
    };
    let path = output.join("report.html");
    std::fs::write(&path, report::render(&data)?).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

fn field(name: &str, value: &impl ToString) -> Field {
    Field { name: name.to_owned(), value: value.to_string() }
}

fn figures(record: &Record) -> Vec<Field> {
    vec![
        field("files", &record.counts.files),
        field("failed", &record.counts.failed),
        field("rows", &record.counts.rows),
        field("seconds", &format!("{:.2}", record.seconds)),
        field("files/s", &format!("{:.1}", record.files_per_second)),
    ]
}

fn fields(record: &Record) -> Vec<Field> {
    let mut fields = vec![
        field("started", &record.started),
        field("mini-batches", &record.counts.mini_batches),
        field("retries", &record.counts.retries),
        field("script", &format!("{} ({})", record.script.name, record.script.digest)),
    ];
    if let Some(model) = &record.model {
        fields.push(field("model", &format!("{} ({})", model.name, model.digest)));
    }
    fields
}

const THUMBNAIL_SIDE: u32 = 112;

fn items(rows: &[Row], input: &Path) -> anyhow::Result<Vec<Item>> {
    let files = files_by_name(input)?;
    let limits = vision::Limits::default();
    let thumbnail = |row: &Row| {
        let bytes = files.get(&row.file).and_then(|path| std::fs::read(path).ok());
        // What is no picture is shown without one.
        bytes.and_then(|bytes| vision::thumbnail(&bytes, THUMBNAIL_SIDE, &limits).ok()).unwrap_or_default()
    };
    let item = |row: &Row| Item {
        file: row.file.clone(),
        label: row.label.clone(),
        probability: row.probability,
        thumbnail_jpeg: thumbnail(row),
    };
    Ok(rows[..rows.len().min(MAX_ITEMS)].par_iter().map(item).collect())
}

/// Scripts write a file's name, with or without the folders above it; of equal names the first is shown.
fn files_by_name(input: &Path) -> anyhow::Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    if input.is_file() {
        let name = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(HashMap::from([(name, input.to_owned())]));
    }
    let mut add = |name: &[u8]| {
        let name = String::from_utf8_lossy(name).into_owned();
        let path = input.join(&name);
        let base = name.rsplit('/').next().unwrap_or(&name).to_owned();
        found.entry(base).or_insert_with(|| path.clone());
        found.insert(name, path);
    };
    store::list(input, None, &mut add)?;
    Ok(found)
}

fn histogram(rows: &[Row]) -> Vec<Class> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.label.as_str()).or_insert(0) += 1;
    }
    counts.into_iter().map(|(label, count)| Class { label: label.to_owned(), count }).collect()
}

fn records(output: &Path, name: &str) -> anyhow::Result<Vec<csv::StringRecord>> {
    let path = output.join(name);
    let read = || csv::Reader::from_path(&path)?.records().collect::<Result<Vec<_>, _>>();
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

fn number<T: std::str::FromStr + Default>(row: &csv::StringRecord, column: usize) -> T {
    row.get(column).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn text(row: &csv::StringRecord, column: usize) -> String {
    row.get(column).unwrap_or_default().to_owned()
}

fn errors(output: &Path) -> anyhow::Result<Vec<ErrorLine>> {
    let line = |row: &csv::StringRecord| ErrorLine {
        file: text(row, 0),
        mini_batch: number(row, 1),
        attempts: number(row, 2),
        kind: text(row, 3),
        message: text(row, 4),
    };
    Ok(records(output, "errors.csv")?.iter().take(MAX_ERRORS).map(line).collect())
}

fn timings(output: &Path) -> anyhow::Result<Vec<Timing>> {
    // index, files, rows, attempts, start, seconds, device_seconds
    let timing = |row: &csv::StringRecord| Timing {
        seconds: number(row, 5),
        device_seconds: number(row, 6),
        attempts: number(row, 3),
    };
    Ok(records(output, "mini_batches.csv")?.iter().map(timing).collect())
}
