//! The settings of a deployment, resolved: every one has a value.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// What is done with the rows that a script returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputAction {
    /// They are written to the predictions file.
    AppendRow,
    /// They are counted and dropped; the script writes its own files.
    SummaryOnly,
}

/// How the predictions file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// Space-separated, no header, quotes where needed: as Azure writes it.
    Azure,
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// The least important messages of a script that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoggingLevel {
    /// Warnings and errors.
    Warning,
    /// These, and what is worth knowing.
    Info,
    /// Everything.
    Debug,
}

/// Where models run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The best that this machine has and the model fits.
    Auto,
    /// The GPU, or an error.
    Gpu,
    /// The CPU, by the embedded engine.
    Cpu,
    /// The CPU, by ONNX Runtime.
    Onnxruntime,
}

/// What a script may use at most; see [`super::keys::KEYS`] for the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of linear memory of one instance.
    pub memory: u64,
    /// Elements of its tables.
    pub table_elements: u64,
    /// Bytes of what it prints and logs in one attempt.
    pub log_bytes: u64,
    /// Rows of one mini-batch.
    pub output_rows: u64,
    /// Bytes of the rows of one mini-batch.
    pub output_bytes: u64,
    /// Bytes that the files which a script writes may take in one mini-batch.
    pub file_bytes: u64,
    /// And in all of them together.
    pub job_file_bytes: u64,
    /// Bytes of the tensors that the host holds for one instance.
    pub tensors: u64,
    /// Pixels of one picture, before it is resized.
    pub pixels: u64,
    /// Seconds that the start of an instance may take, `init` included.
    pub init: u64,
}

/// How the mini-batches of a job are cut, run, retried and written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Files per `run`.
    pub mini_batch_size: NonZeroU32,
    /// Script instances at once.
    pub max_concurrency_per_instance: NonZeroU32,
    /// Failed files over the whole input before the job is stopped; none ignores them.
    pub error_threshold: Option<u64>,
    /// Further attempts after the first.
    pub max_retries: u32,
    /// For one `run`, host functions included.
    #[serde(rename = "timeout_seconds", serialize_with = "whole_seconds")]
    pub timeout: Duration,
    /// What is done with the rows.
    pub output_action: OutputAction,
    /// The predictions file: a plain file name.
    pub output_file_name: String,
    /// How it is written.
    pub output_format: OutputFormat,
    /// What is kept of the script's log.
    pub logging_level: LoggingLevel,
    /// Variables for the script. Only their names are serialised: values are often secrets, and records are read by
    /// callers.
    #[serde(serialize_with = "names_only")]
    pub environment_variables: BTreeMap<String, String>,
    /// Where models run.
    pub device: Device,
    /// Whether a script's clocks show a time that is the mini-batch's, and not the world's.
    pub deterministic: bool,
    /// What a script may use at most.
    pub limits: Limits,
}

impl OutputFormat {
    /// The ending of a predictions file in this format.
    pub fn extension(self) -> &'static str {
        match self {
            OutputFormat::Azure | OutputFormat::Csv => "csv",
            OutputFormat::Jsonl => "jsonl",
            OutputFormat::Parquet => "parquet",
        }
    }
}

fn whole_seconds<S: Serializer>(timeout: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(timeout.as_secs())
}

fn names_only<S: Serializer>(variables: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(variables.keys())
}
