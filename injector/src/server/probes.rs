//! The plain HTTP port: `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::listener::Tls;
use super::{HEAD_TIMEOUT, Stage};
use crate::metrics::Metrics;

/// Probes and scrapes at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// How long one connection may last; probes do not keep theirs, scrapers open another.
const LIFETIME: Duration = Duration::from_secs(60);

/// What the probes report on.
pub struct Probes {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the process is doing.
    pub stage: tokio::sync::watch::Receiver<Stage>,
    /// Whether there is a certificate.
    pub tls: Tls,
    /// Whether networks are known, or have been waited for long enough.
    pub networks: tokio::sync::watch::Receiver<bool>,
}

impl Probes {
    /// What keeps the injector from being ready; empty if it is.
    pub fn obstacles(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        if *self.stage.borrow() != Stage::Serving {
            found.push("stopping");
        }
        if self.tls.borrow().is_none() {
            found.push("no certificate yet");
        }
        if !*self.networks.borrow() {
            found.push("network-attachment-definitions are not listed yet");
        }
        found
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => {
                let obstacles = self.obstacles();
                if obstacles.is_empty() {
                    text(StatusCode::OK, "ok\n".to_owned())
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", obstacles.join("\n")))
                }
            }
            "/metrics" => self.scrape(),
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
        }
    }

    fn scrape(&self) -> Response<Full<Bytes>> {
        let Ok(body) = self.metrics.encode() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n".to_owned());
        };
        let mut response = text(StatusCode::OK, body);
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Serves probes for ever.
pub async fn serve(listener: TcpListener, probes: Arc<Probes>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a probe");
                sleep_until(Instant::now() + Duration::from_millis(50)).await;
                continue;
            }
        };
        let probes = Arc::clone(&probes);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = probes.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // How a prober's connection ends is of no interest.
            timeout(LIFETIME, connection).await.ok();
            drop(place);
        });
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
