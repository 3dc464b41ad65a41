//! A deployment, from the YAML a person wrote to the facts a job runs on.
//!
//! What goes in: a file in Azure's batch deployment layout, and `--set key=value` overrides. [`Spec`] is what was
//! written, every key checked against [`keys`]; [`Deployment`] is what is true, with defaults filled in and paths
//! found on disk; a model folder of MLflow's is read as far as its `MLmodel`. Nothing here opens a model, compiles a script or looks for a device.

mod endpoint;
pub mod keys;
mod mlflow;
mod resolve;
mod settings;
mod spec;
mod value;
mod yaml;

use std::fmt;
use std::path::PathBuf;

pub use endpoint::EndpointSpec;
pub use mlflow::{Field, FieldKind, Mlflow, Signature};
pub use resolve::{Deployment, Parts};
pub use settings::{Device, Limits, LoggingLevel, OutputAction, OutputFormat, Settings};
pub use spec::Spec;

use crate::fault::Fault;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a line of a file.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// On the command line.
    Set {
        /// The key as given there.
        key: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { path, line } => write!(f, "`{}` line {line}", path.display()),
            Place::Set { key } => write!(f, "`--set {key}`"),
        }
    }
}

/// Why a deployment cannot be read or resolved.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any that is written by hand.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// The text is not YAML, or breaks a bound on it.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A key that means nothing here.
    #[error("{place}: unknown key `{key}`")]
    Unknown {
        /// Where.
        place: Place,
        /// The key, with those it is nested in.
        key: String,
        /// The nearest key there is.
        nearest: Option<String>,
    },
    /// A key that was written twice, perhaps once in each layout.
    #[error("{place}: `{key}` is already written at {first}")]
    Duplicate {
        /// Where it is repeated.
        place: Place,
        /// The key.
        key: String,
        /// Where it was first.
        first: Place,
    },
    /// A value of the wrong type, or out of range.
    #[error("{place}: `{key}` is {found}; allowed is {allowed}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// What was written.
        found: String,
        /// What may be written.
        allowed: String,
    },
    /// A key that must be there.
    #[error("`{}` has no `{key}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What to write.
        cure: &'static str,
    },
    /// Something that is understood, and not done here.
    #[error("{place}: `{key}` is `{value}`, {reason}")]
    Refused {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
        /// What to do instead.
        cure: &'static str,
    },
    /// A file or folder that is named and not there.
    #[error("{place}: `{key}` names `{}`, which cannot be opened", path.display())]
    NotFound {
        /// Where it is named.
        place: Place,
        /// The key.
        key: &'static str,
        /// The path looked at.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl SpecError {
    /// Whose fault it is: always the caller's, who wrote or named the file.
    pub fn fault(&self) -> Fault {
        Fault::Caller
    }

    /// A known cure, for the `hint:` line under the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            SpecError::Unknown { nearest: Some(key), .. } => Some(format!("did you mean `{key}`?")),
            SpecError::Missing { cure, .. } | SpecError::Refused { cure, .. } => Some((*cure).to_owned()),
            SpecError::NotFound { .. } => Some("paths are taken from the folder of the deployment file".to_owned()),
            SpecError::Duplicate { .. } => Some("keep one of them".to_owned()),
            _ => None,
        }
    }
}
