//! Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).
//! One row a file: its name, the most likely class, that class's probability.

use scorehost_sdk::{Model, Output, Recipe, Result, file_name, images, script, setting_or};

struct Scorer {
    model: Model,
    recipe: Recipe,
    device_batching: usize,
}

fn init() -> Result<Scorer> {
    let model = Model::open(None)?;
    let recipe = Recipe::for_model(&model)?;
    Ok(Scorer { model, recipe, device_batching: setting_or("device_batching", usize::MAX)?.max(1) })
}

fn run(scorer: &mut Scorer, mini_batch: &[String]) -> Result<Output> {
    let mut output = Output::new(["file", "class", "probability"]);
    let images::Loaded { pictures, failed } = images::load(mini_batch, &scorer.recipe)?;
    let good: Vec<_> = (0u32..).zip(mini_batch).filter(|(i, _)| failed.iter().all(|f| f.index != *i)).collect();
    output.fail_all(failed);
    // Every batch is handed over before the first result is read, so that the device never waits for the script.
    let scored = good.chunks(scorer.device_batching).scan(0, |start, files| {
        let count = u32::try_from(files.len()).ok()?;
        let batch = pictures.slice(*start, count).and_then(|batch| scorer.model.predict(&batch));
        *start += count;
        Some(batch.map(|logits| (files, logits.softmax())))
    });
    for (files, probabilities) in scored.collect::<Result<Vec<_>>>()? {
        for ((_, file), (class, probability)) in files.iter().zip(probabilities.best_of_rows()?) {
            output.push((file_name(file), class, probability));
        }
    }
    Ok(output)
}

script!(init, run);
