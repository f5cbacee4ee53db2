//! The command line itself: help, exit codes of wrong usage, generated texts, roots, broken pipes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, start the binary and read the repository"
)]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use common::{compare, folder, portwright, repository};
use portwright::cli::Cli;

const VERBS: &[&str] = &[
    "observe",
    "plan",
    "apply",
    "pools",
    "run",
    "sriovdp",
    "status",
    "reconcile",
    "profiles",
    "ovs",
    "bundle",
    "crds",
    "completions",
    "man",
];

#[test]
fn the_verbs_are_those_of_the_contract() {
    let command = Cli::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(verbs, VERBS);
}

#[test]
fn every_verb_and_flag_says_what_it_does() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
        }
        for verb in command.get_subcommands() {
            check(verb, &format!("{path} {}", verb.get_name()));
        }
    }
    Cli::command().debug_assert();
    check(&Cli::command(), "portwright");
}

#[test]
fn help_and_version_are_data() {
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["plan", "--help"], &["help", "apply"]] {
        let ran = portwright(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}");
        assert!(ran.stdout.ends_with('\n') && ran.stderr.is_empty(), "{arguments:?}: {ran:#?}");
    }
}

#[test]
fn wrong_usage_is_exit_2_on_stderr() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["plan"],
        &["apply"],
        &["plan", "-f", "fixtures/workers.yaml", "--allow-disruption"],
        &["observe", "-o", "xml"],
        &["apply", "-f", "fixtures/workers.yaml", "--timeout", "soon"],
        &["pools"],
        &["reconcile", "--timeout", "0"],
        &["status", "more"],
    ] {
        let ran = portwright(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:#?}");
    }
}

#[test]
fn another_root_is_for_verbs_that_only_look() {
    for arguments in [
        &["apply", "-f", "fixtures/workers.yaml"][..],
        &["bundle"],
        &["status"],
        &["reconcile"],
        &["crds"],
        &["man"],
    ] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--root", "/nowhere"]);
        let ran = portwright(&arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(
            ran.stderr.contains("works on the running host only, not on `--root /nowhere`"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("\n\nhint: "), "{}", ran.stderr);
    }
}

#[test]
fn completions_are_made_for_the_usual_shells() {
    for (shell, holds) in
        [("bash", "_portwright()"), ("zsh", "#compdef portwright"), ("fish", "complete -c portwright")]
    {
        let ran = portwright(&["completions", shell]);
        assert_eq!(ran.code, Some(0), "{shell}");
        assert!(ran.stdout.contains(holds), "{shell}");
        for verb in VERBS {
            assert!(ran.stdout.contains(verb), "{shell} does not know {verb}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_verb() {
    let ran = portwright(&["man"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains(".TH portwright 1"), "{}", ran.stdout);
    let folder = tempfile::tempdir().unwrap();
    let ran = portwright(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    for verb in VERBS {
        let page = std::fs::read_to_string(folder.path().join(format!("portwright-{verb}.1"))).unwrap();
        assert!(page.contains(".TH"), "{verb}");
    }
}

#[test]
fn definitions_are_yaml_or_a_list() {
    let yaml = portwright(&["crds"]);
    assert_eq!(yaml.code, Some(0));
    assert!(yaml.stdout.contains("name: nodepolicies.portwright.dev"), "{}", yaml.stdout);
    let json = portwright(&["crds", "-o", "json"]).json();
    assert_eq!(json.pointer("/kind").unwrap(), "List");
    assert_eq!(json.pointer("/items/0/metadata/name").unwrap(), "nodepolicies.portwright.dev");
}

/// A reader that has seen enough is no error: `portwright … | head -1`.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portwright"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn profiles_are_listed_matched_and_checked() {
    let list = portwright(&["profiles", "list"]);
    assert_eq!(list.code, Some(0));
    assert!(
        list.stdout.lines().any(|line| line.starts_with("igb ") && line.contains("igbvf")),
        "{}",
        list.stdout
    );

    let matched = portwright(&["profiles", "match", "--observed", "fixtures/node.json"]);
    compare(&folder().join("fixtures/profiles-match.txt"), &matched.stdout);

    let checked = portwright(&["profiles", "check"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), ""));
    assert!(checked.stderr.contains("28 profiles"), "{}", checked.stderr);

    let bad = portwright(&["profiles", "check", "bad/profile.toml"]);
    assert_eq!(bad.code, Some(2));
    compare(&folder().join("bad/profile.txt"), &bad.stderr);
}

#[test]
fn a_profile_of_ones_own_replaces_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let own = "name = \"igb\"\nsummary = \"our own\"\ntested = \"here\"\ndrivers = [\"igb\"]\n";
    std::fs::write(folder.path().join("igb.toml"), own).unwrap();
    let list = portwright(&["profiles", "list", "--profiles", folder.path().to_str().unwrap()]);
    assert!(list.stdout.contains("our own"), "{}", list.stdout);
    assert_eq!(list.stdout.lines().filter(|line| line.starts_with("igb ")).count(), 1);
}

/// docs/cli.md shows every verb's help as the binary prints it.
#[test]
fn the_documented_help_is_the_printed_help() {
    let path = repository().join("docs/cli.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (words, _) = text.split_once("## Help texts").unwrap_or((&text, ""));
    let mut found =
        format!("{words}## Help texts\n\n`BLESS=1 cargo test -p portwright --test cli` writes this part.\n");
    for arguments in [
        "",
        "observe",
        "plan",
        "apply",
        "run",
        "status",
        "reconcile",
        "profiles",
        "profiles list",
        "profiles match",
        "profiles check",
        "bundle",
        "crds",
        "completions",
        "man",
    ] {
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        words.push("-h");
        let help = portwright(&words).stdout;
        let title = format!("portwright {arguments}");
        found.push_str(&format!("\n### {}\n\n```text\n{}\n```\n", title.trim(), help.trim_end()));
    }
    compare(&path, &found);
}

#[test]
fn before_kubelet_means_that_nothing_is_done_beside_one() {
    let folder = tempfile::tempdir().unwrap();
    let sockets = folder.path().join("pod-resources");
    std::fs::create_dir(&sockets).unwrap();
    let socket = sockets.join("kubelet.sock");
    let place = folder.path().to_str().unwrap();
    let once =
        || portwright(&["run", "--once", "--before-kubelet", "--kubelet-dir", place, "--state-dir", place]);
    let kubelet = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let ran = once();
    let said = &ran.stderr;
    assert_eq!(ran.code, Some(1), "{said}");
    assert!(said.contains("kubelet runs already") && said.contains("hint: "), "{said}");
    // The file stays over a boot; nobody answers there.
    drop(kubelet);
    let ran = once();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
