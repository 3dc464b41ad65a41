//! What a job's process tells its host, a line of JSON at a time: how far the job is, and what happened since the last
//! line. What goes in: groups of mini-batches as they are committed. What comes out: lines of bounded length.
//!
//! The process that writes them has read strangers' bytes: nothing in a line is believed without a bound.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{DeviceView, ProgressView};
use crate::job::{Committed, Settled};
use crate::observe::Spread;

/// Mini-batches that one line names: of those that failed or were tried again, the first.
const MOST_NAMED: usize = 16;
/// Mini-batches without a fault that a process names, for traces: its first ones; later one a line.
const FIRST_NAMED: u64 = 32;
/// Mini-batches that a process names at all.
const MOST_EVER: u64 = 512;
/// Bytes of a message.
const MOST_MESSAGE: usize = 256;

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// How far the job is.
    pub progress: ProgressView,
    /// Where models run: once, before scoring begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceView>,
    /// What happened since the last line.
    pub since: Since,
}

/// What happened between two lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Since {
    /// Mini-batches all of whose files succeeded.
    pub succeeded: u64,
    /// Those some of whose files failed.
    pub partly: u64,
    /// Those all of whose files failed.
    pub failed: u64,
    /// Files that succeeded.
    pub files_succeeded: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// Attempts beyond the first, by the kind of error.
    pub retries: BTreeMap<String, u64>,
    /// How long mini-batches took.
    pub mini_batch_seconds: Spread,
    /// How long groups of them took to be on the disk.
    pub commit_seconds: Spread,
    /// Some of the mini-batches by name: what went wrong, and a sample of the rest.
    pub named: Vec<Named>,
}

/// A mini-batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Its number.
    pub index: u64,
    /// Its files.
    pub files: u32,
    /// Those of them that failed.
    pub failed: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Why each attempt but the last failed, by the kind of error; the first few.
    pub retried: Vec<String>,
    /// What went wrong with it or its first failed file: the kind of error, and the message.
    pub error: Option<(String, String)>,
    /// When it was begun: microseconds since 1970.
    pub started_us: u64,
    /// How long it took, with its retries.
    pub seconds: f64,
}

/// Puts lines together.
#[derive(Debug, Default)]
pub struct Teller {
    /// Told with the next line.
    pub device: Option<DeviceView>,
    since: Since,
    named_ever: u64,
}

impl Teller {
    /// What was committed goes into the next line.
    pub fn hear(&mut self, committed: &Committed) {
        let since = &mut self.since;
        since.commit_seconds.add(committed.seconds);
        for settled in &committed.mini_batches {
            *match settled.failed {
                0 => &mut since.succeeded,
                failed if failed < settled.files => &mut since.partly,
                _ => &mut since.failed,
            } += 1;
            since.files_succeeded += u64::from(settled.files.saturating_sub(settled.failed));
            since.files_failed += u64::from(settled.failed);
            since.mini_batch_seconds.add(settled.seconds);
            for kind in &settled.retried {
                *since.retries.entry((*kind).to_owned()).or_default() += 1;
            }
            let has_fault = settled.failed > 0 || settled.attempts > 1;
            let is_sample = self.named_ever < FIRST_NAMED || since.named.is_empty();
            if (has_fault || is_sample) && since.named.len() < MOST_NAMED && self.named_ever < MOST_EVER {
                self.named_ever += 1;
                since.named.push(settled.into());
            }
        }
    }

    /// The next line.
    pub fn line(&mut self, progress: ProgressView) -> Told {
        Told { progress, device: self.device.take(), since: std::mem::take(&mut self.since) }
    }
}

impl From<&Settled> for Named {
    fn from(settled: &Settled) -> Self {
        let since = settled.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let cut = |message: &str| message[..message.floor_char_boundary(MOST_MESSAGE)].to_owned();
        Self {
            index: settled.index,
            files: settled.files,
            failed: settled.failed,
            attempts: settled.attempts,
            retried: settled.retried.iter().take(8).map(|kind| (*kind).to_owned()).collect(),
            error: settled.error.as_ref().map(|(kind, message)| (kind.clone(), cut(message))),
            started_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            seconds: settled.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(index: u64, failed: u32) -> Settled {
        Settled {
            index,
            files: 2,
            failed,
            attempts: 1 + failed,
            retried: vec!["trap"; failed as usize],
            error: (failed > 0).then(|| ("trap".to_owned(), "\u{1b}é".repeat(9999))),
            started: SystemTime::UNIX_EPOCH,
            // Numbers that JSON gives back to the last bit.
            seconds: 0.5,
        }
    }

    #[test]
    fn everything_is_counted_and_a_line_stays_short() {
        let mut teller = Teller::default();
        let mini_batches: Vec<_> = (0..100_000).map(|i| settled(i, (i % 3) as u32)).collect();
        teller.hear(&Committed { mini_batches, seconds: 0.25 });
        let told = teller.line(ProgressView::default());
        let since = &told.since;
        assert_eq!((since.succeeded, since.partly, since.failed), (33_334, 33_333, 33_333));
        assert_eq!(since.files_succeeded + since.files_failed, 200_000);
        assert_eq!(since.retries, BTreeMap::from([("trap".to_owned(), 99_999)]));
        let line = serde_json::to_string(&told).unwrap();
        assert!(line.len() < super::super::process::MOST_LINE as usize, "{}", line.len());
        assert_eq!(serde_json::from_str::<Told>(&line).unwrap().since, *since);
        assert_eq!(teller.line(ProgressView::default()).since, Since::default());
        // A process names so many, however long it runs.
        let mut named = 0;
        for i in 0..100_000 {
            teller.hear(&Committed { mini_batches: vec![settled(i, 1)], seconds: 0.0 });
            named += teller.line(ProgressView::default()).since.named.len() as u64;
        }
        assert!(named <= MOST_EVER, "{named}");
    }
}
