//! Why a deployment without a script is refused, and the cure.

use std::path::PathBuf;

use crate::fault::Fault;

/// Why a deployment without a script cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum BuiltInError {
    /// The model folder does not say which model it is.
    #[error("{0}")]
    NoModel(String),
    /// The model takes what no file becomes.
    #[error(
        "a model without a script takes pictures, N×3×height×width or N×height×width×3, or records, N×columns or an \
         input for each column; this one takes {takes}"
    )]
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
    /// The model's outputs cannot become rows, or its inputs cannot be filled.
    #[error("{0}")]
    Outputs(String),
    /// An output that only scripts can fill.
    #[error("`output_action: summary_only` drops the rows, and without a script nothing else is written")]
    SummaryOnly,
    /// A table that has not what the model takes.
    #[error("table `{file}`: {reason}")]
    Table {
        /// Its name below the input folder.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What an earlier run kept is not what it must be.
    #[error("the columns that the job began with are not to be read: {0}")]
    Learned(String),
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
            BuiltInError::NoModel(_) => Some("name the file: model: FOLDER/FILE.onnx"),
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
            BuiltInError::Learned(_) => Some("start again with --overwrite"),
            BuiltInError::Table { .. }
            | BuiltInError::Tag { .. }
            | BuiltInError::Labels { .. }
            | BuiltInError::Outputs(_) => None,
        }
    }
}
