//! Who waits for a place, and whether their limits let them have one.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::jobs::{COLUMNS, count, job};
use super::{Job, JobStatus, Result, State, StateError, Tenant, Usage, next_month, now, tenants, usage};

/// How old the sum of a month may be that is only shown.
const LOOKED: Duration = Duration::from_secs(5);

/// A tenant with jobs that wait.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who.
    pub tenant: Tenant,
    /// Its oldest job that waits.
    pub job: Job,
    /// Jobs of it that run.
    pub running: u32,
    /// Their instances.
    pub instances: u64,
    /// Bytes that these may have together.
    pub memory: u64,
    /// What it used this month.
    pub used: Usage,
}

impl Candidate {
    /// The limit that the tenant has reached for this month, if it has.
    pub fn spent(&self) -> Option<StateError> {
        spent(&self.tenant, &self.used)
    }
}

/// The limit of a month that a tenant has reached who used so much.
pub(super) fn spent(tenant: &Tenant, used: &Usage) -> Option<StateError> {
    let quotas = &tenant.quotas;
    let over = |what, used: f64, most: Option<u64>| {
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let most = most.filter(|most| used >= *most as f64)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds, above 0")]
        let used = used as u64;
        Some(StateError::Spent { what, used, most, anew: next_month() })
    };
    over("CPU seconds", used.cpu_seconds, quotas.cpu_seconds)
        .or_else(|| over("device seconds", used.device_seconds, quotas.device_seconds))
}

impl Candidate {
    /// Whether its job may ever run: limits may have been lowered since it was accepted.
    ///
    /// # Errors
    /// If it asks for more than the tenant may have.
    pub fn fits(&self) -> Result<()> {
        fits(&self.tenant, self.job.instances, self.job.memory)
    }

    /// Whether its job may run now, beside those that do.
    pub fn has_room(&self) -> bool {
        let quotas = &self.tenant.quotas;
        let below = |have: u64, more: u64, most: Option<u64>| most.is_none_or(|most| have.saturating_add(more) <= most);
        self.running < quotas.running
            && below(self.instances, self.job.instances, quotas.instances)
            && below(self.memory, self.job.memory, quotas.memory)
            && self.spent().is_none()
    }
}

/// Whether a job that asks for so much may ever run.
pub(super) fn fits(tenant: &Tenant, instances: u64, memory: u64) -> Result<()> {
    for (what, wants, most) in [
        ("instances at once", instances, tenant.quotas.instances),
        ("bytes of memory for its instances", memory, tenant.quotas.memory),
    ] {
        if let Some(most) = most.filter(|most| wants > *most) {
            return Err(StateError::TooLarge { what, wants, most });
        }
    }
    Ok(())
}

/// Jobs of a tenant that run, their instances, and bytes that these may have.
fn running(on: &Connection, tenant: i64) -> Result<(u32, u64, u64)> {
    let mut query = on.prepare_cached(
        "SELECT count(*), coalesce(sum(instances), 0), coalesce(sum(memory), 0) FROM jobs
         WHERE tenant = ?1 AND status = 'Running'",
    )?;
    Ok(query.query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
}

impl State {
    /// A job that waits, with what its tenant has, and has used as of so long ago at most.
    fn candidate(&self, on: &Connection, job: Job, age: Duration) -> Result<Candidate> {
        let (running, instances, memory) = running(on, job.tenant)?;
        let tenant = tenants::of_id(on, job.tenant)?;
        // Only where there is a limit: it is a sum over a month's jobs.
        let is_limited = tenant.quotas.cpu_seconds.is_some() || tenant.quotas.device_seconds.is_some();
        let used = if is_limited { self.used_lately(on, job.tenant, age)? } else { Usage::default() };
        Ok(Candidate { tenant, job, running, instances, memory, used })
    }

    /// What a tenant used this month, added up again where that was longer ago.
    fn used_lately(&self, on: &Connection, tenant: i64, age: Duration) -> Result<Usage> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, used)) = looked.get(&tenant).filter(|(at, _)| at.elapsed() < age) {
            return Ok(*used);
        }
        let used = usage::of_month(on, tenant)?;
        looked.insert(tenant, (Instant::now(), used));
        Ok(used)
    }

    /// Every tenant with jobs that wait, and what it has, and has used as of so long ago at most.
    ///
    /// # Errors
    /// The database's.
    pub fn waiting(&self, age: Duration) -> Result<Vec<Candidate>> {
        let read = self.read();
        // One look into the index for each tenant, however many jobs wait.
        let mut query = read.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE id IN
             (SELECT (SELECT min(id) FROM jobs WHERE tenant = tenants.id AND status = 'Queued') FROM tenants)"
        ))?;
        let oldest = query.query_map([], job)?.collect::<rusqlite::Result<Vec<_>>>()?;
        oldest.into_iter().map(|job| self.candidate(&read, job, age)).collect()
    }

    /// What a job waits beside, and how many of its tenant are before it; none if it does not wait any more.
    ///
    /// # Errors
    /// The database's.
    pub fn waits(&self, job: &Job) -> Result<Option<(Candidate, u64)>> {
        if job.status != JobStatus::Queued {
            return Ok(None);
        }
        let read = self.read();
        let mut query =
            read.prepare_cached("SELECT count(*) FROM jobs WHERE tenant = ?1 AND status = 'Queued' AND id < ?2")?;
        let before = query.query_row(params![job.tenant, job.id], |row| row.get(0))?;
        Ok(Some((self.candidate(&read, job.clone(), LOOKED)?, before)))
    }

    /// How many jobs of a tenant wait; of those that run, how many, their instances, and the bytes that these may have.
    ///
    /// # Errors
    /// The database's.
    pub fn load(&self, tenant: i64) -> Result<(u64, (u32, u64, u64))> {
        let read = self.read();
        Ok((count(&read, tenant, JobStatus::Queued)?, running(&read, tenant)?))
    }

    /// Lets the jobs wait again that a process scored when the host ended: they take their turns, and go on from what
    /// they had committed.
    ///
    /// # Errors
    /// The database's.
    pub fn requeue(&self) -> Result<()> {
        self.change(|on| {
            on.execute("UPDATE jobs SET status = 'Queued' WHERE status = 'Running' AND NOT cancel", [])?;
            Ok(())
        })
    }

    /// Lets a job that runs wait again, and writes what its process used.
    ///
    /// # Errors
    /// The database's.
    pub fn wait_again(&self, tenant: i64, id: &str, used: Usage) -> Result<()> {
        let id = id.to_owned();
        self.change(move |on| {
            usage::add(on, tenant, &id, &used)?;
            // Asked to stop meanwhile, it has.
            let sql = "UPDATE jobs SET status = CASE WHEN cancel THEN 'Canceled' ELSE 'Queued' END,
                       ended = CASE WHEN cancel THEN ?1 END WHERE id = ?2 AND status = 'Running'";
            on.execute(sql, params![now(), id])?;
            Ok(())
        })
    }
}
