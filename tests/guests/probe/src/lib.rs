//! A script that behaves as the deployment's tag `behave` says: well, or badly in one way. Tests run it.

mod clock;
mod files;
mod handles;
mod learns;
mod memory;
mod output;

use std::hint::black_box;
use std::time::Duration;

use scorehost_sdk::{Failure, Image, Output, Result, Tensor, context, file_name, script, setting_or};

struct Probe {
    behave: String,
    calls: u64,
    images: Vec<Image>,
    tensors: Vec<Tensor>,
    open: Option<std::fs::File>,
}

fn init() -> Result<Probe> {
    let behave = context::setting("behave").unwrap_or_default();
    match behave.as_str() {
        "init-panics" => panic!("no init today"),
        "init-fails" => return Err("init has its reasons".into()),
        "init-loops" => spin(),
        "init-sleeps" => std::thread::sleep(Duration::from_secs(3600)),
        "init-exits" => std::process::exit(3),
        "init-hoards" => drop(black_box(memory::hoard())),
        _ => {}
    }
    Ok(Probe { behave, calls: 0, images: Vec::new(), tensors: Vec::new(), open: None })
}

/// A way to behave, if the file has it: rows, a failure, or nothing to add to what a good script returns.
type Behaviour = fn(&mut Probe, &str, &[String]) -> Result<Option<Output>>;

fn run(probe: &mut Probe, mini_batch: &[String]) -> Result<Output> {
    probe.calls += 1;
    // With the tag `on: odd`, the others are good neighbours.
    if setting_or("on", String::new())? == "odd" && context::mini_batch().is_multiple_of(2) {
        return Ok(constant(mini_batch));
    }
    let behave = probe.behave.clone();
    let files: [Behaviour; 5] = [endings, memory::behave, files::behave, handles::behave, output::behave];
    for file in files {
        if let Some(output) = file(probe, &behave, mini_batch)? {
            return Ok(output);
        }
    }
    Ok(constant(mini_batch))
}

/// How a call ends, or does not.
fn endings(_: &mut Probe, behave: &str, mini_batch: &[String]) -> Result<Option<Output>> {
    let first = context::attempt() == 1;
    match behave {
        "panics" => panic!("boom at mini-batch {}", context::mini_batch()),
        "panics-once" if first => panic!("only once"),
        "panics-after-much" => {
            (0..2000).for_each(|i| eprintln!("progress {i}"));
            panic!("the reason");
        }
        "transient-once" if first => return Err(Failure::Transient("busy".into())),
        "transient" => return Err(Failure::Transient("always busy".into())),
        "permanent" => return Err("this will not do".into()),
        "permanent-on-odd" if context::mini_batch() % 2 == 1 => return Err("odd".into()),
        "strange-words" => return Err("\x1b[31mred\r\nanother line\u{9b}2J".into()),
        "fails-at-length" => return Err("long ".repeat(4 << 20).into()),
        "loops" => spin(),
        "loops-once" if first => spin(),
        "sleeps" => std::thread::sleep(Duration::from_secs(3600)),
        "slow" => std::thread::sleep(Duration::from_millis(setting_or("milliseconds", 5)?)),
        "calls-the-host-for-ever" => loop {
            black_box(context::attempt());
        },
        "exits" => std::process::exit(7),
        "exits-well" => std::process::exit(0),
        "divides" => return Err(format!("{}", 1 / black_box(0)).into()),
        "tells-time" => return clock::tells_time(mini_batch).map(Some),
        "learns" => return learns::learns(mini_batch).map(Some),
        "random" => return output::counted(mini_batch, random()).map(Some),
        "calls-the-host" => {
            for _ in 0..setting_or("calls", 1)? {
                black_box(context::attempt());
            }
        }
        _ => {}
    }
    Ok(None)
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

/// What WASI's randomness gives: std seeds its hash maps with it.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

script!(init, run);
