//! Jobs: accepted once, and from then on never forgotten, until somebody deletes them.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tenants::audit;
use super::{
    Deployment, Result, State, StateError, Usage, candidates, deployments, endpoints, json, now, optional, tenants,
    usage,
};

/// Where a job is, in Azure's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum JobStatus {
    /// It waits for its turn.
    Queued,
    /// A process scores it.
    Running,
    /// Its output is complete.
    Completed,
    /// It ended without one, for a reason in words.
    Failed,
    /// It was asked to stop, and did.
    Canceled,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [JobStatus; 5] =
        [JobStatus::Queued, JobStatus::Running, JobStatus::Completed, JobStatus::Failed, JobStatus::Canceled];

    /// Whether nothing becomes of it any more, unless it is resumed.
    pub fn has_ended(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Queued => "Queued",
            JobStatus::Running => "Running",
            JobStatus::Completed => "Completed",
            JobStatus::Failed => "Failed",
            JobStatus::Canceled => "Canceled",
        }
    }

    fn named(name: &str) -> rusqlite::Result<Self> {
        json(&format!("\"{name}\""))
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name, which sorts by time.
    pub id: String,
    /// Whose it is.
    pub tenant: i64,
    /// The endpoint that it was posted to.
    pub endpoint: String,
    /// The deployment that answers it, whatever becomes of the default.
    pub deployment: String,
    /// That one's version.
    pub version: u32,
    /// The digest that names the deployment's folder.
    pub folder: String,
    /// The registered model's digest.
    pub model: Option<String>,
    /// What is scored, as the service wrote it.
    pub input: Value,
    /// The place in an object store that the output is published to.
    pub output: Option<String>,
    /// Settings that replace the deployment's.
    pub overrides: BTreeMap<String, String>,
    /// Instances that score at once.
    pub instances: u64,
    /// Bytes that these may have together.
    pub memory: u64,
    /// Where it is.
    pub status: JobStatus,
    /// Whether it was asked to stop.
    pub cancel: bool,
    /// Processes that were begun for it.
    pub starts: u32,
    /// What `job.json` says, once it ended.
    pub record: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was accepted.
    pub created: String,
    /// When its first process was begun.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
}

/// A job to accept.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub id: String,
    /// The endpoint.
    pub endpoint: String,
    /// The deployment and its version, as [`State::answering`] found it.
    pub deployment: (String, u32),
    /// See [`Job`].
    pub input: Value,
    /// See [`Job`].
    pub output: Option<String>,
    /// See [`Job`].
    pub overrides: BTreeMap<String, String>,
    /// See [`Job`].
    pub instances: u64,
    /// See [`Job`].
    pub memory: u64,
    /// Under which the same request is answered with the same job.
    pub idempotency: Option<String>,
    /// Tells whether it is the same request.
    pub request: String,
}

/// What became of a request for a job.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// It was accepted.
    New(Job),
    /// It had been accepted before, under the same key.
    Again(Job),
}

/// How a job's process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What the job becomes.
    pub status: JobStatus,
    /// What `job.json` says.
    pub record: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// What its last process used that was not written yet.
    pub used: Usage,
}

/// A part of a list: from the newest on.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only jobs older than this one.
    pub before: Option<String>,
    /// Only those of this endpoint.
    pub endpoint: Option<String>,
    /// Only those that are there.
    pub status: Option<JobStatus>,
    /// At most so many.
    pub most: u32,
}

impl Job {
    /// Where it was posted to, and what answers it.
    pub(super) fn answered_by(&self) -> String {
        format!("{}/{}:{}", self.endpoint, self.deployment, self.version)
    }
}

pub(super) const COLUMNS: &str = "id, tenant, endpoint, deployment, version, folder, model, input, overrides, status, cancel, starts, \
                       record, error, created, started, ended, instances, memory, output";

pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        tenant: row.get(1)?,
        endpoint: row.get(2)?,
        deployment: row.get(3)?,
        version: row.get(4)?,
        folder: row.get(5)?,
        model: row.get(6)?,
        input: json(row.get_ref(7)?.as_str()?)?,
        overrides: json(row.get_ref(8)?.as_str()?)?,
        status: JobStatus::named(row.get_ref(9)?.as_str()?)?,
        cancel: row.get(10)?,
        starts: row.get(11)?,
        record: row.get::<_, Option<String>>(12)?.map(|text| json(&text)).transpose()?,
        error: row.get(13)?,
        created: row.get(14)?,
        started: row.get(15)?,
        ended: row.get(16)?,
        instances: row.get(17)?,
        memory: row.get(18)?,
        output: row.get(19)?,
    })
}

pub(super) fn find(on: &Connection, tenant: i64, id: &str) -> Result<Job> {
    let mut query = on.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE tenant = ?1 AND id = ?2"))?;
    let found = optional(query.query_row(params![tenant, id], job))?;
    found.ok_or_else(|| StateError::Unknown { what: "job", name: id.to_owned() })
}

pub(super) fn count(on: &Connection, tenant: i64, status: JobStatus) -> Result<u64> {
    let mut query = on.prepare_cached("SELECT count(*) FROM jobs WHERE tenant = ?1 AND status = ?2")?;
    Ok(query.query_row(params![tenant, status.name()], |row| row.get(0))?)
}

/// The job that was accepted under a key.
fn earlier(on: &Connection, tenant: i64, key: &str, request: &str) -> Result<Option<Job>> {
    let mut query = on.prepare_cached("SELECT id, request FROM jobs WHERE tenant = ?1 AND idempotency = ?2")?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    match optional(query.query_row(params![tenant, key], row))? {
        // One request may have several digests: of what was sent, and of what that stands for.
        Some((id, same)) if same.split(' ').any(|one| request.split(' ').any(|other| one == other)) => {
            find(on, tenant, &id).map(Some)
        }
        Some(_) => Err(StateError::KeyReused(key.to_owned())),
        None => Ok(None),
    }
}

/// Whether the tenant's limits let a job wait that asks for so many instances, and bytes for these.
fn admit(on: &Connection, tenant: i64, (instances, memory): (u64, u64)) -> Result<()> {
    let tenant = tenants::of_id(on, tenant)?;
    candidates::fits(&tenant, instances, memory)?;
    let (have, most) = (count(on, tenant.id, JobStatus::Queued)?, tenant.quotas.queued.into());
    if have >= most {
        return Err(StateError::Quota { what: "queued jobs", have, most });
    }
    // Only asked for where there is a limit: it is a sum over a month's jobs.
    if tenant.quotas.cpu_seconds.is_some() || tenant.quotas.device_seconds.is_some() {
        candidates::spent(&tenant, &usage::of_month(on, tenant.id)?).map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// The question of a list: only what is asked for stands there, so that the index of it is used.
pub(super) fn listing(page: &Page) -> String {
    let before = if page.before.is_some() { " AND id < :before" } else { "" };
    let endpoint = if page.endpoint.is_some() { " AND endpoint = :endpoint" } else { "" };
    let status = if page.status.is_some() { " AND status = :status" } else { "" };
    format!("SELECT {COLUMNS} FROM jobs WHERE tenant = :tenant{before}{endpoint}{status} ORDER BY id DESC LIMIT :most")
}

impl State {
    /// The deployment that answers at an endpoint: the named one, at a version or the latest; or the default, if there is
    /// one.
    ///
    /// # Errors
    /// If there is no such endpoint or deployment.
    pub fn answering(
        &self,
        tenant: i64,
        endpoint: &str,
        named: Option<(String, Option<u32>)>,
    ) -> Result<Option<Deployment>> {
        let read = self.read();
        let endpoint = endpoints::find(&read, tenant, endpoint)?;
        let default = || endpoint.default_deployment.clone().map(|(name, version)| (name, Some(version)));
        let answering = named.or_else(default);
        answering.map(|(name, version)| deployments::find(&read, endpoint.id, &name, version)).transpose()
    }

    /// The job that was accepted under a key for the same request, if there is one.
    ///
    /// # Errors
    /// If it was another request.
    pub fn submitted(&self, tenant: i64, key: &str, request: &str) -> Result<Option<Job>> {
        earlier(&self.read(), tenant, key, request)
    }

    /// Whether a job would be accepted now that asks for so many instances, and bytes for these.
    ///
    /// # Errors
    /// If the tenant's limits do not let it wait.
    pub fn admits(&self, tenant: i64, size: (u64, u64)) -> Result<()> {
        admit(&self.read(), tenant, size)
    }

    /// Accepts a job: once this returns, it will run.
    ///
    /// # Errors
    /// If there is no such endpoint or deployment, the tenant's limits do not let it wait, or the key was used for another
    /// request.
    pub fn submit(&self, tenant: i64, new: NewJob, by: &str) -> Result<Submitted> {
        let by = by.to_owned();
        self.change(move |on| {
            if let Some(key) = &new.idempotency
                && let Some(job) = earlier(on, tenant, key, &new.request)?
            {
                return Ok(Submitted::Again(job));
            }
            let endpoint = endpoints::find(on, tenant, &new.endpoint)?;
            let (name, version) = &new.deployment;
            let deployment = deployments::find(on, endpoint.id, name, Some(*version))?;
            admit(on, tenant, (new.instances, new.memory))?;
            let overrides = serde_json::to_string(&new.overrides).expect("a map of texts is JSON; this is a bug");
            on.prepare_cached(
                "INSERT INTO jobs (id, tenant, endpoint, deployment, version, folder, model, input, overrides, instances,
                 memory, status, idempotency, request, created, output)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'Queued', ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                new.id,
                tenant,
                endpoint.name,
                deployment.name,
                deployment.version,
                deployment.digest,
                deployment.model,
                new.input.to_string(),
                overrides,
                new.instances,
                new.memory,
                new.idempotency,
                new.request,
                now(),
                new.output
            ])?;
            let job = find(on, tenant, &new.id)?;
            let places = [("input", Some(job.input.to_string())), ("output", job.output.clone())];
            let places = places.into_iter().filter_map(|(what, place)| Some(format!(", {what} {}", place?)));
            let detail = format!("{}{}", job.answered_by(), places.collect::<String>());
            audit(on, (tenant, &by), ("job submit", &new.id), &detail)?;
            Ok(Submitted::New(job))
        })
    }

    /// One job of a tenant.
    ///
    /// # Errors
    /// If there is none.
    pub fn job(&self, tenant: i64, id: &str) -> Result<Job> {
        find(&self.read(), tenant, id)
    }

    /// A tenant's jobs, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn jobs(&self, tenant: i64, page: &Page) -> Result<Vec<Job>> {
        let read = self.read();
        let mut query = read.prepare_cached(&listing(page))?;
        let (before, status) = (page.before.as_deref(), page.status.map(JobStatus::name));
        let named = rusqlite::named_params! {":tenant": tenant, ":before": before, ":most": page.most};
        // A parameter that the text does not have cannot be given.
        let mut all: Vec<(&str, &dyn rusqlite::ToSql)> = named.to_vec();
        all.retain(|(name, _)| *name != ":before" || before.is_some());
        all.extend(page.endpoint.as_ref().map(|endpoint| (":endpoint", endpoint as &dyn rusqlite::ToSql)));
        all.extend(status.as_ref().map(|status| (":status", status as &dyn rusqlite::ToSql)));
        let rows = query.query_map(all.as_slice(), job)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many of a tenant's jobs are here.
    ///
    /// # Errors
    /// The database's.
    pub fn jobs_that_are(&self, tenant: i64, status: JobStatus) -> Result<u64> {
        count(&self.read(), tenant, status)
    }

    /// Jobs that a process scores, or did when the host ended.
    ///
    /// # Errors
    /// The database's.
    pub fn running(&self) -> Result<Vec<Job>> {
        let read = self.read();
        let mut query =
            read.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE status = 'Running' ORDER BY id"))?;
        let rows = query.query_map([], job)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many jobs are in a state.
    ///
    /// # Errors
    /// The database's.
    pub fn count(&self, status: JobStatus) -> Result<u64> {
        let read = self.read();
        // The states by name, so that the index of those that have not ended serves.
        let mut query =
            read.prepare_cached("SELECT count(*) FROM jobs WHERE status = ?1 AND status IN ('Queued', 'Running')")?;
        Ok(query.query_row([status.name()], |row| row.get(0))?)
    }

    /// The name of the tenant that a job belongs to.
    ///
    /// # Errors
    /// The database's.
    pub fn tenant_of(&self, job: &Job) -> Result<String> {
        Ok(tenants::of_id(&self.read(), job.tenant)?.name)
    }

    /// Writes that a process is begun for a job, before it is. False if the job does not wait or run any more.
    ///
    /// # Errors
    /// The database's.
    pub fn begin(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.change(move |on| {
            let sql = "UPDATE jobs SET status = 'Running', starts = starts + 1, started = coalesce(started, ?1)
                       WHERE id = ?2 AND status IN ('Queued', 'Running') AND NOT cancel";
            Ok(on.prepare_cached(sql)?.execute(params![now(), id])? == 1)
        })
    }

    /// Writes how a job ended, and what its last process used.
    ///
    /// # Errors
    /// The database's.
    pub fn end(&self, tenant: i64, id: &str, ended: Ended) -> Result<()> {
        let id = id.to_owned();
        self.change(move |on| {
            let record = ended.record.map(|record| record.to_string());
            let sql = "UPDATE jobs SET status = ?1, record = ?2, error = ?3, ended = ?4
                       WHERE id = ?5 AND status IN ('Queued', 'Running', 'Finalizing')";
            on.prepare_cached(sql)?.execute(params![ended.status.name(), record, ended.error, now(), id])?;
            usage::add(on, tenant, &id, &ended.used)
        })
    }

    /// Writes that a job's process died, and what it used, and tells how many have.
    ///
    /// # Errors
    /// The database's.
    pub fn died(&self, tenant: i64, id: &str, used: Usage) -> Result<u32> {
        let id = id.to_owned();
        self.change(move |on| {
            usage::add(on, tenant, &id, &used)?;
            let sql = "UPDATE jobs SET deaths = deaths + 1 WHERE id = ?1 RETURNING deaths";
            Ok(on.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
        })
    }

    /// Asks a job to stop: one that waits is canceled at once; one that runs, when its process has ended. One that has
    /// ended stays as it is.
    ///
    /// # Errors
    /// If there is none.
    pub fn cancel(&self, tenant: i64, id: &str, by: &str) -> Result<Job> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.change(move |on| {
            let sql = "UPDATE jobs SET cancel = 1, ended = CASE status WHEN 'Queued' THEN ?1 END,
                       status = CASE status WHEN 'Queued' THEN 'Canceled' ELSE status END
                       WHERE tenant = ?2 AND id = ?3 AND status IN ('Queued', 'Running')";
            let is_canceled = on.prepare_cached(sql)?.execute(params![now(), tenant, id])? == 1;
            let job = find(on, tenant, &id)?;
            if is_canceled {
                audit(on, (tenant, &by), ("job cancel", &id), &job.answered_by())?;
            }
            Ok(job)
        })
    }

    /// Lets a job that failed or was canceled wait again; what it committed stays.
    ///
    /// # Errors
    /// If there is none, it is complete, or being stopped.
    pub fn resume(&self, tenant: i64, id: &str, by: &str) -> Result<Job> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.change(move |on| {
            let job = find(on, tenant, &id)?;
            let refused = |why, cure| Err(StateError::NotResumed { job: job.id.clone(), why, cure });
            match job.status {
                JobStatus::Completed => return refused("it is complete", "to score again, post another job"),
                JobStatus::Running if job.cancel => return refused("it is being stopped", "resume it when it has"),
                _ => {}
            }
            let sql =
                "UPDATE jobs SET status = 'Queued', cancel = 0, deaths = 0, error = NULL, record = NULL, ended = NULL
                       WHERE id = ?1 AND status IN ('Failed', 'Canceled')";
            if on.prepare_cached(sql)?.execute([&id])? == 1 {
                let detail = format!("{} at {}", job.status.name(), job.answered_by());
                audit(on, (tenant, &by), ("job resume", &id), &detail)?;
            }
            find(on, tenant, &id)
        })
    }
}
