//! The list of jobs.

use askama::Template;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::live::{Live, status_name};
use super::{Frame, Page, Pages, Viewer, words};
use crate::service::host::{InputSpec, JobStatus, JobView, JobsFilter};

/// Jobs of a page.
pub(super) const PAGE: u32 = 25;

const STATUSES: [JobStatus; 5] =
    [JobStatus::Running, JobStatus::Queued, JobStatus::Completed, JobStatus::Failed, JobStatus::Canceled];

/// Which part of the list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct JobsQuery {
    before: Option<String>,
    endpoint: Option<String>,
    status: Option<String>,
}

impl JobsQuery {
    pub(super) fn filter(&self) -> JobsFilter {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let status = self.status.as_deref().and_then(|name| STATUSES.into_iter().find(|s| status_name(*s) == name));
        JobsFilter { before: given(&self.before), endpoint: given(&self.endpoint), status }
    }
}

/// A line of the list.
struct Line {
    live: Live,
    endpoint: String,
    deployment: String,
    version: u32,
    created: Time,
    /// What is scored.
    input: String,
}

/// A time, for people and for programs.
pub(super) struct Time {
    pub(super) rfc3339: String,
    pub(super) text: String,
}

impl Time {
    pub(super) fn new(rfc3339: &str) -> Self {
        Self { rfc3339: rfc3339.to_owned(), text: words::time(rfc3339) }
    }
}

struct Choice {
    value: String,
    text: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    frame: Frame,
    lines: Vec<Line>,
    statuses: Vec<Choice>,
    endpoints: Vec<Choice>,
    is_filtered: bool,
    is_first: bool,
    has_endpoints: bool,
    /// The first page of this filter, and the one after this.
    newest: String,
    next: Option<String>,
}

pub(super) fn input(job: &JobView) -> String {
    match &job.input {
        InputSpec::Upload(id) => id.clone(),
        InputSpec::Path(path) => words::plain(path, 512),
        InputSpec::Url(place) => words::plain(&place.to_string(), 512),
    }
}

fn line(job: &JobView) -> Line {
    Line {
        live: Live::of(job),
        endpoint: job.endpoint.clone(),
        deployment: job.deployment.clone(),
        version: job.version,
        created: Time::new(&job.created),
        input: match &job.input {
            InputSpec::Upload(_) => "files that were sent".into(),
            InputSpec::Path(_) | InputSpec::Url(_) => input(job),
        },
    }
}

pub(super) async fn page(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<JobsQuery>,
) -> Page {
    let filter = query.filter();
    let (caller, asked) = (viewer.caller.clone(), filter.clone());
    let (jobs, endpoints) =
        pages.call(move |host| Ok((host.jobs_that(&caller, &asked, PAGE)?, host.endpoints(&caller)?))).await?;
    let chosen = filter.endpoint.clone().unwrap_or_default();
    let status = filter.status.map(status_name).unwrap_or_default();
    let query = |before: Option<&str>| {
        let before = before.map(|name| format!("&before={}", words::address(name))).unwrap_or_default();
        format!("status={status}&endpoint={}{before}", words::address(&chosen))
    };
    let next = jobs.last().filter(|_| jobs.len() == PAGE as usize);
    let mut frame = Frame::new(&viewer, "jobs");
    frame.live = format!("/live?{}", query(filter.before.as_deref()));
    let choice = |value: &str, text: &str, chosen: bool| Choice { value: value.into(), text: text.into(), chosen };
    let word = |s: JobStatus| format!("{s:?}");
    let template = JobsPage {
        lines: jobs.iter().map(line).collect(),
        statuses: STATUSES.map(|s| choice(status_name(s), &word(s), filter.status == Some(s))).into_iter().collect(),
        endpoints: endpoints.iter().map(|e| choice(&e.name, &e.name, e.name == chosen)).collect(),
        is_filtered: filter.endpoint.is_some() || filter.status.is_some(),
        is_first: filter.before.is_none(),
        has_endpoints: !endpoints.is_empty(),
        newest: format!("/jobs?{}", query(None)),
        next: next.map(|job| format!("/jobs?{}", query(Some(&job.name)))),
        frame,
    };
    super::page(&template)
}
