//! Traces: spans of requests, jobs, their processes and some mini-batches, sent as OTLP over HTTP by a thread of their
//! own. What goes in: spans as they begin, or as they were. What comes out: what a collector takes, by OpenTelemetry's
//! conventions where it has any. A collector that is gone costs spans, and nobody's time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter as Exports,
};

/// Spans that wait to be sent; beyond that they are dropped.
const MOST_WAITING: usize = 4096;
/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two lines of the log that spans are lost.
const COMPLAINTS: Duration = Duration::from_secs(60);
/// Jobs that wait and whose requests are remembered.
const MOST_ORIGINS: usize = 4096;

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot send traces to `{url}`\nhint: --otlp takes a collector's address for OTLP over HTTP, such as http://127.0.0.1:4318"
)]
pub struct TraceError {
    url: String,
    #[source]
    source: ExporterBuildError,
}

/// Sends spans.
pub struct Tracer {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    /// What the jobs that wait came from.
    origins: Mutex<HashMap<String, Place>>,
}

/// A place in a trace, below which spans may lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Place(SpanContext);

/// A span that has begun, and ends when this is dropped.
pub struct Span(opentelemetry_sdk::trace::Span);

/// A span's attribute.
#[derive(Clone, Debug)]
pub struct Attribute(KeyValue);

/// A span that is over.
#[derive(Debug)]
pub struct Past {
    /// Its name: one of few.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What it was about.
    pub attributes: Vec<Attribute>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Attribute {
    /// A text or a number, under a name as OpenTelemetry writes them.
    pub fn new(name: &'static str, value: impl Into<Value>) -> Self {
        Self(KeyValue::new(name, value))
    }
}

impl Tracer {
    /// Begins to send to a collector: `url` is what stands before `/v1/traces`.
    ///
    /// # Errors
    /// If it is no address. Whether anybody is there is seen later.
    pub fn start(url: &str) -> Result<Self, TraceError> {
        let endpoint = format!("{}/v1/traces", url.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(PATIENCE).build();
        let exporter = exporter.map_err(|source| TraceError { url: url.to_owned(), source })?;
        let batches =
            BatchConfigBuilder::default().with_max_queue_size(MOST_WAITING).with_scheduled_delay(DELAY).build();
        let processor = BatchSpanProcessor::builder(Told { exporter, complained: Mutex::default() });
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("scorehost").with_attribute(version).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor.with_batch_config(batches).build())
            .with_resource(resource)
            .build();
        Ok(Self { tracer: provider.tracer("scorehost"), provider, origins: Mutex::default() })
    }

    /// Begins the span of a request that came from a place in somebody's trace, or from none.
    pub fn request(&self, method: &str, route: &str, from: Option<&Place>) -> Span {
        let span = self.tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
        let about = [("http.request.method", method), ("http.route", route)];
        let span = span.with_attributes(about.map(|(name, value)| KeyValue::new(name, value.to_owned())));
        Span(span.start_with_context(&self.tracer, &below(from)))
    }

    /// Begins a span within this program, perhaps before now.
    pub fn begin(&self, name: &'static str, from: Option<&Place>, began: SystemTime, about: Vec<Attribute>) -> Span {
        let span = self.tracer.span_builder(name).with_start_time(began);
        let span = span.with_attributes(about.into_iter().map(|attribute| attribute.0));
        Span(span.start_with_context(&self.tracer, &below(from)))
    }

    /// Sends a span that is over.
    pub fn past(&self, past: Past, from: &Place) {
        let Past { name, began, took, attributes, error } = past;
        let mut span = self.begin(name, Some(from), began, attributes);
        if let Some(error) = error {
            span.fail(error);
        }
        span.0.end_with_timestamp(began.checked_add(took).unwrap_or(began));
    }

    /// Keeps where a job came from until it begins.
    pub fn remember(&self, job: &str, place: &Place) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        // Of jobs that were canceled before they began, nobody asks any more.
        if origins.len() >= MOST_ORIGINS
            && let Some(one) = origins.keys().next().cloned()
        {
            origins.remove(&one);
        }
        origins.insert(job.to_owned(), place.clone());
    }

    /// Where a job came from, once.
    pub fn recall(&self, job: &str) -> Option<Place> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).remove(job)
    }

    /// Sends what is left.
    pub fn stop(&self) {
        // What cannot be sent was told where it was tried.
        let _ = self.provider.shutdown_with_timeout(PATIENCE);
    }
}

fn below(place: Option<&Place>) -> Context {
    place.map_or_else(Context::new, |place| Context::new().with_remote_span_context(place.0.clone()))
}

impl Span {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place(self.0.span_context().clone())
    }

    /// Says more about it.
    pub fn set(&mut self, attribute: Attribute) {
        self.0.set_attribute(attribute.0);
    }

    /// Says that it failed, and why.
    pub fn fail(&mut self, why: String) {
        self.0.set_status(Status::error(why));
    }
}

impl Place {
    /// Reads W3C's `traceparent`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may have more parts, the first has not.
        let is_whole = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
        if !is_whole || version == "ff" || (version == "00" && parts.next().is_some()) || !is_lower_hex(text.trim()) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let place = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        place.is_valid().then_some(Self(place))
    }

    /// Writes it.
    pub fn traceparent(&self) -> String {
        let flags = (self.0.trace_flags() & TraceFlags::SAMPLED).to_u8();
        format!("00-{}-{}-{flags:02x}", self.0.trace_id(), self.0.span_id())
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Says in the log that spans are lost, now and then.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    complained: Mutex<Option<Instant>>,
}

impl Exports for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result {
            let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
            if complained.is_none_or(|last| last.elapsed() > COMPLAINTS) {
                *complained = Some(Instant::now());
                tracing::warn!(spans = count, error = error.to_string(), "traces are lost");
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_w3c_writes_them() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Place::parse(text).unwrap().traceparent(), text);
        // Flags that are not known yet are not passed on.
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more";
        assert_eq!(Place::parse(&later.replace("more", "00")).unwrap().traceparent(), text);
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(Place::parse(wrong).is_none(), "{wrong}");
        }
    }
}
