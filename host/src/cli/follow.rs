//! `run --follow`: a job's process below a host that stays. What it is told comes by stdin, and what it tells goes to
//! stdout.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use scorehost::job::Control;
use scorehost::output::{self, Begun, Existing};
use scorehost::service::host::{DeviceView, Told};
use scorehost::service::{self, Event, Outcome, RunRequest};

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
    let mut told: Option<Instant> = None;
    let outcome = service::run(&request, &control, &mut |event| match event {
        // Not earlier: its thread would be outside.
        Event::Confined(_) => listening = stop_with_stdin(&control),
        Event::Started { progress, device, .. } => {
            let (name, description) = (device.name.clone(), device.description.clone());
            tell(&Told::Device(DeviceView { name, description }));
            tell(&Told::Progress(progress.into()));
        }
        Event::Progress(progress) => {
            if told.is_none_or(|told| told.elapsed() >= EVENT) {
                told = Some(Instant::now());
                tell(&Told::Progress(progress.into()));
            }
        }
    })?;
    listening.map(|()| Some(outcome))
}

fn tell(told: &Told) {
    say!("{}", serde_json::json!(told));
}

/// A word, or the end, of stdin stops the job: its host wishes so, or is gone.
fn stop_with_stdin(control: &Control) -> anyhow::Result<()> {
    let control = control.clone();
    let wait = move || {
        // An error is an end as well.
        let _ = std::io::stdin().lock().read(&mut [0; 16]);
        control.stop();
        std::thread::sleep(PATIENCE);
        std::process::exit(FAILED.into());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait).map(drop).context("cannot listen to stdin")
}
