//! Scores pictures one at a time: decode, resize as Pillow does, scale to [0, 1], predict, softmax.
//! One row a file: its name, the most likely class, that class's probability.

use scorehost_sdk::{Image, Model, Output, Recipe, Result, file_name, script};

struct Scorer {
    model: Model,
    recipe: Recipe,
}

fn init() -> Result<Scorer> {
    let model = Model::open(None)?;
    let recipe = Recipe::for_model(&model)?;
    Ok(Scorer { model, recipe })
}

fn run(scorer: &mut Scorer, mini_batch: &[String]) -> Result<Output> {
    let predict = |file| {
        let pixels = Image::open(file)?.tensor(&scorer.recipe)?;
        Ok(scorer.model.predict(&pixels)?.softmax())
    };
    // Results are read once all files are on their way, so that the model never waits for the script.
    Output::by_file_ahead(mini_batch, ["file", "class", "probability"], predict, |file, probabilities| {
        let (class, probability) = probabilities.best()?;
        Ok((file_name(file), class, probability))
    })
}

script!(init, run);
