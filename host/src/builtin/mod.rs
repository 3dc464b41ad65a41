//! The built-in scorer: what scores the files of a deployment that has a model and no script.
//!
//! What goes in: an open model, what its folder says of it (MLflow's signature, labels), and the deployment's tags. What
//! comes out: a row for each picture, or for each record of a table, with what the model predicts. What a model takes
//! decides what files are scored; a model, a tag or a file that does not fit is refused before the first mini-batch.
//! No script runs: errors, deadlines and limits are those of [`crate::script`], so that a job cannot tell the two apart.

mod error;
mod instance;
mod labels;
mod pictures;
mod prediction;
mod signature;
mod tables;
mod tags;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use serde_json::Value;

pub use error::BuiltInError;
pub use instance::Instance;

use crate::deployment::Mlflow;
use crate::fault;
use crate::infer::Port;
use crate::infer::session::Session;
use crate::table::Table;
use pictures::Pictures;
use prediction::Prediction;
use signature::Agreed;
use tables::{Learning, Records, Tables};
use tags::{Kind, Tags};

/// What decides, beside the model, the rows that are written: to be raised when they change, so that no job is resumed
/// into other rows.
pub const VERSION: &str = "built-in 2";

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
    Tables(Tables),
}

/// Tables that are looked at for one that opens, and for columns that have no value in that: the first of a job may be a
/// damaged one, or of a day without remarks, not all of them.
const MAX_FIRST: usize = 16;

/// Rows that a model may insist on: exporters fix the batch at a few, and what is missing in the last one is filled up.
const MAX_FIXED_ROWS: usize = 4096;

/// The size of an input's first dimension, where it is fixed.
fn fixed_rows(port: &Port) -> Result<Option<usize>, BuiltInError> {
    match port.shape.first().copied().flatten() {
        Some(rows) if !(1..=MAX_FIXED_ROWS).contains(&rows) => {
            let text =
                format!("the model's input `{}` takes exactly {rows} rows; 1 to {MAX_FIXED_ROWS} are given", port.name);
            Err(BuiltInError::Outputs(text))
        }
        rows => Ok(rows),
    }
}

impl Scorer {
    /// Finds out what `model` takes and gives, as `tags` have it.
    ///
    /// # Errors
    /// If it takes nothing that files can be turned into, if its signature or labels do not fit it, or a tag is wrong.
    pub fn new(model: &Model<'_>, tags: &BTreeMap<String, String>) -> Result<Self, BuiltInError> {
        let written = tags;
        let tags = Tags::read(written)?;
        let agreed = Agreed::new(model.session.inputs(), model.session.outputs(), model.mlflow)?;
        let (task, kind) = match Tables::new(&agreed.inputs, agreed.columns.as_deref(), &tags)? {
            Some(tables) => {
                Tags::refuse(written, tags::PICTURE, "records of tables")?;
                (Task::Tables(tables), Kind::Values)
            }
            None => {
                let pictures = Pictures::new(&agreed.inputs, &tags)?;
                Tags::refuse(written, tags::TABLE, "pictures")?;
                (Task::Pictures(pictures), Kind::Class)
            }
        };
        let labels = if model.has_folder { labels::find(model.file)? } else { None };
        let prediction = Prediction::new(&agreed.outputs, tags.predictions, kind, labels)?;
        Ok(Self { session: model.session.clone(), task, prediction })
    }

    /// What it will do, in words for people.
    pub fn describe(&self) -> String {
        let predictions = self.prediction.describe();
        match &self.task {
            Task::Pictures(pictures) => format!("scores {}; a row is `file`, {predictions}", pictures.describe()),
            Task::Tables(tables) => {
                format!("scores {}; a row is `file`, the record's own columns, {predictions}", tables.describe())
            }
        }
    }

    /// The endings of the files that it scores.
    pub fn endings(&self) -> &'static [&'static str] {
        match &self.task {
            Task::Pictures(_) => pictures::ENDINGS,
            Task::Tables(_) => tables::ENDINGS,
        }
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

    /// Learns from a job's first table what columns rows have; every later table must have the same. What a column without
    /// any value is, the next few tables tell. `stop` ends it.
    ///
    /// # Errors
    /// If none of the first few tables has what the model takes: why the first has not.
    pub fn learn<'n>(
        &mut self,
        folder: &Path,
        names: impl Iterator<Item = &'n [u8]>,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), BuiltInError> {
        let Task::Tables(tables) = &mut self.task else { return Ok(()) };
        let (mut learning, mut first): (Option<Learning>, _) = (None, None);
        for file in names.filter_map(|name| std::str::from_utf8(name).ok()).take(MAX_FIRST) {
            let opened = Table::open(&folder.join(file), file, stop).map_err(|e| fault::chain(&e));
            let checked = opened.and_then(|table| tables.check(table.fields()).map(|()| table));
            match (checked, &mut learning) {
                (Ok(table), Some(learning)) => learning.admit(table.fields()),
                (Ok(table), none) => *none = Some(Learning::of(table.fields())),
                (Err(reason), None) => drop(first.get_or_insert(BuiltInError::Table { file: file.to_owned(), reason })),
                // It is one of the job's errors once it is scored.
                (Err(_), Some(_)) => {}
            }
            if learning.as_ref().is_some_and(Learning::is_complete) {
                break;
            }
        }
        match (learning, first) {
            (Some(learning), _) => tables.records = Some(learning.finish(|column| tables.takes(column))),
            (None, Some(error)) => return Err(error),
            (None, None) => {}
        }
        Ok(())
    }

    /// What was learned, to be kept beside a job's output.
    pub fn learned(&self) -> Value {
        match &self.task {
            Task::Tables(Tables { records: Some(records), .. }) => serde_json::json!(records),
            _ => Value::Null,
        }
    }

    /// Takes over what an earlier run of the job learned.
    ///
    /// # Errors
    /// If it is not that.
    pub fn recall(&mut self, learned: &Value) -> Result<(), BuiltInError> {
        if let Task::Tables(tables) = &mut self.task
            && !learned.is_null()
        {
            let records = Records::deserialize(learned).map_err(|e| BuiltInError::Learned(e.to_string()))?;
            tables.records = Some(records);
        }
        Ok(())
    }
}
