//! Compares a document with the schema that the API server enforces: unknown fields, wrong types, missing fields,
//! unknown words, numbers out of bounds, keys written twice. All findings are collected, each with its place.
//!
//! The schema comes from the types, so there is one definition of what a policy may hold. What a schema cannot say is
//! in [`crate::check`].

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::error::{FieldError, Position};
use crate::tree::{Key, Node, Value, shortened};

/// An error and where it stands.
pub(crate) type Finding = (Position, FieldError);

/// Everything that the schema refuses in a value at `path`.
pub(crate) fn compare(schema: &Json, node: &Node, path: &str) -> Vec<Finding> {
    let mut walk = Walk { findings: Vec::new() };
    walk.value(schema, node, path);
    walk.findings
}

/// Findings of one document are capped: a file of another kind would repeat itself thousands of times.
const MOST_FINDINGS: usize = 50;

struct Walk {
    findings: Vec<Finding>,
}

impl Walk {
    fn add(&mut self, at: Position, error: FieldError) {
        match self.findings.len().cmp(&MOST_FINDINGS) {
            Ordering::Less => self.findings.push((at, error)),
            Ordering::Equal => {
                let rest = "holds more mistakes than are shown here";
                self.findings.push((
                    at,
                    FieldError::new(error.path, rest).hint("repair the first ones and try again"),
                ));
            }
            Ordering::Greater => {}
        }
    }

    fn value(&mut self, schema: &Json, node: &Node, path: &str) {
        let Some(schema) = schema.as_object() else { return };
        if node.value == Value::Null {
            if schema.get("nullable") != Some(&Json::Bool(true)) {
                let error = FieldError::new(path, format!("has no value; expected {}", wanted(schema)));
                self.add(node.at, error.hint("write a value, or remove the line"));
            }
            return;
        }
        match (wanted(schema), &node.value) {
            (Wanted::Fields, Value::Map(entries)) => self.fields(schema, entries, node.at, path),
            (Wanted::Keys, Value::Map(entries)) => self.keys(schema, entries, path),
            (Wanted::List, Value::List(items)) => self.list(schema, items, node.at, path),
            (Wanted::Text, Value::Text(text)) => self.word(schema, text, node.at, path),
            (Wanted::Number, Value::Int(number)) => self.bounds(schema, *number, node.at, path),
            // Nearer bounds are checked where it is known what the number means.
            (Wanted::NumberOrText, Value::Int(number)) if i32::try_from(*number).is_err() => {
                self.bounds(schema, *number, node.at, path);
            }
            (Wanted::Truth, Value::Bool(_))
            | (Wanted::NumberOrText, Value::Int(_) | Value::Text(_))
            | (Wanted::Anything, _) => {}
            (wanted, _) => self.add(node.at, wrong_type(wanted, node, path)),
        }
    }

    fn fields(&mut self, schema: &Map<String, Json>, entries: &[(Key, Node)], at: Position, path: &str) {
        let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
        self.repeated(entries, |name| below(path, name));
        for (key, node) in entries {
            match properties.get(&key.text) {
                Some(schema) => self.value(schema, node, &below(path, &key.text)),
                None => self.add(key.at, unknown(&key.text, properties, path)),
            }
        }
        let required = schema.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for name in required.iter().filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _)| key.text == name) {
                self.add(at, FieldError::new(below(path, name), "is missing; it has no default"));
            }
        }
    }

    fn keys(&mut self, schema: &Map<String, Json>, entries: &[(Key, Node)], path: &str) {
        let inside = |name: &str| format!("{path}[{}]", shortened(name));
        self.repeated(entries, inside);
        if let Some(schema) = schema.get("additionalProperties") {
            for (key, node) in entries {
                self.value(schema, node, &inside(&key.text));
            }
        }
    }

    fn repeated(&mut self, entries: &[(Key, Node)], path: impl Fn(&str) -> String) {
        let mut seen = BTreeSet::new();
        for (key, _) in entries {
            if !seen.insert(&key.text) {
                let error = FieldError::new(path(&key.text), "is written twice");
                self.add(key.at, error.hint("only one of them can count; remove the other"));
            }
        }
    }

    fn list(&mut self, schema: &Map<String, Json>, items: &[Node], at: Position, path: &str) {
        let most = schema.get("maxItems").and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        if let Some(most) = most.filter(|most| items.len() > *most) {
            let what = format!("holds {} entries; at most {most} are allowed", items.len());
            self.add(at, FieldError::new(path, what));
        }
        if let Some(schema) = schema.get("items") {
            for (index, node) in items.iter().enumerate() {
                self.value(schema, node, &format!("{path}[{index}]"));
            }
        }
    }

    fn word(&mut self, schema: &Map<String, Json>, text: &str, at: Position, path: &str) {
        let Some(words) = schema.get("enum").and_then(Json::as_array) else { return };
        let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
        if words.contains(&text) {
            return;
        }
        let error =
            FieldError::new(path, format!("`{}` is not one of {}", shortened(text), words.join(", ")));
        let error = match closest(text, words.iter().copied()) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => error,
        };
        self.add(at, error);
    }

    fn bounds(&mut self, schema: &Map<String, Json>, number: i128, at: Position, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Json::as_i64).map(i128::from);
        let what = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) if number < least || number > most => {
                format!("{number} is not between {least} and {most}")
            }
            (Some(least), None) if number < least => format!("{number} is below {least}"),
            (None, Some(most)) if number > most => format!("{number} is above {most}"),
            (Some(_) | None, Some(_) | None) => return,
        };
        self.add(at, FieldError::new(path, what));
    }
}

/// What a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Fields,
    Keys,
    List,
    Text,
    Number,
    NumberOrText,
    Truth,
    Anything,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wanted::Fields | Wanted::Keys => "an object",
            Wanted::List => "a list",
            Wanted::Text => "text",
            Wanted::Number => "a whole number",
            Wanted::NumberOrText => "a whole number or text",
            Wanted::Truth => "true or false",
            Wanted::Anything => "a value",
        })
    }
}

fn wanted(schema: &Map<String, Json>) -> Wanted {
    if schema.contains_key("x-kubernetes-int-or-string") {
        return Wanted::NumberOrText;
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") if schema.contains_key("properties") => Wanted::Fields,
        Some("object") => Wanted::Keys,
        Some("array") => Wanted::List,
        Some("string") => Wanted::Text,
        Some("integer") => Wanted::Number,
        Some("boolean") => Wanted::Truth,
        Some(_) | None => Wanted::Anything,
    }
}

fn wrong_type(wanted: Wanted, node: &Node, path: &str) -> FieldError {
    let error = FieldError::new(path, format!("expected {wanted}, found {}", node.describe()));
    match (wanted, &node.value) {
        (Wanted::Text, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            error.hint("without quotes YAML takes it for something else; put it in quotes")
        }
        (Wanted::Number, Value::Text(text)) if text.parse::<i64>().is_ok() => error.hint("remove the quotes"),
        (Wanted::Truth, Value::Text(text)) if text == "true" || text == "false" => {
            error.hint("remove the quotes")
        }
        (Wanted::List, Value::Text(_) | Value::Int(_) | Value::Map(_)) => {
            error.hint("a list is written `[a, b]`, or with one `- ` line for each entry")
        }
        _ => error,
    }
}

fn unknown(name: &str, properties: &Map<String, Json>, path: &str) -> FieldError {
    let error = FieldError::new(below(path, &shortened(name)), "is not a field that exists here");
    let known = properties.keys().map(String::as_str);
    match closest(name, known.clone()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint(format!("fields here: {}", known.collect::<Vec<_>>().join(", "))),
    }
}

/// The path of a field.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The known word that somebody who wrote `name` probably meant.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(40).collect::<String>().to_ascii_lowercase().replace(['_', '-'], "");
    known
        .map(|word| (distance(&name, &word.to_ascii_lowercase().replace('-', "")), word))
        .filter(|(distance, word)| *distance <= 2 && *distance < word.chars().count())
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            let change = diagonal.saturating_add(usize::from(from != *to));
            diagonal = *above;
            left = change.min(above.saturating_add(1)).min(left.saturating_add(1));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
