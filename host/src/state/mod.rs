//! What the service knows, in one SQLite file: tenants, tokens, endpoints, deployments, jobs, and who changed what.
//!
//! What goes in: names and texts that were checked, under a tenant. What comes out: rows as structs. One thread writes:
//! what several callers ask for at once becomes one transaction and one wait for the disk, and nobody is answered before
//! that. Bytes of files are elsewhere; no rule of the service is here.

mod candidates;
mod deployments;
mod endpoints;
mod jobs;
mod known;
mod models;
mod removal;
mod tenants;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::oneshot;

pub use candidates::Candidate;
pub use deployments::{Deployment, NewDeployment};
pub use endpoints::{Endpoint, EndpointChange};
pub use jobs::{Ended, Job, JobStatus, NewJob, Page, Submitted};
pub use models::Model;
pub use tenants::{Action, NewToken, Quotas, QuotasChange, Tenant, Token, TokenUse};
pub use usage::{Usage, UsageLine, UsageSpan};

use crate::fault::Fault;

/// Every version's change of the schema, in order; a file of an earlier version is brought up through those that it lacks.
const MIGRATIONS: [&str; 3] =
    [include_str!("version-1.sql"), include_str!("version-2.sql"), include_str!("version-3.sql")];

/// Changes that share one wait for the disk.
const MOST_JOINED: usize = 256;

/// Changes that wait for the writer; beyond that, callers wait.
const MOST_WAITING: usize = 1024;

/// Statements that are kept as they were prepared: there are fewer.
const STATEMENTS: usize = 128;

/// How long another process's lock on the file is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Why the state cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite, or the disk below it.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// The file is of a later version of this program.
    #[error(
        "the database is of version {found}, and this program knows {known}\nhint: use the program that wrote it, or a later one"
    )]
    Newer {
        /// The file's version.
        found: usize,
        /// The latest that is known.
        known: usize,
    },
    /// What is written in a row is not what this program writes.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The name is taken.
    #[error("{what} `{name}` exists")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There is no such thing in this tenant.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something that is needed refers to it.
    #[error("{what} `{name}` is in use: {by}")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// By what.
        by: String,
    },
    /// The tenant's limit is reached.
    #[error("the tenant has {have} {what}, and may have {most}")]
    Quota {
        /// Of what.
        what: &'static str,
        /// How many there are.
        have: u64,
        /// How many there may be.
        most: u64,
    },
    /// What is to be kept does not fit into what the tenant may store.
    #[error(
        "the tenant stores {} of the {} that it may, and there is no room for {} more\nhint: delete jobs, uploads or models \
         that are not needed, or have an administrator raise the limit: scorehost tenant update -n NAME --storage SIZE",
        size(*have),
        size(*most),
        size(*more)
    )]
    Full {
        /// Bytes that are stored.
        have: u64,
        /// Bytes that may be.
        most: u64,
        /// Bytes that come.
        more: u64,
    },
    /// A job is not one that goes on.
    #[error("job `{job}` is not resumed: {why}\nhint: {cure}")]
    NotResumed {
        /// Which.
        job: String,
        /// Why not.
        why: &'static str,
        /// What is to be done.
        cure: &'static str,
    },
    /// It asks for more than the tenant may ever have.
    #[error(
        "the job asks for {wants} {what}, and the tenant may have {most}\nhint: a smaller `max_concurrency_per_instance`, or have an administrator raise the limit: scorehost tenant update"
    )]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much the job asks for.
        wants: u64,
        /// How much there may be.
        most: u64,
    },
    /// What a tenant may use in a month is used up.
    #[error(
        "the tenant has used {used} {what} this month, and may use {most}\nhint: it begins anew at {anew}; an administrator can raise the limit: scorehost tenant update"
    )]
    Spent {
        /// Of what.
        what: &'static str,
        /// How much was used.
        used: u64,
        /// How much may be.
        most: u64,
        /// When the next month begins.
        anew: String,
    },
    /// The file as it was cannot be kept before it is brought up to this version.
    #[error("the database of before cannot be kept as `{}`", path.display())]
    Keep {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key `{0}` was used for another request")]
    KeyReused(String),
    /// The writer has ended.
    #[error("the database is closed")]
    Closed,
}

impl StateError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            StateError::Database(_) | StateError::Damaged(_) | StateError::Newer { .. } | StateError::Keep { .. } => {
                Fault::Host
            }
            StateError::Closed => Fault::Transient,
            StateError::Exists { .. }
            | StateError::Unknown { .. }
            | StateError::InUse { .. }
            | StateError::Quota { .. }
            | StateError::Full { .. }
            | StateError::NotResumed { .. }
            | StateError::TooLarge { .. }
            | StateError::Spent { .. }
            | StateError::KeyReused(_) => Fault::Caller,
        }
    }
}

type Result<T, E = StateError> = std::result::Result<T, E>;

/// A change, with whoever waits for it: applied in a savepoint, answered once the transaction is on the disk.
type Change = Box<dyn FnOnce(&mut Transaction<'_>) -> Answer + Send>;
/// Tells the one who waits; called with whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The open state.
pub struct State {
    writer: Option<mpsc::SyncSender<Change>>,
    thread: Option<JoinHandle<()>>,
    reader: Mutex<Connection>,
    known: known::Known,
    /// What tenants used this month, for those who only look, and when that was added up.
    looked: Mutex<HashMap<i64, (Instant, Usage)>>,
}

impl State {
    /// Opens the file at `path`, made where there is none, and brings it up to this program's version.
    ///
    /// # Errors
    /// If it is no database, of a later version, or the disk refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let mut connection = connect(path)?;
        migrate(&mut connection, path)?;
        let (writer, changes) = mpsc::sync_channel(MOST_WAITING);
        let thread = std::thread::Builder::new().name("state".into()).spawn(move || write(connection, &changes));
        let thread = thread.map_err(|e| StateError::Damaged(format!("its thread does not start: {e}")))?;
        let reader = connect(path)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self {
            writer: Some(writer),
            thread: Some(thread),
            reader: Mutex::new(reader),
            known: known::Known::default(),
            looked: Mutex::default(),
        })
    }

    /// Makes a change and waits until it is on the disk.
    fn change<T: Send + 'static>(&self, change: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let (settle, settled) = oneshot::channel();
        let change: Change = Box::new(move |transaction| {
            let result = transaction.savepoint().map_err(StateError::from).and_then(|savepoint| {
                let value = change(&savepoint)?;
                savepoint.commit()?;
                Ok(value)
            });
            Box::new(move |committed| {
                let result = result.and_then(|value| match committed {
                    Ok(()) => Ok(value),
                    Err(reason) => Err(StateError::Damaged(reason)),
                });
                // It does not matter if they left meanwhile.
                let _ = settle.send(result);
            })
        });
        self.writer.as_ref().ok_or(StateError::Closed)?.send(change).map_err(|_| StateError::Closed)?;
        settled.blocking_recv().unwrap_or(Err(StateError::Closed))
    }

    /// Makes a change of what a token may do: whoever is told of it is told after everybody else is held to it.
    fn change_access<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.change(change);
        self.known.forget();
        done
    }

    /// Writes, and waits for the disk as every change does, but changes nothing.
    ///
    /// # Errors
    /// If a change could not be kept now.
    pub fn probe(&self) -> Result<()> {
        self.change(|on| {
            // A page is written whatever the value was before.
            let version: u32 = on.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok(on.pragma_update(None, "user_version", version)?)
        })
    }

    fn read(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    /// What was asked for is still done.
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told to those who waited.
            let _ = thread.join();
        }
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan is made once for a statement, and not anew for each value that is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An answer means that the disk has it: losing an accepted job to a power cut is worse than the wait.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Brings a file up to this version: each step is one transaction, so that it is of one version or of the next. What an
/// earlier program wrote is kept beside it, for whoever wants to go back.
fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    if found > known {
        return Err(StateError::Newer { found, known });
    }
    if (1..known).contains(&found) {
        keep(connection, path, found)?;
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Copies the file as it is to `PATH.vN`, whole or not at all.
fn keep(connection: &Connection, path: &Path, version: usize) -> Result<()> {
    let beside = |ending: String| PathBuf::from(format!("{}{ending}", path.display()));
    let (part, place) = (beside(format!(".v{version}.part")), beside(format!(".v{version}")));
    let failed = |source| StateError::Keep { path: place.clone(), source };
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    connection.execute("VACUUM INTO ?1", [part.display().to_string()])?;
    let sync = || -> std::io::Result<()> {
        File::open(&part)?.sync_all()?;
        std::fs::rename(&part, &place)?;
        match path.parent().filter(|folder| cfg!(unix) && !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    sync().map_err(failed)
}

fn write(mut connection: Connection, changes: &mpsc::Receiver<Change>) {
    while let Ok(first) = changes.recv() {
        let mut answers = Vec::new();
        let committed = connection.transaction().and_then(|mut transaction| {
            answers.push(first(&mut transaction));
            while answers.len() < MOST_JOINED
                && let Ok(next) = changes.try_recv()
            {
                answers.push(next(&mut transaction));
            }
            transaction.commit()
        });
        let committed = committed.map_err(|e| e.to_string());
        answers.into_iter().for_each(|answer| answer(committed.clone()));
    }
}

/// The time, as it is written in rows.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// When the next month begins, UTC, as it is written in rows.
pub fn next_month() -> String {
    let now = now();
    let (year, month) = (now[..4].parse::<u32>().unwrap_or(0), now[5..7].parse::<u32>().unwrap_or(0));
    let (year, month) = if month >= 12 { (year + 1, 1) } else { (year, month + 1) };
    format!("{year:04}-{month:02}-01T00:00:00Z")
}

/// Bytes for people, in the largest unit that leaves a number of at least one.
#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// The first row, or nothing.
fn optional<T>(result: rusqlite::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(row) => Ok(Some(row)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a row was refused because its name is taken.
fn is_taken(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(e, _) if e.code == rusqlite::ErrorCode::ConstraintViolation)
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}
