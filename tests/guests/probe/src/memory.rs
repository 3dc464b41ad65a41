//! What takes memory: the script's own, and the host's on its behalf.

use std::hint::black_box;

use scorehost_sdk::{Output, Result, Tensor};

use crate::Probe;

pub(crate) fn behave(_: &mut Probe, behave: &str, _: &[String]) -> Result<Option<Output>> {
    match behave {
        "recurses" => return Err(format!("{}", deep(1)).into()),
        "memory" => return Err(format!("{}", hoard()).into()),
        "memory-slowly" => return Err(format!("{}", hoard_slowly()).into()),
        "fills" => fills(),
        "hoards-tensors" => return Err(format!("{}", hoard_tensors()?).into()),
        _ => {}
    }
    Ok(None)
}

#[expect(unconditional_recursion, reason = "until the stack ends")]
fn deep(n: u64) -> u64 {
    black_box([n; 64])[7] + deep(n + 1)
}

pub(crate) fn hoard() -> usize {
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

/// A page at a time, so that every step is a small one.
fn hoard_slowly() -> usize {
    while std::arch::wasm32::memory_grow(0, 1) != usize::MAX {}
    std::arch::wasm32::memory_size(0)
}

/// One instruction that works for long, again and again.
fn fills() {
    let mut all = vec![0u8; 256 << 20];
    for value in (0..=255).cycle() {
        black_box(&mut all).fill(value);
    }
}
