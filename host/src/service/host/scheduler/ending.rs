//! What becomes of jobs whose processes have ended: each end is written before the job leaves the list, and a write that
//! fails is tried again.

use std::io::Read;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::super::catalog::Placed;
use super::super::folders::measure;
use super::super::process::{ProcessEnd, without_folders};
use super::super::turns::Turns;
use super::super::{HostError, pages};
use super::Turn;
use crate::fault;
use crate::observe::Attribute;
use crate::state::{Ended, Job, JobStatus, Usage};

/// Bytes of a record: those that are written have some kilobytes, and with every setting some hundred.
const MOST_RECORD: u64 = 1 << 20;
/// How long a job may take to make room with the mini-batches that run, before it is stopped: it scores them again then.
const YIELD: Duration = Duration::from_secs(600);
/// Processes that may die under one job: a machine that is short of memory for a while is no fault of a job.
const MOST_DEATHS: u32 = 3;
/// The command's exit code where it was stopped.
const INTERRUPTED: i32 = 130;
/// How long a process may take to stop by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A job whose process has ended.
struct Gone {
    job: Job,
    weight: u32,
    placed: Placed,
    output: PathBuf,
    counted: u64,
    spent: Option<String>,
    is_yielding: bool,
    end: ProcessEnd,
    /// What was not written yet of what it used.
    used: Usage,
}

impl Turn {
    /// Looks after the processes that have ended. One stays in the list until its end is written: if that fails, it is
    /// tried again.
    pub(super) fn reap(&self, is_closing: bool, turns: &mut Turns) -> Result<(), HostError> {
        let mut ended = Vec::new();
        for (id, one) in self.shared.running().iter_mut() {
            if one.stopping.is_some_and(|since| since.elapsed() > PATIENCE) {
                one.process.kill();
            }
            if one.is_yielding.is_some_and(|since| since.elapsed() > YIELD) {
                one.process.kill();
            }
            let now = if one.end.is_none() { one.process.ended() } else { Ok(None) };
            if let Err(error) = &now {
                tracing::error!(job = id, error = fault::chain(error), "a process cannot be waited for");
            }
            if let Ok(Some(end)) = now {
                one.took = one.began.elapsed();
                self.metrics.process_ended(one.took);
                if let (Some(span), Some(code)) = (&mut one.span, end.code) {
                    span.set(Attribute::new("process.exit.code", i64::from(code)));
                }
                one.end = Some(end);
                turns.used(one.job.tenant, one.weight, one.cost(self.processors));
            }
            if let Some(end) = &one.end {
                let gone = Gone {
                    job: one.job.clone(),
                    weight: one.weight,
                    placed: one.placed.clone(),
                    output: one.output.clone(),
                    counted: one.counted,
                    spent: one.spent.clone(),
                    is_yielding: one.is_yielding.is_some(),
                    used: one.used().since(&one.written),
                    end: end.clone(),
                };
                ended.push((id.clone(), gone));
            }
        }
        let mut failed = Ok(());
        for (id, gone) in ended {
            // The others' ends do not wait for one that cannot be written.
            if let Err(error) = self.end_of(&id, gone, is_closing) {
                failed = Err(error);
            }
        }
        failed
    }

    fn end_of(&self, id: &str, mut gone: Gone, is_closing: bool) -> Result<(), HostError> {
        // A walk through an output is no work to do while everybody waits for the list.
        let measured = measure(&self.folders.job(gone.job.tenant, id));
        let before = self.state.usage_of_job(id)?;
        gone.used.output_bytes = measured.bytes.saturating_sub(before.output_bytes);
        let again = self.settle(&gone, is_closing)?;
        self.folders.replace(gone.job.tenant, gone.counted, measured.counted());
        self.shared.running().remove(id);
        self.shared.work.store(true, Ordering::Release);
        if again {
            self.begin(self.state.job(gone.job.tenant, id)?, gone.weight)?;
        }
        Ok(())
    }

    /// Writes a job's end, or tells that it is to begin again.
    fn settle(&self, gone: &Gone, is_closing: bool) -> Result<bool, HostError> {
        let Gone { placed, output, end, used, .. } = gone;
        if let Some(record) = finished(output).filter(|_| !end.is_unpublished) {
            self.end(&gone.job, JobStatus::Completed, Some(record), None, *used)?;
            return Ok(false);
        }
        let job = self.state.job(gone.job.tenant, &gone.job.id)?;
        if job.cancel {
            self.end(&job, JobStatus::Canceled, record(output), None, *used)?;
            return Ok(false);
        }
        if let Some(error) = &gone.spent {
            self.end(&job, JobStatus::Failed, record(output), Some(error.clone()), *used)?;
            return Ok(false);
        }
        // It goes on when the host is opened again.
        if is_closing {
            self.state.add_usage(job.tenant, &job.id, *used)?;
            return Ok(false);
        }
        // One that was killed for taking too long to make room has no code.
        if gone.is_yielding && matches!(end.code, None | Some(INTERRUPTED)) {
            self.state.wait_again(job.tenant, &job.id, *used)?;
            return Ok(false);
        }
        let plain = |text: &str| without_folders(text.trim(), placed, &self.folders.of(job.tenant));
        // The command's own codes: it ended in words.
        if let Some(1 | 2) = end.code {
            let record = record(output);
            let told = record.as_ref().and_then(|record| record["error"].as_str()).map(plain);
            let said = plain(end.words.trim().strip_prefix("error: ").unwrap_or(&end.words));
            self.end(&job, JobStatus::Failed, record, Some(told.unwrap_or(said)), *used)?;
            return Ok(false);
        }
        let deaths = self.state.died(job.tenant, &job.id, *used)?;
        self.metrics.process_died();
        tracing::warn!(job = job.id, deaths, status = end.status, words = plain(&end.words), "a job's process died");
        if deaths < MOST_DEATHS {
            return Ok(true);
        }
        let error = format!("its process died {deaths} times, at last with {}: {}", end.status, plain(&end.words));
        self.end(&job, JobStatus::Failed, record(output), Some(error), Usage::default())?;
        Ok(false)
    }

    pub(super) fn end(
        &self,
        job: &Job,
        status: JobStatus,
        record: Option<Value>,
        error: Option<String>,
        used: Usage,
    ) -> Result<(), HostError> {
        let (tenant, words) = (self.state.tenant_of(job)?, error.clone());
        let counts = record.as_ref().map(|record| &record["counts"]);
        let count = |what: &str| counts.and_then(|counts| counts[what].as_u64());
        let (files, failed, retries) = (count("files"), count("failed"), count("retries"));
        self.state.end(job.tenant, &job.id, Ended { status, record, error, used })?;
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner).remove(&job.id);
        self.metrics.job_ended(&tenant, status.name());
        self.traces.end(&job.id, status, words.as_deref());
        let (endpoint, deployment, status) = (&job.endpoint, &job.deployment, status.name());
        tracing::info!(
            job = job.id,
            tenant,
            endpoint,
            deployment,
            version = job.version,
            status,
            files,
            failed,
            retries,
            error = words,
            "job ended"
        );
        Ok(())
    }

    /// Ends a job that was stopping when the host ended.
    pub(super) fn end_stopped(&self, job: &Job) -> Result<(), HostError> {
        // Whether one that has a place to go to has come there is not known.
        let record = finished(&self.folders.job(job.tenant, &job.id).join("output")).filter(|_| job.output.is_none());
        let status = if record.is_some() { JobStatus::Completed } else { JobStatus::Canceled };
        self.end(job, status, record, None, Usage::default())
    }
}

/// What `job.json` says, if there is one. The job's process could have put anything in its place.
pub(super) fn record(output: &std::path::Path) -> Option<Value> {
    let (file, bytes) = pages::open_below(output, "job.json").ok()??;
    let mut text = Vec::new();
    file.take(MOST_RECORD).read_to_end(&mut text).ok()?;
    (bytes <= MOST_RECORD).then(|| serde_json::from_slice(&text).ok())?
}

/// What `job.json` says of a job that is complete.
fn finished(output: &std::path::Path) -> Option<Value> {
    record(output).filter(|record| record["state"] == "Completed")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_small_file_is_no_record() {
        let place = tempfile::tempdir().unwrap();
        let (output, outside) = (place.path().join("output"), place.path().join("key.json"));
        std::fs::create_dir(&output).unwrap();
        std::fs::write(&outside, r#"{"private_key": "secret", "state": "Completed"}"#).unwrap();
        let job = output.join("job.json");
        assert_eq!(record(&output), None);
        std::os::unix::fs::symlink(&outside, &job).unwrap();
        assert_eq!((record(&output), finished(&output)), (None, None));
        std::fs::remove_file(&job).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&job).status().unwrap();
        assert!(made.success());
        assert_eq!(record(&output), None, "and is not waited for");
        std::fs::remove_file(&job).unwrap();
        std::fs::write(&job, format!("\"{}\"", "x".repeat(1 << 20))).unwrap();
        assert_eq!(record(&output), None);
        std::fs::write(&job, r#"{"state": "Completed"}"#).unwrap();
        assert_eq!(finished(&output), Some(serde_json::json!({"state": "Completed"})));
    }
}
