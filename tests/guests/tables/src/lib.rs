//! Appends a model's prediction to each record of its tables, and, where the setting `write` names a file, writes them
//! there, too.

use scorehost_sdk::{Batch, Column, Model, Output, Result, Writer, context, script};

fn init() -> Result<Model> {
    Model::open(None)
}

fn run(model: &mut Model, mini_batch: &[String]) -> Result<Output> {
    let mut written = Vec::new();
    let output = Output::by_table(mini_batch, 100, |batch| {
        let mut columns = batch.columns()?;
        columns.push(Column::of("prediction", predicted(model, batch)?)?);
        written.push(columns.clone());
        Ok(columns)
    })?;
    if let Some(name) = context::setting("write") {
        // Never finished, so that nobody may see it.
        let unfinished = Writer::create("unfinished.csv")?;
        let table = Writer::create(&name)?;
        for columns in &written {
            unfinished.write(columns)?;
            table.write(columns)?;
        }
        table.finish()?;
        std::mem::forget(unfinished);
    }
    Ok(output)
}

/// One input of all columns, or one of each by its name.
fn predicted(model: &Model, batch: &Batch) -> Result<Vec<f32>> {
    let inputs = model.inputs();
    if let [_] = inputs.as_slice() {
        return model.predict(&batch.tensor(&["age", "income", "member"])?)?.floats();
    }
    let tensors = inputs.iter().map(|input| batch.tensor(&[&input.name])).collect::<Result<Vec<_>>>()?;
    let named: Vec<_> = inputs.iter().map(|input| input.name.clone()).zip(&tensors).collect();
    model.predict_named(&named)?.into_iter().next().ok_or("the model has no output")?.1.floats()
}

script!(init, run);
