//! Jobs, from the wish to the download. What runs them is the scheduler's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rand::RngExt;
use sha2::{Digest, Sha256};

use super::folders::list;
use super::{
    Caller, FileView, Host, HostError, InputSpec, JobCheck, JobRequest, JobView, Scope, StoreUrl, disk, names, places,
    waits,
};
use crate::cache::hex;
use crate::deployment::{Settings, Spec, SpecError};
use crate::fault;
use crate::state::{Deployment, Job, JobStatus, NewJob, Page, StateError, Submitted, Usage};

/// Settings that one job replaces, and bytes of each.
const MOST_OVERRIDES: usize = 64;
const MOST_OVERRIDE: usize = 4096;
/// Bytes of an idempotency key.
const MOST_KEY: usize = 128;
/// Jobs of one page.
pub const MOST_PAGE: u32 = 200;

/// What an output holds that is not the caller's business.
pub(super) const HIDDEN: &str = ".scorehost";

/// A name that sorts by time and is not guessed.
pub(super) fn new_id(what: &str) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let digits: String = now.chars().filter(char::is_ascii_digit).collect();
    format!("{what}-{digits}-{:08x}", rand::rng().random::<u32>())
}

impl Host {
    /// Accepts a job for an endpoint: once this returns, it will run, whatever becomes of this process. The same key with
    /// the same request gives the same job; whether it is new comes with it.
    ///
    /// # Errors
    /// If the caller may not, something named is not there, or too many jobs wait.
    pub fn submit(
        &self,
        caller: &Caller,
        endpoint: &str,
        request: &JobRequest,
        key: Option<&str>,
    ) -> Result<(JobView, bool), HostError> {
        caller.may(Scope::Invoke)?;
        if key.is_some_and(|key| key.is_empty() || key.len() > MOST_KEY) {
            return Err(HostError::Refused(format!("the idempotency key is empty or over {MOST_KEY} bytes")));
        }
        may_replace_all(&request.set)?;
        let digest_of = |request: &JobRequest| {
            let body = serde_json::to_string(request).expect("a request of plain values is JSON; this is a bug");
            hex(&Sha256::digest(format!("{endpoint}\0{body}")))
        };
        let mut digest = digest_of(request);
        // The same files sent again are the same request; of files that are gone, their name has to do.
        let mut same = request.clone();
        if let (InputSpec::Upload(id), Some(_)) = (&mut same.input, key) {
            match self.upload_digest(caller, id) {
                Ok(of_files) => {
                    *id = of_files;
                    digest = format!("{digest} {}", digest_of(&same));
                }
                Err(HostError::Busy) => return Err(HostError::Busy),
                Err(_) => {}
            }
        }
        // What was accepted is the answer, whatever became of its input or its deployment since.
        if let Some(key) = key
            && let Some(job) = self.state.submitted(caller.tenant.id, key, &digest)?
        {
            return Ok((self.view(job)?, false));
        }
        let (deployment, size) = self.answering(caller, endpoint, request.deployment.as_deref(), &request.set)?;
        let _naming = self.remover.naming();
        self.allow(caller, request)?;
        let new = NewJob {
            id: new_id("job"),
            endpoint: endpoint.to_owned(),
            deployment: (deployment.name, deployment.version),
            input: serde_json::to_value(&request.input).expect("plain values are JSON; this is a bug"),
            output: request.output.as_ref().map(ToString::to_string),
            overrides: request.set.clone(),
            instances: size.0,
            memory: size.1,
            idempotency: key.map(str::to_owned),
            request: digest,
        };
        let (job, is_new) = match self.state.submit(caller.tenant.id, new, &caller.token)? {
            Submitted::New(job) => (job, true),
            Submitted::Again(job) => (job, false),
        };
        if is_new {
            self.metrics().job_accepted(&caller.tenant.name);
            if let Some((tracer, place)) = self.tracer().zip(caller.place.as_ref()) {
                tracer.remember(&job.id, place);
            }
            let (tenant, endpoint, deployment) = (&caller.tenant.name, &job.endpoint, &job.deployment);
            tracing::info!(job = job.id, tenant, endpoint, deployment, version = job.version, "job accepted");
        }
        self.scheduler.wake();
        // One that is new has used nothing.
        let view = if is_new { self.view_of(job, Usage::default()) } else { self.view(job) };
        Ok((view?, is_new))
    }

    /// Whether a job would be accepted now whose input is still to be sent: before somebody sends it for nothing.
    ///
    /// # Errors
    /// As [`Host::submit`], but for the input's.
    pub fn check_job(&self, caller: &Caller, endpoint: &str, wish: &JobCheck) -> Result<(), HostError> {
        caller.may(Scope::Invoke)?;
        may_replace_all(&wish.set)?;
        let (_, size) = self.answering(caller, endpoint, wish.deployment.as_deref(), &wish.set)?;
        self.allow_output(caller, wish.output.as_ref())?;
        Ok(self.state.admits(caller.tenant.id, size)?)
    }

    /// What would answer a job, with the instances that it asks for and the bytes that these may have.
    fn answering(
        &self,
        caller: &Caller,
        endpoint: &str,
        deployment: Option<&str>,
        set: &BTreeMap<String, String>,
    ) -> Result<(Deployment, (u64, u64)), HostError> {
        let named = deployment.map(names::versioned).transpose()?;
        let Some(deployment) = self.state.answering(caller.tenant.id, endpoint, named)? else {
            return Err(HostError::Refused(format!(
                "endpoint `{endpoint}` has no default deployment\nhint: name one, or set the endpoint's \
                 `defaults.deployment_name`"
            )));
        };
        let settings = settings(&deployment, set)?;
        let instances = settings.max_concurrency_per_instance.get().into();
        let memory = settings.limits.memory.saturating_mul(instances).min(i64::MAX.unsigned_abs());
        self.folders.count(caller.tenant.id);
        self.folders.take(&caller.tenant, 0)?;
        Ok((deployment, (instances, memory)))
    }

    /// Where a job's input lies on this machine.
    pub(super) fn input(&self, caller: &Caller, input: &InputSpec) -> Result<PathBuf, HostError> {
        match input {
            InputSpec::Upload(id) => self.finished_upload(caller, id),
            InputSpec::Path(path) => allowed(&self.options.allowed_inputs, path, caller.has(Scope::Admin)),
            InputSpec::Url(place) => Err(HostError::Refused(format!("`{place}` is not on this machine"))),
        }
    }

    /// Whether the caller may have this scored, and the output where they say.
    fn allow(&self, caller: &Caller, request: &JobRequest) -> Result<(), HostError> {
        match &request.input {
            InputSpec::Upload(_) | InputSpec::Path(_) => drop(self.input(caller, &request.input)?),
            InputSpec::Url(place) => {
                places::allowed(&self.options.allowed_places, caller.tenant(), place, "--allow-input")?;
            }
        }
        self.allow_output(caller, request.output.as_ref())
    }

    fn allow_output(&self, caller: &Caller, place: Option<&StoreUrl>) -> Result<(), HostError> {
        let Some(place) = place else { return Ok(()) };
        places::allowed(&self.options.allowed_outputs, caller.tenant(), place, "--allow-output")
    }

    /// One job, and why it waits if it does.
    ///
    /// # Errors
    /// If there is none.
    pub fn job(&self, caller: &Caller, name: &str) -> Result<JobView, HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let job = self.state.job(caller.tenant.id, name)?;
        let waits = self.state.waits(&job)?.map(|(one, before)| waits::why(&one, before, self.scheduler.places()));
        Ok(JobView { waits, ..self.view(job)? })
    }

    /// The tenant's jobs, the newest first, from before one of them on.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn jobs(
        &self,
        caller: &Caller,
        before: Option<&str>,
        endpoint: Option<&str>,
        status: Option<JobStatus>,
        most: u32,
    ) -> Result<Vec<JobView>, HostError> {
        caller.may(Scope::Read)?;
        let most = most.clamp(1, MOST_PAGE);
        let page = Page { before: before.map(str::to_owned), endpoint: endpoint.map(str::to_owned), status, most };
        self.state.jobs(caller.tenant.id, &page)?.into_iter().map(|job| self.view(job)).collect()
    }

    /// Asks a job to stop.
    ///
    /// # Errors
    /// If the caller may not, or there is none.
    pub fn cancel(&self, caller: &Caller, name: &str) -> Result<JobView, HostError> {
        caller.may(Scope::Invoke)?;
        let job = self.state.cancel(caller.tenant.id, name, &caller.token)?;
        self.scheduler.stop_job(name);
        self.view(job)
    }

    /// Lets a job that failed or was canceled go on with what it had not committed.
    ///
    /// # Errors
    /// If the caller may not, there is none, or it is complete.
    pub fn resume(&self, caller: &Caller, name: &str) -> Result<JobView, HostError> {
        caller.may(Scope::Invoke)?;
        let job = self.state.resume(caller.tenant.id, name, &caller.token)?;
        self.scheduler.wake();
        self.view(job)
    }

    /// The files of a job's output, once it ended.
    ///
    /// # Errors
    /// If there is none, or it has not ended.
    pub fn outputs(&self, caller: &Caller, name: &str) -> Result<Vec<FileView>, HostError> {
        let folder = self.output(caller, name)?;
        if folder.is_dir() { list(&folder, Some(HIDDEN)) } else { Ok(Vec::new()) }
    }

    /// A file of a job's output, with its size.
    ///
    /// # Errors
    /// If there is none, or the job has not ended.
    pub fn open_output(&self, caller: &Caller, name: &str, path: &str) -> Result<(File, u64), HostError> {
        let unknown = || StateError::Unknown { what: "file", name: path.chars().take(64).collect() };
        let folder = self.output(caller, name)?;
        let file = folder.join(names::path(path)?);
        // A script's files went through a check that lets no links in; this holds all the same.
        let real = file.canonicalize().map_err(|_| unknown())?;
        let is_below = folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        if !is_below || !real.is_file() {
            return Err(unknown().into());
        }
        let file = File::open(real).map_err(disk("read the file"))?;
        let bytes = file.metadata().map_err(disk("read the file"))?.len();
        Ok((file, bytes))
    }

    pub(super) fn output(&self, caller: &Caller, name: &str) -> Result<PathBuf, HostError> {
        caller.may_either(Scope::Read, Scope::Invoke)?;
        let job = self.state.job(caller.tenant.id, name)?;
        if !job.status.has_ended() {
            return Err(HostError::Refused(format!(
                "job `{name}` has not ended\nhint: its output appears when it has"
            )));
        }
        Ok(self.folders.job(job.tenant, &job.id).join("output"))
    }

    pub(super) fn view(&self, job: Job) -> Result<JobView, HostError> {
        let usage = self.state.usage_of_job(&job.id)?;
        self.view_of(job, usage)
    }

    fn view_of(&self, job: Job, usage: Usage) -> Result<JobView, HostError> {
        let input = serde_json::from_value(job.input)
            .map_err(|e| StateError::Damaged(format!("the input of job `{}`: {e}", job.id)))?;
        let heard = self.scheduler.heard(&job.id).filter(|_| !job.status.has_ended()).unwrap_or_default();
        Ok(JobView {
            canceling: job.cancel && !job.status.has_ended(),
            name: job.id,
            endpoint: job.endpoint,
            deployment: job.deployment,
            version: job.version,
            digest: job.folder,
            status: job.status,
            waits: None,
            input,
            output: job.output,
            set: job.overrides,
            progress: heard.progress,
            pace: heard.pace,
            device: heard.device,
            error: job.error,
            record: job.record,
            instances: job.instances,
            usage,
            starts: job.starts,
            created: job.created,
            started: job.started,
            ended: job.ended,
        })
    }
}

/// What a job of this deployment would run with.
fn settings(deployment: &Deployment, set: &BTreeMap<String, String>) -> Result<Settings, HostError> {
    let refused = |error: SpecError| {
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        HostError::Refused(format!("{}{hint}", fault::chain(&error)))
    };
    let mut spec = Spec::parse(&deployment.spec, Path::new("deployment.yml")).map_err(refused)?;
    for (key, value) in set {
        spec.set(key, value).map_err(refused)?;
    }
    Ok(spec.settings())
}

/// Whether a job may have such settings in the place of its deployment's.
fn may_replace_all(set: &BTreeMap<String, String>) -> Result<(), HostError> {
    let is_long = |text: &str| text.len() > MOST_OVERRIDE;
    if set.len() > MOST_OVERRIDES || set.iter().any(|(k, v)| is_long(k) || is_long(v)) {
        let text = format!("over {MOST_OVERRIDES} settings are replaced, or one is over {MOST_OVERRIDE} bytes");
        return Err(HostError::Refused(text));
    }
    // Whoever could replace these would choose what else of the host a job reads.
    if let Some(key) = set.keys().find(|key| !may_replace(key)) {
        return Err(HostError::Refused(format!(
            "`{key}` is not replaced by a job\nhint: `settings.…` but for its limits, `resources.…` and `tags.…` are"
        )));
    }
    Ok(())
}

fn may_replace(key: &str) -> bool {
    let may = ["settings.", "resources.", "tags."].iter().any(|section| key.starts_with(section));
    may && !key.starts_with("settings.limits.")
}

/// A path of the host's that the operator allows. Administrators are told what is allowed.
pub(super) fn allowed(roots: &[PathBuf], path: &str, is_admin: bool) -> Result<PathBuf, HostError> {
    let shown: String = path.chars().take(256).map(|c| if c.is_control() { '�' } else { c }).collect();
    let refused = |text: &str| Err(HostError::Refused(format!("`{shown}` {text}")));
    let written = Path::new(path);
    // With `..` after a name, whether it is taken would tell whether there is something of that name, wherever it is.
    if !written.is_absolute() || written.components().any(|part| part == Component::ParentDir) {
        return refused("is no path on the host\nhint: it begins with `/`, and has no `..`");
    }
    let is_allowed = |real: &Path| roots.iter().any(|root| real.starts_with(root));
    match fs::canonicalize(written) {
        Ok(real) if is_allowed(&real) => return Ok(real),
        Ok(_) => {}
        Err(_) => {
            // Below what is allowed a slip may be told as one. Elsewhere one answer has to do for what is not there and
            // what is not allowed: a caller learns nothing of the host's files.
            let above = written.ancestors().skip(1).find_map(|above| fs::canonicalize(above).ok());
            if above.is_some_and(|above| is_allowed(&above)) {
                return refused("is not there, or cannot be read\nhint: look for a slip in its name");
            }
        }
    }
    let roots: Vec<String> = roots.iter().map(|root| format!("`{}`", root.display())).collect();
    let below = match roots.as_slice() {
        [] => "this host was started without one".to_owned(),
        roots if is_admin => format!("there is {}", roots.join(", ")),
        _ => "its operator knows which".to_owned(),
    };
    refused(&format!(
        "is not below a folder that this host's operator named with --allow-input: {below}\nhint: send the files, or have \
         the operator name it"
    ))
}
