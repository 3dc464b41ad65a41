//! The bytes of a file that others may be writing, or that never end, or that nobody waits for any more.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{MAX_FILE, TableError};

/// An open file. Reads fail once its user has left.
pub(super) struct Source {
    file: Mutex<File>,
    len: u64,
    stop: Arc<AtomicBool>,
}

impl Source {
    pub(super) fn open(path: &Path, stop: &Arc<AtomicBool>) -> Result<Self, TableError> {
        // Asked before it is opened: opening a named pipe waits for whoever writes to it.
        let meta = std::fs::metadata(path).map_err(TableError::Read)?;
        if !meta.is_file() {
            return Err(TableError::Read(ErrorKind::IsADirectory.into()));
        }
        if meta.len() > MAX_FILE {
            return Err(TableError::TooMuch { what: "bytes in the file".into(), limit: MAX_FILE });
        }
        let file = File::open(path).map_err(TableError::Read)?;
        Ok(Self { file: Mutex::new(file), len: meta.len(), stop: Arc::clone(stop) })
    }

    /// The file's size when it was opened.
    #[cfg(feature = "parquet")]
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills as much of `buffer` as the file has from `at`, and answers with how much that is.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<usize, TableError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(TableError::Stopped);
        }
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at)).map_err(TableError::Read)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TableError::Read(error)),
            }
        }
        Ok(filled)
    }

    /// Whether the file's first bytes are these.
    pub(super) fn begins_with(&self, start: &[u8]) -> Result<bool, TableError> {
        let mut first = vec![0; start.len()];
        Ok(self.read_at(0, &mut first)? == start.len() && first == start)
    }
}
