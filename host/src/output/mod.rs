//! Rows that lose nothing and repeat nothing: the predictions file, `errors.csv`, `mini_batches.csv` and `job.json`.
//!
//! What goes in: finished mini-batches, in plan order. What comes out: files that appear when the job has ended, and
//! that are byte for byte the same whether or not it was killed on the way and resumed. Nothing here knows why a
//! mini-batch failed or whether it should be tried again.
//!
//! While a job runs, the hidden folder `.scorehost` below the output holds the plan, the growing parts, and a journal
//! whose last whole line says how much of each part is true (`journal`); `commit` appends, `finish` turns the
//! parts into the final files.

mod commit;
#[cfg(test)]
mod crash;
mod disk;
mod finish;
mod format;
mod journal;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod staged;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use commit::Output;
pub(crate) use disk::remove_tree;
pub use format::Format;
pub use journal::Counts;
pub use open::{Begun, MadeFolder, Resumed, begun};

use crate::fault::Fault;
use crate::row::Rows;

/// Where an output goes, and how.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// The output folder; it is made if its parent is there.
    pub folder: PathBuf,
    /// The predictions file: a plain file name that none of the other files has.
    pub file_name: String,
    /// How it is written.
    pub format: Format,
    /// Whether there is a predictions file at all; without one, rows are counted and dropped.
    pub keep_rows: bool,
    /// What becomes of an earlier output.
    pub existing: Existing,
}

/// What becomes of an output that is already in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new job is refused.
    Refuse,
    /// The files that a job writes are removed; whatever else is there stays.
    Overwrite,
    /// It is continued, by [`Output::resume`]; [`Output::create`] refuses it.
    Resume,
}

/// One finished mini-batch.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Its number in the plan, from 0.
    pub index: u64,
    /// How many files it has.
    pub files: u32,
    /// How many of them count as failed; at least the files that `errors` names.
    pub failed: u32,
    /// Its rows; none if it failed.
    pub rows: Option<Rows>,
    /// What went wrong with it or its files, as `errors.csv` tells it.
    pub errors: Vec<ErrorRow>,
    /// How often it was tried.
    pub attempts: u32,
    /// When its last attempt began: RFC 3339 with milliseconds, UTC.
    pub started: String,
    /// How long that took.
    pub seconds: f64,
    /// How long of that its models took on their device.
    pub device_seconds: f64,
    /// A folder of files that the script wrote, checked with [`Output::accept_staged`]: they are moved into the output
    /// folder. Best below [`Output::staging_folder`], where moving is renaming.
    pub staged: Option<PathBuf>,
}

/// One row of `errors.csv`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorRow {
    /// The file, as the plan names it; empty for the whole mini-batch.
    pub file: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The kind of error, one word.
    pub kind: String,
    /// Everything that is known of it. What is longer than 4 KiB is cut.
    pub message: String,
}

/// Why an output cannot be made, continued or ended.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is an output already.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The file that shows it.
        path: PathBuf,
    },
    /// There is no job to resume.
    #[error("`{}` holds no job that could be resumed", folder.display())]
    Nothing {
        /// The output folder.
        folder: PathBuf,
    },
    /// The job has ended with all its output.
    #[error("the job in `{}` is already complete", folder.display())]
    AlreadyComplete {
        /// The output folder.
        folder: PathBuf,
    },
    /// Another process writes this output.
    #[error("another process is writing to `{}`", folder.display())]
    Busy {
        /// The output folder.
        folder: PathBuf,
    },
    /// The job was begun with another option.
    #[error("`{what}` was `{before}` when the job began, and is `{now}`")]
    Changed {
        /// Which option.
        what: &'static str,
        /// Its value then.
        before: String,
        /// Its value now.
        now: String,
    },
    /// What a killed job left is not what it wrote.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program began the job.
    #[error("`{}` is of version {version}, and this program reads version {}", path.display(), journal::VERSION)]
    Version {
        /// The journal.
        path: PathBuf,
        /// The version that it says.
        version: u32,
    },
    /// The output folder cannot be made, since its parent is missing.
    #[error("the parent folder of `{}` does not exist", folder.display())]
    MissingParent {
        /// The output folder.
        folder: PathBuf,
    },
    /// The output folder is something else.
    #[error("`{}` is not a folder", path.display())]
    NotAFolder {
        /// What it is named.
        path: PathBuf,
    },
    /// The disk or the quota is full.
    #[error("no space is left to write `{}`", path.display())]
    Full {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The files that scripts write take all that they may.
    #[error("the files that the script writes take more than limits.job_file_bytes, which is {limit}")]
    Quota {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The folder may not be written to.
    #[error("`{}` cannot be written to", path.display())]
    ReadOnly {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk failed in another way.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A mini-batch's columns do not fit those before it.
    #[error("{0}")]
    Columns(String),
    /// A file that a script wrote cannot be moved into the output.
    #[error("the script's file `{}` {reason}", path.display())]
    Staged {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Mini-batches came out of plan order.
    #[error("mini-batch {given} was committed where {expected} is next")]
    OutOfOrder {
        /// The one to come.
        expected: u64,
        /// The one that came.
        given: u64,
    },
    /// The format is not in this build.
    #[error("this build cannot write `{0}`")]
    Unsupported(&'static str),
    /// An earlier commit failed, or all of them are done.
    #[error("the output in `{}` takes no more mini-batches", folder.display())]
    Closed {
        /// The output folder.
        folder: PathBuf,
    },
}

impl OutputError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            OutputError::Columns(_) | OutputError::Staged { .. } | OutputError::Quota { .. } => Fault::Script,
            OutputError::Damaged { .. }
            | OutputError::Full { .. }
            | OutputError::Io { .. }
            | OutputError::OutOfOrder { .. }
            | OutputError::Closed { .. } => Fault::Host,
            _ => Fault::Caller,
        }
    }

    /// A known cure, for the `hint:` line under the error.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            OutputError::Exists { .. } => {
                "`--resume` continues a job that was stopped, `--overwrite` replaces its output, \
                 or name another output folder"
            }
            OutputError::Nothing { .. } => "start the job without `--resume`",
            OutputError::AlreadyComplete { .. } => "`--overwrite` runs it again",
            OutputError::Busy { .. } => "wait for it, or name another output folder",
            OutputError::Changed { .. } => "resume with the deployment as it was, or start again with `--overwrite`",
            OutputError::Damaged { .. } => "start again with `--overwrite`",
            OutputError::Version { .. } => {
                "resume with the version of this program that began the job, or start again with `--overwrite`"
            }
            OutputError::MissingParent { .. } => "make the parent folder first",
            OutputError::Quota { .. } => "set a larger `limits.job_file_bytes`, then continue with `--resume`",
            OutputError::Full { .. } => "free some space, then continue with `--resume`",
            OutputError::ReadOnly { .. } => "name an output folder that this user may write to",
            OutputError::Unsupported(_) => "build with the feature of this name, or choose another `output_format`",
            _ => return None,
        })
    }

    /// What the system said of a file, as the variant that knows its cure.
    fn from_io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputError::Full { path, source },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OutputError::ReadOnly { path, source }
            }
            _ => OutputError::Io { doing, path, source },
        }
    }
}
