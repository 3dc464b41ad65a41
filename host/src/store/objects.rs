//! Object stores, spoken to: the process that fetches a job's files, and the one that publishes its output.
//!
//! What goes in: a place, keys from the environment as each store's own tools have them, and what a job asks. What comes
//! out: files in a folder, in plan order; and objects that appear whole, `job.json` last. What an object holds is not
//! looked at.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, PutPayload,
    RetryConfig, WriteMultipart,
};
use tokio::sync::watch;

use super::cause::Cause;
use super::spool::{SpoolFolder, next_name};
use super::words::{Ask, Tell};
use super::{MAX_FILES, StoreUrl};
use crate::fault::{self, Fault};
use crate::tls;

/// Files fetched at once: a request takes some 50 ms, most of which is waiting.
const AT_ONCE: usize = 32;
/// Files and bytes fetched ahead of what is committed, where nobody waits for more.
const AHEAD_FILES: u64 = 4096;
const AHEAD_BYTES: u64 = 1 << 30;
/// What may lie here whoever waits for it: one mini-batch has to fit.
const MOST_AHEAD: u64 = 1 << 20;
const MOST_HELD: u64 = 64 << 30;
/// What an object may have: more than any file that is scored.
const MOST_BYTES: u64 = 1 << 40;
/// What is sent at once, and as one part of a large object.
const PART: usize = 8 << 20;
/// Parts of one object, of which stores allow 10,000.
const MOST_PARTS: u64 = 9000;
/// Files sent at once.
const SENT_AT_ONCE: usize = 4;

/// Seconds for which a store may fail before a job does, and the variable that says otherwise.
const PATIENCE: u64 = 180;
const PATIENCE_AT_END: Duration = Duration::from_secs(1);
const PATIENCE_VARIABLE: &str = "SCOREHOST_STORE_SECONDS";

/// The object that says whose a place is while a job publishes to it, and the one that appears last.
const CLAIM: &str = ".scorehost.json";
const LAST: &str = "job.json";

/// What is done about a place that is not free. A job keeps its place: to resume it asks for the same again.
const OF_ITS_OWN: &str =
    "name a place of its own for each job; with this one the same job goes on only once it is empty";

/// Characters of what a store says.
const MOST_WORDS: usize = 900;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// It cannot be opened.
    #[error("cannot open `{place}`")]
    Open {
        /// Which.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// It does not answer, or refuses.
    #[error("cannot {what} `{place}`")]
    Store {
        /// What was tried.
        what: &'static str,
        /// With which place or object.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// There is nothing.
    #[error("`{0}` holds no object")]
    Empty(String),
    /// There is more than a job can number.
    #[error("`{0}` holds more than {MAX_FILES} objects")]
    TooMany(String),
    /// What one mini-batch waits for does not fit.
    #[error("the files of one mini-batch of `{place}` have more than {most} GiB\nhint: make mini-batches smaller")]
    TooLarge {
        /// Where.
        place: String,
        /// The limit.
        most: u64,
    },
    /// Objects lie there that are no output's.
    #[error("`{0}` is not empty\nhint: {OF_ITS_OWN}")]
    Occupied(String),
    /// Another output is there, or about to be.
    #[error("`{place}` has the output of job `{job}`\nhint: {OF_ITS_OWN}")]
    Taken {
        /// Where.
        place: String,
        /// Whose.
        job: String,
    },
    /// A folder that is no complete output.
    #[error("`{}` holds no complete output of a job\nhint: `run` makes one; a job that was stopped goes on with --resume", .0.display())]
    Incomplete(PathBuf),
    /// A file of this machine cannot be read or written.
    #[error("cannot {what}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ObjectsError {
    /// What went wrong without a store's own words, which name its address and its accounts.
    pub fn in_brief(&self) -> String {
        let (ObjectsError::Store { source, .. } | ObjectsError::Open { source, .. }) = self else {
            return fault::chain(self);
        };
        use object_store::Error::{InvalidPath, NotFound};
        let why = match source {
            NotFound { .. } => "there is no such bucket or object",
            InvalidPath { .. } => "a key has an empty part, or `.` or `..`",
            // Listing one is answered with 404, which no error of the crate's own tells.
            other if fault::chain(other).contains("NoSuchBucket") => "there is no such bucket",
            _ => match self.cause() {
                Some(cause) => cause.brief(),
                None => "the store does not answer as it should; the log of this host's operator has its words",
            },
        };
        format!("{self}: {why}")
    }

    /// All of it on one line, for whoever owns the environment; its cure is [`ObjectsError::hint`].
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            // The library's errors say their causes themselves, several times over.
            let next_text = next.to_string();
            if !text.contains(&next_text) {
                text = format!("{text}: {next_text}");
            }
            cause = next.source();
        }
        // A store's answer may be a page.
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
        words.join(" ").chars().take(MOST_WORDS).collect()
    }

    /// What is to be done in the environment, where that is known.
    pub fn hint(&self) -> Option<String> {
        let (ObjectsError::Store { place, .. } | ObjectsError::Open { place, .. }) = self else { return None };
        self.cause().map(|cause| cause.cure(place))
    }

    fn cause(&self) -> Option<Cause> {
        use object_store::Error::{PermissionDenied, Unauthenticated};
        match self {
            ObjectsError::Store { source: PermissionDenied { .. } | Unauthenticated { .. }, .. } => Some(Cause::Denied),
            ObjectsError::Store { source, .. } | ObjectsError::Open { source, .. } => Cause::of(&fault::chain(source)),
            _ => None,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ObjectsError::Open { .. }
            | ObjectsError::Empty(_)
            | ObjectsError::TooMany(_)
            | ObjectsError::TooLarge { .. }
            | ObjectsError::Occupied(_)
            | ObjectsError::Incomplete(_)
            | ObjectsError::Taken { .. } => Fault::Caller,
            ObjectsError::Store { source, .. } if is_of_the_object(source) => Fault::Caller,
            ObjectsError::Store { .. } => Fault::Transient,
            ObjectsError::File { .. } => Fault::Host,
        }
    }
}

fn file(what: &'static str) -> impl Fn(std::io::Error) -> ObjectsError {
    move |source| ObjectsError::File { what, source }
}

/// Whether a variable of the environment is a store's setting, keys among them.
pub fn is_setting(name: &str) -> bool {
    ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a store has answered, and trying again would not change it.
fn is_of_the_object(error: &object_store::Error) -> bool {
    use object_store::Error::{InvalidPath, NotFound, PermissionDenied, Unauthenticated};
    matches!(error, NotFound { .. } | InvalidPath { .. } | PermissionDenied { .. } | Unauthenticated { .. })
}

/// A place that is open.
#[derive(Clone)]
struct Objects {
    store: Arc<dyn ObjectStore>,
    root: Path,
    shown: String,
    /// Bytes of the files that lie here, or are coming.
    held: Arc<AtomicU64>,
}

impl Objects {
    fn open(place: &StoreUrl) -> Result<Self, ObjectsError> {
        // What speaks https needs it; one that is there already does as well.
        tls::install();
        // A caller's place decides the bucket, and nothing in the environment.
        let is_meant = |key: &str| {
            is_setting(key)
                && !["_BUCKET", "_BUCKET_NAME", "_CONTAINER_NAME"].iter().any(|suffix| key.ends_with(suffix))
        };
        let environment = std::env::vars_os().filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            is_meant(&key).then_some((key, value))
        });
        // By the whole request, a large object on a slow line would be cut off; by silence, nothing is waited for in vain.
        let defaults =
            [("timeout", "1 hour"), ("read_timeout", "30 seconds")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let shown = place.to_string();
        let opened = store_of(place, defaults.into_iter().chain(environment));
        let (store, root) = opened.map_err(|source| ObjectsError::Open { place: shown.clone(), source })?;
        Ok(Self { store, root, shown, held: Arc::default() })
    }

    fn at(&self, what: &'static str, name: &str) -> impl Fn(object_store::Error) -> ObjectsError {
        let place =
            if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown.trim_end_matches('/')) };
        move |source| ObjectsError::Store { what, place: place.clone(), source }
    }

    /// The object of a name below the place.
    fn key(&self, name: &str) -> Result<Path, object_store::path::Error> {
        if self.root.as_ref().is_empty() { Path::parse(name) } else { Path::parse(format!("{}/{name}", self.root)) }
    }

    /// Writes the names of all objects, hidden ones left out; those of a page at a time are held.
    async fn list(&self, folder: &SpoolFolder) -> Result<(), ObjectsError> {
        let write = file("write the listing");
        let create = |path: PathBuf| File::create(path).map(BufWriter::new).map_err(&write);
        let (mut names, mut empty) = (create(folder.listed())?, create(folder.empty())?);
        let root = (!self.root.as_ref().is_empty()).then_some(&self.root);
        let mut objects = self.store.list(root);
        let mut count = 0;
        while let Some(object) = objects.try_next().await.map_err(self.at("list", ""))? {
            let name = object.location.as_ref().strip_prefix(self.root.as_ref()).unwrap_or_default();
            let name = name.trim_start_matches('/');
            if name.is_empty() || name.split('/').any(|part| part.starts_with('.')) {
                continue;
            }
            count += 1;
            if count > MAX_FILES {
                return Err(ObjectsError::TooMany(self.shown.clone()));
            }
            let to = if object.size == 0 { &mut empty } else { &mut names };
            to.write_all(name.as_bytes()).and_then(|()| to.write_all(b"\0")).map_err(&write)?;
        }
        if count == 0 {
            // The place may be an object itself.
            let name = self.root.filename().ok_or_else(|| ObjectsError::Empty(self.shown.clone()))?;
            match self.store.head(&self.root).await {
                Ok(_) => names.write_all(name.as_bytes()).and_then(|()| names.write_all(b"\0")).map_err(&write)?,
                Err(object_store::Error::NotFound { .. }) => return Err(ObjectsError::Empty(self.shown.clone())),
                Err(error) => return Err(self.at("look for", "")(error)),
            }
        }
        names.flush().and_then(|()| empty.flush()).map_err(&write)
    }

    /// Fetches one object into a file; its bytes. None where the store does not have it, or it can be no file here.
    async fn fetch(
        self,
        name: Vec<u8>,
        is_below_another: bool,
        number: u64,
        folder: SpoolFolder,
    ) -> Result<Option<u64>, ObjectsError> {
        let name = std::str::from_utf8(&name).ok().filter(|name| can_be_a_file(name) && !is_below_another);
        let Some(name) = name else { return Ok(None) };
        let Ok(key) = self.key(name) else { return Ok(None) };
        let mut got = self.store.get_opts(&key, GetOptions::default()).await;
        if matches!(got, Err(object_store::Error::NotFound { .. })) && self.root.filename() == Some(name) {
            got = self.store.get_opts(&self.root, GetOptions::default()).await;
        }
        let got = match got {
            Ok(got) if got.meta.size > MOST_BYTES => return Ok(None),
            Ok(got) => got,
            Err(error) if is_of_the_object(&error) => return Ok(None),
            Err(error) => return Err(self.at("fetch", name)(error)),
        };
        let (part, whole) = (folder.part(number), folder.files().join(name));
        let failed = file("write a fetched file");
        let bytes = got.meta.size;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        {
            let mut to = File::create(&part).map_err(&failed)?;
            let mut stream = match got.payload {
                GetResultPayload::Stream(stream) => stream,
                #[expect(unreachable_patterns, reason = "files of this machine are another feature's")]
                _ => return Ok(None),
            };
            while let Some(chunk) = stream.try_next().await.map_err(self.at("fetch", name))? {
                // Into the system's cache: short beside the wait for the next chunk.
                to.write_all(&chunk).map_err(&failed)?;
            }
        }
        let parent = whole.parent().unwrap_or(&whole);
        match std::fs::create_dir_all(parent).and_then(|()| std::fs::rename(&part, &whole)) {
            Ok(()) => Ok(Some(bytes)),
            // Beside an object `a`, one of `a/b` cannot be a file.
            Err(_) if has_a_file_above(&folder.files(), &whole) || whole.is_dir() => {
                let _ = std::fs::remove_file(&part);
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The store of a place, with settings as `object_store` names them; what is none of the store's is passed over.
fn store_of(
    place: &StoreUrl,
    settings: impl Iterator<Item = (String, String)>,
) -> Result<(Arc<dyn ObjectStore>, Path), object_store::Error> {
    macro_rules! built {
        ($builder:ty) => {{
            let new = <$builder>::new().with_url(place.url().as_str()).with_retry(retry());
            let builder = settings.fold(new, |builder, (key, value)| match key.to_ascii_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build()?)
        }};
    }
    let (scheme, root) = ObjectStoreScheme::parse(place.url())?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder),
        _ => return Err(object_store::Error::NotSupported { source: "no store that is known".into() }),
    };
    Ok((store, root))
}

/// How long a request is tried again that the store did not answer, or refused for the time being.
fn retry() -> RetryConfig {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(PATIENCE);
    RetryConfig { retry_timeout: Duration::from_secs(seconds), max_retries: 1000, ..RetryConfig::default() }
}

fn can_be_a_file(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
}

fn has_a_file_above(root: &FilePath, path: &FilePath) -> bool {
    path.ancestors().skip(1).take_while(|above| *above != root).any(FilePath::is_file)
}

fn runtime() -> Result<tokio::runtime::Runtime, ObjectsError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().map_err(file("start threads"))
}

/// Serves one job, until `asks` end; then the folder is removed.
///
/// # Errors
/// If nobody takes what is told. What the store refuses is told.
pub fn serve(
    place: &StoreUrl,
    folder: &SpoolFolder,
    asks: impl BufRead + Send + 'static,
    mut tells: impl Write,
) -> Result<(), ObjectsError> {
    let runtime = runtime()?;
    let mut tell =
        |tell: &Tell| tells.write_all(tell.line().as_bytes()).and_then(|()| tells.flush()).map_err(file(TELL));
    let mut wishes = listen(asks)?;
    let opened = Objects::open(place);
    let result = opened.and_then(|objects| runtime.block_on(served(&objects, folder, wishes.clone(), &mut tell)));
    let told = match result {
        Err(error @ ObjectsError::File { what: TELL, .. }) => Err(error),
        Err(error) => {
            // The whole is for the operator; the caller may be somebody else.
            let cure = error.hint().map(|cure| format!("; hint: {cure}")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "{}{cure}", error.in_full());
            tell(&Tell::Lost(error.in_brief()))
        }
        Ok(()) => Ok(()),
    };
    // What is there may be read until the job has ended.
    let _ = runtime.block_on(wishes.wait_for(|wishes| wishes.end));
    // What is under way writes there no more.
    runtime.shutdown_timeout(PATIENCE_AT_END);
    // What is left is swept away by the next job.
    let _ = std::fs::remove_dir_all(folder.path());
    told
}

/// What the job wishes by now.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    list: bool,
    from: Option<u64>,
    want: u64,
    done: u64,
    end: bool,
}

/// What cannot be done when the job is gone.
const TELL: &str = "tell the job";

fn listen(asks: impl BufRead + Send + 'static) -> Result<watch::Receiver<Wishes>, ObjectsError> {
    let (sender, wishes) = watch::channel(Wishes::default());
    let listen = move || {
        for line in asks.lines() {
            let Some(ask) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
            sender.send_modify(|wishes| match ask {
                Ask::List => wishes.list = true,
                Ask::Fetch(from) => wishes.from = wishes.from.or(Some(from)),
                Ask::Want(until) => wishes.want = wishes.want.max(until),
                Ask::Done(until) => wishes.done = wishes.done.max(until),
            });
        }
        sender.send_modify(|wishes| wishes.end = true);
    };
    std::thread::Builder::new().name("asks".into()).spawn(listen).map_err(file("start threads"))?;
    Ok(wishes)
}

async fn served(
    objects: &Objects,
    folder: &SpoolFolder,
    mut wishes: watch::Receiver<Wishes>,
    tell: &mut impl FnMut(&Tell) -> Result<(), ObjectsError>,
) -> Result<(), ObjectsError> {
    let mut is_listed = false;
    loop {
        let now = *wishes.borrow_and_update();
        if now.end {
            return Ok(());
        }
        if now.list && !is_listed {
            is_listed = true;
            let mut asked = wishes.clone();
            let (listing, end) = (std::pin::pin!(objects.list(folder)), std::pin::pin!(asked.wait_for(|now| now.end)));
            match select(listing, end).await {
                Either::Left((listed, _)) => listed?,
                // A listing without end is nobody's any more.
                Either::Right(_) => return Ok(()),
            }
            tell(&Tell::Listed)?;
        }
        if let Some(from) = now.from {
            return fetch_all(objects, folder, from, wishes, tell).await;
        }
        if wishes.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Fetches the plan's files in order, and removes those that are done with, until the job ends.
async fn fetch_all(
    objects: &Objects,
    folder: &SpoolFolder,
    from: u64,
    mut wishes: watch::Receiver<Wishes>,
    tell: &mut impl FnMut(&Tell) -> Result<(), ObjectsError>,
) -> Result<(), ObjectsError> {
    let (mut plan, mut old) = (Names::open(folder, from)?, Names::open(folder, from)?);
    let mut running = FuturesOrdered::new();
    // What lies there of files that are not done with, in order.
    let mut held: VecDeque<u64> = VecDeque::new();
    let (mut next, mut have, mut removed) = (from, from, from);
    let mut is_end = false;
    loop {
        let now = *wishes.borrow_and_update();
        if now.end {
            return Ok(());
        }
        while removed < now.done.min(have) {
            if let Some(name) = old.next()? {
                remove(&folder.files(), &name);
            }
            objects.held.fetch_sub(held.pop_front().unwrap_or(0), Ordering::Relaxed);
            removed += 1;
        }
        let bytes = objects.held.load(Ordering::Relaxed);
        if next < now.want && bytes > MOST_HELD {
            return Err(ObjectsError::TooLarge { place: objects.shown.clone(), most: MOST_HELD >> 30 });
        }
        let may = |next: u64| {
            let ahead = next - removed;
            (next < now.want && ahead < MOST_AHEAD) || (ahead < AHEAD_FILES && bytes < AHEAD_BYTES)
        };
        while !is_end && running.len() < AT_ONCE && may(next) {
            match plan.next()? {
                Some(name) => {
                    running.push_back(objects.clone().fetch(name, plan.is_below_another(), next, folder.clone()))
                }
                None => is_end = true,
            }
            next += u64::from(!is_end);
        }
        if running.is_empty() {
            if wishes.changed().await.is_err() {
                return Ok(());
            }
            continue;
        }
        let changed = std::pin::pin!(wishes.changed());
        if let Either::Left((Some(fetched), _)) = select(running.next(), changed).await {
            let size = fetched?.unwrap_or(0);
            held.push_back(size);
            have += 1;
            tell(&Tell::Have(have))?;
        }
    }
}

/// The plan's names, one after the other.
struct Names {
    names: BufReader<File>,
    /// The last name, and those before it that it begins with: names are sorted, so these are all there are.
    beginnings: Vec<Vec<u8>>,
}

impl Names {
    fn open(folder: &SpoolFolder, from: u64) -> Result<Self, ObjectsError> {
        let names = BufReader::new(File::open(folder.plan()).map_err(file("read the plan"))?);
        let mut names = Self { names, beginnings: Vec::new() };
        for _ in 0..from {
            // A plan that ends before has nothing to fetch.
            if names.next()?.is_none() {
                break;
            }
        }
        Ok(names)
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, ObjectsError> {
        let mut name = Vec::new();
        if !next_name(&mut self.names, &mut name).map_err(file("read the plan"))? {
            return Ok(None);
        }
        while self.beginnings.last().is_some_and(|last| !name.starts_with(last)) {
            self.beginnings.pop();
        }
        self.beginnings.push(name.clone());
        Ok(Some(name))
    }

    /// Whether the last name lies below another as if that were a folder. It cannot be a file then, whichever of the two
    /// comes first.
    fn is_below_another(&self) -> bool {
        let Some((name, before)) = self.beginnings.split_last() else { return false };
        before.iter().any(|folder| name.get(folder.len()) == Some(&b'/'))
    }
}

/// Removes a file, and folders that it leaves empty. One that cannot be removed goes with the folder.
fn remove(root: &FilePath, name: &[u8]) {
    let Some(name) = std::str::from_utf8(name).ok().filter(|name| can_be_a_file(name)) else { return };
    let path = root.join(name);
    let _ = std::fs::remove_file(&path);
    for above in path.ancestors().skip(1).take_while(|above| *above != root) {
        if std::fs::remove_dir(above).is_err() {
            return;
        }
    }
}

/// Takes a place for a job's output, before it is made; again is as well.
///
/// # Errors
/// If another output is there, or the store refuses.
pub fn claim(place: &StoreUrl, job: &str) -> Result<(), ObjectsError> {
    let objects = Objects::open(place)?;
    runtime()?.block_on(async {
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        objects.claim(job).await
    })
}

/// Publishes an output folder: every file as an object, `job.json` last, so that who sees it sees all. Again is as well.
///
/// # Errors
/// If another output is there, or the store refuses; nothing is half there that `job.json` tells of.
pub fn publish(place: &StoreUrl, folder: &FilePath, job: &str) -> Result<(), ObjectsError> {
    let objects = Objects::open(place)?;
    runtime()?.block_on(async {
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        objects.claim(job).await?;
        // Another one may have ended with the same place since it was looked at.
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        let files = futures_util::stream::iter(files(folder)?.into_iter().filter(|(name, _)| name != LAST));
        files
            .map(|(name, bytes)| objects.clone().send(folder.join(&name), name, bytes))
            .buffer_unordered(SENT_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let last = folder.join(LAST);
        let bytes = std::fs::metadata(&last).map_err(file("read the output"))?.len();
        objects.clone().send(last, LAST.to_owned(), bytes).await?;
        // The output is there, and says whose it is.
        let _ = objects.store.delete(&objects.named(CLAIM)).await;
        Ok(())
    })
}

/// The files of an output, by their names, without what is hidden; links are not followed.
fn files(folder: &FilePath) -> Result<Vec<(String, u64)>, ObjectsError> {
    let failed = file("read the output");
    let walk = walkdir::WalkDir::new(folder).follow_links(false).sort_by_file_name().into_iter();
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut files = Vec::new();
    for entry in walk.filter_entry(visible) {
        let entry = entry.map_err(|e| failed(e.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let name = entry.path().strip_prefix(folder).ok().and_then(FilePath::to_str);
        let name = name.ok_or_else(|| failed(std::io::Error::other("a file's name is not Unicode")))?;
        files.push((name.to_owned(), entry.metadata().map_err(|e| failed(e.into()))?.len()));
    }
    Ok(files)
}

impl Objects {
    /// A name of ours.
    fn named(&self, name: &str) -> Path {
        self.root.clone().join(name)
    }

    /// A small object; none where there is none.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let failed = self.at("read", name);
        match self.store.get(&self.named(name)).await {
            // A record of ours is some kilobytes.
            Ok(got) if got.meta.size > PART as u64 => Ok(Some(Vec::new())),
            Ok(got) => Ok(Some(got.bytes().await.map_err(failed)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether what is there says that it is the job's.
    fn is_of(&self, there: &[u8], key: &str, job: &str) -> Result<(), ObjectsError> {
        let there: serde_json::Value = serde_json::from_slice(there).unwrap_or_default();
        let whose = there[key].as_str().unwrap_or("another");
        if whose == job {
            return Ok(());
        }
        Err(ObjectsError::Taken { place: self.shown.clone(), job: whose.chars().take(128).collect() })
    }

    /// Takes the place: nothing lies there, and it lies in no other job's.
    async fn claim(&self, job: &str) -> Result<(), ObjectsError> {
        match self.read(CLAIM).await? {
            Some(there) => self.is_of(&there, "job", job)?,
            None => {
                self.is_empty().await?;
                self.put_claim(job).await?;
            }
        }
        // After the claim: of two jobs whose places lie in each other, one at least sees the other.
        let nested = self.nested(job).await;
        if nested.is_err() {
            let _ = self.store.delete(&self.named(CLAIM)).await;
        }
        nested
    }

    async fn is_empty(&self) -> Result<(), ObjectsError> {
        let root = (!self.root.as_ref().is_empty()).then_some(&self.root);
        let mut objects = self.store.list(root);
        while let Some(object) = objects.try_next().await.map_err(self.at("list", ""))? {
            // An object of the place's own name stands for a folder.
            if object.location != self.root {
                return Err(ObjectsError::Occupied(self.shown.clone()));
            }
        }
        Ok(())
    }

    /// Refuses a place that lies in another output's.
    async fn nested(&self, job: &str) -> Result<(), ObjectsError> {
        let parts: Vec<_> = self.root.parts().collect();
        for depth in 0..parts.len() {
            let above = Self { root: parts[..depth].iter().cloned().collect(), ..self.clone() };
            for (name, key) in [(CLAIM, "job"), (LAST, "name")] {
                // Keys may be for this place alone.
                if let Ok(Some(there)) = above.read(name).await {
                    above.is_of(&there, key, job)?;
                }
            }
        }
        Ok(())
    }

    async fn put_claim(&self, job: &str) -> Result<(), ObjectsError> {
        let text = serde_json::json!({ "job": job }).to_string();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.store.put_opts(&self.named(CLAIM), PutPayload::from(text.clone()), options).await;
        match put {
            Ok(_) => {}
            // A store without such a write: the claim that is read below is the last one's.
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                if self.read(CLAIM).await?.is_none() {
                    let put = self.store.put(&self.named(CLAIM), PutPayload::from(text)).await;
                    put.map_err(self.at("write", CLAIM))?;
                }
            }
            // It may be there all the same, if only the answer was lost: what is read decides.
            Err(error) => {
                return match self.read(CLAIM).await? {
                    Some(there) => self.is_of(&there, "job", job),
                    None => Err(self.at("write", CLAIM)(error)),
                };
            }
        }
        match self.read(CLAIM).await? {
            Some(there) => self.is_of(&there, "job", job),
            None => Err(ObjectsError::Taken { place: self.shown.clone(), job: "another".to_owned() }),
        }
    }

    /// Sends a file as an object, which is there whole or not at all.
    async fn send(self, path: PathBuf, name: String, bytes: u64) -> Result<(), ObjectsError> {
        let failed = file("read the output");
        let mut from = File::open(path).map_err(&failed)?;
        let key = self.key(&name).map_err(|e| self.at("write", &name)(e.into()))?;
        if bytes <= PART as u64 {
            let mut all = Vec::new();
            from.take(PART as u64 + 1).read_to_end(&mut all).map_err(&failed)?;
            return self.store.put(&key, all.into()).await.map(drop).map_err(self.at("write", &name));
        }
        let part = usize::try_from(bytes / MOST_PARTS + 1).unwrap_or(usize::MAX).max(PART);
        let upload = self.store.put_multipart(&key).await.map_err(self.at("write", &name))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let mut buffer = vec![0; PART];
        loop {
            let count = from.read(&mut buffer).map_err(&failed)?;
            if count == 0 {
                break;
            }
            upload.wait_for_capacity(2).await.map_err(self.at("write", &name))?;
            upload.write(&buffer[..count]);
        }
        upload.finish().await.map(drop).map_err(self.at("write", &name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_below_another_is_known_by_the_plan_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = SpoolFolder::new(place.path().to_owned());
        folder.make().unwrap();
        let names = ["a", "a-b", "a.txt", "a/b", "a/b/c", "ab", "b/a", "b/a.b", "c"];
        std::fs::write(folder.plan(), names.map(|name| format!("{name}\0")).concat()).unwrap();
        for from in 0..names.len() {
            let mut plan = Names::open(&folder, from as u64).unwrap();
            let mut below = Vec::new();
            while let Some(name) = plan.next().unwrap() {
                below.extend(plan.is_below_another().then(|| String::from_utf8(name).unwrap()));
            }
            let expected: Vec<_> = names[from..].iter().filter(|name| ["a/b", "a/b/c"].contains(name)).collect();
            assert_eq!(below.iter().collect::<Vec<_>>(), expected.iter().map(|n| **n).collect::<Vec<_>>(), "{from}");
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_no_files() {
        for name in ["..", "a/../b", "/a", "a//b", "a/", ".", "", "a\0b", &"x".repeat(256)] {
            assert!(!can_be_a_file(name), "{name:?}");
        }
        assert!(can_be_a_file("a b/ü.jpg") && can_be_a_file("...") && can_be_a_file(&"x".repeat(255)));
    }
}
