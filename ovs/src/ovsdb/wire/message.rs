//! The four kinds of JSON-RPC 1.0 messages that a server sends. The envelope is read once; what is inside stays a
//! slice of the received bytes until somebody who knows its type reads it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One message from the server.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// An answer to one of our requests; no result and a null result are the same.
    Reply { id: u64, result: Result<Option<&'a RawValue>, RpcError> },
    /// A request that wants an answer; `id` is sent back as it came.
    Request { id: &'a RawValue, method: Cow<'a, str>, params: &'a RawValue },
    /// A request without an id: nothing is answered.
    Notification { method: Cow<'a, str>, params: &'a RawValue },
}

/// The `error` member of an answer. Servers send a text (unknown method), an object with `error` and `details`, and
/// may send anything else; all become a tag and details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) tag: String,
    pub(crate) details: String,
}

/// Why a whole JSON object is not a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not valid JSON, or a member has the wrong type.
    #[error("a message is not valid JSON-RPC")]
    Json {
        /// Where and what.
        #[source]
        source: serde_json::Error,
    },
    /// It is neither a request nor an answer.
    #[error("a message is neither a request nor an answer: {start}")]
    Shapeless {
        /// Its first characters.
        start: String,
    },
    /// It answers something with an id that cannot be ours.
    #[error("an answer has the id {id}, which is not one of ours")]
    ForeignId {
        /// The id as sent.
        id: String,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Name<'a>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Incoming<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let envelope: Envelope<'a> =
            serde_json::from_slice(bytes).map_err(|source| MessageError::Json { source })?;
        let Envelope { id, method, params, result, error } = envelope;
        match (method, id) {
            (Some(Name(method)), Some(id)) => {
                Ok(Self::Request { id, method, params: params.unwrap_or(RawValue::NULL) })
            }
            (Some(Name(method)), None) => {
                Ok(Self::Notification { method, params: params.unwrap_or(RawValue::NULL) })
            }
            (None, Some(id)) => {
                let number =
                    id.get().parse().map_err(|_| MessageError::ForeignId { id: shorten(id.get()) })?;
                let result = match error {
                    Some(error) => Err(RpcError::from_raw(error)),
                    None => Ok(result),
                };
                Ok(Self::Reply { id: number, result })
            }
            (None, None) => Err(MessageError::Shapeless { start: shorten(&String::from_utf8_lossy(bytes)) }),
        }
    }
}

impl RpcError {
    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        #[derive(Deserialize)]
        struct Object {
            error: String,
            #[serde(default)]
            details: Option<String>,
            #[serde(default)]
            syntax: Option<String>,
        }
        if let Ok(object) = serde_json::from_str::<Object>(raw.get()) {
            let mut details = object.details.unwrap_or_default();
            if let Some(syntax) = object.syntax {
                details = format!("{details} (in {})", shorten(&syntax));
            }
            return Self { tag: shorten(&object.error), details };
        }
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => Self { tag: shorten(&text), details: String::new() },
            Err(_) => Self { tag: "unknown error".to_owned(), details: shorten(raw.get()) },
        }
    }
}

/// At most 200 characters, for texts that come from the other side and go into an error.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_shape_become_a_tag_and_details() {
        for (json, tag, details) in [
            ("\"unknown method\"", "unknown method", ""),
            ("{\"error\":\"unknown database\",\"details\":\"no X\"}", "unknown database", "no X"),
            ("{\"error\":\"e\",\"details\":\"d\",\"syntax\":\"[1]\"}", "e", "d (in [1])"),
            ("{\"error\":\"e\",\"details\":null}", "e", ""),
            ("{\"code\":-1}", "unknown error", "{\"code\":-1}"),
            ("17", "unknown error", "17"),
            ("[]", "unknown error", "[]"),
            ("{}", "unknown error", "{}"),
        ] {
            let text = format!("{{\"id\":1,\"error\":{json}}}");
            let Incoming::Reply { id: 1, result: Err(error) } = Incoming::parse(text.as_bytes()).unwrap()
            else {
                unreachable!("{text}");
            };
            assert_eq!((error.tag.as_str(), error.details.as_str()), (tag, details), "{text}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let parse = |text: &'static str| Incoming::parse(text.as_bytes());
        assert!(matches!(
            parse("{\"id\":3,\"result\":null,\"error\":null}"),
            Ok(Incoming::Reply { id: 3, result: Ok(_) })
        ));
        assert!(matches!(
            parse("{\"id\":\"echo\",\"method\":\"echo\",\"params\":[]}"),
            Ok(Incoming::Request { .. })
        ));
        assert!(matches!(
            parse("{\"id\":null,\"method\":\"update3\",\"params\":[]}"),
            Ok(Incoming::Notification { .. })
        ));
        assert!(matches!(parse("{\"id\":\"x\",\"result\":1}"), Err(MessageError::ForeignId { .. })));
        assert!(matches!(parse("{\"id\":-1,\"result\":1}"), Err(MessageError::ForeignId { .. })));
        assert!(matches!(parse("{}"), Err(MessageError::Shapeless { .. })));
        assert!(matches!(parse("{]"), Err(MessageError::Json { .. })));
        assert!(matches!(parse("{\"id\":1,\"id\":2}"), Err(MessageError::Json { .. })));
        assert!(matches!(parse("{\"method\":5}"), Err(MessageError::Json { .. })));
    }
}
