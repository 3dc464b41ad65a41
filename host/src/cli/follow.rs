//! `run --follow`: a job's process below a host that stays. What it is told comes by stdin, and what it tells goes to
//! stdout. `check --follow` ends with its host, and tells no more than `check`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use scorehost::job::{Control, Progress};
use scorehost::output::{self, Begun, Existing};
use scorehost::service::host::{DeviceView, FINISH, ProgressView, Teller};
use scorehost::service::{self, Event, Input, Outcome, RunRequest};

use super::{FAILED, say};

/// How often the host is told of progress.
const EVENT: Duration = Duration::from_millis(250);

/// How long a job may take to stop before its process ends all the same: what is committed is safe.
const PATIENCE: Duration = Duration::from_secs(8);

/// Begins the job, or goes on with it where it was begun; nothing if it was complete.
pub(crate) fn follow(mut request: RunRequest, lock: &Path) -> anyhow::Result<Option<Outcome>> {
    // An earlier process of this job may still be stopping, if its host was killed: nothing is looked at before it is gone.
    // Held until this process ends, however it ends.
    let lock = File::create(lock).context("cannot open the job's lock")?;
    lock.lock().context("cannot lock the job")?;
    request.existing = match output::begun(&request.output)? {
        Begun::Complete => return Ok(None),
        Begun::Partly => Existing::Resume,
        Begun::Not => Existing::Overwrite,
    };
    let control = Control::default();
    let mut listening = Ok(());
    let (mut teller, mut told, mut latest) = (Teller::default(), None::<Instant>, None);
    let tell = |teller: &mut Teller, progress: &Progress| {
        say!("{}", serde_json::json!(teller.line(ProgressView::from(progress))));
    };
    let outcome = service::run(&request, &control, &mut |event| match event {
        // Not earlier: its thread would be outside.
        Event::Confined(_) => listening = stop_with_stdin(&control, &request.input),
        Event::Started { progress, device, .. } => {
            let (name, description) = (device.name.clone(), device.description.clone());
            teller.device = Some(DeviceView { name, description });
            tell(&mut teller, progress);
        }
        Event::Committed(committed) => teller.hear(committed),
        Event::Progress(progress) => {
            if told.is_none_or(|told| told.elapsed() >= EVENT) {
                (told, latest) = (Some(Instant::now()), None);
                tell(&mut teller, progress);
            } else {
                latest = Some(*progress);
            }
        }
    });
    // Before what went wrong: what was committed was committed.
    if let Some(latest) = latest {
        tell(&mut teller, &latest);
    }
    let outcome = outcome?;
    listening.map(|()| Some(outcome))
}

/// The word `finish` has the job end with the mini-batches that run; any other but word of files, or the end of stdin,
/// stops it: its host wishes so, or is gone.
fn stop_with_stdin(control: &Control, input: &Input) -> anyhow::Result<()> {
    let (control, input) = (control.clone(), input.clone());
    let wait = move || {
        let is_finish = |word: &[u8]| {
            let is_it = word.starts_with(FINISH);
            if is_it {
                control.finish();
            }
            is_it
        };
        match input {
            Input::Place(spool) => spool.listen(|line| is_finish(line.as_bytes())),
            Input::Path(_) => {
                let (mut stdin, mut word) = (std::io::stdin().lock(), [0; 16]);
                // An error is an end as well.
                while stdin.read(&mut word).is_ok_and(|read| is_finish(&word[..read])) {}
            }
        }
        control.stop();
        std::thread::sleep(PATIENCE);
        std::process::exit(FAILED.into());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait).map(drop).context("cannot listen to stdin")
}

/// Ends this process when stdin does: whoever waits for its answer is gone.
pub(crate) fn end_with_stdin() -> anyhow::Result<()> {
    let wait = || {
        // An error is an end as well.
        let _ = std::io::stdin().lock().read(&mut [0; 16]);
        std::process::exit(FAILED.into());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait).map(drop).context("cannot listen to stdin")
}
