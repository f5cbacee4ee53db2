//! Conformance cases: each folder of `tests/cases` is a pod, the networks of its cluster, flags, and what must come out.
//!
//! - `pod.yaml`: the pod as admission sees it. All cases are written by hand.
//! - `nads.yaml` (optional): list of `{namespace, name, annotations, config}`; the shared file is used without it.
//! - `flags` (optional): command line, one argument per line.
//! - `config.json` (optional): the ConfigMap's document.
//! - `expect.yaml`: `pod` (whole resulting pod) or `denied: {code, contains}`; `warnings` (fragments, in order).
//!
//! The patch is applied to the whole pod by a JSON patch library with the API server's rules (a missing parent is an
//! error). Every allowed case is run a second time on its own result, which must then need nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking and read their own files"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use portwright_injector::config::Config;
use portwright_injector::flags::{Flags, normalise};
use portwright_injector::mutate::{Mutation, Networks, Refusal, encode_checked, mutate};
use portwright_injector::nad::Network;
use portwright_injector::pod::Pod;
use portwright_injector::selection::NetworkName;
use portwright_injector::switches::{Existing, Switches};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    pod: Option<Value>,
    #[serde(default)]
    denied: Option<Denied>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Denied {
    code: u16,
    contains: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nad {
    namespace: String,
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    config: Option<String>,
}

struct Case {
    pod: Value,
    networks: Networks,
    config: Config,
    switches: Switches,
    expect: Expect,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn load(dir: &Path) -> Case {
    let flags = std::fs::read_to_string(dir.join("flags")).unwrap_or_default();
    let arguments = ["portwright-injector"].into_iter().chain(flags.lines()).map(OsString::from);
    let config = Config::new(Flags::try_parse_from(normalise(arguments)).unwrap()).unwrap();
    let switches = match std::fs::read_to_string(dir.join("config.json")) {
        Ok(document) => Switches::read(&config.switches, &document).unwrap().0,
        Err(_) => config.switches.clone(),
    };
    let own = dir.join("nads.yaml");
    let nads: Vec<Nad> = yaml(&if own.exists() { own } else { folder().join("nads.yaml") });
    let networks = nads
        .into_iter()
        .map(|Nad { namespace, name, annotations, config: cni }| {
            let network = Network::from_parts(&annotations, cni.as_deref(), &config.reading);
            (NetworkName { namespace, name }, Some(Arc::new(network)))
        })
        .collect();
    Case {
        pod: yaml(&dir.join("pod.yaml")),
        networks,
        config,
        switches,
        expect: yaml(&dir.join("expect.yaml")),
    }
}

impl Case {
    fn mutate(&self, pod: &Value) -> Result<(Mutation, Value), Refusal> {
        let read = Pod::from_json(&pod.to_string()).unwrap();
        let mutation = mutate(&read, "default", &self.networks, &self.switches, &self.config.settings)?;
        let bytes = encode_checked(&read, &mutation.patch).unwrap();
        let mut result = pod.clone();
        let patch: json_patch::Patch = serde_json::from_slice(&bytes).unwrap();
        json_patch::patch(&mut result, &patch).unwrap();
        Ok((mutation, result))
    }
}

/// Drops what the API server's decoding makes equal: absent, `null`, and empty maps and lists.
fn normal(value: Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, normal(v)))
            .filter(|(_, v)| !empty(v))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(normal).collect(),
        other => other,
    }
}

fn check(dir: &Path) {
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    let case = load(dir);
    match (case.mutate(&case.pod), &case.expect) {
        (Err(refusal), Expect { denied: Some(denied), .. }) => {
            let message = refusal.to_string();
            assert_eq!(refusal.code(), denied.code, "{name}: {message}");
            for fragment in &denied.contains {
                assert!(message.contains(fragment), "{name}: {message:?} lacks {fragment:?}");
            }
        }
        (Err(refusal), _) => panic!("{name}: refused: {refusal}"),
        (Ok((mutation, result)), Expect { denied: None, pod, warnings }) => {
            let expected = pod.clone().unwrap_or_else(|| case.pod.clone());
            let (result, expected) = (normal(result), normal(expected));
            assert_eq!(result, expected, "{name}\ngot  {result:#}\nwant {expected:#}");
            assert_eq!(mutation.warnings.len(), warnings.len(), "{name}: {:?}", mutation.warnings);
            for (warning, fragment) in mutation.warnings.iter().zip(warnings) {
                assert!(warning.contains(fragment), "{name}: {warning:?} lacks {fragment:?}");
            }
            let (again, _) = case.mutate(&result).unwrap();
            assert_eq!(again.patch, [], "{name}: the second pass is not empty");
        }
        (Ok((mutation, _)), _) => panic!("{name}: not refused: {:?}", mutation.patch),
    }
}

/// The folders, in order.
fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn every_case() {
    let dirs = folders();
    assert!(dirs.len() >= 150, "cases are missing");
    let failed: Vec<_> = dirs.iter().filter(|dir| std::panic::catch_unwind(|| check(dir)).is_err()).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), dirs.len());
}

/// Injectors of any modes, in any order, end in a pod that none of them changes any more: what the first two make of a
/// pod is final. (In mode `add` one of ours may add to what another has added, once; docs/injector.md says so.)
#[test]
fn two_injectors_in_a_row_converge_whatever_their_modes() {
    const MODES: [Existing; 3] = [Existing::Skip, Existing::TopUp, Existing::Add];
    let mut followed = 0;
    for dir in folders() {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let mut case = load(&dir);
        let pod = case.pod.clone();
        for first in MODES {
            for second in MODES {
                let mut pass = |existing, pod: &Value| {
                    case.switches.existing = existing;
                    case.mutate(pod).map(|(_, result)| result)
                };
                let Ok(once) = pass(first, &pod) else { continue };
                let Ok(settled) = pass(second, &once) else { continue };
                for again in [first, second] {
                    let result = pass(again, &settled).unwrap();
                    assert_eq!(result, settled, "{name}: {first:?}, {second:?}, then {again:?}");
                }
                followed += 1;
            }
        }
    }
    assert!(followed > 500, "{followed}");
}
