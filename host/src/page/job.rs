//! One job: how far it is, its mini-batches and errors, what it was made of, and its pictures with their predictions.

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::Value;

use super::jobs::{Time, input};
use super::live::Live;
use super::{Fields, Frame, Page, Pages, Refusal, Viewer, words};
use crate::service::host::{Caller, FileView, GalleryItem, Host, HostError, JobStatus, JobView, Scope, TablePage};

/// Rows of a table, and pictures of a gallery, on one page.
const ROWS: u64 = 25;
const PICTURES: u64 = 48;
/// Files of an output that are listed; a script may write very many.
const MOST_FILES: usize = 200;
/// Of a message, of a log beside an error, and of a name, so many characters are shown.
const MOST_MESSAGE: usize = 2000;
const MOST_LOG: usize = 4000;
const MOST_NAME: usize = 300;

/// Which pages of a job's tables; the first is 1, as it is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Shown {
    mini_batches: Option<u64>,
    errors: Option<u64>,
    page: Option<u64>,
}

fn from_zero(page: Option<u64>) -> u64 {
    page.unwrap_or(1).max(1) - 1
}

/// The links between the pages of a table.
struct Pager {
    /// From 1.
    page: u64,
    /// How many there are, where that is known.
    pages: Option<u64>,
    first: Option<String>,
    previous: Option<String>,
    next: Option<String>,
    last: Option<String>,
}

impl Pager {
    /// For page `page` (from 0), of a table of so many rows if that is known; `link` makes the address of a page (from 1).
    fn new(page: u64, more: bool, (rows, size): (Option<u64>, u64), link: impl Fn(u64) -> String) -> Self {
        let pages = rows.map(|rows| rows.div_ceil(size).max(1));
        let next = more.then(|| link(page + 2));
        Self {
            page: page + 1,
            pages,
            first: (page > 1).then(|| link(1)),
            previous: (page > 0).then(|| link(page)),
            last: pages.filter(|pages| next.is_some() && *pages > page + 2).map(&link),
            next,
        }
    }

    fn is_needed(&self) -> bool {
        self.previous.is_some() || self.next.is_some()
    }
}

struct MiniBatch {
    index: String,
    files: String,
    rows: String,
    attempts: String,
    retried: bool,
    started: Time,
    seconds: String,
    device_seconds: String,
}

/// A file that failed, or a whole mini-batch.
struct Failure {
    file: String,
    mini_batch: String,
    attempts: String,
    kind: String,
    message: String,
    /// The end of what the script printed in the last attempt that printed anything.
    log: String,
    log_address: String,
}

struct Fact {
    name: &'static str,
    value: String,
    /// Whether it is a digest or a name, to be copied as it is.
    is_code: bool,
}

/// A step of a job's life.
struct Phase {
    name: &'static str,
    at: Option<Time>,
    note: String,
}

struct OutputFile {
    path: String,
    address: String,
    bytes: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    live: Live,
    endpoint: String,
    deployment: String,
    version: u32,
    error: Option<String>,
    phases: Vec<Phase>,
    mini_batches: Vec<MiniBatch>,
    mini_batch_pages: Pager,
    failures: Vec<Failure>,
    failure_pages: Pager,
    too_far: bool,
    facts: Vec<Fact>,
    settings: String,
    outputs: Vec<OutputFile>,
    more_outputs: usize,
    may_cancel: bool,
    may_resume: bool,
}

/// What is read for the page.
struct Read {
    job: JobView,
    mini_batches: TablePage,
    errors: TablePage,
    logs: Vec<Option<(u64, String)>>,
    outputs: Vec<FileView>,
}

fn read(host: &Host, caller: &Caller, name: &str, shown: Shown) -> Result<Read, HostError> {
    let job = host.job(caller, name)?;
    let mini_batches = host.mini_batches(caller, name, from_zero(shown.mini_batches), ROWS)?;
    let errors = host.job_errors(caller, name, from_zero(shown.errors), ROWS)?;
    let logs = errors.rows.iter().map(|row| last_log(host, caller, name, row)).collect::<Result<_, _>>()?;
    let outputs = if job.status.has_ended() { host.outputs(caller, name)? } else { Vec::new() };
    Ok(Read { job, mini_batches, errors, logs, outputs })
}

/// The attempt of an error's mini-batch that printed last, and the end of what it did.
fn last_log(host: &Host, caller: &Caller, name: &str, row: &[String]) -> Result<Option<(u64, String)>, HostError> {
    let number = |i: usize| row.get(i).and_then(|cell| cell.parse::<u64>().ok());
    let (Some(mini_batch), Some(attempts)) = (number(1), number(2)) else { return Ok(None) };
    // As many as retries may be, and no more files are asked for.
    for attempt in (0..=attempts.min(100)).rev().take(8) {
        if let Some((text, _)) = host.log(caller, name, mini_batch, attempt)? {
            let skipped = text.chars().count().saturating_sub(MOST_LOG);
            return Ok(Some((attempt, words::plain(&text.chars().skip(skipped).collect::<String>(), MOST_LOG))));
        }
    }
    Ok(None)
}

pub(super) async fn page(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path(name): Path<String>,
    Query(shown): Query<Shown>,
) -> Page {
    let caller = viewer.caller.clone();
    let read = pages.read(move |host| read(host, &caller, &name, shown)).await?;
    super::page(&job_page(&viewer, read, shown))
}

fn job_page(viewer: &Viewer, read: Read, shown: Shown) -> JobPage {
    let Read { job, mini_batches, errors, logs, outputs } = read;
    let live = Live::of(&job);
    let mut frame = Frame::new(viewer, "jobs");
    if !live.ended {
        frame.live = format!("/live?job={}", words::address(&job.name));
    }
    let (table, error_table) = (from_zero(shown.mini_batches), from_zero(shown.errors));
    let path = format!("/jobs/{}", words::address(&job.name));
    let count = job.record.as_ref().and_then(|record| record["counts"]["mini_batches_done"].as_u64());
    let rows = job.progress.map(|progress| progress.mini_batches_done).or(count);
    let mini_batch_pages = Pager::new(table, mini_batches.more, (rows, ROWS), |page| {
        format!("{path}?mini_batches={page}&errors={}#mini-batches", error_table + 1)
    });
    let failure_pages = Pager::new(error_table, errors.more, (None, ROWS), |page| {
        format!("{path}?mini_batches={}&errors={page}#errors", table + 1)
    });
    // With what may be its cure: a script's words cannot be told from those of the process that runs it.
    let error = job.error.as_deref().map(|error| words::plain(error, MOST_MESSAGE));
    let more_outputs = outputs.len().saturating_sub(MOST_FILES);
    let may_invoke = viewer.caller.has(Scope::Invoke);
    JobPage {
        endpoint: job.endpoint.clone(),
        deployment: job.deployment.clone(),
        version: job.version,
        phases: phases(&job),
        too_far: mini_batches.too_far || errors.too_far,
        mini_batches: mini_batches.rows.into_iter().map(mini_batch).collect(),
        mini_batch_pages,
        failures: errors.rows.into_iter().zip(logs).map(|(row, log)| failure(&path, row, log)).collect(),
        failure_pages,
        facts: facts(&job),
        settings: settings(&job),
        outputs: outputs.into_iter().take(MOST_FILES).map(|file| output(&path, &file)).collect(),
        more_outputs,
        may_cancel: may_invoke && !live.ended && !job.canceling,
        may_resume: may_invoke && matches!(job.status, JobStatus::Failed | JobStatus::Canceled),
        error,
        frame,
        live,
    }
}

fn mini_batch(row: Vec<String>) -> MiniBatch {
    let mut cells = row.into_iter();
    let mut next = || cells.next().unwrap_or_default();
    let (index, files, rows, attempts, started) = (next(), next(), next(), next(), next());
    let mut seconds = || next().parse().map(|s: f64| format!("{s:.3}")).unwrap_or_default();
    let retried = attempts.parse().is_ok_and(|attempts: u64| attempts > 1);
    let (seconds, device_seconds) = (seconds(), seconds());
    MiniBatch { index, files, rows, attempts, retried, started: Time::new(&started), seconds, device_seconds }
}

fn failure(path: &str, row: Vec<String>, log: Option<(u64, String)>) -> Failure {
    let mut cells = row.into_iter();
    let mut next = |most| words::plain(&cells.next().unwrap_or_default(), most);
    let (file, mini_batch, attempts) = (next(MOST_NAME), next(20), next(20));
    let (kind, message) = (next(40), next(MOST_MESSAGE));
    let (attempt, log) = log.unwrap_or_default();
    let log_address = format!("{path}/logs/{}/{attempt}", words::address(&mini_batch));
    Failure { file, mini_batch, attempts, kind, message, log, log_address }
}

fn output(path: &str, file: &FileView) -> OutputFile {
    let address = format!("{path}/outputs/{}", words::address(&file.path));
    OutputFile { path: words::plain(&file.path, MOST_NAME), address, bytes: words::bytes(file.bytes) }
}

fn phases(job: &JobView) -> Vec<Phase> {
    let took = |from: Option<&str>, to: Option<&str>| {
        from.zip(to).and_then(|(from, to)| words::between(from, to)).map(words::duration)
    };
    let (began, ended) = (job.started.as_deref(), job.ended.as_deref());
    let waited = took(Some(&job.created), began).map(|time| format!("after {time} in the queue"));
    let again = match job.starts {
        0 | 1 => String::new(),
        starts => format!("; {starts} processes in all"),
    };
    let scored = job.record.as_ref().and_then(|record| record["seconds"].as_f64()).map(words::duration);
    let ran = took(began, ended).map(|time| match scored {
        Some(scored) => format!("after {time}, {scored} of them scoring"),
        None => format!("after {time}"),
    });
    vec![
        Phase { name: "Accepted", at: Some(Time::new(&job.created)), note: String::new() },
        Phase { name: "Begun", at: began.map(Time::new), note: waited.unwrap_or_default() + &again },
        Phase { name: "Ended", at: ended.map(Time::new), note: ran.unwrap_or_default() },
    ]
}

fn facts(job: &JobView) -> Vec<Fact> {
    let none = Value::Null;
    let record = job.record.as_ref().unwrap_or(&none);
    let text = |value: &Value| value.as_str().map(|text| words::plain(text, MOST_MESSAGE));
    let named = |part: &str| {
        let (name, digest) = (text(&record[part]["name"])?, text(&record[part]["digest"])?);
        Some(format!("{name} {digest}"))
    };
    let seconds = |key: &str| record[key].as_f64().map(words::duration);
    let told = job.device.as_ref().map(|device| format!("{} ({})", device.name, device.description));
    let recorded = text(&record["device"]["name"])
        .map(|name| format!("{name} ({})", text(&record["device"]["description"]).unwrap_or_default()));
    let notices =
        record["device"]["notices"].as_array().map(|all| all.iter().filter_map(text).collect::<Vec<_>>().join("; "));
    let plain = |name, value: Option<String>| value.map(|value| Fact { name, value, is_code: false });
    let code = |name, value: Option<String>| value.map(|value| Fact { name, value, is_code: true });
    let all = [
        code("Input", Some(input(job))),
        plain("Device", told.or(recorded)),
        plain("Why there", text(&record["device"]["reason"])),
        plain("Notices", notices),
        plain("On the device", seconds("device_seconds")),
        plain("Most memory", record["peak_memory_bytes"].as_u64().map(words::bytes)),
        code("Deployment", Some(job.digest.clone())),
        code("Script", named("script")),
        code("Model", named("model")),
    ];
    all.into_iter().flatten().collect()
}

/// The settings that held, or as long as nothing tells them those that the job replaces.
fn settings(job: &JobView) -> String {
    let recorded = job.record.as_ref().map(|record| &record["settings"]).filter(|settings| settings.is_object());
    let shown = match recorded {
        Some(settings) => serde_json::to_string_pretty(settings),
        None if job.set.is_empty() => return String::new(),
        None => serde_json::to_string_pretty(&job.set),
    };
    words::plain(&shown.unwrap_or_default(), 20_000)
}

/// Stops or resumes the job, and shows it.
pub(super) async fn change(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Extension(fields): Extension<Fields>,
    Path(name): Path<String>,
) -> Page {
    let back = format!("/jobs/{}", words::address(&name));
    let what = fields.get("do").to_owned();
    match what.as_str() {
        "cancel" => pages.call(move |host| host.cancel(&viewer.caller, &name)).await?,
        "resume" => pages.call(move |host| host.resume(&viewer.caller, &name)).await?,
        _ => return Err(Refusal::new(StatusCode::BAD_REQUEST, "the form does not say what is to be done")),
    };
    Ok(Redirect::to(&back).into_response())
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    job: String,
    mini_batch: u64,
    attempt: u64,
    text: String,
    is_whole: bool,
    attempts: Vec<u64>,
}

pub(super) async fn log(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path((name, mini_batch, attempt)): Path<(String, u64, u64)>,
) -> Result<Response, Refusal> {
    let (caller, job) = (viewer.caller.clone(), name.clone());
    let (found, attempts) = pages
        .call(move |host| {
            let there = |attempt: &u64| matches!(host.log(&caller, &job, mini_batch, *attempt), Ok(Some(_)));
            let near = attempt.saturating_sub(4)..=attempt.saturating_add(4);
            let found = host.log(&caller, &job, mini_batch, attempt)?;
            let attempts = near.filter(there).collect();
            Ok((found, attempts))
        })
        .await?;
    let nothing = || Refusal::new(StatusCode::NOT_FOUND, "the script printed nothing in this attempt");
    let (text, is_whole) = found.ok_or_else(nothing)?;
    let text = words::plain(&text, usize::MAX);
    let frame = Frame::new(&viewer, "jobs");
    super::page(&LogPage { frame, job: name, mini_batch, attempt, text, is_whole, attempts })
}

/// A picture and what was found in it.
struct Tile {
    file: String,
    address: Option<String>,
    reason: &'static str,
    label: String,
    /// From 0 to 1, and as people read it.
    score: Option<(f64, String)>,
    more: String,
}

#[derive(Template)]
#[template(path = "gallery.html")]
struct Gallery {
    frame: Frame,
    live: Live,
    tiles: Vec<Tile>,
    reason: Option<&'static str>,
    pages: Pager,
    rows: Option<String>,
}

fn tile(path: &str, item: GalleryItem) -> Tile {
    let GalleryItem { file, picture, reason, label, score, more } = item;
    Tile {
        file: words::plain(&file, MOST_NAME),
        address: picture.map(|picture| format!("{path}/pictures/{}", words::address(&picture))),
        reason,
        label: words::plain(&label, 80),
        score: score.map(|score| (score, percent(score))),
        more: words::plain(&more, 200),
    }
}

/// A part of one, to a tenth of a percent; the whole as such.
fn percent(part: f64) -> String {
    if part >= 0.9995 { "100 %".into() } else { format!("{:.1} %", part * 100.0) }
}

pub(super) async fn gallery(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path(name): Path<String>,
    Query(shown): Query<Shown>,
) -> Page {
    let page = from_zero(shown.page);
    let caller = viewer.caller.clone();
    let read = move |host: &Host| Ok((host.job(&caller, &name)?, host.gallery(&caller, &name, page, PICTURES)?));
    let (job, found) = pages.read(read).await?;
    let path = format!("/jobs/{}", words::address(&job.name));
    let rows = job.record.as_ref().and_then(|record| record["counts"]["rows"].as_u64());
    let template = Gallery {
        frame: Frame::new(&viewer, "jobs"),
        live: Live::of(&job),
        pages: Pager::new(page, found.more, (rows, PICTURES), |page| format!("{path}/gallery?page={page}")),
        tiles: found.items.into_iter().map(|item| tile(&path, item)).collect(),
        reason: found.reason,
        rows: rows.map(words::count),
    };
    super::page(&template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_linked_from_one_another() {
        let pager = |page, more, rows| Pager::new(page, more, (rows, 10), |page| page.to_string());
        let links = |p: Pager| [p.first, p.previous, p.next, p.last].map(Option::unwrap_or_default).join(",");
        assert_eq!(links(pager(0, true, Some(35))), ",,2,4");
        assert_eq!(links(pager(2, true, Some(35))), "1,2,4,");
        assert_eq!(links(pager(3, false, Some(35))), "1,3,,");
        assert_eq!(links(pager(0, true, None)), ",,2,");
        assert!(!pager(0, false, Some(3)).is_needed());
        assert_eq!([0.0, 0.9994, 1.0].map(percent), ["0.0 %", "99.9 %", "100 %"]);
        assert_eq!((from_zero(None), from_zero(Some(0)), from_zero(Some(2))), (0, 0, 1));
    }

    #[test]
    fn rows_that_lack_cells_are_shown_as_they_are() {
        assert_eq!(mini_batch(vec!["3".into()]).index, "3");
        let odd = failure("/jobs/j", vec!["a\u{202e}b".into(), "1".into()], None);
        assert_eq!((odd.file.as_str(), odd.log_address.as_str()), ("a\u{fffd}b", "/jobs/j/logs/1/0"));
    }
}
