//! The program does its work with what deploy/agent gives it, and notices when something of that is missing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and start programs"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

struct Given {
    capabilities: Vec<String>,
    mounts: String,
}

/// What the DaemonSet gives.
fn given() -> Given {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent/30-daemonset.yaml");
    let manifest: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let capabilities = container["securityContext"]["capabilities"]["add"].as_array().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| {
        let access = if mount["readOnly"] == true { "ro" } else { "rw" };
        format!("{access}:{}\n", mount["mountPath"].as_str().unwrap())
    });
    Given {
        capabilities: capabilities.iter().map(|name| name.as_str().unwrap().to_lowercase()).collect(),
        mounts: mounts.collect(),
    }
}

/// Runs the program in the box, without one of its capabilities.
fn boxed(without: &str, words: &[&str]) -> Output {
    let given = given();
    let capabilities: Vec<&str> =
        given.capabilities.iter().map(String::as_str).filter(|name| *name != without).collect();
    assert!(
        without.is_empty() || capabilities.len() + 1 == given.capabilities.len(),
        "{without} is not given"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/box.sh");
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private", "sh"]).arg(script).args(words);
    command.env("PROGRAM", env!("CARGO_BIN_EXE_portwright"));
    command.env("CAPABILITIES", capabilities.join(",")).env("MOUNTS", given.mounts);
    command.output().unwrap()
}

/// What the program says about what it could not see, and whether it has a modprobe.
fn sight(without: &str) -> (String, bool) {
    let output = boxed(without, &["observe", "-o", "json"]);
    let text = String::from_utf8_lossy(&output.stderr);
    let observed: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    let node = &observed["node"];
    (node["sight"]["why"].as_str().unwrap_or_default().to_owned(), node["modprobe"] == true)
}

/// In every test: the box has a PID namespace of its own, and the program notices.
const OWN_PIDS: &str = "and sees only some processes";

#[test]
fn with_everything_nothing_else_is_hidden() {
    let (why, _) = sight("");
    let rest: Vec<&str> = why.split("; ").filter(|reason| !reason.contains(OWN_PIDS)).collect();
    assert!(why.contains(OWN_PIDS) && rest.is_empty(), "{why}");
}

#[test]
fn what_is_missing_is_noticed_and_said() {
    for (without, expected) in
        [("sys_ptrace", "lacks CAP_SYS_PTRACE"), ("dac_override", "/fd: Permission denied")]
    {
        let (why, _) = sight(without);
        assert!(why.contains(expected), "without {without}: {why}");
    }
}

#[test]
fn programs_of_the_host_are_run_among_the_hosts_files() {
    let outside = Path::new("/sbin/modprobe").exists() || Path::new("/usr/sbin/modprobe").exists();
    assert_eq!(sight("").1, outside, "the host's modprobe is found from inside");
    // The box has neither a shell nor the repository.
    let here = env!("CARGO_MANIFEST_DIR");
    let script = format!("test -e {here}/Cargo.toml && test ! -e /portwright && echo $0 $1");
    let output = boxed("", &["__host", "/bin/sh", "-c", &script, "among", "them"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "among them\n", "{output:?}");
    let refused = boxed("sys_chroot", &["__host", "/bin/sh", "-c", "true"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "without the right to change its root: {text}");
}
