//! Components that are refused before anything of them runs.

use std::time::Instant;

use super::{deploy_component, lies};
use crate::support::{Place, Ran, assembled, scorehost, skip};

/// The job is refused as the caller's mistake, in these words.
fn refused(place: &Place, name: &str, message: &str) {
    let began = Instant::now();
    let mut command = place.command(&[]);
    // Compiled code of these is worth no place in the cache that tests share.
    let ran = Ran::of(&command.env("SCOREHOST_CACHE", place.at("cache")).output().unwrap(), &place.at("output"));
    println!("{name}: {}", ran.stderr.trim());
    assert_eq!(ran.code, 2, "{name}: {}", ran.stderr);
    assert!(ran.stderr.contains(message), "{name}: {}", ran.stderr);
    // Plain words, not a compiler's pages.
    assert!(ran.stderr.len() < 4000 && !ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
    assert!(!place.at("output").exists(), "{name}");
    assert!(began.elapsed().as_secs() < 60, "{name}");
}

#[test]
fn components_that_want_more_than_the_contract_are_refused() {
    let cases = [
        ("exports-nothing-by-name", "exports `init` as `nothing`"),
        ("exports-another-type", "exports `init` as `func()`, where contract 0.2.0 has `func() -> result<_, variant"),
        ("exports-another-contract", "built for contract 0.9.0; this host speaks 0.2.0"),
        ("imports-an-unknown-function", "`shout`"),
        ("imports-another-type", "`retire`"),
        ("imports-the-network", "scripts have no network"),
        ("imports-a-process", "imports what this host does not offer: `wasi:process/spawn"),
        ("imports-a-module", "does not fit contract 0.2.0"),
        // More than an instance may begin with.
        ("table-at-once", "table index 0 has a minimum element size of 100000000"),
        ("many-memories", "memories"),
        ("many-tables", "tables"),
        ("many-instances", "core module instances"),
        // Instructions that the host leaves out.
        ("memory-64", "does not compile"),
        ("memory-shared", "does not compile"),
        ("waits-for-a-thread", "does not compile"),
    ];
    for (name, message) in cases {
        let place = Place::with_files(1);
        let Some(component) = lies::component(name) else { return };
        deploy_component(&place, &component, &[]);
        refused(&place, name, message);
    }
}

#[test]
fn native_code_and_core_modules_are_refused() {
    let place = Place::with_files(1);
    let Some(component) = lies::component("well") else { return };
    deploy_component(&place, &component, &[]);
    // What the host itself compiled and kept is not taken back from a stranger.
    let mut command = place.command(&[]);
    command.env("SCOREHOST_CACHE", place.at("cache")).output().unwrap();
    let compiled = walkdir(&place.at("cache")).into_iter().find(|path| path.extension().is_some_and(|e| e == "cwasm"));
    let Some(compiled) = compiled else {
        return skip("cache", "this system keeps no compiled code").unwrap_or_default();
    };
    deploy_component(&place, &std::fs::read(compiled).unwrap(), &[]);
    std::fs::remove_dir_all(place.at("output")).unwrap();
    refused(&place, "native", "compiled native code, which is never accepted");

    deploy_component(&place, b"\0asm\x01\0\0\0", &[]);
    refused(&place, "core module", "is a core WebAssembly module, not a component");
}

fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
}

#[test]
fn deep_and_wide_components_are_refused_in_time() {
    let repeat = |n: usize, text: &str| text.repeat(n);
    let nested = format!("{}{}", repeat(2000, "(component "), repeat(2000, ")"));
    // Each type holds the one before twice: of two to the power of its number.
    let mut doubling = "(type $t0 (tuple u8 u8))".to_owned();
    for i in 1..64 {
        doubling += &format!("(type $t{i} (tuple $t{} $t{}))", i - 1, i - 1);
    }
    let lists =
        (1..300).fold("(type $t0 (list u8))".to_owned(), |text, i| text + &format!("(type $t{i} (list $t{}))", i - 1));
    let instances = repeat(20_000, "(core instance (instantiate $m))");
    let cases = [
        ("nested components", format!("(component {nested})")),
        ("types that double", format!("(component {doubling})")),
        ("types in each other", format!("(component {lists})")),
        ("many instances", format!("(component (core module $m) {instances})")),
    ];
    for (name, text) in cases {
        let place = Place::with_files(1);
        // The text's own reader may refuse it first, as it does where a depth is beyond what it takes.
        let component = match assembled(&text) {
            Some(Ok(component)) => component,
            Some(Err(reason)) => {
                println!("{name}: {}", reason.lines().next().unwrap_or_default());
                continue;
            }
            None => return,
        };
        deploy_component(&place, &component, &[]);
        refused(&place, name, "");
    }
}

/// A component of one module whose memory begins with this many bytes of data that do not repeat.
fn large(bytes: usize) -> Option<Vec<u8>> {
    let mut state = 1u64;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let mut component = lies::component("well")?;
    // A custom section holds what nobody reads; a module's data is read, and mapped.
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let pages = bytes.div_ceil(65_536) as u32 + 1;
    let section = |id: u8, body: &[u8]| [&[id][..], &leb(body.len() as u32), body].concat();
    module.extend(section(5, &[&[1, 0][..], &leb(pages)].concat()));
    let data: Vec<u8> = random.take(bytes).collect();
    module.extend(section(11, &[&[1, 0, 0x41, 0, 0x0b][..], &leb(bytes as u32), &data].concat()));
    component.extend(section(1, &module));
    // Instantiated, with nothing given to it.
    let module_index = 2;
    component.extend(section(2, &[1, 0, module_index, 0]));
    Some(component)
}

fn leb(mut n: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        bytes.push(if n == 0 { low } else { low | 0x80 });
        if n == 0 {
            return bytes;
        }
    }
}

#[test]
fn a_component_of_a_hundred_megabytes_runs_and_one_above_the_limit_is_refused() {
    let place = Place::with_files(1);
    let Some(component) = large(100 << 20) else { return };
    deploy_component(&place, &component, &["retry_settings: {max_retries: 0}"]);
    let began = Instant::now();
    let mut command = place.command(&[]);
    let ran = Ran::of(&command.env("SCOREHOST_CACHE", place.at("cache")).output().unwrap(), &place.at("output"));
    println!("{:.1} s, {:?}", began.elapsed().as_secs_f64(), ran.record()["peak_memory_bytes"]);
    // It gives no rows, which is where `well` ends: it was compiled, started and run.
    assert_eq!(ran.errors()[0][3], "missing_rows", "{}", ran.stderr);

    let file = std::fs::File::create(place.at("script.wasm")).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    std::fs::remove_dir_all(place.at("output")).unwrap();
    refused(&place, "too large", "the script is 268435457 bytes; at most 268435456 are taken");
}

#[test]
fn check_refuses_what_run_refuses() {
    let place = Place::with_files(1);
    for name in ["imports-the-network", "exports-another-type", "memory-64"] {
        let Some(component) = lies::component(name) else { return };
        deploy_component(&place, &component, &[]);
        let output = scorehost().arg("check").arg(place.at("deployment.yml")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
}
