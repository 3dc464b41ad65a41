//! The numbers that come out, on every engine that is there: against labels, against ONNX Runtime and the Python script
//! that a user would write instead, and against themselves under another order of work.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, Ran, Scored, demo, python, root, scored, scorehost, scripts, shared, skip};

const SCRIPTS: [&str; 2] = ["score-by-file", "score-by-batch"];

/// What a probability may differ by from ONNX Runtime's.
const TOLERANCE: f64 = 1e-3;

/// Enough for a software GPU on a busy machine.
const PATIENT: &str = "retry_settings: {max_retries: 0, timeout: 600}";

/// An engine that is to be had here.
struct Engine {
    name: &'static str,
    arguments: Vec<String>,
}

impl Engine {
    fn of(name: &'static str, more: &[&str]) -> Self {
        let arguments = ["--device", name].iter().chain(more).map(|&s| s.to_owned()).collect();
        Engine { name, arguments }
    }

    /// Scores with what the place deploys.
    fn score(&self, place: &Place, input: &Path) -> Ran {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        place.score(input, &arguments)
    }
}

/// The embedded engine always; the others where they are found, with a printed reason where not.
fn engines() -> Vec<Engine> {
    let onnxruntime = onnxruntime().map(|library| Engine::of("onnxruntime", &["--onnxruntime", &library]));
    [Some(Engine::of("cpu", &[])), onnxruntime, gpu()].into_iter().flatten().collect()
}

/// ONNX Runtime's library: `ORT_DYLIB_PATH`, or the one in Python's package.
pub(crate) fn onnxruntime() -> Option<String> {
    if !cfg!(feature = "onnxruntime") {
        println!("skipped: this build is without `onnxruntime`");
        return None;
    }
    if let Ok(library) = std::env::var("ORT_DYLIB_PATH") {
        return Some(library);
    }
    let find = "import onnxruntime, pathlib; \
                print(next(pathlib.Path(onnxruntime.__file__).parent.glob('capi/libonnxruntime.*')))";
    let output = Command::new(python("onnxruntime")?).args(["-c", find]).output().unwrap();
    let library = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    if library.is_empty() { skip("onnxruntime", "Python's onnxruntime has no shared library") } else { Some(library) }
}

/// A software GPU, which every machine can have; a real one computes the same.
fn gpu() -> Option<Engine> {
    if !cfg!(feature = "gpu") {
        println!("skipped: this build is without `gpu`");
        return None;
    }
    let output = scorehost().args(["devices", "--json"]).output().unwrap();
    let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let adapters = devices["adapters"].as_array().unwrap();
    if adapters.iter().any(|each| each["adapter"]["kind"] == "software") {
        return Some(Engine::of("gpu", &["--adapter", "software"]));
    }
    skip("gpu", "there is no software Vulkan; Debian's package mesa-vulkan-drivers has one")
}

/// The rows are the expected files, classes and, nearly, probabilities.
#[track_caller]
fn assert_near(rows: &[Scored], expected: &[Scored], tolerance: f64, what: &str) {
    assert_eq!(rows.len(), expected.len(), "{what}");
    let mut worst = 0.0_f64;
    for (row, expected) in rows.iter().zip(expected) {
        let difference = (row.probability - expected.probability).abs();
        assert_eq!((&row.file, row.class), (&expected.file, expected.class), "{what}: {row:?} {expected:?}");
        assert!(difference <= tolerance, "{what}: {row:?} {expected:?}");
        worst = worst.max(difference);
    }
    println!("{what}: {} rows, off by {worst:.1e} at most", rows.len());
}

/// Class names, by index.
fn labels(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_demo_picture_is_right_by_file_and_by_batch_on_every_engine() {
    if scripts().is_none() {
        return;
    }
    let labels = labels(&demo("model/resnet14v2-shapes.labels.txt"));
    // What a real GPU does unless it is told otherwise.
    let halves = gpu().map(|gpu| Engine {
        arguments: [gpu.arguments, vec!["--precision".into(), "half".into()]].concat(),
        name: "gpu in 16 bits",
    });
    for engine in engines().into_iter().chain(halves) {
        let mut texts = Vec::new();
        for script in SCRIPTS {
            let place = Place::new();
            place.deploy_model(&demo("model"), script, &[PATIENT], &[]);
            let ran = engine.score(&place, &demo("pictures")).completed();
            let rows = ran.scored();
            assert_eq!(rows.len(), 40);
            for row in &rows {
                // The class is in the name: 0000_arrow.jpg.
                assert!(row.file.contains(&format!("_{}.", labels[row.class])), "{} {script}: {row:?}", engine.name);
            }
            texts.push(ran.predictions());
        }
        assert_eq!(texts[0], texts[1], "{}", engine.name);
    }
}

#[test]
fn neither_concurrency_nor_mini_batches_change_a_byte() {
    if scripts().is_none() {
        return;
    }
    for engine in engines() {
        for script in SCRIPTS {
            let run = |settings: &[&str], tags: &[&str]| {
                let place = Place::new();
                place.deploy_model(&demo("model"), script, &[&[PATIENT], settings].concat(), tags);
                engine.score(&place, &demo("pictures")).completed().predictions()
            };
            let first = run(&["mini_batch_size: 10"], &[]);
            assert_eq!(first.lines().count(), 40);
            for concurrency in [2, 4] {
                let concurrency = format!("max_concurrency_per_instance: {concurrency}");
                let rows = run(&["mini_batch_size: 3", &concurrency], &[]);
                assert_eq!(rows, first, "{} {script} {concurrency}", engine.name);
            }
            for size in [1, 5, 64] {
                let rows = run(&[&format!("mini_batch_size: {size}")], &[]);
                assert_eq!(rows, first, "{} {script} {size}", engine.name);
            }
            let rows = run(&["mini_batch_size: 64"], &["device_batching: 7"]);
            assert_eq!(rows, first, "{} {script} device_batching", engine.name);
        }
    }
}

#[test]
fn graphs_as_exporters_write_them_give_onnx_runtimes_numbers() {
    if scripts().is_none() {
        return;
    }
    let folder = root().join("tests/reference/models");
    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let expected: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "csv")).collect();
    assert_eq!(expected.len(), 5);
    for engine in engines() {
        for path in &expected {
            let expected = scored(&std::fs::read_to_string(path).unwrap());
            for script in SCRIPTS {
                let place = Place::new();
                place.deploy_model(&path.with_extension("onnx"), script, &[PATIENT], &[]);
                let rows = engine.score(&place, &demo("pictures")).completed().scored();
                let what = format!("{} {} {script}", path.file_stem().unwrap().display(), engine.name);
                assert_near(&rows, &expected, TOLERANCE, &what);
            }
        }
    }
}

#[test]
fn cifar_pictures_are_right_as_often_as_with_pillow_and_onnx_runtime() {
    if scripts().is_none() {
        return;
    }
    let Some(shared) = shared() else { return };
    let labels = labels(&shared.join("models/resnet20v2-cifar10.labels.txt"));
    let input = shared.join("data/cifar10-test");
    // Sorted by path, as the rows are: a folder for each class, of 100 pictures.
    let mut classes: Vec<_> =
        std::fs::read_dir(&input).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    classes.sort();
    for engine in engines() {
        let place = Place::new();
        let settings = ["mini_batch_size: 64", "max_concurrency_per_instance: 2", PATIENT];
        place.deploy_model(&shared.join("models/resnet20v2-cifar10.onnx"), "score-by-batch", &settings, &[]);
        let rows = engine.score(&place, &input).completed().scored();
        assert_eq!(rows.len(), 1000);
        let right = rows
            .chunks(100)
            .zip(&classes)
            .flat_map(|(rows, class)| rows.iter().filter(|row| labels[row.class] == *class).collect::<Vec<_>>());
        // models/README.md
        assert_eq!(right.count(), 867, "{}", engine.name);
    }
}

/// A ResNet of tests/tools/make_resnet.py at this path.
fn make_resnet(python: &Path, path: &Path, arguments: &[&str]) {
    let output = Command::new(python).arg(root().join("tests/tools/make_resnet.py")).arg(path).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the Python script gives for a folder of pictures.
fn peer(python: &Path, model: &Path, input: &Path, size: &str) -> Vec<Scored> {
    let rows = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(python);
    command.arg(root().join("tests/tools/peer_score.py")).arg(model).arg(input).arg(rows.path()).args(["--size", size]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scored(&std::fs::read_to_string(rows.path()).unwrap())
}

/// ResNet-50 V2 of full size, calibrated on the photos; kept, since it takes half a minute to make.
fn resnet50(python: &Path, photos: &Path) -> PathBuf {
    let path = root().join("target/test-models/resnet50v2.onnx");
    if !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_extension("draft");
        make_resnet(python, &draft, &["--depth", "50", "--version", "2", "--images", photos.to_str().unwrap()]);
        std::fs::rename(draft, &path).unwrap();
    }
    path
}

#[test]
fn resnet50_scores_photos_as_the_python_script_does() {
    if scripts().is_none() {
        return;
    }
    let (Some(shared), Some(python)) = (shared(), python("numpy, onnx, onnxruntime, PIL")) else { return };
    let photos = shared.join("data/imagenet-sample");
    let model = resnet50(&python, &photos);
    let expected = peer(&python, &model, &photos, "224");
    assert_eq!(expected.len(), 203);
    // A software GPU takes a second for each photo.
    let few = Place::new();
    for row in &expected[..4] {
        std::fs::copy(photos.join(&row.file), few.at("input").join(&row.file)).unwrap();
    }
    for engine in engines() {
        let (input, expected) =
            if engine.name == "gpu" { (few.at("input"), &expected[..4]) } else { (photos.clone(), &expected[..]) };
        for script in SCRIPTS {
            let place = Place::new();
            place.deploy_model(&model, script, &["mini_batch_size: 32", PATIENT], &["device_batching: 8"]);
            let rows = engine.score(&place, &input).completed().scored();
            assert_near(&rows, expected, TOLERANCE, &format!("{} {script}", engine.name));
        }
    }
}

#[test]
fn every_resnet_gives_onnx_runtimes_numbers() {
    if scripts().is_none() {
        return;
    }
    let Some(python) = python("numpy, onnx, onnxruntime, PIL") else { return };
    let engines = engines();
    // A few pictures, since a software GPU runs them too.
    let place = Place::with_pictures(&["0000_arrow.jpg", "0003_cross.png", "0004_heart.bmp", "0006_ring.gif"]);
    let model = place.at("model.onnx");
    for depth in ["18", "34", "50", "101", "152"] {
        for version in ["1", "2"] {
            make_resnet(&python, &model, &["--depth", depth, "--version", version, "--size", "64", "--classes", "10"]);
            let expected = peer(&python, &model, &place.at("input"), "64");
            assert_eq!(expected.len(), 4);
            place.deploy_model(&model, "score-by-batch", &[PATIENT], &[]);
            // 152 layers of untrained weights magnify what engines round differently, be they all right.
            let tolerance = if depth == "152" { 5.0 * TOLERANCE } else { TOLERANCE };
            for engine in &engines {
                let rows = engine.score(&place, &place.at("input")).completed().scored();
                assert_near(&rows, &expected, tolerance, &format!("resnet {depth} V{version} {}", engine.name));
            }
        }
    }
}
