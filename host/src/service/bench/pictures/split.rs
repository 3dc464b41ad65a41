//! JPEG files with the work divided: entropy decoding on all cores, everything after it on the GPU.
//!
//! What goes in: files, a recipe and a device. What comes out: rates beside that of the processor alone, or why there are
//! none. It is a trial that no job uses: decision 0028 says what a machine with a GPU can settle by these rates.

use std::sync::mpsc;

use rayon::prelude::*;

use crate::infer::InferError;
use crate::infer::gpu::jpeg::{Component, Picture, Rows, SplitDecoder, Taps};
use crate::vision::{Floats, Limits, Recipe, Split, VisionError, split};

/// Pictures that go to the device together.
pub(super) const TOGETHER: usize = 64;

/// What is wrong where no file can be split.
fn input(error: &VisionError) -> InferError {
    InferError::Input(error.to_string())
}

/// A picture in the words of the device.
pub(super) fn picture(split: Split) -> Picture {
    let taps = |taps: Vec<crate::vision::Tap>| Taps(taps.into_iter().map(|tap| (tap.first, tap.weights)).collect());
    let component = |blocks: crate::vision::Blocks| Component {
        samples: blocks.samples,
        ratio: blocks.ratio,
        columns: blocks.columns,
        rows: blocks.rows,
        steps: blocks.steps,
        index: blocks.index,
    };
    Picture {
        columns: split.columns,
        rows: split.rows,
        components: split.components.into_iter().map(component).collect(),
        entries: split.entries,
        across: taps(split.across),
        down: taps(split.down),
        rows_first: split.rows_first,
    }
}

/// The numbers of a row in the words of the device.
pub(super) fn rows(floats: &Floats) -> Rows {
    Rows { size: floats.size, tables: floats.tables, order: floats.order, channels_last: floats.channels_last }
}

/// Entropy decoding alone, of one file.
pub(super) fn entropy(bytes: &[u8], recipe: &Recipe) -> Result<Picture, InferError> {
    split(bytes, &Limits::default(), recipe).map(picture).map_err(|error| input(&error))
}

/// Bytes that go to the device for a picture, but for its sizes.
pub(super) fn bytes(picture: &Picture) -> u64 {
    let index = picture.components.iter().map(|component| component.index.len() * 4 + 64 * 4).sum::<usize>();
    let taps = [&picture.across, &picture.down];
    let taps = taps.iter().flat_map(|taps| &taps.0).map(|(_, weights)| 12 + weights.len() * 4).sum::<usize>();
    (picture.entries.len() * 2 + index + taps) as u64
}

/// Prepares `turns` pictures, `files` again and again: while the device has some, the cores of `pool` decode the next.
pub(super) fn all(
    (decoder, rows): (&SplitDecoder, &Rows),
    pool: &rayon::ThreadPool,
    (files, turns): (&[&[u8]], usize),
    recipe: &Recipe,
) -> Result<(), InferError> {
    let (sender, receiver) = mpsc::sync_channel::<Result<Vec<Picture>, InferError>>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for first in (0..turns).step_by(TOGETHER) {
                let part = first..turns.min(first + TOGETHER);
                let decode = |at: usize| entropy(files[at % files.len()], recipe);
                // Nobody takes it any more: the device has failed.
                if sender.send(pool.install(|| part.into_par_iter().map(decode).collect())).is_err() {
                    return;
                }
            }
        });
        // Owned here, so that the other thread ends when this one fails.
        let receiver = receiver;
        receiver.iter().try_for_each(|pictures| decoder.prepare_in_place(&pictures?, rows))
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::cache::Private;
    use crate::infer::gpu::{Gpu, Options, Selector};
    use crate::vision::{Filter, Fit, Layout, decode_and_prepare, floats};

    /// Stretched, cut, and the other filters, layouts and orders.
    fn recipes() -> Vec<Recipe> {
        let mut all: Vec<Recipe> = [(224, 224), (31, 40), (224, 224), (90, 20)]
            .map(|(width, height)| Recipe::new(width, height).unwrap())
            .into();
        all[0].set_normalise(1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        all[1].set_filter(Filter::Bilinear, true);
        all[1].set_layout(Layout::ChannelsLast);
        all[1].set_blue_first();
        all[2].set_fit(Fit::ShorterSide(256));
        all[3].set_filter(Filter::Lanczos, true);
        all
    }

    /// The JPEG files of a folder, in the order of their names.
    fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e == "JPEG"));
        paths.sort_unstable();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn decoder() -> Option<SplitDecoder> {
        let open = |selector| Gpu::open(Options { cache: Private::none(), ..Options::new(selector) });
        match open(Selector::Best).or_else(|_| open(Selector::Software)) {
            Ok(gpu) => Some(SplitDecoder::on(&gpu).unwrap()),
            Err(error) => {
                let required = std::env::var("REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "gpu"));
                assert!(!required && std::env::var_os("CI").is_none(), "a GPU is required: {error}");
                println!("skipped: no GPU and no software Vulkan driver");
                None
            }
        }
    }

    /// How many pictures of a folder were split; each must have the bits of the processor's own way.
    fn compare(decoder: &SplitDecoder, files: &[(PathBuf, Vec<u8>)], recipe: &Recipe) -> usize {
        let limits = Limits::default();
        let (mut names, mut pictures, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (path, bytes) in files {
            match split(bytes, &limits, recipe) {
                Ok(split) => {
                    let (row, size) = decode_and_prepare(bytes, &limits, recipe).unwrap();
                    assert_eq!(split.size, size);
                    names.push(path);
                    pictures.push(picture(split));
                    expected.push(row);
                }
                Err(VisionError::Unsupported { .. }) => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        let found = decoder.prepare(&pictures, &rows(&floats(recipe).unwrap())).unwrap();
        let found = found.f32().unwrap();
        assert_eq!(found.len(), expected.len() * recipe.row_len());
        let (mut largest, mut different) = (0f32, 0);
        for ((found, expected), path) in found.chunks(recipe.row_len()).zip(&expected).zip(names) {
            let expected = expected.f32().unwrap();
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let count = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            if count > 0 {
                println!("{}: {count} numbers differ, by {off} at most", path.display());
            }
            (largest, different) = (largest.max(off), different + count);
        }
        assert_eq!(different, 0, "off by {largest} at most");
        expected.len()
    }

    #[test]
    fn split_files_have_the_bits_of_the_processors_own_way() {
        let Some(decoder) = decoder() else { return };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/pictures");
        let files = files(&folder);
        let mut taken = 0;
        for recipe in recipes() {
            taken += compare(&decoder, &files, &recipe);
        }
        println!("{taken} rows of {} files", files.len());
        assert!(taken >= 20, "{taken}");
    }

    #[test]
    fn photographs_have_the_bits_of_the_processors_own_way() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/imagenet-sample");
        if !folder.is_dir() {
            assert!(std::env::var_os("CI").is_none(), "the photographs are required");
            println!("skipped: there are no photographs");
            return;
        }
        let Some(decoder) = decoder() else { return };
        // A part of them, so that a build that is not optimised takes seconds.
        let files: Vec<_> = files(&folder).into_iter().step_by(4).collect();
        for recipe in [&recipes()[0], &recipes()[2]] {
            let taken = compare(&decoder, &files, recipe);
            println!("{taken} of {} photographs", files.len());
            assert!(taken * 4 >= files.len() * 3, "{taken}");
        }
    }

    #[test]
    fn files_are_decoded_while_the_device_works_and_a_wrong_one_ends_it() {
        let Some(decoder) = decoder() else { return };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/pictures");
        let arrow = std::fs::read(folder.join("0000_arrow.jpg")).unwrap();
        let recipe = Recipe::new(8, 8).unwrap();
        let (rows, pool) =
            (rows(&floats(&recipe).unwrap()), rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        all((&decoder, &rows), &pool, (&[&arrow], TOGETHER * 2 + 1), &recipe).unwrap();
        let wrong = all((&decoder, &rows), &pool, (&[&arrow, b"text"], TOGETHER * 5), &recipe);
        assert!(matches!(wrong, Err(InferError::Input(_))), "{wrong:?}");
        assert!(bytes(&entropy(&arrow, &recipe).unwrap()) > 1000);
    }
}
