//! Processes that answer once: one that checks a deployment, and one that looks at the devices.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::super::catalog::Placed;
use super::super::{HostError, disk};
use super::{without_folders, without_keys};

/// What is read of what one prints.
const MOST_FACTS: u64 = 4 << 20;
/// How long a check may take: its parts, compiling and a model's first opening, have limits of their own below this.
const CHECK: Duration = Duration::from_secs(600);
/// How long looking at the devices may take: each adapter is opened, and tests itself.
const LOOK: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// What is known of a deployment that was checked.
#[derive(Debug)]
pub(in super::super) struct Checked {
    pub(in super::super) name: String,
    pub(in super::super) script: Option<String>,
}

#[derive(Deserialize)]
struct Facts {
    name: String,
    script: Option<ScriptFacts>,
}

#[derive(Deserialize)]
struct ScriptFacts {
    digest: String,
}

/// Checks a deployment as `scorehost check` does; `tenant` is the folder of all that is the tenant's.
pub(in super::super) fn check(program: &Path, placed: &Placed, tenant: &Path) -> Result<Checked, HostError> {
    let failed = disk("check the deployment");
    let mut command = Command::new(program);
    // Its stdin ends with this process, and it with that.
    command.arg("check").arg(&placed.file).args(["--json", "--follow"]).args(placed.arguments());
    let Some(said) = finished(command, CHECK).map_err(&failed)? else {
        return Err(HostError::Refused(format!("the deployment was not checked within {} s", CHECK.as_secs())));
    };
    if !said.success {
        let text = String::from_utf8_lossy(&said.stderr);
        let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        return Err(HostError::Refused(without_folders(text, placed, tenant)));
    }
    let facts: Facts = serde_json::from_slice(&said.stdout).map_err(|e| failed(std::io::Error::other(e)))?;
    Ok(Checked { name: facts.name, script: facts.script.map(|script| script.digest) })
}

/// What models can run on here, as `scorehost devices --json` has it: drivers are not opened in the host's own process.
pub(in super::super) fn devices(program: &Path) -> Result<serde_json::Value, HostError> {
    let failed = disk("look at the devices");
    let mut command = Command::new(program);
    command.arg("devices").arg("--json");
    let said = finished(command, LOOK).map_err(&failed)?;
    let Some(said) = said.filter(|said| said.success) else {
        return Err(failed(std::io::Error::other(format!("`devices` failed, or took over {} s", LOOK.as_secs()))));
    };
    serde_json::from_slice(&said.stdout).map_err(|e| failed(std::io::Error::other(e)))
}

/// What a process said that has ended.
struct Said {
    success: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs a process to its end; none if it took longer.
fn finished(mut command: Command, most: Duration) -> std::io::Result<Option<Said>> {
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::piped()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    without_keys(&mut command);
    let mut child = command.spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > most {
            // It may have ended by itself just now.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    };
    let read = |mut file: File| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MOST_FACTS).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(Some(Said { success: status.success(), stdout: read(stdout)?, stderr: read(stderr)? }))
}
