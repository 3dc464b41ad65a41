//! Guests below every language: core WebAssembly that lies to the canonical ABI, begins badly, or asks for too much.

use std::collections::BTreeSet;

use super::{deploy_component, seconds};
use crate::support::{Place, Ran, assembled, root};

/// The names of the guests' files.
pub(super) fn guests() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("tests/guests/wat")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".wat").filter(|name| *name != "shell").map(str::to_owned)).collect()
}

/// The component that a guest's file describes: in the shell, where it is a core module alone.
pub(super) fn component(name: &str) -> Option<Vec<u8>> {
    let read = |name: &str| std::fs::read_to_string(root().join(format!("tests/guests/wat/{name}.wat"))).unwrap();
    let guest = read(name);
    let text = if guest.contains("\n(component") { guest } else { read("shell").replace("{guest}", &guest) };
    assembled(&text).map(|component| component.unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// A guest, the kind of its error, and what its message says.
struct Case(&'static str, &'static str, &'static str);

fn run(name: &str, timeout: u32) -> Option<(Place, Ran)> {
    let place = Place::with_files(4);
    let settings = [
        "mini_batch_size: 2",
        &format!("retry_settings: {{max_retries: 1, timeout: {timeout}}}"),
        "limits: {memory: 300MiB, output_bytes: 256MiB, init: 1}",
    ];
    deploy_component(&place, &component(name)?, &settings);
    let ran = place.run(&[]);
    println!("{name}: {}", ran.stderr.lines().next().unwrap_or_default());
    Some((place, ran))
}

#[test]
fn what_a_guest_claims_is_checked_before_it_is_believed() {
    let cases = [
        Case("well", "missing_rows", "2 of 2 files gave no row"),
        // Texts and lists.
        Case("text-outside", "trap", "out of bounds"),
        Case("text-past-the-end", "trap", "out of bounds"),
        Case("text-around-the-end", "trap", "out of bounds"),
        Case("text-not-utf-8", "trap", "utf-8"),
        Case("text-with-surrogates", "trap", "utf-8"),
        Case("unknown-case", "trap", "discriminant"),
        Case("unknown-failure", "trap", "discriminant"),
        Case("columns-outside", "trap", "out of bounds"),
        Case("columns-without-number", "trap", "out of bounds"),
        Case("columns-unaligned", "trap", "not aligned"),
        Case("unknown-cells", "trap", "discriminant"),
        Case("answer-unaligned", "trap", "not aligned"),
        Case("answer-outside", "trap", "out of bounds"),
        // Rows that are none.
        Case("uneven-columns", "output", "cells, the first column has 1"),
        Case("same-name-twice", "output", "two columns are named"),
        Case("nulls-without-rows", "output", "nulls"),
        Case("fails-no-file", "output", "names file 2147483647 as failed"),
        Case("fails-a-file-twice", "output", "each can fail once"),
        Case("same-text-many-times", "trap", "limits.output_bytes"),
        Case("empty-texts-without-number", "trap", "limits.output_bytes"),
        // Room for the arguments, which the host asks the guest for.
        Case("realloc-traps", "trap", "unreachable"),
        Case("realloc-outside", "trap", "beyond end of memory"),
        Case("realloc-unaligned", "trap", "not aligned"),
        // Calling the host while the host is reading or writing: there is no way back in.
        Case("realloc-calls-the-host", "trap", "cannot leave component instance"),
        Case("after-calls-the-host", "trap", "cannot leave component instance"),
        // Handles.
        Case("handle-dropped-twice", "trap", "unknown handle index"),
        Case("handle-used-after-drop", "trap", "unknown handle index"),
        Case("handle-of-another-type", "trap", "handle index 1 used with the wrong type"),
        Case("handle-made-up", "trap", "unknown handle index 12345"),
        Case("handle-negative", "trap", "unknown handle index"),
        Case("handles-in-a-loop", "trap", "more files, streams or handles"),
        // Host functions.
        Case("level-made-up", "trap", "discriminant"),
        Case("log-outside", "trap", "out of bounds"),
        Case("log-not-utf-8", "trap", "utf-8"),
        Case("randomness-without-end", "trap", "exceeds limit"),
        // The machine itself.
        Case("recurses", "trap", "call stack exhausted"),
        Case("calls-nothing", "trap", "uninitialized element"),
        Case("calls-what-is-something-else", "trap", "indirect call type mismatch"),
        Case("table-grows", "memory", "table elements"),
    ];
    for Case(name, kind, message) in cases {
        let Some((place, ran)) = run(name, 60) else { return };
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        let errors = ran.errors();
        let names: Vec<_> = errors.iter().map(|row| row[0].as_str()).collect();
        // Missing rows are no one file's.
        let of_each = ["000.txt", "001.txt", "002.txt", "003.txt"];
        assert_eq!(names, if kind == "missing_rows" { &["", ""][..] } else { &of_each }, "{name}: {errors:?}");
        for row in errors {
            assert!(row[3] == kind && row[4].contains(message), "{name}: {row:?}");
        }
        assert!(seconds(&place).into_iter().all(|seconds| seconds < 5.0), "{name}");
        let peak = ran.record()["peak_memory_bytes"].as_u64().unwrap_or(0);
        assert!(peak < 900 << 20, "{name}: {peak} bytes");
    }
}

#[test]
fn a_loop_anywhere_in_a_call_ends_at_the_deadline() {
    for name in ["loops", "realloc-loops", "after-loops"] {
        let Some((place, ran)) = run(name, 1) else { return };
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        for row in ran.errors() {
            assert!(row[3] == "timeout" && row[4].contains("run did not end within 1s"), "{name}: {row:?}");
        }
        // Two attempts.
        assert!(seconds(&place).into_iter().all(|seconds| (2.0..2.7).contains(&seconds)), "{name}");
    }
}

#[test]
fn a_start_that_fails_ends_the_job_with_its_reason() {
    let cases = [
        ("start-loops", "its start did not end within 1s"),
        ("start-traps", "unreachable"),
        ("init-lies", "out of bounds"),
        // Four gigabytes, and the two pages of the shell.
        ("memory-at-once", "ran out of memory: it asked for 4295098368, the limit is 314572800"),
    ];
    for (name, message) in cases {
        let Some((_place, ran)) = run(name, 60) else { return };
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("init failed") && ran.stderr.contains(message), "{name}: {}", ran.stderr);
        // By the job's own record, which compiling the guest is no part of; the machine is busy with other tests.
        assert!(ran.seconds() < 10.0, "{name}: {} s", ran.seconds());
    }
}
