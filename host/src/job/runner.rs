//! The loop: workers score mini-batches, each on its own thread with its own instance; this thread puts what they
//! finish back into plan order and commits it. Every rule is asked of [`super::retry`] and [`super::tally`].

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::plan::Plan;
use super::retry::{Decision, decide};
use super::tally::{Tally, failed_files};
use super::{Control, End, JobError, Progress, Summary};
use crate::deployment::{OutputAction, Settings};
use crate::fault;
use crate::output::{Done, ErrorRow, Output};
use crate::row::{Cells, FailedFile, Rows};
use crate::script::{Call, Instance, Printed, RunOutput, Script, ScriptError, Services};

/// Everything that a job runs on.
pub struct Job<'a> {
    /// How mini-batches are run.
    pub settings: &'a Settings,
    /// What scores them.
    pub script: &'a Script,
    /// What its instances share.
    pub services: &'a Arc<Services>,
    /// The files.
    pub plan: &'a Plan,
    /// Where `logs/` goes.
    pub output_folder: &'a Path,
    /// The first mini-batch that is not committed yet, and what is.
    pub from: Tally,
    /// How to stop it.
    pub control: &'a Control,
}

/// Mini-batches finished ahead of the next one to be committed: enough that a slow one does not stop the others, few
/// enough that their rows fit in memory.
const WINDOW: u64 = 1024;

/// Bytes of rows that wait to be committed, beyond which nothing new is begun.
const WAITING_BYTES: usize = 256 << 20;

/// Bytes of logs that one run of a job keeps: a thousand mini-batches that each print all they may.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// Runs the job to its end, commits what it gives to `output`, and reports after each group of commits.
///
/// # Errors
/// If the output cannot be written or the script never starts; what was committed stays committed, and is in `summary`.
pub fn run(
    job: &Job<'_>,
    output: &mut Output,
    summary: &mut Summary,
    mut report: impl FnMut(&Progress),
) -> Result<(), JobError> {
    let feed = Feed::new(job.from.mini_batches, job.plan.mini_batch_count(), job.control);
    let staging = output.staging_folder();
    let workers = job.settings.max_concurrency_per_instance.get();
    let (sender, finished) = sync_channel(WINDOW as usize);
    std::thread::scope(|scope| {
        for number in 0..workers {
            let sender = sender.clone();
            let worker = Worker { job, feed: &feed, folder: staging.join(format!("instance-{number}")), started: 0 };
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

/// Closes the feed when dropped.
struct Closing<'a, 'b>(&'a Feed<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a worker hands over.
enum Finished {
    Scored(Box<Scored>),
    /// The script's `init` failed for good, and never succeeded.
    NoInstance {
        attempts: u32,
        error: ScriptError,
    },
}

struct Scored {
    done: Done,
    device_time: Duration,
    bytes: usize,
}

fn commit_all(
    job: &Job<'_>,
    output: &mut Output,
    summary: &mut Summary,
    channel: &Channel<'_, '_>,
    report: &mut impl FnMut(&Progress),
) -> Result<(), JobError> {
    let Channel { feed, finished } = channel;
    let mut waiting = BTreeMap::new();
    let mut first_error = None;
    // A resumed job may have failed already, by a threshold that is still the same.
    let mut failure = is_past(job, &summary.tally);
    while failure.is_none() {
        let Ok(first) = finished.recv() else { break };
        // Whatever else is there already is committed with the same few syncs.
        for next in std::iter::once(first).chain(finished.try_iter()) {
            match next {
                Finished::Scored(scored) => drop(waiting.insert(scored.done.index, scored)),
                Finished::NoInstance { attempts, error } => {
                    return Err(JobError::Init { attempts, source: error });
                }
            }
        }
        let mut group = Vec::new();
        let mut freed = 0;
        while let Some(mut scored) = waiting.remove(&summary.tally.mini_batches) {
            accept(job, output, &mut scored.done);
            let done = &scored.done;
            let rows = done.rows.as_ref().map_or(0, Rows::len) as u64;
            summary.tally.add(done.files.into(), done.failed.into(), rows);
            summary.device_time += scored.device_time;
            freed += scored.bytes;
            first_error = first_error.or_else(|| scored.done.errors.first().map(in_words));
            group.push(scored.done);
            failure = is_past(job, &summary.tally);
            if failure.is_some() {
                break;
            }
        }
        if !group.is_empty() {
            output.commit(&group)?;
            for done in &group {
                job.services.loader.end(done.index);
            }
            feed.committed(summary.tally.mini_batches, freed);
            summary.retries = feed.retries.load(Ordering::Relaxed);
            report(&progress(job, summary));
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

fn error_row(file: &str, attempts: u32, kind: &str, message: &str) -> ErrorRow {
    ErrorRow { file: file.to_owned(), attempts, kind: kind.to_owned(), message: message.to_owned() }
}

/// A file's name as tables print it; bytes that are not UTF-8 as `\xff`.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.utf8_chunks().fold(String::new(), |mut all, chunk| {
            all.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| all.push_str(&format!("\\x{byte:02x}")));
            all
        }),
    }
}

/// Deals out mini-batches, in order, not too far ahead of what is committed.
struct Feed<'a> {
    state: Mutex<FeedState>,
    moved: Condvar,
    total: u64,
    control: &'a Control,
    retries: AtomicU64,
    /// Bytes of logs, for their bound.
    logged: AtomicU64,
    /// Whether any instance ever started.
    started: std::sync::atomic::AtomicBool,
}

struct FeedState {
    next: u64,
    committed: u64,
    waiting_bytes: usize,
    closed: bool,
}

impl<'a> Feed<'a> {
    fn new(from: u64, total: u64, control: &'a Control) -> Self {
        Self {
            state: Mutex::new(FeedState { next: from, committed: from, waiting_bytes: 0, closed: false }),
            moved: Condvar::new(),
            total,
            control,
            retries: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            started: false.into(),
        }
    }

    /// The next mini-batch to score; none at the end, or when the job stops.
    fn next(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.closed || self.control.is_finishing() || state.next == self.total {
                return None;
            }
            // What holds the others up is being scored already, so this never waits for itself.
            let ahead = state.next - state.committed;
            if ahead == 0 || (ahead < WINDOW && state.waiting_bytes <= WAITING_BYTES) {
                state.next += 1;
                return Some(state.next - 1);
            }
            state =
                self.moved.wait_timeout(state, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn finished(&self, bytes: usize) {
        self.lock().waiting_bytes += bytes;
    }

    fn committed(&self, committed: u64, bytes: usize) {
        let mut state = self.lock();
        state.committed = committed;
        state.waiting_bytes -= bytes;
        self.moved.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker<'a> {
    job: &'a Job<'a>,
    feed: &'a Feed<'a>,
    /// Where the instances of this worker write their own files.
    folder: PathBuf,
    started: u32,
}

impl Worker<'_> {
    fn work(mut self, sender: &SyncSender<Finished>) {
        let mut instance = None;
        while let Some(index) = self.feed.next() {
            let finished = match self.score(index, &mut instance) {
                Some(finished) => finished,
                // Stopped: the mini-batch is not done, and will be when the job is resumed.
                None => return,
            };
            if let Finished::Scored(scored) = &finished {
                self.feed.finished(scored.bytes);
            }
            if sender.send(finished).is_err() {
                return;
            }
        }
    }

    /// All attempts of one mini-batch.
    fn score(&mut self, index: u64, instance: &mut Option<Running>) -> Option<Finished> {
        let names: Vec<&[u8]> = self.job.plan.mini_batch(index).collect();
        let batch = MiniBatch::new(index, &names);
        let began = Instant::now();
        let started = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut device_time = Duration::ZERO;
        let mut attempt = 0;
        let result = loop {
            attempt += 1;
            let (result, spent) = self.attempt(&batch, attempt, instance);
            device_time += spent;
            // A retry begins on a fresh instance, which nothing that went wrong can have touched. And an instance that
            // writes files of its own may have kept one open, or left one of a failed call.
            let is_tainted = result.as_ref().is_err_and(ScriptError::is_worth_a_retry);
            if is_tainted || !self.rows_count() {
                *instance = None;
            }
            let Err(error) = result else { break result };
            if self.job.control.stop_flag().load(Ordering::Relaxed) {
                return None;
            }
            // An init that takes minutes to time out would take as many again.
            let is_hopeless = matches!(error, ScriptError::Timeout { call: "init", .. })
                && !self.feed.started.load(Ordering::Relaxed);
            let retries = if is_hopeless { 0 } else { self.job.settings.max_retries };
            match decide(&error, attempt, retries) {
                Decision::GiveUp => break Err(error),
                Decision::Retry(pause) => {
                    self.feed.retries.fetch_add(1, Ordering::Relaxed);
                    if !self.pause(pause) {
                        return None;
                    }
                }
            }
        };
        let result = match result {
            Err(error) if !self.feed.started.load(Ordering::Relaxed) => {
                return Some(Finished::NoInstance { attempts: attempt, error });
            }
            result => result,
        };
        let timing = Timing { started, seconds: began.elapsed().as_secs_f64(), device_time, attempts: attempt };
        let scored = match result {
            Ok((output, staged)) => batch.succeeded(output, staged, timing, self.rows_count()),
            Err(error) => batch.failed(&error, timing),
        };
        Some(Finished::Scored(Box::new(scored)))
    }

    /// Waits before a retry; false if the job stops meanwhile, which leaves the mini-batch to a resumed one.
    fn pause(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        while !self.job.control.is_finishing() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }

    fn rows_count(&self) -> bool {
        self.job.settings.output_action == OutputAction::AppendRow
    }

    fn attempt(
        &mut self,
        batch: &MiniBatch<'_>,
        attempt: u32,
        slot: &mut Option<Running>,
    ) -> (Result<(RunOutput, Option<PathBuf>), ScriptError>, Duration) {
        if slot.as_ref().is_none_or(|running| running.instance.is_spent()) {
            *slot = None;
            match self.start() {
                Ok(running) => *slot = Some(running),
                Err((error, printed)) => {
                    self.write_log(batch.index, attempt, &printed);
                    return (Err(error), Duration::ZERO);
                }
            }
        }
        let running = slot.as_mut().expect("an instance was just started; this is a bug");
        let timeout = self.job.settings.timeout;
        let call = Call { mini_batch: batch.index, attempt, files: &batch.files, timeout };
        let result = running.instance.run(&call);
        self.write_log(batch.index, attempt, &running.instance.take_log());
        let device_time = running.instance.device_time();
        let result = result.and_then(|output| Ok((output, self.collect(batch.index, running)?)));
        (result, device_time)
    }

    /// A fresh instance, with an empty folder for its own files where the deployment asks for one.
    fn start(&mut self) -> Result<Running, (ScriptError, Printed)> {
        let folder = if self.rows_count() {
            None
        } else {
            self.started += 1;
            let folder = self.folder.join(self.started.to_string());
            std::fs::create_dir_all(&folder).map_err(|e| (ScriptError::engine(e), Printed::default()))?;
            Some(folder)
        };
        let stop = self.job.control.stop_flag();
        let instance = Instance::start(self.job.script, self.job.services, folder.as_deref(), stop)?;
        self.feed.started.store(true, Ordering::Relaxed);
        Ok(Running { instance, folder })
    }

    /// Moves what a successful call wrote out of the instance's folder, which stays open in the instance.
    fn collect(&self, index: u64, running: &Running) -> Result<Option<PathBuf>, ScriptError> {
        let Some(folder) = &running.folder else { return Ok(None) };
        let move_all = || -> std::io::Result<Option<PathBuf>> {
            let mut entries = std::fs::read_dir(folder)?.peekable();
            if entries.peek().is_none() {
                return Ok(None);
            }
            let staged = self.folder.join(format!("mini-batch-{index}"));
            std::fs::create_dir_all(&staged)?;
            for entry in entries {
                let entry = entry?;
                std::fs::rename(entry.path(), staged.join(entry.file_name()))?;
            }
            Ok(Some(staged))
        };
        move_all().map_err(ScriptError::engine)
    }

    /// What a script printed is kept for people; a job does not fail for want of it.
    fn write_log(&self, index: u64, attempt: u32, printed: &Printed) {
        let before = self.feed.logged.fetch_add(printed.text.len() as u64, Ordering::Relaxed);
        if printed.text.is_empty() || before > MAX_LOG_BYTES {
            return;
        }
        let folder = self.job.output_folder.join("logs");
        let write = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join(format!("{index:06}.{attempt}.log")), &printed.text));
        if let Err(error) = write {
            // With stderr gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "warning: cannot write the log of mini-batch {index}: {error}");
        }
    }
}

/// An instance and the folder that it may write to, which goes with it.
struct Running {
    instance: Instance,
    folder: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What is left is of calls that failed; the whole staging folder goes when the job ends.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

struct Timing {
    started: String,
    seconds: f64,
    device_time: Duration,
    attempts: u32,
}

/// One mini-batch: the files that the script gets, and those whose names it cannot be given.
struct MiniBatch<'a> {
    index: u64,
    names: &'a [&'a [u8]],
    /// Names for the script, which are Unicode in the contract.
    files: Vec<String>,
    /// For each of `files`, its place in `names`.
    places: Vec<usize>,
}

impl<'a> MiniBatch<'a> {
    fn new(index: u64, names: &'a [&'a [u8]]) -> Self {
        let unicode = |(i, name): (usize, &&[u8])| Some((std::str::from_utf8(name).ok()?.to_owned(), i));
        let (files, places) = names.iter().enumerate().filter_map(unicode).unzip();
        Self { index, names, files, places }
    }

    fn succeeded(&self, output: RunOutput, staged: Option<PathBuf>, timing: Timing, rows_count: bool) -> Scored {
        let mut errors = self.unnameable();
        let named = output.failed.len();
        for FailedFile { index, reason } in &output.failed {
            let name = self.places.get(*index as usize).map_or_else(String::new, |&i| shown(self.names[i]));
            errors.push(error_row(&name, timing.attempts, "file", reason));
        }
        let failed = failed_files(self.files.len(), named, output.rows.len(), rows_count);
        if failed > named {
            let message = format!("{failed} of {} files gave no row, and none was named as failed", self.files.len());
            errors.push(error_row("", timing.attempts, "missing_rows", &message));
        }
        let failed = failed + self.names.len() - self.files.len();
        let bytes = byte_count(&output.rows) + error_bytes(&errors);
        self.scored(Outcome { rows: Some(output.rows), errors, failed, staged, bytes }, timing)
    }

    fn failed(&self, error: &ScriptError, timing: Timing) -> Scored {
        let message = fault::chain(error);
        let mut errors = self.unnameable();
        for file in &self.files {
            errors.push(error_row(file, timing.attempts, error.kind(), &message));
        }
        let bytes = error_bytes(&errors);
        self.scored(Outcome { rows: None, errors, failed: self.names.len(), staged: None, bytes }, timing)
    }

    fn unnameable(&self) -> Vec<ErrorRow> {
        let bad = self.names.iter().filter(|name| std::str::from_utf8(name).is_err());
        bad.map(|name| error_row(&shown(name), 0, "name", "the file's name is not UTF-8, which scripts need")).collect()
    }

    fn scored(&self, outcome: Outcome, timing: Timing) -> Scored {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Scored {
            device_time: timing.device_time,
            bytes: outcome.bytes,
            done: Done {
                index: self.index,
                files: count(self.names.len()),
                failed: count(outcome.failed),
                rows: outcome.rows,
                errors: outcome.errors,
                attempts: timing.attempts,
                started: timing.started,
                seconds: timing.seconds,
                device_seconds: timing.device_time.as_secs_f64(),
                staged: outcome.staged,
            },
        }
    }
}

struct Outcome {
    rows: Option<Rows>,
    errors: Vec<ErrorRow>,
    failed: usize,
    staged: Option<PathBuf>,
    bytes: usize,
}

/// About how much memory errors take.
fn error_bytes(errors: &[ErrorRow]) -> usize {
    errors.iter().map(|error| error.file.len() + error.message.len() + 64).sum()
}

/// About how much memory rows take.
fn byte_count(rows: &Rows) -> usize {
    let cells = |cells: &Cells| match cells {
        Cells::Booleans(v) => v.len(),
        Cells::Integers(v) => v.len() * 8,
        Cells::Numbers(v) => v.len() * 8,
        Cells::Texts(v) => v.iter().map(|text| text.capacity() + 24).sum(),
    };
    rows.columns().iter().map(|column| cells(&column.cells)).sum()
}
