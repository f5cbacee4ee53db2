//! A document as it was written: every value with the place it stands at. Errors found later, in the typed policy, are
//! looked up here by their field path and so get a line and column too.

use serde_json::Value as Json;

use crate::error::Position;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where it starts.
    pub(crate) at: Position,
    /// What it is.
    pub(crate) value: Value,
}

/// A value of a YAML or JSON document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object; keys stand in the order of the file and may repeat, which is an error found later.
    Map(Vec<(Key, Node)>),
}

/// A key of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Where it starts.
    pub(crate) at: Position,
    /// Its text.
    pub(crate) text: String,
}

impl Node {
    /// The value under a key of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => None,
        }
    }

    /// The text, if it is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// The value with an article, for "expected a number, found …".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the truth value {value}"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) if value.is_finite() && value.abs() < 1e15 => format!("the number {value}"),
            Value::Float(_) => "a number out of all bounds".to_owned(),
            Value::Text(text) => format!("the text `{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        }
    }

    /// The same data without places. Numbers that JSON cannot hold become null, which the schema has refused before.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => i64::try_from(*value)
                .map(Json::from)
                .or_else(|_| u64::try_from(*value).map(Json::from))
                .unwrap_or(Json::Null),
            Value::Float(value) => Json::from(*value),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
            }
        }
    }

    /// A tree without places, from JSON that did not come from a file.
    pub(crate) fn from_json(json: &Json) -> Node {
        let at = Position { line: 0, column: 0 };
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i128() {
                Some(value) => Value::Int(value),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Node::from_json).collect()),
            Json::Object(entries) => Value::Map(
                entries.iter().map(|(key, v)| (Key { at, text: key.clone() }, Node::from_json(v))).collect(),
            ),
        };
        Node { at, value }
    }

    /// Where a field stands. If the field itself is absent, the nearest thing around it that is there.
    pub(crate) fn position_of(&self, path: &str) -> Position {
        let mut node = self;
        let mut at = self.at;
        for segment in segments(path) {
            let next = match &node.value {
                Value::Map(entries) => {
                    entries.iter().find(|(key, _)| key.text == segment).map(|(key, node)| (key.at, node))
                }
                Value::List(items) => {
                    segment.parse().ok().and_then(|index: usize| items.get(index)).map(|node| (node.at, node))
                }
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => None,
            };
            let Some((found, below)) = next else { break };
            at = found;
            node = below;
        }
        at
    }
}

/// `spec.nics[0].vfs` in parts; what stands in brackets may hold dots.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let (segment, after) = inside.split_once(']').unwrap_or((inside, ""));
            rest = after;
            return Some(segment);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (segment, after) = rest.split_at(end);
        rest = after;
        Some(segment)
    })
}

/// Text of a bounded length, to quote from a file that may hold megabytes.
pub(crate) fn shortened(text: &str) -> String {
    at_most(text, 60)
}

/// At most so many characters of a text.
pub(crate) fn at_most(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
