//! Pictures of a job's mini-batches, read and decoded on a thread pool, and ahead of the script: once a script has used
//! a recipe, the files that come next in the plan are prepared with it while the script and the model are busy.
//!
//! What goes in: paths from the job's plan. What comes out: rows that wait to be awaited. Memory is bounded; what was
//! prepared and not asked for is dropped with its mini-batch.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::{Limits, Picture, Recipe, VisionError};
use crate::fault::Fault;
use crate::tensor::Tensor;

/// A file's place: its mini-batch in the plan, and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which mini-batch.
    pub mini_batch: u64,
    /// Which of its files.
    pub index: u32,
}

/// One picture, prepared by a recipe.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Without a batch dimension: channels × height × width, or as the recipe lays it out.
    pub row: Tensor,
    /// Width and height of the picture as stored.
    pub size: (u32, u32),
}

/// Why a file gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    /// It is larger than any picture within the limits.
    #[error("the file is {bytes} bytes; at most {limit} are taken for a picture")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not a picture, or a damaged one, or the recipe does not fit it.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// The decoder ended without a word.
    #[error("the decoder failed")]
    Panicked,
}

impl LoadError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        match self {
            LoadError::Read(e) if !matches!(e.kind(), NotFound | PermissionDenied | IsADirectory) => Fault::Transient,
            LoadError::Vision(e) => e.fault(),
            _ => Fault::Caller,
        }
    }
}

/// The largest file read as a picture, in bytes: uncompressed pictures of 100 million pixels are 300 MB.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// Bytes of rows prepared ahead: enough for hundreds of pictures at 224×224, so that no core waits.
const AHEAD_BYTES: usize = 192 << 20;

/// Wrong guesses after which nothing is prepared ahead any more, if they outweigh the right ones.
const MAX_MISSES: u64 = 64;

type Waiting<T> = Shared<oneshot::Receiver<Result<Arc<T>, Arc<LoadError>>>>;
type FilesOf = Box<dyn Fn(u64) -> Vec<PathBuf> + Send + Sync>;

/// Reads and decodes the files of one job.
pub struct Loader {
    pool: Arc<rayon::ThreadPool>,
    limits: Limits,
    /// The files of a mini-batch, by its index; none past the last, and none before they are there.
    files_of: FilesOf,
    /// For the pool's threads, which go on with what comes next when they are done.
    this: Weak<Self>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recipe: Option<Arc<Recipe>>,
    ready: HashMap<Place, Ahead>,
    /// What was asked for already, of the mini-batches in progress.
    taken: HashSet<Place>,
    cursor: Cursor,
    held: usize,
    /// Files being prepared ahead at the moment.
    running: usize,
    hits: u64,
    misses: u64,
}

struct Ahead {
    recipe: Arc<Recipe>,
    row: Waiting<Prepared>,
    bytes: usize,
}

/// What is to be prepared next.
#[derive(Default)]
struct Cursor {
    mini_batch: u64,
    index: usize,
    /// The files of `mini_batch`, once looked up.
    files: Option<Vec<PathBuf>>,
}

impl Loader {
    /// A loader for the mini-batches that `files_of` lists.
    pub fn new(
        pool: Arc<rayon::ThreadPool>,
        limits: Limits,
        files_of: impl Fn(u64) -> Vec<PathBuf> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            pool,
            limits,
            files_of: Box::new(files_of),
            this: Weak::clone(this),
            state: Mutex::default(),
        })
    }

    /// One picture as a row, prepared before or now.
    ///
    /// # Errors
    /// If the file is not a picture within the limits, or the recipe does not fit it.
    pub async fn row(&self, place: Place, path: &Path, recipe: &Recipe) -> Result<Arc<Prepared>, Arc<LoadError>> {
        self.ask(place, path, recipe).await
    }

    /// Pictures as rows, in order, decoded side by side.
    pub async fn rows(
        &self,
        files: &[(Place, PathBuf)],
        recipe: &Recipe,
    ) -> Vec<Result<Arc<Prepared>, Arc<LoadError>>> {
        // All are asked for before the first is awaited.
        let waiting: Vec<_> = files.iter().map(|(place, path)| self.ask(*place, path, recipe)).collect();
        let mut rows = Vec::with_capacity(files.len());
        for row in waiting {
            rows.push(row.await);
        }
        rows
    }

    /// A file's width and height as stored, without its pixels where they are not there yet.
    ///
    /// # Errors
    /// As [`Loader::row`], for what the header tells.
    pub async fn size(&self, place: Place, path: &Path) -> Result<(u32, u32), Arc<LoadError>> {
        let ahead = self.lock().ready.get(&place).map(|ahead| ahead.row.clone());
        // What decoding found wrong is told when pixels are asked for, whether or not it is known by now.
        if let Some(row) = ahead
            && let Ok(prepared) = flatten(row).await
        {
            return Ok(prepared.size);
        }
        let (path, limits) = (path.to_owned(), self.limits);
        // Not on the pool, where it would wait for whole pictures.
        let read = tokio::task::spawn_blocking(move || read_size(&path, &limits)).await;
        read.unwrap_or(Err(LoadError::Panicked)).map_err(Arc::new)
    }

    /// A whole picture, for what a recipe cannot say.
    ///
    /// # Errors
    /// As [`Loader::row`].
    pub async fn picture(&self, path: &Path) -> Result<Arc<Picture>, Arc<LoadError>> {
        let (path, limits) = (path.to_owned(), self.limits);
        flatten(self.spawn(move || read_picture(&path, &limits))).await
    }

    /// Prepares a row from a picture that was decoded before.
    ///
    /// # Errors
    /// If the recipe does not fit it.
    pub async fn prepare(&self, picture: &Arc<Picture>, recipe: &Recipe) -> Result<Arc<Prepared>, Arc<LoadError>> {
        let (picture, recipe) = (Arc::clone(picture), recipe.clone());
        flatten(self.spawn(move || prepared(&picture, &recipe))).await
    }

    /// Tells that a mini-batch has ended: what was prepared for it and not asked for is dropped.
    pub fn end(&self, mini_batch: u64) {
        let mut state = self.lock();
        let State { ready, taken, held, cursor, misses, .. } = &mut *state;
        ready.retain(|place, ahead| {
            let keep = place.mini_batch != mini_batch;
            if !keep {
                *held -= ahead.bytes;
                *misses += 1;
            }
            keep
        });
        taken.retain(|place| place.mini_batch != mini_batch);
        if cursor.mini_batch == mini_batch {
            *cursor = Cursor { mini_batch: mini_batch + 1, ..Cursor::default() };
        }
    }

    fn ask(
        &self,
        place: Place,
        path: &Path,
        recipe: &Recipe,
    ) -> impl Future<Output = Result<Arc<Prepared>, Arc<LoadError>>> + use<> {
        let mut state = self.lock();
        let state = &mut *state;
        state.taken.insert(place);
        let recipe = match &state.recipe {
            Some(last) if **last == *recipe => Arc::clone(last),
            _ => Arc::clone(state.recipe.insert(Arc::new(recipe.clone()))),
        };
        let ahead = state.ready.remove(&place).inspect(|ahead| state.held -= ahead.bytes);
        let row = match ahead {
            Some(ahead) if ahead.recipe == recipe => {
                state.hits += 1;
                ahead.row
            }
            other => {
                state.misses += u64::from(other.is_some());
                self.prepare_file(path.to_owned(), Arc::clone(&recipe))
            }
        };
        if state.cursor.mini_batch < place.mini_batch {
            state.cursor = Cursor { mini_batch: place.mini_batch, ..Cursor::default() };
        }
        self.top_up(state);
        flatten(row)
    }

    /// Prepares what comes next: as much as fits the bound, and few enough at a time that a script which asks for
    /// something else does not wait for all of it.
    fn top_up(&self, state: &mut State) {
        let Some(recipe) = state.recipe.clone() else { return };
        if state.misses > MAX_MISSES && state.misses > state.hits {
            return;
        }
        let bytes = recipe.row_bytes();
        let at_once = 2 * self.pool.current_num_threads();
        while state.running < at_once && state.held.saturating_add(bytes) <= AHEAD_BYTES {
            let Some((place, path)) = state.cursor.next(&self.files_of) else { return };
            if state.taken.contains(&place) || state.ready.contains_key(&place) {
                continue;
            }
            let row = self.prepare_ahead(path, Arc::clone(&recipe));
            state.held += bytes;
            state.running += 1;
            state.ready.insert(place, Ahead { recipe: Arc::clone(&recipe), row, bytes });
        }
    }

    fn prepare_ahead(&self, path: PathBuf, recipe: Arc<Recipe>) -> Waiting<Prepared> {
        let (limits, this) = (self.limits, Weak::clone(&self.this));
        let next = Next(this);
        self.spawn(move || {
            // Dropped last, or with the closure if it never runs.
            let _next = next;
            read_prepared(&path, &limits, &recipe)
        })
    }

    fn prepare_file(&self, path: PathBuf, recipe: Arc<Recipe>) -> Waiting<Prepared> {
        let limits = self.limits;
        self.spawn(move || read_prepared(&path, &limits, &recipe))
    }

    fn spawn<T: Send + Sync + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
    ) -> Waiting<T> {
        let (settle, waiting) = oneshot::channel();
        self.pool.spawn_fifo(move || {
            // Nobody waits any more: its mini-batch has ended. Dropping the work tells what comes next.
            if settle.is_closed() {
                return drop(work);
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let result = result.unwrap_or(Err(LoadError::Panicked));
            // Nor does it matter if they left meanwhile.
            let _ = settle.send(result.map(Arc::new).map_err(Arc::new));
        });
        waiting.shared()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on with the next file when dropped, however the last one ended.
struct Next(Weak<Loader>);

impl Drop for Next {
    fn drop(&mut self) {
        if let Some(loader) = self.0.upgrade() {
            let mut state = loader.lock();
            state.running -= 1;
            loader.top_up(&mut state);
        }
    }
}

async fn flatten<T>(waiting: Waiting<T>) -> Result<Arc<T>, Arc<LoadError>> {
    waiting.await.unwrap_or_else(|_| Err(Arc::new(LoadError::Panicked)))
}

impl Cursor {
    fn next(&mut self, files_of: &FilesOf) -> Option<(Place, PathBuf)> {
        loop {
            let files = self.files.get_or_insert_with(|| files_of(self.mini_batch));
            if files.is_empty() {
                // Past the last; or they are not there yet, and are asked for again.
                self.files = None;
                return None;
            }
            if let Some(path) = files.get_mut(self.index) {
                let index = u32::try_from(self.index).ok()?;
                self.index += 1;
                return Some((Place { mini_batch: self.mini_batch, index }, std::mem::take(path)));
            }
            *self = Cursor { mini_batch: self.mini_batch + 1, ..Cursor::default() };
        }
    }
}

fn prepared(picture: &Picture, recipe: &Recipe) -> Result<Prepared, LoadError> {
    Ok(Prepared { row: super::prepare(picture, recipe)?, size: (picture.width(), picture.height()) })
}

fn read_prepared(path: &Path, limits: &Limits, recipe: &Recipe) -> Result<Prepared, LoadError> {
    let (row, size) = super::decode_and_prepare(&read(path)?, limits, recipe)?;
    Ok(Prepared { row, size })
}

fn read_picture(path: &Path, limits: &Limits) -> Result<Picture, LoadError> {
    let bytes = read(path)?;
    Ok(super::decode(&bytes, limits)?)
}

fn read_size(path: &Path, limits: &Limits) -> Result<(u32, u32), LoadError> {
    let header = super::header(&read(path)?, limits)?;
    Ok((header.width, header.height))
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let meta = std::fs::metadata(path).map_err(LoadError::Read)?;
    if !meta.is_file() {
        return Err(LoadError::Read(std::io::ErrorKind::IsADirectory.into()));
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge { bytes: meta.len(), limit: MAX_FILE_BYTES });
    }
    std::fs::read(path).map_err(LoadError::Read)
}
