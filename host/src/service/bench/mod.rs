//! How fast a model is on a device: whole at several batches, layer by layer beside what the device could do, and fed
//! with pictures.
//!
//! What goes in: a model, a device and how long to measure. What comes out: a [`Bench`], which the command line prints as
//! a table or as JSON. Nothing is printed here, and nothing that was measured is turned into a verdict.
//!
//! ```text
//! rates      runs → images a second: the median of windows of time, the first runs thrown away
//! layers     the engine's profile and the graph's costs → a row for each layer
//! pictures   files → decoded, prepared and scored, and what each part of that reaches alone
//! result     what comes out
//! ```

#[cfg(feature = "gpu")]
mod layers;
mod pictures;
mod rates;
mod result;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};

pub use self::pictures::Pictures;
pub use self::rates::Rate;
pub use self::result::{Batch, Bench, Benched, Layer, Layers, OnDevice, Peaks, Work};

use self::pictures::Album;
use self::rates::{queued, repeated};
use crate::fault::{self, Fault};
use crate::infer::device::{self, Device, Named, Request};
use crate::infer::session::Session;
use crate::infer::{Backend, InferError, Model, Port, shape_text};
use crate::store::StoreError;
use crate::tensor::{Element, Tensor};

/// The most pictures in a batch: four gigabytes of them at 224×224.
const MOST_IMAGES: usize = 8192;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// The model's file.
    pub model: PathBuf,
    /// Where it runs.
    pub device: Device,
    /// What is named beside the device.
    pub named: Named,
    /// How many pictures at a time, each measured on its own.
    pub batches: Vec<usize>,
    /// How long each measurement goes on at least.
    pub time: Duration,
    /// How many of each row's largest numbers are taken, as a job takes them; 0 leaves them all alone.
    pub top: usize,
    /// A folder of pictures to be decoded and scored.
    pub pictures: Option<PathBuf>,
    /// Whether layers are measured.
    pub layers: bool,
    /// What the device can do at best; absent for what is known of it.
    pub peaks: Option<Peaks>,
}

/// What the engine tells of one batch.
struct Profiled {
    layers: Layers,
    device_bytes: u64,
    weight_bytes: u64,
    precision: String,
    /// Absent where times are.
    images_per_second: Option<f64>,
}

/// Asks the engine, batch by batch.
struct Profiler {
    is_software: bool,
    peaks: Option<Peaks>,
    profile: Box<dyn Fn(usize) -> Result<Profiled, InferError>>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device or the model is refused, or failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// Batches that cannot be.
    #[error("batches are numbers from 1 to {MOST_IMAGES}, not `{0}`")]
    Batch(usize),
    /// An input whose size is not known.
    #[error("input `{name}` has the shape {shape}: only models of which no size but the first is free can be measured")]
    FreeSize {
        /// Which.
        name: String,
        /// Its shape.
        shape: String,
    },
    /// The model does not take pictures.
    #[error("the model takes no pictures, but {0}")]
    TakesNoPictures(String),
    /// The folder of pictures cannot be listed.
    #[error("the pictures cannot be listed")]
    List(#[from] StoreError),
    /// The folder holds no picture.
    #[error("`{}` holds no picture that can be read", .0.display())]
    NoPictures(PathBuf),
    /// Threads cannot be started.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
}

impl BenchError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            BenchError::Infer(e) => e.fault(),
            BenchError::List(e) => e.fault(),
            BenchError::Batch(_)
            | BenchError::FreeSize { .. }
            | BenchError::TakesNoPictures(_)
            | BenchError::NoPictures(_) => Fault::Caller,
            BenchError::Threads(_) => Fault::Host,
        }
    }
}

impl From<Arc<InferError>> for BenchError {
    fn from(shared: Arc<InferError>) -> Self {
        BenchError::Infer(Arc::try_unwrap(shared).unwrap_or_else(|shared| InferError::Device {
            backend: "session",
            reason: fault::chain(&*shared),
            transient: false,
        }))
    }
}

/// Measures. `progress` is told what comes next.
///
/// # Errors
/// If the model cannot be opened, or what was asked for cannot be measured at all. A batch that fails says so in its
/// notes, since the others may well be what was wanted.
pub fn bench(request: &BenchRequest, progress: &mut dyn FnMut(&str)) -> Result<Bench, BenchError> {
    if let Some(&wrong) = request.batches.iter().find(|&&n| n == 0 || n > MOST_IMAGES) {
        return Err(BenchError::Batch(wrong));
    }
    progress("opening the model");
    let asked = Request { device: request.device, named: &request.named, model: Some(&request.model) };
    let chosen = device::choose(&asked)?;
    let Some(session) = chosen.session else { return Err(InferError::Input("the model was not opened".into()).into()) };
    let album = request.pictures.as_ref().map(|folder| Album::open(folder, session.inputs())).transpose()?;
    let model = chosen.backend.open(&request.model)?;
    let profiler = open_profiler(request, chosen.backend.as_ref())?;
    let batches = batches(&request.batches, session.inputs());
    let mut measured = Bench {
        version: env!("CARGO_PKG_VERSION"),
        model: Benched {
            path: request.model.clone(),
            inputs: session.inputs().to_vec(),
            outputs: session.outputs().to_vec(),
            weight_bytes: None,
            precision: None,
        },
        device: OnDevice {
            name: chosen.backend.name(),
            description: chosen.backend.describe(),
            reason: chosen.reason,
            is_software: profiler.as_ref().is_some_and(|profiler| profiler.is_software),
        },
        peaks: profiler.as_ref().and_then(|profiler| profiler.peaks.clone()),
        batches: Vec::new(),
        layers: None,
        layers_left_out: left_out(request, profiler.as_ref(), chosen.backend.name()),
        pictures: None,
        peak_memory_bytes: None,
    };
    for images in batches {
        let mut batch = Batch { images, ..Batch::default() };
        if let Some(profiler) = profiler.as_ref().filter(|_| request.layers) {
            progress(&format!("layers, batch {images}"));
            match (profiler.profile)(images) {
                Ok(profiled) => take_profile(profiled, &mut batch, &mut measured),
                Err(error) => batch.notes.push(format!("no profile: {}", fault::chain(&error))),
            }
        }
        progress(&format!("whole network, batch {images}"));
        if let Err(error) = measure(request, model.as_ref(), &session, &mut batch) {
            // Nothing that another batch could do better.
            if matches!(error, BenchError::FreeSize { .. }) {
                return Err(error);
            }
            batch.notes.push(format!("failed: {}", fault::chain(&error)));
        }
        batch.notes.extend(chosen.backend.notices());
        measured.batches.push(batch);
    }
    if measured.layers.is_none() && measured.layers_left_out.is_none() {
        measured.layers_left_out = Some("no batch could be profiled".into());
    }
    // The session has one of its own.
    drop(model);
    if let Some(album) = &album {
        progress("pictures");
        measured.pictures = Some(pictures::measure(request, album, &session, &measured.batches)?);
    }
    measured.peak_memory_bytes = peak_memory_bytes();
    Ok(measured)
}

#[cfg(feature = "gpu")]
fn open_profiler(request: &BenchRequest, backend: &dyn Backend) -> Result<Option<Profiler>, InferError> {
    if backend.name() == "gpu" { layers::profiler(request).map(Some) } else { Ok(None) }
}

#[cfg(not(feature = "gpu"))]
fn open_profiler(_request: &BenchRequest, _backend: &dyn Backend) -> Result<Option<Profiler>, InferError> {
    Ok(None)
}

fn left_out(request: &BenchRequest, profiler: Option<&Profiler>, backend: &str) -> Option<String> {
    match (request.layers, profiler) {
        (false, _) => Some("not asked for".into()),
        (true, None) => Some(format!("device `{backend}` does not tell them; only `gpu` does")),
        (true, Some(_)) => None,
    }
}

/// The batches to measure: those asked for, each once, or the only one that the model takes.
fn batches(wanted: &[usize], inputs: &[Port]) -> Vec<usize> {
    if let Some(fixed) = inputs.iter().find_map(|port| *port.shape.first()?) {
        return vec![fixed];
    }
    let mut all = wanted.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}

/// The layer table is that of the largest batch, which comes last.
fn take_profile(profiled: Profiled, batch: &mut Batch, measured: &mut Bench) {
    if profiled.layers.images != batch.images {
        batch.notes.push(format!("profiled with {} pictures at a time", profiled.layers.images));
    }
    batch.device_only = profiled.images_per_second;
    batch.device_bytes = Some(profiled.device_bytes);
    measured.model.weight_bytes = Some(profiled.weight_bytes);
    measured.model.precision = Some(profiled.precision);
    measured.layers = Some(profiled.layers);
}

fn measure(request: &BenchRequest, model: &dyn Model, session: &Session, batch: &mut Batch) -> Result<(), BenchError> {
    let inputs = made_up(model.inputs(), batch.images)?;
    let outputs = model.run(&inputs)?;
    if outputs.iter().any(|output| output.f32().is_some_and(|numbers| numbers.iter().any(|x| !x.is_finite()))) {
        batch.notes.push("some results are no finite numbers".into());
    }
    batch.alone = Some(repeated(batch.images, request.time, || {
        keep_best(&model.run(&inputs)?, request.top);
        Ok::<_, InferError>(())
    })?);
    let mut next = || Some(inputs.clone());
    batch.queued = Some(queued(session, (batch.images, request.top), request.time, &mut next)?);
    Ok(())
}

/// Inputs of random numbers, the same every time: bytes from 0 to 255, floats from 0 to 1, integers 0 or 1.
fn made_up(ports: &[Port], images: usize) -> Result<Vec<Tensor>, BenchError> {
    let mut random = rand::rngs::StdRng::seed_from_u64(0);
    let mut one = |port: &Port| {
        let sizes = port.shape.iter().skip(1).copied().collect::<Option<Vec<usize>>>();
        let free = || BenchError::FreeSize { name: port.name.clone(), shape: shape_text(&port.shape) };
        let mut shape = vec![images];
        shape.extend(sizes.ok_or_else(free)?);
        let count = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).filter(|&n| n <= MOST_NUMBERS);
        let Some(count) = count else {
            return Err(InferError::Input(format!("input `{}` has too many numbers to be made up", port.name)).into());
        };
        let made = match port.element {
            Element::U8 => Tensor::from_u8(shape, (0..count).map(|_| random.random()).collect()),
            Element::F32 => Tensor::from_f32(shape, (0..count).map(|_| random.random()).collect()),
            Element::I64 => Tensor::from_i64(shape, (0..count).map(|_| random.random_range(0..2)).collect()),
        };
        made.map_err(|error| InferError::Input(error.to_string()).into())
    };
    ports.iter().map(&mut one).collect()
}

/// The most numbers that are made up for one input: 16 gigabytes of floats.
const MOST_NUMBERS: usize = 1 << 32;

/// Whether the outputs are each row's largest numbers and their places: what a model that ends in `TopK` gives.
fn are_best(outputs: &[Tensor]) -> bool {
    let [numbers, places] = outputs else { return false };
    numbers.f32().is_some() && places.i64().is_some() && numbers.shape() == places.shape()
}

/// Takes the `top` largest numbers of each row of the first output with their places, as a job does for its predictions,
/// unless the model has done so.
fn keep_best(outputs: &[Tensor], top: usize) {
    if are_best(outputs) {
        return;
    }
    if let Some((output, numbers)) = outputs.first().and_then(|output| Some((output, output.f32()?)))
        && top > 0
        && !output.is_empty()
    {
        for row in numbers.chunks(output.len() / output.rows()) {
            std::hint::black_box(best(row, top));
        }
    }
}

/// The `top` largest numbers and their places, the largest first.
fn best(row: &[f32], top: usize) -> Vec<(usize, f32)> {
    let mut kept: Vec<(usize, f32)> = Vec::with_capacity(top.min(row.len()) + 1);
    for (at, &number) in row.iter().enumerate() {
        if kept.len() < top || kept.last().is_some_and(|&(_, least)| number > least) {
            let place = kept.partition_point(|&(_, other)| other >= number);
            kept.insert(place, (at, number));
            kept.truncate(top);
        }
    }
    kept
}

/// The most memory that this process had at once, as Linux tells it.
fn peak_memory_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string(Path::new("/proc/self/status")).ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
    }

    fn request(device: Device, batches: &[usize]) -> BenchRequest {
        BenchRequest {
            model: demo().join("model/resnet14v2-shapes.onnx"),
            device,
            named: Named::default(),
            batches: batches.to_vec(),
            time: Duration::from_millis(30),
            top: 3,
            pictures: None,
            layers: true,
            peaks: None,
        }
    }

    #[test]
    fn a_model_is_measured_whole_and_fed_with_pictures() {
        let request = BenchRequest { pictures: Some(demo().join("pictures")), ..request(Device::Cpu, &[4, 1, 4]) };
        let mut told = Vec::new();
        let measured = bench(&request, &mut |what| told.push(what.to_owned())).unwrap();
        assert_eq!(measured.batches.iter().map(|batch| batch.images).collect::<Vec<_>>(), [1, 4]);
        for batch in &measured.batches {
            let (alone, queued) = (batch.alone.unwrap(), batch.queued.unwrap());
            assert!(alone.slowest > 0.0 && alone.slowest <= alone.images_per_second, "{alone:?}");
            assert!(alone.windows >= 3 && queued.windows >= 3 && batch.notes.is_empty(), "{batch:?}");
        }
        let pictures = measured.pictures.unwrap();
        assert_eq!((pictures.files, pictures.left_out), (40, 0));
        for rate in [pictures.decode, pictures.prepare, pictures.end_to_end] {
            assert!(rate.images_per_second > 0.0 && rate.images_per_second <= rate.fastest, "{rate:?}");
        }
        assert!(measured.layers.is_none());
        assert_eq!(measured.layers_left_out.unwrap(), "device `cpu` does not tell them; only `gpu` does");
        assert!(told.contains(&"whole network, batch 4".to_owned()) && told.contains(&"pictures".to_owned()));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let refused = |request: &BenchRequest| bench(request, &mut |_| {}).unwrap_err();
        for wrong in [0, MOST_IMAGES + 1] {
            assert!(matches!(refused(&request(Device::Cpu, &[1, wrong])), BenchError::Batch(n) if n == wrong));
        }
        let missing = BenchRequest { model: demo().join("no.onnx"), ..request(Device::Cpu, &[1]) };
        assert_eq!(refused(&missing).fault(), Fault::Caller);
        let empty = tempfile::tempdir().unwrap();
        std::fs::write(empty.path().join("notes.txt"), "no picture").unwrap();
        let folder = BenchRequest { pictures: Some(empty.path().into()), ..request(Device::Cpu, &[1]) };
        assert!(matches!(refused(&folder), BenchError::NoPictures(_)));
    }

    #[test]
    fn a_fixed_batch_is_the_only_one() {
        let port = |first| Port { name: "x".into(), shape: vec![first, Some(3)], element: Element::F32 };
        assert_eq!(batches(&[8, 1, 8], &[port(None)]), [1, 8]);
        assert_eq!(batches(&[8, 1], &[port(Some(5))]), [5]);
        assert_eq!(batches(&[8, 1], &[]), [1, 8]);
    }

    #[test]
    fn inputs_are_made_up_to_fit_their_ports() {
        let port = |shape: &[Option<usize>], element| Port { name: "x".into(), shape: shape.to_vec(), element };
        let made = made_up(&[port(&[None, Some(3), Some(4)], Element::U8), port(&[Some(1), Some(2)], Element::F32)], 7);
        let made = made.unwrap();
        assert_eq!((made[0].shape(), made[1].shape()), (&[7, 3, 4][..], &[7, 2][..]));
        assert!(made[1].f32().unwrap().iter().all(|x| (0.0..1.0).contains(x)));
        assert!(matches!(made_up(&[port(&[None, None], Element::F32)], 1), Err(BenchError::FreeSize { .. })));
        assert!(made_up(&[port(&[None, Some(usize::MAX)], Element::F32)], 2).is_err());
    }

    #[test]
    fn the_best_numbers_come_first_and_nothing_that_is_no_number() {
        type Best<'a> = &'a [(usize, f32)];
        let cases: [(&[f32], usize, Best<'_>); 5] = [
            (&[1.0, 5.0, 3.0, 4.0], 2, &[(1, 5.0), (3, 4.0)]),
            (&[2.0, 2.0, 2.0], 2, &[(0, 2.0), (1, 2.0)]),
            (&[7.0], 5, &[(0, 7.0)]),
            (&[], 5, &[]),
            (&[1.0, 2.0], 0, &[]),
        ];
        for (row, top, want) in cases {
            assert_eq!(best(row, top), want, "{row:?}");
        }
    }

    #[test]
    fn a_model_that_ends_in_its_largest_numbers_has_taken_them() {
        let numbers = Tensor::from_f32(vec![1, 2], vec![0.75, 0.5]).unwrap();
        let places = |shape: &[usize]| Tensor::from_i64(shape.to_vec(), vec![4, 1]).unwrap();
        let cases = [
            (vec![numbers.clone(), places(&[1, 2])], true),
            (vec![numbers.clone(), places(&[2, 1])], false),
            (vec![numbers.clone(), numbers.clone()], false),
            (vec![places(&[1, 2]), places(&[1, 2])], false),
            (vec![numbers], false),
            (vec![], false),
        ];
        for (outputs, want) in cases {
            assert_eq!(are_best(&outputs), want, "{outputs:?}");
        }
    }

    #[test]
    fn the_peak_of_memory_is_read_as_linux_writes_it() {
        assert_eq!(peak_of("VmPeak:\t  99 kB\nVmHWM:\t  12 kB\nVmRSS: 3 kB\n"), Some(12 * 1024));
        assert_eq!(peak_of("VmHWM: much"), None);
        assert_eq!(peak_of(""), None);
    }
}
