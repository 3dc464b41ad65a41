//! What the files that scripts write may take: `wasi:filesystem`'s functions that make files larger, which count before
//! they do.
//!
//! Goes in: what is about to be written. Comes out: leave to do so, or the end of the call. A file counts for the size
//! that it grows to, holes included, and once more for its entry in a folder; what is removed again stays counted, so
//! that a disk is never fuller than was counted. What files hold, and where they go, is not looked at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynOutputStream, FsResult, OutputStream, Pollable, StreamError, StreamResult};

use super::ScriptError;
use super::state::State;

/// What an entry of a folder counts for: the block that most file systems give a small file or folder, so that files
/// without bytes end, too.
pub const ENTRY_BYTES: u64 = 4096;

/// What the files of one job may take, those of all its instances together.
#[derive(Debug)]
pub struct FileQuota {
    taken: AtomicU64,
    limit: u64,
}

impl FileQuota {
    /// A quota of `limit` bytes, of which `taken` are used by what an earlier run of the job left.
    pub fn new(limit: u64, taken: u64) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU64::new(taken), limit })
    }
}

/// What the files of one instance take, of the job's quota and of its own limit.
#[derive(Debug)]
pub(crate) struct FileMeter {
    quota: Arc<FileQuota>,
    taken: AtomicU64,
    limit: u64,
    met: OnceLock<Met>,
}

#[derive(Clone, Copy, Debug)]
enum Met {
    Own,
    Jobs,
}

impl FileMeter {
    pub(crate) fn new(quota: &Arc<FileQuota>, limit: u64) -> Arc<Self> {
        let (taken, met) = (AtomicU64::new(0), OnceLock::new());
        Arc::new(Self { quota: Arc::clone(quota), taken, limit, met })
    }

    /// Counts `bytes` that are about to be written. A limit that is met ends the call: a language's own library would
    /// only tell of a full disk.
    pub(crate) fn take(&self, bytes: u64) -> wasmtime::Result<()> {
        let of = |taken: &AtomicU64, limit: u64| {
            let update = |taken: u64| taken.checked_add(bytes).filter(|&all| all <= limit);
            taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
        };
        let met = if !of(&self.taken, self.limit) {
            Met::Own
        } else if !of(&self.quota.taken, self.quota.limit) {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
            Met::Jobs
        } else {
            return Ok(());
        };
        let _ = self.met.set(met);
        Err(wasmtime::format_err!("a limit of the script's files is met"))
    }

    /// The limit that was met, if one was.
    pub(crate) fn exceeded(&self) -> Option<ScriptError> {
        Some(match self.met.get()? {
            Met::Own => ScriptError::Files { limit: self.limit },
            Met::Jobs => ScriptError::JobFiles { limit: self.quota.limit },
        })
    }

    /// The files stay: they go on counting for the job when the instance is gone.
    pub(crate) fn keep(&self) {
        self.taken.store(0, Ordering::Relaxed);
    }
}

impl Drop for FileMeter {
    fn drop(&mut self) {
        self.quota.taken.fetch_sub(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

/// WASI's interface, under the name that wasmtime's own linker has for it.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

type Fd = Resource<Descriptor>;
type Told<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Replaces the functions that make files and let them grow.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: StoreContextMut<'_, State>, (fd, bytes, at): (Fd, Vec<u8>, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let more = at.saturating_add(bytes.len() as u64).saturating_sub(state.file_size(&fd).await);
                state.files.take(more)?;
                told(state.filesystem().write(fd, bytes, at).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-size",
        |mut store: StoreContextMut<'_, State>, (fd, size): (Fd, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let more = size.saturating_sub(state.file_size(&fd).await);
                state.files.take(more)?;
                told(HostDescriptor::set_size(&mut state.filesystem(), fd, size).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, State>, (fd, at): (Fd, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let size = state.file_size(&fd).await;
                let made = state.filesystem().write_via_stream(fd, at);
                told(state.counted(made, Some(Place { at, size })))
            })
        },
    )?;
    types.func_wrap_async("[method]descriptor.append-via-stream", |mut store: StoreContextMut<'_, State>, (fd,)| {
        Box::new(async move {
            let state = store.data_mut();
            let made = state.filesystem().append_via_stream(fd);
            told(state.counted(made, None))
        })
    })?;
    add_entries_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Those that make an entry of a folder.
fn add_entries_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>,
         (fd, follow, path, how, flags): (Fd, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move {
                let state = store.data_mut();
                let opened = state.filesystem().open_at(fd, follow, path, how, flags).await;
                // One that is empty may have been there, which nobody tells.
                if let Ok(opened) = &opened
                    && how.contains(OpenFlags::CREATE)
                    && state.file_size(opened).await == 0
                {
                    state.files.take(ENTRY_BYTES)?;
                }
                told(opened)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |mut store: StoreContextMut<'_, State>, (fd, path): (Fd, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let made = state.filesystem().create_directory_at(fd, path).await;
                state.entered(made)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut store: StoreContextMut<'_, State>, (fd, to, path): (Fd, String, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let made = state.filesystem().symlink_at(fd, to, path).await;
                state.entered(made)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: StoreContextMut<'_, State>, (fd, follow, from, other, to): (Fd, PathFlags, String, Fd, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let made = state.filesystem().link_at(fd, follow, from, other, to).await;
                state.entered(made)
            })
        },
    )
}

/// What the script is told of, which is all but traps.
fn told<T>(result: FsResult<T>) -> Told<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

impl State {
    /// The size of an open file; none of what is no file.
    async fn file_size(&mut self, fd: &Fd) -> u64 {
        let stat = self.filesystem().stat(Resource::new_borrow(fd.rep())).await;
        stat.map_or(0, |stat| stat.size)
    }

    fn entered(&mut self, made: FsResult<()>) -> Told<()> {
        if made.is_ok() {
            self.files.take(ENTRY_BYTES)?;
        }
        told(made)
    }

    /// Puts a stream that counts into the place of WASI's own.
    fn counted(
        &mut self,
        made: FsResult<Resource<DynOutputStream>>,
        place: Option<Place>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let made = made?;
        let stream = self.table.get_mut(&made)?;
        let inner = std::mem::replace(stream, Box::new(wasmtime_wasi::p2::pipe::SinkOutputStream));
        *stream = Box::new(Counted { inner, files: Arc::clone(&self.files), place });
        Ok(made)
    }
}

/// Where in its file a stream writes, and the size that is counted of the file.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    size: u64,
}

/// A stream into a file, which counts what it is given.
struct Counted {
    inner: DynOutputStream,
    files: Arc<FileMeter>,
    /// None: at its end, wherever that is.
    place: Option<Place>,
}

impl Counted {
    fn take(&mut self, bytes: usize) -> StreamResult<()> {
        let bytes = bytes as u64;
        let more = match &mut self.place {
            None => bytes,
            Some(place) => {
                place.at = place.at.saturating_add(bytes);
                let more = place.at.saturating_sub(place.size);
                place.size = place.size.max(place.at);
                more
            }
        };
        self.files.take(more).map_err(StreamError::Trap)
    }
}

#[async_trait]
impl Pollable for Counted {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for Counted {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(bytes.len())?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(bytes.len())?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_met(meter: &FileMeter) -> String {
        meter.exceeded().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn instances_share_the_jobs_quota_and_give_back_what_does_not_stay() {
        let quota = FileQuota::new(100, 10);
        let (one, other) = (FileMeter::new(&quota, 60), FileMeter::new(&quota, 60));
        one.take(60).unwrap();
        assert!(one.take(1).is_err());
        assert!(limit_met(&one).contains("limits.file_bytes"), "{}", limit_met(&one));
        other.take(30).unwrap();
        assert!(other.take(1).is_err());
        assert!(limit_met(&other).contains("limits.job_file_bytes"), "{}", limit_met(&other));
        // What failed goes; what succeeded stays.
        drop(one);
        other.keep();
        drop(other);
        let next = FileMeter::new(&quota, u64::MAX);
        next.take(60).unwrap();
        assert!(next.take(1).is_err() && next.take(u64::MAX).is_err());
    }

    #[test]
    fn a_stream_counts_what_its_file_grows_by() {
        let quota = FileQuota::new(1000, 0);
        let files = FileMeter::new(&quota, 1000);
        let taken = || files.taken.load(Ordering::Relaxed);
        let inner = || -> DynOutputStream { Box::new(wasmtime_wasi::p2::pipe::SinkOutputStream) };
        // Over what is there, then past its end.
        let mut inside = Counted { inner: inner(), files: Arc::clone(&files), place: Some(Place { at: 0, size: 100 }) };
        inside.write(vec![0; 80].into()).unwrap();
        assert_eq!(taken(), 0);
        inside.write(vec![0; 80].into()).unwrap();
        assert_eq!(taken(), 60);
        // A hole counts as its bytes would.
        let mut beyond =
            Counted { inner: inner(), files: Arc::clone(&files), place: Some(Place { at: 500, size: 160 }) };
        beyond.write(vec![0; 10].into()).unwrap();
        assert_eq!(taken(), 60 + 350);
        let mut end = Counted { inner: inner(), files: Arc::clone(&files), place: None };
        end.write(vec![0; 590].into()).unwrap();
        assert!(matches!(end.write(vec![0; 1].into()), Err(StreamError::Trap(_))));
        assert_eq!(taken(), 1000);
    }
}
