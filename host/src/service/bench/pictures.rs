//! Picture files → predictions, at full speed: decoding on all cores while the device computes, and what decoding reaches
//! alone.
//!
//! What goes in: a folder and a model that takes pictures. What comes out: [`Pictures`]. Files are read into memory first,
//! so that no disk is measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use rayon::prelude::*;

use super::rates::{Rate, queued, repeated};
use super::{Batch, BenchError, BenchRequest};
use crate::infer::device::threads;
use crate::infer::session::Session;
use crate::infer::{InferError, Port, element_name, shape_text};
use crate::store;
use crate::tensor::{Element, Tensor};
use crate::vision::{Layout, Limits, Recipe, VisionError, decode, decode_and_prepare, decode_floats_into};

/// From files to predictions.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pictures {
    /// How many different files were taken, again and again.
    pub files: usize,
    /// How many of the folder's files cannot be read as pictures.
    pub left_out: usize,
    /// Bytes of the files taken.
    pub bytes: u64,
    /// Cores that decode.
    pub cores: usize,
    /// Pictures in a batch: the one that was fastest with made-up pictures.
    pub batch: usize,
    /// Decoding alone.
    pub decode: Rate,
    /// Decoding and resizing to the model's input.
    pub prepare: Rate,
    /// Decoding, resizing and the model.
    pub end_to_end: Rate,
    /// End to end as a part of the slower one of preparing and the model at that batch: 1 where nothing is lost.
    pub of_the_slower: Option<f64>,
}

/// The most files taken: enough that no picture is special.
const MOST_FILES: usize = 4096;

/// The most bytes of files held.
const MOST_BYTES: u64 = 1 << 30;

/// Batches that are prepared at once, so that cores which are done with one go on with the next.
const AT_ONCE: usize = 2;

/// A picture prepared for a model's only input.
fn recipe(inputs: &[Port]) -> Result<Recipe, BenchError> {
    let wrong = || {
        let ports = inputs.iter().map(|p| format!("{} of shape {}", element_name(p.element), shape_text(&p.shape)));
        BenchError::TakesNoPictures(ports.collect::<Vec<_>>().join(", "))
    };
    let [port] = inputs else { return Err(wrong()) };
    let (layout, height, width) = match port.shape[..] {
        [_, Some(3), Some(height), Some(width)] => (Layout::ChannelsFirst, height, width),
        [_, Some(height), Some(width), Some(3)] => (Layout::ChannelsLast, height, width),
        _ => return Err(wrong()),
    };
    let side = |n: usize| u32::try_from(n).map_err(|_| wrong());
    let mut made = Recipe::new(side(width)?, side(height)?).map_err(|_| wrong())?;
    made.set_layout(layout);
    match port.element {
        Element::U8 => made.set_bytes(),
        Element::F32 => made.set_normalise(1.0 / 255.0, [0.0; 3], [1.0; 3]),
        Element::I64 => return Err(wrong()),
    }
    Ok(made)
}

/// Files in memory, and what decodes them.
pub(super) struct Album {
    pool: rayon::ThreadPool,
    recipe: Recipe,
    files: Vec<Vec<u8>>,
    left_out: usize,
}

impl Album {
    /// Reads `folder` for a model with these inputs.
    pub(super) fn open(folder: &Path, inputs: &[Port]) -> Result<Self, BenchError> {
        let recipe = recipe(inputs)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads()).build();
        let pool = pool.map_err(|error| BenchError::Threads(std::io::Error::other(error)))?;
        let (files, left_out) = read(folder, &pool)?;
        Ok(Self { pool, recipe, files, left_out })
    }
}

/// Measures with the pictures of `album`; `batches` say how fast the model is alone.
pub(super) fn measure(
    request: &BenchRequest,
    album: &Album,
    session: &Session,
    batches: &[Batch],
) -> Result<Pictures, BenchError> {
    let Album { pool, recipe, files, left_out } = album;
    let cores = pool.current_num_threads();
    let speed = |batch: &Batch| batch.queued.map_or(0.0, |rate| rate.images_per_second);
    let fastest = batches.iter().filter(|batch| batch.queued.is_some()).max_by(|a, b| speed(a).total_cmp(&speed(b)));
    let images = fastest.map_or(1, |batch| batch.images);
    // Every core gets enough of them that the last one's end does not count.
    let turns = files.len().max(32 * cores);
    let each = |work: &(dyn Fn(&[u8]) + Sync)| {
        repeated(turns, request.time, || {
            pool.install(|| (0..turns).into_par_iter().for_each(|at| work(&files[at % files.len()])));
            Ok::<_, BenchError>(())
        })
    };
    let decode_alone = each(&|bytes| drop(decode(bytes, &Limits::default())))?;
    let prepare_alone = each(&|bytes| drop(rows(&[bytes], recipe)))?;
    let end_to_end = fed(session, (images, request), album)?;
    let slower = fastest.map(speed).filter(|&n| n > 0.0).map(|n| n.min(prepare_alone.images_per_second));
    Ok(Pictures {
        files: files.len(),
        left_out: *left_out,
        bytes: files.iter().map(|file| file.len() as u64).sum(),
        cores,
        batch: images,
        decode: decode_alone,
        prepare: prepare_alone,
        end_to_end,
        of_the_slower: slower.map(|n| end_to_end.images_per_second / n),
    })
}

/// The folder's files in the order of their names, as many as fit, without those that are no pictures.
fn read(folder: &Path, pool: &rayon::ThreadPool) -> Result<(Vec<Vec<u8>>, usize), BenchError> {
    let mut names = Vec::new();
    store::list(folder, None, |name| names.push(String::from_utf8_lossy(name).into_owned()))?;
    names.sort_unstable();
    names.truncate(MOST_FILES);
    let (mut held, mut files, mut left_out) = (0, Vec::new(), 0);
    for name in names {
        let path = folder.join(name);
        let size = path.metadata().map_or(u64::MAX, |facts| facts.len());
        if size > MOST_BYTES - held {
            left_out += 1;
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => {
                held = held.saturating_add(bytes.len() as u64).min(MOST_BYTES);
                files.push(bytes);
            }
            Err(_) => left_out += 1,
        }
    }
    let sound: Vec<bool> =
        pool.install(|| files.par_iter().map(|bytes| decode(bytes, &Limits::default()).is_ok()).collect());
    let mut is_sound = sound.iter();
    let before = files.len();
    files.retain(|_| is_sound.next().copied().unwrap_or(false));
    left_out += before - files.len();
    if files.is_empty() { Err(BenchError::NoPictures(folder.to_owned())) } else { Ok((files, left_out)) }
}

/// A batch of rows from files; in parallel where a thread pool runs it.
fn rows(files: &[&[u8]], recipe: &Recipe) -> Result<Tensor, InferError> {
    let mut shape = vec![files.len()];
    shape.extend(recipe.row_shape());
    let (count, limits) = (files.len() * recipe.row_len(), Limits::default());
    let wrong = |error: VisionError| InferError::Input(error.to_string());
    // Straight into the batch: putting rows together afterwards would be the work of one core.
    let made = if recipe.keeps_bytes() {
        let mut all = vec![0u8; count];
        all.par_chunks_mut(recipe.row_len()).zip(files).try_for_each(|(row, bytes)| {
            let (made, _) = decode_and_prepare(bytes, &limits, recipe).map_err(wrong)?;
            if let Some(made) = made.u8() {
                row.copy_from_slice(made);
            }
            Ok(())
        })?;
        Tensor::from_u8(shape, all)
    } else {
        let mut all = vec![0f32; count];
        all.par_chunks_mut(recipe.row_len())
            .zip(files)
            .try_for_each(|(row, bytes)| decode_floats_into(bytes, &limits, recipe, row).map(|_| ()).map_err(wrong))?;
        Tensor::from_f32(shape, all)
    };
    made.map_err(|error| InferError::Input(error.to_string()))
}

/// The rate of `session` fed from `album` in batches of `images`.
fn fed(session: &Session, (images, request): (usize, &BenchRequest), album: &Album) -> Result<Rate, BenchError> {
    let Album { pool, recipe, files, .. } = album;
    let (sender, receiver) = mpsc::sync_channel::<Result<Tensor, InferError>>(AT_ONCE);
    let (is_done, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut failed = None;
    let measured = std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let sender = sender.clone();
            let (is_done, taken) = (&is_done, &taken);
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    let first = taken.fetch_add(images, Ordering::Relaxed);
                    let part: Vec<&[u8]> = (0..images).map(|at| &files[(first + at) % files.len()][..]).collect();
                    // Nobody takes it any more: the measurement is over.
                    if sender.send(pool.install(|| rows(&part, recipe))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut next = || match receiver.recv() {
            Ok(Ok(batch)) => Some(vec![batch]),
            Ok(Err(error)) => {
                failed = Some(error);
                None
            }
            Err(_) => None,
        };
        let measured = queued(session, (images, request.top), request.time, &mut next);
        is_done.store(true, Ordering::Relaxed);
        drop(receiver);
        measured
    });
    failed.map_or(measured, |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(shape: &[usize], element: Element) -> Port {
        let shape = std::iter::once(None).chain(shape.iter().map(|&n| Some(n))).collect();
        Port { name: "x".into(), shape, element }
    }

    #[test]
    fn a_recipe_follows_the_models_input() {
        let cases = [
            (port(&[3, 20, 30], Element::F32), Some([3, 20, 30]), false),
            (port(&[20, 30, 3], Element::U8), Some([20, 30, 3]), true),
            (port(&[1, 20, 30], Element::F32), None, false),
            (port(&[3, 20], Element::F32), None, false),
            (port(&[3, 20, 30], Element::I64), None, false),
            (port(&[3, 1 << 20, 30], Element::F32), None, false),
        ];
        for (port, shape, keeps_bytes) in cases {
            let made = recipe(std::slice::from_ref(&port));
            assert_eq!(made.as_ref().ok().map(Recipe::row_shape), shape, "{port:?}");
            assert_eq!(made.is_ok_and(|recipe| recipe.keeps_bytes()), keeps_bytes, "{port:?}");
        }
        let two = [port(&[3, 20, 30], Element::F32), port(&[4], Element::F32)];
        let text = recipe(&two).unwrap_err().to_string();
        assert_eq!(text, "the model takes no pictures, but floats of shape N×3×20×30, floats of shape N×4");
    }

    #[test]
    fn a_batch_holds_its_files_in_order_and_what_is_no_picture_fails() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/pictures");
        let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let (arrow, heart) = (file("0000_arrow.jpg"), file("0004_heart.bmp"));
        let recipe = recipe(&[port(&[8, 8, 3], Element::U8)]).unwrap();
        let batch = rows(&[&arrow, &heart, &arrow], &recipe).unwrap();
        assert_eq!(batch.shape(), [3, 8, 8, 3]);
        let row = |at: usize| batch.slice(at, 1).unwrap().u8().unwrap().to_vec();
        assert_eq!(row(0), row(2));
        assert_ne!(row(0), row(1));
        assert!(rows(&[&arrow, b"text"], &recipe).is_err());
    }
}
