//! Decoding and resizing: pictures a second on one core, and on all of them (goal: 0.9 × cores × one core's rate).
//! Photos of the shared folder where there is one beside the checkout, else the demo's small pictures.
//!
//! `cargo bench --bench decode`

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use rayon::prelude::*;
use scorehost::infer::device::threads;
use scorehost::vision::{Limits, Recipe, decode, prepare_floats_into};

fn main() {
    divan::main();
}

fn pictures() -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let photos = here.join("../../shared/data/imagenet-sample");
    let folder = if photos.is_dir() { photos } else { here.join("demo/pictures") };
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn recipe() -> Recipe {
    let mut recipe = Recipe::new(224, 224).unwrap();
    recipe.set_normalise(1.0 / 255.0, [0.0; 3], [1.0; 3]);
    recipe
}

/// Bytes of a file to a row of 224 × 224 floats, for every picture; divan prints pictures a second.
#[divan::bench(args = [1, threads()], sample_count = 10)]
fn decode_and_resize(bencher: Bencher<'_, '_>, cores: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap();
    let (pictures, recipe, limits) = (pictures(), recipe(), Limits::default());
    bencher.counter(ItemsCount::new(pictures.len())).bench_local(|| {
        pool.install(|| {
            pictures.par_iter().for_each_init(
                || vec![0.0; recipe.row_len()],
                |row, bytes| prepare_floats_into(&decode(bytes, &limits).unwrap(), &recipe, row).unwrap(),
            );
        });
    });
}

/// The decoder alone.
#[divan::bench(sample_count = 10)]
fn decode_on_one_core(bencher: Bencher<'_, '_>) {
    let (pictures, limits) = (pictures(), Limits::default());
    bencher
        .counter(ItemsCount::new(pictures.len()))
        .bench_local(|| pictures.iter().for_each(|bytes| drop(decode(bytes, &limits).unwrap())));
}
