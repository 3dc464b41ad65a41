//! Progress of a job: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use scorehost::job::Progress;
use scorehost::service::Event;

use super::note;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// `1 file`, `2 files`, `2 mini-batches`.
pub(crate) fn count(n: u64, what: &str) -> String {
    let ending = match n {
        1 => "",
        _ if what.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{n} {what}{ending}")
}

/// Shows a job's events on stderr.
pub(crate) struct Watcher {
    bar: Option<ProgressBar>,
    began: Instant,
    files_before: u64,
    last_line: Instant,
    quiet: bool,
}

impl Watcher {
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self { bar: None, began: now, files_before: 0, last_line: now, quiet }
    }

    pub(crate) fn show(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            Event::Confined(_) | Event::Committed(_) => {}
            Event::Started { job, device, progress, not_used, built_in } => {
                if !not_used.is_empty() {
                    note!("note: not used here: {}", not_used.join(", "));
                }
                let (files, mini_batches) = (count(progress.files, "file"), count(progress.mini_batches, "mini-batch"));
                note!("{job}: {files} in {mini_batches}");
                note!("device: {} ({}), since {}", device.name, device.description, device.reason);
                if let Some(built_in) = built_in {
                    note!("no script: the built-in scorer {built_in}");
                }
                if progress.tally.mini_batches > 0 {
                    note!("resuming after {}", count(progress.tally.mini_batches, "mini-batch"));
                }
                self.begin(progress);
            }
            Event::Progress(progress) => self.advance(progress),
        }
    }

    /// Shows a job that has got so far.
    pub(crate) fn begin(&mut self, progress: &Progress) {
        self.began = Instant::now();
        self.last_line = self.began;
        self.files_before = progress.tally.files;
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::new(progress.files).with_position(progress.tally.files);
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} files, {msg}, {eta} left");
        bar.set_style(style.expect("the template is well-formed; this is a bug"));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Shows how far it is now.
    pub(crate) fn advance(&mut self, progress: &Progress) {
        let text = self.text(progress);
        if let Some(bar) = &self.bar {
            bar.set_position(progress.tally.files);
            bar.set_message(text);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let Progress { tally, mini_batches, files, .. } = progress;
            let (done, left) = (tally.mini_batches, self.seconds_left(progress));
            note!("{}/{files} files, {done}/{mini_batches} mini-batches, {text}, {left:.0} s left", tally.files);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self, progress: &Progress) -> f64 {
        progress.tally.files.saturating_sub(self.files_before) as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    fn seconds_left(&self, progress: &Progress) -> f64 {
        progress.files.saturating_sub(progress.tally.files) as f64 / self.rate(progress).max(1e-3)
    }

    fn text(&self, progress: &Progress) -> String {
        let mut text = format!("{:.1} files/s", self.rate(progress));
        if progress.tally.failed > 0 {
            text.push_str(&format!(", {} failed", progress.tally.failed));
        }
        if progress.retries > 0 {
            text.push_str(&format!(", {} retries", progress.retries));
        }
        text
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
