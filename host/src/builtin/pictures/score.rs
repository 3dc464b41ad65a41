//! Pictures of a mini-batch → rows: decoded ahead on all cores, batch after batch through the model.

use std::collections::VecDeque;

use super::super::instance::{AHEAD, Instance, Made, Predicted, failure, joined, unreadable};
use super::Pictures;
use crate::fault::{self, Fault};
use crate::row::FailedFile;
use crate::script::{Call, ScriptError};
use crate::tensor::Tensor;
use crate::vision::ahead::Place;

/// Appends a row for each picture to `made`; returns the files that are none.
pub(in super::super) async fn score(
    instance: &Instance,
    pictures: &Pictures,
    call: &Call<'_>,
    made: &mut Made,
) -> Result<Vec<FailedFile>, ScriptError> {
    let (mut failed, mut waiting) = (Vec::new(), VecDeque::new());
    let all: Vec<u32> = (0..).zip(call.files).map(|(index, _)| index).collect();
    for indices in all.chunks(pictures.batch(instance.services.limits.tensor_bytes)) {
        if let Some(batch) = begin(instance, pictures, call, indices, &mut failed).await? {
            waiting.push_back(batch);
        }
        if waiting.len() > AHEAD
            && let Some(oldest) = waiting.pop_front()
        {
            finish(instance, call, oldest, made).await?;
        }
    }
    for batch in waiting {
        finish(instance, call, batch, made).await?;
    }
    Ok(failed)
}

/// Files whose prediction is on its way.
struct Batch {
    files: Vec<u32>,
    answer: Predicted,
}

/// Hands a batch of files to the model; none if all of them failed.
async fn begin(
    instance: &Instance,
    pictures: &Pictures,
    call: &Call<'_>,
    indices: &[u32],
    failed: &mut Vec<FailedFile>,
) -> Result<Option<Batch>, ScriptError> {
    let Instance { services, budget, scorer, .. } = instance;
    let path = |index: u32| services.input_folder.join(&call.files[index as usize]);
    let place = |index: u32| Place { mini_batch: call.mini_batch, index };
    let places: Vec<_> = indices.iter().map(|&index| (place(index), path(index))).collect();
    let count = pictures.fixed.unwrap_or(places.len());
    let (bytes, results) = (pictures.recipe.row_bytes().saturating_mul(count), scorer.session.output_bytes(count));
    let (held, results) = budget.take(bytes).and_then(|rows| Ok((rows, budget.take(results)?))).map_err(failure)?;
    let (mut rows, mut files) = (Vec::new(), Vec::new());
    for (&index, row) in indices.iter().zip(services.loader.rows(&places, &pictures.recipe).await) {
        match row {
            Ok(prepared) => {
                rows.push(prepared.row.clone());
                files.push(index);
            }
            Err(error) if error.fault() == Fault::Transient => {
                return Err(unreadable(&call.files[index as usize], &fault::chain(&error)));
            }
            Err(error) => failed.push(FailedFile { index, reason: fault::chain(&error) }),
        }
    }
    let Some(last) = rows.last().cloned() else { return Ok(None) };
    if let Some(fixed) = pictures.fixed {
        // A model that takes no other number of rows gets one of them more than once; what comes of it is left out.
        rows.resize(fixed, last);
    }
    let input = Tensor::stack(&rows).map_err(|e| failure(e.to_string()))?;
    drop(rows);
    Ok(Some(Batch { files, answer: instance.predict(vec![input], held, results).await? }))
}

/// Waits for a batch and appends its rows.
async fn finish(instance: &Instance, call: &Call<'_>, batch: Batch, made: &mut Made) -> Result<(), ScriptError> {
    let predicted = instance.predicted(&batch.answer, batch.files.len()).await?;
    let files = batch.files.iter().map(|&index| call.files[index as usize].clone()).collect();
    made.append(joined(files, Vec::new(), predicted))
}
