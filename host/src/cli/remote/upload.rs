//! Sending files. What goes in: a file or a folder. What comes out: an upload of the host's that is finished.
//!
//! Each file is there whole or not at all, so that what broke off goes on with the files that are missing; a large one goes
//! on with the bytes that are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use scorehost::service::ServiceError;
use scorehost::service::host::{UploadFileView, UploadView, file_digest};
use scorehost::store;

use super::super::progress::count;
use super::super::{INTERRUPTED, note};
use super::client::{CONNECTIONS, Client, Rest, retried};
use super::error::{RemoteError, plain};
use super::path::{encoded, encoded_path};

/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(200);
/// A file of so many bytes goes on from where it broke off; a smaller one is sent again sooner than it is asked for.
const LARGE: u64 = 4 << 20;
/// A host notices within half a minute that nobody sends any more.
const NOTICED: Duration = Duration::from_secs(45);
/// How often one after the other a large file breaks off without a byte more that came.
const MOST_TRIES: u32 = 6;

/// A file that is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it lies here.
    pub(super) file: PathBuf,
    /// What the host calls it.
    pub(super) path: String,
    bytes: u64,
}

impl Piece {
    pub(super) fn new(file: PathBuf, path: String) -> Result<Self, RemoteError> {
        let bytes = std::fs::metadata(&file).map_err(|e| unreadable(&file, e))?.len();
        Ok(Self { file, path, bytes })
    }
}

fn unreadable(file: &Path, source: std::io::Error) -> RemoteError {
    RemoteError::File { what: "read", path: file.to_owned(), source }
}

/// The file at `path`, or every file below it, in order; the host is to find them below `below`, which is empty or ends
/// with `/`.
pub(super) fn pieces(path: &Path, below: &str) -> anyhow::Result<Vec<Piece>> {
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| RemoteError::Name(path.to_owned()))?;
        return Ok(vec![Piece::new(path.to_owned(), format!("{below}{name}"))?]);
    }
    let mut names = Vec::new();
    store::list(path, None, |name| names.push(String::from_utf8(name.to_vec()))).map_err(ServiceError::from)?;
    let lost = |bytes: &[u8]| RemoteError::Name(path.join(String::from_utf8_lossy(bytes).as_ref()));
    let mut names = names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| lost(e.as_bytes()))?;
    names.sort();
    if names.is_empty() {
        return Err(RemoteError::Empty(path.to_owned()).into());
    }
    let piece = |name: String| Piece::new(path.join(&name), format!("{below}{name}"));
    Ok(names.into_iter().map(piece).collect::<Result<_, _>>()?)
}

/// An upload that is not finished yet.
pub(super) struct Upload<'c> {
    client: &'c Client,
    begun: UploadView,
    /// Whether it was begun before this command.
    is_earlier: bool,
}

impl<'c> Upload<'c> {
    /// Begins an upload, or goes on with one.
    pub(super) fn begin(client: &'c Client, earlier: Option<&str>) -> Result<Self, RemoteError> {
        let begun = match earlier {
            Some(id) => client.get_files(&format!("/uploads/{}", encoded(id)))?,
            None => client.ask_for("/uploads")?,
        };
        Ok(Self { client, begun, is_earlier: earlier.is_some() })
    }

    pub(super) fn id(&self) -> &str {
        &self.begun.id
    }

    /// Deletes it, where this command began it: once it was refused, or is copied to where it belongs, nobody needs it.
    pub(super) fn drop_own(&self) {
        if !self.is_earlier {
            // It goes by its age, where it does not now.
            let _ = self.client.delete(&self.address());
        }
    }

    /// On Ctrl-C, tells how to go on: by a verb's `--upload`, or that nothing is to be done.
    pub(super) fn tell_when_interrupted(&self, again: Option<&str>) {
        let id = plain(self.id());
        let cure = match again {
            Some(verb) => format!("`{verb} … --upload {id}` sends the files that are missing"),
            None => "send it again".to_owned(),
        };
        let told = move || {
            note!("\nupload {id} broke off\nhint: {cure}; the host removes what nobody goes on with after a while");
            std::process::exit(INTERRUPTED.into());
        };
        // Without it, the process ends and says nothing.
        let _ = ctrlc::set_handler(told);
    }

    fn address(&self) -> String {
        format!("/uploads/{}", encoded(self.id()))
    }

    fn file(&self, piece: &Piece) -> String {
        format!("{}/files/{}", self.address(), encoded_path(&piece.path))
    }

    /// Sends what the host does not have, and finishes.
    pub(super) fn send(&self, pieces: &[Piece]) -> Result<(), RemoteError> {
        let began = Instant::now();
        let missing = missing(&self.begun, pieces);
        let bytes = missing.iter().map(|piece| piece.bytes).sum();
        let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}, {msg}, {eta} left");
        let bar = ProgressBar::new(bytes).with_style(style.expect("the template is well-formed; this is a bug"));
        bar.enable_steady_tick(TICK);
        let spared = AtomicU64::new(0);
        let done = self.send_all(&missing, &bar, &spared);
        bar.finish_and_clear();
        done?;
        if !self.begun.finished {
            retried(|| self.client.ask(&format!("{}/finish", self.address())))?;
        }
        let (files, before) = (count(missing.len() as u64, "file"), pieces.len() - missing.len());
        let before = if before > 0 { format!("; {before} were there") } else { String::new() };
        let (seconds, spared) = (began.elapsed().as_secs_f64(), spared.into_inner());
        let parts = if spared > 0 { format!("; {} of these were there", HumanBytes(spared)) } else { String::new() };
        note!("sent {files}, {} in {seconds:.1} s{parts}{before}: {}", HumanBytes(bytes), plain(self.id()));
        Ok(())
    }

    /// Several at once: each waits for the host's disk. The first that fails ends it. Adds up what the host had of files from
    /// before.
    fn send_all(&self, pieces: &[&Piece], bar: &ProgressBar, spared: &AtomicU64) -> Result<(), RemoteError> {
        let (next, sent, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let whole = || retried(|| self.send_one(piece, bar).map(|()| 0));
                let done = if piece.bytes < LARGE { whole() } else { self.send_large(piece, bar) };
                if let Ok(there) = done {
                    spared.fetch_add(there, Ordering::Relaxed);
                } else if let Err(error) = done {
                    next.store(pieces.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return;
                }
                let sent = sent.fetch_add(1, Ordering::Relaxed) + 1;
                bar.set_message(format!("{sent}/{} files", pieces.len()));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS.min(pieces.len()) {
                scope.spawn(work);
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }

    fn send_one(&self, piece: &Piece, bar: &ProgressBar) -> Result<(), RemoteError> {
        let file = File::open(&piece.file).map_err(|e| unreadable(&piece.file, e))?;
        let path = self.file(piece);
        let read = Arc::<AtomicU64>::default();
        let counted = Counted { file, bar: bar.clone(), read: Arc::clone(&read) };
        let done = self.client.put(&path, piece.bytes, counted);
        if done.is_err() {
            bar.dec(read.load(Ordering::Relaxed));
        }
        done
    }

    /// Sends a file from where it broke off, as often as it goes on; what the host had of it before.
    fn send_large(&self, piece: &Piece, bar: &ProgressBar) -> Result<u64, RemoteError> {
        let before = if self.is_earlier { retried(|| self.there(piece))? } else { 0 };
        let (mut first, mut tries, mut anew, mut digest) = (before, 0, 0, None);
        loop {
            let error = match self.send_rest(piece, first, &mut digest, bar) {
                Ok(()) => return Ok(before.min(first)),
                Err(error) => error,
            };
            match error {
                // What is there is of another file, such as this one before it changed.
                RemoteError::Answer { status: 400, .. } if first > 0 => {
                    // Counted for good: one that changes all the time would never be there.
                    anew += 1;
                    if anew > MOST_TRIES {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(200 << anew));
                    first = 0;
                    continue;
                }
                // The host has not noticed yet that the connection is gone, or has more or less than it said.
                RemoteError::Answer { status: 409, .. } => {}
                ref error if error.is_worth_a_retry() => {}
                error => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(200 << tries));
            let now = retried(|| self.there(piece))?;
            tries = if now > first { 0 } else { tries + 1 };
            if tries > MOST_TRIES {
                return Err(error);
            }
            first = now;
        }
    }

    fn send_rest(
        &self,
        piece: &Piece,
        first: u64,
        digest: &mut Option<[u8; 32]>,
        bar: &ProgressBar,
    ) -> Result<(), RemoteError> {
        let failed = |error| unreadable(&piece.file, error);
        let mut file = File::open(&piece.file).map_err(failed)?;
        // Only where it goes on: the file may have changed since its beginning was sent. Where it begins anew, it may have
        // since it was digested.
        if first == 0 {
            *digest = None;
        } else if digest.is_none() {
            *digest = Some(file_digest(&piece.file).map_err(failed)?);
        }
        file.seek(SeekFrom::Start(first)).map_err(failed)?;
        let rest = Rest { first, total: piece.bytes, digest: *digest };
        let read = Arc::<AtomicU64>::default();
        bar.inc(first);
        let counted = Counted { file, bar: bar.clone(), read: Arc::clone(&read) };
        let done = self.client.put_rest(&self.file(piece), &rest, counted);
        if done.is_err() {
            bar.dec(first + read.load(Ordering::Relaxed));
        }
        done
    }

    /// How much the host has of a file, once nobody sends it.
    fn there(&self, piece: &Piece) -> Result<u64, RemoteError> {
        let began = Instant::now();
        loop {
            let found: UploadFileView = match self.client.get(&self.file(piece)) {
                Err(RemoteError::Answer { status: 404, .. }) => return Ok(0),
                found => found?,
            };
            if !found.sending {
                let is_part = !found.whole && found.total == piece.bytes && found.bytes < piece.bytes;
                return Ok(if is_part { found.bytes } else { 0 });
            }
            if began.elapsed() > NOTICED {
                let text = format!("`{}` of upload `{}` is being sent by somebody else", piece.path, plain(self.id()));
                return Err(RemoteError::Use { text, hint: "wait until that has ended" });
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Files that the host lacks, or has in another size.
fn missing<'p>(begun: &UploadView, pieces: &'p [Piece]) -> Vec<&'p Piece> {
    let there: HashMap<&str, u64> = begun.files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
    pieces.iter().filter(|piece| there.get(piece.path.as_str()) != Some(&piece.bytes)).collect()
}

/// A file whose bytes move the bar as they leave.
struct Counted {
    file: File,
    bar: ProgressBar,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(into)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        self.bar.inc(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use scorehost::service::host::FileView;

    use super::super::client::tests::{answer, host};
    use super::*;

    #[test]
    fn a_folder_is_sent_in_order_and_without_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/.scorehost")).unwrap();
        for (name, text) in [("b.txt", "12"), ("a/c d.txt", "1"), ("a/.scorehost/x", "1"), (".hidden", "1")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let found = pieces(folder.path(), "model/").unwrap();
        let found: Vec<_> = found.iter().map(|piece| (piece.path.as_str(), piece.bytes)).collect();
        assert_eq!(found, [("model/a/c d.txt", 1), ("model/b.txt", 2)]);
        let alone = pieces(&folder.path().join("b.txt"), "").unwrap();
        assert_eq!((alone.len(), alone[0].path.as_str()), (1, "b.txt"));
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(pieces(&folder.path().join("empty"), "").is_err());
        assert!(pieces(&folder.path().join("lost"), "").is_err());
    }

    #[test]
    fn only_what_the_host_lacks_is_sent_again() {
        let piece = |path: &str, bytes| Piece { file: PathBuf::new(), path: path.to_owned(), bytes };
        let file = |path: &str, bytes| FileView { path: path.to_owned(), bytes };
        let begun = UploadView {
            id: "u".into(),
            finished: false,
            begun: String::new(),
            files: vec![file("a", 1), file("b", 2)],
        };
        let pieces = [piece("a", 1), piece("b", 3), piece("c", 1)];
        let left: Vec<_> = missing(&begun, &pieces).into_iter().map(|piece| piece.path.as_str()).collect();
        assert_eq!(left, ["b", "c"]);
    }

    #[test]
    fn a_file_whose_connection_breaks_is_sent_again_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a b.txt"), "twelve bytes").unwrap();
        let begun = r#"{"id":"upload-1","finished":false,"files":[]}"#;
        let answers = vec![
            answer("201 Created", begun),
            String::new(),
            answer("503 Service Unavailable", "{}"),
            answer("204 No Content", ""),
            answer("200 OK", begun),
        ];
        let (client, asked) = host(answers);
        let pieces = pieces(folder.path(), "").unwrap();
        Upload::begin(&client, None).unwrap().send(&pieces).unwrap();
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("POST /v1/uploads "), "{}", asked[0]);
        for request in &asked[1..4] {
            assert!(request.starts_with("PUT /v1/uploads/upload-1/files/a%20b.txt "), "{request}");
            assert!(request.ends_with("\r\n\r\ntwelve bytes"), "{request}");
        }
        assert!(asked[4].starts_with("POST /v1/uploads/upload-1/finish "), "{}", asked[4]);
    }

    #[test]
    fn an_empty_file_is_sent_and_a_refusal_ends_the_upload() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let begun = r#"{"id":"upload-1","finished":false,"files":[]}"#;
        let refused = answer("403 Forbidden", r#"{"detail":"no"}"#);
        let (client, asked) = host(vec![answer("200 OK", begun), refused]);
        let error = Upload::begin(&client, Some("upload-1")).unwrap().send(&pieces(folder.path(), "").unwrap());
        assert_eq!(error.unwrap_err().to_string(), "no");
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("GET /v1/uploads/upload-1 "), "{}", asked[0]);
        assert!(asked[1].to_lowercase().contains("content-length: 0\r\n"), "{}", asked[1]);
    }

    #[test]
    fn a_file_that_begins_anew_is_digested_anew() {
        let folder = tempfile::tempdir().unwrap();
        let piece = Piece { file: folder.path().join("f"), path: "f".to_owned(), bytes: 12 };
        std::fs::write(&piece.file, "twelve bytes").unwrap();
        let begun = r#"{"id":"upload-1","finished":false,"files":[]}"#;
        let (client, asked) =
            host(vec![answer("201 Created", begun), answer("204 No Content", ""), answer("204 No Content", "")]);
        let (upload, bar) = (Upload::begin(&client, None).unwrap(), ProgressBar::hidden());
        let mut digest = Some([0; 32]);
        upload.send_rest(&piece, 0, &mut digest, &bar).unwrap();
        assert_eq!(digest, None);
        upload.send_rest(&piece, 7, &mut digest, &bar).unwrap();
        assert_eq!(digest, Some(file_digest(&piece.file).unwrap()));
        let asked: Vec<_> = asked.join().unwrap().iter().map(|request| request.to_lowercase()).collect();
        assert!(
            asked[1].contains("content-range: bytes 0-11/12\r\n") && !asked[1].contains("repr-digest"),
            "{}",
            asked[1]
        );
        assert!(
            asked[2].contains("content-range: bytes 7-11/12\r\n") && asked[2].contains("repr-digest"),
            "{}",
            asked[2]
        );
    }
}
