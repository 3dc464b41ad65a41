//! One worker: an instance, the attempts of each mini-batch on it, and what becomes of what the script printed and
//! wrote. What a failure means is asked of [`super::retry`].

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

use super::feed::Feed;
use super::mini_batch::{MiniBatch, Scored, Timing};
use super::retry::{Decision, decide};
use super::runner::Job;
use super::scorer::Instance;
use crate::deployment::OutputAction;
use crate::output;
use crate::script::{Call, Printed, RunOutput, ScriptError};
use crate::store::SpoolError;

/// Bytes of logs that one run of a job keeps: a thousand mini-batches that each print all they may.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// What a worker hands over.
pub(super) enum Finished {
    Scored(Box<Scored>),
    /// The files to score do not come.
    Lost(SpoolError),
    /// The scripts' files take all that they may, this many bytes.
    Full(u64),
    /// The script's `init` failed for good, and never succeeded.
    NoInstance {
        attempts: u32,
        error: ScriptError,
    },
}

/// Scores mini-batches on its own thread, with an instance of its own.
pub(super) struct Worker<'a> {
    job: &'a Job<'a>,
    feed: &'a Feed<'a>,
    /// Where the instances of this worker write their own files.
    folder: PathBuf,
    started: u32,
}

impl<'a> Worker<'a> {
    pub(super) fn new(job: &'a Job<'a>, feed: &'a Feed<'a>, folder: PathBuf) -> Self {
        Self { job, feed, folder, started: 0 }
    }

    /// Scores what the feed deals out, until there is no more or nobody takes it.
    pub(super) fn work(mut self, sender: &SyncSender<Finished>) {
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
        if let Some(spool) = self.job.spool {
            match spool.wait(self.job.plan.files_before(index + 1), self.job.control.stop_flag()) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Finished::Lost(error)),
            }
        }
        let names: Vec<&[u8]> = self.job.plan.mini_batch(index).collect();
        let batch = MiniBatch::new(index, &names);
        let (started, began) = (SystemTime::now(), Instant::now());
        let mut retried = Vec::new();
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
            // Not this mini-batch's fault: with more room, it is scored when the job is resumed.
            if let ScriptError::JobFiles { limit } = error {
                return Some(Finished::Full(limit));
            }
            // A start that takes minutes to time out would take as many again.
            let is_hopeless = matches!(error, ScriptError::Timeout { call: "init" | "its start", .. })
                && !self.feed.started.load(Ordering::Relaxed);
            let retries = if is_hopeless { 0 } else { self.job.settings.max_retries };
            match decide(&error, attempt, retries) {
                Decision::GiveUp => break Err(error),
                Decision::Retry(pause) => {
                    self.feed.retries.fetch_add(1, Ordering::Relaxed);
                    retried.push(error.kind());
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
        let (seconds, input_bytes) = (began.elapsed().as_secs_f64(), self.input_bytes(&batch));
        let timing = Timing { started, seconds, device_time, input_bytes, attempts: attempt, retried };
        let scored = match result {
            Ok((output, staged)) => batch.succeeded(output, staged, timing, self.rows_count()),
            Err(error) => batch.failed(&error, timing),
        };
        Some(Finished::Scored(Box::new(scored)))
    }

    /// Bytes of a mini-batch's files. One that is gone has none.
    fn input_bytes(&self, batch: &MiniBatch<'_>) -> u64 {
        let folder = &self.job.services.input_folder;
        batch.files.iter().filter_map(|file| folder.join(file).metadata().ok()).map(|facts| facts.len()).sum()
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
        let started = self.job.scorer.start(self.job.services, folder.as_deref(), stop);
        let instance = started.inspect_err(|_| {
            // What it wrote counts no more. What cannot be removed goes with the whole staging folder.
            let _ = folder.as_deref().map(output::remove_tree);
        })?;
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
            running.instance.keep_files();
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
            let _ = output::remove_tree(folder);
        }
    }
}
