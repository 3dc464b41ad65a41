//! What a process is told, when it reads it or not.

use std::collections::VecDeque;
use std::io::Write;
use std::process::ChildStdin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::Tell;

/// Words that wait; of more, the process does not read them.
const MOST_WORDS: usize = 20;

/// What a job's process is to be told, for a thread that writes it: the process may take nothing, and nobody waits for
/// that.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    words: VecDeque<String>,
    /// The last that is known: earlier ones say less.
    have: Option<u64>,
    is_closed: bool,
}

impl Outbox {
    pub(super) fn say(&self, text: &str) {
        let mut waiting = self.waiting();
        if waiting.words.len() < MOST_WORDS {
            waiting.words.push_back(text.to_owned());
        }
        self.more.notify_one();
    }

    pub(super) fn tell(&self, tell: &Tell) {
        match tell {
            Tell::Have(until) => {
                let mut waiting = self.waiting();
                waiting.have = waiting.have.max(Some(*until));
                self.more.notify_one();
            }
            Tell::Listed | Tell::Lost(_) => self.say(&tell.line()),
        }
    }

    /// Nothing more is said: the process's stdin is closed.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.more.notify_one();
    }

    /// Writes what is said, until nothing more is, or nobody reads.
    pub(super) fn write(&self, mut stdin: ChildStdin) {
        loop {
            let mut waiting = self.waiting();
            while waiting.words.is_empty() && waiting.have.is_none() && !waiting.is_closed {
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let mut text: String = waiting.words.drain(..).collect();
            if let Some(until) = waiting.have.take() {
                text.push_str(&Tell::Have(until).line());
            }
            let is_closed = waiting.is_closed;
            drop(waiting);
            if stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_err() || is_closed {
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nobody_waits_for_a_process_that_takes_nothing() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::piped()).spawn().unwrap();
        let (outbox, stdin) = (Arc::new(Outbox::default()), child.stdin.take().unwrap());
        let writer = std::thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || outbox.write(stdin)
        });
        // More than any pipe holds.
        for until in 0..100_000 {
            outbox.tell(&Tell::Have(until));
            outbox.say(&"x".repeat(64 << 10));
        }
        outbox.close();
        child.kill().unwrap();
        child.wait().unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn the_last_word_of_files_comes_after_the_words_and_before_the_end() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (outbox, stdin) = (Outbox::default(), child.stdin.take().unwrap());
        (1..=5).for_each(|until| outbox.tell(&Tell::Have(until)));
        outbox.tell(&Tell::Listed);
        outbox.say("stop\n");
        outbox.close();
        outbox.write(stdin);
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "\"listed\"\nstop\n{\"have\":5}\n");
        child.wait().unwrap();
    }
}
