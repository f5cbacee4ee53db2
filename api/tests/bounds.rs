//! Hostile sizes: whatever the input, reading ends soon, on an ordinary stack, with a clear error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::mpsc;
use std::time::Duration;

use portwright_api::{MAX_FILE_BYTES, decode, load};

/// Reads on a thread with the stack that threads of the runtime have, of which an optimised build uses an eighth, and
/// fails if that takes more than 20 seconds, which leaves room for a busy machine and an unoptimised build.
fn refused(text: String) -> String {
    let (send, receive) = mpsc::channel();
    std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(move || {
            let result = match decode("f", text.as_bytes()) {
                Ok(text) => load([("f", text)]).map(drop),
                Err(error) => Err(vec![*error]),
            };
            // The receiver is gone only when the test has failed already.
            send.send(result).ok();
        })
        .unwrap();
    let errors = receive.recv_timeout(Duration::from_secs(20)).expect("an answer in time").unwrap_err();
    assert!(errors.len() <= 60, "{} errors", errors.len());
    let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
    assert!(text.len() < 20_000, "{} bytes of errors", text.len());
    text
}

#[test]
fn hostile_sizes_are_refused_in_time_and_on_an_ordinary_stack() {
    let head = "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: x}\nspec:\n";
    let steps: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let groups = "  - {vfs: 1}\n".repeat(150_000);
    let fields: String = (0..40_000).map(|n| format!("  field{n}: 1\n")).collect();
    let megabyte = "x".repeat(1_000_000);
    for (name, text, says) in [
        ("10 MB of brackets", "[".repeat(10_000_000), "a policy file may have at most 4194304"),
        ("4 MB of brackets", "[".repeat(MAX_FILE_BYTES), "more than 24 levels of nesting"),
        ("braces", "{\"a\":".repeat(500_000), "more than 24 levels of nesting"),
        ("dashes", "- ".repeat(1_000_000), "more than 24 levels of nesting"),
        ("indentation", steps, "more than 24 levels of nesting"),
        ("question marks", "? ".repeat(1_000_000), "more than 24 levels of nesting"),
        ("anchors", "&a ".repeat(1_000_000), "cannot be read"),
        ("documents", "---\na: 1\n".repeat(100_000), "more than 1000 documents"),
        ("entries", format!("{head}  nics:\n{groups}"), "more than 100000 values"),
        ("unknown fields", format!("{head}{fields}"), "spec.field0: is not a field"),
        ("an open quote", format!("\"{megabyte}"), "unclosed quote"),
        ("a long word", format!("{head}  mode: {megabyte}"), "spec.mode"),
        ("a long key", format!("{head}  ? {megabyte}\n  : 1"), "is not a field"),
        ("a long number", format!("{head}  priority: {}", "9".repeat(1_000_000)), "spec.priority"),
        (
            "many ranges",
            format!(
                "{head}  nics: [{{select: {{names: [a]}}, vfGroups: [{{vfs: \"{}\"}}]}}]",
                "0-65535,".repeat(100_000)
            ),
            "named twice",
        ),
        (
            "a wide pattern",
            format!("{head}  nics: [{{select: {{names: [\"{}\"]}}}}]", "{a,b}".repeat(100_000)),
            "longer than 255 bytes",
        ),
        ("zero bytes", "\0".repeat(1_000_000), "cannot be read"),
    ] {
        let errors = refused(text);
        assert!(errors.contains(says), "{name}: {errors}");
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let aliases = vec![format!("*{from}"); 9].join(", ");
        text.push_str(&format!("{to}: &{to} [{aliases}]\n"));
    }
    let errors = refused(text);
    assert!(errors.contains("aliases (`*name`) that stand for more than 100000 values"), "{errors}");
}
