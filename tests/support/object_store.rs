//! An object store for tests: `tests/tools/object_store.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Place, Ran, python, root, scorehost};

/// A store with a folder's files in its bucket; gone when dropped.
pub(crate) struct Store {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl Store {
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let python = python("moto.server, boto3")?;
        let mut command = Command::new(python);
        command.arg(root().join("tests/tools/object_store.py")).arg(folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut store = Self { child, asks, answers, url: String::new() };
        store.url = store.answer();
        Some(store)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the store has ended");
        line.trim().to_owned()
    }

    /// Tells it what its script says it does, and waits for the answer.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        writeln!(self.asks, "{line}").unwrap();
        self.answer()
    }

    /// What finds the store: as for any of one's own that speaks S3.
    pub(crate) fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("AWS_ENDPOINT_URL", &self.url).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test")
    }

    /// Runs the deployment on a place.
    pub(crate) fn run(&self, place: &Place, input: &str, more: &[&str]) -> Ran {
        let arguments = [&["--device", "cpu"], more].concat();
        let mut command = place.command_of(Path::new(input), &arguments);
        let command = self.known_to(&mut command).env("SCOREHOST_STORE_SECONDS", "3");
        Ran::of(&command.output().unwrap(), &place.at("output"))
    }

    /// Publishes the output; the exit code and what was said.
    pub(crate) fn publish(&self, place: &Place, to: &str) -> (i32, String) {
        let mut command = scorehost();
        let command = self.known_to(command.arg("publish").arg(place.at("output")).arg(to));
        let ran = command.env("SCOREHOST_STORE_SECONDS", "3").output().unwrap();
        (ran.status.code().unwrap_or(-1), String::from_utf8_lossy(&ran.stderr).into_owned())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
