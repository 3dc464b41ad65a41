//! Processes of this program: one that checks a deployment, and one for each job. Strangers' bytes are read there and
//! not in the host's own process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::catalog::Placed;
use super::{DeviceView, HostError, PaceView, ProgressView, Told, disk};

/// What is kept of a process's last words.
const MOST_WORDS: usize = 20;
/// What is read of one line, and of the facts that `check` prints.
const MOST_LINE: u64 = 64 << 10;
const MOST_FACTS: u64 = 4 << 20;

/// How long a check may take: its parts, compiling and a model's first opening, have limits of their own below this.
const CHECK: Duration = Duration::from_secs(600);
/// How long looking at the devices may take: each adapter is opened, and tests itself.
const LOOK: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// What is known of a deployment that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) script: Option<String>,
}

#[derive(Deserialize)]
struct Facts {
    name: String,
    script: Option<ScriptFacts>,
}

#[derive(Deserialize)]
struct ScriptFacts {
    digest: String,
}

/// Checks a deployment as `scorehost check` does; `tenant` is the folder of all that is the tenant's.
pub(super) fn check(program: &Path, placed: &Placed, tenant: &Path) -> Result<Checked, HostError> {
    let failed = disk("check the deployment");
    let mut command = Command::new(program);
    command.arg("check").arg(&placed.file).arg("--json").args(placed.arguments());
    let Some(said) = finished(command, CHECK).map_err(&failed)? else {
        return Err(HostError::Refused(format!("the deployment was not checked within {} s", CHECK.as_secs())));
    };
    if !said.success {
        let text = String::from_utf8_lossy(&said.stderr);
        let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        return Err(HostError::Refused(without_folders(text, placed, tenant)));
    }
    let facts: Facts = serde_json::from_slice(&said.stdout).map_err(|e| failed(std::io::Error::other(e)))?;
    Ok(Checked { name: facts.name, script: facts.script.map(|script| script.digest) })
}

/// What models can run on here, as `scorehost devices --json` has it: drivers are not opened in the host's own process.
pub(super) fn devices(program: &Path) -> Result<serde_json::Value, HostError> {
    let failed = disk("look at the devices");
    let mut command = Command::new(program);
    command.arg("devices").arg("--json");
    let said = finished(command, LOOK).map_err(&failed)?;
    let Some(said) = said.filter(|said| said.success) else {
        return Err(failed(std::io::Error::other(format!("`devices` failed, or took over {} s", LOOK.as_secs()))));
    };
    serde_json::from_slice(&said.stdout).map_err(|e| failed(std::io::Error::other(e)))
}

/// What a process said that has ended.
struct Said {
    success: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs a process to its end; none if it took longer.
fn finished(mut command: Command, most: Duration) -> std::io::Result<Option<Said>> {
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > most {
            // It may have ended by itself just now.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    };
    let read = |mut file: File| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MOST_FACTS).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(Some(Said { success: status.success(), stdout: read(stdout)?, stderr: read(stderr)? }))
}

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

/// A job's process. It stops when its stdin is closed, so that it does not outlive this one.
pub(super) struct JobProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Arc<Mutex<Heard>>,
    words: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// What a job's process said of itself so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) progress: Option<ProgressView>,
    pub(super) device: Option<DeviceView>,
    pub(super) pace: Option<PaceView>,
    /// When scoring began, and the files that were done by then.
    began: Option<(Instant, u64)>,
}

impl Heard {
    fn hear(&mut self, told: Told) {
        match told {
            Told::Device(device) => self.device = Some(device),
            Told::Progress(progress) => {
                let (began, before) = *self.began.get_or_insert_with(|| (Instant::now(), progress.done));
                self.pace = pace(&progress, before, began.elapsed());
                self.progress = Some(progress);
            }
        }
    }
}

/// How fast a job goes that did some files in this time; unknown until there are some.
fn pace(progress: &ProgressView, before: u64, time: Duration) -> Option<PaceView> {
    let did = progress.done.saturating_sub(before);
    let files_per_second = did as f64 / time.as_secs_f64();
    let is_known = did > 0 && files_per_second.is_finite();
    let left = progress.files.saturating_sub(progress.done) as f64;
    is_known.then(|| PaceView { files_per_second, seconds_left: left / files_per_second })
}

/// How a job's process ended.
#[derive(Clone, Debug)]
pub(super) struct ProcessEnd {
    pub(super) code: Option<i32>,
    pub(super) status: String,
    pub(super) words: String,
}

impl JobProcess {
    /// Begins to score `input` into `output`, or goes on with what was begun.
    pub(super) fn start(
        program: &Path,
        placed: &Placed,
        (name, overrides): (&str, impl Iterator<Item = (String, String)>),
        input: &Path,
        output: &Path,
        lock: &Path,
    ) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("--file").arg(&placed.file).arg("--input").arg(input).arg("--output").arg(output);
        command.arg("--follow").arg(lock).arg("--name").arg(name);
        command.args(placed.arguments());
        for (key, value) in overrides {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // Ctrl-C in the host's terminal is for the host to understand.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (heard, words) = (Arc::<Mutex<Heard>>::default(), Arc::<Mutex<VecDeque<String>>>::default());
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut readers = Vec::new();
        let mut read = |name: &str, stream: Box<dyn Read + Send>, each: Box<dyn FnMut(&str) + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || lines(stream, each));
            thread.map(|thread| readers.push(thread))
        };
        if let Some(stdout) = stdout {
            let heard = Arc::clone(&heard);
            let each = move |line: &str| {
                if let Ok(told) = serde_json::from_str(line) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).hear(told);
                }
            };
            read("progress", Box::new(stdout), Box::new(each))?;
        }
        if let Some(stderr) = stderr {
            let words = Arc::clone(&words);
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
        Ok(Self { child, stdin, heard, words, readers })
    }

    /// How far the job is, and where.
    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop; what is committed stays.
    pub(super) fn stop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // One that has ended needs no telling.
            let _ = stdin.write_all(b"stop\n");
        }
    }

    /// Ends it now.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Its end, if it has ended.
    pub(super) fn ended(&mut self) -> std::io::Result<Option<ProcessEnd>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        for reader in self.readers.drain(..) {
            // It ends with the stream.
            let _ = reader.join();
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = words.iter().cloned().collect::<Vec<_>>().join("\n");
        Ok(Some(ProcessEnd { code: status.code(), status: status.to_string(), words }))
    }
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
