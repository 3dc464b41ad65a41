//! The verbs that people call, whatever they call them through: make and build a script, check a script or a deployment,
//! score a folder.
//!
//! What goes in: paths and options as given. What comes out: a job that ran, or facts. Nothing here prints.

pub mod bench;
mod check;
mod digest;
mod header;
pub mod host;
mod model;
mod project;
mod registry;
mod run;

pub use check::{DeploymentFacts, ModelFacts, ScriptFacts, check_deployment, check_script};
pub use project::{Plan as BuildPlan, build_project, new_project, plan_build};
pub use registry::{Asking, PullRequest, Pulled, check_signature, fetch_script, pull_script, push_script};
pub use run::{Event, Input, Outcome, RunRequest, Source, run};

use std::path::PathBuf;

use crate::builtin::BuiltInError;
use crate::confine::ConfineError;
use crate::deployment::SpecError;
use crate::fault::Fault;
use crate::infer::InferError;
use crate::job::JobError;
use crate::output::OutputError;
use crate::project::ProjectError;
use crate::registry::RegistryError;
use crate::script::ScriptError;
use crate::store::{SpoolError, StoreError};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The deployment is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The script project is refused or does not build.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The script is refused.
    #[error("script `{}` is refused", path.display())]
    Script {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ScriptError,
    },
    /// A script is not pushed or pulled.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What is fetched has no place to lie.
    #[error("there is no cache folder for scripts that are fetched")]
    NoCache,
    /// A signature vouches for another script.
    #[error("the signature that came with it is for the script `{signed}`, and this one is `{found}`")]
    SignatureOfAnother {
        /// What is signed.
        signed: String,
        /// What was sent.
        found: String,
    },
    /// A file is not written over.
    #[error("`{}` exists", .0.display())]
    Exists(PathBuf),
    /// A pulled script cannot be put in its place.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The script host cannot start.
    #[error("the script host cannot start")]
    Engine(#[source] ScriptError),
    /// The deployment has no script, and its model, tags or files are none that can be scored without.
    #[error("the deployment cannot be scored without a script")]
    BuiltIn(#[from] BuiltInError),
    /// The device or the model is refused.
    #[error("the model cannot be opened")]
    Infer(#[from] InferError),
    /// A model cannot be measured.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// The model folder does not say which model.
    #[error("the model cannot be digested: `{}`", path.display())]
    Digest {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The input cannot be listed.
    #[error("the input cannot be listed")]
    Input(#[from] StoreError),
    /// The files of a place in an object store do not come.
    #[error("the input cannot be fetched")]
    Fetch(#[from] SpoolError),
    /// The input holds no file.
    #[error("the input `{}` holds no file that could be scored", .0.display())]
    EmptyInput(PathBuf),
    /// The output folder is the input folder.
    #[error("the output folder is the input folder, `{}`", .0.display())]
    SameFolder(PathBuf),
    /// The process cannot be confined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The output is refused or cannot be written.
    #[error("the output cannot be used")]
    Output(#[from] OutputError),
    /// A stranger's YAML names a script or a model outside of its own folders.
    #[error("the deployment names a script or a model that does not lie in its own folder")]
    Outside,
    /// What is resumed is not what was begun.
    #[error("the job was begun with other {what}: `{then}` then, `{now}` now")]
    Changed {
        /// What changed.
        what: &'static str,
        /// What it is now.
        now: String,
        /// What it was.
        then: String,
    },
    /// The stored plan is damaged.
    #[error("the job to resume is damaged")]
    Plan(#[from] crate::job::plan::BadPlan),
    /// The job broke off.
    #[error("the job broke off")]
    Job(#[from] JobError),
    /// The decoding threads cannot start.
    #[error("cannot start the decoding threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

impl ServiceError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ServiceError::Spec(e) => e.fault(),
            ServiceError::Project(e) => e.fault(),
            ServiceError::Script { source, .. } | ServiceError::Engine(source) => source.fault(),
            ServiceError::Infer(e) => e.fault(),
            ServiceError::Registry(e) => e.fault(),
            ServiceError::Bench(e) => e.fault(),
            ServiceError::Input(e) => e.fault(),
            ServiceError::Fetch(e) => e.fault(),
            ServiceError::Confine(e) => e.fault(),
            ServiceError::Output(e) => e.fault(),
            ServiceError::Job(e) => e.fault(),
            ServiceError::BuiltIn(e) => e.fault(),
            ServiceError::Digest { .. }
            | ServiceError::EmptyInput(_)
            | ServiceError::Exists(_)
            | ServiceError::NoCache
            | ServiceError::SignatureOfAnother { .. }
            | ServiceError::SameFolder(_)
            | ServiceError::Outside
            | ServiceError::Changed { .. }
            | ServiceError::Plan(_) => Fault::Caller,
            ServiceError::Threads(_) | ServiceError::Write { .. } => Fault::Host,
        }
    }

    /// A known cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            ServiceError::Spec(e) => match project::not_built(e) {
                Some(folder) => Some(format!("build it first: scorehost build {}", folder.display())),
                None => e.hint(),
            },
            ServiceError::Project(e) => e.hint(),
            ServiceError::Output(e) | ServiceError::Job(JobError::Output(e)) => e.hint().map(str::to_owned),
            ServiceError::Confine(_) | ServiceError::Script { source: ScriptError::Unconfined(_), .. } => Some(
                "--confine auto goes on with what there is; newer kernels, and containers that allow it, have all"
                    .into(),
            ),
            ServiceError::BuiltIn(e) => e.hint().map(str::to_owned),
            ServiceError::EmptyInput(_) => Some("hidden files and links out of the folder are not taken".into()),
            ServiceError::NoCache => Some("SCOREHOST_CACHE names one that only this user may enter, in Unicode".into()),
            ServiceError::Exists(_) => Some("--overwrite replaces it".into()),
            ServiceError::SameFolder(_) => {
                Some("name another folder for the output; it may lie inside the input".into())
            }
            ServiceError::Changed { .. } => Some("restore it, or start again with --overwrite".into()),
            ServiceError::Outside => Some("put the script below `code` and the model below `model`".into()),
            ServiceError::Plan(_) => Some("start again with --overwrite".into()),
            ServiceError::Infer(InferError::Unavailable { backend: "gpu", .. })
            | ServiceError::Bench(bench::BenchError::Infer(InferError::Unavailable { backend: "gpu", .. })) => Some(
                "--device auto takes the CPU where there is no GPU; --adapter software computes shaders on the CPU"
                    .into(),
            ),
            _ => None,
        }
    }
}
