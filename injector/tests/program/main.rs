//! The program itself: what it refuses to start with, what it documents, how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests fail by panicking and start the program"
)]

mod hostile;
mod load;
mod rig;
mod signals;

use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use portwright_injector::flags::Flags;

use crate::rig::{certificate, flags, free_port, kubeconfig, probe, program, wait_until};

#[test]
fn what_cannot_be_followed_ends_the_process_with_2() {
    let cases: [(&[&str], &str); 18] = [
        (&["-port=80"], "1024 to 65535"),
        (&["-port=70000"], "70000"),
        (&["-port", "x"], "invalid value"),
        (&["-health-check-port=1"], "1024 to 65535"),
        (&["-port=9000", "-health-check-port=9000"], "both 9000"),
        (&["-bind-address="], "bind-address"),
        (&["-tls-min-version=VersionTLS11"], "VersionTLS11"),
        (&["-tls-cipher-suites=NOPE"], "NOPE"),
        (&["-tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA"], "unsafe"),
        (&["-tls-cipher-suites=TLS_AES_128_GCM_SHA256,"], "unknown or unsafe"),
        (&["-tls-curve-preferences=99"], "99"),
        (&["-tls-curve-preferences=25"], "none of the named groups"),
        (&["-network-resource-name-keys= , "], "is empty"),
        (&["-honor-resources", "--existing-resources=skip"], "another mode"),
        (&["--multus-namespace=../x"], "no namespace name"),
        (&["--namespace-isolation", "--global-namespaces=a,B"], "no namespace name"),
        (&["--self-managed-certificates", "-client-ca=ca.crt"], "does not go with"),
        (&["-such-a-flag"], "such-a-flag"),
    ];
    for (flags, part) in cases {
        let output = program().args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(part), "{flags:?}: {said}");
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
}

#[test]
fn without_an_api_server_or_a_certificate_it_does_not_start() {
    let output = program().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("KUBECONFIG"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let output = program()
        .env("KUBECONFIG", kubeconfig(dir.path(), free_port()))
        .args(flags(dir.path(), ports))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("tls.crt"), "{said}");
}

#[test]
fn every_flag_is_documented() {
    let command = Flags::command();
    for argument in command.get_arguments() {
        assert!(argument.get_help().is_some(), "{}", argument.get_id());
        assert!(!argument.is_hide_set(), "{}", argument.get_id());
    }
    let output = program().arg("--help").output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for argument in command.get_arguments() {
        assert!(help.contains(&format!("--{}", argument.get_long().unwrap())), "{}", argument.get_id());
    }
}

/// All flags of network-resources-injector.
#[test]
fn a_drop_in_start_says_what_it_ignores_and_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let ports = [free_port(), free_port()];
    let mut child = program()
        .env("KUBECONFIG", kubeconfig(dir.path(), free_port()))
        .env("NAMESPACE", "elsewhere")
        .args(flags(dir.path(), ports))
        .args(["-insecure=true", "-logtostderr=true", "-alsologtostderr", "-v=3", "-enable-http2=false"])
        .args(["-injectHugepageDownApi=true", "-stderrthreshold=INFO", "-honor-resources=false"])
        .args(["-tls-min-version=VersionTLS12", "-tls-curve-preferences=29,23,25"])
        .args(["-client-ca=/nonexistent/a.crt", "-client-ca", "/nonexistent/b.crt"])
        .args(["-network-resource-name-keys=k8s.v1.cni.cncf.io/resourceName,example.com/bridge"])
        .args([
            "-vmodule=a=1",
            "-log_dir=/tmp",
            "-log_link=/tmp",
            "-logbuflevel=1",
            "-log_backtrace_at=a.go:1",
        ])
        .args([
            "-tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        ])
        .args(["--cache-sync-timeout=0", "--shutdown-delay=1", "--log-format=json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(&mut child, "ready", || probe(ports[1], "/readyz").starts_with("HTTP/1.1 200"));
    Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    wait_until(&mut child, "not ready", || probe(ports[1], "/readyz").starts_with("HTTP/1.1 503"));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in [
        "--logtostderr has no meaning",
        "--alsologtostderr",
        "--stderrthreshold",
        "--vmodule",
        "--log_dir",
        "--log_link",
        "--logbuflevel",
        "--log_backtrace_at",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        "\"25\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for line in said.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "a log line is one JSON object: {line}");
    }
}
