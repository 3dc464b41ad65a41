//! Which job runs next, and what becomes of those that ran: one thread that owns every job's process.
//!
//! Whose turn it is, [`super::turns`] says; among a tenant's own jobs the oldest is first. That a process is begun is written before it is, so that no job is forgotten; and a job that was running when the host
//! ended goes on from what it had committed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::catalog::Placed;
use super::folders::Folders;
use super::process::{Heard, JobProcess, ProcessEnd, without_folders};
use super::turns::{Turns, Waiting};
use super::{HostError, HostOptions, InputSpec, disk};
use crate::fault;
use crate::state::{Ended, Job, JobStatus, State, StateError};

/// Processes that may die under one job: a machine that is short of memory for a while is no fault of a job.
const MOST_DEATHS: u32 = 3;
/// How often processes are looked at.
const POLL: Duration = Duration::from_millis(20);
/// After something failed that is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a process may take to stop by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    running: Mutex<HashMap<String, Running>>,
    woken: Condvar,
    work: AtomicBool,
    closing: AtomicBool,
}

struct Running {
    job: Job,
    placed: Placed,
    output: PathBuf,
    process: JobProcess,
    began: Instant,
    /// Its tenant's.
    weight: u32,
    /// When it was asked to stop.
    stopping: Option<Instant>,
    /// How it ended, until that is written.
    end: Option<ProcessEnd>,
}

/// A job whose process has ended.
struct Gone {
    job: Job,
    weight: u32,
    placed: Placed,
    output: PathBuf,
    end: ProcessEnd,
}

/// What the thread works with.
struct Turn {
    shared: Arc<Shared>,
    state: Arc<State>,
    folders: Folders,
    program: PathBuf,
    allowed_inputs: Vec<PathBuf>,
    most_jobs: usize,
}

impl Scheduler {
    /// Begins with the jobs that were running when the host ended.
    pub(super) fn start(state: Arc<State>, folders: Folders, options: &HostOptions) -> Result<Self, HostError> {
        let shared = Arc::new(Shared {
            running: Mutex::default(),
            woken: Condvar::new(),
            work: AtomicBool::new(true),
            closing: AtomicBool::new(false),
        });
        let turn = Turn {
            shared: Arc::clone(&shared),
            folders,
            program: options.program.clone(),
            allowed_inputs: options.allowed_inputs.clone(),
            most_jobs: options.most_jobs.max(1),
            state,
        };
        for job in turn.state.running()? {
            turn.begin(job, 1)?;
        }
        let thread = std::thread::Builder::new().name("scheduler".into()).spawn(move || turn.run());
        Ok(Self { shared, thread: Mutex::new(Some(thread.map_err(disk("start a thread"))?)) })
    }

    /// There may be work.
    pub(super) fn wake(&self) {
        self.shared.work.store(true, Ordering::Release);
        self.shared.woken.notify_one();
    }

    /// What a job that runs told of itself.
    pub(super) fn heard(&self, id: &str) -> Option<Heard> {
        self.shared.running().get(id).map(|running| running.process.heard())
    }

    /// What every job that runs told of itself.
    pub(super) fn all_heard(&self) -> Vec<Heard> {
        self.shared.running().values().map(|running| running.process.heard()).collect()
    }

    /// Asks a job that runs to stop.
    pub(super) fn stop_job(&self, id: &str) {
        if let Some(running) = self.shared.running().get_mut(id) {
            running.stop();
        }
    }

    /// Stops every process, and waits for it.
    pub(super) fn stop(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn stop(&mut self) {
        self.process.stop();
        self.stopping.get_or_insert_with(Instant::now);
    }
}

impl Turn {
    fn run(self) {
        let mut turns = Turns::default();
        loop {
            let is_closing = self.shared.closing.load(Ordering::Acquire);
            if is_closing {
                self.shared.running().values_mut().for_each(Running::stop);
            }
            if let Err(error) = self.reap(is_closing, &mut turns) {
                eprintln!("error: {}", fault::chain(&error));
                // Tried again, such as when a full disk has room again; not so often that the log fills it.
                std::thread::sleep(PAUSE);
            }
            if is_closing && self.shared.running().is_empty() {
                return;
            }
            if !is_closing
                && self.shared.work.swap(false, Ordering::AcqRel)
                && let Err(error) = self.fill(&mut turns)
            {
                eprintln!("error: {}", fault::chain(&error));
                self.shared.work.store(true, Ordering::Release);
                std::thread::sleep(PAUSE);
            }
            let running = self.shared.running();
            let wait = if running.is_empty() { Duration::from_secs(1) } else { POLL };
            if !self.shared.work.load(Ordering::Acquire) {
                let _ = self.shared.woken.wait_timeout(running, wait);
            }
        }
    }

    /// Begins jobs until enough run or none may.
    fn fill(&self, turns: &mut Turns) -> Result<(), HostError> {
        while self.shared.running().len() < self.most_jobs {
            let mut waiting = self.state.waiting()?;
            waiting.retain(|(tenant, _, running)| *running < tenant.quotas.running);
            let who: Vec<Waiting<'_>> = waiting
                .iter()
                .map(|(tenant, job, running)| {
                    let (tenant, weight) = (tenant.id, tenant.weight);
                    Waiting { tenant, weight, running: *running, job: &job.id }
                })
                .collect();
            let Some(next) = turns.choose(&who) else { return Ok(()) };
            let (tenant, job, _) = waiting.swap_remove(next);
            self.begin(job, tenant.weight)?;
        }
        Ok(())
    }

    fn begin(&self, job: Job, weight: u32) -> Result<(), HostError> {
        let placed = self.placed(&job);
        let folder = self.folders.job(job.tenant, &job.id);
        let output = folder.join("output");
        if job.cancel && job.status == JobStatus::Running {
            // It was stopping when the host ended.
            return match finished(&output) {
                Some(record) => self.end(&job, JobStatus::Completed, Some(record), None),
                None => self.end(&job, JobStatus::Canceled, None, None),
            };
        }
        if !self.state.begin(&job.id)? {
            // Canceled meanwhile.
            return Ok(());
        }
        let started = self.input(&job).map_err(std::io::Error::other).and_then(|input| {
            self.folders.make(&folder)?;
            let wishes = (job.id.as_str(), job.overrides.clone().into_iter());
            JobProcess::start(&self.program, &placed, wishes, &input, &output, &folder.join("lock"))
        });
        let process = match started {
            Ok(process) => process,
            Err(error) => return self.end(&job, JobStatus::Failed, None, Some(format!("it cannot be begun: {error}"))),
        };
        let (id, tenant) = (job.id.clone(), job.tenant);
        let one = Running { job, weight, placed, output, process, began: Instant::now(), stopping: None, end: None };
        self.shared.running().insert(id.clone(), one);
        // A wish to stop that came before it could be found there.
        if self.state.job(tenant, &id)?.cancel
            && let Some(one) = self.shared.running().get_mut(&id)
        {
            one.stop();
        }
        Ok(())
    }

    fn placed(&self, job: &Job) -> Placed {
        let registered = job.model.as_deref().map(|digest| self.folders.model(job.tenant, digest));
        super::catalog::placed(&self.folders.deployment(job.tenant, &job.folder), registered)
    }

    fn input(&self, job: &Job) -> Result<PathBuf, HostError> {
        match serde_json::from_value(job.input.clone()).map_err(|e| StateError::Damaged(e.to_string()))? {
            InputSpec::Upload(id) => Ok(super::uploads::files(&self.folders.upload(job.tenant, &id))),
            // Again: the operator may have changed what is allowed.
            InputSpec::Path(path) => super::jobs::allowed(&self.allowed_inputs, &path),
        }
    }

    /// Looks after the processes that have ended. One stays in the list until its end is written: if that fails, it is
    /// tried again.
    fn reap(&self, is_closing: bool, turns: &mut Turns) -> Result<(), HostError> {
        let mut ended = Vec::new();
        for (id, one) in self.shared.running().iter_mut() {
            if one.stopping.is_some_and(|since| since.elapsed() > PATIENCE) {
                one.process.kill();
            }
            if one.end.is_none()
                && let Some(end) = one.process.ended().map_err(disk("wait for a process"))?
            {
                turns.used(one.job.tenant, one.weight, one.began.elapsed());
                one.end = Some(end);
            }
            if let Some(end) = &one.end {
                let (job, weight) = (one.job.clone(), one.weight);
                ended.push((
                    id.clone(),
                    Gone { job, weight, placed: one.placed.clone(), output: one.output.clone(), end: end.clone() },
                ));
            }
        }
        for (id, gone) in ended {
            let again = self.settle(&gone, is_closing)?;
            // Not above: a walk through an output is no work to do while everybody waits for the list.
            if !again {
                self.folders.add(gone.job.tenant, &gone.output);
            }
            self.shared.running().remove(&id);
            self.shared.work.store(true, Ordering::Release);
            if again {
                self.begin(self.state.job(gone.job.tenant, &id)?, gone.weight)?;
            }
        }
        Ok(())
    }

    /// Writes a job's end, or tells that it is to begin again.
    fn settle(&self, gone: &Gone, is_closing: bool) -> Result<bool, HostError> {
        let Gone { placed, output, end, .. } = gone;
        if let Some(record) = finished(output) {
            self.end(&gone.job, JobStatus::Completed, Some(record), None)?;
            return Ok(false);
        }
        let job = self.state.job(gone.job.tenant, &gone.job.id)?;
        if job.cancel {
            self.end(&job, JobStatus::Canceled, record(output), None)?;
            return Ok(false);
        }
        // It goes on when the host is opened again.
        if is_closing {
            return Ok(false);
        }
        let plain = |text: &str| without_folders(text.trim(), placed, &self.folders.of(job.tenant));
        // The command's own codes: it ended in words.
        if let Some(1 | 2) = end.code {
            let record = record(output);
            let told = record.as_ref().and_then(|record| record["error"].as_str()).map(plain);
            let said = plain(end.words.trim().strip_prefix("error: ").unwrap_or(&end.words));
            self.end(&job, JobStatus::Failed, record, Some(told.unwrap_or(said)))?;
            return Ok(false);
        }
        let deaths = self.state.died(&job.id)?;
        if deaths < MOST_DEATHS {
            return Ok(true);
        }
        let error = format!("its process died {deaths} times, at last with {}: {}", end.status, plain(&end.words));
        self.end(&job, JobStatus::Failed, record(output), Some(error))?;
        Ok(false)
    }

    fn end(&self, job: &Job, status: JobStatus, record: Option<Value>, error: Option<String>) -> Result<(), HostError> {
        Ok(self.state.end(&job.id, Ended { status, record, error })?)
    }
}

/// What `job.json` says, if there is one.
fn record(output: &std::path::Path) -> Option<Value> {
    let text = std::fs::read(output.join("job.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What `job.json` says of a job that is complete.
fn finished(output: &std::path::Path) -> Option<Value> {
    record(output).filter(|record| record["state"] == "Completed")
}
