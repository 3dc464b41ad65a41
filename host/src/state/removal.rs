//! Jobs that are removed, and what is still named by something.

use std::collections::HashSet;

use rusqlite::{Row, params};

use super::jobs::find;
use super::tenants::audit;
use super::{Result, State, StateError};

impl State {
    /// Removes a job that has ended. What it used stays.
    ///
    /// # Errors
    /// If there is none, or it has not ended.
    pub fn delete_job(&self, tenant: i64, id: &str, by: &str) -> Result<()> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.change(move |on| {
            let job = find(on, tenant, &id)?;
            if !job.status.has_ended() {
                let by = "it has not ended; cancel it first".to_owned();
                return Err(StateError::InUse { what: "job", name: id, by });
            }
            on.execute("DELETE FROM jobs WHERE id = ?1", [&id])?;
            let detail = format!("{} at {}", job.status.name(), job.answered_by());
            audit(on, (tenant, &by), ("job delete", &id), &detail)
        })
    }

    /// Jobs of any tenant that ended before a time, the oldest first, at most so many: their tenants and names.
    ///
    /// # Errors
    /// The database's.
    pub fn ended_before(&self, time: &str, most: u32) -> Result<Vec<(i64, String)>> {
        let read = self.read();
        let mut query = read.prepare_cached(
            "SELECT tenant, id FROM jobs WHERE status IN ('Completed', 'Failed', 'Canceled') AND ended < ?1
             ORDER BY id LIMIT ?2",
        )?;
        let rows = query.query_map(params![time, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether there is a job of this name in a tenant.
    ///
    /// # Errors
    /// The database's.
    pub fn has_job(&self, tenant: i64, id: &str) -> Result<bool> {
        let read = self.read();
        let mut query = read.prepare_cached("SELECT 1 FROM jobs WHERE tenant = ?1 AND id = ?2")?;
        Ok(query.exists(params![tenant, id])?)
    }

    /// How many jobs score an upload, and how many of them have not ended.
    ///
    /// # Errors
    /// The database's.
    pub fn jobs_of_upload(&self, tenant: i64, upload: &str) -> Result<(u64, u64)> {
        let read = self.read();
        let mut query = read.prepare_cached(
            "SELECT count(*), total(status IN ('Queued', 'Running', 'Finalizing')) FROM jobs
             WHERE tenant = ?1 AND json_extract(input, '$.upload') = ?2",
        )?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let counts = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, f64>(1)? as u64));
        Ok(query.query_row(params![tenant, upload], counts)?)
    }

    /// The digests of models and deployments that something of a tenant's still names: versions that are there, and jobs
    /// that have not completed.
    ///
    /// # Errors
    /// The database's.
    pub fn digests(&self, tenant: i64) -> Result<HashSet<String>> {
        let read = self.read();
        let mut query = read.prepare_cached(
            "SELECT digest FROM models WHERE tenant = ?1 AND deleted IS NULL
             UNION SELECT digest FROM deployments JOIN endpoints ON endpoints.id = endpoint
                   WHERE tenant = ?1 AND deleted IS NULL
             UNION SELECT model FROM deployments JOIN endpoints ON endpoints.id = endpoint
                   WHERE tenant = ?1 AND deleted IS NULL AND model IS NOT NULL
             UNION SELECT folder FROM jobs WHERE tenant = ?1 AND status <> 'Completed'
             UNION SELECT model FROM jobs WHERE tenant = ?1 AND status <> 'Completed' AND model IS NOT NULL",
        )?;
        let rows = query.query_map([tenant], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
