//! The built-in scorer at work: a mini-batch's files, batch after batch, under a deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::pictures::Pictures;
use super::{Scorer, Task};
use crate::fault::{self, Fault};
use crate::infer::InferError;
use crate::infer::session::Answer;
use crate::row::{Cells, Column, FailedFile, Rows};
use crate::script::{self, Budget, Call, RunOutput, ScriptError, Services};
use crate::tensor::Tensor;
use crate::vision::ahead::Place;

/// Batches whose results are waited for while the next is made: enough that a device always has one.
const AHEAD: usize = 2;

/// A [`Scorer`] that scores mini-batches; lives on one thread at a time.
pub struct Instance {
    scorer: Scorer,
    services: Arc<Services>,
    stop: Arc<AtomicBool>,
    budget: Arc<Budget>,
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

    /// Scores one mini-batch: a row for each file, or a reason why there is none.
    ///
    /// # Errors
    /// If the model fails, the call passes its deadline or a limit, or the job stops.
    pub fn run(&mut self, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        // Whatever a call that was broken off has left on its way counts for nobody.
        self.budget = Budget::new(self.services.limits.tensor_bytes);
        self.device_ns = Arc::default();
        let Task::Pictures(pictures) = &self.scorer.task;
        match script::block_on(call.timeout, &self.stop, self.score(pictures, call))? {
            Some(result) => result,
            None if self.stop.load(Ordering::Relaxed) => Err(ScriptError::Stopped),
            None => Err(ScriptError::Timeout { call: "scoring", limit: call.timeout }),
        }
    }

    /// Time that the device spent on the last call.
    pub fn device_time(&self) -> Duration {
        Duration::from_nanos(self.device_ns.load(Ordering::Relaxed))
    }

    async fn score(&self, pictures: &Pictures, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        let mut made = Made { instance: self, files: call.files, columns: Vec::new(), bytes: 0 };
        let (mut failed, mut waiting) = (Vec::new(), VecDeque::new());
        let all: Vec<u32> = (0..).zip(call.files).map(|(index, _)| index).collect();
        for indices in all.chunks(pictures.batch(self.services.limits.tensor_bytes)) {
            if let Some(batch) = self.begin(pictures, call, indices, &mut failed).await? {
                waiting.push_back(batch);
            }
            if waiting.len() > AHEAD
                && let Some(oldest) = waiting.pop_front()
            {
                made.take(oldest).await?;
            }
        }
        for batch in waiting {
            made.take(batch).await?;
        }
        let rows = Rows::new(made.columns, self.services.limits.output_rows).map_err(ScriptError::Output)?;
        Ok(RunOutput { rows, failed })
    }

    /// Hands a batch of files to the model; none if all of them failed.
    async fn begin(
        &self,
        pictures: &Pictures,
        call: &Call<'_>,
        indices: &[u32],
        failed: &mut Vec<FailedFile>,
    ) -> Result<Option<Batch>, ScriptError> {
        let path = |index: u32| self.services.input_folder.join(&call.files[index as usize]);
        let place = |index: u32| Place { mini_batch: call.mini_batch, index };
        let places: Vec<_> = indices.iter().map(|&index| (place(index), path(index))).collect();
        let count = pictures.fixed.unwrap_or(places.len());
        let bytes = pictures.recipe.row_bytes().saturating_mul(count);
        let results = self.scorer.session.output_bytes(count);
        let held = self.budget.take(bytes).and_then(|rows| Ok((rows, self.budget.take(results)?))).map_err(failure)?;
        let (mut rows, mut scored) = (Vec::new(), Vec::new());
        for (&index, row) in indices.iter().zip(self.services.loader.rows(&places, &pictures.recipe).await) {
            match row {
                Ok(prepared) => {
                    rows.push(prepared.row.clone());
                    scored.push(index);
                }
                // One file that may be readable later fails the call, so that it is tried again.
                Err(error) if error.fault() == Fault::Transient => {
                    let reason = format!("`{}`: {}", call.files[index as usize], fault::chain(&error));
                    return Err(ScriptError::BuiltIn { reason, transient: true });
                }
                Err(error) => failed.push(FailedFile { index, reason: fault::chain(&error) }),
            }
        }
        let Some(last) = rows.last().cloned() else { return Ok(None) };
        if let Some(fixed) = pictures.fixed {
            rows.resize(fixed, last);
        }
        let input = Tensor::stack(&rows).map_err(|e| failure(e.to_string()))?;
        drop(rows);
        let answer = self.scorer.session.predict(vec![input], &self.device_ns, Box::new(held)).await;
        Ok(Some(Batch { files: scored, answer: answer.map_err(|e| of_model(&e))? }))
    }
}

/// Files whose prediction is on its way.
struct Batch {
    files: Vec<u32>,
    answer: Answer,
}

/// The columns so far.
struct Made<'a> {
    instance: &'a Instance,
    files: &'a [String],
    columns: Vec<Column>,
    bytes: usize,
}

impl Made<'_> {
    /// Waits for a batch and appends its rows.
    async fn take(&mut self, batch: Batch) -> Result<(), ScriptError> {
        let outputs = batch.answer.outputs().await.map_err(|e| of_model(&e))?;
        let predicted = self.instance.scorer.prediction.columns(&outputs, batch.files.len()).map_err(failure)?;
        let files = batch.files.iter().map(|&index| self.files[index as usize].clone()).collect();
        let mut columns = vec![Column { name: "file".into(), cells: Cells::Texts(files), nulls: Vec::new() }];
        columns.extend(predicted);
        self.bytes += columns.iter().map(|column| byte_count(&column.cells)).sum::<usize>();
        let limit = self.instance.services.limits.output_bytes;
        if self.bytes > limit {
            return Err(failure(format!("the rows of the mini-batch pass limits.output_bytes, which is {limit}")));
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

/// Appends rows to rows of the same columns.
fn append(columns: &mut [Column], more: Vec<Column>) -> Result<(), String> {
    let is_alike = columns.len() == more.len() && columns.iter().zip(&more).all(|(a, b)| a.name == b.name);
    if !is_alike {
        return Err("the model gave rows of another width than before".into());
    }
    for (column, more) in columns.iter_mut().zip(more) {
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

/// What the host's own rules refuse, or what would come again.
fn failure(reason: impl Into<String>) -> ScriptError {
    ScriptError::BuiltIn { reason: reason.into(), transient: false }
}

fn of_model(error: &InferError) -> ScriptError {
    ScriptError::BuiltIn { reason: fault::chain(error), transient: error.fault() == Fault::Transient }
}
