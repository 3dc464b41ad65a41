//! Scoring scripts: a component's bytes → a checked, compiled [`Script`] → an [`Instance`] → rows.
//!
//! The only home of wasmtime. What goes in is hostile: sizes, imports, exports, results, time, memory and output all
//! have bounds. Which mini-batch runs when, and what a failure means for it, is [`crate::job`]'s.

mod bindings;
mod cache;
mod check;
mod clocks;
pub mod compile;
mod engine;
mod exports;
mod files;
#[expect(unreachable_pub, reason = "the generated bindings name the handles' types, which must be `pub` for that")]
mod imports;
mod instance;
mod limits;
mod log;
mod previous;
mod state;

use std::path::PathBuf;
use std::time::Duration;

pub use cache::CompileCache;
pub use check::{Interfaces, MAX_SCRIPT_BYTES, Script, check_names, read};
pub use compile::Compiler;
pub use engine::Engine;
pub use files::{ENTRY_BYTES, FileQuota};
pub use imports::{InstanceLimits, Models, Services};
pub(crate) use instance::block_on;
pub use instance::{Call, Instance, RunOutput};
pub(crate) use limits::{Budget, Held};
pub use log::{Level, Printed, printable};

use crate::fault::Fault;
use crate::row::RowError;

/// The contract that this host speaks.
pub const CONTRACT_VERSION: &str = "0.2.0";

/// Why a script is refused, or a call of it failed.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("cannot read script `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a scoring script for this host.
    #[error("{0}")]
    Refused(String),
    /// The component does not compile.
    #[error("the script does not compile: {0}")]
    Compile(String),
    /// The compiler's process cannot be started, or did not do its work.
    #[error("the compiler failed: {0}")]
    Compiler(String),
    /// The compiler's process has to be confined, and cannot be.
    #[error("the compiler is not started: {0}")]
    Unconfined(String),
    /// wasmtime cannot start on this machine, or has no room for another instance.
    #[error("the script host cannot start an instance: {0}")]
    Engine(String),
    /// The script returned a failure that would come again.
    #[error("the script failed: {0}")]
    Permanent(String),
    /// The script returned a failure worth another attempt.
    #[error("the script asked for another attempt: {0}")]
    Transient(String),
    /// The script trapped: panicked, divided by zero, left its memory.
    #[error("the script trapped: {reason}")]
    Trap {
        /// The trap, or the panic's text where there is one.
        reason: String,
    },
    /// The script ran out of its memory or tables.
    #[error("the script ran out of {what}: it asked for {asked}, the limit is {limit}")]
    Memory {
        /// `memory` or `table elements`.
        what: &'static str,
        /// What it asked for.
        asked: usize,
        /// The deployment's limit.
        limit: usize,
    },
    /// The script's files pass its limit.
    #[error("the script's files take more than limits.file_bytes, which is {limit}")]
    Files {
        /// The deployment's limit, in bytes.
        limit: u64,
    },
    /// The files of all mini-batches together pass theirs: no mini-batch's fault, and the job's end.
    #[error("the scripts' files take more than limits.job_file_bytes, which is {limit}")]
    JobFiles {
        /// The deployment's limit, in bytes.
        limit: u64,
    },
    /// The call did not end in time.
    #[error("{call} did not end within {limit:?}")]
    Timeout {
        /// `init` or `run`.
        call: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The built-in scorer, which stands in for a script, cannot score a mini-batch.
    #[error("the built-in scorer failed: {reason}")]
    BuiltIn {
        /// What failed, in words.
        reason: String,
        /// Whether another attempt may succeed.
        transient: bool,
    },
    /// The script called `exit`.
    #[error("the script ended its process with exit code {0}")]
    Exit(i32),
    /// What `run` returned is no output.
    #[error("the script's output is refused")]
    Output(#[source] RowError),
    /// A failed file's index is past the mini-batch, or named twice.
    #[error("the script names file {index} as failed; the mini-batch has {files} files, and each can fail once")]
    FailedFile {
        /// What it named.
        index: u32,
        /// What there is.
        files: usize,
    },
    /// The host is stopping.
    #[error("the call was stopped, since the job ends")]
    Stopped,
}

impl ScriptError {
    pub(crate) fn engine(error: impl std::fmt::Display) -> Self {
        ScriptError::Engine(format!("{error:#}"))
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ScriptError::Read { .. }
            | ScriptError::Refused(_)
            | ScriptError::Compile(_)
            | ScriptError::Unconfined(_) => Fault::Caller,
            ScriptError::Transient(_) | ScriptError::BuiltIn { transient: true, .. } => Fault::Transient,
            ScriptError::Compiler(_) | ScriptError::Engine(_) | ScriptError::Stopped => Fault::Host,
            _ => Fault::Script,
        }
    }

    /// Whether another attempt on a fresh instance may succeed.
    pub fn is_worth_a_retry(&self) -> bool {
        matches!(
            self,
            ScriptError::Transient(_)
                | ScriptError::BuiltIn { transient: true, .. }
                | ScriptError::Trap { .. }
                | ScriptError::Memory { .. }
                | ScriptError::Timeout { .. }
                | ScriptError::Exit(_)
                | ScriptError::Engine(_)
        )
    }

    /// A short word for `errors.csv`.
    pub fn kind(&self) -> &'static str {
        match self {
            ScriptError::Read { .. } | ScriptError::Refused(_) | ScriptError::Compile(_) => "refused",
            ScriptError::Compiler(_) | ScriptError::Unconfined(_) | ScriptError::Engine(_) => "host",
            ScriptError::Permanent(_) | ScriptError::BuiltIn { transient: false, .. } => "permanent",
            ScriptError::Transient(_) | ScriptError::BuiltIn { transient: true, .. } => "transient",
            ScriptError::Trap { .. } => "trap",
            ScriptError::Memory { .. } => "memory",
            ScriptError::Files { .. } | ScriptError::JobFiles { .. } => "files",
            ScriptError::Timeout { .. } => "timeout",
            ScriptError::Exit(_) => "exit",
            ScriptError::Output(_) | ScriptError::FailedFile { .. } => "output",
            ScriptError::Stopped => "stopped",
        }
    }
}
