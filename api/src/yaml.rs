//! The one place that knows the YAML library: text in, located trees out, and back. JSON is read by the same parser, being a
//! subset of YAML. Sizes, nesting, node counts and alias expansion are bounded, so that no input takes long or
//! overflows the stack.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, NonFiniteFloatPolicy, Spanned};

use crate::error::{PolicyError, Position};
use crate::tree::{Key, Node, Value, at_most};

/// Deepest nesting of a document. A policy needs ten levels, what the API server adds to `metadata` a few
/// more. Each level costs stack.
const MAX_DEPTH: usize = 24;
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
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_documents: MAX_DOCUMENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
        },
        // Repeated keys are kept, so that all of them are reported with their places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // No field takes such a number; the schema says so with the field's path.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
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

/// JSON as YAML text. Data of our own, which is always representable.
pub(crate) fn text(json: &serde_json::Value) -> String {
    serde_saphyr::to_string(json).unwrap_or_default()
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
    let Error::Budget { breach, .. } = error.without_snippet() else {
        // The scanner meets the limit for brackets before the budget does, and says so only in words.
        let scanner = error.without_snippet().to_string().contains("recursion limit exceeded");
        return scanner.then(|| format!("more than {MAX_DEPTH} levels of nesting"));
    };
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
    at_most(first.split(" at line ").next().unwrap_or(first).trim_end_matches([' ', ',']), 200)
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
        // As text whatever it looks like: a label named `n` is not a truth value.
        let text = String::deserialize(deserializer)?;
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
