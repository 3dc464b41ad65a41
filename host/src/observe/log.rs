//! The log: lines on stderr, for people or for programs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object of JSON.
    Json,
}

/// What is written: this and what is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What failed.
    Error,
    /// What went wrong and was dealt with.
    Warn,
    /// Jobs: accepted, begun, ended.
    Info,
    /// Requests.
    Debug,
}

/// Starts this process's log. Only the first call does.
///
/// Libraries say no more than warnings: what they tell of their work is not what operators ask. Whatever text comes
/// from strangers is written with its control characters escaped, in either format.
pub fn start(format: LogFormat, level: Level) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let which = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("scorehost", level);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    // There is one already in a test that starts two.
    let _ = tracing_subscriber::registry().with(lines.with_filter(which)).try_init();
}
