//! The record of a job: what people and programs read when it has ended, as `job.json`.

use serde::Serialize;

use super::tally::Tally;
use super::{End, Summary};
use crate::confine::Confinement;
use crate::deployment::Settings;

/// States of a job, by Azure's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// It is being scored.
    Running,
    /// All of it is in the output.
    Completed,
    /// It cannot be completed as it is.
    Failed,
    /// It was told to stop, and can be resumed.
    Canceled,
}

impl State {
    /// The state that an end leads to.
    pub fn of(end: &End) -> Self {
        match end {
            End::Completed => State::Completed,
            End::Failed(_) => State::Failed,
            End::Interrupted => State::Canceled,
        }
    }
}

/// `job.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The job's name.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// Why it failed, with every cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this run began: RFC 3339, UTC.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// How long this run took, from the first mini-batch to the last.
    pub seconds: f64,
    /// Whether it continued an earlier run.
    pub resumed: bool,
    /// What was done, earlier runs included.
    pub counts: Counts,
    /// Files of this run, divided by `seconds`.
    pub files_per_second: f64,
    /// Time that models took on their device in this run.
    pub device_seconds: f64,
    /// Time of processors that this process took so far, all threads together, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Bytes of the files that this run scored.
    pub input_bytes: u64,
    /// Bytes of the output, without this file: rows, errors, and what the script wrote by itself.
    pub output_bytes: u64,
    /// The most memory that this process held, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Where models ran, and why there.
    pub device: DeviceRecord,
    /// What the process could not reach in this run, whatever happened.
    pub confinement: Confinement,
    /// The deployment's name.
    pub deployment: String,
    /// The scoring script; the built-in scorer by its name and version.
    pub script: Digest,
    /// The model file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// Where the rows are, relative to this file; absent where the script writes its own files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictions: Option<String>,
    /// What the deployment asked for, with every default.
    pub settings: Settings,
}

/// Counts of a job.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Counts {
    /// Files of the plan.
    pub files: u64,
    /// Files that gave rows.
    pub succeeded: u64,
    /// Files that gave none.
    pub failed: u64,
    /// Mini-batches of the plan.
    pub mini_batches: u64,
    /// Mini-batches in the output.
    pub mini_batches_done: u64,
    /// Rows in the output.
    pub rows: u64,
    /// Attempts beyond the first, in this run.
    pub retries: u64,
}

impl Counts {
    /// What `summary` says of a plan of so many files and mini-batches.
    pub fn new(summary: &Summary, files: usize, mini_batches: u64) -> Self {
        let Tally { mini_batches: done, failed, rows, .. } = summary.tally;
        Self {
            files: files as u64,
            succeeded: summary.tally.succeeded(),
            failed,
            mini_batches,
            mini_batches_done: done,
            rows,
            retries: summary.retries,
        }
    }
}

/// Where models ran.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceRecord {
    /// `gpu`, `onnxruntime` or `cpu`.
    pub name: String,
    /// The device in words.
    pub description: String,
    /// Why this one.
    pub reason: String,
    /// What it had to do that users should know, such as going on with fewer pictures at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// A file or folder by its contents.
#[derive(Clone, Debug, Serialize)]
pub struct Digest {
    /// Its name, without the path to it.
    pub name: String,
    /// `sha256:` and hexadecimal digits; of the built-in scorer, its version.
    pub digest: String,
}

/// The most memory that this process held so far: Linux's `VmHWM`.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Seconds of processors that a process took so far, with those of its threads and of the processes that it waited for:
/// of Linux's `/proc/PID/stat`, which is there until somebody has waited for the process too. To a hundredth.
pub fn cpu_seconds(process: &str) -> Option<f64> {
    cpu_seconds_of(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // What Linux tells times in, whatever its clock's own rate.
    const TICKS: f64 = 100.0;
    // The name in parentheses may hold spaces, and parentheses too. Behind it: state, ten numbers, then four times.
    let (_, facts) = stat.rsplit_once(')')?;
    let times = facts.split_whitespace().skip(11).take(4).map(|text| text.parse::<u32>().ok());
    let ticks = times.collect::<Option<Vec<_>>>().filter(|times| times.len() == 4)?;
    Some(ticks.into_iter().map(f64::from).sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 3 20 0 1 0 100 1000 10\n";
        assert_eq!(cpu_seconds_of(stat), Some(2.1));
        for odd in ["", "42 (a) S 1 2", "42 (a) S 1 42 42 0 -1 4194560 100 0 0 0 150 x 7 3"] {
            assert_eq!(cpu_seconds_of(odd), None, "{odd}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_time() {
        let before = cpu_seconds("self").unwrap();
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 50 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds("self").unwrap() > before);
    }
}
