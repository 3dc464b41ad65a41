//! What the web page shows beside REST's verbs: tables of an output a page at a time, what scripts printed, and pictures
//! with their predictions.
//!
//! What goes in: a caller, a job's name, and which page. What comes out: some rows as text. Files are read as far as the
//! page needs and bounds allow, and only as text; pictures are handed on as bytes, and decoded by nobody here.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use csv::StringRecord;

use super::jobs::HIDDEN;
use super::{Caller, Host, HostError, JobView, Scope, TenantView, disk, names};
use crate::state::{Job, JobStatus, Page, StateError};

/// Bytes of a table that are read for one page: far into a larger one, people search the file itself.
const MOST_SCANNED: u64 = 64 << 20;
/// Bytes of a line of JSON: as values it takes some thirty times that.
const MOST_LINE: u64 = 1 << 20;
/// Bytes of a log that are shown: its end.
pub(super) const MOST_LOG: u64 = 64 << 10;
/// Bytes of labels, and of a picture.
const MOST_LABELS: u64 = 1 << 20;
const MOST_PICTURE: u64 = 10 << 20;
/// Files of an input that are looked through for one that a script named without its folders.
const MOST_SOUGHT: usize = 20_000;
/// How deep.
const MOST_DEPTH: usize = 16;
/// Jobs of one list.
const MOST_JOBS: u32 = 200;

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobsFilter {
    /// Older than this one.
    pub before: Option<String>,
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// That are here.
    pub status: Option<JobStatus>,
}

/// Some rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePage {
    /// Cells as text.
    pub rows: Vec<Vec<String>>,
    /// Whether there is a next page.
    pub more: bool,
    /// Whether this page lies beyond what is read of a table.
    pub too_far: bool,
}

/// A kind of picture that browsers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureKind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// WebP.
    Webp,
    /// BMP.
    Bmp,
}

impl PictureKind {
    /// As HTTP names it.
    pub fn media_type(self) -> &'static str {
        match self {
            PictureKind::Jpeg => "image/jpeg",
            PictureKind::Png => "image/png",
            PictureKind::Gif => "image/gif",
            PictureKind::Webp => "image/webp",
            PictureKind::Bmp => "image/bmp",
        }
    }

    /// By a file's first bytes.
    fn of(head: &[u8]) -> Option<Self> {
        let is_webp = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP".as_slice());
        match head {
            [0xff, 0xd8, 0xff, ..] => Some(PictureKind::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(PictureKind::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(PictureKind::Gif),
            [b'B', b'M', ..] => Some(PictureKind::Bmp),
            _ => is_webp.then_some(PictureKind::Webp),
        }
    }
}

/// A row of the predictions with its picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GalleryItem {
    /// As the script named the file.
    pub file: String,
    /// Where the picture is below the input, if a browser can show it.
    pub picture: Option<String>,
    /// Why there is none to show.
    pub reason: &'static str,
    /// The second cell, by its name where the model's folder has names.
    pub label: String,
    /// The third cell, where it is from 0 to 1.
    pub score: Option<f64>,
    /// The other cells.
    pub more: String,
}

/// Some of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GalleryPage {
    /// In the order of the predictions.
    pub items: Vec<GalleryItem>,
    /// Whether there is a next page.
    pub more: bool,
    /// Why there are none.
    pub reason: Option<&'static str>,
}

/// A tenant, and what it has of its quotas.
#[derive(Clone, Debug)]
pub struct TenantUse {
    /// Which.
    pub tenant: TenantView,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub queued: u64,
    /// Bytes stored.
    pub stored: u64,
}

impl Host {
    /// The tenant's jobs that fit the filter, the newest first.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn jobs_that(&self, caller: &Caller, filter: &JobsFilter, most: u32) -> Result<Vec<JobView>, HostError> {
        caller.may(Scope::Read)?;
        let JobsFilter { before, endpoint, status } = filter.clone();
        let page = Page { before, endpoint, status, most: most.clamp(1, MOST_JOBS) };
        self.state.jobs(caller.tenant.id, &page)?.into_iter().map(|job| self.view(job)).collect()
    }

    /// Every tenant with its use; those who are no administrators see their own.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn tenants_with_use(&self, caller: &Caller) -> Result<Vec<TenantUse>, HostError> {
        let one = |tenant: TenantView| {
            let id = self.state.tenant(&tenant.name)?.id;
            self.folders.count(id);
            Ok(TenantUse {
                tenant,
                running: self.state.jobs_that_are(id, JobStatus::Running)?,
                queued: self.state.jobs_that_are(id, JobStatus::Queued)?,
                stored: self.folders.used_by(id).unwrap_or_default(),
            })
        };
        self.tenants(caller)?.into_iter().map(one).collect()
    }

    /// A page of a job's mini-batches: index, files, rows, attempts, start, seconds, device seconds.
    ///
    /// # Errors
    /// If there is no such job, or the disk refuses.
    pub fn mini_batches(&self, caller: &Caller, name: &str, page: u64, size: u64) -> Result<TablePage, HostError> {
        self.own_table(caller, name, ("mini_batches", 0), (page, size))
    }

    /// A page of a job's errors: file, mini-batch, attempts, kind, message.
    ///
    /// # Errors
    /// If there is no such job, or the disk refuses.
    pub fn job_errors(&self, caller: &Caller, name: &str, page: u64, size: u64) -> Result<TablePage, HostError> {
        self.own_table(caller, name, ("errors", 1), (page, size))
    }

    /// A table that the host writes itself: the whole one of a job that ended, else what is committed of the one that
    /// grows, whose cell at `index` is the mini-batch.
    fn own_table(
        &self,
        caller: &Caller,
        name: &str,
        (table, index): (&str, usize),
        page: (u64, u64),
    ) -> Result<TablePage, HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let job = self.state.job(caller.tenant.id, name)?;
        let folder = self.output_folder(&job);
        let ended = job.status.has_ended();
        let path = match ended {
            true => format!("{table}.csv"),
            false => format!("{HIDDEN}/{table}.part"),
        };
        let Some(file) = open_below(&folder, &path)? else { return Ok(TablePage::default()) };
        let committed = match (ended, self.scheduler.heard(&job.id).and_then(|heard| heard.progress)) {
            (true, _) => u64::MAX,
            (false, progress) => progress.map_or(0, |progress| progress.mini_batches_done),
        };
        // The part may hold rows that are not committed yet.
        let is_committed = |row: &[String]| {
            let index = row.get(index).and_then(|cell| cell.parse::<u64>().ok());
            index.is_some_and(|index| index < committed)
        };
        delimited(file, (b',', true), page, is_committed)
    }

    fn output_folder(&self, job: &Job) -> PathBuf {
        self.folders.job(job.tenant, &job.id).join("output")
    }

    /// The end of what a script printed in an attempt at a mini-batch, and whether that is all; none if there is nothing.
    ///
    /// # Errors
    /// If there is no such job, or the disk refuses.
    pub fn log(
        &self,
        caller: &Caller,
        name: &str,
        mini_batch: u64,
        attempt: u64,
    ) -> Result<Option<(String, bool)>, HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let folder = self.output_folder(&self.state.job(caller.tenant.id, name)?);
        let Some((mut file, bytes)) = open_below(&folder, &format!("logs/{mini_batch:06}.{attempt}.log"))? else {
            return Ok(None);
        };
        let failed = disk("read the log");
        let skipped = bytes.saturating_sub(MOST_LOG);
        file.seek(SeekFrom::Start(skipped)).map_err(&failed)?;
        let mut text = Vec::new();
        file.take(MOST_LOG).read_to_end(&mut text).map_err(&failed)?;
        Ok(Some((String::from_utf8_lossy(&text).into_owned(), skipped == 0)))
    }

    /// A page of a job's predictions with their pictures: first cell the file, second what it shows, third how surely.
    ///
    /// # Errors
    /// If there is no such job, or the disk refuses.
    pub fn gallery(&self, caller: &Caller, name: &str, page: u64, size: u64) -> Result<GalleryPage, HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let job = self.state.job(caller.tenant.id, name)?;
        let none = |reason| Ok(GalleryPage { reason: Some(reason), ..GalleryPage::default() });
        if job.status != JobStatus::Completed {
            return none("Predictions appear when the job is complete.");
        }
        let record = job.record.clone().unwrap_or_default();
        let Some(file) = record["predictions"].as_str() else {
            return none("The script of this job writes files of its own, and no predictions.");
        };
        names::path(file)?;
        let Some(file) = open_below(&self.output_folder(&job), file)? else {
            return none("The predictions are not there any more.");
        };
        let all = |_: &[String]| true;
        let found = match record["settings"]["output_format"].as_str() {
            Some("azure") => delimited(file, (b' ', false), (page, size), all)?,
            Some("csv") => delimited(file, (b',', true), (page, size), all)?,
            Some("jsonl") => json_lines(file, (page, size))?,
            _ => return none("The gallery is made of predictions that are text; these are Parquet."),
        };
        if found.too_far {
            return none("This page lies too far into the predictions: read the file itself.");
        }
        let labels = self.labels(&job);
        let mut items: Vec<GalleryItem> = found.rows.into_iter().map(|row| item(row, &labels)).collect();
        match self.input_of(caller, &job) {
            Ok(input) => find_pictures(&input, &mut items),
            Err(_) => {
                let is_elsewhere = job.input.get("url").is_some();
                let reason =
                    if is_elsewhere { "it lies in an object store" } else { "the input is not there any more" };
                items.iter_mut().for_each(|item| item.reason = reason);
            }
        }
        Ok(GalleryPage { items, more: found.more, reason: None })
    }

    /// A picture of a job's input, for a browser to decode: its kind, its bytes' number, and they.
    ///
    /// # Errors
    /// If there is none of a kind and size that are shown.
    pub fn picture(
        &self,
        caller: &Caller,
        name: &str,
        path: &str,
    ) -> Result<(PictureKind, u64, std::fs::File), HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let unknown = || StateError::Unknown { what: "picture", name: path.chars().take(64).collect() };
        let job = self.state.job(caller.tenant.id, name)?;
        names::path(path)?;
        let input = self.input_of(caller, &job)?;
        let (mut file, bytes) = input.open(path).ok_or_else(unknown)?;
        let kind = kind(&mut file).filter(|_| bytes <= MOST_PICTURE).ok_or_else(unknown)?;
        Ok((kind, bytes, file))
    }

    fn input_of(&self, caller: &Caller, job: &Job) -> Result<Input, HostError> {
        let spec = serde_json::from_value(job.input.clone())
            .map_err(|e| StateError::Damaged(format!("the input of job `{}`: {e}", job.id)))?;
        Input::open_root(self.input(caller, &spec)?).map_err(disk("read the input"))
    }

    /// What the classes of the job's model are called, where its folder has a file `labels.txt` or `….labels.txt`.
    fn labels(&self, job: &Job) -> Vec<String> {
        let folder = match &job.model {
            Some(digest) => self.folders.model(job.tenant, digest),
            None => self.folders.deployment(job.tenant, &job.folder).join("model"),
        };
        let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
        let named = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let Some(name) = named.filter(|name| name.ends_with("labels.txt")).min() else { return Vec::new() };
        let Ok(Some((file, _))) = open_below(&folder, &name) else { return Vec::new() };
        let mut text = Vec::new();
        match file.take(MOST_LABELS).read_to_end(&mut text) {
            Ok(_) => String::from_utf8_lossy(&text).lines().map(|line| line.trim().to_owned()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// A job's input: a folder, or one file of a folder.
struct Input {
    folder: PathBuf,
    dir: Dir,
    only: Option<String>,
}

impl Input {
    fn open_root(path: PathBuf) -> std::io::Result<Self> {
        let is_file = path.metadata()?.is_file();
        let only = path.file_name().filter(|_| is_file).map(|name| name.to_string_lossy().into_owned());
        let folder = if is_file { path.parent().unwrap_or(&path).to_owned() } else { path };
        let dir = Dir::open_ambient_dir(&folder, ambient_authority())?;
        Ok(Self { folder, dir, only })
    }

    /// A file below, wherever links lead; none for what is no file.
    fn open(&self, path: &str) -> Option<(std::fs::File, u64)> {
        if self.only.as_ref().is_some_and(|only| only != path) {
            return None;
        }
        open_in(&self.dir, path).ok().flatten()
    }
}

/// A file below a folder, with its size; links out of the folder lead nowhere.
pub(super) fn open_below(folder: &Path, path: &str) -> Result<Option<(std::fs::File, u64)>, HostError> {
    let failed = disk("read the file");
    match Dir::open_ambient_dir(folder, ambient_authority()) {
        Ok(dir) => open_in(&dir, path).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn open_in(dir: &Dir, path: &str) -> std::io::Result<Option<(std::fs::File, u64)>> {
    // A pipe would be waited for.
    match dir.metadata(path) {
        Ok(facts) if facts.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = dir.open(path)?.into_std();
    let bytes = file.metadata()?.len();
    Ok(Some((file, bytes)))
}

/// By its first bytes; it stands at its beginning again.
fn kind(file: &mut std::fs::File) -> Option<PictureKind> {
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).ok()?;
    file.rewind().ok()?;
    PictureKind::of(&head)
}

/// The rows of a page, of those that count, in a table with this delimiter and perhaps a header.
fn delimited(
    (file, bytes): (std::fs::File, u64),
    (delimiter, header): (u8, bool),
    (page, size): (u64, u64),
    counts: impl Fn(&[String]) -> bool,
) -> Result<TablePage, HostError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(header)
        .flexible(true)
        .from_reader(BufReader::new(file.take(MOST_SCANNED)));
    let mut row = csv::ByteRecord::new();
    let next = || -> std::io::Result<Option<Vec<String>>> {
        let read = reader.read_byte_record(&mut row).map_err(std::io::Error::other)?;
        Ok(read.then(|| StringRecord::from_byte_record_lossy(row.clone()).iter().map(str::to_owned).collect()))
    };
    paged(next, bytes, (page, size), counts)
}

/// The same of JSON objects, one a line.
fn json_lines((file, bytes): (std::fs::File, u64), page: (u64, u64)) -> Result<TablePage, HostError> {
    let mut lines = BufReader::new(file.take(MOST_SCANNED));
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let next = || -> std::io::Result<Option<Vec<String>>> {
        let mut line = Vec::new();
        if lines.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap_or_default();
        Ok(Some(row.values().map(cell).collect()))
    };
    paged(next, bytes, page, |_| true)
}

fn paged(
    mut next: impl FnMut() -> std::io::Result<Option<Vec<String>>>,
    bytes: u64,
    (page, size): (u64, u64),
    counts: impl Fn(&[String]) -> bool,
) -> Result<TablePage, HostError> {
    let first = page.saturating_mul(size);
    let (mut found, mut seen) = (TablePage::default(), 0u64);
    while let Some(row) = next().map_err(disk("read the table"))? {
        if !counts(&row) {
            continue;
        }
        if seen >= first.saturating_add(size) {
            found.more = true;
            return Ok(found);
        }
        if seen >= first {
            found.rows.push(row);
        }
        seen += 1;
    }
    // What is read ends before the table does.
    found.too_far = found.rows.is_empty() && bytes > MOST_SCANNED;
    found.more = !found.rows.is_empty() && bytes > MOST_SCANNED;
    Ok(found)
}

fn item(row: Vec<String>, labels: &[String]) -> GalleryItem {
    let mut cells = row.into_iter();
    let (file, class) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
    let label = class.parse().ok().and_then(|i: usize| labels.get(i)).cloned().unwrap_or(class);
    let mut rest: Vec<String> = cells.collect();
    let score = rest.first().and_then(|cell| cell.parse().ok()).filter(|p| (0.0..=1.0).contains(p));
    if score.is_some() {
        rest.remove(0);
    }
    GalleryItem { file, label, score, more: rest.join(" · "), ..GalleryItem::default() }
}

/// Scripts name a file with or without the folders above it.
fn find_pictures(input: &Input, items: &mut [GalleryItem]) {
    let is_there = |path: &str| names::path(path).is_ok() && input.open(path).is_some();
    let is_lost = |item: &GalleryItem| !item.file.contains('/') && !is_there(&item.file);
    let deeper = if items.iter().any(is_lost) { by_name(input, items) } else { HashMap::new() };
    for item in items {
        let path = deeper.get(&item.file).unwrap_or(&item.file).clone();
        let opened = names::path(&path).ok().and_then(|_| input.open(&path));
        item.reason = match opened {
            None => "not found in the input",
            Some((_, bytes)) if bytes > MOST_PICTURE => "too large to be shown here",
            Some((mut file, _)) => match kind(&mut file) {
                None => "no picture that browsers show",
                Some(_) => {
                    item.picture = Some(path);
                    ""
                }
            },
        };
    }
}

/// Where files of these names lie below the input's folder; of equal names the first.
fn by_name(input: &Input, items: &[GalleryItem]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    if input.only.is_some() {
        return found;
    }
    let wanted: std::collections::HashSet<&str> = items.iter().map(|item| item.file.as_str()).collect();
    let walk = walkdir::WalkDir::new(&input.folder).min_depth(2).max_depth(MOST_DEPTH).sort_by_file_name();
    for entry in walk.into_iter().take(MOST_SOUGHT).filter_map(Result::ok) {
        let Some(name) = entry.file_name().to_str().filter(|name| wanted.contains(name)) else { continue };
        let below = entry.path().strip_prefix(&input.folder).ok().and_then(Path::to_str);
        if let Some(below) = below.filter(|_| entry.file_type().is_file()) {
            found.entry(name.to_owned()).or_insert_with(|| below.replace('\\', "/"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, page: u64) -> TablePage {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), text).unwrap();
        let file = open_below(folder.path(), "t.csv").unwrap().unwrap();
        delimited(file, (b',', true), (page, 2), |row| row[0] != "9").unwrap()
    }

    #[test]
    fn tables_are_read_a_page_at_a_time() {
        let text = "i,x\n0,a\n9,not committed\n1,\"two\nlines\"\n2,c\n";
        let first = table(text, 0);
        assert_eq!((first.rows.len(), first.more), (2, true));
        assert_eq!(first.rows[1], ["1", "two\nlines"]);
        let second = table(text, 1);
        assert_eq!((second.rows.as_slice(), second.more), ([vec!["2".to_owned(), "c".into()]].as_slice(), false));
        assert_eq!(table(text, u64::MAX), TablePage::default());
        assert_eq!(table("", 0), TablePage::default());
    }

    #[test]
    fn lines_of_json_are_rows_and_nonsense_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t"), "{\"file\":\"a\",\"class\":3}\nnonsense\n").unwrap();
        let found = json_lines(open_below(folder.path(), "t").unwrap().unwrap(), (0, 8)).unwrap();
        assert_eq!(found.rows, [vec!["a".to_owned(), "3".into()], vec![]]);
    }

    #[test]
    fn rows_become_items_whatever_they_hold() {
        let labels = ["circle".to_owned(), "ring".into()];
        let row = |cells: &[&str]| item(cells.iter().map(|&cell| cell.to_owned()).collect(), &labels);
        let whole = row(&["a.png", "1", "0.75", "circle"]);
        assert_eq!((whole.label.as_str(), whole.score, whole.more.as_str()), ("ring", Some(0.75), "circle"));
        assert_eq!(row(&["a.png", "7"]).label, "7");
        assert_eq!((row(&["a", "b", "-2"]).score, row(&["a", "b", "-2"]).more), (None, "-2".into()));
        assert_eq!(row(&["a", "b", "NaN"]).score, None);
        assert_eq!(row(&[]), GalleryItem::default());
    }

    #[test]
    #[cfg(unix)]
    fn pictures_are_found_below_the_input_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("input");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        let png = b"\x89PNG\r\n\x1a\n rest";
        std::fs::write(folder.join("deep/a.png"), png).unwrap();
        std::fs::write(folder.join("t.txt"), "text").unwrap();
        std::fs::write(place.path().join("secret.png"), png).unwrap();
        std::os::unix::fs::symlink(place.path().join("secret.png"), folder.join("link.png")).unwrap();
        let input = Input::open_root(folder.clone()).unwrap();
        let named = |file: &str| GalleryItem { file: file.into(), ..GalleryItem::default() };
        let mut items = ["a.png", "deep/a.png", "link.png", "../secret.png", "t.txt", "no.png"].map(named);
        find_pictures(&input, &mut items);
        let found: Vec<_> = items.iter().map(|item| item.picture.as_deref()).collect();
        assert_eq!(found, [Some("deep/a.png"), Some("deep/a.png"), None, None, None, None]);
        assert_eq!(items[4].reason, "no picture that browsers show");
        // Of one file that was named, nothing beside it.
        let one = Input::open_root(folder.join("t.txt")).unwrap();
        assert!(one.open("t.txt").is_some() && one.open("deep/a.png").is_none());
    }

    #[test]
    fn kinds_are_told_by_bytes() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"\x89PNG\r\n\x1a\n", Some("image/png")),
            (b"GIF89a", Some("image/gif")),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", Some("image/webp")),
            (b"BM", Some("image/bmp")),
            // Nothing that a browser could run.
            (b"<svg xmlns=", None),
            (b"", None),
        ];
        for (head, expected) in cases {
            assert_eq!(PictureKind::of(head).map(PictureKind::media_type), expected, "{head:?}");
        }
    }
}
