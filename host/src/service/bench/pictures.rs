//! Picture files → predictions, at full speed: decoding on all cores while the device computes, and what decoding reaches
//! alone.
//!
//! What goes in: a folder and a model that takes pictures. What comes out: [`Pictures`]. Files are read into memory first,
//! so that no disk is measured.

#[cfg(feature = "gpu")]
mod split;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use rayon::prelude::*;

use super::rates::{Rate, queued, repeated};
use super::{Batch, BenchError, BenchRequest};
use crate::infer::device::threads;
#[cfg(feature = "gpu")]
use crate::infer::device::{Device, open_gpu};
#[cfg(feature = "gpu")]
use crate::infer::gpu::{Gpu, jpeg::SplitDecoder};
use crate::infer::session::Session;
use crate::infer::{InferError, Port, element_name, shape_text};
use crate::store;
use crate::tensor::{Element, Tensor};
#[cfg(feature = "gpu")]
use crate::vision::floats;
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
    /// Preparing with the work divided between the cores and the GPU, which no job does; absent where it says nothing.
    pub split: Option<SplitWay>,
    /// Why that is absent.
    pub split_left_out: Option<String>,
}

/// JPEG files that the cores decode down to coefficients, and the GPU from there to a model's input.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SplitWay {
    /// How many of the files can be split.
    pub files: usize,
    /// Bytes that go to the device for each, on average.
    pub bytes_per_image: u64,
    /// These files prepared by the cores alone.
    pub cores_alone: Rate,
    /// What the cores do when the work is divided.
    pub entropy_decoding: Rate,
    /// Cores and device, until the rows lie on the device.
    pub divided: Rate,
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
    let divided = split_way(request, album);
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
        split_left_out: divided.as_ref().err().cloned(),
        split: divided.ok(),
    })
}

/// Measures what dividing the work would gain on the GPU that the model runs on, or says why that tells nothing.
#[cfg(feature = "gpu")]
fn split_way(request: &BenchRequest, album: &Album) -> Result<SplitWay, String> {
    use crate::fault::chain;
    if !matches!(request.device, Device::Auto | Device::Gpu) {
        return Err("the device is no GPU".into());
    }
    let gpu = open_gpu(&request.named).map_err(|error| chain(&error))?;
    if gpu.report().adapter.is_software() {
        return Err("the adapter is software: it runs on the cores that it would spare".into());
    }
    divided(request, album, &gpu).map_err(|error| chain(&error))
}

/// The rates of the divided work on any adapter, after its numbers were found to be those of the cores alone.
#[cfg(feature = "gpu")]
fn divided(request: &BenchRequest, album: &Album, gpu: &Gpu) -> Result<SplitWay, InferError> {
    let Album { pool, recipe, files, .. } = album;
    let floats = floats(recipe).map_err(|error| InferError::Input(error.to_string()))?;
    let (decoder, layout) = (SplitDecoder::on(gpu)?, split::rows(&floats));
    let sizes: Vec<Option<u64>> = pool.install(|| {
        files.par_iter().map(|bytes| split::entropy(bytes, recipe).ok().map(|picture| split::bytes(&picture))).collect()
    });
    let taken: Vec<&[u8]> =
        files.iter().zip(&sizes).filter(|(_, size)| size.is_some()).map(|(bytes, _)| &bytes[..]).collect();
    if taken.is_empty() {
        return Err(InferError::Input("none of the files can be split".into()));
    }
    let sample = &taken[..taken.len().min(split::TOGETHER)];
    let pictures = sample.iter().map(|bytes| split::entropy(bytes, recipe)).collect::<Result<Vec<_>, _>>()?;
    if decoder.prepare(&pictures, &layout)?.f32() != rows(sample, recipe)?.f32() {
        return Err(InferError::Input("the device's numbers are not those of the cores".into()));
    }
    let turns = taken.len().max(32 * pool.current_num_threads());
    let each = |work: &(dyn Fn(&[u8]) + Sync)| {
        repeated(turns, request.time, || {
            pool.install(|| (0..turns).into_par_iter().for_each(|at| work(taken[at % taken.len()])));
            Ok::<_, InferError>(())
        })
    };
    Ok(SplitWay {
        files: taken.len(),
        bytes_per_image: sizes.iter().flatten().sum::<u64>() / taken.len() as u64,
        cores_alone: each(&|bytes| drop(rows(&[bytes], recipe)))?,
        entropy_decoding: each(&|bytes| drop(split::entropy(bytes, recipe)))?,
        divided: repeated(turns, request.time, || split::all((&decoder, &layout), pool, (&taken, turns), recipe))?,
    })
}

#[cfg(not(feature = "gpu"))]
fn split_way(_request: &BenchRequest, _album: &Album) -> Result<SplitWay, String> {
    Err("this build is without the feature `gpu`".into())
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

    #[cfg(feature = "gpu")]
    #[test]
    fn divided_work_is_measured_on_any_adapter() {
        use crate::infer::device::Named;
        let open =
            |name: &str| open_gpu(&Named { adapter: (!name.is_empty()).then(|| name.into()), ..Named::default() });
        let gpu = match open("").or_else(|_| open("software")) {
            Ok(gpu) => gpu,
            Err(error) => {
                let required = std::env::var("REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "gpu"));
                assert!(!required && std::env::var_os("CI").is_none(), "a GPU is required: {error}");
                println!("skipped: no GPU and no software Vulkan driver");
                return;
            }
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/pictures");
        let album = |port| Album::open(&folder, &[port]).unwrap();
        let request = BenchRequest {
            model: folder.clone(),
            device: Device::Gpu,
            named: Named::default(),
            batches: vec![1],
            time: std::time::Duration::from_millis(20),
            top: 0,
            pictures: None,
            layers: false,
            peaks: None,
        };
        let measured = divided(&request, &album(port(&[3, 20, 20], Element::F32)), &gpu).unwrap();
        assert!(measured.files > 0 && measured.files < 40, "some are no JPEG: {}", measured.files);
        assert!(measured.bytes_per_image > 1000, "{}", measured.bytes_per_image);
        for rate in [measured.cores_alone, measured.entropy_decoding, measured.divided] {
            assert!(rate.images_per_second > 0.0 && rate.windows >= 3, "{rate:?}");
        }
        let refused = divided(&request, &album(port(&[20, 20, 3], Element::U8)), &gpu).unwrap_err();
        assert!(refused.to_string().contains("recipes of floats"), "{refused}");
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
