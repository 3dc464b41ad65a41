//! Tables of a mini-batch → rows: a batch of records is read while the model is at the ones before.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::instance::{AHEAD, Instance, Made, Predicted, failure, joined, unreadable};
use super::{Records, Tables};
use crate::fault::{self, Fault};
use crate::row::{Column, FailedFile};
use crate::script::{Call, ScriptError};
use crate::table::{Batch, Table, TableError};

/// Why a table gives no rows, or the whole call fails.
enum Failure {
    File(String),
    Call(ScriptError),
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        Failure::Call(error)
    }
}

/// Appends a row for each record to `made`; returns the files whose records cannot be scored, which give no row.
pub(in super::super) async fn score(
    instance: &Instance,
    tables: &Tables,
    call: &Call<'_>,
    made: &mut Made,
) -> Result<Vec<FailedFile>, ScriptError> {
    let records = tables.records.as_ref().ok_or_else(|| failure("the columns of the job's tables are not known"))?;
    let mut failed = Vec::new();
    for (index, file) in (0..).zip(call.files) {
        match score_file(instance, tables, records, file).await {
            Ok(columns) => made.append(columns)?,
            Err(Failure::File(reason)) => failed.push(FailedFile { index, reason }),
            Err(Failure::Call(error)) => return Err(error),
        }
    }
    Ok(failed)
}

/// Records whose prediction is on its way.
struct Waiting {
    columns: Vec<Column>,
    rows: usize,
    answer: Predicted,
}

async fn score_file(
    instance: &Instance,
    tables: &Tables,
    records: &Records,
    file: &str,
) -> Result<Vec<Column>, Failure> {
    let mut reader = Reader::open(instance.services.input_folder.join(file), file).await?;
    let fields = reader.table.as_ref().map(|table| table.fields().to_vec()).unwrap_or_default();
    tables.check(&fields).and_then(|()| records.check(&fields)).map_err(Failure::File)?;
    if let Some(table) = &mut reader.table {
        records.widen(table);
    }
    let held = reader.table.as_ref().map_or(0, Table::memory);
    let _held = instance.budget.take(held).map_err(failure)?;
    // Of a batch's own cells, of which four are held at a time: together half of what an instance may.
    let bytes = instance.services.limits.tensor_bytes / 8;
    let (mut made, mut waiting, mut before) = (Made::new(instance), VecDeque::new(), 0);
    while let Some(batch) = reader.next(tables.rows, bytes).await? {
        let inputs = tables.inputs(&batch, records, before).map_err(Failure::File)?;
        let columns = records.columns(&batch).map_err(Failure::File)?;
        before += batch.rows();
        let numbers = inputs.iter().map(crate::tensor::Tensor::byte_len).sum::<usize>();
        let results = instance.scorer.session.output_bytes(tables.fixed.unwrap_or_else(|| batch.rows()));
        let numbers = instance.budget.take(numbers).map_err(failure)?;
        let results = instance.budget.take(results).map_err(failure)?;
        let answer = instance.predict(inputs, numbers, results).await?;
        waiting.push_back(Waiting { columns, rows: batch.rows(), answer });
        if waiting.len() > AHEAD
            && let Some(oldest) = waiting.pop_front()
        {
            finish(instance, file, oldest, &mut made).await?;
        }
    }
    for batch in waiting {
        finish(instance, file, batch, &mut made).await?;
    }
    let columns = made.into_columns();
    if columns.is_empty() { Err(Failure::File("the table has no records".into())) } else { Ok(columns) }
}

/// Waits for a batch and appends its rows: the file, the record, what the model predicts.
async fn finish(instance: &Instance, file: &str, batch: Waiting, made: &mut Made) -> Result<(), ScriptError> {
    let predicted = instance.predicted(&batch.answer, batch.rows).await?;
    made.append(joined(vec![file.to_owned(); batch.rows], batch.columns, predicted))
}

/// A table that is read on a thread of its own, so that a deadline ends the wait for it.
struct Reader {
    /// Away while it is read.
    table: Option<Table>,
    file: String,
    /// Told to stop when nobody waits any more.
    stop: Arc<AtomicBool>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    async fn open(path: PathBuf, file: &str) -> Result<Self, Failure> {
        let mut reader = Self { table: None, file: file.to_owned(), stop: Arc::default() };
        let (name, stop) = (reader.file.clone(), Arc::clone(&reader.stop));
        let opened = tokio::task::spawn_blocking(move || Table::open(&path, &name, &stop)).await;
        reader.table = Some(reader.settle(opened)?);
        Ok(reader)
    }

    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Option<Batch>, Failure> {
        let Some(mut table) = self.table.take() else { return Ok(None) };
        let read = move || table.next(rows, bytes).map(|batch| (table, batch));
        let (table, batch) = self.settle(tokio::task::spawn_blocking(read).await)?;
        self.table = Some(table);
        Ok(batch)
    }

    fn settle<T>(&self, read: Result<Result<T, TableError>, tokio::task::JoinError>) -> Result<T, Failure> {
        match read {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.fault() == Fault::Transient => {
                Err(Failure::Call(unreadable(&self.file, &fault::chain(&error))))
            }
            Ok(Err(error)) => Err(Failure::File(fault::chain(&error))),
            Err(_) => Err(Failure::File("reading the table panicked".into())),
        }
    }
}
