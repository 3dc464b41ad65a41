//! What the sandbox costs: a new instance, a host call, and a mini-batch through a script against the same calls made
//! natively. `plugins/build rust` first.
//!
//! `cargo bench --bench sandbox`

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use divan::Bencher;
use scorehost::infer::Backend;
use scorehost::infer::cpu::Cpu;
use scorehost::infer::device::threads;
use scorehost::infer::session::Session;
use scorehost::script::{
    Call, CompileCache, Compiler, Engine, FileQuota, Instance, InstanceLimits, Level, Models, Script, Services,
};
use scorehost::tensor::Tensor;
use scorehost::vision::ahead::{Loader, Place};
use scorehost::vision::{Limits, Recipe};

fn main() {
    divan::main();
    print_ratio();
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

fn script(engine: &Engine, name: &str) -> Script {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scripts").join(name);
    Script::open(engine, &CompileCache::none(Compiler::in_process()), &path).unwrap()
}

/// The demo's pictures, as many times over as fill a mini-batch of `count`.
fn pictures(count: usize) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(demo().join("pictures"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.truncate(count);
    names
}

fn loader() -> Arc<Loader> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads()).build().unwrap();
    // Nothing is decoded ahead: every mini-batch of a bench is the same one.
    Loader::new(Arc::new(pool), Limits::default(), |_| Vec::new())
}

fn services(settings: &[(&str, &str)]) -> Arc<Services> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(threads()));
    let pairs = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Arc::new(Services {
        job: "bench".into(),
        deployment: "bench".into(),
        settings: pairs.collect(),
        environment: Default::default(),
        input_folder: demo().join("pictures"),
        loader: loader(),
        models: Models::new(Some(&demo().join("model")), None, backend),
        deterministic: false,
        log_level: Level::Info,
        limits: InstanceLimits {
            memory_bytes: 1 << 30,
            table_elements: 100_000,
            tensor_bytes: 1 << 30,
            log_bytes: 1 << 20,
            output_rows: 1_000_000,
            output_bytes: 256 << 20,
            file_bytes: 1 << 30,
            init: Duration::from_secs(60),
        },
        files: FileQuota::new(1 << 30, 0),
    })
}

fn call(files: &[String]) -> Call<'_> {
    Call { mini_batch: 0, attempt: 1, files, timeout: Duration::from_secs(60) }
}

fn stop() -> Arc<AtomicBool> {
    Arc::default()
}

/// Goal: under 50 µs.
#[divan::bench]
fn new_instance(bencher: Bencher<'_, '_>) {
    let engine = Engine::new().unwrap();
    let (script, services, stop) = (script(&engine, "score-by-file.wasm"), services(&[]), stop());
    bencher.bench_local(|| Instance::new(&script, &services, None, &stop).unwrap());
}

/// An empty mini-batch: what calling a script costs.
#[divan::bench]
fn empty_run(bencher: Bencher<'_, '_>) {
    let engine = Engine::new().unwrap();
    let (script, services) = (script(&engine, "probe.wasm"), services(&[]));
    let mut instance = Instance::start(&script, &services, None, &stop()).map_err(|(e, _)| e).unwrap();
    bencher.bench_local(|| instance.run(&call(&[])).unwrap());
}

const HOST_CALLS: usize = 10_000;

/// Goal: under 1 µs each; divan prints items per second.
#[divan::bench]
fn host_calls(bencher: Bencher<'_, '_>) {
    let engine = Engine::new().unwrap();
    let count = HOST_CALLS.to_string();
    let services = services(&[("behave", "calls-the-host"), ("calls", &count)]);
    let mut instance =
        Instance::start(&script(&engine, "probe.wasm"), &services, None, &stop()).map_err(|(e, _)| e).unwrap();
    bencher.counter(divan::counter::ItemsCount::new(HOST_CALLS)).bench_local(|| instance.run(&call(&[])).unwrap());
}

/// One mini-batch of the demo's pictures through the script.
fn through_the_script() -> impl FnMut() {
    let engine = Engine::new().unwrap();
    let (services, files) = (services(&[]), pictures(40));
    let mut instance =
        Instance::start(&script(&engine, "score-by-batch.wasm"), &services, None, &stop()).map_err(|(e, _)| e).unwrap();
    move || {
        let output = instance.run(&call(&files)).unwrap();
        services.loader.end(0);
        assert_eq!(output.rows.len(), 40);
    }
}

/// The same calls without a script.
fn natively() -> impl FnMut() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let session = Session::open(&Cpu::new(threads()), &demo().join("model/resnet14v2-shapes.onnx")).unwrap();
    let (loader, files) = (loader(), pictures(40));
    let mut recipe = Recipe::new(32, 32).unwrap();
    recipe.set_normalise(1.0 / 255.0, [0.0; 3], [1.0; 3]);
    let places: Vec<_> =
        (0..).zip(&files).map(|(index, f)| (Place { mini_batch: 0, index }, demo().join("pictures").join(f))).collect();
    move || {
        let best = runtime.block_on(async {
            let rows = loader.rows(&places, &recipe).await;
            let rows: Vec<_> = rows.into_iter().map(|row| row.unwrap().row.clone()).collect();
            let batch = Tensor::stack(&rows).unwrap();
            let answer = session.predict(vec![batch], &Arc::default(), Box::new(())).await.unwrap();
            answer.outputs().await.unwrap()[0].softmax().top(1)
        });
        loader.end(0);
        assert_eq!(best.len(), 40);
    }
}

/// Turns of the two, one after the other, so that a machine whose speed drifts is as fast for both.
const TURNS: usize = 300;

/// Goal: the script's rate at least 0.98 of the native one.
fn print_ratio() {
    let (mut script, mut native) = (through_the_script(), natively());
    let time = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    let mut turns: Vec<(f64, f64)> = (0..TURNS).map(|_| (time(&mut script), time(&mut native))).collect();
    // Without the first turns, which fill caches.
    turns.drain(..TURNS / 10);
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (mut script, mut native): (Vec<f64>, Vec<f64>) = turns.into_iter().unzip();
    let (script, native) = (median(&mut script), median(&mut native));
    println!(
        "by batch, 40 small pictures, medians of {TURNS} turns: script {:.2} ms, native {:.2} ms, rate {:.3} of native",
        script * 1e3,
        native * 1e3,
        native / script
    );
}
