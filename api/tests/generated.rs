//! What is generated from the types is what is committed, and what the API server will accept as far as that can be
//! told without one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "the committed files are read where they lie")]

use std::path::PathBuf;

use serde_json::{Value as Json, json};

fn committed(file: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

/// With BLESS=1 the committed file is written instead of compared.
fn same(file: &str, generated: &str) {
    let (path, text) = committed(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    } else {
        assert!(text == generated, "{file} is not what the types generate; run with BLESS=1");
    }
}

#[test]
fn the_committed_definitions_are_what_the_types_generate() {
    same("deploy/crds/portwright.dev.yaml", &portwright_api::crd_yaml());
}

#[test]
fn the_committed_schemas_are_what_the_types_generate() {
    same("docs/schema/nodepolicy.json", &portwright_api::json_schema_text());
    same("docs/schema/nodestate.json", &portwright_api::state_schema_text());
}

#[test]
fn the_definitions_are_ones_that_the_api_server_takes() {
    let wanted = [
        ("nodepolicies.portwright.dev", "NodePolicy", 7, Some(json!({}))),
        ("nodestates.portwright.dev", "NodeState", 8, None),
    ];
    let crds = portwright_api::crds();
    assert_eq!(crds.len(), wanted.len());
    for ((name, yaml), (wanted, kind, columns, status)) in crds.iter().zip(wanted) {
        let definition: Json = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(*name, wanted);
        assert_eq!(definition["metadata"]["name"], wanted);
        assert_eq!(definition["spec"]["scope"], "Cluster");
        assert_eq!(definition["spec"]["names"]["kind"], kind);
        let version = &definition["spec"]["versions"][0];
        assert_eq!(version["additionalPrinterColumns"].as_array().unwrap().len(), columns);
        // An agent makes and fills its NodeState in one request, which a status subresource would not allow.
        assert_eq!(version.pointer("/subresources/status"), status.as_ref());
        structural(&version["schema"]["openAPIV3Schema"], "");
    }
}

/// The columns lead to fields that there are.
#[test]
fn every_printer_column_has_a_field() {
    for (name, yaml) in portwright_api::crds() {
        let definition: Json = serde_saphyr::from_str(&yaml).unwrap();
        let version = &definition["spec"]["versions"][0];
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            if path == ".metadata.creationTimestamp" {
                continue;
            }
            let mut schema = &version["schema"]["openAPIV3Schema"];
            for part in path.replace(".conditions[?(@.type==\"Ready\")]", ".conditions.[]").split('.').skip(1)
            {
                schema = if part == "[]" { &schema["items"] } else { &schema["properties"][part] };
            }
            assert_eq!(schema["type"], column["type"], "{name} {path}");
        }
    }
}

/// Lists that are there and empty select nothing, as lists that are absent do: every list of a selector counts by its size.
#[test]
fn a_selector_of_empty_lists_is_refused_by_the_server_too() {
    let (_, yaml) = &portwright_api::crds()[0];
    let definition: Json = serde_saphyr::from_str(yaml).unwrap();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for path in [
        "/properties/nics/items/properties/select",
        "/properties/bridges/items/properties/uplinks/items/properties/select",
    ] {
        let select = spec.pointer(path).unwrap();
        let rule = select["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        for field in select["properties"].as_object().unwrap().keys() {
            let counts = format!("(has(self.{field}) && size(self.{field}) > 0)");
            assert!(rule.contains(&counts), "{path}: {field} is not counted in {rule}");
        }
    }
}

/// Rules of structural schemas: every node has one type (or is int-or-string), nothing is closed by
/// `additionalProperties: false`, nothing is a reference or an alternative, formats are known ones, and everything is
/// described.
fn structural(schema: &Json, path: &str) {
    let object = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    for forbidden in ["$ref", "anyOf", "oneOf", "allOf", "format", "uniqueItems", "const", "definitions"] {
        assert!(!object.contains_key(forbidden), "{path} has {forbidden}");
    }
    assert!(object.get("additionalProperties").is_none_or(Json::is_object), "{path} is closed or open");
    let typed = object.get("type").is_some_and(Json::is_string);
    assert!(
        !(object.contains_key("enum") && object.contains_key("nullable")),
        "{path}: the API server refuses null where words are listed, although it is nullable"
    );
    if object.contains_key("x-kubernetes-int-or-string") {
        // The server takes 64 bits, the type has 32: one policy with more could not be read back.
        for bound in ["minimum", "maximum"] {
            let number = object.get(bound).and_then(Json::as_i64);
            assert!(number.is_some_and(|number| i32::try_from(number).is_ok()), "{path} has no {bound}");
        }
    }
    let any = object.contains_key("x-kubernetes-preserve-unknown-fields");
    assert!(typed || any || object.contains_key("x-kubernetes-int-or-string"), "{path} has no type");
    if let Some(fields) = object.get("properties").and_then(Json::as_object) {
        for (name, below) in fields {
            assert!(below.get("description").is_some(), "{path}.{name} is not described");
            structural(below, &format!("{path}.{name}"));
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(below) = object.get(key) {
            structural(below, &format!("{path}{suffix}"));
        }
    }
    if object.get("type").is_some_and(|kind| kind == "array") {
        assert!(
            object.contains_key("maxItems"),
            "{path} is an unbounded list, which makes CEL rules too costly"
        );
    }
}
