//! `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use portwright_core::Reason;
use portwright_device_plugin::Connections;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::facts::Facts;

/// Clients at a time.
const MOST_CLIENTS: usize = 32;
/// How long a client may take for its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The slow timer begins a round every 30 s, and a look that does not end is given up after 15 s: a loop that has ended no round
/// for so long does not turn any more, and only a new process helps.
const ROUND_WITHIN: Duration = Duration::from_secs(300);

/// What is shown.
#[derive(Debug)]
pub struct Shown {
    /// Metrics.
    pub registry: Registry,
    /// Pools and whether kubelet listens.
    pub connections: Connections,
    /// What the loop tells.
    pub facts: watch::Receiver<Arc<Facts>>,
    /// Whether policies are followed at all.
    pub follows: bool,
    /// Since when rounds can be expected.
    pub since: Instant,
}

impl Shown {
    /// Alive: the loop turns, whatever its rounds find. The clock stands still while the machine is suspended.
    fn liveness(&self) -> Result<(), String> {
        let last = self.facts.borrow().ended.unwrap_or(self.since);
        let quiet = last.elapsed();
        if quiet <= ROUND_WITHIN {
            return Ok(());
        }
        Err(format!("no round has ended for {} s: the loop does not turn any more", quiet.as_secs()))
    }

    /// Ready: the whole node was seen, kubelet listens to every pool, Open vSwitch answers where a policy wants it, and the
    /// cluster's definitions are not older than this agent, so that a roll-out stops at the first nodes.
    fn readiness(&self) -> Result<(), String> {
        let facts = Arc::clone(&self.facts.borrow());
        if facts.sequence == 0 {
            return Err("the node was not looked at yet".to_owned());
        }
        if let Some(trouble) = &facts.trouble {
            return Err(trouble.clone());
        }
        if self.follows && !facts.synced && facts.policies.is_empty() {
            return Err("no policy was read yet, and none is remembered".to_owned());
        }
        if let Some(untold) = facts.untold.as_ref().filter(|untold| untold.outdated) {
            return Err(untold.why.clone());
        }
        let unreachable = facts.plan.blocked.iter().find(|blocked| blocked.reason == Reason::OvsUnreachable);
        if let Some(blocked) = unreachable {
            return Err(blocked.message.clone());
        }
        let missing: Vec<String> = self.connections.missing().iter().map(ToString::to_string).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("kubelet does not listen to {}", missing.join(", ")))
        }
    }
}

/// Takes the address and serves until stopped.
pub async fn serve(
    address: SocketAddr,
    shown: Arc<Shown>,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(MOST_CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { return };
            let Ok((stream, _)) = accepted else { continue };
            let (shown, stop) = (Arc::clone(&shown), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (shown, path) = (Arc::clone(&shown), request.uri().path().to_owned());
                    async move { Ok::<_, Infallible>(answer(shown, &path).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
                let connection = server.serve_connection(TokioIo::new(stream), service);
                // Who hangs up has what it wanted.
                drop(stop.run_until_cancelled(connection).await);
                drop(place);
            });
        }
    });
    Ok(bound)
}

async fn answer(shown: Arc<Shown>, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" => said(shown.liveness()),
        "/readyz" => said(shown.readiness()),
        // Counters of VFs are asked of the kernel, which may take its time: no thread of the loop waits for that.
        "/metrics" => match tokio::task::spawn_blocking(move || scrape(&shown.registry)).await {
            Ok(Ok(text)) => (StatusCode::OK, text),
            Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = if path == "/metrics" { kind } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// How a probe is answered.
fn said(well: Result<(), String>) -> (StatusCode, String) {
    match well {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn scrape(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}
