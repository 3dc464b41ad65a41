//! The loop: workers score mini-batches, each on its own thread with its own instance; this thread puts what they
//! finish back into plan order and commits it. Every rule is asked of [`super::retry`] and [`super::tally`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use super::feed::{Closing, Feed, WINDOW};
use super::mini_batch::{Scored, error_row, shown};
use super::plan::Plan;
use super::scorer::Scorer;
use super::tally::Tally;
use super::worker::{Finished, Worker};
use super::{Committed, Control, End, JobError, Progress, Settled, Summary};
use crate::deployment::Settings;
use crate::fault;
use crate::output::{Done, ErrorRow, Output, OutputError};
use crate::row::Rows;
use crate::script::Services;
use crate::store::Spool;

/// Everything that a job runs on.
pub struct Job<'a> {
    /// How mini-batches are run.
    pub settings: &'a Settings,
    /// What scores them.
    pub scorer: &'a Scorer,
    /// What its instances share.
    pub services: &'a Arc<Services>,
    /// The files.
    pub plan: &'a Plan,
    /// Where `logs/` goes.
    pub output_folder: &'a Path,
    /// Through which the files come, where they lie elsewhere.
    pub spool: Option<&'a Spool>,
    /// The first mini-batch that is not committed yet, and what is.
    pub from: Tally,
    /// How to stop it.
    pub control: &'a Control,
}

/// Runs the job to its end, commits what it gives to `output`, and reports after each group of commits.
///
/// # Errors
/// If the output cannot be written or the script never starts; what was committed stays committed, and is in `summary`.
pub fn run(
    job: &Job<'_>,
    output: &mut Output,
    summary: &mut Summary,
    mut report: impl FnMut(&Progress, &Committed),
) -> Result<(), JobError> {
    let feed = Feed::new(job.from.mini_batches, job.plan.mini_batch_count(), job.control);
    let staging = output.staging_folder();
    let workers = job.settings.max_concurrency_per_instance.get();
    let (sender, finished) = sync_channel(WINDOW as usize);
    std::thread::scope(|scope| {
        for number in 0..workers {
            let sender = sender.clone();
            let worker = Worker::new(job, &feed, staging.join(format!("instance-{number}")));
            let spawned = std::thread::Builder::new()
                .name(format!("script-{number}"))
                .spawn_scoped(scope, move || worker.work(&sender));
            if let Err(error) = spawned {
                feed.close();
                return Err(JobError::Threads(error));
            }
        }
        drop(sender);
        // Also if the observer panics: workers that wait for their turn must find the end.
        let _closed = Closing(&feed);
        let ended = commit_all(job, output, summary, &Channel { feed: &feed, finished: &finished }, &mut report);
        if ended.is_err() {
            // Nothing more can be kept, so nothing more is scored.
            job.control.stop();
        }
        // Workers that wait to hand over find the channel closed.
        drop(finished);
        ended
    })
}

fn commit_all(
    job: &Job<'_>,
    output: &mut Output,
    summary: &mut Summary,
    channel: &Channel<'_, '_>,
    report: &mut impl FnMut(&Progress, &Committed),
) -> Result<(), JobError> {
    let Channel { feed, finished } = channel;
    let mut waiting = BTreeMap::new();
    let mut first_error = None;
    // A resumed job may have failed already, by a threshold that is still the same.
    let mut failure = is_past(job, &summary.tally);
    while failure.is_none() {
        let Ok(first) = finished.recv() else { break };
        let mut full = None;
        // Whatever else is there already is committed with the same few syncs.
        for next in std::iter::once(first).chain(finished.try_iter()) {
            match next {
                Finished::Scored(scored) => drop(waiting.insert(scored.done.index, scored)),
                Finished::Full(limit) => full = Some(limit),
                Finished::Lost(error) => return Err(error.into()),
                Finished::NoInstance { attempts, error } => {
                    return Err(JobError::Init { attempts, source: error });
                }
            }
        }
        let (mut group, mut settled) = (Vec::new(), Vec::new());
        let mut freed = 0;
        while let Some(mut scored) = waiting.remove(&summary.tally.mini_batches) {
            accept(job, output, &mut scored.done);
            let done = &scored.done;
            let rows = done.rows.as_ref().map_or(0, Rows::len) as u64;
            summary.tally.add(done.files.into(), done.failed.into(), rows);
            summary.device_time += scored.device_time;
            summary.input_bytes += scored.input_bytes;
            freed += scored.bytes;
            first_error = first_error.or_else(|| scored.done.errors.first().map(in_words));
            settled.push(as_settled(&mut scored));
            group.push(scored.done);
            failure = is_past(job, &summary.tally);
            if failure.is_some() {
                break;
            }
        }
        if !group.is_empty() {
            let began = Instant::now();
            output.commit(&group)?;
            let committed = Committed { mini_batches: settled, seconds: began.elapsed().as_secs_f64() };
            for done in &group {
                job.services.loader.end(done.index);
            }
            if let Some(spool) = job.spool {
                spool.done(job.plan.files_before(summary.tally.mini_batches));
            }
            feed.committed(summary.tally.mini_batches, freed);
            summary.retries = feed.retries.load(Ordering::Relaxed);
            report(&progress(job, summary), &committed);
        }
        if let Some(limit) = full {
            return Err(OutputError::Quota { limit }.into());
        }
    }
    summary.end = match failure {
        Some(reason) => {
            job.control.stop();
            End::Failed(reason)
        }
        None if summary.tally.mini_batches < job.plan.mini_batch_count() => End::Interrupted,
        None if summary.tally.succeeded() == 0 => End::Failed(nothing_succeeded(first_error)),
        None => End::Completed,
    };
    Ok(())
}

/// Where mini-batches come from and go to.
struct Channel<'a, 'b> {
    feed: &'a Feed<'b>,
    finished: &'a Receiver<Finished>,
}

fn progress(job: &Job<'_>, summary: &Summary) -> Progress {
    Progress {
        tally: summary.tally,
        retries: summary.retries,
        mini_batches: job.plan.mini_batch_count(),
        files: job.plan.file_count() as u64,
        device_time: summary.device_time,
        input_bytes: summary.input_bytes,
    }
}

fn as_settled(scored: &mut Scored) -> Settled {
    let done = &scored.done;
    Settled {
        index: done.index,
        files: done.files,
        failed: done.failed,
        attempts: done.attempts,
        retried: std::mem::take(&mut scored.retried),
        error: done.errors.first().map(|error| (error.kind.clone(), error.message.clone())),
        started: scored.started,
        seconds: done.seconds,
    }
}

fn is_past(job: &Job<'_>, tally: &Tally) -> Option<String> {
    let threshold = job.settings.error_threshold?;
    let text = || format!("{} files failed, more than the error_threshold of {threshold}", tally.failed);
    tally.is_past(Some(threshold)).then(text)
}

fn nothing_succeeded(first_error: Option<String>) -> String {
    first_error.map_or_else(|| "no file succeeded".to_owned(), |first| format!("no file succeeded; the first: {first}"))
}

fn in_words(error: &ErrorRow) -> String {
    match error.file.as_str() {
        "" => error.message.clone(),
        file => format!("`{file}`: {}", error.message),
    }
}

/// Rows that do not fit what was written before fail their mini-batch; asked in plan order, so that it is the same
/// mini-batch every time.
fn accept(job: &Job<'_>, output: &mut Output, done: &mut Done) {
    let refused = done.rows.as_ref().and_then(|rows| output.accept(rows).err());
    let refused = refused.or_else(|| done.staged.as_ref().and_then(|folder| output.accept_staged(folder).err()));
    if let Some(error) = refused {
        let message = fault::chain(&error);
        let names = job.plan.mini_batch(done.index);
        done.errors = names.map(|name| error_row(&shown(name), done.attempts, "output", &message)).collect();
        done.failed = done.files;
        done.rows = None;
        done.staged = None;
    }
}
