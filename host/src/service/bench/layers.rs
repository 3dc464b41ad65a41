//! The engine's profile and the graph's costs → a row for each layer. Only the GPU engine tells its layers.

use super::{BenchRequest, Layer, Layers, Peaks, Profiled, Profiler, Work};
use crate::infer::gpu::{AdapterReport, Profile, StepProfile};
use crate::infer::graph::cost::{Bound, Cost, Roofline, cost, shape_text};
use crate::infer::graph::{Graph, Step};
use crate::infer::{InferError, Precision, device};

/// Timed runs of each layer; the median counts. Software adapters take their time.
const RUNS: usize = 11;
const SOFTWARE_RUNS: usize = 3;

/// The adapters whose peaks are known, by a part of their name.
const KNOWN: [(&str, f64, f64, &str); 1] = [(
    "H200",
    490.0,
    4300.0,
    "known of an H200: 16-bit products through warp-level matrices, which is what Vulkan has, and a measured copy",
)];

/// Opens the adapter once more, for its profiles.
pub(super) fn profiler(request: &BenchRequest) -> Result<Profiler, InferError> {
    let gpu = device::open_gpu(&request.named)?;
    let adapter = &gpu.report().adapter;
    let (is_software, peaks) = (adapter.is_software(), request.peaks.clone().or_else(|| known_peaks(adapter)));
    let (path, limits) = (request.model.clone(), peaks.clone());
    let runs = if is_software { SOFTWARE_RUNS } else { RUNS };
    let profile = move |images| {
        let (graph, profile) = gpu.profile(&path, images, runs)?;
        Ok(profiled(&graph, &profile, limits.as_ref()))
    };
    Ok(Profiler { is_software, peaks, profile: Box::new(profile) })
}

fn known_peaks(adapter: &AdapterReport) -> Option<Peaks> {
    let (_, tera_flops, giga_bytes, source) = KNOWN.into_iter().find(|(name, ..)| adapter.name.contains(name))?;
    (!adapter.is_software()).then(|| Peaks { tera_flops, giga_bytes, source: source.into() })
}

fn profiled(graph: &Graph, profile: &Profile, peaks: Option<&Peaks>) -> Profiled {
    let layers = layers(graph, profile, peaks);
    let all = |wanted| profile.steps.iter().any(|step| text(step.precision) == wanted);
    let precision = match (all("f16"), all("f32")) {
        (true, true) => "f16 and f32",
        (true, false) => "f16",
        (false, _) => "f32",
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |microseconds: f64| profile.images as f64 / microseconds * 1e6;
    Profiled {
        images_per_second: layers.total.microseconds.filter(|&n| n > 0.0).map(rate),
        layers,
        device_bytes: profile.device_bytes,
        weight_bytes: profile.weight_bytes,
        precision: precision.into(),
    }
}

/// The layers of `graph`, whose steps `profile` tells in the same order.
fn layers(graph: &Graph, profile: &Profile, peaks: Option<&Peaks>) -> Layers {
    let roofline = peaks.map(|peaks| Roofline { tera_flops: peaks.tera_flops, giga_bytes: peaks.giga_bytes });
    let stored = |id: usize| profile.bytes_per_number.get(id).copied().unwrap_or(size_of::<f32>());
    let mut all = Cost::default();
    let mut row = |(step, told): (&Step, &StepProfile)| {
        let cost = cost(graph, step, stored, told.precision.bytes());
        all = all + cost;
        let least = roofline.map(|roofline| roofline.least(&cost, profile.images));
        Layer {
            node: told.node.clone(),
            shape: shape_text(graph, step),
            kernel: told.kernel.clone(),
            precision: text(told.precision),
            bound: least.map(|least| match least.bound {
                Bound::Arithmetic => "arithmetic",
                Bound::Memory => "memory",
            }),
            work: work(&cost, profile.images, told.nanoseconds.map(|ns| ns / 1e3), least.map(|l| l.seconds * 1e6)),
        }
    };
    let rows: Vec<Layer> = graph.steps.iter().zip(&profile.steps).map(&mut row).collect();
    // A sum that misses a layer is none.
    let sum = |of: fn(&Work) -> Option<f64>| rows.iter().map(|row| of(&row.work)).sum::<Option<f64>>();
    let total = work(&all, profile.images, sum(|work| work.microseconds), sum(|work| work.least_microseconds));
    Layers { images: profile.images, rows, total }
}

fn work(cost: &Cost, images: usize, microseconds: Option<f64>, least_microseconds: Option<f64>) -> Work {
    let microseconds = microseconds.filter(|&n| n > 0.0);
    Work {
        operations_per_image: cost.operations,
        bytes_per_image: cost.read_bytes.saturating_add(cost.written_bytes),
        weight_bytes: cost.weight_bytes,
        microseconds,
        tera_flops: microseconds.map(|n| cost.operations_of(images) / n / 1e6),
        giga_bytes: microseconds.map(|n| cost.bytes_of(images) / n / 1e3),
        least_microseconds,
        fraction: microseconds.zip(least_microseconds).map(|(took, least)| least / took),
    }
}

fn text(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "f32",
        Precision::Half => "f16",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::infer::graph::{Conv, Dims, Operation, Source, Window};

    /// Two fully connected layers: 1000 numbers to 2000 in 16 bits, and those to 10 in 32.
    fn sample(nanoseconds: [Option<f64>; 2]) -> (Graph, Profile) {
        let dense = |from, to, output| Step {
            node: format!("fc{to}"),
            operation: Operation::Conv(Conv {
                weights: Arc::default(),
                bias: vec![0.0; output],
                window: Window::pixel(),
                groups: 1,
                shortcut: None,
            }),
            inputs: vec![Source::Value(from)],
            before: vec![],
            after: vec![],
            output: to,
        };
        let graph = Graph {
            values: [1000, 2000, 12].map(Dims::vector).to_vec(),
            steps: vec![dense(0, 1, 2000), dense(1, 2, 12)],
            ..Graph::default()
        };
        let told = |(at, (precision, nanoseconds))| StepProfile {
            node: format!("fc{}", at + 1),
            kernel: "conv_matrix 32×64".into(),
            precision,
            nanoseconds,
        };
        let steps = [Precision::Half, Precision::Single].into_iter().zip(nanoseconds).enumerate().map(told).collect();
        let profile = Profile { steps, images: 100, device_bytes: 7, weight_bytes: 5, bytes_per_number: vec![2, 2, 4] };
        (graph, profile)
    }

    fn peaks() -> Peaks {
        Peaks { tera_flops: 10.0, giga_bytes: 1000.0, source: "a test".into() }
    }

    #[test]
    fn layers_are_set_beside_what_the_device_could_do() {
        let (graph, profile) = sample([Some(100_000.0), Some(50_000.0)]);
        let told = profiled(&graph, &profile, Some(&peaks()));
        let [first, second] = &told.layers.rows[..] else { panic!("{:?}", told.layers) };
        // 100 × 2000 × (2 × 1000 + 1) operations in 100 µs, of 10 TFLOP/s.
        assert_eq!((first.shape.as_str(), first.precision, first.bound), ("1000→2000 1×1", "f16", Some("arithmetic")));
        assert_eq!(first.work.operations_per_image, 2000 * 2001);
        assert!((first.work.tera_flops.unwrap() - 4.002).abs() < 1e-9, "{first:?}");
        assert!((first.work.least_microseconds.unwrap() - 40.02).abs() < 1e-9, "{first:?}");
        assert!((first.work.fraction.unwrap() - 0.4002).abs() < 1e-9, "{first:?}");
        // 16-bit numbers in, 32-bit ones out, weights in 32 bits: 100 × (4000 + 48) + 96 000 + 48 bytes.
        assert_eq!((second.precision, second.bound), ("f32", Some("memory")));
        assert!((second.work.giga_bytes.unwrap() - 500.848 / 50.0).abs() < 1e-9, "{second:?}");
        assert_eq!(told.layers.total.microseconds, Some(150.0));
        // 59.98 µs of the first one and 49.5 of the second need not have been.
        let lost = |count| told.layers.most_lost(count).iter().map(|(row, _)| row.node.clone()).collect::<Vec<_>>();
        assert_eq!((lost(5), lost(1)), (vec!["fc1".into(), "fc2".into()], vec!["fc1".into()]));
        assert!((told.images_per_second.unwrap() - 100.0 / 150e-6).abs() < 1e-3);
        assert_eq!((told.precision.as_str(), told.device_bytes, told.weight_bytes), ("f16 and f32", 7, 5));
    }

    #[test]
    fn without_times_or_peaks_operations_and_bytes_remain() {
        let (graph, profile) = sample([None, Some(50_000.0)]);
        let told = profiled(&graph, &profile, None);
        assert_eq!(told.images_per_second, None, "a sum that misses a layer is none");
        assert!(told.layers.most_lost(5).is_empty());
        for (row, timed) in told.layers.rows.iter().zip([false, true]) {
            let work = &row.work;
            assert!(work.operations_per_image > 0 && work.bytes_per_image > 0 && work.weight_bytes > 0, "{row:?}");
            assert_eq!((work.tera_flops.is_some(), work.fraction, row.bound), (timed, None, None));
        }
        let bounded = profiled(&graph, &profile, Some(&peaks())).layers;
        assert!(bounded.total.least_microseconds.unwrap() > 40.0 && bounded.total.fraction.is_none());
    }
}
