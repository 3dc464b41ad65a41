//! The process that fetches a job's files into a folder, in plan order, some ahead of what is scored, and removes them
//! behind it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetResultPayload, ObjectStoreExt};
use tokio::sync::watch;

use super::super::spool::{SpoolFolder, next_name};
use super::super::words::{Ask, Tell};
use super::super::{MAX_FILES, StoreUrl};
use super::{Objects, ObjectsError, file, is_of_the_object, runtime};

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
const PATIENCE_AT_END: Duration = Duration::from_secs(1);

impl Objects {
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

fn can_be_a_file(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
}

fn has_a_file_above(root: &FilePath, path: &FilePath) -> bool {
    path.ancestors().skip(1).take_while(|above| *above != root).any(FilePath::is_file)
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
