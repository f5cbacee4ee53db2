//! What the injector counts, in Prometheus' terms, under the prefix `portwright_injector_`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `patched`, `unchanged`, `refused` or `error`.
    pub outcome: &'static str,
    /// The refusal's name or what went wrong; empty otherwise.
    pub reason: &'static str,
}

/// A single label that says why or how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A fixed word.
    pub reason: &'static str,
}

/// All metrics; cheap to share.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Finished requests.
    pub requests: Family<Outcome, Counter>,
    /// Time from the end of the head to the answer.
    pub latency: Histogram,
    /// Size of request bodies.
    pub body_bytes: Histogram,
    /// Requests that are being worked on.
    pub in_flight: Gauge,
    /// Open TLS connections.
    pub connections: Gauge,
    /// Connections that were ended by us, by reason.
    pub connections_ended: Family<Reason, Counter>,
    /// Requests whose handling panicked and was answered with 500.
    pub panics: Counter,
    /// Definitions in the cache.
    pub networks: Gauge,
    /// 1 once the first list is complete.
    pub networks_synced: Gauge,
    /// Look-ups by how they were answered: `cached`, `live`, `missing`, `error`.
    pub lookups: Family<Reason, Counter>,
    /// 1 while the ConfigMap cannot be read as switches and the last good ones hold.
    pub switches_bad: Gauge,
    /// Changes of the switches since start.
    pub switches_generation: Counter,
    /// When the served certificate expires.
    pub certificate_expiry: Gauge<i64, std::sync::atomic::AtomicI64>,
    /// 1 while a new certificate cannot be used and the old one is served.
    pub certificate_bad: Gauge,
    /// Certificates taken into use since start.
    pub certificate_generation: Counter<u64, AtomicU64>,
}

const LATENCY_BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0];
const BODY_BUCKETS: [f64; 7] = [1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 7_340_032.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("portwright_injector"),
            requests: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            body_bytes: Histogram::new(BODY_BUCKETS),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_ended: Family::default(),
            panics: Counter::default(),
            networks: Gauge::default(),
            networks_synced: Gauge::default(),
            lookups: Family::default(),
            switches_bad: Gauge::default(),
            switches_generation: Counter::default(),
            certificate_expiry: Gauge::default(),
            certificate_bad: Gauge::default(),
            certificate_generation: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Admission requests by how they ended", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "Time from a request's head to its answer",
            self.latency.clone(),
        );
        r.register("request_body_bytes", "Size of admission request bodies", self.body_bytes.clone());
        r.register(
            "requests_in_flight",
            "Admission requests that are being worked on",
            self.in_flight.clone(),
        );
        r.register("connections", "Open connections to the webhook", self.connections.clone());
        r.register("connections_ended", "Connections ended by the injector", self.connections_ended.clone());
        r.register("panics", "Requests whose handling panicked", self.panics.clone());
        r.register("networks", "Network-attachment definitions in the cache", self.networks.clone());
        r.register("networks_synced", "Whether the cache has been filled", self.networks_synced.clone());
        r.register(
            "network_lookups",
            "Look-ups of definitions by how they were answered",
            self.lookups.clone(),
        );
        r.register(
            "switches_bad",
            "Whether the ConfigMap is unreadable and older switches hold",
            self.switches_bad.clone(),
        );
        r.register(
            "switches_changes",
            "Changes of the switches since start",
            self.switches_generation.clone(),
        );
        r.register(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate expires, Unix time",
            self.certificate_expiry.clone(),
        );
        r.register(
            "certificate_bad",
            "Whether a new certificate is unusable and the old one is served",
            self.certificate_bad.clone(),
        );
        r.register(
            "certificate_changes",
            "Certificates taken into use since start",
            self.certificate_generation.clone(),
        );
    }

    /// Counts one finished request.
    pub fn finished(&self, outcome: &'static str, reason: &'static str, took: Duration) {
        self.requests.get_or_create(&Outcome { outcome, reason }).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// All metrics in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// Never for these metrics; the signature passes the encoder's on.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
