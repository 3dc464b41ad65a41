//! The README's commands, run as it prints them: a reader must be able to type each of them.
//!
//! Conventions: a block marked `sh` is run by bash; the first one in the checkout, the others in the folder that holds
//! it. A line that is a path in backticks, as `second/Cargo.toml`, names the file that the next block is written to.

use std::path::Path;
use std::process::Command;

use crate::support::{root, skip};

enum Block {
    Commands(String),
    File { path: String, text: String },
}

/// The blocks of the README that mean something to a machine.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut path = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: String =
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            match (path.take(), language) {
                (Some(path), _) => blocks.push(Block::File { path, text: body }),
                (None, "sh") => blocks.push(Block::Commands(body)),
                _ => {}
            }
        } else if let Some(rest) = line.strip_prefix("`second/") {
            path = rest.split('`').next().map(|name| format!("second/{name}"));
        }
    }
    blocks
}

#[cfg(unix)]
#[test]
fn a_reader_can_type_what_the_readme_says() {
    // It installs programs, and fetches packages: nothing to do to a person who only wants to run the tests.
    if std::env::var_os("CI").is_none() && !std::env::var("REQUIRE").is_ok_and(|r| r.contains("readme")) {
        return skip("readme", "the README's commands install programs; REQUIRE=readme runs them").unwrap_or_default();
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let commands = blocks.iter().filter(|block| matches!(block, Block::Commands(_))).count();
    assert!(commands >= 5 && blocks.len() >= commands + 2, "the README's blocks were not found");

    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root(), folder.path().join("scorehost")).unwrap();
    let mut is_first = true;
    for block in blocks {
        match block {
            Block::File { path, text } => std::fs::write(folder.path().join(path), text).unwrap(),
            Block::Commands(text) => {
                let checkout = root();
                type_in(&text, if is_first { &checkout } else { folder.path() }, folder.path());
                is_first = false;
            }
        }
    }
    let predictions = std::fs::read_to_string(folder.path().join("second/results/predictions.csv")).unwrap();
    assert_eq!(predictions.lines().next(), Some("file,label,probability,second"));
    assert_eq!(predictions.lines().count(), 41);
}

fn type_in(commands: &str, here: &Path, folder: &Path) {
    let installed = folder.join("installed");
    let path = format!("{}:{}", installed.join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    // What cargo tells a test of its package would have build scripts run again, for these commands and after them.
    let of_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "OUT_DIR"];
    let is_one = |name: &str| of_package.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_one)) {
        command.env_remove(name);
    }
    let output = command
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(here)
        .env("PATH", path)
        .env("CARGO_INSTALL_ROOT", &installed)
        .env("SCOREHOST_CACHE", folder.join("cache"))
        .env_remove("ORT_DYLIB_PATH")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
}
