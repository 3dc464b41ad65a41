//! Decoding and resizing: pictures a second on one core, and on all of them (goals: 900 on one; on all, 0.9 ×
//! cores × one core's rate). Photos of the shared folder where there is one beside the checkout, else the demo's
//! small pictures.
//!
//! `cargo bench --bench decode`

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use rayon::prelude::*;
use scorehost::infer::device::threads;
use scorehost::vision::{Filter, Fit, Limits, Picture, Recipe, decode, decode_floats_into, prepare_floats_into};

fn main() {
    divan::main();
}

fn pictures() -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let photos = here.join("../../shared/data/imagenet-sample");
    let folder = if photos.is_dir() { photos } else { here.join("demo/pictures") };
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// What becomes of a picture.
const RECIPES: [&str; 3] = ["stretched", "cut", "as TensorFlow"];

fn recipe(name: &str) -> Recipe {
    let mut recipe = Recipe::new(224, 224).unwrap();
    recipe.set_normalise(1.0 / 255.0, [0.0; 3], [1.0; 3]);
    match name {
        "cut" => recipe.set_fit(Fit::ShorterSide(256)),
        "as TensorFlow" => recipe.set_filter(Filter::Bilinear, false),
        _ => {}
    }
    recipe
}

/// Bytes of a file to a row of 224 × 224 floats, for every picture; divan prints pictures a second.
#[divan::bench(args = [1, threads()], sample_count = 10)]
fn decode_and_resize(bencher: Bencher<'_, '_>, cores: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap();
    let (pictures, recipe, limits) = (pictures(), recipe("stretched"), Limits::default());
    bencher.counter(ItemsCount::new(pictures.len())).bench_local(|| {
        pool.install(|| {
            pictures.par_iter().for_each_init(
                || vec![0.0; recipe.row_len()],
                |row, bytes| {
                    decode_floats_into(bytes, &limits, &recipe, row).unwrap();
                },
            );
        });
    });
}

/// The same on one core, by recipe.
#[divan::bench(args = RECIPES, sample_count = 10)]
fn decode_and_resize_on_one_core(bencher: Bencher<'_, '_>, name: &str) {
    let (pictures, recipe, limits) = (pictures(), recipe(name), Limits::default());
    let mut row = vec![0.0; recipe.row_len()];
    bencher.counter(ItemsCount::new(pictures.len())).bench_local(|| {
        for bytes in &pictures {
            decode_floats_into(bytes, &limits, &recipe, &mut row).unwrap();
        }
    });
}

/// The decoder alone, to whole pictures.
#[divan::bench(sample_count = 10)]
fn decode_on_one_core(bencher: Bencher<'_, '_>) {
    let (pictures, limits) = (pictures(), Limits::default());
    bencher
        .counter(ItemsCount::new(pictures.len()))
        .bench_local(|| pictures.iter().for_each(|bytes| drop(decode(bytes, &limits).unwrap())));
}

/// The resize alone, of whole pictures.
#[divan::bench(args = RECIPES, sample_count = 10)]
fn resize_on_one_core(bencher: Bencher<'_, '_>, name: &str) {
    let (recipe, limits) = (recipe(name), Limits::default());
    let pictures: Vec<Picture> = pictures().iter().map(|bytes| decode(bytes, &limits).unwrap()).collect();
    let mut row = vec![0.0; recipe.row_len()];
    bencher.counter(ItemsCount::new(pictures.len())).bench_local(|| {
        for picture in &pictures {
            prepare_floats_into(picture, &recipe, &mut row).unwrap();
        }
    });
}
