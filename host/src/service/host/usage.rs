//! What tenants and jobs used.

use super::{Caller, Host, HostError, Scope, TenantDetailView, TenantUseView, UsageView};
use crate::state::{Tenant, UsageSpan};

/// Lines of one report.
const MOST_LINES: u32 = 10_000;

/// Which usage is asked for.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// The tenant's name; the caller's own, or for administrators all, where nothing is said.
    pub tenant: Option<String>,
    /// From this day on: `2026-11-01`.
    pub from: Option<String>,
    /// Up to and with this day.
    pub to: Option<String>,
    /// Whether each job is told by itself.
    pub by_job: bool,
}

impl Host {
    /// What was used: a line for each tenant, or for each job, the newest first and at most 10,000.
    ///
    /// # Errors
    /// If the caller may not, there is no such tenant, a day is none, or the last is before the first.
    pub fn usage(&self, caller: &Caller, query: &UsageQuery) -> Result<Vec<UsageView>, HostError> {
        let tenant = match &query.tenant {
            Some(name) => Some(self.visible(caller, name)?.id),
            None if caller.may(Scope::Admin).is_ok() => None,
            None => {
                caller.may(Scope::Read)?;
                Some(caller.tenant.id)
            }
        };
        let (from, to) = (day(query.from.as_deref())?, day(query.to.as_deref())?);
        if let (Some(from), Some(to)) = (&from, &to)
            && from > to
        {
            let text = format!("from {from} to {to} there is no day\nhint: `from` is the first day and `to` the last");
            return Err(HostError::Refused(text));
        }
        let span = UsageSpan { tenant, from, to, by_job: query.by_job, most: MOST_LINES };
        Ok(self.state.usage(&span)?.into_iter().map(Into::into).collect())
    }

    /// A tenant, and what it has and used of what it may.
    ///
    /// # Errors
    /// If the caller may not, or there is none.
    pub fn tenant(&self, caller: &Caller, name: &str) -> Result<TenantDetailView, HostError> {
        let tenant = self.visible(caller, name)?;
        self.folders.count(tenant.id);
        let (queued, (running, instances, memory)) = self.state.load(tenant.id)?;
        let month = self.state.usage_of_month(tenant.id)?;
        let used = TenantUseView {
            running: running.into(),
            queued,
            storage: self.folders.counted(tenant.id),
            instances,
            memory,
            cpu_seconds: month.cpu_seconds,
            device_seconds: month.device_seconds,
        };
        Ok(TenantDetailView { tenant: tenant.into(), used })
    }

    /// A tenant that the caller may know of: their own, or for administrators any.
    fn visible(&self, caller: &Caller, name: &str) -> Result<Tenant, HostError> {
        if caller.may(Scope::Admin).is_ok() {
            return Ok(self.state.tenant(name)?);
        }
        caller.may(Scope::Read)?;
        if caller.tenant.name == name { Ok(caller.tenant.clone()) } else { Err(HostError::Scope(Scope::Admin)) }
    }
}

/// A day, as it is compared with those that are written.
fn day(text: Option<&str>) -> Result<Option<String>, HostError> {
    let Some(text) = text else { return Ok(None) };
    match humantime::parse_rfc3339(&format!("{text}T00:00:00Z")) {
        Ok(_) if text.len() == 10 => Ok(Some(text.to_owned())),
        _ => {
            let shown: String = text.chars().take(32).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            Err(HostError::Refused(format!("`{shown}` is no day\nhint: as in 2026-11-30, which is counted in UTC")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert_eq!(day(Some("2026-11-30")).unwrap().as_deref(), Some("2026-11-30"));
        for bad in ["", "2026", "2026-13-01", "2026-11-30T", "2026-11-3", "x\u{1b}"] {
            assert!(day(Some(bad)).is_err(), "{bad}");
        }
    }
}
