//! Jobs: accepted once, and from then on never forgotten.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tenants::audit;
use super::{Result, State, StateError, Tenant, deployments, endpoints, json, now, optional, tenants};

/// Where a job is, in Azure's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether nothing becomes of it any more, unless it is resumed.
    pub fn has_ended(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }

    fn name(self) -> &'static str {
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
    /// Settings that replace the deployment's.
    pub overrides: BTreeMap<String, String>,
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
    /// The deployment, at a version or the latest; or the endpoint's default.
    pub deployment: Option<(String, Option<u32>)>,
    /// See [`Job`].
    pub input: Value,
    /// See [`Job`].
    pub overrides: BTreeMap<String, String>,
    /// Under which the same request is answered with the same job.
    pub idempotency: Option<String>,
    /// Tells whether it is the same request.
    pub request: String,
    /// How many of the tenant's jobs may wait.
    pub most_queued: u32,
}

/// What became of a request for a job.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// It was accepted.
    New(Job),
    /// It had been accepted before, under the same key.
    Again(Job),
    /// The endpoint has no default, and none was named.
    NoDeployment,
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
}

/// A part of a list: from the newest on.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only jobs older than this one.
    pub before: Option<String>,
    /// Only those of this endpoint.
    pub endpoint: Option<String>,
    /// Only those that are here.
    pub status: Option<JobStatus>,
    /// At most so many.
    pub most: u32,
}

const COLUMNS: &str = "id, tenant, endpoint, deployment, version, folder, model, input, overrides, status, cancel, starts, \
                       record, error, created, started, ended";

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
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
    })
}

fn find(on: &Connection, tenant: i64, id: &str) -> Result<Job> {
    let mut query = on.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE tenant = ?1 AND id = ?2"))?;
    let found = optional(query.query_row(params![tenant, id], job))?;
    found.ok_or_else(|| StateError::Unknown { what: "job", name: id.to_owned() })
}

fn count(on: &Connection, tenant: i64, status: JobStatus) -> Result<u64> {
    let mut query = on.prepare_cached("SELECT count(*) FROM jobs WHERE tenant = ?1 AND status = ?2")?;
    Ok(query.query_row(params![tenant, status.name()], |row| row.get(0))?)
}

impl State {
    /// Accepts a job: once this returns, it will run.
    ///
    /// # Errors
    /// If there is no such endpoint or deployment, too many jobs wait, or the key was used for another request.
    pub fn submit(&self, tenant: i64, new: NewJob, by: &str) -> Result<Submitted> {
        let by = by.to_owned();
        self.change(move |on| {
            if let Some(key) = &new.idempotency {
                let sql = "SELECT id, request FROM jobs WHERE tenant = ?1 AND idempotency = ?2";
                let mut query = on.prepare_cached(sql)?;
                let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
                match optional(query.query_row(params![tenant, key], row))? {
                    Some((id, request)) if request == new.request => {
                        return Ok(Submitted::Again(find(on, tenant, &id)?));
                    }
                    Some(_) => return Err(StateError::KeyReused(key.clone())),
                    None => {}
                }
            }
            let endpoint = endpoints::find(on, tenant, &new.endpoint)?;
            let default = endpoint.default_deployment.as_ref().map(|(name, version)| (name.clone(), Some(*version)));
            let Some((name, version)) = new.deployment.clone().or(default) else {
                return Ok(Submitted::NoDeployment);
            };
            let deployment = deployments::find(on, endpoint.id, &name, version)?;
            let have = count(on, tenant, JobStatus::Queued)?;
            if have >= new.most_queued.into() {
                return Err(StateError::Quota { what: "queued jobs", have, most: new.most_queued.into() });
            }
            let overrides = serde_json::to_string(&new.overrides).expect("a map of texts is JSON; this is a bug");
            on.prepare_cached(
                "INSERT INTO jobs (id, tenant, endpoint, deployment, version, folder, model, input, overrides, status,
                 idempotency, request, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'Queued', ?10, ?11, ?12)",
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
                new.idempotency,
                new.request,
                now()
            ])?;
            audit(on, tenant, &by, "job submit", &new.id)?;
            Ok(Submitted::New(find(on, tenant, &new.id)?))
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
        let mut query = read.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE tenant = ?1 AND (?2 IS NULL OR id < ?2) AND (?3 IS NULL OR endpoint = ?3)
             AND (?4 IS NULL OR status = ?4) ORDER BY id DESC LIMIT ?5"
        ))?;
        let status = page.status.map(JobStatus::name);
        let rows = query.query_map(params![tenant, page.before, page.endpoint, status, page.most], job)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many of a tenant's jobs are here.
    ///
    /// # Errors
    /// The database's.
    pub fn jobs_that_are(&self, tenant: i64, status: JobStatus) -> Result<u64> {
        count(&self.read(), tenant, status)
    }

    /// Every tenant with jobs that wait, with its oldest such job, and how many of its jobs run.
    ///
    /// # Errors
    /// The database's.
    pub fn waiting(&self) -> Result<Vec<(Tenant, Job, u32)>> {
        let read = self.read();
        let mut query = read.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE id IN (SELECT min(id) FROM jobs WHERE status = 'Queued' GROUP BY tenant)"
        ))?;
        let oldest = query.query_map([], job)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut waiting = Vec::with_capacity(oldest.len());
        for job in oldest {
            let running = count(&read, job.tenant, JobStatus::Running)?;
            let tenant = tenants::of_id(&read, job.tenant)?;
            waiting.push((tenant, job, u32::try_from(running).unwrap_or(u32::MAX)));
        }
        Ok(waiting)
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

    /// Writes that a process is begun for a job, before it is. False if the job does not wait or run any more.
    ///
    /// # Errors
    /// The database's.
    pub fn begin(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.change(move |on| {
            let sql = "UPDATE jobs SET status = 'Running', starts = starts + 1, started = coalesce(started, ?1)
                       WHERE id = ?2 AND status IN ('Queued', 'Running') AND NOT cancel";
            Ok(on.execute(sql, params![now(), id])? == 1)
        })
    }

    /// Writes how a job that runs ended.
    ///
    /// # Errors
    /// The database's.
    pub fn end(&self, id: &str, ended: Ended) -> Result<()> {
        let id = id.to_owned();
        self.change(move |on| {
            let record = ended.record.map(|record| record.to_string());
            let sql =
                "UPDATE jobs SET status = ?1, record = ?2, error = ?3, ended = ?4 WHERE id = ?5 AND status = 'Running'";
            on.execute(sql, params![ended.status.name(), record, ended.error, now(), id])?;
            Ok(())
        })
    }

    /// Writes that a job's process died, and tells how many have.
    ///
    /// # Errors
    /// The database's.
    pub fn died(&self, id: &str) -> Result<u32> {
        let id = id.to_owned();
        self.change(move |on| {
            let sql = "UPDATE jobs SET deaths = deaths + 1 WHERE id = ?1 RETURNING deaths";
            Ok(on.query_row(sql, [id], |row| row.get(0))?)
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
            if on.execute(sql, params![now(), tenant, id])? == 1 {
                audit(on, tenant, &by, "job cancel", &id)?;
            }
            find(on, tenant, &id)
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
            let in_use = |by: &str| StateError::InUse { what: "job", name: job.id.clone(), by: by.into() };
            match job.status {
                JobStatus::Completed => return Err(in_use("it is complete")),
                JobStatus::Running if job.cancel => return Err(in_use("it is being stopped; resume it when it has")),
                _ => {}
            }
            let sql =
                "UPDATE jobs SET status = 'Queued', cancel = 0, deaths = 0, error = NULL, record = NULL, ended = NULL
                       WHERE id = ?1 AND status IN ('Failed', 'Canceled')";
            if on.execute(sql, [&id])? == 1 {
                audit(on, tenant, &by, "job resume", &id)?;
            }
            find(on, tenant, &id)
        })
    }
}
