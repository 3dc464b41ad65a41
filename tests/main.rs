//! Scenarios: the command line and real scripts against real folders. What a test needs and does not find is skipped
//! with a printed reason, and is a failure under `CI`, or where `REQUIRE` names it (`scripts`, `shared`, `gpu`,
//! `onnxruntime`, `python`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod bad_input;
mod builtin;
mod cli;
mod durability;
mod misbehaviour;
mod numbers;
mod output;
mod readme;
mod scale;
mod structure;
mod tables;
