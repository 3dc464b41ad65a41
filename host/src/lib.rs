//! Scorehost: a self-hosted batch-scoring host.
//!
//! A *scoring script* (`init`, `run`) is a WebAssembly component in any language. The host gives it mini-batches of
//! files, decodes pictures and runs models for it, retries what fails, and turns what it returns into an output that
//! loses nothing and repeats nothing.
//!
//! # The flow of a job
//! ```text
//! deployment.yml ── spec → Deployment            compiled, its imports and exports checked, model opened
//! run ── Job ── plan: mini-batches 0 … n         listing sorted, so the plan is a function of the input
//!   each, at most max_concurrency_per_instance at once:
//!     instance.run(mini-batch)
//!         the script calls back: images → tensors → models       pixels and tensors stay on the host, or on the GPU
//!     ← rows + failed files | declared failure | trap | timeout
//!     retry?  then tally: past error_threshold → stop
//!     output.commit(mini-batch, rows)            in plan order, durable before it counts as done
//! summary → job record → CLI
//! ```
//!
//! A host that stays does this for each job in a process of its own; [`api`] is its interface, [`page`] its web page, [`service::host`] has its
//! verbs, and [`state`] what it knows.
//!
//! # The modules, in that order
//! [`service`] holds the verbs that callers use; [`job`] runs; [`script`] is the sandbox, the only home of wasmtime,
//! and [`builtin`] scores where there is no script; [`deployment`], [`vision`], [`infer`], [`output`], [`store`] and
//! [`project`], which makes and builds script projects, [`registry`], which pushes and pulls scripts, and [`observe`], what operators see, are leaves that never name each other; [`table`] has the formats
//! that scripts and the output share; [`child`] does a stranger's work in another process; [`tensor`], [`row`] and [`fault`]
//! are the words of all; [`tls`] encrypts what goes over a wire. Dependencies point
//! downwards only.

pub mod api;
pub mod page;

pub mod service;

pub mod job;

pub mod builtin;
pub mod script;

pub mod deployment;
pub mod infer;
pub mod observe;
pub mod output;
pub mod project;
pub mod registry;
pub mod state;
pub mod store;
pub mod vision;

pub mod table;

pub mod cache;
pub mod child;
pub mod confine;
pub mod fault;
pub mod row;
pub mod tensor;
pub mod tls;
