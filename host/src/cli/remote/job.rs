//! `job`: jobs of a host, from a look at them to the download.

use std::path::PathBuf;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use clap::Subcommand;
use indicatif::HumanBytes;
use scorehost::job::Progress;
use scorehost::job::tally::Tally;
use scorehost::service::host::{JobStatus, JobView, ProgressView};

use super::super::progress::{Watcher, count};
use super::super::run::shown;
use super::super::{COMPLETED, FAILED, WRONG_USE, note, say};
use super::client::{Client, pages};
use super::download::download;
use super::error::{RemoteError, plain};
use super::path::{encoded, local};
use super::show::Format;
use super::{HostArgs, Yes, name, show};

/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List jobs, the newest first
    List {
        /// Only those of this endpoint
        #[arg(short, long, value_name = "ENDPOINT", value_parser = name)]
        endpoint_name: Option<String>,
        /// Only those that are there
        #[arg(short, long, value_name = "STATUS", value_parser = status)]
        status: Option<JobStatus>,
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value = "50")]
        limit: usize,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show a job
    Show(JobArgs),
    /// Watch a job until it ends: exit code 0 if it is completed, 1 if it failed, else 2
    Stream(JobArgs),
    /// Stop a job; what it has committed stays
    Cancel(JobArgs),
    /// Let a job that failed or was canceled go on
    Resume(JobArgs),
    /// Delete a job that has ended, with its output
    Delete {
        /// The job
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Fetch a job's output
    Download {
        /// The job
        #[arg(short, long, value_parser = name)]
        name: String,
        /// The folder to write to [default: one here that is named as the job]
        #[arg(short = 'p', long, visible_alias = "path", value_name = "FOLDER")]
        download_path: Option<PathBuf>,
        /// Replace files that are there
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        host: HostArgs,
    },
}

#[derive(clap::Args)]
pub(crate) struct JobArgs {
    /// The job
    #[arg(short, long, value_parser = name)]
    name: String,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) fn job(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { endpoint_name, status, limit, host } => {
            show::all(&list(&host.client()?, (endpoint_name.as_deref(), *status), *limit)?, host.output);
        }
        Verb::Show(JobArgs { name, host }) => show::one(&find(&host.client()?, name)?, host.output),
        Verb::Stream(JobArgs { name, host }) => return Ok(stream(&host.client()?, name, host.output)?),
        Verb::Cancel(JobArgs { name, host }) => ask(name, "cancel", host)?,
        Verb::Resume(JobArgs { name, host }) => ask(name, "resume", host)?,
        Verb::Delete { name, yes, host } => {
            if !yes.is_given(&format!("delete job `{name}` with its output?"))? {
                note!("nothing was deleted");
                return Ok(FAILED);
            }
            host.client()?.delete(&address(name))?;
            note!("deleted job {name}");
        }
        Verb::Download { name, download_path, overwrite, host } => {
            let Some(folder) = download_path.clone().or_else(|| local(name)) else {
                let text = format!("`{name}` is no name of a folder");
                return Err(RemoteError::Use { text, hint: "-p names the folder" }.into());
            };
            let fetched = download(&host.client()?, name, &folder, *overwrite)?;
            note!("fetched {}, {}", count(fetched.files as u64, "file"), HumanBytes(fetched.bytes));
            match host.output {
                Format::Json => {
                    say!("{}", serde_json::json!({"folder": folder, "files": fetched.files, "bytes": fetched.bytes}));
                }
                Format::Table | Format::Name | Format::Csv => say!("{}", shown(&folder)),
            }
        }
    }
    Ok(COMPLETED)
}

fn address(name: &str) -> String {
    format!("/jobs/{}", encoded(name))
}

fn find(client: &Client, name: &str) -> Result<JobView, RemoteError> {
    client.get(&address(name))
}

fn ask(name: &str, verb: &str, host: &HostArgs) -> Result<(), RemoteError> {
    let job: JobView = host.client()?.ask_for(&format!("{}/{verb}", address(name)))?;
    show::one(&job, host.output);
    Ok(())
}

/// A status, in capitals and small letters alike.
fn status(text: &str) -> Result<JobStatus, String> {
    let found = JobStatus::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("there are {}", JobStatus::ALL.map(JobStatus::name).join(", ")))
}

fn list(
    client: &Client,
    (endpoint, status): (Option<&str>, Option<JobStatus>),
    limit: usize,
) -> Result<Vec<JobView>, RemoteError> {
    let asked = [("endpoint", endpoint), ("status", status.map(JobStatus::name))];
    let asked = asked.iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded((*value)?))));
    let asked = asked.collect::<Vec<_>>().join("&");
    pages(client, &if asked.is_empty() { "/jobs".to_owned() } else { format!("/jobs?{asked}") }, limit)
}

/// Shows how far a job is until it ends. A host that is started anew goes on with its jobs, so that a connection that
/// breaks in between is given some two minutes.
fn stream(client: &Client, name: &str, format: Format) -> Result<u8, RemoteError> {
    let pauses = ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).with_max_times(25);
    let mut job = find(client, name)?;
    let mut watcher = Watcher::new(false);
    let (mut is_begun, mut told) = (false, String::new());
    while !job.status.has_ended() {
        let why = job.waits.as_ref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
        let now = format!("{:?}{why}", job.status);
        if told != now {
            note!("{}: {now}", plain(&job.name));
            told = now;
        }
        if let Some(progress) = job.progress.map(counted) {
            if is_begun {
                watcher.advance(&progress)
            } else {
                watcher.begin(&progress)
            }
            is_begun = true;
        }
        std::thread::sleep(LOOK);
        let look = || find(client, name);
        job = look.retry(pauses).sleep(std::thread::sleep).when(RemoteError::is_worth_a_retry).call()?;
    }
    watcher.end();
    match format {
        Format::Json | Format::Name | Format::Csv => show::one(&job, format),
        Format::Table => {
            say!("{:?}: {}", job.status, counts(&job).unwrap_or_else(|| "nothing was scored".to_owned()));
            if let Some(error) = &job.error {
                let (error, hint) = error.split_once("\nhint: ").unwrap_or((error, ""));
                say!("reason: {}", plain(error));
                if !hint.is_empty() {
                    note!("hint: {}", plain(hint));
                }
            }
            note!("hint: scorehost job download -n {} fetches what there is", plain(&job.name));
        }
    }
    Ok(code(job.status))
}

/// As Azure's walk-through has them.
fn code(status: JobStatus) -> u8 {
    match status {
        JobStatus::Completed => COMPLETED,
        JobStatus::Failed => FAILED,
        JobStatus::Canceled | JobStatus::Queued | JobStatus::Running => WRONG_USE,
    }
}

fn counted(progress: ProgressView) -> Progress {
    let ProgressView { files, done, failed, mini_batches, mini_batches_done, rows, retries, .. } = progress;
    let tally = Tally { mini_batches: mini_batches_done, files: done, failed, rows };
    Progress { tally, retries, mini_batches, files, ..Progress::default() }
}

/// How far a job is, in words: of its record if it has one, else as it goes.
pub(super) fn counts(job: &JobView) -> Option<String> {
    let recorded = || {
        let counts = job.record.as_ref()?.get("counts")?;
        let count = |key: &str| counts.get(key)?.as_u64();
        let failed = count("failed")?;
        Some((count("succeeded")?.saturating_add(failed), count("files")?, failed, count("rows")?))
    };
    let running = || job.progress.map(|p| (p.done, p.files, p.failed, p.rows));
    let (done, files, failed, rows) = running().or_else(recorded)?;
    Some(format!("{done} of {}, {failed} failed, {}", count(files, "file"), count(rows, "row")))
}

#[cfg(test)]
mod tests {
    use scorehost::service::host::InputSpec;
    use serde_json::json;

    use super::*;

    fn job() -> JobView {
        let text = json!({
            "name": "job-1", "endpoint": "e", "deployment": "d", "version": 1, "digest": "sha256:0",
            "status": "Running", "canceling": false,
            "input": InputSpec::Path("/in".into()), "set": {}, "progress": null, "error": null, "record": null,
            "starts": 1, "created": "2026", "started": null, "ended": null,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_job_is_counted_by_its_record_once_it_has_one() {
        let mut job = job();
        assert_eq!(counts(&job), None);
        job.record = Some(json!({"counts": {"files": 9, "succeeded": 7, "failed": 2, "rows": 7}}));
        assert_eq!(counts(&job).unwrap(), "9 of 9 files, 2 failed, 7 rows");
        // Resumed: what it does now is newer than what it left.
        job.progress = Some(ProgressView { files: 9, done: 4, ..ProgressView::default() });
        assert_eq!(counts(&job).unwrap(), "4 of 9 files, 0 failed, 0 rows");
        job.progress = Some(ProgressView { files: 1, done: 1, rows: 1, ..ProgressView::default() });
        assert_eq!(counts(&job).unwrap(), "1 of 1 file, 0 failed, 1 row");
        job.progress = None;
        for odd in [json!(null), json!([]), json!({"counts": 1}), json!({"counts": {"files": -1}})] {
            job.record = Some(odd);
            assert_eq!(counts(&job), None);
        }
    }

    #[test]
    fn every_status_has_the_code_that_scripts_expect() {
        assert_eq!([JobStatus::Completed, JobStatus::Failed, JobStatus::Canceled].map(code), [0, 1, 2]);
    }
}
