//! The one place that knows the YAML library: text in, located trees out. JSON is read by the same parser, being a
//! subset of YAML. Sizes, nesting, node counts and alias expansion are bounded, so that no input takes long or
//! overflows the stack.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, Spanned};

use crate::error::{PolicyError, Position};
use crate::tree::{Key, Node, Value};

/// Deepest nesting of a document. A policy needs ten levels; the rest is for annotations nobody should write.
const MAX_DEPTH: usize = 48;
/// Values in one file.
const MAX_NODES: usize = 100_000;
/// Values that aliases may add.
const MAX_REPLAYED: usize = 100_000;
/// Documents in one file.
const MAX_DOCUMENTS: usize = 1_000;

/// Every document of a file that is not empty.
pub(crate) fn documents(file: &str, text: &str) -> Result<Vec<Node>, Box<PolicyError>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_documents: MAX_DOCUMENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
        },
        // Repeated keys are kept, so that all of them are reported with their places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let read: Result<Vec<Spanned<Raw>>, _> = serde_saphyr::from_multiple_with_options(text, options);
    match read {
        Ok(documents) => {
            Ok(documents.into_iter().map(located).filter(|node| node.value != Value::Null).collect())
        }
        Err(error) => Err(Box::new(refused(file, &error))),
    }
}

fn refused(file: &str, error: &Error) -> PolicyError {
    let position = error
        .location()
        .map(|place| Position { line: place.line(), column: place.column() })
        .filter(|place| place.line > 0);
    let (what, hint) = match budget(error) {
        Some(limit) => {
            (format!("holds {limit}"), "no policy needs that much; check that this is the file you meant")
        }
        None => (
            format!("cannot be read as YAML or JSON: {}", plain(&error.without_snippet().to_string())),
            "check the file's indentation, brackets and quotes near that place",
        ),
    };
    PolicyError { position, ..PolicyError::file(file, what, hint) }
}

/// Which of our limits the file goes over, if that is why it was refused.
fn budget(error: &Error) -> Option<String> {
    if let Error::AliasError { error, .. } = error.without_snippet() {
        return budget(error);
    }
    if let Error::AliasReplayLimitExceeded { .. } = error.without_snippet() {
        return Some(format!("aliases (`*name`) that stand for more than {MAX_REPLAYED} values"));
    }
    let Error::Budget { breach, .. } = error.without_snippet() else { return None };
    let limit = if let BudgetBreach::Depth { .. } = breach {
        format!("more than {MAX_DEPTH} levels of nesting")
    } else if let BudgetBreach::Documents { .. } = breach {
        format!("more than {MAX_DOCUMENTS} documents")
    } else if let BudgetBreach::Nodes { .. } = breach {
        format!("more than {MAX_NODES} values")
    } else {
        "more than the reader's limits allow".to_owned()
    };
    Some(limit)
}

/// The library ends its messages with the place, which we print in front.
fn plain(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    first.split(" at line ").next().unwrap_or(first).trim_end_matches([' ', ',']).to_owned()
}

fn located(spanned: Spanned<Raw>) -> Node {
    let place = spanned.referenced;
    Node { at: Position { line: place.line(), column: place.column() }, value: spanned.value.0 }
}

/// Any value.
struct Raw(Value);

/// Any scalar, as the text of a key.
struct RawKey(String);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match deserializer.deserialize_any(RawVisitor)? {
            Value::Text(text) => text,
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Null => "null".to_owned(),
            Value::List(_) | Value::Map(_) => return Err(de::Error::custom("a key must be plain text")),
        };
        Ok(RawKey(text))
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(i128::try_from(value).map_or(Value::Float(f64::INFINITY), Value::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Raw>>()? {
            items.push(located(item));
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<RawKey>>()? {
            let at = Position { line: key.referenced.line(), column: key.referenced.column() };
            let value = located(access.next_value::<Spanned<Raw>>()?);
            entries.push((Key { at, text: key.value.0 }, value));
        }
        Ok(Value::Map(entries))
    }
}
