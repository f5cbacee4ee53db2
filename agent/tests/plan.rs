//! `plan`: exit codes, text and JSON, off-node.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

mod common;

use common::{compare, folder, portwright, portwright_reading};

const NODE: &str = "fixtures/node.json";

fn plan(policy: &str, more: &[&str]) -> common::Ran {
    let mut arguments = vec!["plan", "-f", policy, "--observed", NODE];
    arguments.extend(more);
    portwright(&arguments)
}

#[test]
fn the_exit_code_says_what_the_plan_says() {
    for (policy, code) in [
        ("fixtures/in-sync.yaml", 0),
        ("fixtures/workers.yaml", 1),
        ("fixtures/resize.yaml", 1),
        ("fixtures/unknown.yaml", 2),
    ] {
        let ran = plan(policy, &[]);
        assert_eq!(ran.code, Some(code), "{policy}: {ran:#?}");
        assert_eq!(ran.stderr, "", "{policy}");
        assert!(ran.stdout.ends_with(" Nothing was changed.\n"), "{policy}: {}", ran.stdout);
    }
}

#[test]
fn plans_read_as_committed() {
    for name in ["workers", "resize", "in-sync", "unknown"] {
        let ran = plan(&format!("fixtures/{name}.yaml"), &[]);
        compare(&folder().join(format!("fixtures/{name}.plan.txt")), &ran.stdout);
    }
}

#[test]
fn json_and_yaml_hold_the_same_plan() {
    let json = plan("fixtures/workers.yaml", &["-o", "json"]).json();
    let yaml = plan("fixtures/workers.yaml", &["-o", "yaml"]);
    assert_eq!(yaml.code, Some(1));
    let read: serde_json::Value = serde_saphyr::from_str(&yaml.stdout).unwrap();
    assert_eq!(json, read);
    let set_vfs =
        json["steps"].as_array().unwrap().iter().find(|step| step["action"] == "set-num-vfs").unwrap();
    assert_eq!(
        *set_vfs,
        serde_json::json!({"object": "0000:3b:00.0", "action": "set-num-vfs", "from": 0, "to": 7, "disruption": "pf", "force": false})
    );
}

#[test]
fn an_unknown_value_is_listed_and_never_a_step() {
    let json = plan("fixtures/unknown.yaml", &["-o", "json"]).json();
    let object = json["unknown"][0]["object"].as_str().unwrap();
    assert!(object.starts_with("0000:5e:00.0"), "{json}");
    assert!(
        json["steps"].as_array().unwrap().iter().all(|step| step["action"] != "set-vf-link-state"),
        "{json}"
    );
}

#[test]
fn stdin_is_a_file_named_dash() {
    let policy = std::fs::read_to_string(folder().join("fixtures/workers.yaml")).unwrap();
    let from_stdin = portwright_reading(&["plan", "-f", "-", "--observed", NODE], policy);
    let from_file = plan("fixtures/workers.yaml", &[]);
    assert_eq!(from_stdin.code, Some(1));
    assert_eq!(from_stdin.stdout, from_file.stdout);

    let twice = portwright_reading(&["plan", "-f", "-", "-", "--observed", NODE], "");
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("stdin (`-`) can be read only once"), "{}", twice.stderr);
}

#[test]
fn several_files_are_one_wish() {
    let ran = portwright(&[
        "plan",
        "-f",
        "fixtures/workers.yaml",
        "fixtures/resize.yaml",
        "-f",
        "fixtures/unknown.yaml",
        "--observed",
        NODE,
        "-o",
        "json",
    ]);
    let json = ran.json();
    let reasons: Vec<&str> = json["blocked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blocked| blocked["reason"].as_str().unwrap())
        .collect();
    assert!(reasons.contains(&"PfMissing") && reasons.contains(&"PolicyConflict"), "{reasons:?}");
}

#[test]
fn the_same_name_in_two_files_is_refused() {
    let ran =
        portwright(&["plan", "-f", "fixtures/workers.yaml", "./fixtures/workers.yaml", "--observed", NODE]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("./fixtures/workers.yaml:3:"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`workers` is already the name of the policy at fixtures/workers.yaml:3:"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_wrong_observed_file_is_said_with_its_position() {
    for (file, says) in [
        ("fixtures/workers.yaml", "is not what `portwright observe -o json` prints"),
        ("fixtures/workers.yaml", "line 1 column 1"),
        ("bad/observed-address.json", "at `pfs[0].address`"),
        ("bad/observed-address.json", "line 3"),
        ("bad/observed-twice.json", "at `pfs[1].address`"),
        ("bad/observed-twice.json", "0000:3b:00.0 is listed twice"),
        ("fixtures", "hint: name the files in it"),
        ("bad/observed-truncated.json", "EOF while parsing"),
        ("fixtures/nowhere.json", "cannot read `fixtures/nowhere.json`: No such file"),
    ] {
        let ran = portwright(&["plan", "-f", "fixtures/workers.yaml", "--observed", file]);
        assert_eq!(ran.code, Some(2), "{file}");
        assert_eq!(ran.stdout, "", "{file}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("\n\nhint: "), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{file}: {}", ran.stderr);
    }
}
