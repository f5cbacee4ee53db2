//! Words that must not stand in this repository: hosts of package registries, and paths of one machine.
//!
//! The project names no host: where packages come from is the machine's own business.

use super::Files;

/// Split, so that this file does not contain them.
const FORBIDDEN: &[&str] = &[
    concat!("deb.deb", "ian.org"),
    concat!("snapshot.deb", "ian.org"),
    concat!("archive.ubu", "ntu.com"),
    concat!("index.crat", "es.io"),
    concat!("static.crat", "es.io"),
    concat!("proxy.gol", "ang.org"),
    concat!("registry.np", "mjs.org"),
    concat!("files.python", "hosted.org"),
    concat!("/wo", "rk/"),
    concat!("../sha", "red"),
];
/// Written by cargo.
const EXEMPT: &[&str] = &["Cargo.lock"];

/// Lines that hold a forbidden word.
pub(super) fn check(files: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !EXEMPT.contains(&path.as_str())) {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = FORBIDDEN.iter().find(|word| holds(line, word)) {
                problems.push(format!("{path}:{number}: names {word}"));
            }
        }
    }
    problems
}

/// Whether a line names a path or host, not merely a longer path that contains it.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !word.starts_with('/') || !before.is_some_and(|c| c.is_ascii_alphanumeric() || "._-}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{FORBIDDEN, check};
    use crate::tidy::Files;

    #[test]
    fn each_word_is_found_and_longer_paths_are_not() {
        for word in FORBIDDEN {
            let files = Files::from([("a.md".to_owned(), format!("x\nsee {word} there\n"))]);
            assert_eq!(check(&files).len(), 1, "{word}");
        }
        let files =
            Files::from([("a.rs".to_owned(), concat!("tests/wo", "rk/x and my-wo", "rk/y").to_owned())]);
        assert!(check(&files).is_empty());
    }
}
