//! What of a job changes while somebody looks: the same texts when a page is rendered, and in the stream that follows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Extension, Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::jobs::{JobsQuery, PAGE};
use super::{Page, Pages, Refusal, Viewer, words};
use crate::service::host::{Caller, Host, HostError, JobStatus, JobView};

/// How often jobs that are followed are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a stream goes on before the page has to ask again.
const FOLLOWED: Duration = Duration::from_secs(600);

/// A job's texts, by the names that the page's elements have.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Live {
    pub(super) name: String,
    /// Its status, and the word for it.
    pub(super) status: &'static str,
    pub(super) word: &'static str,
    /// Files whose mini-batches are committed, and all; no total where it is not known yet.
    pub(super) done: u64,
    pub(super) files: u64,
    pub(super) progress: String,
    pub(super) percent: String,
    pub(super) rate: String,
    /// How long it still takes, or took.
    pub(super) left: String,
    pub(super) failed: String,
    pub(super) mini_batches: String,
    pub(super) rows: String,
    pub(super) retries: String,
    pub(super) device: String,
    pub(super) ended: bool,
}

/// Of a status: what pages call it and mark it with.
pub(super) fn status_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "queued",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
        JobStatus::Canceled => "canceled",
    }
}

/// What is known of how far a job is, from its process or from its record.
#[derive(Default)]
struct Counts {
    files: u64,
    done: u64,
    failed: u64,
    mini_batches: u64,
    mini_batches_done: u64,
    rows: u64,
    retries: u64,
}

fn counts(job: &JobView) -> Option<Counts> {
    if let Some(p) = job.progress {
        let (files, done, failed, rows, retries) = (p.files, p.done, p.failed, p.rows, p.retries);
        let (mini_batches, mini_batches_done) = (p.mini_batches, p.mini_batches_done);
        return Some(Counts { files, done, failed, mini_batches, mini_batches_done, rows, retries });
    }
    let counts = job.record.as_ref()?.get("counts")?;
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    let (succeeded, failed) = (number("succeeded"), number("failed"));
    Some(Counts {
        files: number("files"),
        done: succeeded.saturating_add(failed),
        failed,
        mini_batches: number("mini_batches"),
        mini_batches_done: number("mini_batches_done"),
        rows: number("rows"),
        retries: number("retries"),
    })
}

impl Live {
    pub(super) fn of(job: &JobView) -> Self {
        let word = match job.status {
            _ if job.canceling => "Stopping",
            JobStatus::Queued => "Queued",
            JobStatus::Running => "Running",
            JobStatus::Completed => "Completed",
            JobStatus::Failed => "Failed",
            JobStatus::Canceled => "Canceled",
        };
        let mut live = Self {
            name: job.name.clone(),
            status: status_name(job.status),
            word,
            ended: job.status.has_ended(),
            progress: match job.status {
                JobStatus::Queued => job.waits.clone().unwrap_or_else(|| "waits for its turn".into()),
                JobStatus::Running => "getting ready".into(),
                _ => "nothing scored".into(),
            },
            ..Self::default()
        };
        if let Some(counts) = counts(job) {
            live.count(&counts);
        }
        live.time(job);
        let record = job.record.as_ref();
        let recorded = record.and_then(|record| record["device"]["name"].as_str());
        live.device =
            job.device.as_ref().map(|device| device.name.as_str()).or(recorded).unwrap_or_default().to_owned();
        live
    }

    fn count(&mut self, counts: &Counts) {
        let Counts { files, done, failed, mini_batches, mini_batches_done, rows, retries } = *counts;
        (self.files, self.done) = (files, done.min(files));
        self.progress = format!("{} of {}", words::count(done), words::counted(files, "file", "files"));
        if files > 0 {
            // Rounded down: not everything before it is.
            self.percent = format!("{} %", u128::from(self.done) * 100 / u128::from(files));
        }
        self.failed = words::count(failed);
        self.mini_batches = format!("{} of {}", words::count(mini_batches_done), words::count(mini_batches));
        (self.rows, self.retries) = (words::count(rows), words::count(retries));
    }

    fn time(&mut self, job: &JobView) {
        if let Some(pace) = job.pace {
            self.rate = words::rate(pace.files_per_second);
            self.left = words::duration(pace.seconds_left);
        } else if let Some(record) = &job.record {
            self.rate = record["files_per_second"].as_f64().map(words::rate).unwrap_or_default();
            self.left = record["seconds"].as_f64().map(words::duration).unwrap_or_default();
        }
    }
}

/// What a page follows: one job, or those of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Followed {
    job: Option<String>,
    #[serde(flatten)]
    list: JobsQuery,
}

#[derive(Serialize)]
struct Told {
    items: Vec<Live>,
}

fn look(host: &Host, caller: &Caller, followed: &Followed) -> Result<Vec<Live>, HostError> {
    let jobs = match &followed.job {
        Some(name) => vec![host.job(caller, name)?],
        None => host.jobs_that(caller, &followed.list.filter(), PAGE)?,
    };
    Ok(jobs.iter().map(Live::of).collect())
}

/// Jobs as they are, and again whenever that changes.
pub(super) async fn follow(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Query(followed): Query<Followed>,
) -> Page {
    let busy = || Refusal::new(axum::http::StatusCode::TOO_MANY_REQUESTS, "as many pages follow jobs as may at once");
    let own = Arc::clone(&viewer.session.followers).try_acquire_owned().map_err(|_| busy())?;
    let place = Arc::clone(&pages.followers).try_acquire_owned().map_err(|_| busy())?;
    // Recognised each time: a token that is revoked sees nothing more.
    let look = move |pages: Pages, token: String, followed: Followed| async move {
        pages.call(move |host| look(host, &host.recognise(&token)?, &followed)).await
    };
    let token = viewer.session.token.clone();
    look(pages.clone(), token.clone(), followed.clone()).await?;
    let end = Instant::now() + FOLLOWED;
    let changes = stream::unfold(Some(String::new()), move |told| {
        let (pages, token, followed) = (pages.clone(), token.clone(), followed.clone());
        // Given back when nobody follows any more.
        let _ = (&own, &place);
        async move {
            let told = told?;
            loop {
                let items = look(pages.clone(), token.clone(), followed.clone()).await.ok()?;
                let is_over = followed.job.is_some() && items.iter().all(|job| job.ended);
                let text = serde_json::to_string(&Told { items }).ok()?;
                if text != told {
                    let event = Event::default().event("jobs").data(&text);
                    return Some((Ok::<_, Infallible>(event), if is_over { None } else { Some(text) }));
                }
                if Instant::now() > end {
                    return None;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    Ok(Sse::new(changes).keep_alive(KeepAlive::default()).into_response())
}
