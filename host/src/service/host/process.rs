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
use super::{HostError, ProgressView, Told, disk};

/// What is kept of a process's last words.
const MOST_WORDS: usize = 20;
/// What is read of one line, and of the facts that `check` prints.
pub(super) const MOST_LINE: u64 = 64 << 10;
const MOST_FACTS: u64 = 4 << 20;

/// How long a check may take: its parts, compiling and a model's first opening, have limits of their own below this.
const CHECK: Duration = Duration::from_secs(600);
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
    let (mut stdout, mut stderr) = (tempfile::tempfile().map_err(&failed)?, tempfile::tempfile().map_err(&failed)?);
    let mut command = Command::new(program);
    command.arg("check").arg(&placed.file).arg("--json").args(placed.arguments()).stdin(Stdio::null());
    command.stdout(stdout.try_clone().map_err(&failed)?).stderr(stderr.try_clone().map_err(&failed)?);
    let mut child = command.spawn().map_err(&failed)?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(&failed)? {
            break status;
        }
        if began.elapsed() > CHECK {
            // It may have ended by itself just now.
            let _ = child.kill();
            child.wait().map_err(&failed)?;
            return Err(HostError::Refused(format!("the deployment was not checked within {} s", CHECK.as_secs())));
        }
        std::thread::sleep(POLL);
    };
    let read = |file: &mut File| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MOST_FACTS).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if !status.success() {
        let said = String::from_utf8_lossy(&read(&mut stderr).map_err(&failed)?).into_owned();
        let said = said.trim().strip_prefix("error: ").unwrap_or(said.trim());
        return Err(HostError::Refused(without_folders(said, placed, tenant)));
    }
    let facts: Facts =
        serde_json::from_slice(&read(&mut stdout).map_err(&failed)?).map_err(|e| failed(std::io::Error::other(e)))?;
    Ok(Checked { name: facts.name, script: facts.script.map(|script| script.digest) })
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
    progress: Arc<Mutex<Option<ProgressView>>>,
    words: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
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
        (name, overrides, traceparent): (&str, impl Iterator<Item = (String, String)>, Option<String>),
        input: &Path,
        output: &Path,
        lock: &Path,
        mut hear: impl FnMut(&Told) + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("--file").arg(&placed.file).arg("--input").arg(input).arg("--output").arg(output);
        command.arg("--follow").arg(lock).arg("--name").arg(name);
        command.args(placed.arguments());
        for (key, value) in overrides {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        if let Some(traceparent) = traceparent {
            command.env("TRACEPARENT", traceparent);
        }
        // Ctrl-C in the host's terminal is for the host to understand.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (progress, words) = (Arc::default(), Arc::<Mutex<VecDeque<String>>>::default());
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut readers = Vec::new();
        let latest: Arc<Mutex<Option<ProgressView>>> = Arc::clone(&progress);
        let mut read = |name: &str, stream: Box<dyn Read + Send>, each: Box<dyn FnMut(&str) + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || lines(stream, each));
            thread.map(|thread| readers.push(thread))
        };
        if let Some(stdout) = stdout {
            let each = move |line: &str| {
                if let Ok(told) = serde_json::from_str::<Told>(line) {
                    *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.progress);
                    hear(&told);
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
        Ok(Self { child, stdin, progress, words, readers })
    }

    /// How far the job is.
    pub(super) fn progress(&self) -> Option<ProgressView> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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
