//! Why a job waits, in words for its owner. What goes in: what its tenant has and may have, and what the host runs. It decides
//! nothing: whose turn it is, the scheduler does.

use crate::state::{Candidate, StateError};

/// Why a job waits that so many of its tenant are before, on a host of which so many places are taken, and that has so many.
/// What others have and do is not told.
pub(super) fn why(one: &Candidate, before: u64, (taken, places): (usize, usize)) -> String {
    let (quotas, job) = (&one.tenant.quotas, &one.job);
    let others = match before {
        1 => "1 job of the tenant is before it".to_owned(),
        _ => format!("{before} jobs of the tenant are before it"),
    };
    // What its own size leads to counts once it is the first.
    let over =
        |have: u64, more: u64, most: Option<u64>| most.filter(|most| before == 0 && have.saturating_add(more) > *most);
    let reason = if let Some(StateError::Spent { what, anew, .. }) = one.spent() {
        format!("the tenant's {what} of this month are spent until {anew}")
    } else if quotas.running == 0 {
        "the tenant may run no jobs".to_owned()
    } else if one.running >= quotas.running {
        let jobs = if quotas.running == 1 { "job" } else { "jobs" };
        format!("the tenant may run {} {jobs} at once, and runs {}", quotas.running, one.running)
    } else if let Some(most) = over(one.instances, job.instances, quotas.instances) {
        let (have, wants) = (one.instances, job.instances);
        format!("the tenant may run {most} instances at once: {have} run, and the job asks for {wants}")
    } else if let Some(most) = over(one.memory, job.memory, quotas.memory) {
        let (have, wants) = (one.memory, job.memory);
        format!(
            "the tenant's instances may have {most} bytes of memory: {have} are given, and the job asks for {wants}"
        )
    } else if taken >= places {
        match places {
            1 => "the host runs one job at once".to_owned(),
            _ => format!("the host runs {places} jobs at once"),
        }
    } else if before > 0 {
        return others;
    } else {
        "its turn is next".to_owned()
    };
    if before > 0 { format!("{reason}; {others}") } else { reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::{Job, JobStatus, Quotas, Tenant, Usage};

    fn candidate(quotas: Quotas, running: u32) -> Candidate {
        let text = String::new;
        let job = Job {
            id: "job".into(),
            tenant: 1,
            endpoint: text(),
            deployment: text(),
            version: 1,
            folder: text(),
            model: None,
            input: serde_json::Value::Null,
            output: None,
            overrides: BTreeMap::new(),
            instances: 2,
            memory: 10,
            status: JobStatus::Queued,
            cancel: false,
            starts: 0,
            record: None,
            error: None,
            created: text(),
            started: None,
            ended: None,
        };
        let tenant = Tenant { id: 1, name: text(), weight: 1, quotas, created: text() };
        let (instances, memory) = (u64::from(running) * 2, u64::from(running) * 10);
        Candidate { tenant, job, running, instances, memory, used: Usage { cpu_seconds: 5.0, ..Usage::default() } }
    }

    #[test]
    fn a_job_that_waits_says_why() {
        let two = Quotas { running: 2, ..Quotas::default() };
        let cases = [
            (two, 0, 0, (0, 2), "its turn is next"),
            (two, 0, 3, (0, 2), "3 jobs of the tenant are before it"),
            (two, 1, 0, (2, 2), "the host runs 2 jobs at once"),
            (two, 1, 1, (1, 1), "the host runs one job at once; 1 job of the tenant is before it"),
            (two, 2, 0, (4, 4), "the tenant may run 2 jobs at once, and runs 2"),
            (
                Quotas { running: 0, ..two },
                0,
                2,
                (0, 4),
                "the tenant may run no jobs; 2 jobs of the tenant are before it",
            ),
            (
                Quotas { instances: Some(3), ..two },
                1,
                0,
                (1, 4),
                "the tenant may run 3 instances at once: 2 run, and the job asks for 2",
            ),
            // Who is not the first is not held up by their own size.
            (Quotas { instances: Some(3), ..two }, 1, 1, (1, 4), "1 job of the tenant is before it"),
            (
                Quotas { memory: Some(19), ..two },
                1,
                0,
                (1, 4),
                "the tenant's instances may have 19 bytes of memory: 10 are given, and the job asks for 10",
            ),
        ];
        for (quotas, running, before, places, told) in cases {
            assert_eq!(why(&candidate(quotas, running), before, places), told);
        }
        let told = why(&candidate(Quotas { cpu_seconds: Some(5), ..two }, 0), 0, (0, 1));
        assert!(told.starts_with("the tenant's CPU seconds of this month are spent until 2"), "{told}");
    }
}
