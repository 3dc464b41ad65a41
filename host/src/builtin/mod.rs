//! The built-in scorer: what scores the files of a deployment that has a model and no script.
//!
//! What goes in: an open model, what its folder says of it (MLflow's signature, labels), and the deployment's tags. What
//! comes out: one row for each picture, with what the model predicts. What a model takes decides what files are scored;
//! a model, a tag or a file that does not fit is refused before the first mini-batch. Sandboxed scripts are not involved:
//! errors, deadlines and limits are those of [`crate::script`], so that a job cannot tell the two apart.

mod instance;
mod labels;
mod pictures;
mod prediction;
mod signature;
mod tags;

use std::path::{Path, PathBuf};

pub use instance::Instance;

use crate::deployment::Mlflow;
use crate::fault::Fault;
use crate::infer::session::Session;
use pictures::Pictures;
use prediction::Prediction;
use signature::Agreed;
use tags::Tags;

/// What decides, beside the model, the rows that are written: to be raised when they change, so that no job is resumed
/// into other rows.
pub const VERSION: &str = "built-in 1";

/// The model of a deployment, and what stands beside it.
pub struct Model<'a> {
    /// The model, open.
    pub session: Session,
    /// Its file.
    pub file: &'a Path,
    /// Whether the whole folder of `file` belongs to the model, so that labels in it are meant for it.
    pub has_folder: bool,
    /// What its folder's `MLmodel` says.
    pub mlflow: Option<&'a Mlflow>,
}

/// A checked way from files to rows. Cheap to clone.
#[derive(Clone)]
pub struct Scorer {
    session: Session,
    task: Task,
    prediction: Prediction,
}

/// What the model's inputs are made of.
#[derive(Clone)]
enum Task {
    Pictures(Pictures),
}

impl Scorer {
    /// Finds out what `model` takes and gives, as `tags` have it.
    ///
    /// # Errors
    /// If it takes nothing that files can be turned into, if its signature or labels do not fit it, or a tag is wrong.
    pub fn new(model: &Model<'_>, tags: &std::collections::BTreeMap<String, String>) -> Result<Self, BuiltInError> {
        let tags = Tags::read(tags)?;
        let agreed = Agreed::new(model.session.inputs(), model.session.outputs(), model.mlflow)?;
        let task = Task::Pictures(Pictures::new(&agreed.inputs, &tags)?);
        let labels = if model.has_folder { labels::find(model.file)? } else { None };
        let prediction = Prediction::new(&agreed.outputs, tags.predictions, labels)?;
        Ok(Self { session: model.session.clone(), task, prediction })
    }

    /// What it will do, in words for people.
    pub fn describe(&self) -> String {
        let Task::Pictures(pictures) = &self.task;
        format!("scores {}; a row is `file`, {}", pictures.describe(), self.prediction.describe())
    }

    /// The endings of the files that it scores.
    pub fn endings(&self) -> &'static [&'static str] {
        let Task::Pictures(_) = &self.task;
        pictures::ENDINGS
    }

    /// Checks that every file's name ends as one that can be scored. What is in them is found out when they are.
    ///
    /// # Errors
    /// Names the first that does not, how many there are, and what would.
    pub fn check_files<'n>(&self, names: impl Iterator<Item = &'n [u8]>) -> Result<(), BuiltInError> {
        let fits = |name: &[u8]| {
            let ending = name.rsplit(|&b| b == b'.').next().unwrap_or_default();
            ending.len() < name.len() && self.endings().iter().any(|e| ending.eq_ignore_ascii_case(e.as_bytes()))
        };
        let mut others = names.filter(|name| !fits(name));
        let Some(first) = others.next() else { return Ok(()) };
        let first = crate::script::printable(first);
        Err(BuiltInError::Files { first, count: 1 + others.count(), endings: self.endings() })
    }
}

/// Why a deployment without a script cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum BuiltInError {
    /// The model takes what no file becomes.
    #[error("a model without a script takes pictures, N×3×height×width or N×height×width×3; this one takes {takes}")]
    Inputs {
        /// What it takes.
        takes: String,
    },
    /// A picture model that leaves the size of pictures open.
    #[error("the model's input `{0}` leaves the size of its pictures open")]
    Size(String),
    /// The signature contradicts the graph.
    #[error("`{}` does not fit the model: {reason}", path.display())]
    Signature {
        /// The `MLmodel`.
        path: PathBuf,
        /// What both say.
        reason: String,
    },
    /// A tag of the built-in scorer that cannot be.
    #[error("tag `{key}` is `{value}`; allowed is {allowed}")]
    Tag {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// The labels cannot be read, or are not one for each class.
    #[error("labels `{}`: {reason}", path.display())]
    Labels {
        /// Their file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model's outputs cannot become rows.
    #[error("{0}")]
    Outputs(String),
    /// An output that only scripts can fill.
    #[error("`output_action: summary_only` drops the rows, and without a script nothing else is written")]
    SummaryOnly,
    /// Files of the input that cannot be scored.
    #[error(
        "{count} file{} of the input cannot be scored without a script, `{first}` {}; what can ends with .{}",
        if *count == 1 { "" } else { "s" },
        if *count == 1 { "only" } else { "first" },
        endings.join(", .")
    )]
    Files {
        /// The first of them.
        first: String,
        /// How many there are.
        count: usize,
        /// What can be scored.
        endings: &'static [&'static str],
    },
}

impl BuiltInError {
    /// Whose fault it is: always the caller's, who chose model, tags and files.
    pub fn fault(&self) -> Fault {
        Fault::Caller
    }

    /// A known cure.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            BuiltInError::Inputs { .. } => Some(
                "write a script that makes what the model takes, and name it under code_configuration; \
                 `scorehost check` shows what models take",
            ),
            BuiltInError::Size(_) => Some("give it by a tag: tags: {picture_size: 224x224}"),
            BuiltInError::Signature { .. } => {
                Some("save the model again, with a signature inferred from what it takes")
            }
            BuiltInError::Files { .. } => Some("move them out of the input folder, or write a script that scores them"),
            BuiltInError::SummaryOnly => Some("leave `output_action` out, or write a script that writes its own files"),
            BuiltInError::Tag { .. } | BuiltInError::Labels { .. } | BuiltInError::Outputs(_) => None,
        }
    }
}
