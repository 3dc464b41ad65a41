//! `bench`: how fast a model is here, printed as tables or as JSON. What is measured, and how, is the service's.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use scorehost::service::ServiceError;
use scorehost::service::bench::{Batch, Bench, BenchRequest, Layers, Peaks, Pictures, Rate, Work, bench};

use super::table::Table;
use super::{COMPLETED, DeviceName, FAILED, NamedArgs, note, say};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The model, an ONNX file
    model: PathBuf,
    /// Where it runs
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceName,
    #[command(flatten)]
    named: NamedArgs,
    /// Pictures at a time, each measured on its own
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,64,256,512")]
    batches: Vec<usize>,
    /// How long each measurement goes on at least
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Take each row's largest numbers, as a job does; 0 leaves them alone
    #[arg(long, value_name = "N", default_value = "5")]
    top: usize,
    /// Also decode and score the pictures of this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Leave out the layers
    #[arg(long)]
    no_layers: bool,
    /// What the device can do at best, in 10¹² operations a second [default: known for an H200]
    #[arg(long, value_name = "NUMBER", requires = "peak_gbs", value_parser = positive)]
    peak_tflops: Option<f64>,
    /// What its memory can do at best, in 10⁹ bytes a second [default: known for an H200]
    #[arg(long, value_name = "NUMBER", requires = "peak_tflops", value_parser = positive)]
    peak_gbs: Option<f64>,
    /// Write everything to this file as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("it is larger than 0".into()) }
}

/// An hour at most: a measurement that is longer was mistyped.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = positive(text)?;
    if number <= 3600.0 { Ok(Duration::from_secs_f64(number)) } else { Err("it is at most 3600".into()) }
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<u8> {
    let given = args.peak_tflops.zip(args.peak_gbs);
    let peaks = given.map(|(tera_flops, giga_bytes)| Peaks { tera_flops, giga_bytes, source: "given".into() });
    let request = BenchRequest {
        model: args.model.clone(),
        device: args.device.into(),
        named: args.named.named(),
        batches: args.batches.clone(),
        time: args.seconds,
        top: args.top,
        pictures: args.pictures.clone(),
        layers: !args.no_layers,
        peaks,
    };
    let measured = bench(&request, &mut |next| note!("{next}")).map_err(ServiceError::from)?;
    let json = serde_json::to_string_pretty(&measured).context("the result is not JSON")?;
    match args.output {
        Format::Json => say!("{json}"),
        Format::Table => print(&measured),
    }
    // Last: what took minutes is seen even if the file cannot be written.
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{json}\n")).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(if measured.batches.iter().any(|batch| batch.alone.is_some()) { COMPLETED } else { FAILED })
}

/// Layers named as those with most to gain.
const MOST_LOST: usize = 5;

fn print(measured: &Bench) {
    let model = &measured.model;
    let precision = model.precision.as_ref().map(|precision| format!(", {precision}")).unwrap_or_default();
    let weights = model.weight_bytes.map(|bytes| format!(", {} of weights", megabytes(bytes))).unwrap_or_default();
    say!("model   {}{precision}{weights}", model.path.display());
    say!("device  {}: {}", measured.device.name, measured.device.description);
    if measured.device.is_software {
        say!("        computed by the processor: its times say nothing about a GPU");
    }
    if let Some(Peaks { tera_flops, giga_bytes, source }) = &measured.peaks {
        say!("peaks   {tera_flops} TFLOP/s, {giga_bytes} GB/s ({source})");
    }
    print_layers(measured);
    print_batches(&measured.batches);
    if let Some(pictures) = &measured.pictures {
        print_pictures(pictures);
    }
    if let Some(bytes) = measured.peak_memory_bytes {
        say!("\nmemory of this process at its peak: {}", megabytes(bytes));
    }
}

fn print_layers(measured: &Bench) {
    let Some(layers) = &measured.layers else {
        let reason = measured.layers_left_out.as_deref().unwrap_or("there is no profile");
        say!("\nlayers: left out: {reason}");
        return;
    };
    let Layers { images, rows, total } = layers;
    say!("\nlayers, {images} pictures in a run; operations and bytes are those of one picture");
    let mut table = Table::new(&[
        "<node",
        "<shape",
        "<kernel",
        "<in",
        "GFLOP",
        "MB",
        "µs",
        "%",
        "TFLOP/s",
        "GB/s",
        "least µs",
        "<bound",
        "reached",
    ]);
    let line = |work: &Work| {
        let part = work.microseconds.zip(total.microseconds).map(|(mine, all)| 100.0 * mine / all);
        [
            number(Some(float(work.operations_per_image) / 1e9), 3),
            number(Some(float(work.bytes_per_image) / 1e6), 2),
            number(work.microseconds, 1),
            number(part, 1),
            number(work.tera_flops, 1),
            number(work.giga_bytes, 0),
            number(work.least_microseconds, 1),
        ]
    };
    for row in rows {
        let text = [cut(&row.node, 24), row.shape.clone(), row.kernel.clone(), row.precision.to_owned()];
        let bound = [row.bound.unwrap_or_default().to_owned(), percent(row.work.fraction)];
        table.row(text.into_iter().chain(line(&row.work)).chain(bound));
    }
    let name = ["all".to_owned(), String::new(), String::new(), String::new()];
    table.row(name.into_iter().chain(line(total)).chain([String::new(), percent(total.fraction)]));
    table.print();
    if let Some(least) = total.least_microseconds.filter(|&least| least > 0.0) {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let most = *images as f64 / least * 1e6;
        say!("least: what the peaks allow, layer by layer; all of it would be {most:.0} images/s");
    }
    let lost =
        layers.most_lost(MOST_LOST).into_iter().map(|(row, lost)| format!("{} {lost:.0} µs", cut(&row.node, 24)));
    let lost = lost.collect::<Vec<_>>().join(", ");
    if !lost.is_empty() {
        say!("most beyond the least: {lost}");
    }
}

fn print_batches(batches: &[Batch]) {
    say!("\nwhole network, images/s");
    let mut table = Table::new(&[
        "batch",
        "alone",
        "<slowest to fastest",
        "queued",
        "<slowest to fastest",
        "device only",
        "device memory",
        "<",
    ]);
    for batch in batches {
        let [alone, alone_range] = rate(batch.alone);
        let [queued, queued_range] = rate(batch.queued);
        table.row([
            batch.images.to_string(),
            alone,
            alone_range,
            queued,
            queued_range,
            number(batch.device_only, 1),
            batch.device_bytes.map(megabytes).unwrap_or_default(),
            batch.notes.join("; "),
        ]);
    }
    table.print();
    say!("alone: run after run, from host memory to host memory; queued: several under way at once, as jobs have them");
}

fn print_pictures(pictures: &Pictures) {
    let Pictures { files, left_out, bytes, cores, batch, .. } = pictures;
    let left = if *left_out > 0 { format!(", {left_out} left out") } else { String::new() };
    say!("\npictures: {files} files of {} together{left}; {cores} cores, batches of {batch}", megabytes(*bytes));
    let mut table = Table::new(&["<", "images/s", "<slowest to fastest", "a core"]);
    let rows = [
        ("decoded", pictures.decode),
        ("decoded and resized", pictures.prepare),
        ("and scored, end to end", pictures.end_to_end),
    ];
    for (name, measured) in rows {
        let [median, range] = rate(Some(measured));
        let a_core = number(Some(measured.images_per_second / float(*cores as u64)), 1);
        table.row([name.to_owned(), median, range, a_core]);
    }
    table.print();
    if let Some(part) = pictures.of_the_slower {
        say!("end to end is {part:.2} of the slower one of preparing and the model at that batch");
    }
    print_split(pictures);
}

/// A trial beside what jobs do: for whoever has a GPU to decide by.
fn print_split(pictures: &Pictures) {
    let Some(split) = &pictures.split else {
        if let Some(reason) = &pictures.split_left_out {
            say!("split JPEG decoding (a trial that no job uses): left out: {reason}");
        }
        return;
    };
    let kilobytes = float(split.bytes_per_image) / 1e3;
    say!(
        "\nsplit JPEG decoding (a trial that no job uses): {} files, {kilobytes:.0} kB each to the device",
        split.files
    );
    let mut table = Table::new(&["<", "images/s", "<slowest to fastest", "a core"]);
    let rows = [
        ("prepared by the cores alone", split.cores_alone),
        ("entropy decoding by the cores", split.entropy_decoding),
        ("and the rest by the device", split.divided),
    ];
    for (name, measured) in rows {
        let [median, range] = rate(Some(measured));
        let a_core = number(Some(measured.images_per_second / float(pictures.cores as u64)), 1);
        table.row([name.to_owned(), median, range, a_core]);
    }
    table.print();
}

/// A median, and what it lies between.
fn rate(rate: Option<Rate>) -> [String; 2] {
    rate.map_or_else(Default::default, |rate| {
        [number(Some(rate.images_per_second), 1), format!("{:.1} to {:.1}", rate.slowest, rate.fastest)]
    })
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
}

fn percent(value: Option<f64>) -> String {
    value.map(|value| format!("{:.0} %", 100.0 * value)).unwrap_or_default()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", float(bytes) / 1e6)
}

/// At most `most` characters, the end of them if there are more: names differ there.
fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(count + 1 - most).collect::<String>())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_end() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("stage4/conv2", 6), "…conv2");
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for text in ["0", "-1", "nan", "inf", "ten"] {
            assert!(positive(text).is_err(), "{text}");
        }
        assert!(seconds("3601").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }
}
