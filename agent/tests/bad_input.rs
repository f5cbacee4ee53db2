//! Bad policies: exit 2, nothing on stdout, and an error with the place, the cause and what to do. One file each in
//! `bad/`; the expected words stand beside it in `.txt`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read their folder"
)]

mod common;

use common::{compare, folder, portwright, portwright_reading};

#[test]
fn every_bad_policy_is_refused_as_committed() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder().join("bad")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let file = format!("bad/{}", path.file_name().unwrap().to_str().unwrap());
        let ran = portwright(&["plan", "-f", &file, "--observed", "fixtures/node.json"]);
        assert_eq!(ran.code, Some(2), "{file}: {ran:#?}");
        assert_eq!(ran.stdout, "", "{file}");
        assert!(ran.stderr.starts_with(&format!("error: {file}")), "{file}: {}", ran.stderr);
        compare(&path.with_extension("txt"), &ran.stderr);
    }
    assert!(seen >= 14, "only {seen} bad policies were found");
}

#[test]
fn ten_megabytes_of_nesting_are_refused_and_not_followed() {
    for deep in ["[".repeat(10_000_000), "a: {".repeat(2_500_000), "- ".repeat(5_000_000)] {
        let ran = portwright_reading(&["plan", "-f", "-", "--observed", "fixtures/node.json"], deep);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: stdin"), "{}", ran.stderr);
    }
}

/// Below the size limit the parser's own limit has to hold.
#[test]
fn deep_nesting_that_is_small_enough_to_read_is_refused_by_the_parser() {
    for deep in ["[".repeat(1_000_000), "a: {".repeat(500_000), "- ".repeat(1_000_000)] {
        let ran = portwright_reading(&["plan", "-f", "-", "--observed", "fixtures/node.json"], deep);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: stdin"), "{}", ran.stderr);
    }
}

#[test]
fn an_observed_file_of_nothing_but_nesting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep.json");
    std::fs::write(&file, "[".repeat(10_000_000)).unwrap();
    let ran = portwright(&["plan", "-f", "fixtures/workers.yaml", "--observed", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("is not what `portwright observe -o json` prints"), "{}", ran.stderr);
}
