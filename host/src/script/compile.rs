//! A component's bytes → native code, in a process of its own. Compiling is the one thing that is done with a stranger's
//! bytes before they are in a sandbox, and no compiler promises to be quick, small or free of crashes for every input.
//!
//! What goes in: bytes. What comes out: code for `Component::deserialize`, or a refusal. A component that takes more
//! time or memory than it may, or crashes the compiler, is refused; the process that asked goes on.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wasmtime::Engine as Wasmtime;

use super::check::MAX_SCRIPT_BYTES;
use super::engine::config;
use super::{ScriptError, printable};
use crate::confine::{self, Confine};

/// The hidden verb of the command that is the compiler's process.
pub const VERB: &str = "compile-component";

/// Its option: not to compile where the process cannot be confined.
pub const CONFINED: &str = "confined";

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// By the clock, in whole seconds.
    pub seconds: u32,
    /// Of address space, which is more than what is used of it, in MiB.
    pub mib: u32,
}

impl Default for CompileLimits {
    /// A Python of 18 MB, the largest that is in use, takes 8 s of two cores that others use too, and 512 MiB of address
    /// space, 2 GiB with eight threads. The rest is for slower machines and for scripts that are twice as large.
    fn default() -> Self {
        Self { seconds: 120, mib: 4096 }
    }
}

/// Threads of one compilation: more gain little, and each reserves address space.
const MAX_THREADS: usize = 8;

/// The most code taken from the compiler: four times the largest component.
const MAX_CODE_BYTES: u64 = 4 * MAX_SCRIPT_BYTES;

/// What is read of the compiler's reasons.
const MAX_REASON_BYTES: u64 = 4 << 10;

/// Exit code of a compiler that found the component at fault.
const REFUSED: u8 = 3;

/// Exit code of a compiler that had to be confined and cannot be. Every other one is an accident.
const UNCONFINED: u8 = 4;

/// How often it is asked whether the compiler is done: small beside the 70 ms of the smallest scripts.
const POLL: Duration = Duration::from_millis(2);

/// Compiles components.
#[derive(Clone, Debug)]
pub struct Compiler(Place);

#[derive(Clone, Debug)]
enum Place {
    Child { program: PathBuf, limits: CompileLimits, confine: Confine },
    Here,
}

impl Compiler {
    /// Compiles in a process of `program`, which is the `scorehost` command of this very build.
    pub fn child(program: PathBuf, limits: CompileLimits) -> Self {
        Self(Place::Child { program, limits, confine: Confine::Auto })
    }

    /// The same, whose process has to be confined where `mode` requires it; it is as far as possible in any case.
    #[must_use]
    pub fn confined(mut self, mode: Confine) -> Self {
        if let Place::Child { confine, .. } = &mut self.0 {
            *confine = mode;
        }
        self
    }

    /// Compiles in this process, without limits: for tests and benches, whose components are their own.
    pub fn in_process() -> Self {
        Self(Place::Here)
    }

    /// The code of the component `wasm` for engines like `engine`.
    pub(super) fn compile(&self, engine: &Wasmtime, wasm: &[u8]) -> Result<Vec<u8>, ScriptError> {
        match &self.0 {
            Place::Here => engine.precompile_component(wasm).map_err(|e| refusal(&format!("{e:#}"))),
            Place::Child { program, limits, confine } => Job { program, limits, confine: *confine, wasm }.run(),
        }
    }
}

/// A compiler's refusal can quote names from the component.
fn refusal(reason: &str) -> ScriptError {
    ScriptError::Compile(printable(reason.trim_end().as_bytes()))
}

/// One compilation, seen by the process that asks for it.
struct Job<'a> {
    program: &'a PathBuf,
    limits: &'a CompileLimits,
    confine: Confine,
    wasm: &'a [u8],
}

impl Job<'_> {
    /// Files without a name carry everything, so that neither side ever waits for the other to read.
    fn run(&self) -> Result<Vec<u8>, ScriptError> {
        let mut wasm = tempfile::tempfile().map_err(failed)?;
        wasm.write_all(self.wasm).and_then(|()| wasm.rewind()).map_err(failed)?;
        let (code, reason) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
        let began = Instant::now();
        match self.wait(wasm, &code, &reason)? {
            Some(status) if status.success() => whole(code, MAX_CODE_BYTES).map_err(failed),
            Some(status) if status.code() == Some(REFUSED.into()) => Err(refusal(&text(reason))),
            Some(status) if status.code() == Some(UNCONFINED.into()) => {
                Err(ScriptError::Unconfined(printable(text(reason).as_bytes())))
            }
            Some(status) => Err(self.accident(status, began.elapsed(), &text(reason))),
            None => Err(self.too_much(format_args!("it was stopped after {} s", self.limits.seconds))),
        }
    }

    /// The child's end, or none if its time was up.
    fn wait(&self, wasm: File, code: &File, reason: &File) -> Result<Option<ExitStatus>, ScriptError> {
        let mut command = Command::new(self.program);
        command.arg(VERB).args([self.limits.seconds.to_string(), self.limits.mib.to_string()]);
        if self.confine == Confine::Required {
            command.arg(format!("--{CONFINED}"));
        }
        command.env("RAYON_NUM_THREADS", threads().to_string());
        command.stdin(wasm).stdout(Stdio::from(code.try_clone().map_err(failed)?));
        command.stderr(Stdio::from(reason.try_clone().map_err(failed)?));
        // Ctrl-C is for this process to understand, and its end ends the child.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let end = Instant::now() + Duration::from_secs(self.limits.seconds.into());
        let mut child = command.spawn().map_err(failed)?;
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                // It may have ended by itself just now.
                let _ = child.kill();
                child.wait().map_err(failed)?;
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// A child that died: by a limit, by a crash, or because it was not the compiler at all.
    fn accident(&self, status: ExitStatus, took: Duration, reason: &str) -> ScriptError {
        let last = printable(reason.trim_end().lines().last().unwrap_or_default().as_bytes());
        // What Rust's runtime exits with after a panic.
        let crashed = status.code().is_none() || status.code() == Some(101);
        if crashed {
            return self
                .too_much(format_args!("the compiler ended after {:.1} s, {status}: {last}", took.as_secs_f64()));
        }
        ScriptError::Compiler(format!("`{}` ended, {status}: {last}", self.program.display()))
    }

    fn too_much(&self, end: std::fmt::Arguments<'_>) -> ScriptError {
        let CompileLimits { seconds, mib } = self.limits;
        ScriptError::Refused(format!(
            "the script does not compile within {seconds} s and {mib} MiB of memory: {end}\n\
             hint: if its author is trusted, give the compiler more with SCOREHOST_COMPILE_SECONDS and \
             SCOREHOST_COMPILE_MIB"
        ))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn failed(error: std::io::Error) -> ScriptError {
    ScriptError::Compiler(error.to_string())
}

/// All of a file that another process wrote, of at most `most` bytes.
fn whole(mut file: File, most: u64) -> std::io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    if len == 0 || len > most {
        return Err(std::io::Error::other(format!("it gave {len} bytes of code")));
    }
    file.rewind()?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
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

/// The compiler's process: a component on stdin → code on stdout, or the reason on stderr. Returns the exit code.
pub fn compile_stdin(limits: &CompileLimits, mode: Confine) -> u8 {
    #[cfg(unix)]
    if let Err(error) = limit_this_process(limits) {
        say(&format!("its limits cannot be set: {error}"));
        return 1;
    }
    if let Err(error) = confine::confine_computation(mode) {
        say(&error.to_string());
        return UNCONFINED;
    }
    // Not earlier: its thread would be outside.
    #[cfg(unix)]
    follow_parent();
    let mut wasm = Vec::new();
    if let Err(error) = std::io::stdin().lock().take(MAX_SCRIPT_BYTES).read_to_end(&mut wasm) {
        say(&format!("the component cannot be read: {error}"));
        return 1;
    }
    // Pools are for running; code does not depend on them.
    match Wasmtime::new(&config(false)).and_then(|engine| engine.precompile_component(&wasm)) {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => 0,
            Err(error) => {
                say(&format!("the code cannot be written: {error}"));
                1
            }
        },
        Err(error) => {
            say(&format!("{error:#}"));
            REFUSED
        }
    }
}

fn say(text: &str) {
    // With nobody to tell, the exit code tells.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Before the first byte is read: what crosses a limit later is ended by the system, whatever it is in the middle of.
#[cfg(unix)]
fn limit_this_process(limits: &CompileLimits) -> std::io::Result<()> {
    use rlimit::Resource;

    let seconds = u64::from(limits.seconds);
    // The parent's clock is what counts; this is for a child whose parent was killed.
    let cpu = seconds.saturating_mul(threads() as u64);
    for (resource, most) in [
        (Resource::AS, u64::from(limits.mib) << 20),
        (Resource::CPU, cpu),
        (Resource::FSIZE, MAX_CODE_BYTES),
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

/// Ends this process when the one that asked is gone.
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
