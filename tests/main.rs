//! Scenarios: the command line and real scripts against real folders. What a test needs and does not find is skipped
//! with a printed reason, and is a failure under `CI`, or where `REQUIRE` names it (`scripts`, `shared`, `gpu`, `go`, `c`,
//! `onnxruntime`, `python`, `javascript`, `registry`, `strace`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod authors;
mod bad_input;
mod bindings;
mod builtin;
mod cli;
mod clock;
mod compile;
mod confine;
mod contract;
mod durability;
mod languages;
mod misbehaviour;
mod models;
mod nn;
mod numbers;
mod objects;
mod observe;
mod output;
mod page;
mod readme;
mod registry;
mod scale;
mod service;
mod structure;
mod tables;
mod tls;
