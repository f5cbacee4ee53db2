//! No source file lies around that no crate compiles.

use super::Files;
use std::collections::BTreeSet;

/// Files from which cargo starts: crate roots, tests, benches, examples, build scripts.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [_, "build.rs"] | [_, "src", "lib.rs" | "main.rs"] => true,
        [_, "src", "bin", file] | [_, "tests" | "benches" | "examples", file] => file.ends_with(".rs"),
        [_, "src", "bin" | "tests" | "benches" | "examples", _, "main.rs"] => true,
        [_, "tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => false,
    }
}

/// Source files that no chain of `mod` reaches.
pub(super) fn check(files: &Files) -> Vec<String> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut todo: Vec<String> = files.keys().filter(|path| is_root(path)).cloned().collect();
    while let Some(path) = todo.pop() {
        let Some(text) = files.get(&path) else { continue };
        if reached.insert(path.clone()) {
            todo.extend(modules(&path, text));
        }
    }
    let sources = files.keys().filter(|path| path.ends_with(".rs") && !path.contains("/fixtures/"));
    sources
        .filter(|path| !reached.contains(*path))
        .map(|path| format!("{path}: no crate compiles this file"))
        .collect()
}

/// Where the modules that a file declares may lie.
fn modules(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let own = if is_root(path) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut found = Vec::new();
    let mut given_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            given_path = rest.split('"').next().map(|name| normal(&format!("{folder}/{name}")));
        } else if let Some(name) = included(line) {
            found.push(normal(&format!("{folder}/{name}")));
        } else if let Some(name) = declared(line) {
            match given_path.take() {
                Some(path) => found.push(path),
                None => found.extend([format!("{own}/{name}.rs"), format!("{own}/{name}/mod.rs")]),
            }
        }
    }
    found
}

/// The name in `mod name;`, with any visibility before it.
fn declared(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let (before, name) = name.rsplit_once(' ').unwrap_or(("", name));
    let is_mod = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    (is_mod && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some(name)
}

/// The file in `include!("file")`.
fn included(line: &str) -> Option<&str> {
    line.split_once("include!(\"")?.1.split('"').next()
}

/// Resolves `..` in a path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Files;

    #[test]
    fn only_the_orphan_is_named() {
        let entries = [
            (
                "a/src/lib.rs",
                "pub(crate) mod b;\nmod c;\n#[path = \"odd/name.rs\"]\nmod d;\ninclude!(\"gen/e.rs\");\n",
            ),
            ("a/src/b.rs", "mod deep;\n"),
            ("a/src/b/deep.rs", ""),
            ("a/src/c/mod.rs", "mod leaf;\n"),
            ("a/src/c/leaf.rs", ""),
            ("a/src/odd/name.rs", ""),
            ("a/src/gen/e.rs", ""),
            ("a/tests/it.rs", "mod common;\n"),
            ("a/tests/common/mod.rs", ""),
            ("a/src/bin/x.rs", ""),
            ("a/tests/fixtures/y.rs", ""),
            ("a/src/orphan.rs", ""),
        ];
        let files: Files =
            entries.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(check(&files), ["a/src/orphan.rs: no crate compiles this file"]);
    }
}
