//! A second wall, round the whole process: what a script, a picture or a model could make it do, should one of them
//! break out of what holds it, is kept to the job's own folders. Linux only: landlock for files and network, seccomp
//! for system calls.
//!
//! What goes in: the paths that a job needs. What comes out: what the kernel agreed to. It cannot be undone, and holds
//! for threads that begin later. It does nothing about memory, time, or what a GPU's driver is told.

use std::path::PathBuf;

use serde::Serialize;

use crate::fault::Fault;

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;

/// Whether a process confines itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confine {
    /// As far as the kernel goes.
    #[default]
    Auto,
    /// As `Auto`; an error where that is not all of it.
    Required,
    /// Not at all.
    Off,
}

/// What a process may still reach, beside what programs and drivers need of the system.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Files and folders to read.
    pub read: Vec<PathBuf>,
    /// Shared libraries to read, with those that lie beside them.
    pub libraries: Vec<PathBuf>,
    /// Folders to read and write.
    pub write: Vec<PathBuf>,
    /// Folders out of which folders that have become empty may be removed.
    pub tidy: Vec<PathBuf>,
    /// Folders that stay as they are: what is written to must not be above them. They need not be there.
    pub sealed: Vec<PathBuf>,
}

/// What the kernel agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// Which files; on newer kernels also what seccomp refuses: connections, signals to others.
    pub landlock: Layer,
    /// System calls: connections, signals to others, other programs, and what files are marked with.
    pub seccomp: Layer,
}

/// One half of the wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// It stands.
    On,
    /// Nobody asked for it.
    Off,
    /// It does not, or not all of it; why.
    Missing(String),
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel cannot do all of it, and it was required.
    #[error("the process cannot be confined: {0}")]
    Incomplete(Confinement),
}

impl ConfineError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl Confinement {
    /// Nobody asked for it.
    pub const OFF: Self = Self { landlock: Layer::Off, seccomp: Layer::Off };

    /// Whether something that was asked for is missing.
    pub fn is_lacking(&self) -> bool {
        [&self.landlock, &self.seccomp].iter().any(|layer| matches!(layer, Layer::Missing(_)))
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "landlock is {}, seccomp is {}", self.landlock, self.seccomp)
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Layer::On => f.write_str("on"),
            Layer::Off => f.write_str("off"),
            Layer::Missing(why) => write!(f, "missing ({why})"),
        }
    }
}

/// Confines this process to `reach`, before it starts a thread or reads what strangers sent.
///
/// # Errors
/// If all of it is required, and the kernel cannot.
pub fn confine(mode: Confine, reach: &Reach) -> Result<Confinement, ConfineError> {
    if mode == Confine::Off {
        return Ok(Confinement::OFF);
    }
    enough(mode, job(reach))
}

/// Confines a process that only computes: it keeps what it has open, and opens nothing more. `Off` is as `Auto`, since
/// there is nothing that such a process could miss.
///
/// # Errors
/// If all of it is required, and the kernel cannot.
pub fn confine_computation(mode: Confine) -> Result<Confinement, ConfineError> {
    enough(mode, computation())
}

fn enough(mode: Confine, made: Confinement) -> Result<Confinement, ConfineError> {
    if mode == Confine::Required && made.is_lacking() {
        return Err(ConfineError::Incomplete(made));
    }
    Ok(made)
}

#[cfg(target_os = "linux")]
fn job(reach: &Reach) -> Confinement {
    // A thread that is there already stays outside of landlock, and shares the memory of those inside.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    let landlock = match files::restrict(Some(reach)) {
        Layer::On if threads > 1 => Layer::Missing(format!("{} threads were running before", threads - 1)),
        layer => layer,
    };
    Confinement { landlock, seccomp: calls::restrict(calls::Process::Job) }
}

#[cfg(target_os = "linux")]
fn computation() -> Confinement {
    Confinement { landlock: files::restrict(None), seccomp: calls::restrict(calls::Process::Computation) }
}

#[cfg(not(target_os = "linux"))]
fn job(_: &Reach) -> Confinement {
    computation()
}

#[cfg(not(target_os = "linux"))]
fn computation() -> Confinement {
    let missing = || Layer::Missing("Linux has it".into());
    Confinement { landlock: missing(), seccomp: missing() }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
