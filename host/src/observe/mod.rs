//! What operators see of a host that stays: numbers for Prometheus, lines of a log, and traces for OpenTelemetry.
//!
//! What goes in: what happened, told by those who did it. What comes out: text in the formats of others. Nothing here
//! decides anything, and nothing waits for those who look. What tenants and strangers choose (names of jobs, files,
//! paths) is in logs, and never in a label of a number: labels have few values, so that numbers stay few.

mod log;
mod metrics;
mod spread;
mod trace;

pub use log::{Level, LogFormat, start as start_log};
pub use metrics::{Metrics, Request};
pub use spread::Spread;
pub use trace::{Attribute, Past, Place, Span, TraceError, Tracer};
