//! What scripts import, one file per interface of the contract; and what those need of the job, as [`Services`].

mod context;
mod images;
mod log;
mod models;
mod nn;
mod tables;
mod tensors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use images::{HostImage, HostRecipe};
pub use models::{HostModel, Models};
pub use nn::{NnContext, NnError, NnGraph, NnTensor};
pub use tables::{HostBatch, HostTable, HostWriter};
pub use tensors::HostTensor;

use super::bindings::scorehost::script::types::{Failure, Host as TypesHost};
use super::files::FileQuota;
use super::log::Level;
use super::state::State;
use crate::fault::{self, Fault};
use crate::infer::InferError;
use crate::vision::VisionError;
use crate::vision::ahead::Loader;

/// What the instances of one job share.
pub struct Services {
    /// The job's name.
    pub job: String,
    /// The deployment's name.
    pub deployment: String,
    /// What `context.setting` answers: the deployment's tags.
    pub settings: BTreeMap<String, String>,
    /// Environment variables of the deployment.
    pub environment: BTreeMap<String, String>,
    /// The folder that scripts see as `/input`.
    pub input_folder: PathBuf,
    /// Decodes pictures of the mini-batches.
    pub loader: Arc<Loader>,
    /// The deployment's models.
    pub models: Models,
    /// Whether scripts read a virtual time instead of the real one.
    pub deterministic: bool,
    /// `log` lines below this are dropped.
    pub log_level: Level,
    /// What an instance may hold and return.
    pub limits: InstanceLimits,
    /// What the files of all instances may take.
    pub files: Arc<FileQuota>,
}

/// What an instance may hold and return.
#[derive(Clone, Copy, Debug)]
pub struct InstanceLimits {
    /// Bytes of all linear memories.
    pub memory_bytes: usize,
    /// Elements of all tables.
    pub table_elements: usize,
    /// Bytes of tensors and pictures held on the host.
    pub tensor_bytes: usize,
    /// Bytes printed in one attempt.
    pub log_bytes: usize,
    /// Rows of one mini-batch.
    pub output_rows: usize,
    /// Bytes handed to the host in one call.
    pub output_bytes: usize,
    /// Bytes that its files may take.
    pub file_bytes: u64,
    /// How long its start may take: the component's own start functions, and then again `init`.
    pub init: Duration,
}

impl TypesHost for State {}

/// Refusals by the host's own rules: the same call would be refused again.
fn permanent(reason: impl Into<String>) -> Failure {
    Failure::Permanent(reason.into())
}

impl From<&InferError> for Failure {
    fn from(error: &InferError) -> Self {
        of_fault(error.fault(), without_host_paths(error))
    }
}

/// The error and its causes, with the name of the model's file instead of where the host has it: engines quote paths too.
pub(super) fn without_host_paths(error: &InferError) -> String {
    let text = fault::chain(error);
    match error {
        InferError::Read { path, .. } | InferError::Invalid { path, .. } => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            text.replace(&path.display().to_string(), &name)
        }
        _ => text,
    }
}

impl From<&VisionError> for Failure {
    fn from(error: &VisionError) -> Self {
        of_fault(error.fault(), fault::chain(error))
    }
}

fn of_fault(fault: Fault, reason: String) -> Failure {
    match fault {
        Fault::Transient => Failure::Transient(reason),
        Fault::Caller | Fault::Script | Fault::Host => Failure::Permanent(reason),
    }
}

/// A guest's 32-bit size on this machine.
fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A size for a guest; what does not fit cannot have been made by one.
fn guest_size(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
