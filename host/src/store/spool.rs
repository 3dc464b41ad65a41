//! The folder through which a job sees a place in an object store: the job's side.
//!
//! Goes in: what the process that fetches tells. Comes out: word of which of the plan's files are there. Files come in
//! plan order, and go when their mini-batches are committed, so a job of any size takes a bounded part of the disk.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::words::{Ask, Tell};
use super::{MAX_FILES, StoreUrl};
use crate::fault::Fault;

/// How often a wait looks whether the job is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of what is told at once.
const MOST_LINE: u64 = 64 << 10;
/// Bytes of an object's key; stores allow 1,024.
const MOST_NAME: usize = 4096;

/// Why files of a place are not there.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The store does not answer, or refuses.
    #[error("{0}")]
    Lost(String),
    /// It holds more than a job can number.
    #[error("the place holds more than {MAX_FILES} files")]
    TooMany,
    /// The folder between cannot be used.
    #[error("cannot use the folder of fetched files")]
    Folder(#[source] std::io::Error),
    /// The process that fetches says something else than it should, or nothing.
    #[error("the process that fetches files broke off")]
    Broken,
}

impl SpoolError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            SpoolError::Lost(_) => Fault::Transient,
            SpoolError::TooMany => Fault::Caller,
            SpoolError::Folder(_) | SpoolError::Broken => Fault::Host,
        }
    }
}

/// Where things lie in the folder between a job and the process that fetches for it.
#[derive(Clone, Debug)]
pub struct SpoolFolder(PathBuf);

impl SpoolFolder {
    /// The folder itself is there already.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes what is in it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(self.files())?;
        std::fs::create_dir_all(self.plans())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The fetched files, by their names.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// What the job writes.
    pub fn plans(&self) -> PathBuf {
        self.0.join("plan")
    }

    pub(super) fn plan(&self) -> PathBuf {
        self.plans().join("names")
    }

    /// Names of objects with something in them.
    pub(super) fn listed(&self) -> PathBuf {
        self.0.join("listed")
    }

    /// Names of objects without a byte, which may stand for folders.
    pub(super) fn empty(&self) -> PathBuf {
        self.0.join("empty")
    }

    /// A file that is not whole yet.
    pub(super) fn part(&self, number: u64) -> PathBuf {
        self.0.join(format!("part-{number}"))
    }
}

/// The job's end of it.
pub struct Spool {
    place: StoreUrl,
    folder: SpoolFolder,
    asks: Mutex<Box<dyn Write + Send>>,
    tells: Mutex<Box<dyn BufRead + Send>>,
    state: Mutex<Heard>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    is_listed: bool,
    have: u64,
    want: u64,
    /// The end: nothing more comes.
    lost: Option<String>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Spool {
    /// A spool of `place`, whose process takes what is written to `asks` and writes what `tells` reads.
    pub fn new(
        place: StoreUrl,
        folder: SpoolFolder,
        asks: Box<dyn Write + Send>,
        tells: Box<dyn BufRead + Send>,
    ) -> Self {
        let (asks, tells) = (Mutex::new(asks), Mutex::new(tells));
        Self { place, folder, asks, tells, state: Mutex::default(), moved: Condvar::new() }
    }

    /// The place.
    pub fn place(&self) -> &StoreUrl {
        &self.place
    }

    /// Where its files are.
    pub fn folder(&self) -> &SpoolFolder {
        &self.folder
    }

    /// Takes what the process says, until it says nothing more, or something else that `other` has it end with.
    pub fn listen(&self, other: impl Fn(&str) -> bool) {
        while let Some(line) = self.hear()
            && (line.is_empty() || other(&line))
        {}
    }

    /// Lets the process end, which removes what it fetched.
    pub fn close(&self) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(std::io::sink());
    }

    /// No file comes any more.
    pub fn end(&self) {
        self.lock().lost.get_or_insert_with(|| SpoolError::Broken.to_string());
        self.moved.notify_all();
    }

    /// Takes a line: nothing is left of one that tells of files. None at the end.
    fn hear(&self) -> Option<String> {
        let mut line = String::new();
        let mut tells = self.tells.lock().unwrap_or_else(PoisonError::into_inner);
        let read = std::io::Read::take(&mut *tells, MOST_LINE).read_line(&mut line);
        if read.is_err() || line.is_empty() {
            return None;
        }
        let Ok(told) = serde_json::from_str(&line) else { return Some(line) };
        let mut state = self.lock();
        match told {
            Tell::Listed => state.is_listed = true,
            Tell::Have(until) => state.have = state.have.max(until),
            Tell::Lost(reason) => drop(state.lost.get_or_insert(reason)),
        }
        self.moved.notify_all();
        Some(String::new())
    }

    /// Calls `found` with the name of each file, in no order, before any thread listens.
    ///
    /// # Errors
    /// If the place cannot be listed whole.
    pub fn list(&self, mut found: impl FnMut(&[u8])) -> Result<(), SpoolError> {
        self.ask(Ask::List)?;
        while !self.lock().is_listed {
            if let Some(reason) = &self.lock().lost {
                return Err(SpoolError::Lost(reason.clone()));
            }
            // What else is said waits; a wish to stop comes again as the end.
            if self.hear().is_none() {
                return Err(SpoolError::Broken);
            }
        }
        let mut count = 0;
        let mut each = |name: &[u8]| {
            count += 1;
            if count > MAX_FILES {
                return Err(SpoolError::TooMany);
            }
            found(name);
            Ok(())
        };
        let mut folders = Folders::default();
        names(&self.folder.listed(), |name| {
            folders.add(name);
            each(name)
        })?;
        // An empty object `a` beside `a/b` is how stores show a folder; any other is an empty file.
        names(&self.folder.empty(), |name| if folders.has(name) { Ok(()) } else { each(name) })
    }

    /// Begins to fetch the plan's files from one of them on.
    ///
    /// # Errors
    /// If the process cannot be told.
    pub fn begin<'n>(&self, plan: impl Iterator<Item = &'n [u8]>, from: u64) -> Result<(), SpoolError> {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(self.folder.plan())?);
            for name in plan {
                file.write_all(name)?;
                file.write_all(b"\0")?;
            }
            file.flush()
        };
        write().map_err(SpoolError::Folder)?;
        {
            let mut state = self.lock();
            (state.have, state.want) = (from, from);
        }
        self.ask(Ask::Fetch(from))
    }

    /// Whether the plan's files before this one are there, or cannot be.
    pub fn has(&self, until: u64) -> bool {
        self.lock().have >= until
    }

    /// Waits until the plan's files before this one are there; false if the job is to stop.
    ///
    /// # Errors
    /// If they will not come.
    pub fn wait(&self, until: u64, stop: &AtomicBool) -> Result<bool, SpoolError> {
        let mut state = self.lock();
        while state.have < until {
            if let Some(reason) = &state.lost {
                return Err(SpoolError::Lost(reason.clone()));
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if state.want < until {
                state.want = until;
                drop(state);
                self.ask(Ask::Want(until))?;
                state = self.lock();
                continue;
            }
            state = self.moved.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }

    /// The plan's files before this one are not needed any more.
    pub fn done(&self, until: u64) {
        // A process that is gone needs no telling; whoever waits for a file finds out.
        let _ = self.ask(Ask::Done(until));
    }

    fn ask(&self, ask: Ask) -> Result<(), SpoolError> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.write_all(ask.line().as_bytes()).and_then(|()| asks.flush()).map_err(|_| SpoolError::Broken)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `each` with the names of a file of names.
pub(super) fn names(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), SpoolError>) -> Result<(), SpoolError> {
    let mut file = BufReader::new(File::open(path).map_err(SpoolError::Folder)?);
    let mut name = Vec::new();
    while next_name(&mut file, &mut name).map_err(SpoolError::Folder)? {
        each(&name)?;
    }
    Ok(())
}

/// The next name; false at the end.
pub(super) fn next_name(file: &mut impl BufRead, name: &mut Vec<u8>) -> std::io::Result<bool> {
    name.clear();
    let count = std::io::Read::take(&mut *file, MOST_NAME as u64).read_until(b'\0', name)?;
    if count > 0 && name.pop() != Some(b'\0') {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a name has no end"));
    }
    Ok(count > 0)
}

/// The folders of names.
#[derive(Default)]
struct Folders {
    seen: std::collections::HashSet<Vec<u8>>,
    last: Vec<u8>,
}

impl Folders {
    fn add(&mut self, name: &[u8]) {
        let Some(end) = name.iter().rposition(|&b| b == b'/') else { return };
        // Listings are sorted, mostly: files of one folder come after each other.
        if self.last == name[..end] {
            return;
        }
        self.last = name[..end].to_vec();
        for (at, _) in name[..=end].iter().enumerate().filter(|(_, b)| **b == b'/') {
            self.seen.insert(name[..at].to_vec());
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.seen.contains(name)
    }
}
