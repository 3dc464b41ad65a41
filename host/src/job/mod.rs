//! A job: the plan's mini-batches, each scored by an instance of a script or of the built-in scorer, retried, counted
//! and committed in plan order.
//!
//! What goes in: a checked scorer, the services of its instances, a plan and an open output. What comes out: a
//! complete output, or one that can be resumed. `runner` is the loop; the rules it asks are in [`plan`], [`retry`]
//! and [`tally`].

mod feed;
mod mini_batch;
pub mod plan;
pub mod record;
pub mod retry;
mod runner;
mod scorer;
pub mod tally;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use runner::{Job, run};
pub use scorer::Scorer;

use crate::fault::Fault;
use crate::output::OutputError;
use crate::script::ScriptError;
use crate::store::SpoolError;
use tally::Tally;

/// How a job is told to stop, from a signal's thread.
#[derive(Clone, Debug, Default)]
pub struct Control {
    finish: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Control {
    /// Begins no further mini-batch; those that run are finished and committed.
    pub fn finish(&self) {
        self.finish.store(true, Ordering::Relaxed);
    }

    /// Ends the scripts that run, too.
    pub fn stop(&self) {
        self.finish();
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether [`Control::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finish.load(Ordering::Relaxed)
    }

    pub(crate) fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.stop
    }
}

/// What a running job tells whoever watches it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// What is committed.
    pub tally: Tally,
    /// Attempts beyond the first, so far.
    pub retries: u64,
    /// Mini-batches of the plan.
    pub mini_batches: u64,
    /// Files of the plan.
    pub files: u64,
    /// Time that models took on their device, in this run.
    pub device_time: Duration,
    /// Bytes of the files that this run scored.
    pub input_bytes: u64,
}

/// What one wait for the disk made durable, for whoever counts.
#[derive(Clone, Debug)]
pub struct Committed {
    /// In plan order.
    pub mini_batches: Vec<Settled>,
    /// How long the wait was.
    pub seconds: f64,
}

/// A mini-batch that is committed.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its number.
    pub index: u64,
    /// Its files.
    pub files: u32,
    /// Those of them that failed.
    pub failed: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Why each attempt but the last failed, by the kind of error.
    pub retried: Vec<&'static str>,
    /// The first row that it has in `errors.csv`: kind and message.
    pub error: Option<(String, String)>,
    /// When it was begun.
    pub started: SystemTime,
    /// How long it took, with its retries.
    pub seconds: f64,
}

impl Summary {
    /// A job that begins after what was committed before.
    pub fn from(tally: Tally) -> Self {
        Self { tally, retries: 0, device_time: Duration::ZERO, input_bytes: 0, end: End::Interrupted }
    }
}

/// How a job ended that committed all it could.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What is committed, with what an earlier run committed.
    pub tally: Tally,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Time that models took on their device, in this run.
    pub device_time: Duration,
    /// Bytes of the files that were scored in this run.
    pub input_bytes: u64,
    /// How it ended.
    pub end: End,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All mini-batches are committed, and some file succeeded.
    Completed,
    /// It was told to stop; it can be resumed.
    Interrupted,
    /// It failed, for a reason in words.
    Failed(String),
}

/// Why a job could not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] OutputError),
    /// The files to score do not come.
    #[error("the input cannot be fetched")]
    Input(#[from] SpoolError),
    /// The script never started.
    #[error("the script's init failed, {attempts} times in all")]
    Init {
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        #[source]
        source: ScriptError,
    },
    /// A thread could not be started.
    #[error("cannot start the job's threads")]
    Threads(#[source] std::io::Error),
}

impl JobError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            JobError::Output(e) => e.fault(),
            JobError::Input(e) => e.fault(),
            JobError::Init { source, .. } => source.fault(),
            JobError::Threads(_) => Fault::Host,
        }
    }
}
