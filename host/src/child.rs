//! Work on a stranger's bytes in a process of its own: what takes more time or memory than it may, or crashes, ends that
//! process and nothing else.
//!
//! What goes in: the program, what it is called with, and a file for its stdin. What comes out: how it ended, and what
//! it wrote. The work itself is its caller's; this knows the process only.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::confine::{self, Confine};

/// How much later than others a process of [`give_way`] runs, as `nice` counts: a tenth of the time beside one that does not.
#[cfg(unix)]
const LATER: i32 = 10;

/// Lets other processes run before this one, where there are too few cores for all: whoever waits for a job does not see
/// it, and whoever calls the host does. Before the first thread: each has its own.
pub fn give_way() {
    #[cfg(unix)]
    // Without it everything works, later.
    let _ = rustix::process::nice(LATER);
}

/// What one piece of work may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLimits {
    /// By the clock, in whole seconds.
    pub seconds: u32,
    /// Of address space, which is more than what is used of it, in MiB.
    pub mib: u32,
}

impl std::fmt::Display for ChildLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s and {} MiB of memory", self.seconds, self.mib)
    }
}

/// What is read of a child's reasons.
const MAX_REASON_BYTES: u64 = 4 << 10;

/// Exit code of a child that refuses its input in words.
pub const REFUSED: u8 = 3;

/// Exit code of a child that was refused memory and lived on.
pub const EXHAUSTED: u8 = 5;

/// Exit code of a child that had to be confined and cannot be. Every other one but 0 is an accident.
pub const UNCONFINED: u8 = 4;

/// The option that follows the limits: not to begin where the process cannot be confined.
pub const CONFINED: &str = "confined";

/// What Rust's runtime exits with after a panic.
const PANICKED: i32 = 101;

/// How often it is asked whether the child is done: small beside what it takes to start one.
const POLL: Duration = Duration::from_millis(1);

/// Threads of one child: more gain little, and each reserves address space.
const MAX_THREADS: usize = 8;

/// A piece of work for a process of its own.
#[derive(Debug)]
pub struct Child<'a> {
    /// The `scorehost` command of this very build.
    pub program: &'a Path,
    /// The hidden verb and what it takes beside the limits, which follow it.
    pub arguments: Vec<OsString>,
    /// See there.
    pub limits: ChildLimits,
    /// Whether it has to be confined; it is as far as possible in any case.
    pub confine: Confine,
}

/// How a child ended.
#[derive(Debug)]
pub enum ChildEnd {
    /// Well; what it wrote to stdout.
    Done(File),
    /// It refused its input; why.
    Refused(String),
    /// Its time was up, or it crashed, as it does where memory is refused to it; in words.
    TooMuch(String),
    /// It had to be confined and cannot be; in words.
    Unconfined(String),
    /// It was not the program that it should be, or could not begin; in words.
    Accident(String),
}

impl Child<'_> {
    /// Waits for the child's end. Files without a name carry everything, so that neither side ever waits for the other
    /// to read.
    ///
    /// # Errors
    /// Those of the operating system in starting it.
    pub fn run(self, stdin: File) -> std::io::Result<ChildEnd> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let began = Instant::now();
        Ok(match self.wait(stdin, &stdout, &stderr)? {
            Some(status) if status.success() => ChildEnd::Done(stdout),
            Some(status) if status.code() == Some(REFUSED.into()) => ChildEnd::Refused(text(stderr)),
            Some(status) if status.code() == Some(EXHAUSTED.into()) => {
                ChildEnd::TooMuch(format!("was refused memory: {}", text(stderr)))
            }
            Some(status) if status.code() == Some(UNCONFINED.into()) => ChildEnd::Unconfined(text(stderr)),
            Some(status) => {
                let said = text(stderr);
                // Rust's runtime adds how to learn more of a crash, which here nobody can.
                let last = said.trim_end().lines().rfind(|line| !line.starts_with("note: ")).unwrap_or_default();
                if status.code().is_none_or(|code| code == PANICKED) {
                    ChildEnd::TooMuch(format!("ended after {:.1} s, {status}: {last}", began.elapsed().as_secs_f64()))
                } else {
                    ChildEnd::Accident(format!("`{}` ended, {status}: {last}", self.program.display()))
                }
            }
            None => ChildEnd::TooMuch(format!("was stopped after {} s", self.limits.seconds)),
        })
    }

    /// The child's end, or none if its time was up.
    fn wait(&self, stdin: File, stdout: &File, stderr: &File) -> std::io::Result<Option<ExitStatus>> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).args([self.limits.seconds.to_string(), self.limits.mib.to_string()]);
        if self.confine == Confine::Required {
            command.arg(format!("--{CONFINED}"));
        }
        // What it says last is shown.
        command.env("RAYON_NUM_THREADS", threads().to_string()).env("RUST_BACKTRACE", "0");
        // Libraries that keep files of their own in a person's folders would leave them half written.
        for folder in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env(folder, "/nonexistent");
        }
        command.stdin(stdin).stdout(stdout.try_clone()?).stderr(Stdio::from(stderr.try_clone()?));
        // Ctrl-C is for this process to understand, and its end ends the child.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let end = Instant::now() + Duration::from_secs(self.limits.seconds.into());
        let mut child = command.spawn()?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                // It may have ended by itself just now.
                let _ = child.kill();
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// This very program, to be started again: also where its file was replaced since it was started.
///
/// # Errors
/// If the operating system does not tell.
pub fn this_program() -> std::io::Result<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    if itself.exists() { Ok(itself.to_owned()) } else { std::env::current_exe() }
}

/// The beginning of what the child said; whatever cannot be read of it is not worth an error.
fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(MAX_REASON_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// In the child: says why it ends.
pub fn say(text: &str) {
    // With nobody to tell, the exit code tells.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// In the child, before the first byte is read: what crosses a limit later is ended by the system, whatever it is in the
/// middle of. It writes files of at most `most_written` bytes.
///
/// # Errors
/// Those of the operating system.
#[cfg(unix)]
pub fn limit_this_process(limits: &ChildLimits, most_written: u64) -> std::io::Result<()> {
    use rlimit::Resource;

    let seconds = u64::from(limits.seconds);
    // The parent's clock is what counts; this is for a child whose parent was killed.
    let cpu = seconds.saturating_mul(threads() as u64);
    for (resource, most) in [
        (Resource::AS, u64::from(limits.mib) << 20),
        (Resource::CPU, cpu),
        (Resource::FSIZE, most_written),
        // A dump of a crash would hold the whole memory, and nobody asked for it.
        (Resource::CORE, 0),
    ] {
        let (_, hard) = rlimit::getrlimit(resource)?;
        let most = most.min(hard);
        // macOS has no limit of address space that it would keep.
        rlimit::setrlimit(resource, most, most).or_else(|e| if cfg!(target_os = "linux") { Err(e) } else { Ok(()) })?;
    }
    // Where memory is short all the same, it is this process that has to go, not the host. May be refused.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Elsewhere the clock of the process that waits is the only limit.
#[cfg(not(unix))]
pub fn limit_this_process(_limits: &ChildLimits, _most_written: u64) -> std::io::Result<()> {
    Ok(())
}

/// In the child, before it looks at what a stranger sent: keeps what is open, and opens nothing more. From here on it ends
/// when the process that started it is gone.
///
/// # Errors
/// If it had to be confined and cannot be: the exit code, said why.
pub fn confine_this_process(mode: Confine) -> Result<(), u8> {
    if let Err(error) = confine::confine_computation(mode) {
        say(&error.to_string());
        return Err(UNCONFINED);
    }
    // Not earlier: its thread would be outside.
    follow_parent();
    Ok(())
}

#[cfg(unix)]
fn follow_parent() {
    use std::os::unix::process::parent_id;

    let parent = parent_id();
    let follow = move || {
        while parent_id() == parent {
            std::thread::sleep(Duration::from_millis(250));
        }
        std::process::exit(1);
    };
    // Without the thread, the limit of processor time ends an orphan.
    let _ = std::thread::Builder::new().name("parent".into()).spawn(follow);
}

/// Elsewhere an orphan goes on until its work is done.
#[cfg(not(unix))]
fn follow_parent() {}
