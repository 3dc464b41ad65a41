//! What is done with handles: pictures, tensors and models that are not there, not this mini-batch's, or too many.

use scorehost_sdk::{Image, Model, Output, Recipe, Result, Tensor, concatenate, context, file_name, images, stack};

use crate::{Probe, constant, output};

pub(crate) fn behave(probe: &mut Probe, behave: &str, files: &[String]) -> Result<Option<Output>> {
    match behave {
        "strange-path" => drop(images::load(&["/etc/passwd".into()], &Recipe::new(8, 8))?),
        "long-path" => drop(Image::open(&"long".repeat(16 << 20))?),
        "long-model-path" => drop(Model::open(Some(&"long".repeat(16 << 20)))?),
        "long-setting" => drop(context::setting(&"long".repeat(16 << 20))),
        "big-recipe" => drop(images::load(files, &Recipe::new(0, 70_000))?),
        "wrong-shape" => drop(Model::open(None)?.predict(&Tensor::from_floats(&[1, 3, 7, 7], &[0.0; 147])?)?),
        "no-model" => drop(Model::open(Some("missing.onnx"))?),
        "leaves-model" => drop(Model::open(Some("../other.onnx"))?),
        "absolute-model" => drop(Model::open(Some("/etc/passwd"))?),
        "opens-all-reads-some" => return opens_all_reads_some(files).map(Some),
        "hoards-handles" => return Err(format!("{} recipes", hoard_recipes()).into()),
        "hoards-crops" => return Err(format!("{} pictures", hoard_crops(&files[0])?).into()),
        "loads-a-batch" => drop(images::load(files, &Recipe::new(512, 512))?),
        "prepares-a-large-one" => drop(Image::open(&files[0])?.tensor(&Recipe::new(2048, 2048))?.shape()?),
        "reads-a-large-copy" => drop(Tensor::from_bytes(&[8 << 20], &vec![1; 8 << 20])?.floats()?),
        "loads-one-many-times" => drop(images::load(&vec![files[0].clone(); 1_000_000], &Recipe::new(8, 8))?),
        "names-many-inputs" => names_many_inputs()?,
        "many-dimensions" => drop(Tensor::from_floats(&vec![1; 1 << 20], &[0.0])?),
        "stacks-on" => return Err(format!("{} dimensions", stacks_on()?).into()),
        "stacks-many" => stacks_many(90_000)?,
        "stacks-too-many" => stacks_many(1_000_000)?,
        "joins-one-many-times" => return Err(format!("{}", joins_one_many_times()?).into()),
        "takes-the-top-of-much" => return Err(format!("{}", takes_the_top_of_much()?).into()),
        "joins-views" => return Err(format!("{} views", joins_views()?).into()),
        "reads-bytes-as-integers" => return Err(format!("{} integers", reads_bytes_as_integers()?).into()),
        "hoards-predictions" => return Err(format!("{} numbers", hoards_predictions()?).into()),
        "keeps-tensors" => return keeps_tensors(probe, files).map(Some),
        "keeps-images" => return keeps_images(probe, files).map(Some),
        _ => {}
    }
    Ok(None)
}

/// Whether a file can be opened must not depend on what the host decoded ahead.
fn opens_all_reads_some(files: &[String]) -> Result<Output> {
    let recipe = Recipe::new(8, 8);
    let mut index = 0;
    Output::by_file(files, ["file", "width"], |file| {
        let image = Image::open(file)?;
        index += 1;
        if index % 2 == 1 {
            image.tensor(&recipe)?.floats()?;
        }
        Ok((file_name(file), image.width()))
    })
}

fn hoard_recipes() -> usize {
    let mut all = Vec::new();
    loop {
        all.push(Recipe::new(8, 8));
    }
}

fn hoard_crops(file: &str) -> Result<usize> {
    let image = Image::open(file)?;
    let mut all = Vec::new();
    loop {
        all.push(image.crop(0, 0, image.width(), image.height())?);
    }
}

/// Predictions of a model that gives more than it tells, none of them read before all are made.
fn hoards_predictions() -> Result<usize> {
    let model = Model::open(None)?;
    let row = Tensor::from_floats(&[1, 4], &[0.5; 4])?;
    let all: Vec<_> = (0..40).map(|_| model.predict(&row)).collect::<Result<_>>()?;
    all.iter().map(|tensor| Ok(tensor.floats()?.len())).sum()
}

fn names_many_inputs() -> Result<()> {
    let one = Tensor::from_floats(&[1], &[0.0])?;
    let inputs: Vec<_> = (0..90_000).map(|i| (i.to_string(), &one)).collect();
    Model::open(None)?.predict_named(&inputs).map(drop)
}

/// A dimension more each time, all of size one.
fn stacks_on() -> Result<usize> {
    let mut tensor = Tensor::from_floats(&[1], &[0.0])?;
    for _ in 0..100_000 {
        tensor = stack(&[&tensor])?;
    }
    Ok(tensor.shape()?.len())
}

/// One tensor, lent many times in one call.
fn stacks_many(times: u32) -> Result<()> {
    let one = Tensor::from_floats(&[1], &[0.5])?;
    let all = stack(&vec![&one; times as usize])?;
    assert_eq!(all.shape()?, [times, 1]);
    Ok(())
}

fn joins_one_many_times() -> Result<usize> {
    let one = Tensor::from_floats(&[1024, 10], &vec![0.0; 10_240])?.softmax();
    let many: Vec<&Tensor> = (0..60_000).map(|_| &one).collect();
    Ok(concatenate(&many)?.shape()?.len())
}

fn takes_the_top_of_much() -> Result<usize> {
    let part = Tensor::from_floats(&[1, 8 << 20], &vec![0.5; 8 << 20])?;
    let parts: Vec<&Tensor> = (0..12).map(|_| &part).collect();
    let all = concatenate(&parts)?;
    // Each takes the host a second or more: the deadline comes in the middle of one.
    (0..1000).map(|_| Ok(all.top(300_000)?.indices.len())).sum()
}

/// Views of a little that keep much alive.
fn joins_views() -> Result<usize> {
    let views = (0..64).map(|_| {
        let whole = Tensor::from_bytes(&[8 << 20], &vec![1; 8 << 20])?;
        concatenate(&[&whole.slice(0, 1)?])
    });
    Ok(views.collect::<Result<Vec<_>>>()?.len())
}

/// Eight bytes on the host, and in the script's memory, for each that is held.
fn reads_bytes_as_integers() -> Result<usize> {
    let part = Tensor::from_bytes(&[64 << 20], &vec![1; 64 << 20])?;
    let all = concatenate(&[&part; 16])?;
    Ok(all.integers()?.len())
}

/// The numbers that the mini-batch before left behind.
fn keeps_tensors(probe: &mut Probe, files: &[String]) -> Result<Output> {
    let before = probe.tensors.pop().map(|tensor| tensor.integers()).transpose()?;
    let index = i64::try_from(context::mini_batch()).unwrap_or(i64::MAX);
    probe.tensors.push(Tensor::from_integers(&[1], &[index])?);
    output::counted(files, before.map_or(99, |all| all[0].unsigned_abs()))
}

/// The size of a picture that the mini-batch before opened, and whether its pixels are still to be had.
fn keeps_images(probe: &mut Probe, files: &[String]) -> Result<Output> {
    if let Some(image) = probe.images.pop() {
        image.tensor(&Recipe::new(4, 4))?.floats()?;
    }
    probe.images.push(Image::open(&files[0])?);
    Ok(constant(files))
}
