//! The program, its surroundings, and waiting for it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
