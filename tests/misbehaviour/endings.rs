//! The table of the probe's ways to end badly: each on every other mini-batch, beside another instance of the same
//! job which goes about its work.

use super::seconds;
use crate::support::{Place, scripts};

/// How the probe behaves, with which limits, and what becomes of it.
struct Case {
    behave: &'static str,
    limits: &'static str,
    timeout: u32,
    most_memory: u64,
    outcome: Outcome,
}

enum Outcome {
    /// `errors.csv` has this kind, a message with this text, and this many attempts.
    Fails { kind: &'static str, message: &'static str, attempts: u32 },
    /// It did itself no good, and nobody any harm.
    Succeeds,
}

/// A failure that is worth another attempt.
fn fails(behave: &'static str, kind: &'static str, message: &'static str) -> Case {
    let outcome = Outcome::Fails { kind, message, attempts: 2 };
    Case { behave, limits: "memory: 64MiB, tensors: 64MiB", timeout: 60, most_memory: MOST_MEMORY, outcome }
}

/// What would fail again is not tried again.
fn refused(behave: &'static str, message: &'static str) -> Case {
    let outcome = Outcome::Fails { kind: "permanent", message, attempts: 1 };
    Case { outcome, ..fails(behave, "", "") }
}

fn late(behave: &'static str) -> Case {
    Case { timeout: 1, ..fails(behave, "timeout", "run did not end within") }
}

fn harmless(behave: &'static str) -> Case {
    Case { outcome: Outcome::Succeeds, limits: "memory: 256MiB", ..fails(behave, "", "") }
}

impl Case {
    fn holding(self, most_memory: u64) -> Self {
        Self { most_memory, ..self }
    }

    fn after(self, timeout: u32) -> Self {
        Self { timeout, ..self }
    }

    fn within(self, limits: &'static str) -> Self {
        Self { limits, ..self }
    }

    /// What is found wrong with an answer would be found again.
    fn once(self) -> Self {
        let Outcome::Fails { kind, message, .. } = self.outcome else { return self };
        Self { outcome: Outcome::Fails { kind, message, attempts: 1 }, ..self }
    }
}

/// Seconds by which a machine that is busy with other tests may be late.
const SLACK: f64 = 0.5;

/// More than any of these needs, whatever the limits let a script hold: what the host itself takes, two instances, and
/// what passes between them and the host. What each attempt left behind would be above it soon.
const MOST_MEMORY: u64 = 900 << 20;

/// Runs a case, and returns the job's memory at its peak, in bytes.
fn check(case: &Case, place: &Place) -> u64 {
    let Case { behave, limits, timeout, most_memory, outcome } = case;
    let settings = [
        "mini_batch_size: 1",
        "max_concurrency_per_instance: 2",
        &format!("retry_settings: {{max_retries: 1, timeout: {timeout}}}"),
        &format!("limits: {{{limits}}}"),
    ];
    place.probe_on_odd(behave, &settings);
    let ran = place.run(&["--overwrite"]).completed();
    let rows = ran.predictions();
    let names: Vec<_> = place.input_names();
    let row = |name: &String| format!("{name} {}\n", name.len() + "/input/".len());
    let errors = ran.errors();
    match outcome {
        Outcome::Succeeds => {
            assert!(errors.is_empty(), "{behave}: {errors:?}");
            assert_eq!(rows, names.iter().map(row).collect::<String>(), "{behave}");
        }
        Outcome::Fails { kind, message, attempts } => {
            // The neighbours' rows, to the byte.
            assert_eq!(rows, names.iter().step_by(2).map(row).collect::<String>(), "{behave}");
            let attempts = attempts.to_string();
            let odd: Vec<_> = (0..).zip(&names).skip(1).step_by(2).collect();
            assert_eq!(errors.len(), odd.len(), "{behave}");
            for (row, (mini_batch, name)) in errors.iter().zip(odd) {
                assert_eq!(row[..4], [name.as_str(), &mini_batch.to_string(), &attempts, kind], "{behave}: {row:?}");
                assert!(row[4].contains(message) && row[4].len() < 5000, "{behave}: {}", row[4]);
            }
        }
    }
    for seconds in seconds(place) {
        // Two attempts, each within its deadline and a tenth.
        let most = f64::from(2 * timeout) * 1.1 + SLACK;
        assert!(seconds < most, "{behave}: {seconds} seconds");
    }
    let peak = ran.record()["peak_memory_bytes"].as_u64().unwrap_or(0);
    assert!(peak < *most_memory, "{behave}: {peak} bytes");
    peak
}

fn check_all(cases: &[Case], place: &Place) {
    for case in cases {
        let began = std::time::Instant::now();
        let peak = check(case, place);
        println!("{:28} {:5} MiB {:6.2} s", case.behave, peak >> 20, began.elapsed().as_secs_f64());
    }
}

#[test]
fn every_way_to_end_badly_has_its_own_error_and_leaves_the_others() {
    if scripts().is_none() {
        return;
    }
    let cases = [
        // The panic's text is on stderr, not in the trap.
        fails("panics", "trap", "boom at mini-batch"),
        fails("panics-after-much", "trap", "the reason"),
        fails("divides", "trap", "divide by zero"),
        // A language's own stack lies at the bottom of its memory.
        fails("recurses", "trap", "out of bounds memory access"),
        fails("exits", "exit", "exit code"),
        // A process that ends well has given no rows.
        fails("exits-well", "exit", "exit code"),
        fails("transient", "transient", "always busy"),
        refused("permanent", "this will not do"),
        refused("fails-at-length", "long long long"),
        // In wasm, in a host call, and in one after the other.
        late("loops"),
        late("sleeps"),
        late("calls-the-host-for-ever"),
    ];
    check_all(&cases, &Place::with_files(4));
}

#[test]
fn memory_is_bounded_and_given_back() {
    if scripts().is_none() {
        return;
    }
    let cases = [
        fails("memory", "memory", "ran out of memory"),
        fails("memory-slowly", "memory", "ran out of memory"),
        refused("hoards-tensors", "limits.tensors"),
        fails("hoards-handles", "trap", "more files, streams or handles"),
        refused("many-dimensions", "dimensions"),
        refused("stacks-on", "dimensions"),
        harmless("stacks-many"),
        fails("stacks-too-many", "trap", "more files, streams or handles"),
        refused("joins-one-many-times", "limits.tensors"),
        refused("joins-views", "limits.tensors"),
        // Two instances may hold 2 GiB each, and no more.
        refused("reads-bytes-as-integers", "more than").within("memory: 256MiB, tensors: 2GiB").holding(5 << 30),
        fails("returns-gigabytes", "trap", "limits.output_bytes").within("memory: 1GiB, output_bytes: 64MiB"),
        fails("millions-of-rows", "output", "2000000 rows are more than the limit").within("memory: 1GiB").once(),
    ];
    // Eight mini-batches with two attempts each.
    check_all(&cases, &Place::with_files(16));
    let slow = [
        // One instruction on so much memory is not stopped in its middle, which takes a few tenths of a second.
        late("fills").within("memory: 300MiB").after(3),
        // Sorting parts of a hundred million numbers takes seconds; the wait for it ends in time.
        late("takes-the-top-of-much").within("memory: 256MiB, tensors: 4GiB").after(3).holding(5 << 30),
    ];
    check_all(&slow, &Place::with_files(2));
}

#[test]
fn what_is_said_at_length_is_cut_or_refused() {
    if scripts().is_none() {
        return;
    }
    let cases = [
        refused("strange-path", "`/etc/passwd` is not a file of the mini-batch"),
        refused("big-recipe", "16"),
        refused("no-model", "no model"),
        refused("long-path", "is not a file of the mini-batch").within("memory: 256MiB"),
        refused("long-model-path", "").within("memory: 256MiB"),
        refused("long-file-name", "").within("memory: 256MiB"),
        harmless("calls-the-host"),
        harmless("long-setting"),
        harmless("logs-at-length"),
        harmless("floods"),
        harmless("floods-stderr"),
        harmless("floods-the-log"),
        fails("names-failed-wrongly", "output", "names file 1000").once(),
        fails("names-failed-at-length", "file", "long long").once(),
        fails("thousands-of-columns", "output", "5000 columns are more than").once(),
    ];
    check_all(&cases, &Place::with_files(4));
}
