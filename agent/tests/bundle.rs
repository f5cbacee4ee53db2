//! `bundle`: what is in the archive, what is not, who may read it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, read what was written and start the binary"
)]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{folder, portwright};

fn contents(archive: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut contents = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().strip_prefix("portwright-bundle").unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        contents.insert(name, text);
    }
    contents
}

#[test]
fn an_archive_holds_what_a_report_needs_and_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    std::fs::create_dir_all(state.join("pf")).unwrap();
    std::fs::write(state.join("last-apply.json"), "{\"converged\": true}").unwrap();
    std::fs::write(state.join("pf/0000:3b:00.0.json"), "{\"journal\": 1}").unwrap();
    std::fs::write(state.join("pf/token"), "s3cret-file").unwrap();
    let archive = place.path().join("report.tar.gz");
    let output = Command::new(env!("CARGO_BIN_EXE_portwright"))
        .current_dir(folder())
        .env("TOKEN", "s3cret-variable")
        .args(["bundle", "--state-dir", state.to_str().unwrap(), "-f", "fixtures/workers.yaml", "--"])
        .arg(&archive)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let contents = contents(&archive);
    let listed: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(listed.len(), contents.len(), "{listed:?}");
    for name in [
        "versions.json",
        "observed.json",
        "observed.txt",
        "profiles.json",
        "problems.json",
        "plan.json",
        "plan.txt",
        "policies/1.yaml",
        "state/last-apply.json",
        "state/pf/0000:3b:00.0.json",
    ] {
        assert!(contents.contains_key(name), "{name} is missing in {listed:?}");
    }
    let everything: String = contents.values().map(String::as_str).collect();
    assert!(!everything.contains("s3cret"), "a secret is in the archive");
    serde_json::from_str::<portwright_core::Observed>(&contents["observed.json"]).unwrap();
}

#[test]
fn a_policy_that_cannot_be_used_is_part_of_the_report() {
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("report.tar.gz");
    let ran = portwright(&["bundle", "-f", "bad/range-backwards.yaml", "--", archive.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(contents(&archive)["plan.txt"].contains("runs backwards"));
}

#[test]
fn an_archive_that_cannot_be_written_leaves_nothing_behind() {
    let ran = portwright(&["bundle", "/nowhere/report.tar.gz"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.starts_with("error: cannot write `/nowhere/report.tar.gz`: "), "{}", ran.stderr);

    let place = tempfile::tempdir().unwrap();
    let ran =
        portwright(&["bundle", "-f", "nowhere.yaml", "--", place.path().join("a.tar.gz").to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
