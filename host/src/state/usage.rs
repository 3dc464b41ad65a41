//! What jobs used, by day and job: kept when the job itself is removed.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{Result, State, now};

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Seconds of processors, of all threads together.
    pub cpu_seconds: f64,
    /// Seconds that models took on their device.
    pub device_seconds: f64,
    /// Seconds that jobs ran, each times its instances.
    pub instance_seconds: f64,
    /// Bytes of the files that were scored.
    pub input_bytes: u64,
    /// Bytes of the outputs.
    pub output_bytes: u64,
    /// Files that were scored, with those that failed.
    pub files: u64,
    /// Rows that were written.
    pub rows: u64,
}

impl Usage {
    /// Adds what came.
    pub fn add(&mut self, more: &Usage) {
        self.cpu_seconds += more.cpu_seconds;
        self.device_seconds += more.device_seconds;
        self.instance_seconds += more.instance_seconds;
        self.input_bytes += more.input_bytes;
        self.output_bytes += more.output_bytes;
        self.files += more.files;
        self.rows += more.rows;
    }

    /// What came since `before`; less than nothing is nothing.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            cpu_seconds: (self.cpu_seconds - before.cpu_seconds).max(0.0),
            device_seconds: (self.device_seconds - before.device_seconds).max(0.0),
            instance_seconds: (self.instance_seconds - before.instance_seconds).max(0.0),
            input_bytes: self.input_bytes.saturating_sub(before.input_bytes),
            output_bytes: self.output_bytes.saturating_sub(before.output_bytes),
            files: self.files.saturating_sub(before.files),
            rows: self.rows.saturating_sub(before.rows),
        }
    }
}

/// What a tenant, or one job of it, used.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageLine {
    /// The tenant's name.
    pub tenant: String,
    /// The job, where each is told by itself.
    pub job: Option<String>,
    /// How many jobs.
    pub jobs: u64,
    /// What they used.
    pub usage: Usage,
}

/// Which usage is told.
#[derive(Clone, Debug, Default)]
pub struct UsageSpan {
    /// Of one tenant; else of all.
    pub tenant: Option<i64>,
    /// From this day on: `2026-11-01`.
    pub from: Option<String>,
    /// Up to and with this day.
    pub to: Option<String>,
    /// Whether each job is told by itself.
    pub by_job: bool,
    /// Lines at most.
    pub most: u32,
}

/// What one entry counts at most: numbers come from a job's process, which may say anything.
const MOST: u64 = 1 << 50;

const SUMS: &str = "total(usage.cpu_seconds), total(usage.device_seconds), total(instance_seconds), \
                    cast(min(total(input_bytes), 9e15) AS INTEGER), cast(min(total(output_bytes), 9e15) AS INTEGER), \
                    cast(min(total(files), 9e15) AS INTEGER), cast(min(total(rows), 9e15) AS INTEGER)";

fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        cpu_seconds: row.get(0)?,
        device_seconds: row.get(1)?,
        instance_seconds: row.get(2)?,
        input_bytes: row.get(3)?,
        output_bytes: row.get(4)?,
        files: row.get(5)?,
        rows: row.get(6)?,
    })
}

/// What a job used so far.
pub(super) fn of_job(on: &Connection, job: &str) -> rusqlite::Result<Usage> {
    on.prepare_cached(&format!("SELECT {SUMS} FROM usage WHERE job = ?1"))?.query_row([job], usage)
}

/// What a tenant used in this calendar month, UTC.
pub(super) fn of_month(on: &Connection, tenant: i64) -> rusqlite::Result<Usage> {
    let mut query = on.prepare_cached(&format!("SELECT {SUMS} FROM usage WHERE tenant = ?1 AND day >= ?2"))?;
    query.query_row(params![tenant, format!("{}-01", &now()[..7])], usage)
}

/// Adds to what a job used today.
pub(super) fn add(on: &Connection, tenant: i64, job: &str, used: &Usage) -> Result<()> {
    on.prepare_cached(
        "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET
         cpu_seconds = cpu_seconds + excluded.cpu_seconds, device_seconds = device_seconds + excluded.device_seconds,
         instance_seconds = instance_seconds + excluded.instance_seconds,
         input_bytes = min(input_bytes + excluded.input_bytes, 1 << 60),
         output_bytes = min(output_bytes + excluded.output_bytes, 1 << 60),
         files = min(files + excluded.files, 1 << 60), rows = min(rows + excluded.rows, 1 << 60)",
    )?
    .execute(params![
        tenant,
        &now()[..10],
        job,
        used.cpu_seconds,
        used.device_seconds,
        used.instance_seconds,
        used.input_bytes.min(MOST),
        used.output_bytes.min(MOST),
        used.files.min(MOST),
        used.rows.min(MOST)
    ])?;
    Ok(())
}

impl State {
    /// Adds to what a job that runs used.
    ///
    /// # Errors
    /// The database's.
    pub fn add_usage(&self, tenant: i64, job: &str, used: Usage) -> Result<()> {
        let job = job.to_owned();
        self.change(move |on| add(on, tenant, &job, &used))
    }

    /// What a job used so far.
    ///
    /// # Errors
    /// The database's.
    pub fn usage_of_job(&self, job: &str) -> Result<Usage> {
        Ok(of_job(&self.read(), job)?)
    }

    /// What a tenant used in this calendar month, UTC.
    ///
    /// # Errors
    /// The database's.
    pub fn usage_of_month(&self, tenant: i64) -> Result<Usage> {
        Ok(of_month(&self.read(), tenant)?)
    }

    /// The limit of this month that a tenant has reached, if it has.
    ///
    /// # Errors
    /// The database's.
    pub fn spent(&self, tenant: i64) -> Result<Option<super::StateError>> {
        let read = self.read();
        Ok(super::candidates::spent(&super::tenants::of_id(&read, tenant)?, &of_month(&read, tenant)?))
    }

    /// What was used in a span of days, by tenants' names, or by jobs with the newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn usage(&self, span: &UsageSpan) -> Result<Vec<UsageLine>> {
        let (job, group, order) =
            if span.by_job { ("job", "tenant, job", "job DESC") } else { ("NULL", "tenant", "tenants.name") };
        let read = self.read();
        let mut query = read.prepare_cached(&format!(
            "SELECT {SUMS}, tenants.name, {job}, count(DISTINCT job) FROM usage JOIN tenants ON tenants.id = tenant
             WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR day >= ?2) AND (?3 IS NULL OR day <= ?3)
             GROUP BY {group} ORDER BY {order} LIMIT ?4"
        ))?;
        let rows = query.query_map(params![span.tenant, span.from, span.to, span.most], |row| {
            Ok(UsageLine { usage: usage(row)?, tenant: row.get(7)?, job: row.get(8)?, jobs: row.get(9)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
