//! What the shim measures of itself, and the page that shows it with everybody else's.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::refusal::Refusal;
use super::served::Served;
use crate::ask::Asker;

/// Upper bounds in seconds: from a read in memory to a submission that nobody answered (5 s).
const LATENCY_S: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 6.0];

/// The shim's own metrics.
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpMetrics {
    /// # Panics
    /// When a metric of one of these names is registered already.
    pub fn register(registry: &Registry, asker: &Asker) -> Self {
        let requests = IntCounterVec::new(
            Opts::new("berth_http_requests_total", "Requests answered, by route and status."),
            &["method", "route", "status"],
        )
        .expect("names and labels are valid");
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "berth_http_request_seconds",
                "Seconds until the head of the answer was there; streams go on after it.",
            )
            .buckets(LATENCY_S.to_vec()),
            &["method", "route"],
        )
        .expect("names and labels are valid");
        let waiting = Waiting::new(asker.clone());
        for metric in
            [Box::new(requests.clone()) as Box<dyn Collector>, Box::new(seconds.clone()), Box::new(waiting)]
        {
            registry.register(metric).expect("the shim is registered once per registry");
        }
        Self { requests, seconds }
    }
}

/// Counts and times each request. Routes are those of the program, never what a client invents.
pub async fn measure(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = known_method(request.method().as_str());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    served.metrics.requests.with_label_values(&[method, route, response.status().as_str()]).inc();
    served.metrics.seconds.with_label_values(&[method, route]).observe(began.elapsed().as_secs_f64());
    response
}

/// A client can invent methods too.
fn known_method(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// All metrics of the process in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", security(()),
    responses((status = 200, description = "Prometheus' text format", content_type = "text/plain", body = String)))]
pub async fn metrics(State(served): State<Arc<Served>>) -> Result<Response, Refusal> {
    let text = TextEncoder::new().encode_to_string(&served.shim.registry.gather()).map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        Refusal::new(500, "the metrics cannot be written; the scheduler's log says more")
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// How many questions wait, read when somebody looks.
struct Waiting {
    asker: Asker,
    gauge: IntGauge,
}

impl Waiting {
    fn new(asker: Asker) -> Self {
        let help = "Questions to the leader and to devices that wait for their reply.";
        let gauge = IntGauge::new("berth_asks_in_flight", help).expect("the name is valid");
        Self { asker, gauge }
    }
}

impl Collector for Waiting {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(i64::try_from(self.asker.in_flight()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}
