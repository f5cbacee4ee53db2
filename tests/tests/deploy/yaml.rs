//! The manifests as values.

use serde_json::Value;

use crate::repository;

/// The objects in the files of a folder below deploy/, with the file's name; kustomize's own are left out.
pub(crate) fn objects(folder: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for name in files(folder) {
        for object in documents(&format!("deploy/{folder}/{name}")) {
            if object["kind"] != "Kustomization" {
                found.push((name.clone(), object));
            }
        }
    }
    found
}

/// Names of the YAML files in a folder below deploy/.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let path = repository().join("deploy").join(folder);
    let names =
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort();
    names
}

/// All documents of a file.
pub(crate) fn documents(path: &str) -> Vec<Value> {
    let text = crate::read(path);
    let parts = text.split("\n---\n");
    parts.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{path}: {error}"))).collect()
}

/// The only object of a kind in a folder.
pub(crate) fn one(folder: &str, kind: &str) -> Value {
    let mut of_kind =
        objects(folder).into_iter().map(|(_, object)| object).filter(|object| object["kind"] == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("{folder}: no {kind}"));
    assert!(of_kind.next().is_none(), "{folder}: two of {kind}");
    found
}

/// The strings of a list.
pub(crate) fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    items
        .iter()
        .map(|item| item.as_str().unwrap_or_else(|| panic!("{item} is no string")).to_owned())
        .collect()
}
