//! An injector as a process: started, asked whether it is ready, weighed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portwright_tests::apiserver::ApiServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::options::{AS_INJECTOR, Options};

pub const SERVER_NAME: &str = "injector.bench.svc";

/// Certificates and kubeconfig of a run.
pub struct Surroundings {
    dir: tempfile::TempDir,
    pub authority: String,
}

impl Surroundings {
    pub fn new(api: &ApiServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![SERVER_NAME.to_owned(), "localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("tls.crt", &leaf.pem());
        write("tls.key", &key.serialize_pem());
        write("ca.crt", &authority);
        write("token", "none");
        write("namespace", "bench");
        write("kubeconfig", &api.kubeconfig());
        Self { dir, authority }
    }

    /// What the API server's TLS front shows.
    pub fn server_config(&self) -> rustls::ServerConfig {
        let chain = vec![CertificateDer::from_pem_file(self.path("tls.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("tls.key")).unwrap();
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A running injector; it ends with this value.
pub struct Injector {
    child: Child,
    pub address: SocketAddr,
    probes: SocketAddr,
    pub started: Instant,
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

impl Injector {
    /// Ours.
    pub fn ours(options: &Options, around: &Surroundings) -> Self {
        Self::start(Self::own_command(options), around)
    }

    /// Ours, which does not wait for the first list.
    pub fn start_blind(options: &Options, around: &Surroundings) -> Self {
        let mut command = Self::own_command(options);
        command.arg("--cache-sync-timeout=0");
        Self::start(command, around)
    }

    fn own_command(options: &Options) -> Command {
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new(options.ours.as_deref().unwrap_or(&own));
        if options.ours.is_none() {
            command.arg(AS_INJECTOR);
        }
        command
    }

    /// Somebody else's. Injectors that insist on a service account find one, in a mount namespace of their own, if we
    /// may make one; its API server is reached over TLS at `api`.
    pub fn peer(binary: &Path, around: &Surroundings, api: SocketAddr) -> Self {
        let account = "/var/run/secrets/kubernetes.io/serviceaccount";
        let script = format!(
            "mkdir -p {account} && mount -t tmpfs none {account} && cp \"$0\"/ca.crt \"$0\"/token \"$0\"/namespace {account}/ && exec \"$@\""
        );
        let may = std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
        let mut command = if may {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script]).arg(around.dir.path()).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        command
            .env("KUBERNETES_SERVICE_HOST", "localhost")
            .env("KUBERNETES_SERVICE_PORT", api.port().to_string());
        Self::start(command, around)
    }

    fn start(mut command: Command, around: &Surroundings) -> Self {
        let (address, probes) = (free(), free());
        command
            .env("KUBECONFIG", around.path("kubeconfig"))
            .env("NAMESPACE", "bench")
            .arg("-bind-address=127.0.0.1")
            .arg(format!("-port={}", address.port()))
            .arg(format!("-health-check-port={}", probes.port()))
            .arg(format!("-tls-cert-file={}", around.path("tls.crt").display()))
            .arg(format!("-tls-private-key-file={}", around.path("tls.key").display()))
            .arg("-insecure=true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { started: Instant::now(), child: command.spawn().unwrap(), address, probes }
    }

    /// Waits until `/readyz` is 200 and says how long it took from the start.
    pub async fn ready(&mut self) -> Duration {
        loop {
            assert!(self.child.try_wait().unwrap().is_none(), "the injector has ended");
            assert!(self.started.elapsed() < Duration::from_secs(60), "the injector does not become ready");
            if self.probe().await.is_some_and(|text| text.starts_with("HTTP/1.1 200")) {
                return self.started.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn probe(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.probes).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Processor time so far, in milliseconds (user and system, proc(5) `stat`, ticks of 10 ms).
    pub fn cpu_ms(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
    }

    /// Lets the highest resident memory start anew (proc(5) `clear_refs`), where that is allowed.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").ok();
    }

    /// Resident memory now and at its highest, in KiB.
    pub fn memory_kib(&self) -> (u64, u64) {
        let status = self.proc("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}
