//! An injector in this process, an API server for it, and a client as API servers are.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use clap::Parser as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use portwright_injector::app::{self, Listeners, Pace, StartError};
use portwright_injector::cluster::Cluster;
use portwright_injector::config::Config;
use portwright_injector::flags::{Flags, normalise};
use portwright_injector::mutate::{Decide, inject};
use portwright_tests::apiserver::ApiServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const SERVER_NAME: &str = "portwright-injector.injector.svc";

/// A certificate authority of the test's own.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a new certificate and key for the server into a folder.
    pub fn issue(&self, dir: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    }
}

/// A running injector.
pub struct Injector {
    pub webhook: SocketAddr,
    pub probes: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), StartError>>,
}

impl Injector {
    /// Starts one with these flags against this API server.
    pub async fn start(api: &ApiServer, flags: &[&str], pace: Pace) -> Self {
        Self::deciding(api, flags, pace, Arc::new(inject)).await
    }

    /// One whose decisions are made by `decide`.
    pub async fn deciding(api: &ApiServer, flags: &[&str], pace: Pace, decide: Arc<Decide>) -> Self {
        let arguments =
            ["portwright-injector", "--namespace=injector"].iter().chain(flags).map(OsString::from);
        let config = Config::new(Flags::try_parse_from(normalise(arguments)).unwrap()).unwrap();
        let cluster = Cluster::new(kube::Config::new(api.url().parse().unwrap())).unwrap();
        let bind = || app::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let listeners = Listeners { webhook: bind(), probes: bind() };
        let (webhook, probes) =
            (listeners.webhook.local_addr().unwrap(), listeners.probes.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let stopping = async move {
            stopped.await.ok();
        };
        let task = tokio::spawn(app::run(config, cluster, listeners, pace, decide, stopping));
        Self { webhook, probes, stop: Some(stop), task }
    }

    /// Does what SIGTERM does.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end.
    pub async fn ended(self) {
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .expect("ends in time")
            .unwrap()
            .unwrap();
    }

    /// Status and body of a probe.
    pub async fn probe(&self, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.probes).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "probe").body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The value of a metric, 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.probe("/metrics").await;
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.split(' ').nth(1)).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) {
        until("ready", async || self.probe("/readyz").await.0 == StatusCode::OK).await;
    }
}

/// Asks again and again, with a deadline, until it is so.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !condition().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), waiting)
        .await
        .unwrap_or_else(|_| panic!("never so: {what}"));
}

/// An API server, an injector with certificate files, and somebody who trusts it.
pub struct Rig {
    pub api: ApiServer,
    pub injector: Injector,
    pub authority: Authority,
    /// Holds the certificate's files; removed with the rig.
    _dir: tempfile::TempDir,
}

impl Rig {
    pub async fn start(flags: &[&str]) -> Self {
        let api = ApiServer::start().await;
        nad(&api, "default", "foo-network", Some("example.com/foo"));
        let rig = Self::with(api, flags).await;
        rig.injector.ready().await;
        rig
    }

    /// Without waiting until it is ready.
    pub async fn with(api: ApiServer, flags: &[&str]) -> Self {
        Self::deciding(api, flags, Arc::new(inject)).await
    }

    /// Without waiting until it is ready, and with decisions made by `decide`.
    pub async fn deciding(api: ApiServer, flags: &[&str], decide: Arc<Decide>) -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().unwrap();
        authority.issue(dir.path());
        let files = file_flags(dir.path());
        let flags: Vec<&str> = files.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let pace = Pace { files: Duration::from_millis(50), ..Pace::default() };
        let injector = Injector::deciding(&api, &flags, pace, decide).await;
        Self { api, injector, authority, _dir: dir }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.injector.webhook, &[&self.authority.pem]).await.unwrap()
    }

    /// One review on a connection of its own.
    pub async fn review(&self, pod: &Value) -> Answer {
        self.client().await.review(pod).await
    }
}

pub fn file_flags(dir: &Path) -> [String; 2] {
    [
        format!("-tls-cert-file={}", dir.join("tls.crt").display()),
        format!("-tls-private-key-file={}", dir.join("tls.key").display()),
    ]
}

/// A kept-alive connection to the webhook.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// What came back for a review.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub text: String,
    pub closing: bool,
    /// `Retry-After`, empty if there is none.
    pub retry_after: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The decoded patch; panics if the pod was not patched.
    pub fn patch(&self) -> json_patch::Patch {
        let json = self.json();
        assert_eq!(json["response"]["allowed"], true, "{json}");
        assert_eq!(json["response"]["patchType"], "JSONPatch", "{json}");
        let text = json["response"]["patch"].as_str().unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    }

    pub fn is_patched(&self) -> bool {
        self.status == StatusCode::OK && self.json()["response"]["patch"].is_string()
    }
}

/// Opens TLS to the webhook, as an API server does.
pub async fn tls(address: SocketAddr, roots: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    tls_with(address, roots, rustls::ALL_VERSIONS).await
}

/// The same with these TLS versions only.
pub async fn tls_with(
    address: SocketAddr,
    roots: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for pem in roots {
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
            store.add(certificate.unwrap()).unwrap();
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    // What a test writes should be on its way before the test goes on.
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Client {
    pub async fn connect(address: SocketAddr, roots: &[&str]) -> std::io::Result<Self> {
        let stream = tls(address, roots).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (closing, retry_after) = (header("connection") == "close", header("retry-after"));
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, text: String::from_utf8(body.to_vec()).unwrap(), closing, retry_after })
    }

    pub async fn post(&mut self, body: impl Into<Bytes>) -> Result<Answer, hyper::Error> {
        self.post_within(5, body).await
    }

    /// A review for whose answer the API server waits so many seconds.
    pub async fn post_within(
        &mut self,
        seconds: u64,
        body: impl Into<Bytes>,
    ) -> Result<Answer, hyper::Error> {
        let request = Request::post(format!("/mutate?timeout={seconds}s"));
        let request = request.header("content-type", "application/json");
        self.send(request.header("host", SERVER_NAME).body(Full::new(body.into())).unwrap()).await
    }

    pub async fn review(&mut self, pod: &Value) -> Answer {
        self.post(review(pod)).await.unwrap()
    }
}

/// A pod with one container and this network annotation.
pub fn pod(networks: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "p-", "namespace": "default", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
        "spec": {"containers": [{"name": "test", "image": "x", "resources": {}}]},
    })
}

/// The review that an API server makes of a pod.
pub fn review(pod: &Value) -> String {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
    .to_string()
}

/// Where a definition is kept.
pub fn nad_path(namespace: &str, name: &str) -> String {
    format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}")
}

/// A definition.
pub fn nad_object(resource: Option<&str>) -> Value {
    let annotations = resource.map(|resource| json!({"k8s.v1.cni.cncf.io/resourceName": resource}));
    json!({
        "kind": "NetworkAttachmentDefinition", "metadata": {"annotations": annotations},
        "spec": {"config": "{\"cniVersion\":\"1.0.0\",\"type\":\"sriov\"}"},
    })
}

pub fn nad(api: &ApiServer, namespace: &str, name: &str, resource: Option<&str>) {
    api.put(&nad_path(namespace, name), nad_object(resource));
}

/// The amount of a resource that the answer's patch gives the first container.
pub fn amount(answer: &Answer, pod: &Value, resource: &str) -> Option<String> {
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &answer.patch()).unwrap();
    pod["spec"]["containers"][0]["resources"]["limits"][resource].as_str().map(str::to_owned)
}
