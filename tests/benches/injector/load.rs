//! The load: connections that ask as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process::SERVER_NAME;

/// Who trusts the injector.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

/// A kept connection.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Client {
    pub fn new(authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        // Every handshake is a whole one, as from an API server that starts anew.
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // Thousands of closed connections would keep their ports for a minute, and finding a free one would get slower
        // for whoever is measured later.
        stream.set_zero_linger()?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }
}

impl Connection {
    /// Posts a review; the answer's body if it is 200.
    pub async fn post(&mut self, body: Bytes) -> Result<Bytes, String> {
        self.0.ready().await.map_err(|error| error.to_string())?;
        let request = Request::post("/mutate?timeout=10s").header("host", SERVER_NAME);
        let request = request.header("content-type", "application/json").body(Full::new(body)).unwrap();
        let response = self.0.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
        }
    }
}

/// What a load came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub requests: usize,
    pub failed: usize,
}

/// Asks for `time` over so many connections; with `fresh`, each request makes its own.
pub async fn run(
    client: &Client,
    address: SocketAddr,
    body: &Bytes,
    connections: usize,
    time: Duration,
    fresh: bool,
) -> Figures {
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut failed = 0_usize;
                let mut kept = None;
                while started.elapsed() < time {
                    let asked = Instant::now();
                    let connection = match kept.take() {
                        Some(connection) => Ok(connection),
                        None => client.connect(address).await,
                    };
                    let Ok(mut connection) = connection else {
                        failed += 1;
                        continue;
                    };
                    match connection.post(body.clone()).await {
                        Ok(_) => {
                            took.push(asked.elapsed());
                            kept = Some(connection).filter(|_| !fresh);
                        }
                        Err(_) => failed += 1,
                    }
                }
                (took, failed)
            })
        })
        .collect();
    let mut took = Vec::new();
    let mut failed = 0;
    for task in tasks {
        let (more, bad) = task.await.unwrap();
        took.extend(more);
        failed += bad;
    }
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |part: f64| {
        took.get(((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1))).copied()
    };
    Figures {
        per_second: took.len() as f64 / seconds,
        p50: at(0.5).unwrap_or_default(),
        p99: at(0.99).unwrap_or_default(),
        p999: at(0.999).unwrap_or_default(),
        requests: took.len(),
        failed,
    }
}
