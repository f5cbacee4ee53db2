//! What the command-line tests share: running the binary, files of the test folder, comparing with a committed text.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, read the repository, and each file uses its part of this one"
)]

pub mod schema;
pub mod tree;

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs the binary in the test folder.
pub fn portwright(arguments: &[&str]) -> Ran {
    portwright_reading(arguments, "")
}

/// Runs the binary with something on its stdin.
pub fn portwright_reading(arguments: &[&str], stdin: impl Into<Vec<u8>>) -> Ran {
    let mut command = Command::cargo_bin("portwright").unwrap();
    command.current_dir(folder()).env_clear().args(arguments).write_stdin(stdin);
    command.timeout(std::time::Duration::from_secs(60));
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `agent/tests`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a text with a committed file. `BLESS=1 cargo test` writes the file instead, to be looked at before commit.
pub fn compare(path: &Path, found: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == found, "{} differs:\n--- expected\n{expected}\n--- found\n{found}", path.display());
}
