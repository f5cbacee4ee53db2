//! Policies as data: each file in policies/good must be right; each in policies/bad must be refused with exactly the text
//! beside it. Add a file, get a test. With BLESS=1 the texts are written instead of compared; read them then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "test data is read where it lies")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use portwright_api::{PolicyError, check, convert, decode, load, read};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind != "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn shown(errors: &[PolicyError]) -> String {
    let mut text = String::new();
    for error in errors {
        writeln!(text, "{error}").unwrap();
        if let Some(hint) = &error.hint {
            writeln!(text, "  hint: {hint}").unwrap();
        }
    }
    text
}

#[test]
fn good_policies_are_read_checked_and_converted() {
    for path in files("good") {
        let name = name(&path);
        let bytes = std::fs::read(&path).unwrap();
        let text = decode(&name, &bytes).unwrap();
        let policies = read(&name, text).unwrap_or_else(|errors| panic!("{}", shown(&errors)));
        for entry in &policies {
            assert_eq!(check(&entry.policy), [], "{name}");
            assert_eq!(convert(&entry.policy).err(), None, "{name}");
        }
    }
}

#[test]
fn bad_policies_are_refused_with_every_mistake_in_its_place() {
    let mut failed = String::new();
    for path in files("bad") {
        let name = name(&path);
        let bytes = std::fs::read(&path).unwrap();
        let result = match decode(&name, &bytes) {
            Ok(text) => load([(name.as_str(), text)]).map(drop),
            Err(error) => Err(vec![*error]),
        };
        let errors = result.err().unwrap_or_else(|| panic!("{name} was accepted"));
        let (found, beside) = (shown(&errors), path.with_extension("txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&beside, found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if found != expected {
            write!(failed, "== {name}\n-- expected\n{expected}-- found\n{found}\n").unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn every_text_belongs_to_a_policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/bad");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let partner = |kind: &str| path.with_extension(kind).is_file();
        assert!(partner("txt") && (partner("yaml") || partner("json")), "{}", path.display());
    }
}

#[test]
fn the_example_is_right_and_converts() {
    let documents =
        load([("example.yaml", portwright_api::example())]).unwrap_or_else(|e| panic!("{}", shown(&e)));
    assert_eq!(documents.len(), 1);
}

#[test]
fn one_name_in_two_files_is_named_with_both_places() {
    let text = portwright_api::example();
    let errors = load([("a.yaml", text), ("b.yaml", text)]).unwrap_err();
    assert_eq!(
        shown(&errors),
        "b.yaml:6:3: metadata.name: `workers` is already the name of the policy at a.yaml:6:3\n  \
         hint: remove one of the two documents, or rename it\n"
    );
}

#[test]
fn mistakes_of_several_files_are_reported_together() {
    let errors = load([("a.yaml", "a: ["), ("b.yaml", "b")]).unwrap_err();
    let files: Vec<&str> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(files, ["a.yaml", "b.yaml"]);
}
