//! An API server's side of the webhook: TLS, HTTP/1.1 and reviews, one request after the other; and the few answers that
//! the program needs from an API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rig::SERVER_NAME;

/// One network, `default/foo-network`, is all there is; watches stay silent.
const NETWORKS: &str = r#"{"kind":"List","apiVersion":"k8s.cni.cncf.io/v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"namespace":"default","name":"foo-network","annotations":{"k8s.v1.cni.cncf.io/resourceName":"example.com/foo"}}}]}"#;
const NOTHING: &str = r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

pub const REVIEW: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"namespace":"default","operation":"CREATE","object":{"metadata":{"generateName":"p-","annotations":{"k8s.v1.cni.cncf.io/networks":"foo-network"}},"spec":{"containers":[{"name":"test","image":"x"}]}}}}"#;

/// Starts an API server's lists on a free port; it ends with the process.
pub fn lists() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // How a client ends its connection does not matter.
            std::thread::spawn(move || list(stream?));
        }
    });
    port
}

fn list(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    head.read_line(&mut first)?;
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    if first.contains("watch=") {
        // Nothing ever happens; the client goes away in the end.
        return head.read_to_string(&mut line).map(drop);
    }
    let body = if first.contains("network-attachment-definitions") { NETWORKS } else { NOTHING };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Trusts the certificate in this folder.
pub fn trust(dir: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A connection to the webhook.
pub struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Connection {
    pub fn open(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
        Ok(Self(BufReader::new(StreamOwned::new(tls, stream))))
    }

    /// Has the pod patched; whether the injector asks for another connection next time.
    pub fn review(&mut self) -> std::io::Result<bool> {
        let (status, closing, body) = self.post(REVIEW.as_bytes())?;
        if status == 200 && body.contains("\"patch\":") {
            Ok(closing)
        } else {
            Err(std::io::Error::other(format!("{status} {body}")))
        }
    }

    /// Posts a body: the status, whether the connection ends, and the answer's text.
    pub fn post(&mut self, body: &[u8]) -> std::io::Result<(u16, bool, String)> {
        let length = body.len();
        let head = format!(
            "POST /mutate?timeout=5s HTTP/1.1\r\nhost: {SERVER_NAME}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (mut first, mut closing, mut length) = (String::new(), false, 0);
        self.0.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("connection", value)) => closing = value == "close",
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok((status, closing, String::from_utf8(body).unwrap()))
    }
}
