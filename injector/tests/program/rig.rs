//! The program, its surroundings, and waiting for it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portwright-injector"));
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

pub fn flags(dir: &Path, [port, health]: [u16; 2]) -> Vec<String> {
    vec![
        "-bind-address=127.0.0.1".to_owned(),
        format!("-port={port}"),
        format!("-health-check-port={health}"),
        format!("-tls-cert-file={}", dir.join("tls.crt").display()),
        format!("-tls-private-key-file={}", dir.join("tls.key").display()),
    ]
}

/// For an API server on this port, in plain HTTP.
pub fn kubeconfig(dir: &Path, port: u16) -> PathBuf {
    let path = dir.join("kubeconfig");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: t, clusters: [{{name: t, cluster: {{server: 'http://127.0.0.1:{port}'}}}}], \
         contexts: [{{name: t, context: {{cluster: t, user: t}}}}], users: [{{name: t, user: {{}}}}]}}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub const SERVER_NAME: &str = "injector.test";

/// Writes a self-signed certificate and its key.
pub fn certificate(dir: &Path) {
    let pair = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()]).unwrap();
    std::fs::write(dir.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What a probe answers; empty while nobody listens.
pub fn probe(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let mut text = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    if write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_ok() {
        // A half answer is an answer for whoever looks at its beginning.
        stream.read_to_string(&mut text).ok();
    }
    text
}

pub fn wait_until(child: &mut Child, what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was {what}");
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("never {what}");
        }
        std::thread::yield_now();
    }
}

/// A process; killed if the test ends before it does.
pub struct Replica {
    pub child: Child,
    pub webhook: u16,
    pub probes: u16,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It has ended already if all went well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Replica {
    /// Starts one with the certificate in `dir` against the API server on port `api`, and waits until it is ready.
    pub fn start(dir: &Path, api: u16, more: &[&str]) -> Self {
        let [webhook, probes] = [free_port(), free_port()];
        let child = program()
            .env("KUBECONFIG", kubeconfig(dir, api))
            .args(flags(dir, [webhook, probes]))
            .args(more)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut replica = Self { child, webhook, probes };
        wait_until(&mut replica.child, "ready", || is_ready(probes));
        replica
    }

    /// Resident memory now and at its highest, in KiB.
    pub fn memory_kib(&self) -> [u64; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        })
    }
}

pub fn is_ready(probes: u16) -> bool {
    probe(probes, "/readyz").starts_with("HTTP/1.1 200 ")
}

/// Ends the clients, also when the test fails; they would be waited for for ever.
pub struct Finish<'a>(pub &'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
