//! What a script prints during one attempt: stdout, stderr and `log`, in order, bounded.
//! What goes in is a guest's bytes; what comes out is text without terminal escapes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// How important a line is, as the deployment's `logging_level` orders them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the script's author.
    Debug,
    /// Progress.
    Info,
    /// Something odd.
    Warning,
    /// Something failed.
    Error,
}

impl Level {
    /// The level's name in capitals, as lines begin with it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }
}

/// Collects what one instance prints; shared by its stdout, stderr and `log`. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Buffer>>);

struct Buffer {
    text: Vec<u8>,
    /// The end of stderr on its own: where a panic's text is.
    stderr: VecDeque<u8>,
    limit: usize,
    dropped: usize,
    at_least: Level,
}

/// More than any panic message; what came last is kept.
const STDERR_LIMIT: usize = 16 << 10;

/// What one attempt printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// Everything, in order, with a last line that says how much the limit cut off.
    pub text: String,
    /// The end of stderr alone.
    pub stderr: String,
}

impl Log {
    pub(crate) fn new(limit: usize, at_least: Level) -> Self {
        Self(Arc::new(Mutex::new(Buffer { text: Vec::new(), stderr: VecDeque::new(), limit, dropped: 0, at_least })))
    }

    /// Adds a line of `log`.
    pub(crate) fn line(&self, level: Level, message: &str) {
        let mut buffer = self.lock();
        if level >= buffer.at_least {
            // In parts: a guest's line may be as long as its memory.
            for part in [level.name(), " ", message, "\n"] {
                buffer.add(part.as_bytes());
            }
        }
    }

    /// What was printed since the last call.
    pub(crate) fn take(&self) -> Printed {
        let mut buffer = self.lock();
        let mut text = printable(&std::mem::take(&mut buffer.text));
        let dropped = std::mem::take(&mut buffer.dropped);
        if dropped > 0 {
            text.push_str(&format!("\n[{dropped} bytes more, past the limit of limits.log_bytes]\n"));
        }
        let stderr = Vec::from(std::mem::take(&mut buffer.stderr));
        Printed { text, stderr: printable(&stderr) }
    }

    /// The end of stderr since the last [`Log::take`].
    pub(crate) fn peek_stderr(&self) -> String {
        printable(self.lock().stderr.make_contiguous())
    }

    pub(crate) fn stdout(&self) -> Stream {
        Stream { log: self.clone(), is_stderr: false }
    }

    pub(crate) fn stderr(&self) -> Stream {
        Stream { log: self.clone(), is_stderr: true }
    }

    /// A panic while the lock was held cannot leave bytes in a state worth refusing.
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }
}

/// Guest bytes as text that cannot steer a terminal: control characters other than newline and tab are shown as `?`.
pub fn printable(bytes: &[u8]) -> String {
    let safe = |c: char| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c };
    String::from_utf8_lossy(bytes).chars().map(safe).collect()
}

/// Stdout or stderr of a guest. Writing never blocks and never fails: what is past the limit is counted.
#[derive(Clone)]
pub(crate) struct Stream {
    log: Log,
    is_stderr: bool,
}

impl Stream {
    fn put(&self, bytes: &[u8]) {
        let mut buffer = self.log.lock();
        if self.is_stderr {
            buffer.stderr.extend(&bytes[bytes.len().saturating_sub(STDERR_LIMIT)..]);
            let excess = buffer.stderr.len().saturating_sub(STDERR_LIMIT);
            buffer.stderr.drain(..excess);
        }
        buffer.add(bytes);
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        // One write's worth of memory on the host.
        Ok(64 << 10)
    }
}

impl Pollable for Stream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let log = Log::new(10, Level::Info);
        log.stdout().put(&[b'a'; 1000]);
        let text = log.take().text;
        assert!(text.starts_with("aaaaaaaaaa\n["), "{text}");
        assert!(text.contains("990 bytes more"), "{text}");
        assert_eq!(log.take(), Printed::default());
    }

    #[test]
    fn terminal_escapes_do_not_pass() {
        assert_eq!(printable(b"a\x1b[31mb\r\n\tc\x07"), "a?[31mb?\n\tc?");
    }

    #[test]
    fn lines_below_the_level_are_dropped() {
        let log = Log::new(100, Level::Warning);
        log.line(Level::Info, "no");
        log.line(Level::Error, "yes");
        assert_eq!(log.take().text, "ERROR yes\n");
    }
}
