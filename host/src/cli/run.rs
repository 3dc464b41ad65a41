//! `run`: score a folder with a deployment.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use clap::Args;
use scorehost::child;
use scorehost::job::record::{Record, State};
use scorehost::job::{Control, End};
use scorehost::output::Existing;
use scorehost::service::{self, Event, Input, Outcome, RunRequest, Source};
use scorehost::store::{Spool, SpoolFolder, StoreUrl};

use super::follow;
use super::gallery;
use super::objects;
use super::progress::Watcher;
use super::registry::AskingArgs;
use super::{
    COMPLETED, ConfineName, DeviceName, FAILED, INTERRUPTED, NamedArgs, WrongUse, compiler, model_trial, note, say,
};

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The deployment's YAML
    #[arg(short = 'f', long = "file", value_name = "DEPLOYMENT.yml")]
    deployment: PathBuf,
    /// A folder of files to score, or one file, or a place in an object store, such as s3://BUCKET/PREFIX
    #[arg(short, long)]
    input: PathBuf,
    /// The folder for predictions, errors, logs and the job record
    #[arg(short, long)]
    output: PathBuf,
    /// Replace a setting: --set settings.mini_batch_size=5
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Where models run [default: the deployment's, which is auto]
    #[arg(long, value_enum)]
    device: Option<DeviceName>,
    #[command(flatten)]
    named: NamedArgs,
    /// Whether the process gives up, before it looks at the files, what the job does not need
    #[arg(long, value_enum, default_value = "auto", env = "SCOREHOST_CONFINE")]
    confine: ConfineName,
    /// Replace an earlier output
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Continue a job that was stopped or killed
    #[arg(long)]
    resume: bool,
    /// Write report.html beside the predictions: pictures with their class and probability, classes, timings, errors
    #[arg(long)]
    report: bool,
    /// Names of class numbers for the report, one a line
    #[arg(long, value_name = "FILE", requires = "report")]
    labels: Option<PathBuf>,
    /// Print the job record as JSON on the last line of stdout
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    asking: AskingArgs,
    /// For a host that runs this job: begins or resumes it once this file's lock is had, tells progress as lines of JSON
    /// on stdout, and stops when stdin ends
    #[arg(long, hide = true, value_name = "LOCK", conflicts_with_all = ["json", "overwrite", "resume"])]
    follow: Option<PathBuf>,
    /// Of a host that runs this job: the folder through which another process fetches the input; they speak by the host
    #[arg(long, hide = true, value_name = "FOLDER", requires = "follow")]
    spool: Option<PathBuf>,
    /// The job's name, of the host that runs it
    #[arg(long, hide = true, value_name = "JOB")]
    name: Option<String>,
    /// For strangers' YAML: the script and the model have to lie in these folders
    #[arg(long, hide = true, value_name = "FOLDER")]
    within: Vec<PathBuf>,
}

/// What a host's job sees a place through: its host passes on what is said.
fn spooled(place: &Path, folder: &Path) -> anyhow::Result<Spool> {
    let place = place.to_str().context("the place is not Unicode")?.parse()?;
    let folder = SpoolFolder::new(folder.to_owned());
    Ok(Spool::new(place, folder, Box::new(std::io::stdout()), Box::new(BufReader::new(std::io::stdin()))))
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    if args.follow.is_some() {
        child::give_way();
    }
    if args.output.to_str().is_some_and(StoreUrl::is_meant) {
        let text = format!("an output is made in a folder of this machine, not at `{}`", args.output.display());
        return Err(WrongUse { text, hint: "-o FOLDER, and then `scorehost publish FOLDER PLACE`" }.into());
    }
    let (_fetcher, input) = match &args.spool {
        None => objects::input_of(&args.input)?,
        Some(folder) => (None, Input::Place(Arc::new(spooled(&args.input, folder)?))),
    };
    if args.report && matches!(input, Input::Place(_)) {
        let text = "a report shows pictures of a folder of this machine".to_owned();
        return Err(WrongUse { text, hint: "leave out --report" }.into());
    }
    let request = RunRequest {
        source: Source {
            file: args.deployment.clone(),
            set: args.set.clone(),
            within: args.within.clone(),
            asking: args.asking.asking(),
        },
        name: args.name.clone(),
        input,
        output: args.output.clone(),
        device: args.device.map(Into::into),
        named: args.named.named(),
        existing: match (args.overwrite, args.resume) {
            (true, _) => Existing::Overwrite,
            (_, true) => Existing::Resume,
            _ => Existing::Refuse,
        },
        compiler: compiler()?,
        trial: model_trial()?,
        confine: args.confine.into(),
    };
    // Read first: a job should not run for hours before it finds no labels.
    let labels = args.labels.as_deref().map(gallery::read_labels).transpose()?.unwrap_or_default();
    if let Some(lock) = &args.follow {
        return Ok(follow::follow(request, lock)?.map_or(COMPLETED, |outcome| code_of(&outcome.end)));
    }
    let outcome = watched(&request, args.quiet)?;
    if args.report && outcome.end == End::Completed {
        match gallery::write(&request.output, &args.input, &outcome.record, &labels) {
            Ok(report) => note!("report: {}", shown(&report)),
            // The job itself is complete, and says so.
            Err(error) => note!("warning: no report: {error:#}"),
        }
    }
    outcome.record.device.notices.iter().for_each(|notice| note!("device: {notice}"));
    if !args.json {
        print_summary(&outcome.record, &request.output);
    }
    if args.json {
        say!("{}", serde_json::to_string(&outcome.record).context("the record is not JSON")?);
    }
    Ok(code_of(&outcome.end))
}

/// Runs a job with its progress on stderr, and Ctrl-C taken as a wish to stop.
pub(crate) fn watched(request: &RunRequest, quiet: bool) -> anyhow::Result<Outcome> {
    let control = Control::default();
    let mut listening = Ok(());
    let mut watcher = Watcher::new(quiet);
    let outcome = service::run(request, &control, &mut |event| {
        if let Event::Confined(confinement) = event {
            if confinement.is_lacking() {
                note!("confinement: {confinement}");
            }
            // Not earlier: their threads would be outside. Until now there was nothing to finish.
            listening = stop_on_signals(&control).and_then(|()| objects::listen(&request.input));
        }
        watcher.show(event);
    });
    watcher.end();
    let outcome = outcome?;
    listening.map(|()| outcome)
}

/// The first signal finishes what runs, the second stops it, the third ends the process: what is committed is safe.
fn stop_on_signals(control: &Control) -> anyhow::Result<()> {
    let (control, signals) = (control.clone(), AtomicU32::new(0));
    ctrlc::set_handler(move || match signals.fetch_add(1, Ordering::Relaxed) {
        0 => {
            note!("\nstopping after the mini-batches that run; once more stops them too");
            control.finish();
        }
        1 => control.stop(),
        _ => std::process::exit(INTERRUPTED.into()),
    })
    .context("cannot listen for Ctrl-C")
}

pub(crate) fn code_of(end: &End) -> u8 {
    match end {
        End::Completed => COMPLETED,
        End::Failed(_) => FAILED,
        End::Interrupted => INTERRUPTED,
    }
}

/// The path as a person would type it.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

pub(crate) fn print_summary(record: &Record, output: &Path) {
    let counts = &record.counts;
    let retries = if counts.retries > 0 { format!(", {} retries", counts.retries) } else { String::new() };
    say!(
        "{:?}: {} of {} files scored, {} failed, {} rows{retries}",
        record.state,
        counts.succeeded,
        counts.files,
        counts.failed,
        counts.rows
    );
    say!(
        "{:.2} s, {:.1} files/s on {} ({})",
        record.seconds,
        record.files_per_second,
        record.device.name,
        record.device.description
    );
    if let Some(reason) = &record.error {
        say!("reason: {reason}");
    }
    let file = |name: &str| shown(&output.join(name));
    let is_all_done = counts.mini_batches_done == counts.mini_batches;
    match (record.state, &record.predictions) {
        (State::Completed, Some(name)) => say!("predictions: {}", file(name)),
        (State::Completed, None) => say!("output: {}", shown(output)),
        (State::Failed, _) if is_all_done => say!("hint: put it right, then start again with --overwrite"),
        (State::Failed, _) => say!("hint: --resume continues it, with --set error_threshold=… if more may fail"),
        _ => say!("hint: --resume continues it"),
    }
    if counts.failed > 0 {
        say!("errors: {}", file("errors.csv"));
    }
}
