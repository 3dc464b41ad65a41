//! Scripts that misbehave, one guest per way to do so: the right error with file, mini-batch and attempts, in time,
//! with the memory given back, nothing else lost, and nobody else disturbed.
//!
//! Guests in Rust are the arms of `tests/guests/probe`; guests that lie below what a language lets them say are the
//! texts of `tests/guests/wat`. A guest without a test fails [`every_guest_has_a_test`].

mod endings;
mod handles;
mod jobs;
mod lies;
mod neighbours;
mod refusals;

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Place, behaviours, root};

/// A deployment of a component that is no script of [`crate::support::scripts`].
fn deploy_component(place: &Place, component: &[u8], settings: &[&str]) {
    std::fs::write(place.at("script.wasm"), component).unwrap();
    let settings: String = settings.iter().map(|line| format!("  {line}\n")).collect();
    let code = "code_configuration: {code: ., scoring_script: script.wasm}\n";
    let text = format!("name: test\ntype: model\n{code}settings:\n{settings}");
    std::fs::write(place.at("deployment.yml"), text).unwrap();
}

/// The seconds that each mini-batch took, all attempts together.
fn seconds(place: &Place) -> Vec<f64> {
    let text = place.read("output/mini_batches.csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap()[5].parse().unwrap()).collect()
}

/// The texts in quotes of every test.
fn quoted() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut read = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        // A behaviour is also named as `behave: NAME`.
        found.extend(text.split('"').map(|part| part.trim_start_matches("behave: ").to_owned()));
    };
    for folder in ["tests", "tests/misbehaviour"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "rs") {
                read(&path);
            }
        }
    }
    found
}

#[test]
fn every_guest_has_a_test() {
    let quoted = quoted();
    let mut guests: Vec<_> = behaviours().into_iter().collect();
    assert!(guests.len() > 60, "{guests:?}");
    guests.extend(lies::guests());
    let untested: Vec<_> = guests.into_iter().filter(|name| !quoted.contains(name)).collect();
    assert!(untested.is_empty(), "no test names {untested:?}");
}
