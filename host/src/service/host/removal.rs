//! Removing: jobs that have ended, uploads that nobody scores, models and deployments that nothing names any more.
//!
//! What names a folder goes first, durably; then the folder leaves its place in one step, and is removed. A host that is
//! killed between the two finds a folder that nothing names, and removes it when it is opened again. The other way round
//! it would show a job with a part of its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::folders::Folders;
use super::{Caller, Host, HostError, HostOptions, Scope, disk, uploads};
use crate::fault;
use crate::state::{State, StateError};

/// Between two looks at what is too old, unless something is kept for less.
const MOST_PAUSE: Duration = Duration::from_secs(3600);
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Jobs that are looked for at once.
const MOST_JOBS: u32 = 1000;

/// See the module: the thread that removes what is too old, and what all removals share.
pub(super) struct Remover {
    removal: Arc<Removal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Removal {
    state: Arc<State>,
    folders: Folders,
    keep_jobs: Option<Duration>,
    keep_uploads: Duration,
    /// Held to read from when a folder is found, or put in its place, until something names it; held to write while a
    /// folder is taken away that nothing names.
    naming: RwLock<()>,
    closing: Mutex<bool>,
    woken: Condvar,
}

impl Remover {
    pub(super) fn start(state: Arc<State>, folders: Folders, options: &HostOptions) -> Result<Self, HostError> {
        let (keep_jobs, keep_uploads) = (options.keep_jobs, options.keep_uploads);
        let (naming, closing, woken) = (RwLock::default(), Mutex::default(), Condvar::new());
        let removal = Arc::new(Removal { state, folders, keep_jobs, keep_uploads, naming, closing, woken });
        let shared = Arc::clone(&removal);
        let thread = std::thread::Builder::new().name("remover".into()).spawn(move || shared.run());
        Ok(Self { removal, thread: Mutex::new(Some(thread.map_err(disk("start a thread"))?)) })
    }

    /// As long as this is held, nothing is taken away that has no name yet.
    pub(super) fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.removal.naming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes files of models and deployments that nothing of a tenant's names any more.
    pub(super) fn remove_unnamed(&self, tenant: i64) -> Result<(), HostError> {
        self.removal.remove_unnamed(tenant)
    }

    pub(super) fn stop(&self) {
        *self.removal.closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.removal.woken.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Removal {
    fn run(&self) {
        let shortest = self.keep_jobs.map_or(self.keep_uploads, |jobs| jobs.min(self.keep_uploads));
        let pause = (shortest / 2).clamp(LEAST_PAUSE, MOST_PAUSE);
        loop {
            if let Err(error) = self.remove_old() {
                tracing::error!(error = fault::chain(&error), "what is not kept cannot be removed");
            }
            let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.woken.wait_timeout_while(closing, pause, |closing| !*closing);
            if waited.is_ok_and(|(closing, _)| *closing) || self.is_closing() {
                return;
            }
        }
    }

    fn is_closing(&self) -> bool {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_old(&self) -> Result<(), HostError> {
        if let Some(keep) = self.keep_jobs {
            let before = SystemTime::now().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
            let before = humantime::format_rfc3339_millis(before).to_string();
            // One after the other: one that cannot be removed now is found again the next time.
            for (tenant, id) in self.state.ended_before(&before, MOST_JOBS)? {
                if self.is_closing() {
                    return Ok(());
                }
                match self.remove_job(tenant, &id, "") {
                    // Resumed, or removed by its owner, since it was found.
                    Err(HostError::State(StateError::InUse { .. } | StateError::Unknown { .. })) => {}
                    other => other?,
                }
            }
        }
        for tenant in self.folders.tenants().map_err(disk("look for old uploads"))? {
            self.remove_uploads(tenant)?;
            self.remove_unnamed(tenant)?;
        }
        Ok(())
    }

    fn remove_job(&self, tenant: i64, id: &str, by: &str) -> Result<(), HostError> {
        self.state.delete_job(tenant, id, by)?;
        self.take_away(tenant, [self.folders.job(tenant, id)])
    }

    fn take_away(&self, tenant: i64, folders: impl IntoIterator<Item = PathBuf>) -> Result<(), HostError> {
        for folder in folders {
            if let Some(taken) = self.folders.take_away(tenant, &folder)? {
                self.folders.remove(taken)?;
            }
        }
        Ok(())
    }

    /// Uploads with which nothing was done for long, and that no job scores.
    fn remove_uploads(&self, tenant: i64) -> Result<(), HostError> {
        let is_old = |folder: &Path| {
            let age = uploads::touched(folder).map(|touched| touched.elapsed().unwrap_or_default());
            age.is_ok_and(|age| age > self.keep_uploads)
        };
        for (id, folder) in entries(&self.folders.upload(tenant, ""))? {
            if is_old(&folder) {
                let _alone = self.naming.write().unwrap_or_else(PoisonError::into_inner);
                if self.state.jobs_of_upload(tenant, &id)?.0 == 0
                    && is_old(&folder)
                    && let Some(taken) = self.folders.take_away(tenant, &folder)?
                {
                    drop(_alone);
                    self.folders.remove(taken)?;
                }
            }
        }
        Ok(())
    }

    /// Files of models and deployments that nothing names any more.
    fn remove_unnamed(&self, tenant: i64) -> Result<(), HostError> {
        let mut taken = Vec::new();
        {
            let _alone = self.naming.write().unwrap_or_else(PoisonError::into_inner);
            let named = self.state.digests(tenant)?;
            let is_named = |digest: &str| named.contains(digest) || named.contains(&format!("sha256:{digest}"));
            for kind in [self.folders.model(tenant, ""), self.folders.deployment(tenant, "")] {
                for (digest, folder) in entries(&kind)? {
                    if !is_named(&digest) {
                        taken.extend(self.folders.take_away(tenant, &folder)?);
                    }
                }
            }
        }
        taken.into_iter().try_for_each(|taken| self.folders.remove(taken))
    }
}

/// What lies in a folder, by name; one that is not there is empty.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, HostError> {
    let failed = disk("look for what can be removed");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let named = entries.map(|entry| {
        let entry = entry.map_err(&failed)?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    });
    named.collect()
}

/// Outputs of jobs that are no more: their host ended in between. Before any job is begun.
pub(super) fn remove_orphans(state: &State, folders: &Folders) -> Result<(), HostError> {
    for tenant in folders.tenants().map_err(disk("look for what can be removed"))? {
        for (id, folder) in entries(&folders.job(tenant, ""))? {
            if !state.has_job(tenant, &id)?
                && let Some(taken) = folders.take_away(tenant, &folder)?
            {
                folders.remove(taken)?;
            }
        }
    }
    Ok(())
}

impl Host {
    /// Removes a job that has ended, with its output; what it used stays in the report of usage.
    ///
    /// # Errors
    /// If the caller may not, there is none, or it has not ended.
    pub fn delete_job(&self, caller: &Caller, name: &str) -> Result<(), HostError> {
        caller.may(Scope::Invoke)?;
        self.remover.removal.remove_job(caller.tenant.id, name, &caller.token)
    }

    /// Removes an upload.
    ///
    /// # Errors
    /// If the caller may not, there is none, or jobs that score it wait or run.
    pub fn delete_upload(&self, caller: &Caller, id: &str) -> Result<(), HostError> {
        caller.may_either(Scope::Invoke, Scope::Write)?;
        let folder = self.upload_folder(caller, id)?;
        let alone = self.remover.removal.naming.write().unwrap_or_else(PoisonError::into_inner);
        let (_, active) = self.state.jobs_of_upload(caller.tenant.id, id)?;
        if active > 0 {
            let by = format!("{active} jobs that score it wait or run");
            return Err(StateError::InUse { what: "upload", name: id.to_owned(), by }.into());
        }
        let taken = self.folders.take_away(caller.tenant.id, &folder)?;
        drop(alone);
        taken.map_or(Ok(()), |taken| self.folders.remove(taken))
    }

    /// Removes a version of a model. Its files go once nothing names them.
    ///
    /// # Errors
    /// If the caller may not, there is none, or something has it.
    pub fn delete_model(&self, caller: &Caller, name: &str, version: u32) -> Result<(), HostError> {
        caller.may(Scope::Write)?;
        self.state.delete_model(caller.tenant.id, name, version, &caller.token)?;
        self.remover.remove_unnamed(caller.tenant.id)
    }
}
