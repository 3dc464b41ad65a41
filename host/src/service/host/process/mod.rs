//! Processes of this program: one that checks a deployment, and one for each job. Strangers' bytes are read there and
//! not in the host's own process.

mod check;
mod outbox;

pub(super) use check::{Checked, check, devices};

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;

use super::catalog::Placed;
use super::{DeviceView, PaceView, ProgressView, Told};
use crate::job::record::cpu_seconds;
use crate::state::Usage;
use crate::store::{Ask, SpoolFolder, StoreUrl, Tell, objects};
use outbox::Outbox;

/// What folders of fetched files begin with, in a job's own.
const SPOOL: &str = "spool-";
/// What is kept of a process's last words.
const MOST_WORDS: usize = 20;
/// What is read of one line, and of the facts that `check` prints.
pub(super) const MOST_LINE: u64 = 64 << 10;

/// How long what fetches for a job may take to end after it.
const ALONE: Duration = Duration::from_secs(10);

/// A message without where the host keeps what it is about: the deployment's parts, and what else is the tenant's.
pub(super) fn without_folders(text: &str, placed: &Placed, tenant: &Path) -> String {
    let folders = placed.within.iter().map(PathBuf::as_path).chain([tenant]);
    let mut text = text.to_owned();
    for folder in folders.filter(|folder| folder.is_absolute()) {
        let folder = folder.display().to_string();
        text = text.replace(&format!("{folder}/"), "").replace(&folder, ".");
    }
    text
}

/// Where a job's files are, as its process is told.
#[derive(Clone, Debug)]
pub(super) enum JobInput {
    Folder(PathBuf),
    Place(StoreUrl),
}

/// What a job's processes do.
#[derive(Clone, Debug)]
pub(super) struct JobWork {
    pub(super) program: PathBuf,
    pub(super) placed: Placed,
    pub(super) name: String,
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) input: JobInput,
    /// The job's own: `output` in it, and what else its processes need.
    pub(super) folder: PathBuf,
    /// The place that the output is published to.
    pub(super) publish: Option<String>,
    /// What its trace is below, as W3C writes it.
    pub(super) traceparent: Option<String>,
}

/// Who hears what a job's process tells.
pub(super) type Hear = Box<dyn FnMut(&Told) + Send>;

/// What a job's processes do, one after the other. Each may be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Take the place that the output goes to, so that no other job's does.
    Claim,
    Score,
    Publish,
}

/// What a job's process is told that is to end with the mini-batches that run.
pub const FINISH: &[u8] = b"finish\n";

/// What a process told: as it began to score, and last; and when it began.
#[derive(Clone, Copy, Debug)]
struct Scored {
    first: ProgressView,
    last: ProgressView,
    at: Instant,
}

/// A job's process. It stops when its stdin is closed, so that it does not outlive this one.
pub(super) struct JobProcess {
    work: JobWork,
    stage: Stage,
    is_stopping: bool,
    child: Child,
    outbox: Arc<Outbox>,
    /// What fetches its files for it.
    fetcher: Option<Child>,
    /// Since when the fetcher is to end.
    alone: Option<Instant>,
    began: Instant,
    progress: Arc<Mutex<Option<Scored>>>,
    device: Arc<Mutex<Option<DeviceView>>>,
    /// Seconds of processors, as the system last told.
    cpu_seconds: f64,
    words: Arc<Mutex<VecDeque<String>>>,
    hear: Arc<Mutex<Hear>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// A process's stdin, until it is closed.
type Words = Arc<Mutex<Option<ChildStdin>>>;

/// Says something to a process that reads what it is told; one that has ended needs no telling.
fn say(to: &Words, text: &str) {
    if let Some(stdin) = to.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
    }
}

/// Keys of stores and collectors are not the business of what reads strangers' bytes.
fn without_keys(command: &mut Command) {
    let is_key = |name: &str| {
        objects::is_setting(name)
            || ["OTEL_", "SCOREHOST_TOKEN", "SCOREHOST_REQUIRE_SIGNATURE"].iter().any(|key| name.starts_with(key))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_key)) {
        command.env_remove(name);
    }
}

/// What a job's process said of itself so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) progress: Option<ProgressView>,
    pub(super) device: Option<DeviceView>,
    pub(super) pace: Option<PaceView>,
}

/// How fast a job goes; unknown until files were done.
fn pace(told: &Scored) -> Option<PaceView> {
    let did = told.last.done.saturating_sub(told.first.done);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let (did, left) = (did as f64, told.last.files.saturating_sub(told.last.done) as f64);
    let files_per_second = did / told.at.elapsed().as_secs_f64();
    let is_known = did > 0.0 && files_per_second.is_finite();
    is_known.then(|| PaceView { files_per_second, seconds_left: left / files_per_second })
}

/// How a job's process ended.
#[derive(Clone, Debug)]
pub(super) struct ProcessEnd {
    pub(super) code: Option<i32>,
    pub(super) status: String,
    pub(super) words: String,
    /// Its output was to be published, and is not.
    pub(super) is_unpublished: bool,
}

impl JobWork {
    fn output(&self) -> PathBuf {
        self.folder.join("output")
    }

    fn command(&self, stage: Stage, spool: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let place = self.publish.as_deref().unwrap_or_default();
        match stage {
            Stage::Claim | Stage::Publish => {
                command.arg("publish").arg(self.output()).arg(place).arg("--follow");
                if stage == Stage::Claim {
                    command.arg("--claim").arg(&self.name);
                }
            }
            Stage::Score => {
                command.arg("run").arg("--file").arg(&self.placed.file).arg("--output").arg(self.output());
                command.arg("--follow").arg(self.folder.join("lock")).arg("--name").arg(&self.name);
                command.args(self.placed.arguments());
                for (key, value) in &self.overrides {
                    command.arg("--set").arg(format!("{key}={value}"));
                }
                match &self.input {
                    JobInput::Folder(path) => command.arg("--input").arg(path),
                    JobInput::Place(place) => command.arg("--input").arg(place.to_string()).arg("--spool").arg(spool),
                };
                if let Some(traceparent) = &self.traceparent {
                    command.env("TRACEPARENT", traceparent);
                }
                without_keys(&mut command);
            }
        }
        // Ctrl-C in the host's terminal is for the host to understand.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }
}

impl JobProcess {
    /// Begins to score, or goes on with what was begun.
    pub(super) fn start(work: JobWork, hear: Hear) -> std::io::Result<Self> {
        let stage = if work.publish.is_some() { Stage::Claim } else { Stage::Score };
        let spool = work.folder.join(format!("{SPOOL}{:08x}", rand::rng().random::<u32>()));
        let mut command = work.command(stage, &spool);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut process = Self {
            work,
            stage,
            is_stopping: false,
            child,
            outbox: Arc::default(),
            fetcher: None,
            alone: None,
            began: Instant::now(),
            progress: Arc::default(),
            device: Arc::default(),
            cpu_seconds: 0.0,
            words: Arc::default(),
            hear: Arc::new(Mutex::new(hear)),
            readers: Vec::new(),
        };
        process.listen(&spool)?;
        Ok(process)
    }

    /// Begins the next stage.
    fn go_on(&mut self, stage: Stage) -> std::io::Result<()> {
        let spool = self.work.folder.join(format!("{SPOOL}{:08x}", rand::rng().random::<u32>()));
        let mut command = self.work.command(stage, &spool);
        self.child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        self.stage = stage;
        self.listen(&spool)
    }

    /// Takes in what the process says, on threads of its own.
    fn listen(&mut self, spool: &Path) -> std::io::Result<()> {
        self.outbox = Arc::default();
        if let Some(stdin) = self.child.stdin.take() {
            let outbox = Arc::clone(&self.outbox);
            let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || outbox.write(stdin))?;
            self.readers.push(thread);
        }
        let asks = self.fetch(spool)?;
        let mut readers = Vec::new();
        let mut read = |name: &str, stream: Box<dyn Read + Send>, each: Box<dyn FnMut(&str) + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || lines(stream, each));
            thread.map(|thread| readers.push(thread))
        };
        if let Some(stdout) = self.child.stdout.take() {
            let (told, hear) = (Arc::clone(&self.progress), Arc::clone(&self.hear));
            let device = Arc::clone(&self.device);
            // What publishes has read nothing of strangers', and tells why it does not.
            let publishes = (self.stage != Stage::Score).then(|| self.work.name.clone());
            let each = move |line: &str| {
                if let Some(job) = &publishes {
                    tracing::warn!(job, words = plain(line), "a job's output is not published");
                    return;
                }
                if let Ok(line) = serde_json::from_str::<Told>(line) {
                    let progress = line.progress;
                    if let Some(told) = &line.device {
                        let (name, description) = (plain(&told.name), plain(&told.description));
                        let told = DeviceView { name, description };
                        *device.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
                    }
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(Scored { first: progress, last: progress, at: Instant::now() })
                        .last = progress;
                    (hear.lock().unwrap_or_else(PoisonError::into_inner))(&line);
                } else if let Ok(ask) = serde_json::from_str::<Ask>(line) {
                    say(&asks, &ask.line());
                }
            };
            read("progress", Box::new(stdout), Box::new(each))?;
        }
        if let Some(stderr) = self.child.stderr.take() {
            let words = Arc::clone(&self.words);
            let each = move |line: &str| {
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                words.truncate(MOST_WORDS);
                if words.len() == MOST_WORDS {
                    words.pop_front();
                }
                words.push_back(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4096).collect());
            };
            read("words", Box::new(stderr), Box::new(each))?;
        }
        self.readers.append(&mut readers);
        Ok(())
    }

    /// Starts what fetches the job's files, where they lie in a store; what it says is passed on to the job. It holds the
    /// keys, and ends when nothing more can be asked of it.
    fn fetch(&mut self, spool: &Path) -> std::io::Result<Words> {
        let asks = Words::default();
        let (JobInput::Place(place), Stage::Score) = (&self.work.input, self.stage) else { return Ok(asks) };
        self.remove_spools();
        SpoolFolder::new(spool.to_owned()).make()?;
        let mut command = Command::new(&self.work.program);
        command.arg("fetch").arg(place.to_string()).arg(spool);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut fetcher = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        *asks.lock().unwrap_or_else(PoisonError::into_inner) = fetcher.stdin.take();
        let outbox = Arc::clone(&self.outbox);
        let (stdout, stderr) = (fetcher.stdout.take(), fetcher.stderr.take());
        self.fetcher = Some(fetcher);
        let pass_on = move || {
            let to = Arc::clone(&outbox);
            let each = move |line: &str| {
                if let Ok(tell) = serde_json::from_str::<Tell>(line) {
                    to.tell(&tell);
                }
            };
            if let Some(stdout) = stdout {
                lines(Box::new(stdout), Box::new(each));
            }
            outbox.tell(&Tell::Lost("the process that fetches files broke off".into()));
        };
        // What a store says is for the operator.
        let job = self.work.name.clone();
        let log = move || {
            let each = move |line: &str| tracing::warn!(job, words = plain(line), "a job's files do not come");
            if let Some(stderr) = stderr {
                lines(Box::new(stderr), Box::new(each));
            }
        };
        self.readers.push(std::thread::Builder::new().name("fetch-log".into()).spawn(log)?);
        let thread = std::thread::Builder::new().name("fetched".into()).spawn(pass_on)?;
        self.readers.push(thread);
        Ok(asks)
    }

    /// Removes what fetchers have left that were killed.
    fn remove_spools(&self) {
        let Ok(entries) = std::fs::read_dir(&self.work.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(SPOOL.as_bytes()) {
                // One that is being removed by another is gone as well.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// How far the job is, and where.
    pub(super) fn heard(&self) -> Heard {
        let told = self.told();
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Heard { progress: told.map(|told| told.last), device, pace: told.as_ref().and_then(pace) }
    }

    fn told(&self) -> Option<Scored> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it used so far, but for time and what lies in the output, which others measure. Its processor's time is the
    /// system's word as of the last [`JobProcess::ended`], or where that says nothing, its own.
    pub(super) fn used(&self) -> Usage {
        // No processor or device gives more than a thousand seconds in one.
        let most = self.began.elapsed().as_secs_f64() * 1024.0;
        let believed = |told: f64| if told.is_finite() { told.clamp(0.0, most) } else { 0.0 };
        let Some(Scored { first, last, .. }) = self.told() else {
            return Usage { cpu_seconds: self.cpu_seconds, ..Usage::default() };
        };
        Usage {
            cpu_seconds: self.cpu_seconds.max(believed(last.cpu_seconds)),
            device_seconds: believed(last.device_seconds),
            input_bytes: last.input_bytes,
            // What it found done when it went on is not its own.
            files: last.done.saturating_sub(first.done),
            rows: last.rows.saturating_sub(first.rows),
            ..Usage::default()
        }
    }

    /// Asks it to stop; what is committed stays.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.outbox.say("stop\n");
        self.outbox.close();
    }

    /// Asks it to end with the mini-batches that run.
    pub(super) fn finish(&mut self) {
        self.outbox.say(&String::from_utf8_lossy(FINISH));
    }

    /// Whether it scores, and could make room: one that publishes has nothing left to make it with.
    pub(super) fn is_scoring(&self) -> bool {
        self.stage == Stage::Score
    }

    /// How long it took until it scored, and how long it has scored since; nothing before it has committed something.
    pub(super) fn scored(&self) -> Option<(Duration, Duration)> {
        let told = self.told().filter(|_| self.is_scoring());
        let told = told.filter(|told| told.last.mini_batches_done > told.first.mini_batches_done)?;
        Some((told.at.duration_since(self.began), told.at.elapsed()))
    }

    /// Ends it now.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        if let Some(fetcher) = &mut self.fetcher {
            let _ = fetcher.kill();
        }
    }

    /// Its end, if it has ended.
    pub(super) fn ended(&mut self) -> std::io::Result<Option<ProcessEnd>> {
        // Before it is waited for: then the system forgets it.
        if let Some(seconds) = cpu_seconds(&self.child.id().to_string()) {
            self.cpu_seconds = self.cpu_seconds.max(seconds);
        }
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        self.outbox.close();
        // The job's own reader has closed what it is asked by; it removes what it fetched, and ends.
        if let Some(fetcher) = &mut self.fetcher
            && fetcher.try_wait()?.is_none()
        {
            if self.alone.get_or_insert_with(Instant::now).elapsed() > ALONE {
                let _ = fetcher.kill();
            }
            return Ok(None);
        }
        (self.fetcher, self.alone) = (None, None);
        for reader in self.readers.drain(..) {
            // It ends with the stream.
            let _ = reader.join();
        }
        let next = match self.stage {
            Stage::Claim => Some(Stage::Score),
            Stage::Score if self.work.publish.is_some() => Some(Stage::Publish),
            Stage::Score | Stage::Publish => None,
        };
        if let (true, false, Some(next)) = (status.success(), self.is_stopping, next) {
            self.go_on(next)?;
            return Ok(None);
        }
        self.remove_spools();
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = words.iter().cloned().collect::<Vec<_>>().join("\n");
        let is_published = self.stage == Stage::Publish && status.success();
        let is_unpublished = self.work.publish.is_some() && !is_published;
        Ok(Some(ProcessEnd { code: status.code(), status: status.to_string(), words, is_unpublished }))
    }
}

/// Words of a process, for people.
pub(super) fn plain(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn lines(stream: Box<dyn Read + Send>, mut each: Box<dyn FnMut(&str) + Send>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stream.by_ref().take(MOST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
