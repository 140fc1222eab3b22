//! Spans of requests, exported to a collector that speaks OTLP over HTTP.
//!
//! What is exported is what the log has of a request: the span that every request has, those of its handler
//! below it, and our own lines of level `info` and above in them. No other task's spans are: most of these
//! end with the process only. Bodies, numbers, tokens and addresses are in none, as they are in no log line.
//!
//! Spans wait in memory, 2,048 at most, and are sent by a thread and a runtime of their own: a collector that
//! is slow or away costs spans, and nobody's time. That it is away is told once, and once that it is back.

use std::{
    fmt, io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::{Bytes, BytesMut};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::Runtime;
use tracing::{Level, Metadata};
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use crate::config::Config;

/// How long a collector may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the end of the process waits for what is still to be sent.
const LAST: Duration = Duration::from_secs(3);

/// The most of an answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime that sends.
    #[error("cannot start what exports spans")]
    Start(#[from] io::Error),
    /// What the collector is called with.
    #[error("cannot set up the client of the collector")]
    Client(#[from] reqwest::Error),
    /// The exporter. Its own words may repeat the collector's address.
    #[error("cannot set up the exporter of spans")]
    Exporter(#[source] ExporterBuildError),
}

/// Where spans go.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// What `config` wants; none if it names no collector.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, Error> {
        let traces = &config.traces;
        let Some(endpoint) = &traces.endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(traces.headers().unwrap_or_default())?)
            .with_endpoint(endpoint)
            .with_timeout(ANSWER)
            .build()
            .map_err(Error::Exporter)?;
        let mut of = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
        if let Some(name) = &config.node.name {
            of.push(KeyValue::new("service.instance.id", name.clone()));
        }
        let resource =
            Resource::builder_empty().with_service_name("wagate").with_attributes(of).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(Sampler::TraceIdRatioBased(1.0 / f64::from(traces.one_in)))
            .build();
        Ok(Some(Self { provider }))
    }

    /// What hands spans over.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("wagate"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_told))
            .boxed()
    }

    /// Sends what is left.
    pub(crate) fn close(&self) {
        // The log is at its end as well; what could not be sent was told by the client.
        self.provider.shutdown_with_timeout(LAST).ok();
    }
}

/// Whether it is of a request: its span, those below it, and lines in them.
fn is_told(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target() == "wagate" || metadata.target().starts_with("wagate::");
    let is_of_a_request = || {
        let below = metadata.name().strip_prefix("http.");
        below.is_some_and(|name| !matches!(name, "admin" | "connection"))
    };
    is_ours && *metadata.level() <= Level::INFO && (metadata.is_event() || is_of_a_request())
}

/// The collector, as the exporter calls it.
struct Collector {
    http: reqwest::Client,
    /// The exporter's thread has none.
    runtime: Runtime,
    is_away: AtomicBool,
}

impl Collector {
    fn new(headers: Vec<(&str, &str)>) -> Result<Self, Error> {
        // The daemon does so too, and starts later.
        rustls::crypto::ring::default_provider().install_default().ok();
        let named = headers.into_iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name).ok()?, value))
        });
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(named.collect::<HeaderMap>())
            .timeout(ANSWER)
            .build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()?;
        Ok(Self { http, runtime, is_away: AtomicBool::new(false) })
    }

    /// Tells when it goes away, and when it is back.
    fn told(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let trouble = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            // Without its URL, whose query may hold a key.
            Err(error) => Some(error.to_string()),
        };
        let was_away = self.is_away.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(trouble) if !was_away => {
                tracing::warn!("Spans are lost, as the collector does not take them: {trouble}");
            }
            None if was_away => tracing::info!("The collector takes spans again"),
            _ => {}
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { send(&http, request).await });
        let outcome = match sent.await {
            Ok(outcome) => outcome.map_err(|error| HttpError::from(error.without_url())),
            Err(stopped) => Err(stopped.into()),
        };
        self.told(&outcome);
        outcome
    }
}

async fn send(
    http: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, reqwest::Error> {
    let (head, body) = request.into_parts();
    let request = http.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
    let mut answer = request.send().await?;
    let status = answer.status();
    let mut text = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if text.len() + chunk.len() > LONGEST_ANSWER {
            break;
        }
        text.extend_from_slice(&chunk);
    }
    let mut response = Response::new(text.freeze());
    *response.status_mut() = status;
    Ok(response)
}
