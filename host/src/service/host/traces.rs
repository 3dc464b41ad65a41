//! Spans of jobs, of their processes, and of the mini-batches that these name. Without a tracer, nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{JobStatus, Named};
use crate::observe::{Attribute, Past, Place, Span, Tracer};
use crate::state::Job;

/// Spans of jobs that have begun and not ended.
pub(super) struct Traces {
    tracer: Option<Arc<Tracer>>,
    jobs: Mutex<HashMap<String, Span>>,
}

/// A process's place, below which its mini-batches are.
pub(super) struct Below {
    tracer: Arc<Tracer>,
    place: Place,
    began: SystemTime,
}

impl Traces {
    pub(super) fn new(tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, jobs: Mutex::default() }
    }

    /// The span of a process that is begun for a job: below the job's, which begins with the job's acceptance.
    pub(super) fn begin(&self, job: &Job, tenant: &str) -> Option<Span> {
        let tracer = self.tracer.as_deref()?;
        let now = SystemTime::now();
        let mut jobs = self.jobs();
        let span = jobs.entry(job.id.clone()).or_insert_with(|| {
            let accepted = humantime::parse_rfc3339(&job.created).unwrap_or(now);
            let about = vec![
                Attribute::new("scorehost.job", job.id.clone()),
                Attribute::new("scorehost.tenant", tenant.to_owned()),
                Attribute::new("scorehost.endpoint", job.endpoint.clone()),
                Attribute::new("scorehost.deployment", job.deployment.clone()),
                Attribute::new("scorehost.deployment.version", i64::from(job.version)),
            ];
            tracer.begin("job", tracer.recall(&job.id).as_ref(), accepted, about)
        });
        let about = vec![Attribute::new("scorehost.job.starts", i64::from(job.starts) + 1)];
        Some(tracer.begin("process", Some(&span.place()), now, about))
    }

    /// Where the mini-batches of a process go.
    pub(super) fn below(&self, process: &Option<Span>) -> Option<Below> {
        let (tracer, span) = (self.tracer.as_ref()?, process.as_ref()?);
        Some(Below { tracer: Arc::clone(tracer), place: span.place(), began: SystemTime::now() })
    }

    /// A job ended.
    pub(super) fn end(&self, id: &str, status: JobStatus, error: Option<&str>) {
        if let Some(mut span) = self.jobs().remove(id) {
            span.set(Attribute::new("scorehost.job.status", status.name()));
            if let Some(error) = error {
                span.fail(error.chars().take(1024).collect());
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Span>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Below {
    /// A mini-batch, as the process tells of it.
    pub(super) fn mini_batch(&self, named: &Named) {
        let now = SystemTime::now();
        // Within the process's own life, whatever it says.
        let told = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(named.started_us)).unwrap_or(now);
        let began = told.clamp(self.began, now.max(self.began));
        let most = now.duration_since(began).unwrap_or_default();
        let took = Duration::try_from_secs_f64(named.seconds).unwrap_or_default().min(most);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut attributes = vec![
            Attribute::new("scorehost.mini_batch", number(named.index)),
            Attribute::new("scorehost.mini_batch.files", i64::from(named.files)),
            Attribute::new("scorehost.mini_batch.failed", i64::from(named.failed)),
            Attribute::new("scorehost.mini_batch.attempts", i64::from(named.attempts)),
        ];
        if !named.retried.is_empty() {
            attributes.push(Attribute::new("scorehost.mini_batch.retried", named.retried.join(" ")));
        }
        let error = named.error.as_ref().filter(|_| named.failed > 0);
        let error = error.map(|(kind, message)| format!("{kind}: {message}"));
        self.tracer.past(Past { name: "mini_batch", began, took, attributes, error }, &self.place);
    }
}
