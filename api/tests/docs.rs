//! docs/policy.md shows the real example and leaves no field out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "the committed page is read where it lies")]

use std::collections::BTreeSet;

use serde_json::Value as Json;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md")).unwrap()
}

#[test]
fn the_page_shows_the_example() {
    let page = page();
    assert!(page.contains(&format!("```yaml\n{}```\n", portwright_api::example())));
}

#[test]
fn the_page_names_every_field_and_every_word() {
    let mut names = BTreeSet::new();
    collect(&portwright_api::json_schema()["properties"]["spec"], &mut names);
    assert!(names.len() > 80, "{names:?}");
    let page = page();
    let named = |name: &str| {
        // A word counts where it stands in code: alone, as a part of a path, or in an inline object.
        page.split('`').skip(1).step_by(2).any(|code| {
            code.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c))
                .any(|word| word.trim_matches('"') == name || word.split('.').any(|part| part == name))
        })
    };
    let missing: Vec<&String> = names.iter().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/policy.md does not name {missing:?}");
}

/// Names of fields and words of enumerations.
fn collect(schema: &Json, names: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        collect(below, names);
    }
    for word in schema["enum"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        names.insert(word.to_owned());
    }
    if schema["items"].is_object() {
        collect(&schema["items"], names);
    }
}
