//! Files of uploads that came in part: what came before a connection broke, until the rest comes.
//!
//! What goes in: which bytes of a file a request brings, and of how many. What comes out: the part that they belong
//! behind. A part is no file of the upload: it lies beside them, under a digest of its path and the length that the file
//! is to have, counts as stored, and goes with the upload. While somebody sends the rest it lies where what was left over
//! is removed; and since nobody waits for the disk to have it, a host that is opened again begins without parts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::folders::Folders;
use super::{HostError, MOST_FILE_BYTES, disk};
use crate::cache::hex;

/// Where an upload's parts are.
pub(super) const PARTS: &str = "parts";

/// Files and uploads that are digested at once.
pub(super) const MOST_HASHING: usize = 4;

/// For whoever digests something: each takes a thread, and the disk, for as long as it takes to read it all.
pub(super) static SLOTS: Slots = Slots::new(MOST_HASHING);

/// Which bytes of a file a request brings, as `Content-Range` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first, from 0.
    pub first: u64,
    /// One behind the last.
    pub end: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

impl Span {
    /// As a `Content-Range` of bytes is written: `bytes 0-9/100`; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        // Digits only: a number may be written with a sign elsewhere.
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let (first, last, total) = (number(first)?, number(last)?, number(total)?);
        (first <= last && last < total).then_some(Self { first, end: last + 1, total })
    }

    /// How many bytes it brings.
    pub fn bytes(&self) -> u64 {
        self.end - self.first
    }
}

/// A part of a file of an upload.
#[derive(Debug)]
pub(super) struct Part {
    /// A folder of its own, below the upload's.
    folder: PathBuf,
    pub(super) span: Span,
    /// Held as long as it is sent.
    _sender: Sender,
}

/// Files of which somebody sends a part, by its folder: two who send the same one would mix their bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending(Arc<Mutex<HashSet<PathBuf>>>);

impl Sending {
    fn begin(&self, folder: &Path) -> Option<Sender> {
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        is_first.then(|| Sender { all: self.clone(), folder: folder.to_owned() })
    }

    pub(super) fn has(&self, folder: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(folder)
    }
}

#[derive(Debug)]
struct Sender {
    all: Sending,
    folder: PathBuf,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.folder);
    }
}

/// The folder of a file's part.
pub(super) fn folder(upload: &Path, path: &str) -> PathBuf {
    upload.join(PARTS).join(hex(&Sha256::digest(path)))
}

/// How many bytes of a file came, and how many it is to have; none where there is no part.
pub(super) fn there(folder: &Path) -> Option<(u64, u64)> {
    let entry = fs::read_dir(folder).ok()?.next()?.ok()?;
    Some((entry.metadata().ok()?.len(), entry.file_name().to_str()?.parse().ok()?))
}

impl Part {
    /// Begins a file, or goes on with what came of it; the file to write behind, and how many bytes it has.
    ///
    /// # Errors
    /// If somebody else sends it, or the bytes are not those that are missing next.
    pub(super) fn begin(
        (folders, sending): (&Folders, &Sending),
        tenant: i64,
        (upload, path): (&Path, &str),
        span: Span,
    ) -> Result<(Self, NamedTempFile, u64), HostError> {
        let folder = folder(upload, path);
        if span.total > MOST_FILE_BYTES {
            return Err(HostError::Refused(format!("a file of more than {MOST_FILE_BYTES} bytes is not taken")));
        }
        let part = match sending.begin(&folder) {
            Some(sender) => Self { folder, span, _sender: sender },
            None => return Err(HostError::Sending(path.chars().take(64).collect())),
        };
        let kept = part.folder.join(span.total.to_string());
        let there = kept.metadata().map_or(0, |facts| facts.len());
        if span.first == 0 {
            discard(folders, tenant, &part.folder)?;
            return Ok((part, folders.part(tenant)?, 0));
        }
        if span.first != there {
            return Err(HostError::Offset { there, total: span.total });
        }
        let failed = |error: std::io::Error| match error.kind() {
            // Discarded meanwhile.
            ErrorKind::NotFound => HostError::Offset { there: 0, total: span.total },
            _ => disk("go on with the file")(error),
        };
        let (_, place) = folders.part(tenant)?.into_parts();
        // Before it is moved: what cannot be opened stays where it is, and counts there.
        let file = File::options().append(true).open(&kept).map_err(failed)?;
        fs::rename(&kept, &place).map_err(failed)?;
        Ok((part, NamedTempFile::from_parts(file, place), there))
    }

    /// Keeps what came, for whoever goes on with it. The upload is there, and not finished.
    pub(super) fn keep(&self, came: NamedTempFile, bytes: u64) -> std::io::Result<()> {
        let made = |folder: &Path| match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
        // The last byte is sent again where all came and nobody put it in its place: no range is empty.
        if bytes >= self.span.total {
            came.as_file().set_len(self.span.total - 1)?;
        }
        // One after the other: an upload that was deleted is not made again.
        self.folder.parent().map_or(Ok(()), made)?;
        made(&self.folder)?;
        came.persist(self.folder.join(self.span.total.to_string()))?;
        Ok(())
    }
}

/// Removes parts, of one file or of a whole upload.
pub(super) fn discard(folders: &Folders, tenant: i64, parts: &Path) -> Result<(), HostError> {
    // Most files came in one piece, and pay for no more than this look.
    if !parts.is_dir() {
        return Ok(());
    }
    // At once, and measured then: somebody may just go on with one, or discard them as well.
    folders.take_away(tenant, parts)?.map_or(Ok(()), |taken| folders.remove(taken))
}

/// Slots of which each is one caller's at a time.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    const fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Waits until one is free, and takes it.
    pub(super) fn wait(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

/// One of them, until it is dropped.
#[must_use]
pub(super) struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub fn digest(file: &Path) -> std::io::Result<[u8; 32]> {
    let (mut file, mut hash, mut buffer) = (File::open(file)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::folders::ENTRY;
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them_and_nothing_else_is() {
        let span = Span { first: 5, end: 10, total: 12 };
        assert_eq!((Span::parse("bytes 5-9/12"), span.bytes()), (Some(span), 5));
        assert!(Span::parse("bytes 0-0/1").is_some());
        for bad in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 5-9/*",
            "bytes */12",
            "bytes 9-5/12",
            "bytes 5-12/12",
            "bytes -5/12",
            "bytes +5-9/12",
            "bytes 5-9/12 ",
            "bytes  5-9/12",
            "items 5-9/12",
            "bytes 0-0/99999999999999999999",
            "bytes 5-9/12, bytes 0-1/2",
        ] {
            assert_eq!(Span::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn one_at_a_time_sends_a_file() {
        let sending = Sending::default();
        let first = sending.begin(Path::new("a")).unwrap();
        assert!(sending.begin(Path::new("a")).is_none() && sending.begin(Path::new("b")).is_some());
        assert!(sending.has(Path::new("a")) && !sending.has(Path::new("b")));
        drop(first);
        assert!(sending.begin(Path::new("a")).is_some());
    }

    #[test]
    fn what_several_discard_at_once_is_given_back_once() {
        let data = tempfile::tempdir().unwrap();
        let folders = Folders::open(data.path()).unwrap();
        let upload = folders.upload(1, "u");
        let part = folder(&upload, "f");
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("10"), "1234").unwrap();
        fs::write(upload.join("other"), "123").unwrap();
        folders.count(1);
        assert_eq!(folders.counted(1), 7 + 2 * ENTRY);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| discard(&folders, 1, &part).unwrap());
            }
        });
        assert_eq!((part.exists(), folders.counted(1)), (false, 3 + ENTRY));
    }

    #[test]
    fn a_part_that_cannot_be_opened_stays() {
        let data = tempfile::tempdir().unwrap();
        let (folders, sending) = (Folders::open(data.path()).unwrap(), Sending::default());
        let (upload, total) = (folders.upload(1, "u"), 1 << 20);
        let begin = |first| Part::begin((&folders, &sending), 1, (&upload, "f"), Span { first, end: total, total });
        assert!(matches!(begin(4), Err(HostError::Offset { there: 0, .. })));
        // What is no file cannot be written to, by nobody.
        let kept = folder(&upload, "f").join(total.to_string());
        fs::create_dir_all(kept.join("in it")).unwrap();
        let there = fs::metadata(&kept).unwrap().len();
        assert!(matches!(begin(there), Err(HostError::Disk { .. })));
        assert!(kept.join("in it").is_dir());
    }

    #[test]
    fn who_finds_no_slot_waits_for_one() {
        let slots = Slots::new(1);
        let first = slots.wait();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| drop(slots.wait()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!second.is_finished());
            drop(first);
        });
        assert_eq!(*slots.free.lock().unwrap(), 1);
    }
}
