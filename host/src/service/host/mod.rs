//! The verbs of a host that stays: tenants and tokens, uploads, models, endpoints with versioned deployments, and jobs
//! that run one process each.
//!
//! What goes in: a caller who was recognised, and names and files as they sent them. What comes out: what became of it.
//! Every verb takes the caller's tenant from the caller, and finds nothing of others. REST and the command line both
//! call these, and neither holds a rule.

mod catalog;
mod devices;
mod folders;
mod jobs;
mod names;
mod pages;
mod parts;
mod places;
mod process;
mod removal;
mod scheduler;
mod tenants;
mod told;
mod traces;
mod turns;
mod uploads;
mod usage;
mod views;
mod waits;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use devices::{DevicesView, EngineView};
pub use jobs::MOST_PAGE;
pub use names::NameError;
pub use pages::{GalleryItem, GalleryPage, JobsFilter, PictureKind, TablePage, TenantUse};
pub use parts::{Span, digest as file_digest};
pub use places::{BadRoot, PlaceRoot};
pub use process::FINISH;
pub use tenants::{Caller, Scope, recover_token};
pub use told::{Named, Since, Teller, Told};
pub use uploads::{FilePut, MOST_FILE_BYTES, UploadFile};
pub use usage::UsageQuery;
pub use views::{
    DeploymentView, DeviceView, EndpointView, FileView, FinishedUploadView, InputSpec, JobCheck, JobRequest, JobView,
    ModelView, NewTokenView, PaceView, ProgressView, TenantDetailView, TenantUseView, TenantView, TokenView,
    UploadFileView, UploadLineView, UploadView, UsageView,
};

pub use crate::state::{Action, JobStatus, Quotas, QuotasChange, Usage};
pub use crate::store::StoreUrl;

use crate::fault::Fault;
use crate::observe::{Metrics, Tracer};
use crate::registry::PublicKey;
use crate::state::{State, StateError};
use folders::Folders;
use removal::Remover;
use scheduler::Scheduler;

/// The database in a host's folder.
const DATABASE: &str = "state.db";
/// How long another host's lock is waited for.
const LOCK: Duration = Duration::from_secs(2);

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The state says no, or failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No token, or none that is taken. Says no more to strangers.
    #[error("the token is missing, unknown, expired or revoked")]
    Stranger,
    /// The token may not do this.
    #[error("the token has no scope `{0}`")]
    Scope(Scope),
    /// The request is wrong.
    #[error("{0}")]
    Refused(String),
    /// The disk refuses.
    #[error("cannot {what}")]
    Disk {
        /// What was tried; no path of the host.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The host does as much of this as it does at once.
    #[error("the host is checking as many deployments, or reading as many uploads, as it does at once")]
    Busy,
    /// Somebody sends the same file.
    #[error("the file `{0}` is being sent\nhint: send it again when that has ended")]
    Sending(String),
    /// A file goes on from where it broke off, and from nowhere else.
    #[error(
        "of the {total} bytes of the file {there} are there\nhint: `GET` tells how many are; send those behind them, or all"
    )]
    Offset {
        /// Bytes that are there.
        there: u64,
        /// Bytes that it is to have.
        total: u64,
    },
    /// Another host has the folder.
    #[error("another process serves this folder\nhint: stop that one first, or name another folder with --data")]
    Held,
}

impl HostError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            HostError::State(error) => error.fault(),
            HostError::Disk { .. } => Fault::Host,
            HostError::Busy => Fault::Transient,
            HostError::Held
            | HostError::Sending(_)
            | HostError::Offset { .. }
            | HostError::Name(_)
            | HostError::Stranger
            | HostError::Scope(_)
            | HostError::Refused(_) => Fault::Caller,
        }
    }
}

fn disk(what: &'static str) -> impl Fn(std::io::Error) -> HostError {
    move |source| HostError::Disk { what, source }
}

/// How a host is started.
#[derive(Clone)]
pub struct HostOptions {
    /// Its folder: made where there is none.
    pub data: PathBuf,
    /// The `scorehost` command of this very build, which runs jobs.
    pub program: PathBuf,
    /// Folders whose files may be scored by path.
    pub allowed_inputs: Vec<PathBuf>,
    /// Places in object stores whose files may be scored.
    pub allowed_places: Vec<PlaceRoot>,
    /// Places to which outputs may be published.
    pub allowed_outputs: Vec<PlaceRoot>,
    /// The key that has to have signed every script that is deployed, if any has to.
    pub signed_by: Option<PublicKey>,
    /// Jobs that run at once.
    pub most_jobs: usize,
    /// How long jobs that have ended are kept, with their outputs; for ever, where nothing is said.
    pub keep_jobs: Option<Duration>,
    /// How long uploads are kept that no job scores.
    pub keep_uploads: Duration,
    /// Who counts what happens.
    pub metrics: Arc<Metrics>,
    /// Who traces it, if anybody.
    pub tracer: Option<Arc<Tracer>>,
}

/// A host.
pub struct Host {
    state: Arc<State>,
    folders: Folders,
    options: HostOptions,
    scheduler: Scheduler,
    remover: Remover,
    /// Held while a file is put into an upload, and while one is finished.
    sealing: Arc<Mutex<()>>,
    /// Files of which somebody sends a part.
    sending: parts::Sending,
    /// Checks of deployments that are under way.
    checks: AtomicUsize,
    /// Uploads that are digested.
    hashing: AtomicUsize,
    /// What models can run on, as it was seen last.
    devices: devices::Seen,
    /// Held while the host lives: two would run each job twice.
    _lock: File,
}

impl Host {
    /// Opens the folder, and goes on with every job that was accepted and has not ended. The token is that of the first
    /// start, which is not kept and not shown again.
    ///
    /// # Errors
    /// If the folder is another host's, or cannot be used.
    pub fn open(options: HostOptions) -> Result<(Self, Option<String>), HostError> {
        let folders = Folders::open(&options.data)?;
        let data = options.data.canonicalize().map_err(disk("use the data folder"))?;
        if let Some(input) = options.allowed_inputs.iter().find(|i| i.starts_with(&data) || data.starts_with(i)) {
            return Err(HostError::Refused(format!(
                "inputs cannot be allowed below `{}`, where what the host keeps of all tenants lies too",
                input.display()
            )));
        }
        let lock = hold(&options.data)?;
        let state = Arc::new(State::open(&options.data.join(DATABASE))?);
        let token = tenants::first_token(&state)?;
        folders.remove_leavings()?;
        removal::remove_orphans(&state, &folders)?;
        let remover = Remover::start(Arc::clone(&state), folders.clone(), &options)?;
        let scheduler = Scheduler::start(Arc::clone(&state), folders.clone(), &options)?;
        Ok((
            Self {
                state,
                folders,
                options,
                scheduler,
                remover,
                sealing: Arc::default(),
                sending: parts::Sending::default(),
                checks: AtomicUsize::new(0),
                hashing: AtomicUsize::new(0),
                devices: devices::Seen::default(),
                _lock: lock,
            },
            token,
        ))
    }

    /// Whether changes can be kept: the database is written, and nothing in it changes.
    ///
    /// # Errors
    /// If they cannot.
    pub fn is_ready(&self) -> Result<(), HostError> {
        Ok(self.state.probe()?)
    }

    /// Who counts what happens here.
    pub fn metrics(&self) -> &Metrics {
        &self.options.metrics
    }

    /// Who traces what happens here, if anybody.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.options.tracer.as_deref()
    }

    /// Every number of the host as it is now, in OpenMetrics' text. For the operator: it is of all tenants.
    ///
    /// # Errors
    /// The database's.
    pub fn measure(&self) -> Result<String, HostError> {
        let metrics = self.metrics();
        for status in [JobStatus::Queued, JobStatus::Running] {
            metrics.set_jobs(status.name(), self.state.count(status)?);
        }
        let (tenants, counted) = (self.state.tenants()?, self.folders.all_counted());
        let stored = tenants.iter().filter_map(|tenant| Some((tenant.name.as_str(), *counted.get(&tenant.id)?)));
        metrics.set_stored(stored);
        Ok(metrics.text())
    }

    /// Stops every job's process; the jobs go on when the host is opened again.
    pub fn close(&self) {
        self.remover.stop();
        self.scheduler.stop();
    }
}

fn hold(data: &Path) -> Result<File, HostError> {
    let lock = File::create(data.join("lock")).map_err(disk("use the data folder"))?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            // A host that was killed while it began a process leaves it the lock for a moment.
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(HostError::Held),
            Err(TryLockError::Error(source)) => return Err(disk("use the data folder")(source)),
        }
    }
}
