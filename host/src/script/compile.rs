//! A component's bytes → native code, in a process of its own. Compiling is the one thing that is done with a stranger's
//! bytes before they are in a sandbox, and no compiler promises to be quick, small or free of crashes for every input.
//!
//! What goes in: bytes. What comes out: code for `Component::deserialize`, or a refusal. A component that takes more
//! time or memory than it may, or crashes the compiler, is refused; the process that asked goes on.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use wasmtime::Engine as Wasmtime;

use super::check::MAX_SCRIPT_BYTES;
use super::engine::config;
use super::{ScriptError, printable};
use crate::child::{self, Child, ChildEnd, ChildLimits};
use crate::confine::Confine;

/// The hidden verb of the command that is the compiler's process.
pub const VERB: &str = "compile-component";

/// A Python of 18 MB, the largest that is in use, takes 8 s of two cores that others use too, and 512 MiB of address
/// space, 2 GiB with eight threads. The rest is for slower machines and for scripts that are twice as large.
pub const STANDARD_LIMITS: ChildLimits = ChildLimits { seconds: 120, mib: 4096 };

/// The most code taken from the compiler: four times the largest component.
const MAX_CODE_BYTES: u64 = 4 * MAX_SCRIPT_BYTES;

/// Compiles components.
#[derive(Clone, Debug)]
pub struct Compiler(Place);

#[derive(Clone, Debug)]
enum Place {
    Child { program: PathBuf, limits: ChildLimits, confine: Confine },
    Here,
}

impl Compiler {
    /// Compiles in a process of `program`, which is the `scorehost` command of this very build.
    pub fn child(program: PathBuf, limits: ChildLimits) -> Self {
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
            Place::Child { program, limits, confine } => compile_in(program, *limits, *confine, wasm),
        }
    }
}

/// A compiler's refusal can quote names from the component.
fn refusal(reason: &str) -> ScriptError {
    ScriptError::Compile(printable(reason.trim_end().as_bytes()))
}

fn compile_in(program: &Path, limits: ChildLimits, confine: Confine, wasm: &[u8]) -> Result<Vec<u8>, ScriptError> {
    let mut stdin = tempfile::tempfile().map_err(failed)?;
    stdin.write_all(wasm).and_then(|()| stdin.rewind()).map_err(failed)?;
    let child = Child { program, arguments: vec![VERB.into()], limits, confine };
    match child.run(stdin).map_err(failed)? {
        ChildEnd::Done(code) => whole(code, MAX_CODE_BYTES).map_err(failed),
        ChildEnd::Refused(reason) => Err(refusal(&reason)),
        ChildEnd::TooMuch(end) => Err(ScriptError::Refused(format!(
            "the script does not compile within {limits}: the compiler {}\n\
             hint: if its author is trusted, give the compiler more with SCOREHOST_COMPILE_SECONDS and \
             SCOREHOST_COMPILE_MIB",
            printable(end.as_bytes())
        ))),
        ChildEnd::Unconfined(reason) => Err(ScriptError::Unconfined(printable(reason.as_bytes()))),
        ChildEnd::Accident(end) => Err(ScriptError::Compiler(printable(end.as_bytes()))),
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

/// The compiler's process: a component on stdin → code on stdout, or the reason on stderr. Returns the exit code.
pub fn compile_stdin(limits: &ChildLimits, mode: Confine) -> u8 {
    if let Err(error) = child::limit_this_process(limits, MAX_CODE_BYTES) {
        child::say(&format!("its limits cannot be set: {error}"));
        return 1;
    }
    if let Err(code) = child::confine_this_process(mode) {
        return code;
    }
    let mut wasm = Vec::new();
    if let Err(error) = std::io::stdin().lock().take(MAX_SCRIPT_BYTES).read_to_end(&mut wasm) {
        child::say(&format!("the component cannot be read: {error}"));
        return 1;
    }
    // Pools are for running; code does not depend on them.
    match Wasmtime::new(&config(false)).and_then(|engine| engine.precompile_component(&wasm)) {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => 0,
            Err(error) => {
                child::say(&format!("the code cannot be written: {error}"));
                1
            }
        },
        Err(error) => {
            child::say(&format!("{error:#}"));
            child::REFUSED
        }
    }
}
