//! A script that behaves as the deployment's tag `behave` says: well, or badly in one way. Tests run it.

mod clock;
mod learns;

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use scorehost_sdk::{
    Cell, Failure, Image, Level, Model, Output, Recipe, Result, Tensor, context, file_name, images, log, script,
    setting_or,
};

struct Probe {
    behave: String,
    calls: u64,
    kept: Vec<Image>,
    open: Option<std::fs::File>,
}

fn init() -> Result<Probe> {
    let behave = context::setting("behave").unwrap_or_default();
    match behave.as_str() {
        "init-panics" => panic!("no init today"),
        "init-fails" => return Err("init has its reasons".into()),
        "init-loops" => spin(),
        _ => {}
    }
    Ok(Probe { behave, calls: 0, kept: Vec::new(), open: None })
}

fn run(probe: &mut Probe, mini_batch: &[String]) -> Result<Output> {
    probe.calls += 1;
    let first = context::attempt() == 1;
    match probe.behave.as_str() {
        "panics" => panic!("boom at mini-batch {}", context::mini_batch()),
        "panics-once" if first => panic!("only once"),
        "transient-once" if first => return Err(Failure::Transient("busy".into())),
        "transient" => return Err(Failure::Transient("always busy".into())),
        "permanent" => return Err("this will not do".into()),
        "permanent-on-odd" if context::mini_batch() % 2 == 1 => return Err("odd".into()),
        "loops" => spin(),
        "loops-once" if first => spin(),
        "sleeps" => std::thread::sleep(Duration::from_secs(3600)),
        "exits" => std::process::exit(7),
        "divides" => return Err(format!("{}", 1 / black_box(0)).into()),
        "recurses" => return Err(format!("{}", deep(1)).into()),
        "memory" => return Err(format!("{}", hoard()).into()),
        "floods" => (0..100_000).for_each(|i| println!("line {i} \x1b[31mred")),
        "prints" => {
            println!("out {}", file_name(&mini_batch[0]));
            eprintln!("err");
            log::write(Level::Debug, "quiet");
            log::write(Level::Warning, "loud");
        }
        "short" => return Ok(constant(&mini_batch[1..])),
        "none" => return Ok(Output::new(["file"])),
        "many" => return many(mini_batch),
        "types-change" => return types_change(mini_batch),
        "names-failed" => return names_failed(mini_batch, 0),
        "names-failed-wrongly" => return names_failed(mini_batch, 1000),
        "counts-calls" => return counted(mini_batch, probe.calls),
        "retires" => {
            context::retire();
            return counted(mini_batch, probe.calls);
        }
        "random" => return counted(mini_batch, random()),
        "reads" => return reads(mini_batch),
        "writes" => return writes(mini_batch),
        "escapes" => return escapes(mini_batch),
        "strange-path" => drop(images::load(&["/etc/passwd".into()], &Recipe::new(8, 8))?),
        "keeps-handles" => probe.kept.push(Image::open(&mini_batch[0])?),
        "hoards-tensors" => return Err(format!("{}", hoard_tensors()?).into()),
        "big-recipe" => drop(images::load(mini_batch, &Recipe::new(0, 70_000))?),
        "wrong-shape" => drop(Model::open(None)?.predict(&Tensor::from_floats(&[1, 3, 7, 7], &[0.0; 147])?)?),
        "no-model" => drop(Model::open(Some("missing.onnx"))?),
        "leaves-model" => drop(Model::open(Some("../other.onnx"))?),
        "slow" => std::thread::sleep(Duration::from_millis(setting_or("milliseconds", 5)?)),
        "sizes" => return sizes(mini_batch),
        "tells-time" => return clock::tells_time(mini_batch),
        "learns" => return learns::learns(mini_batch),
        "opens-all-reads-some" => return opens_all_reads_some(mini_batch),
        "writes-and-fails" => return writes_and_fails(mini_batch),
        "keeps-a-file-open" => return keeps_a_file_open(probe, mini_batch),
        "fails-at-length" => return Err("long ".repeat(4 << 20).into()),
        "panics-after-much" => {
            (0..2000).for_each(|i| eprintln!("progress {i}"));
            panic!("the reason");
        }
        "joins-one-many-times" => return Err(format!("{}", joins_one_many_times()?).into()),
        "takes-the-top-of-much" => return Err(format!("{}", takes_the_top_of_much()?).into()),
        "opens-many" => return Err(format!("{} files open", opens_many(mini_batch)).into()),
        "reads-the-pipe" if context::mini_batch() == 0 => drop(std::fs::read("/input/pipe")?),
        "calls-the-host" => {
            for _ in 0..setting_or("calls", 1)? {
                black_box(context::attempt());
            }
        }
        _ => {}
    }
    Ok(constant(mini_batch))
}

/// A row for each file: its name and its length, so that every row tells which file it is of.
fn constant(files: &[String]) -> Output {
    let mut output = Output::new(["file", "length"]);
    for file in files {
        let length = i64::try_from(file.len()).unwrap_or(i64::MAX);
        output.push((file_name(file), length));
    }
    output
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

#[expect(unconditional_recursion, reason = "until the stack ends")]
fn deep(n: u64) -> u64 {
    black_box([n; 64])[7] + deep(n + 1)
}

fn hoard() -> usize {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(black_box(vec![1; 1 << 20]));
    }
}

fn hoard_tensors() -> Result<usize> {
    let mut all = Vec::new();
    loop {
        all.push(Tensor::from_floats(&[1 << 20], &vec![0.0; 1 << 20])?);
    }
}

fn many(files: &[String]) -> Result<Output> {
    let mut output = Output::new(["file", "part"]);
    for file in files {
        for part in 0..3 {
            output.push((file_name(file), part));
        }
    }
    Ok(output)
}

fn types_change(files: &[String]) -> Result<Output> {
    let mut output = Output::new(["value"]);
    for file in files {
        let value = if context::mini_batch() == 0 { Cell::Integer(1) } else { Cell::from(file.as_str()) };
        output.push(vec![value]);
    }
    Ok(output)
}

fn names_failed(files: &[String], offset: usize) -> Result<Output> {
    let mut output = constant(&files[1..]);
    output.fail(offset, "not to my taste");
    Ok(output)
}

fn counted(files: &[String], count: u64) -> Result<Output> {
    let mut output = Output::new(["file", "count"]);
    for file in files {
        output.push((file_name(file), count.to_string()));
    }
    Ok(output)
}

/// What WASI's randomness gives: std seeds its hash maps with it.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn reads(files: &[String]) -> Result<Output> {
    Output::by_file(files, ["file", "text"], |file| Ok((file_name(file), std::fs::read_to_string(file)?)))
}

/// A file of its own for each input, in the output folder.
fn writes(files: &[String]) -> Result<Output> {
    let folder = std::env::var("SCOREHOST_OUTPUT_DIR").map_err(|e| e.to_string())?;
    for file in files {
        std::fs::write(format!("{folder}/{}.txt", file_name(file)), context::mini_batch().to_string())?;
        if context::mini_batch() == 1 && context::attempt() == 1 {
            panic!("after the first file");
        }
    }
    Ok(constant(files))
}

/// A row for each attempt to reach something outside.
fn escapes(_: &[String]) -> Result<Output> {
    let mut output = Output::new(["what", "outcome"]);
    let mut tried = |what: &str, outcome: std::io::Result<String>| {
        output.push((what, outcome.unwrap_or_else(|e| format!("refused: {:?}", e.kind()))));
    };
    for path in ["/etc/passwd", "/input/../../etc/passwd", "/proc/self/environ", "../etc/passwd", "/input/leaves"] {
        tried(path, std::fs::read_to_string(path));
    }
    tried("write", std::fs::write("/input/new", "x").map(|()| "written".into()));
    tried("remove", std::fs::remove_file("/input/a.txt").map(|()| "removed".into()));
    tried("network", std::net::TcpStream::connect("127.0.0.1:80").map(|_| "connected".into()));
    let mut names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    tried("environment", Ok(names.join(",")));
    Ok(output)
}

/// Whether a file can be opened must not depend on what the host decoded ahead.
fn opens_all_reads_some(files: &[String]) -> Result<Output> {
    let recipe = Recipe::new(8, 8);
    let mut index = 0;
    Output::by_file(files, ["file", "width"], |file| {
        let image = Image::open(file)?;
        index += 1;
        if index % 2 == 1 {
            image.tensor(&recipe)?.floats()?;
        }
        Ok((file_name(file), image.width()))
    })
}

fn own_file(name: &str) -> std::io::Result<std::fs::File> {
    let folder = std::env::var("SCOREHOST_OUTPUT_DIR").unwrap_or_default();
    std::fs::File::options().create(true).append(true).open(format!("{folder}/{name}"))
}

/// A file, and then a failure that is not tried again, at every other mini-batch.
fn writes_and_fails(files: &[String]) -> Result<Output> {
    drop(own_file(&format!("{}.txt", context::mini_batch()))?);
    if context::mini_batch().is_multiple_of(2) { Err("even".into()) } else { Ok(constant(files)) }
}

/// Goes on writing to the file of the first mini-batch that it sees.
fn keeps_a_file_open(probe: &mut Probe, files: &[String]) -> Result<Output> {
    if probe.open.is_none() {
        probe.open = Some(own_file(&format!("{}.txt", context::mini_batch()))?);
    }
    if let Some(file) = &mut probe.open {
        writeln!(file, "{}", context::mini_batch())?;
    }
    Ok(constant(files))
}

fn joins_one_many_times() -> Result<usize> {
    let one = Tensor::from_floats(&[1024, 10], &vec![0.0; 10_240])?.softmax();
    let many: Vec<&Tensor> = (0..60_000).map(|_| &one).collect();
    Ok(scorehost_sdk::concatenate(&many)?.shape()?.len())
}

fn takes_the_top_of_much() -> Result<usize> {
    let part = Tensor::from_floats(&[8 << 20, 1], &vec![0.5; 8 << 20])?;
    let parts: Vec<&Tensor> = (0..12).map(|_| &part).collect();
    let all = scorehost_sdk::concatenate(&parts)?;
    Ok(all.softmax().top(1)?.indices.len() + all.top(1)?.indices.len())
}

fn opens_many(files: &[String]) -> usize {
    let mut open = Vec::new();
    while let Ok(file) = std::fs::File::open(&files[0]) {
        open.push(file);
    }
    open.len()
}

fn sizes(files: &[String]) -> Result<Output> {
    Output::by_file(files, ["file", "width", "height", "sum"], |file| {
        let image = Image::open(file)?;
        let recipe = Recipe::new(4, 4);
        let sum: f32 = image.tensor(&recipe)?.floats()?.iter().sum();
        Ok((file_name(file), image.width(), image.height(), sum.is_finite()))
    })
}

script!(init, run);
