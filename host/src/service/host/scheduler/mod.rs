//! Which job runs next, and what becomes of those that ran: one thread that owns every job's process.
//!
//! Whose turn it is, [`super::turns`] says; among a tenant's own jobs the oldest is first. That a process is begun is
//! written before it is, so that no job is forgotten; and a job that was running when the host ended goes on from what it
//! had committed.

mod ending;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::catalog::Placed;
use super::folders::{Folders, measure};
use super::process::{Heard, JobInput, JobProcess, JobWork, ProcessEnd, plain};
use super::traces::{Below, Traces};
use super::turns::{Holder, Turns, Waiting, cost};
use super::{HostError, HostOptions, InputSpec, Named, PlaceRoot, Told, disk};
use crate::fault;
use crate::observe::{Metrics, Span};
use crate::state::{Candidate, Job, JobStatus, State, StateError, Usage};
use ending::record;

/// How often processes are looked at.
const POLL: Duration = Duration::from_millis(20);
/// After something failed that is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what jobs use is added to what was written, and held against their tenants' limits.
const COUNT: Duration = Duration::from_secs(1);
/// How often it is asked whether a job makes room for another tenant's.
const ROOM: Duration = Duration::from_millis(100);
/// How often jobs are looked at that wait for the next month, or for a limit to be raised.
const WAIT: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    most_jobs: usize,
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
    /// How long it ran, once it has ended.
    took: Duration,
    /// What was written of what this process used.
    written: Usage,
    /// Bytes of the output that count as stored already.
    counted: u64,
    /// Its tenant's.
    weight: u32,
    /// Why it is stopped that nobody asked to stop.
    spent: Option<String>,
    /// Whether it was asked to make room for another tenant's.
    is_yielding: Option<Instant>,
    /// When it was asked to stop.
    stopping: Option<Instant>,
    /// How it ended, until that is written.
    end: Option<ProcessEnd>,
    /// Its process's, where anybody traces.
    span: Option<Span>,
}

/// What the thread works with.
struct Turn {
    shared: Arc<Shared>,
    state: Arc<State>,
    folders: Folders,
    program: PathBuf,
    allowed_inputs: Vec<PathBuf>,
    allowed_places: Vec<PlaceRoot>,
    processors: f64,
    /// Jobs that made room having committed nothing, and how often in a row. Forgotten with the host: it only means patience.
    in_vain: Mutex<HashMap<String, u32>>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Scheduler {
    /// Goes on with the jobs that were accepted and have not ended.
    pub(super) fn start(state: Arc<State>, folders: Folders, options: &HostOptions) -> Result<Self, HostError> {
        let shared = Arc::new(Shared {
            most_jobs: options.most_jobs.max(1),
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
            allowed_places: options.allowed_places.clone(),
            #[expect(clippy::cast_precision_loss, reason = "a count")]
            processors: std::thread::available_parallelism().map_or(1, usize::from) as f64,
            in_vain: Mutex::default(),
            metrics: Arc::clone(&options.metrics),
            traces: Traces::new(options.tracer.clone()),
            state,
        };
        // What ran when the host ended waits for its turn again: as many begin as run at once, whoever's they are.
        turn.state.requeue()?;
        for job in turn.state.running()? {
            turn.end_stopped(&job)?;
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

    /// Jobs that have a place, and places.
    pub(super) fn places(&self) -> (usize, usize) {
        (self.shared.running().len(), self.shared.most_jobs)
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
    /// What that is of the host.
    fn cost(&self, processors: f64) -> f64 {
        let (used, device) = (self.used(), self.process.heard().device);
        // Elsewhere models run on the processors, which are counted.
        let of_device = if device.is_some_and(|device| device.name == "gpu") { used.device_seconds } else { 0.0 };
        cost(used.instance_seconds, of_device, processors)
    }

    /// What its process used so far.
    fn used(&self) -> Usage {
        let took = if self.end.is_some() { self.took } else { self.began.elapsed() };
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let instances = self.job.instances as f64;
        Usage { instance_seconds: took.as_secs_f64() * instances, ..self.process.used() }
    }

    fn stop(&mut self) {
        self.process.stop();
        self.stopping.get_or_insert_with(Instant::now);
    }
}

impl Turn {
    fn run(self) {
        let mut turns = Turns::default();
        let (mut counted, mut filled, mut asked) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            let is_closing = self.shared.closing.load(Ordering::Acquire);
            if is_closing {
                self.shared.running().values_mut().for_each(Running::stop);
            }
            if let Err(error) = self.reap(is_closing, &mut turns) {
                tracing::error!(error = fault::chain(&error), "a job's end is not written yet");
                // Tried again, such as when a full disk has room again; not so often that the log fills it.
                std::thread::sleep(PAUSE);
            }
            if is_closing && self.shared.running().is_empty() {
                return;
            }
            if counted.elapsed() > COUNT {
                counted = Instant::now();
                if let Err(error) = self.count() {
                    tracing::error!(error = fault::chain(&error), "what jobs use cannot be written");
                }
            }
            if !is_closing && asked.elapsed() > ROOM {
                asked = Instant::now();
                if let Err(error) = self.make_room(&mut turns) {
                    tracing::error!(error = fault::chain(&error), "no room can be made");
                }
            }
            // A month may have begun.
            if filled.elapsed() > WAIT {
                self.shared.work.store(true, Ordering::Release);
            }
            if !is_closing && self.shared.work.swap(false, Ordering::AcqRel) {
                filled = Instant::now();
                if let Err(error) = self.fill(&mut turns) {
                    tracing::error!(error = fault::chain(&error), "no job can be begun");
                    self.shared.work.store(true, Ordering::Release);
                    std::thread::sleep(PAUSE);
                }
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
        while self.shared.running().len() < self.shared.most_jobs {
            let mut waiting = self.state.waiting(Duration::ZERO)?;
            // Its tenant's limits were lowered since it was accepted.
            if let Some((one, error)) = waiting.iter().find_map(|one| Some((one, one.fits().err()?))) {
                self.end(&one.job, JobStatus::Failed, None, Some(error.to_string()), Usage::default())?;
                continue;
            }
            waiting.retain(Candidate::has_room);
            let Some(next) = turns.choose(&who(&waiting)) else { return Ok(()) };
            let next = waiting.swap_remove(next);
            self.begin(next.job, next.tenant.weight)?;
        }
        Ok(())
    }

    /// Where all places are taken, and somebody waits who has less than a fair share: asks a job of whoever has more to
    /// make room. It waits again, and goes on later from what it has committed.
    fn make_room(&self, turns: &mut Turns) -> Result<(), HostError> {
        if self.shared.running().len() < self.shared.most_jobs {
            return Ok(());
        }
        let mut waiting = self.state.waiting(COUNT)?;
        waiting.retain(|one| one.fits().is_ok() && one.has_room());
        let who = who(&waiting);
        let Some(next) = turns.choose(&who) else { return Ok(()) };
        let mut running = self.shared.running();
        // One after the other: who makes room may be room enough.
        if running.values().any(|one| one.is_yielding.is_some() || one.stopping.is_some() || one.end.is_some()) {
            return Ok(());
        }
        let mut in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<String> = running.keys().cloned().collect();
        let holders: Vec<Holder> = running
            .values()
            .map(|one| {
                let tenant = one.job.tenant;
                let theirs = || running.values().filter(|other| other.job.tenant == tenant);
                Holder {
                    tenant,
                    weight: one.weight,
                    running: theirs().map(|other| other.job.instances).sum(),
                    since: theirs().map(|other| other.cost(self.processors)).sum(),
                    scored: one.process.scored().map(|(start, scored)| (start.as_secs_f64(), scored.as_secs_f64())),
                    ran: if one.process.is_scoring() { one.began.elapsed() } else { Duration::ZERO }.as_secs_f64(),
                    in_vain: in_vain.get(&one.job.id).copied().unwrap_or(0),
                }
            })
            .collect();
        let yields = turns.yields(&who[next], &holders);
        if let Some(one) = yields.and_then(|at| running.get_mut(&ids[at])) {
            one.is_yielding = Some(Instant::now());
            if one.process.scored().is_none() {
                *in_vain.entry(one.job.id.clone()).or_default() += 1;
            } else {
                in_vain.remove(&one.job.id);
            }
            one.process.finish();
        }
        Ok(())
    }

    /// Writes what jobs used since the last time, and stops those whose tenants have used up a month's limit.
    fn count(&self) -> Result<(), HostError> {
        let mut news = Vec::new();
        for (id, one) in self.shared.running().iter() {
            news.push((id.clone(), one.job.tenant, one.used().since(&one.written)));
        }
        let mut tenants: Vec<i64> = news.iter().map(|(_, tenant, _)| *tenant).collect();
        for (id, tenant, used) in news {
            if let Err(error) = self.state.add_usage(tenant, &id, used) {
                tracing::error!(job = id, error = fault::chain(&error), "what a job uses cannot be written");
                continue;
            }
            if let Some(one) = self.shared.running().get_mut(&id) {
                one.written.add(&used);
            }
        }
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            let Some(error) = self.state.spent(tenant)? else { continue };
            for one in self.shared.running().values_mut().filter(|one| one.job.tenant == tenant) {
                one.stop();
                let hint = "once that is so, resume the job: it goes on from what it has committed";
                one.spent.get_or_insert_with(|| format!("{error}; {hint}"));
            }
        }
        Ok(())
    }

    fn begin(&self, job: Job, weight: u32) -> Result<(), HostError> {
        let placed = self.placed(&job);
        let folder = self.folders.job(job.tenant, &job.id);
        let output = folder.join("output");
        if !self.state.begin(&job.id)? {
            // Canceled meanwhile: in the queue, where that was its end, or while it was to begin again.
            let job = self.state.job(job.tenant, &job.id)?;
            if job.cancel && job.status == JobStatus::Running {
                self.end(&job, JobStatus::Canceled, record(&output), None, Usage::default())?;
            }
            return Ok(());
        }
        let input = match self.input(&job) {
            Ok(input) => input,
            Err(error @ HostError::Refused(_)) => {
                let error = Some(format!("it cannot be begun: {error}"));
                return self.end(&job, JobStatus::Failed, None, error, Usage::default());
            }
            Err(error) => return self.put_back(&job, error),
        };
        let tenant = match self.state.tenant_of(&job) {
            Ok(tenant) => tenant,
            Err(error) => return self.put_back(&job, error.into()),
        };
        let span = self.traces.begin(&job, &tenant);
        let traced = self.traces.below(&span);
        let traceparent = span.as_ref().map(|span| span.place().traceparent());
        // Before its process makes anything there, which is counted when it has ended.
        let counted = measure(&folder).counted();
        let started = self.folders.make(&folder).and_then(|()| {
            let hear = heard(&self.metrics, traced, job.id.clone(), tenant.clone());
            let work = JobWork {
                program: self.program.clone(),
                placed: placed.clone(),
                name: job.id.clone(),
                overrides: job.overrides.clone(),
                input,
                folder: folder.clone(),
                publish: job.output.clone(),
                traceparent,
            };
            JobProcess::start(work, Box::new(hear))
        });
        let process = match started {
            Ok(process) => process,
            // Such as too many open files: no fault of the job's.
            Err(error) => return self.put_back(&job, disk("start a job's process")(error)),
        };
        self.tell_begun(&job, &tenant);
        let (id, tenant) = (job.id.clone(), job.tenant);
        let one = Running {
            job,
            weight,
            placed,
            counted,
            output,
            process,
            began: Instant::now(),
            took: Duration::ZERO,
            written: Usage::default(),
            spent: None,
            is_yielding: None,
            stopping: None,
            end: None,
            span,
        };
        self.shared.running().insert(id.clone(), one);
        // A wish to stop that came before it could be found there.
        if self.state.job(tenant, &id)?.cancel
            && let Some(one) = self.shared.running().get_mut(&id)
        {
            one.stop();
        }
        Ok(())
    }

    /// Lets a job wait again that could not be begun, and says why.
    fn put_back(&self, job: &Job, error: HostError) -> Result<(), HostError> {
        self.state.wait_again(job.tenant, &job.id, Usage::default())?;
        Err(error)
    }

    fn placed(&self, job: &Job) -> Placed {
        let registered = job.model.as_deref().map(|digest| self.folders.model(job.tenant, digest));
        super::catalog::placed(&self.folders.deployment(job.tenant, &job.folder), registered)
    }

    fn input(&self, job: &Job) -> Result<JobInput, HostError> {
        Ok(match serde_json::from_value(job.input.clone()).map_err(|e| StateError::Damaged(e.to_string()))? {
            InputSpec::Upload(id) => JobInput::Folder(super::uploads::files(&self.folders.upload(job.tenant, &id))),
            // Again: the operator may have changed what is allowed.
            InputSpec::Path(path) => JobInput::Folder(super::jobs::allowed(&self.allowed_inputs, &path, false)?),
            InputSpec::Url(place) => {
                let tenant = self.state.tenants()?.into_iter().find(|tenant| tenant.id == job.tenant);
                let tenant = tenant.map(|tenant| tenant.name).unwrap_or_default();
                super::places::allowed(&self.allowed_places, &tenant, &place, "--allow-input")?;
                JobInput::Place(place)
            }
        })
    }

    fn tell_begun(&self, job: &Job, tenant: &str) {
        if job.starts == 0
            && let Ok(accepted) = humantime::parse_rfc3339(&job.created)
        {
            // A clock that was set back is no wait.
            self.metrics.job_waited(accepted.elapsed().unwrap_or_default());
        }
        let (endpoint, deployment, starts) = (&job.endpoint, &job.deployment, job.starts + 1);
        tracing::info!(job = job.id, tenant, endpoint, deployment, version = job.version, starts, "job started");
    }
}

/// Counts what a job's process tells, and logs what went wrong.
fn heard(
    metrics: &Arc<Metrics>,
    traced: Option<Below>,
    job: String,
    tenant: String,
) -> impl FnMut(&Told) + Send + 'static {
    let metrics = Arc::clone(metrics);
    move |Told { since, .. }| {
        for (outcome, count) in [("succeeded", since.succeeded), ("partly", since.partly), ("failed", since.failed)] {
            metrics.mini_batches(outcome, count);
        }
        metrics.files("succeeded", since.files_succeeded);
        metrics.files("failed", since.files_failed);
        since.retries.iter().for_each(|(reason, count)| metrics.retries(reason, *count));
        metrics.durations(&since.mini_batch_seconds, &since.commit_seconds);
        if let Some(traced) = &traced {
            since.named.iter().for_each(|named| traced.mini_batch(named));
        }
        for Named { index, files, failed, attempts, retried, error, .. } in &since.named {
            let (kind, error) = error.as_ref().map_or((None, None), |(k, m)| (Some(plain(k)), Some(plain(m))));
            if *failed > 0 {
                tracing::warn!(
                    job,
                    tenant,
                    mini_batch = index,
                    attempts,
                    files,
                    failed,
                    kind,
                    error,
                    "files of a mini-batch failed"
                );
            } else if *attempts > 1 {
                let retried = plain(&retried.join(" "));
                tracing::warn!(job, tenant, mini_batch = index, attempts, retried, "a mini-batch was tried again");
            }
        }
    }
}

/// Those who wait, as it is decided whose turn it is.
fn who(waiting: &[Candidate]) -> Vec<Waiting<'_>> {
    let one = |one: &'_ Candidate| (one.tenant.id, one.tenant.weight, one.instances, one.job.instances);
    let each = waiting.iter().map(|candidate| (one(candidate), candidate.job.id.as_str()));
    each.map(|((tenant, weight, running, wants), job)| Waiting { tenant, weight, running, wants, job }).collect()
}
