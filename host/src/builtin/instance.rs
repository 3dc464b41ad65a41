//! The built-in scorer at work: a mini-batch's files under a deadline, whatever they are; and what both kinds of files
//! need for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Scorer, Task, pictures, tables};
use crate::fault::{self, Fault};
use crate::infer::InferError;
use crate::infer::session::{Account, Answer};
use crate::row::{Cells, Column, Rows};
use crate::script::{self, Budget, Call, Held, RunOutput, ScriptError, Services};
use crate::tensor::Tensor;

/// Batches whose results are waited for while the next is made: enough that a device always has one.
pub(super) const AHEAD: usize = 2;

/// A [`Scorer`] that scores mini-batches; lives on one thread at a time.
pub struct Instance {
    pub(super) scorer: Scorer,
    pub(super) services: Arc<Services>,
    pub(super) budget: Arc<Budget>,
    stop: Arc<AtomicBool>,
    device_ns: Arc<AtomicU64>,
}

impl Instance {
    /// An instance; `stop` ends its calls once it is true.
    pub fn new(scorer: &Scorer, services: &Arc<Services>, stop: &Arc<AtomicBool>) -> Self {
        Self {
            scorer: scorer.clone(),
            services: Arc::clone(services),
            stop: Arc::clone(stop),
            budget: Budget::new(services.limits.tensor_bytes),
            device_ns: Arc::default(),
        }
    }

    /// Scores one mini-batch: rows for each file, or a reason why there are none.
    ///
    /// # Errors
    /// If the model fails, the call passes its deadline or a limit, or the job stops.
    pub fn run(&mut self, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        // Whatever a call that was broken off has left on its way counts for nobody.
        self.budget = Budget::new(self.services.limits.tensor_bytes);
        self.device_ns = Arc::default();
        match script::block_on(call.timeout, &self.stop, self.score(call))? {
            Some(result) => result,
            None if self.stop.load(Ordering::Relaxed) => Err(ScriptError::Stopped),
            None => Err(ScriptError::Timeout { call: "scoring", limit: call.timeout }),
        }
    }

    /// Time that the device spent on the last call.
    pub fn device_time(&self) -> Duration {
        Duration::from_nanos(self.device_ns.load(Ordering::Relaxed))
    }

    async fn score(&self, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        let mut made = Made::new(self);
        let failed = match &self.scorer.task {
            Task::Pictures(pictures) => pictures::score(self, pictures, call, &mut made).await?,
            Task::Tables(tables) => tables::score(self, tables, call, &mut made).await?,
        };
        let rows = Rows::new(made.columns, self.services.limits.output_rows).map_err(ScriptError::Output)?;
        Ok(RunOutput { rows, failed })
    }

    /// Hands rows to the model. `rows` is dropped when they are; `results`, which grows to what the model gives, when
    /// that is.
    pub(super) async fn predict(
        &self,
        inputs: Vec<Tensor>,
        rows: Arc<Held>,
        results: Arc<Held>,
    ) -> Result<Predicted, ScriptError> {
        let counted = Counted { _rows: rows, results: Arc::clone(&results) };
        let answer = self.scorer.session.predict(inputs, &self.device_ns, Box::new(counted)).await;
        Ok(Predicted { answer: answer.map_err(|e| of_model(&e))?, _held: results })
    }

    /// Waits for a prediction; its first `rows` rows as columns.
    pub(super) async fn predicted(&self, predicted: &Predicted, rows: usize) -> Result<Vec<Column>, ScriptError> {
        let outputs = predicted.answer.outputs().await.map_err(|e| of_model(&e))?;
        self.scorer.prediction.columns(&outputs, rows).map_err(failure)
    }
}

/// What the model gives, perhaps later.
pub(super) struct Predicted {
    answer: Answer,
    _held: Arc<Held>,
}

/// What a request of the model counts for.
struct Counted {
    _rows: Arc<Held>,
    results: Arc<Held>,
}

impl Account for Counted {
    fn count(&self, bytes: usize) -> Result<(), String> {
        self.results.grow_to(bytes)
    }
}

/// The rows of a mini-batch so far, within what an instance may hand over.
pub(super) struct Made {
    columns: Vec<Column>,
    bytes: usize,
    max_bytes: usize,
    max_rows: usize,
}

impl Made {
    pub(super) fn new(instance: &Instance) -> Self {
        let limits = &instance.services.limits;
        Self { columns: Vec::new(), bytes: 0, max_bytes: limits.output_bytes, max_rows: limits.output_rows }
    }

    /// What was made, to be appended elsewhere.
    pub(super) fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// Appends rows of the same columns as those before.
    pub(super) fn append(&mut self, columns: Vec<Column>) -> Result<(), ScriptError> {
        let rows = |columns: &[Column]| columns.first().map_or(0, |column| column.cells.len());
        self.bytes += columns.iter().map(|column| byte_count(&column.cells)).sum::<usize>();
        if self.bytes > self.max_bytes {
            let text = "the rows of the mini-batch take more bytes than limits.output_bytes allows, which is";
            return Err(failure(format!("{text} {}", self.max_bytes)));
        }
        if rows(&self.columns) + rows(&columns) > self.max_rows {
            let text = "the mini-batch gives more rows than limits.output_rows allows, which is";
            return Err(failure(format!("{text} {}", self.max_rows)));
        }
        if self.columns.is_empty() {
            self.columns = columns;
            return Ok(());
        }
        append(&mut self.columns, columns).map_err(failure)
    }
}

/// About how much memory cells take.
fn byte_count(cells: &Cells) -> usize {
    match cells {
        Cells::Booleans(v) => v.len(),
        Cells::Integers(v) => v.len() * 8,
        Cells::Numbers(v) => v.len() * 8,
        Cells::Texts(v) => v.iter().map(|text| text.len() + 24).sum(),
    }
}

fn append(columns: &mut [Column], more: Vec<Column>) -> Result<(), String> {
    let is_alike = columns.len() == more.len() && columns.iter().zip(&more).all(|(a, b)| a.name == b.name);
    if !is_alike {
        return Err("the model gave rows of another width than before".into());
    }
    for (column, more) in columns.iter_mut().zip(more) {
        let start = u32::try_from(column.cells.len()).map_err(|e| e.to_string())?;
        column.nulls.extend(more.nulls.into_iter().map(|null| null.saturating_add(start)));
        match (&mut column.cells, more.cells) {
            (Cells::Booleans(all), Cells::Booleans(more)) => all.extend(more),
            (Cells::Integers(all), Cells::Integers(more)) => all.extend(more),
            (Cells::Numbers(all), Cells::Numbers(more)) => all.extend(more),
            (Cells::Texts(all), Cells::Texts(more)) => all.extend(more),
            (had, has) => {
                return Err(format!("column `{}` holds {}, and then {}", column.name, had.kind(), has.kind()));
            }
        }
    }
    Ok(())
}

/// How often a name is made longer until no other column has it. Who needs more has named columns to that end, and their
/// rows are refused for it.
const MAX_MARKS: usize = 16;

/// The columns of some rows: their files, their records' own, what the model predicts. A record's columns keep their names;
/// any other that has the name of one of those, or of one before it, gets `_` at its end until it has not.
pub(super) fn joined(files: Vec<String>, records: Vec<Column>, predicted: Vec<Column>) -> Vec<Column> {
    let mut taken: HashSet<String> = records.iter().map(|column| column.name.clone()).collect();
    let mut free = |column: Column| {
        let mut name = column.name;
        for _ in 0..MAX_MARKS {
            if !taken.contains(&name) {
                break;
            }
            name.push('_');
        }
        taken.insert(name.clone());
        Column { name, ..column }
    };
    let file = free(Column { name: "file".to_owned(), cells: Cells::Texts(files), nulls: Vec::new() });
    let predicted: Vec<_> = predicted.into_iter().map(free).collect();
    std::iter::once(file).chain(records).chain(predicted).collect()
}

/// What the host's own rules refuse, or what would come again.
pub(super) fn failure(reason: impl Into<String>) -> ScriptError {
    ScriptError::BuiltIn { reason: reason.into(), transient: false }
}

/// A file that may be readable later: the call is tried again.
pub(super) fn unreadable(file: &str, reason: &str) -> ScriptError {
    ScriptError::BuiltIn { reason: format!("`{file}`: {reason}"), transient: true }
}

fn of_model(error: &InferError) -> ScriptError {
    ScriptError::BuiltIn { reason: fault::chain(error), transient: error.fault() == Fault::Transient }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, cells: Cells, nulls: &[u32]) -> Column {
        Column { name: name.into(), cells, nulls: nulls.to_vec() }
    }

    #[test]
    fn no_two_columns_have_one_name() {
        let named = |names: &[&str]| names.iter().map(|name| column(name, Cells::Integers(vec![1]), &[])).collect();
        let names = |records: &[&str], predicted: &[&str]| {
            let columns = joined(vec!["a.csv".into()], named(records), named(predicted));
            columns.into_iter().map(|column| column.name).collect::<Vec<_>>().join(" ")
        };
        // The records' columns, the outputs, and what becomes of them.
        for (records, predicted, expected) in [
            (&["x"][..], &["y"][..], "file x y"),
            (&["x"], &["x"], "file x x_"),
            (&["file", "y"], &["y", "y_"], "file_ file y y_ y__"),
            (&["x"], &["file"], "file x file_"),
            (&[], &["file", "a", "a"], "file file_ a a_"),
        ] {
            assert_eq!(names(records, predicted), expected);
        }
        // Not without end: these rows are refused for their names.
        let columns = joined(vec!["a.csv".into()], Vec::new(), named(&["a"; 40]));
        assert!(Rows::new(columns, 9).is_err());
    }

    #[test]
    fn rows_are_appended_with_their_nulls() {
        let mut all = vec![column("a", Cells::Integers(vec![1, 0]), &[1])];
        append(&mut all, vec![column("a", Cells::Integers(vec![0, 4]), &[0])]).unwrap();
        assert_eq!(all, [column("a", Cells::Integers(vec![1, 0, 0, 4]), &[1, 2])]);
        for other in [column("b", Cells::Integers(vec![1]), &[]), column("a", Cells::Numbers(vec![1.0]), &[])] {
            assert!(append(&mut all.clone(), vec![other]).is_err());
        }
    }
}
