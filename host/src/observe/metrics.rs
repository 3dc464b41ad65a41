//! Numbers of a host, as Prometheus reads them. Every label's values are few: a fixed list, routes of this program, or
//! tenants, whom the operator makes, up to a bound.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::spread::{Shared, Spread};

/// Tenants that have numbers of their own; those who come later share `other`.
const MOST_TENANTS: usize = 100;
/// What stands for all that have no value of their own.
const OTHER: &str = "other";
/// Why attempts are made again, as `errors.csv` has it.
const REASONS: [&str; 8] = ["transient", "trap", "memory", "files", "timeout", "exit", "output", "host"];
/// Methods of HTTP that any route has.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

type Labels = Vec<(&'static str, String)>;
type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

/// Every number of a host. Numbers of jobs are added up from what their processes tell.
pub struct Metrics {
    registry: Registry,
    tenants: Mutex<BTreeSet<String>>,
    jobs: Family<Labels, Level>,
    accepted: Family<Labels, Count>,
    ended: Family<Labels, Count>,
    waited: Shared,
    took: Shared,
    deaths: Count,
    mini_batches: Family<Labels, Count>,
    mini_batch: Shared,
    commit: Shared,
    files: Family<Labels, Count>,
    retries: Family<Labels, Count>,
    requests: Family<Labels, Count>,
    request: Family<Labels, Shared>,
    connections: Level,
    followers: Level,
    stored: Family<Labels, Level>,
    resident: Level,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The route as this program has it, with names in braces in the place of values; none if there is no such route.
    pub route: Option<&'a str>,
    /// What the caller wrote.
    pub method: &'a str,
    /// The answer's.
    pub status: u16,
    /// Until the answer began.
    pub took: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("scorehost"),
            tenants: Mutex::default(),
            jobs: Family::default(),
            accepted: Family::default(),
            ended: Family::default(),
            waited: Shared::default(),
            took: Shared::default(),
            deaths: Counter::default(),
            mini_batches: Family::default(),
            mini_batch: Shared::default(),
            commit: Shared::default(),
            files: Family::default(),
            retries: Family::default(),
            requests: Family::default(),
            request: Family::default(),
            connections: Gauge::default(),
            followers: Gauge::default(),
            stored: Family::default(),
            resident: Gauge::default(),
        };
        metrics.register();
        // From the start: what is not there cannot be seen to rise.
        begin(&metrics.files, "outcome", &["succeeded", "failed"]);
        begin(&metrics.mini_batches, "outcome", &["succeeded", "partly", "failed"]);
        begin(&metrics.retries, "reason", &REASONS);
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        let all = &mut self.registry;
        all.register("build", "This program", version);
        all.register("jobs", "Jobs that wait and that run", self.jobs.clone());
        all.register("jobs_accepted", "Jobs that callers posted", self.accepted.clone());
        all.register("jobs_ended", "Jobs that ended, by how", self.ended.clone());
        let seconds = |all: &mut Registry, name: &str, help: &str, spread: &Shared| {
            all.register_with_unit(name, help, Unit::Seconds, spread.clone());
        };
        seconds(all, "job_wait", "From a job's acceptance to its first process", &self.waited);
        seconds(all, "job_process", "How long processes of jobs ran", &self.took);
        all.register("process_deaths", "Processes of jobs that died without a word", self.deaths.clone());
        all.register("mini_batches", "Mini-batches that were committed", self.mini_batches.clone());
        seconds(all, "mini_batch", "How long mini-batches took, with their retries", &self.mini_batch);
        seconds(all, "commit", "How long groups of mini-batches took to be on the disk", &self.commit);
        all.register("files", "Files of committed mini-batches", self.files.clone());
        all.register("retries", "Attempts beyond the first, by why", self.retries.clone());
        all.register("http_requests", "Requests that were answered", self.requests.clone());
        let request = self.request.clone();
        all.register_with_unit("http_request", "From a request's head to its answer's", Unit::Seconds, request);
        all.register("http_connections", "Connections that are open", self.connections.clone());
        all.register("http_followers", "Callers that follow a job", self.followers.clone());
        let stored = self.stored.clone();
        all.register_with_unit("tenant_storage", "What tenants store, once it was counted", Unit::Bytes, stored);
        let resident = self.resident.clone();
        all.register_with_unit("resident_memory", "Memory of the host's own process", Unit::Bytes, resident);
    }

    /// A job was accepted.
    pub fn job_accepted(&self, tenant: &str) {
        self.accepted.get_or_create(&vec![("tenant", self.tenant(tenant))]).inc();
    }

    /// A job's first process was begun.
    pub fn job_waited(&self, waited: Duration) {
        self.waited.add(waited.as_secs_f64());
    }

    /// A job's process ended, whatever becomes of the job.
    pub fn process_ended(&self, took: Duration) {
        self.took.add(took.as_secs_f64());
    }

    /// A job's process died.
    pub fn process_died(&self) {
        self.deaths.inc();
    }

    /// A job ended: `end` is one of its states.
    pub fn job_ended(&self, tenant: &str, end: &'static str) {
        self.ended.get_or_create(&vec![("end", end.to_owned()), ("tenant", self.tenant(tenant))]).inc();
    }

    /// So many mini-batches became durable, with an outcome: `succeeded`, `partly` or `failed`.
    pub fn mini_batches(&self, outcome: &'static str, count: u64) {
        add(&self.mini_batches, "outcome", outcome, count);
    }

    /// So many files became durable, with an outcome: `succeeded` or `failed`.
    pub fn files(&self, outcome: &'static str, count: u64) {
        add(&self.files, "outcome", outcome, count);
    }

    /// So many attempts were made again, for a reason as another process tells it.
    pub fn retries(&self, reason: &str, count: u64) {
        add(&self.retries, "reason", listed(&REASONS, reason), count);
    }

    /// How long mini-batches and commits took in another process.
    pub fn durations(&self, mini_batches: &Spread, commits: &Spread) {
        self.mini_batch.join(mini_batches);
        self.commit.join(commits);
    }

    /// A request was answered.
    pub fn request(&self, request: &Request<'_>) {
        let route = request.route.unwrap_or("none").to_owned();
        let method = listed(&METHODS, request.method).to_owned();
        let mut labels = vec![("route", route), ("method", method)];
        self.request.get_or_create(&labels).add(request.took.as_secs_f64());
        labels.push(("status", format!("{}xx", (request.status / 100).min(9))));
        self.requests.get_or_create(&labels).inc();
    }

    /// A connection was opened.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// A connection was closed.
    pub fn disconnected(&self) {
        self.connections.dec();
    }

    /// How many follow a job now.
    pub fn set_followers(&self, count: usize) {
        self.followers.set(level(count as u64));
    }

    /// How many jobs are in a state now.
    pub fn set_jobs(&self, state: &'static str, count: u64) {
        self.jobs.get_or_create(&vec![("state", state.to_owned())]).set(level(count));
    }

    /// What each tenant stores now, in bytes.
    pub fn set_stored<'a>(&self, tenants: impl Iterator<Item = (&'a str, u64)>) {
        // Those beyond the bound are added up anew.
        self.stored.clear();
        for (tenant, bytes) in tenants {
            self.stored.get_or_create(&vec![("tenant", self.tenant(tenant))]).inc_by(level(bytes));
        }
    }

    /// All of it, in OpenMetrics' text.
    pub fn text(&self) -> String {
        self.resident.set(level(resident_bytes()));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("strings take all that is written; this is a bug");
        text
    }

    fn tenant(&self, name: &str) -> String {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if !tenants.contains(name) {
            if tenants.len() == MOST_TENANTS {
                return OTHER.to_owned();
            }
            tenants.insert(name.to_owned());
        }
        name.to_owned()
    }
}

fn begin(family: &Family<Labels, Count>, label: &'static str, values: &[&str]) {
    for value in values {
        drop(family.get_or_create(&vec![(label, (*value).to_owned())]));
    }
}

fn add(family: &Family<Labels, Count>, label: &'static str, value: &str, count: u64) {
    if count > 0 {
        family.get_or_create(&vec![(label, value.to_owned())]).inc_by(count);
    }
}

fn listed<'a>(list: &[&'a str], value: &str) -> &'a str {
    list.iter().copied().find(|known| *known == value).unwrap_or(OTHER)
}

fn level(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Linux's `VmRSS`; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_strangers_choose_the_numbers_stay_few() {
        let metrics = Metrics::default();
        let first = metrics.text();
        assert!(first.contains("scorehost_files_total{outcome=\"failed\"} 0\n"), "{first}");
        for i in 0..1000 {
            let method = format!("M{i}");
            let took = Duration::from_millis(3);
            metrics.request(&Request { route: None, method: &method, status: 400 + i, took });
            metrics.job_accepted(&format!("tenant-{i}"));
            metrics.retries(&format!("reason-{i}"), 1);
        }
        metrics.set_stored((0..200).map(|_| ("tenant-999", 2)));
        let text = metrics.text();
        // A hundred tenants, and some twenty numbers with their histograms and what is said of them.
        assert!(text.lines().count() < 300, "{}", text.lines().count());
        assert!(text.contains("scorehost_jobs_accepted_total{tenant=\"other\"} 900\n"), "{text}");
        assert!(text.contains("scorehost_tenant_storage_bytes{tenant=\"other\"} 400\n"), "{text}");
        assert!(text.contains("scorehost_retries_total{reason=\"other\"} 1000\n"), "{text}");
        assert!(
            text.contains("scorehost_http_request_seconds_bucket{le=\"0.005\",route=\"none\",method=\"other\"} 1000\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
