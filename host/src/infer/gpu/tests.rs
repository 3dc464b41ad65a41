//! The engine on a device: kernels against twins, batches against single pictures, whole networks.
//!
//! Without a device these skip and say so; `REQUIRE=gpu`, or a CI, turns that into a failure. A software Vulkan driver
//! serves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::graph::{self, Operation, Source, Step};
use std::path::PathBuf;

use super::super::onnx::write::{Attr, Model as File};
use super::super::onnx::{Constant, Numbers as Numbers_, parse};
use super::super::session::Session;
use super::cases::{self, Numbers};
use super::kernel::{self, Choice, Layout};
use super::model::{GpuModel, Recipe, dense};
use super::*;
use crate::tensor::{Element, Tensor};

/// A way to use the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    name: &'static str,
    precision: Precision,
    within: Within,
}

/// All that kernels can do, the least that adapters have, and what lies between.
const MODES: [Mode; 4] = [
    Mode { name: "single", precision: Precision::Single, within: NOTHING_LESS },
    Mode {
        name: "single, as small as adapters are, every index checked",
        precision: Precision::Single,
        within: Within { checked: true, ..SMALL },
    },
    Mode {
        name: "half, without matrices",
        precision: Precision::Half,
        within: Within { without_matrices: true, ..NOTHING_LESS },
    },
    Mode { name: "half", precision: Precision::Half, within: NOTHING_LESS },
];

const NOTHING_LESS: Within = Within {
    workgroup_bytes: None,
    binding_bytes: None,
    memory_bytes: None,
    without_halves: false,
    without_matrices: false,
    checked: false,
};

const SMALL: Within =
    Within { workgroup_bytes: Some(16 << 10), binding_bytes: Some(128 << 20), without_halves: true, ..NOTHING_LESS };

impl Mode {
    /// The most that one layer may be wrong by.
    fn tolerance(&self) -> f32 {
        selftest::tolerance(self.precision)
    }

    /// A network's results: in 16 bits each layer's rounding adds to those before it, but never turns the result.
    fn check(&self, name: &str, made: &[f32], wanted: &[f32]) {
        let error = selftest::largest_error(made, wanted);
        if self.precision == Precision::Single {
            assert!(error <= self.tolerance(), "{name}, {}: wrong by {error}", self.name);
            return;
        }
        let cosine = cosine(made, wanted);
        assert!(cosine >= 0.9999 && error <= 2e-2, "{name}, {}: cosine {cosine}, wrong by {error}", self.name);
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

fn open(mode: Mode) -> Result<Gpu, InferError> {
    let with = |selector| {
        let options = Options { precision: Some(mode.precision), within: mode.within, ..Options::new(selector) };
        Gpu::open(Options { cache: Private::none(), ..options })
    };
    with(Selector::Best).or_else(|_| with(Selector::Software))
}

/// The devices that all tests share, one for each way to use it: a real one if there is one, else a software one.
fn gpus() -> &'static [(Mode, Gpu)] {
    static GPUS: OnceLock<Vec<(Mode, Gpu)>> = OnceLock::new();
    let gpus = GPUS.get_or_init(|| {
        if let Err(error) = open(MODES[0]) {
            let required = std::env::var("REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "gpu"));
            assert!(!required && std::env::var_os("CI").is_none(), "a GPU is required: {error}");
            return Vec::new();
        }
        let opened = MODES.into_iter().filter_map(|mode| match open(mode) {
            Ok(gpu) => {
                println!("{}: {}", mode.name, gpu.describe());
                Some((mode, gpu))
            }
            // Not every adapter has 16-bit floats.
            Err(error) => {
                assert_eq!(mode.precision, Precision::Half, "{}: {error}", mode.name);
                println!("skipped: {}: {error}", mode.name);
                None
            }
        });
        opened.collect()
    });
    if gpus.is_empty() {
        println!("skipped: no GPU and no software Vulkan driver");
    }
    gpus
}

/// The one in 32 bits.
fn gpu() -> Option<&'static Gpu> {
    gpus().first().map(|(_, gpu)| gpu)
}

fn engine(gpu: &Gpu) -> Arc<Engine> {
    gpu.opener.engine().unwrap()
}

fn compile(gpu: &Gpu, graph: Graph, families: &[Family]) -> Result<GpuModel, InferError> {
    GpuModel::compile(engine(gpu), graph, Recipe { families, precision: gpu.report().precision })
}

/// The self-test's case of `family`.
fn case_of(family: Family) -> cases::Case {
    cases::all().into_iter().find(|case| case.families().contains(&family)).unwrap()
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    for (mode, gpu) in gpus() {
        for case in cases::all() {
            for &family in case.families() {
                if !family.works_with(mode.precision, &engine(gpu).abilities) {
                    continue;
                }
                let error = selftest::compare(&engine(gpu), &case, family, mode.precision).unwrap();
                println!("{:>12}  {:<40} {error:.1e}  {}", family.entry(), case.name, mode.name);
                assert!(error <= mode.tolerance(), "{} by {}, {}: {error}", case.name, family.entry(), mode.name);
            }
        }
    }
}

#[test]
fn every_form_of_a_kernel_agrees_with_its_twin() {
    for (mode, gpu) in gpus() {
        let engine = engine(gpu);
        // Software drivers compile the largest forms for seconds each.
        let most = if gpu.report().adapter.is_software() { 16 } else { usize::MAX };
        let names = ["3×3 with everything round it", "3×3 with a shortcut", "fully connected"];
        for case in cases::all().into_iter().filter(|case| names.contains(&case.name)) {
            let step = case.graph.steps.last().unwrap();
            let stored = kernel::stored(&case.graph, mode.precision);
            let layout = Layout { graph: &case.graph, stored: &stored };
            let inputs = case.inputs(case.batch);
            let wanted = twin::run(&case.graph, &inputs);
            for &family in case.families() {
                let forms = kernel::variants(layout, step, family, &engine.abilities).into_iter().skip(1);
                for variant in forms.filter(|form| form.products() <= most) {
                    let choice = Choice { family, variant };
                    let recipe = Recipe { families: &Family::ALL, precision: mode.precision };
                    let model = GpuModel::compile_with(Arc::clone(&engine), case.graph.clone(), recipe, |at| {
                        (at + 1 == case.graph.steps.len()).then_some(choice)
                    });
                    let made = model.unwrap().run(&inputs).unwrap();
                    let error = selftest::largest_error(made[0].f32().unwrap(), &wanted[0]);
                    println!("{:>12}  {variant:<24} {:<40} {error:.1e}", family.entry(), case.name);
                    assert!(error <= mode.tolerance(), "{} by {} {variant}: {error}", case.name, family.entry());
                }
            }
        }
    }
}

#[test]
fn every_family_passes_the_self_test_and_the_report_says_so() {
    for (mode, gpu) in gpus() {
        let possible = Family::ALL.iter().filter(|f| f.works_with(mode.precision, &engine(gpu).abilities));
        assert_eq!(gpu.report().families.len(), possible.count());
        assert!(gpu.report().families.iter().all(|family| family.passed), "{:?}", gpu.report().families);
        assert!(gpu.report().adapter.binding_bytes >= 1 << 27 && !gpu.describe().contains("switched off"));
    }
}

#[test]
fn an_adapter_with_matrices_uses_them() {
    for (mode, gpu) in gpus() {
        let wanted = mode.name == "half" && !gpu.report().adapter.matrices.is_empty();
        let case = case_of(Family::ConvTiled);
        let model = compile(gpu, case.graph, &Family::ALL).unwrap();
        let used = model.compiled().dispatches.iter().any(|dispatch| dispatch.choice.family == Family::ConvMatrix);
        println!("{}: cooperative matrices used: {used}", mode.name);
        assert_eq!(used, wanted, "{}: {:?}", mode.name, gpu.report().adapter.matrices);
    }
}

#[test]
fn a_family_that_is_off_is_refused_by_name() {
    let Some(gpu) = gpu() else { return };
    let case = case_of(Family::Softmax);
    let families: Vec<Family> = Family::ALL.into_iter().filter(|&family| family != Family::Softmax).collect();
    let Err(error) = compile(gpu, case.graph, &families) else { panic!() };
    assert!(error.to_string().contains("`softmax` failed their self-test"), "{error}");
}

#[test]
fn a_family_that_is_off_leaves_its_work_to_the_next_one() {
    for (mode, gpu) in gpus() {
        let case = case_of(Family::ConvTiled);
        let off = [Family::ConvTiled, Family::ConvMatrix];
        let families: Vec<Family> = Family::ALL.into_iter().filter(|family| !off.contains(family)).collect();
        let model = compile(gpu, case.graph.clone(), &families).unwrap();
        let inputs = case.inputs(2);
        let made = model.run(&inputs).unwrap();
        let wanted = &twin::run(&case.graph, &inputs)[0];
        assert!(selftest::largest_error(made[0].f32().unwrap(), wanted) <= mode.tolerance(), "{}", mode.name);
    }
}

/// Runs `model` on the first `count` rows of `inputs`.
fn some(model: &dyn Model, inputs: &[Tensor], start: usize, count: usize) -> Vec<u32> {
    let part: Vec<Tensor> = inputs.iter().map(|input| input.slice(start, count).unwrap()).collect();
    model.run(&part).unwrap()[0].f32().unwrap().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_picture_gives_the_same_bits_in_every_batch() {
    for (mode, gpu) in gpus() {
        for case in cases::all() {
            // More rows than a software adapter takes at a time, and than a tile has rows of a vector.
            let rows = 37;
            let inputs = case.inputs(rows);
            let model = gpu.compile(case.graph.clone()).unwrap();
            let all = some(&*model, &inputs, 0, rows);
            let row = all.len() / rows;
            for (start, count) in [(0, 1), (36, 1), (5, 7), (3, 16), (1, 36)] {
                let part = some(&*model, &inputs, start, count);
                let (name, end) = (case.name, start + count);
                assert_eq!(part, all[start * row..][..count * row], "{name}, {}: rows {start} to {end}", mode.name);
            }
        }
    }
}

#[test]
fn a_batch_beyond_the_micro_batch_and_an_empty_one_run() {
    for (mode, gpu) in gpus() {
        let case = case_of(Family::Pool);
        let model = compile(gpu, case.graph.clone(), &Family::ALL).unwrap();
        let rows = usize::try_from(model.images_at_a_time()).unwrap() * 2 + 1;
        let inputs = case.inputs(rows);
        let made = model.run(&inputs).unwrap();
        assert_eq!(made[0].rows(), rows);
        assert_eq!(model.images_held(), Some(model.images_at_a_time()), "the batch was not cut");
        let wanted = &twin::run(&case.graph, &inputs)[0];
        assert!(selftest::largest_error(made[0].f32().unwrap(), wanted) <= mode.tolerance());
        assert_eq!(model.run(&case.inputs(0)).unwrap()[0].rows(), 0);
    }
}

#[test]
fn several_threads_get_their_own_results() {
    let Some(gpu) = gpu() else { return };
    let case = case_of(Family::ConvTiled);
    let model = gpu.compile(case.graph.clone()).unwrap();
    let inputs = case.inputs(12);
    let all = some(&*model, &inputs, 0, 12);
    let row = all.len() / 12;
    std::thread::scope(|scope| {
        for start in 0..6 {
            let (model, inputs, all) = (&*model, &inputs, &all);
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(some(model, inputs, start, 6), all[start * row..][..6 * row]);
                }
            });
        }
    });
}

#[test]
fn a_lost_device_fails_one_call_and_is_opened_again() {
    if gpu().is_none() {
        return;
    }
    // One of its own, since the other tests need theirs.
    let lost = open(MODES[0]).unwrap();
    let case = case_of(Family::ConvTiled);
    let (model, inputs) = (lost.compile(case.graph.clone()).unwrap(), case.inputs(3));
    let before = some(&*model, &inputs, 0, 3);
    let compiled = lost.opener.compile(&case.graph).unwrap();
    lost.opener.engine().unwrap().device.destroy();
    let error = compiled.run(&inputs).unwrap_err();
    assert!(matches!(error, InferError::Device { transient: true, .. }), "{error}");
    assert_eq!(some(&*model, &inputs, 0, 3), before, "a model that was open before the loss");
    assert_eq!(some(&*lost.compile(case.graph).unwrap(), &inputs, 0, 3), before, "a model opened after it");
}

/// A network of `layers` residual convolutions.
fn deep(layers: usize) -> File {
    deep_of(layers, 5)
}

fn deep_of(layers: usize, seed: u32) -> File {
    let mut numbers = Numbers::new(seed);
    let picture = [None, Some(3), Some(5), Some(4)];
    let mut file = File::new(13).input("x", 1, &picture).floats("w", &[8, 3, 1, 1], &numbers.list(24)).node(
        "Conv",
        &["x", "w"],
        &["v0"],
        &[],
    );
    for layer in 1..=layers {
        let (kernel, pad) = if layer % 2 == 0 { (3, 1) } else { (1, 0) };
        let weights = numbers.list(64 * (kernel * kernel) as usize).into_iter().map(|w| w / 16.0).collect::<Vec<_>>();
        let [from, to] = [layer - 1, layer].map(|n| format!("v{n}"));
        let [weight, sum, made] = ["w", "s", "c"].map(|letter| format!("{letter}{layer}"));
        file = file
            .floats(&weight, &[8, 8, kernel, kernel], &weights)
            .node("Conv", &[&from, &weight], &[&made], &[("pads", Attr::Ints(&[pad; 4]))])
            .node("Add", &[&made, &from], &[&sum], &[])
            .node("Clip", &[&sum], &[&to], &[("min", Attr::Float(-4.0)), ("max", Attr::Float(4.0))]);
    }
    let last = format!("v{layers}");
    file.node("GlobalAveragePool", &[&last], &["y"], &[]).output("y", 1, &[None, Some(8), Some(1), Some(1)])
}

#[test]
fn two_hundred_layers_run_in_batches_of_one_to_four_thousand() {
    let graph = graph::build(&parse(&deep(200).bytes()).unwrap()).unwrap();
    for (mode, gpu) in gpus() {
        let model = compile(gpu, graph.clone(), &Family::ALL).unwrap();
        assert!(model.compiled().dispatches.len() > 200);
        // The largest batch takes a software adapter ten seconds, and is cut alike in every mode.
        let most = if *mode == MODES[0] { 4096 } else { 300 };
        let inputs = inputs_of(&graph, most);
        mode.check("deep", &some_values(&model, &inputs, 3), &twin::run(&graph, &[inputs[0].slice(0, 3).unwrap()])[0]);
        let all = some(&model, &inputs, 0, most);
        for (start, count) in [(most - 1, 1), (100, 7), (64, 64), (32, 256)] {
            assert_eq!(some(&model, &inputs, start, count), all[start * 8..][..count * 8], "{}: {count}", mode.name);
        }
    }
}

fn some_values(model: &dyn Model, inputs: &[Tensor], count: usize) -> Vec<f32> {
    some(model, inputs, 0, count).into_iter().map(f32::from_bits).collect()
}

#[test]
fn two_jobs_share_the_device_however_many_instances_each_has() {
    let Some(gpu) = gpu() else { return };
    let files = [5, 6].map(|seed| {
        // As much work, and another model: their rows cannot be joined.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), deep_of(8, seed).bytes()).unwrap();
        file
    });
    let input = &inputs_of(&graph::build(&parse(&deep_of(8, 5).bytes()).unwrap()).unwrap(), 16)[0];
    let jobs = [("one", 24), ("other", 8)];
    let sessions = [0, 1].map(|job| Session::open_for(gpu, files[job].path(), jobs[job].0).unwrap());
    let device_ns: [Arc<AtomicU64>; 2] = Default::default();
    let asked = AtomicU64::new(0);
    let shares = OnceLock::new();
    let ask = |job: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while shares.get().is_none() {
            let answer = runtime.block_on(async {
                let asked = sessions[job].predict(vec![input.clone()], &device_ns[job], Box::new(()));
                asked.await.unwrap().outputs().await
            });
            assert_eq!(answer.unwrap()[0].rows(), 16);
            if asked.fetch_add(1, Ordering::Relaxed) == 500 {
                // While all still ask: what comes after is one job's alone.
                let _ = shares.set([0, 1].map(|job| device_ns[job].load(Ordering::Relaxed)));
            }
        }
    };
    std::thread::scope(|scope| {
        for (job, (_, instances)) in jobs.iter().enumerate() {
            (0..*instances).for_each(|_| {
                let ask = &ask;
                scope.spawn(move || ask(job));
            });
        }
    });
    let [one, other] = *shares.get().unwrap();
    println!("device time: {} µs for 24 instances, {} for 8", one / 1000, other / 1000);
    let share = one as f64 / (one + other) as f64;
    assert!((0.45..=0.55).contains(&share), "{one} and {other}");
}

#[test]
fn a_device_lost_under_a_session_fails_what_is_under_way_and_comes_back() {
    if gpu().is_none() {
        return;
    }
    let lost = open(MODES[0]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), deep(4).bytes()).unwrap();
    let session = Session::open_for(&lost, file.path(), "one").unwrap();
    let input = &inputs_of(&graph::build(&parse(&deep(4).bytes()).unwrap()).unwrap(), 5)[0];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = || {
        runtime.block_on(async {
            let answer = session.predict(vec![input.clone()], &Arc::default(), Box::new(())).await.unwrap();
            answer.outputs().await.map(|outputs| outputs[0].f32().unwrap().to_vec())
        })
    };
    let before = ask().unwrap();
    lost.opener.engine().unwrap().device.destroy();
    // The loss may be noticed before the next run begins, which then begins on the device that was opened again.
    let after = ask().or_else(|error| {
        assert!(matches!(*error, InferError::Device { transient: true, .. }), "{error}");
        ask()
    });
    assert_eq!(after.unwrap(), before);
}

#[test]
fn a_device_out_of_memory_goes_on_with_fewer_pictures_and_says_so() {
    if gpu().is_none() {
        return;
    }
    let graph = graph::build(&parse(&deep(3).bytes()).unwrap()).unwrap();
    let bytes = compile(&open(MODES[0]).unwrap(), graph.clone(), &Family::ALL).unwrap().bytes_for(1);
    let within = Within { memory_bytes: Some(5 * bytes), ..NOTHING_LESS };
    let small = open(Mode { within, ..MODES[0] }).unwrap();
    let model = compile(&small, graph.clone(), &Family::ALL).unwrap();
    assert!(model.images_at_a_time() > 8);
    let inputs = inputs_of(&graph, 50);
    let made = some(&model, &inputs, 0, 50);
    assert_eq!(model.images_at_a_time(), 4);
    let notices = small.notices();
    assert!(notices.iter().any(|notice| notice.contains("4 pictures at a time from now on")), "{notices:?}");
    assert!(small.notices().is_empty(), "said once");
    let roomy = compile(gpu().unwrap(), graph, &Family::ALL).unwrap();
    assert_eq!(made, some(&roomy, &inputs, 0, 50), "the same bits");
}

#[test]
fn numbers_that_16_bits_do_not_hold_are_found_whatever_follows_them() {
    let large = [60_000.0, 0.0, 0.0, 60_000.0];
    let pool = [("kernel_shape", Attr::Ints(&[2, 2]))];
    let file = File::new(13)
        .input("x", 1, &[None, Some(2), Some(3), Some(3)])
        .floats("a", &[2, 2, 1, 1], &large)
        .node("Conv", &["x", "a"], &["v1"], &[])
        .node("Conv", &["v1", "a"], &["v2"], &[])
        .node("MaxPool", &["v2"], &["v3"], &pool)
        .floats("b", &[2, 2, 1, 1], &[1.0, -1.0, -1.0, 1.0])
        .node("Conv", &["v3", "b"], &["v4"], &[])
        .node("Clip", &["v4"], &["v5"], &[("min", Attr::Float(0.0)), ("max", Attr::Float(6.0))])
        .node("MaxPool", &["v5"], &["v6"], &pool)
        .node("GlobalAveragePool", &["v6"], &["y"], &[])
        .output("y", 1, &[None, Some(2), Some(1), Some(1)]);
    let graph = graph::build(&parse(&file.bytes()).unwrap()).unwrap();
    let ones = [Tensor::from_f32(vec![3, 2, 3, 3], vec![1.0; 54]).unwrap()];
    for (mode, gpu) in gpus() {
        let made = gpu.compile(graph.clone()).unwrap().run(&ones);
        match (mode.precision, made) {
            (Precision::Single, Ok(made)) => assert_eq!(made[0].f32().unwrap(), [0.0; 6]),
            (Precision::Half, Err(error)) => assert!(error.to_string().contains("--precision single"), "{error}"),
            (_, made) => panic!("{}: {made:?}", mode.name),
        }
    }
}

#[test]
fn tuning_changes_no_result_beyond_its_rounding_and_is_found_again() {
    for (mode, _) in gpus() {
        let folder = tempfile::tempdir().unwrap();
        let options = |selector| Options {
            precision: Some(mode.precision),
            within: mode.within,
            cache: Private::at(folder.path()).unwrap(),
            ..Options::new(selector)
        };
        let open = || Gpu::open(options(Selector::Best)).or_else(|_| Gpu::open(options(Selector::Software))).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let picture = [None, Some(3), Some(9), Some(8)];
        let wide = File::new(13)
            .input("x", 1, &picture)
            .floats("w", &[80, 3, 3, 3], &Numbers::new(3).list(2160))
            .node("Conv", &["x", "w"], &["c"], &[("pads", Attr::Ints(&[1; 4]))])
            .node("Relu", &["c"], &["y"], &[])
            .output("y", 1, &[None, Some(80), Some(9), Some(8)])
            .bytes();
        std::fs::write(file.path(), &wide).unwrap();
        let gpu = open();
        assert_eq!(gpu.report().tuning, "untuned");
        let mut found = Vec::new();
        gpu.tune(file.path(), &mut |tuned| found.push(tuned.clone())).unwrap();
        assert!(!found.is_empty() && found.iter().all(|tuned| tuned.tried.0 > 1 && tuned.tried.1 == 0), "{found:?}");
        let again = open();
        assert!(again.report().tuning.starts_with("tuned "), "{}", again.report().tuning);
        assert!(again.describe().contains(&again.report().tuning), "other bits, another identity");
        let input = inputs_of(&graph::build(&parse(&wide).unwrap()).unwrap(), 3);
        let [untuned, tuned] = [&gpu, &again].map(|gpu| gpu.open(file.path()).unwrap().run(&input).unwrap());
        mode.check("tuned", tuned[0].f32().unwrap(), untuned[0].f32().unwrap());
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let Some(gpu) = gpu() else { return };
    let case = case_of(Family::Concat);
    let model = gpu.compile(case.graph.clone()).unwrap();
    let mut inputs = case.inputs(2);
    assert!(matches!(model.run(&inputs[..1]), Err(InferError::Input(_))));
    inputs[1] = inputs[1].slice(0, 1).unwrap();
    assert!(matches!(model.run(&inputs), Err(InferError::Input(_))));
    inputs[1] = Tensor::from_f32(vec![2, 1], vec![0.0; 2]).unwrap();
    assert!(matches!(model.run(&inputs), Err(InferError::Input(_))));
}

#[test]
fn the_largest_and_their_places_are_exact() {
    for (mode, gpu) in gpus() {
        for case in cases::all() {
            let Operation::Top { k } = case.graph.steps.last().unwrap().operation else { continue };
            let inputs = case.inputs(case.batch);
            let made = gpu.compile(case.graph.clone()).unwrap().run(&inputs).unwrap();
            let wanted = &twin::run(&case.graph, &inputs)[0];
            assert_eq!(made[0].f32().unwrap(), wanted, "{}, {}: k {k}", case.name, mode.name);
        }
    }
}

#[test]
fn equal_numbers_keep_their_order_and_what_is_no_number_comes_first() {
    let (inf, nan, least) = (f32::INFINITY, f32::NAN, f32::from_bits(1));
    // Four of six, and their places.
    let cases: [([f32; 6], [usize; 4]); 6] = [
        ([1.0, 3.0, 2.0, 3.0, 3.0, -1.0], [1, 3, 4, 2]),
        ([-0.0, 0.0, -1.0, 0.0, -0.0, -2.0], [0, 1, 3, 4]),
        ([0.0, -least, least, -1e-30, 1e-30, -0.0], [4, 2, 0, 5]),
        ([-inf, inf, 0.0, f32::MAX, f32::MIN, inf], [1, 5, 3, 2]),
        ([-inf, -inf, -inf, f32::MIN, -inf, -inf], [3, 0, 1, 2]),
        ([inf, nan, 5.0, -nan, -inf, nan], [1, 3, 5, 0]),
    ];
    let numbers: Vec<f32> = cases.iter().flat_map(|case| case.0).collect();
    let file = File::new(17)
        .input("x", 1, &[None, Some(6)])
        .integers("k", &[1], &[4])
        .node("TopK", &["x", "k"], &["y", "i"], &[])
        .output("y", 1, &[None, Some(4)])
        .output("i", 7, &[None, Some(4)]);
    let graph = graph::build(&parse(&file.bytes()).unwrap()).unwrap();
    let inputs = [Tensor::from_f32(vec![cases.len(), 6], numbers).unwrap()];
    let twins = twin::run(&graph, &inputs);
    let check = |name: &str, values: &[f32], places: &[i64]| {
        for (at, (row, wanted)) in cases.iter().enumerate() {
            let wanted_values = wanted.map(|place| row[place].to_bits());
            let values: Vec<u32> = values[4 * at..][..4].iter().map(|v| v.to_bits()).collect();
            assert_eq!(places[4 * at..][..4], wanted.map(|place| place as i64), "{name}: {row:?}");
            // Which of the bits that are no number it is does not matter.
            let same = |(a, b): (&u32, &u32)| a == b || f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan();
            assert!(values.iter().zip(&wanted_values).all(same), "{name}: {row:?}: {values:x?}");
        }
    };
    check("twin", &twins[0], &twins[1].iter().map(|&place| place as i64).collect::<Vec<_>>());
    // In 16 bits such results are refused.
    for (mode, gpu) in gpus().iter().filter(|(mode, _)| mode.precision == Precision::Single) {
        let made = gpu.compile(graph.clone()).unwrap().run(&inputs).unwrap();
        assert_eq!(made[1].shape(), [cases.len(), 4]);
        check(mode.name, made[0].f32().unwrap(), made[1].i64().unwrap());
    }
}

/// Every file of small networks that users bring, each with another way to say things.
fn files() -> Vec<(&'static str, File)> {
    let mut numbers = Numbers::new(99);
    let mut list = |count: usize| numbers.list(count);
    let picture = [None, Some(3), Some(12), Some(10)];
    let bytes = [None, Some(12), Some(10), Some(3)];
    let floats = Attr::Ints;
    vec![
        (
            "zero-padded shortcut of a ResNet for CIFAR",
            File::new(13)
                .input("x", 1, &picture)
                .floats("w", &[8, 3, 3, 3], &list(216))
                .node("Conv", &["x", "w"], &["c"], &[("pads", floats(&[1; 4])), ("strides", floats(&[2, 2]))])
                .integers("s", &[2], &[0, 0])
                .integers("e", &[2], &[i64::MAX, i64::MAX])
                .integers("a", &[2], &[2, 3])
                .integers("t", &[2], &[2, 2])
                .node("Slice", &["x", "s", "e", "a", "t"], &["half"], &[])
                .integers("p", &[8], &[0, 2, 0, 0, 0, 3, 0, 0])
                .node("Pad", &["half", "p"], &["short"], &[])
                .node("Add", &["c", "short"], &["sum"], &[])
                .node("Relu", &["sum"], &["y"], &[])
                .output("y", 1, &[None, Some(8), Some(6), Some(5)]),
        ),
        (
            "bytes with channels last, preprocessing, softmax",
            File::new(13)
                .input("x", 2, &bytes)
                .node("Cast", &["x"], &["f"], &[("to", Attr::Int(1))])
                .floats("mean", &[3], &[103.9, 116.8, 123.7])
                .node("Sub", &["f", "mean"], &["m"], &[])
                .floats("scale", &[1], &[0.017])
                .node("Mul", &["m", "scale"], &["n"], &[])
                .node("Transpose", &["n"], &["t"], &[("perm", floats(&[0, 3, 1, 2]))])
                .integers("p", &[8], &[0, 0, 3, 3, 0, 0, 3, 3])
                .node("Pad", &["t", "p"], &["padded"], &[])
                .floats("w", &[6, 3, 7, 7], &list(882))
                .node("Conv", &["padded", "w"], &["c"], &[("strides", floats(&[2, 2]))])
                .node(
                    "MaxPool",
                    &["c"],
                    &["q"],
                    &[("kernel_shape", floats(&[3, 3])), ("strides", floats(&[2, 2])), ("pads", floats(&[1; 4]))],
                )
                .node("Transpose", &["q"], &["last"], &[("perm", floats(&[0, 2, 3, 1]))])
                .integers("shape", &[2], &[-1, 54])
                .node("Reshape", &["last", "shape"], &["flat"], &[])
                .floats("fc", &[54, 7], &list(378))
                .node("MatMul", &["flat", "fc"], &["l"], &[])
                .floats("b", &[7], &list(7))
                .node("Add", &["l", "b"], &["logits"], &[])
                .node("Softmax", &["logits"], &["y"], &[])
                .output("y", 1, &[None, Some(7)]),
        ),
        (
            "flattened with channels last, which is no padding, and convolved",
            File::new(13)
                .input("x", 1, &picture)
                .floats("w", &[2, 3, 1, 1], &list(6))
                .node("Conv", &["x", "w"], &["c"], &[])
                .node("Transpose", &["c"], &["t"], &[("perm", floats(&[0, 2, 3, 1]))])
                .integers("shape", &[4], &[0, -1, 1, 1])
                .node("Reshape", &["t", "shape"], &["flat"], &[])
                .floats("v", &[5, 240, 1, 1], &list(1200))
                .node("Conv", &["flat", "v"], &["d"], &[])
                .node("Relu", &["d"], &["y"], &[])
                .output("y", 1, &[None, Some(5), Some(1), Some(1)]),
        ),
        (
            "squeeze and excitation, groups, two outputs' worth of reading",
            File::new(17)
                .input("x", 1, &picture)
                .floats("w", &[8, 3, 1, 1], &list(24))
                .node("Conv", &["x", "w"], &["c"], &[])
                .floats("g", &[8, 2, 3, 3], &list(144))
                .node("Conv", &["c", "g"], &["d"], &[("group", Attr::Int(4)), ("pads", floats(&[1; 4]))])
                .integers("hw", &[2], &[2, 3])
                .node("ReduceMean", &["d"], &["mean"], &[("axes", floats(&[2, 3]))])
                .floats("v", &[8, 8, 1, 1], &list(64))
                .node("Conv", &["mean", "v"], &["gate"], &[])
                .node("Clip", &["gate"], &["gate6"], &[("min", Attr::Float(0.0)), ("max", Attr::Float(6.0))])
                .node("Mul", &["gate6", "d"], &["scaled"], &[])
                .node("Concat", &["scaled", "c"], &["both"], &[("axis", Attr::Int(1))])
                .node("Flatten", &["both"], &["flat"], &[])
                .node("Identity", &["flat"], &["y"], &[])
                .output("y", 1, &[None, Some(1920)]),
        ),
    ]
}

#[test]
fn small_networks_agree_with_the_twins_and_with_themselves_unfused() {
    for (name, file) in files() {
        let parsed = parse(&file.bytes()).unwrap();
        let graph = graph::build(&parsed).unwrap();
        let unfused = graph::unfused(&parsed).unwrap();
        assert!(graph.steps.len() < unfused.steps.len(), "{name}: nothing was fused");
        let inputs = inputs_of(&graph, 3);
        let wanted = twin::run(&unfused, &inputs);
        let fused = twin::run(&graph, &inputs);
        assert!(selftest::largest_error(&fused[0], &wanted[0]) < 1e-5, "{name}: the passes changed the result");
        for (mode, gpu) in gpus() {
            for graph in [&graph, &unfused] {
                let made = gpu.compile(graph.clone()).unwrap().run(&inputs).unwrap();
                mode.check(name, made[0].f32().unwrap(), &wanted[0]);
            }
        }
    }
}

/// A tensor from a file of the layout of ONNX's own tests.
fn tensor(path: &Path) -> Tensor {
    let constant = onnx::lone_tensor(&std::fs::read(path).unwrap()).unwrap();
    match constant.numbers {
        Numbers_::Floats(list) => Tensor::from_f32(constant.shape, list.to_vec()),
        Numbers_::Integers(list) => {
            Tensor::from_u8(constant.shape, list.iter().map(|&n| n.try_into().unwrap()).collect())
        }
        Numbers_::Unread(kind) => panic!("{}: type {kind}", path.display()),
    }
    .unwrap()
}

/// The outputs in `folder`, in the file's order.
fn outputs(folder: &Path) -> Vec<Constant> {
    let files = (0..).map(|at| folder.join(format!("output_{at}.pb"))).take_while(|path| path.exists());
    files.map(|path| onnx::lone_tensor(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// The file at `model`, the input and outputs beside it: on the twins, and on a device if there is one.
fn agrees_with_onnx_runtime(model: &Path, folder: &Path) {
    let name = folder.file_name().unwrap().display();
    let graph = graph::build(&onnx::read(model).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let input = [tensor(&folder.join("input_0.pb"))];
    crate::infer::check_inputs(&graph.inputs, &input).unwrap();
    let (outputs, twins) = (outputs(folder), twin::run(&graph, &input));
    assert_eq!((outputs.len(), twins.len()), (graph.outputs.len(), graph.outputs.len()), "{name}");
    let made: Vec<_> = gpus().iter().map(|(mode, gpu)| (mode, gpu.open(model).unwrap().run(&input).unwrap())).collect();
    for (at, (output, twin)) in outputs.iter().zip(&twins).enumerate() {
        assert_eq!(graph.outputs[at].shape, output.shape[1..], "{name}");
        assert!(made.iter().all(|(_, made)| made[at].shape() == output.shape), "{name}");
        match &output.numbers {
            Numbers_::Floats(wanted) => {
                let error = selftest::largest_error(twin, wanted);
                assert!(error <= selftest::tolerance(Precision::Single), "{name}: the twins are wrong by {error}");
                made.iter().for_each(|(mode, made)| mode.check(&name.to_string(), made[at].f32().unwrap(), wanted));
            }
            Numbers_::Integers(wanted) => {
                assert_eq!(&twin.iter().map(|&place| place as i64).collect::<Vec<_>>(), &**wanted, "{name}");
                // Numbers that are nearly equal may change places when they are rounded to 16 bits.
                for (mode, made) in made.iter().filter(|(mode, _)| mode.precision == Precision::Single) {
                    assert_eq!(made[at].i64().unwrap(), wanted.as_slice(), "{name}, {}", mode.name);
                }
            }
            Numbers_::Unread(kind) => panic!("{name}: type {kind}"),
        }
    }
}

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/infer/graph/reference")
}

#[test]
fn every_operation_gives_what_onnx_runtime_gives() {
    // Made by reference/make_operations.py.
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(reference().join("operations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 64, "cases are missing");
    let mut used = Vec::new();
    for folder in folders {
        let file = onnx::read(&folder.join("model.onnx")).unwrap();
        used.extend(file.nodes.into_iter().map(|node| node.operation));
        agrees_with_onnx_runtime(&folder.join("model.onnx"), &folder);
    }
    let missing: Vec<_> = graph::supported().into_iter().filter(|&name| !used.iter().any(|u| u == name)).collect();
    assert_eq!(missing, [""; 0], "supported, and without a case");
}

#[test]
fn a_trained_network_gives_what_onnx_runtime_gives() {
    // Made by reference/make_network.py.
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model/resnet14v2-shapes.onnx");
    agrees_with_onnx_runtime(&model, &reference().join("networks/resnet14v2-shapes"));
}

/// Folders with a ResNet, an input and what ONNX Runtime makes of it: by tests/tools/make_references.py.
fn resnets() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-models/resnets");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        let required = std::env::var_os("CI").is_some() && !gpus().is_empty();
        assert!(!required, "{} is required: tests/run makes it", folder.display());
        println!("skipped: no {}", folder.display());
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn whole_resnets_give_what_onnx_runtime_gives() {
    for folder in resnets() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (input, output) = (tensor(&folder.join("input_0.pb")), tensor(&folder.join("output_0.pb")));
        let rounded = tensor(&folder.join("output_0_of_rounded_weights.pb"));
        let (wanted, classes) = (output.f32().unwrap(), output.shape()[1]);
        // Weights that were never trained magnify every rounding. What rounding weights and input alone to 16 bits does to
        // ONNX Runtime's own result says how much can be asked of an engine that also rounds each layer's.
        let own = 1.0 - cosine(rounded.f32().unwrap(), wanted);
        for (mode, gpu) in gpus() {
            let made = gpu.open(&folder.join("model.onnx")).unwrap().run(std::slice::from_ref(&input)).unwrap();
            let made = made[0].f32().unwrap();
            let loss = 1.0 - cosine(made, wanted);
            println!("{name}, {}: cosine 1 - {loss:.1e}; ONNX Runtime with rounded weights 1 - {own:.1e}", mode.name);
            let most = if mode.precision == Precision::Single { 1e-4 } else { (3.0 * own).max(1e-4) };
            assert!(loss <= most, "{name}, {}: {loss}", mode.name);
            for (made, wanted) in made.chunks(classes).zip(wanted.chunks(classes)) {
                let worst = made.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let top = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                let best = top(wanted);
                let second = (0..classes).filter(|&c| c != best).map(|c| wanted[c]).fold(f32::MIN, f32::max);
                let clear = wanted[best] - second > 5.0 * worst;
                assert!(!clear || top(made) == best, "{name}, {}: another class", mode.name);
            }
        }
    }
}

/// A step as matrices of 16-bit floats do it: what is normalised while it is loaded is rounded before it is multiplied.
fn by_rounded_rows(graph: &Graph, step: &Step, inputs: &[Tensor], values: &[Vec<f32>]) -> Vec<f32> {
    let (mut graph, mut step, mut values) = (graph.clone(), step.clone(), values.to_vec());
    let Operation::Conv(conv) = &mut step.operation else { panic!("{}", step.node) };
    let second = conv.shortcut.as_mut().map(|second| std::mem::take(&mut second.before));
    let works = std::iter::once(std::mem::take(&mut step.before)).chain(second);
    for (source, work) in step.inputs.iter_mut().zip(works) {
        let Source::Value(id) = *source else { panic!("{}", step.node) };
        let mut rows = values[id].clone();
        twin::apply(&work, &mut rows, graph.values[id], |_| unreachable!());
        rows.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
        // Beside the value itself, which `after` may read.
        *source = Source::Value(values.len());
        graph.values.push(graph.values[id]);
        values.push(rows);
    }
    twin::perform(&graph, &step, inputs, &values, 1)
}

#[test]
fn every_step_of_every_resnet_agrees_with_its_twin() {
    for folder in resnets() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let graph = graph::build(&onnx::read(&folder.join("model.onnx")).unwrap()).unwrap();
        let inputs = [tensor(&folder.join("input_0.pb")).slice(0, 1).unwrap()];
        for (mode, gpu) in gpus() {
            let model = compile(gpu, graph.clone(), &Family::ALL).unwrap();
            let mut graph = graph.clone();
            if mode.precision == Precision::Half {
                // What rounded weights do to a whole network is the other test's.
                let halves = |weights: &mut Arc<Vec<f32>>| {
                    let round = |w: &mut f32| *w = half::f16::from_f32(*w).to_f32();
                    Arc::make_mut(weights).iter_mut().for_each(round);
                };
                for step in &mut graph.steps {
                    if let Operation::Conv(conv) = &mut step.operation {
                        halves(&mut conv.weights);
                        conv.shortcut.iter_mut().for_each(|second| halves(&mut second.weights));
                    }
                }
            }
            model.run(&inputs).unwrap();
            let (workspace, slot) = model.quiet(1).unwrap();
            let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.values.len()];
            let mut worst = 0.0f32;
            for (at, step) in graph.steps.iter().enumerate() {
                // From what the device itself wrote before, so that each step answers for itself.
                let dispatch = &model.compiled().dispatches[at];
                let wanted = if dispatch.choice.family == Family::ConvMatrix {
                    by_rounded_rows(&graph, step, &inputs, &values)
                } else {
                    twin::perform(&graph, step, &inputs, &values, 1)
                };
                let stored = model.read_value(&workspace, step.output, 1, |pass| {
                    dispatch.record(model.engine(), pass, workspace.group(at, &slot), 1);
                });
                let mut made = Vec::new();
                dense(graph.values[step.output], &stored.unwrap(), &mut made);
                // Writing a result in 16 bits rounds it, which no kernel can help: of layers with few large results among
                // many small ones that alone is more than the tolerance. So one unit of the last place is let pass.
                let unit = if model.compiled().stored[step.output] == Precision::Half { 1.0 / 1024.0 } else { 0.0 };
                let beyond = |(m, w): (&f32, &f32)| w + (m - w).signum() * ((m - w).abs() - w.abs() * unit).max(0.0);
                let beyond: Vec<f32> = made.iter().zip(&wanted).map(beyond).collect();
                let error = selftest::largest_error(&beyond, &wanted);
                assert!(error <= 1e-4, "{name}, {}, {}: {error}", mode.name, step.node);
                worst = worst.max(error);
                values[step.output] = made;
            }
            workspace.give_back(slot);
            println!(
                "{name}, {}: {} steps, off by {worst:.1e} of a layer's size at most",
                mode.name,
                graph.steps.len()
            );
        }
    }
}

fn inputs_of(graph: &Graph, rows: usize) -> Vec<Tensor> {
    let of = |port: &crate::infer::Port| {
        let shape: Vec<usize> = std::iter::once(rows).chain(port.shape[1..].iter().map(|n| n.unwrap())).collect();
        let numbers = Numbers::new(3).list(shape.iter().product());
        match port.element {
            Element::U8 => Tensor::from_u8(shape, numbers.iter().map(|v| (v * 127.0 + 128.0) as u8).collect()),
            _ => Tensor::from_f32(shape, numbers),
        }
        .unwrap()
    };
    graph.inputs.iter().map(of).collect()
}
