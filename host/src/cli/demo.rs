//! `demo`: from a fresh checkout to predictions and a page of them, in one command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;
use scorehost::confine::Confine;
use scorehost::job::End;
use scorehost::output::Existing;
use scorehost::service::{Input, RunRequest, Source};

use super::gallery::{self, Row};
use super::run::{code_of, print_summary, shown, watched};
use super::{DeviceName, NamedArgs, compiler, model_trial, note, say};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where models run
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceName,
    #[command(flatten)]
    named: NamedArgs,
    /// Where the output goes [default: target/demo in the checkout]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Rows printed, of the forty.
const SHOWN: usize = 8;

pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<u8> {
    let checkout = checkout()?;
    let demo = checkout.join("host").join("demo");
    build_scripts(&checkout)?;
    let request = RunRequest {
        source: Source { file: demo.join("deployment.yml"), ..Source::default() },
        name: None,
        input: Input::Path(demo.join("pictures")),
        output: args.output.clone().unwrap_or_else(|| checkout.join("target").join("demo")),
        device: Some(args.device.into()),
        named: args.named.named(),
        existing: Existing::Overwrite,
        compiler: compiler()?,
        trial: model_trial()?,
        confine: Confine::Auto,
    };
    let labels = gallery::read_labels(&demo.join("model").join("resnet14v2-shapes.labels.txt"))?;
    let outcome = watched(&request, false)?;
    if outcome.end == End::Completed {
        print_rows(&gallery::read_rows(&request.output, &outcome.record, &labels)?);
        print_summary(&outcome.record, &request.output);
        let report = gallery::write(&request.output, &demo.join("pictures"), &outcome.record, &labels)?;
        say!("report: {}", shown(&report));
    } else {
        print_summary(&outcome.record, &request.output);
    }
    Ok(code_of(&outcome.end))
}

/// The checkout that holds the demo: the one this was built in, or the one around the current folder.
fn checkout() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let mut candidates = here.ancestors().map(Path::to_owned).chain(built_in);
    let found = candidates.find(|folder| folder.join("host/demo/deployment.yml").is_file());
    found.context(
        "the demo needs the checkout of Scorehost\nhint: run it inside the checkout: cargo run --release -- demo",
    )
}

fn build_scripts(checkout: &Path) -> anyhow::Result<()> {
    note!("building the scripts: plugins/build rust");
    let script = checkout.join("plugins").join("build");
    let built = Command::new("bash").arg(&script).arg("rust").current_dir(checkout).output();
    let built = built.with_context(|| format!("cannot start `{}`", script.display()))?;
    if !built.status.success() {
        bail!("the scripts do not build:\n{}", String::from_utf8_lossy(&built.stderr).trim_end());
    }
    Ok(())
}

fn print_rows(rows: &[Row]) {
    let width = rows.iter().take(SHOWN).map(|row| row.file.len()).max().unwrap_or(0);
    for row in rows.iter().take(SHOWN) {
        let probability = row.probability.map_or_else(String::new, |p| format!("{:5.1} %", p * 100.0));
        say!("{:width$}  {:10} {probability}", row.file, row.label);
    }
    say!("… {} more", rows.len().saturating_sub(SHOWN));
}
