//! Atoms and data on the wire (RFC 7047 §5.1): `["uuid", …]`, `["set", […]]`, `["map", [[k, v], …]]`, or a bare scalar.
//! Reading goes straight from the bytes into our types; no intermediate tree is built, because an initial snapshot
//! is a megabyte and more.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, SerializeTuple, Serializer};

use super::{Atom, Datum, Uuid};

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Boolean(flag) => serializer.serialize_bool(*flag),
            Self::String(text) => serializer.serialize_str(text),
            Self::Uuid(uuid) => tagged(serializer, "uuid", &uuid.to_string()),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(elements) => match elements.as_ref() {
                [only] => only.serialize(serializer),
                elements => tagged(serializer, "set", &elements),
            },
            Self::Map(pairs) => tagged(serializer, "map", &Pairs(pairs)),
        }
    }
}

struct Pairs<'a>(&'a [(Atom, Atom)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for pair in self.0 {
            seq.serialize_element(pair)?;
        }
        seq.end()
    }
}

fn tagged<S: Serializer, T: Serialize>(
    serializer: S,
    tag: &'static str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(2)?;
    tuple.serialize_element(tag)?;
    tuple.serialize_element(value)?;
    tuple.end()
}

/// A string that borrows from the message when it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! visit_scalars {
    ($wrap:expr) => {
        fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Boolean(flag)))
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Integer(number)))
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            i64::try_from(number)
                .map(|number| $wrap(Atom::Integer(number)))
                .map_err(|_| E::custom(format_args!("{number} does not fit a signed 64-bit integer")))
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Real(number)))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok($wrap(Atom::String(text.into())))
        }
    };
}

struct AtomVisitor;

impl<'de> Visitor<'de> for AtomVisitor {
    type Value = Atom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an atom: a string, a number, a boolean or [\"uuid\", …]")
    }

    visit_scalars!(std::convert::identity);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Atom, A::Error> {
        let Text(tag) = element(&mut seq, "a tag")?;
        if tag != "uuid" {
            return Err(de::Error::custom(format_args!("{tag:?} is not the tag of an atom")));
        }
        let uuid: Uuid = element(&mut seq, "a UUID")?;
        end(&mut seq)?;
        Ok(Atom::Uuid(uuid))
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AtomVisitor)
    }
}

struct DatumVisitor;

impl<'de> Visitor<'de> for DatumVisitor {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an atom, [\"set\", […]] or [\"map\", […]]")
    }

    visit_scalars!(Datum::from);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Datum, A::Error> {
        let Text(tag) = element(&mut seq, "a tag")?;
        let datum = match tag.as_ref() {
            "uuid" => Datum::from(element::<_, Uuid>(&mut seq, "a UUID")?),
            "set" => {
                let mut elements: Vec<Atom> = element(&mut seq, "the elements of a set")?;
                elements.sort_unstable();
                if elements.windows(2).any(|two| matches!(two, [a, b] if a == b)) {
                    return Err(de::Error::custom("a set holds an element twice"));
                }
                Datum::Set(elements.into_boxed_slice())
            }
            "map" => {
                let mut pairs: Vec<(Atom, Atom)> = element(&mut seq, "the pairs of a map")?;
                pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                if pairs.windows(2).any(|two| matches!(two, [(a, _), (b, _)] if a == b)) {
                    return Err(de::Error::custom("a map holds a key twice"));
                }
                Datum::Map(pairs.into_boxed_slice())
            }
            other => return Err(de::Error::custom(format_args!("{other:?} is not the tag of a value"))),
        };
        end(&mut seq)?;
        Ok(datum)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DatumVisitor)
    }
}

fn element<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A, what: &str) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom(format_args!("{what} is missing")))
}

fn end<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    match seq.next_element::<de::IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::custom("a tagged value has more than two elements")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_shape_and_writes_it_back() {
        let uuid = "\"8206b002-af40-4ad9-aef3-cb451e15921b\"";
        let cases = [
            ("7".to_owned(), Datum::from(7)),
            ("\"a\\\"b\"".to_owned(), Datum::from("a\"b")),
            ("true".to_owned(), Datum::from(true)),
            ("[\"set\",[]]".to_owned(), Datum::empty_set()),
            ("[\"map\",[]]".to_owned(), Datum::empty_map()),
            ("[\"set\",[1,2]]".to_owned(), Datum::set([2, 1])),
            ("[\"map\",[[\"a\",\"1\"],[\"b\",\"2\"]]]".to_owned(), Datum::map([("b", "2"), ("a", "1")])),
            (format!("[\"uuid\",{uuid}]"), Datum::from(serde_json::from_str::<Uuid>(uuid).unwrap())),
        ];
        for (text, datum) in cases {
            assert_eq!(serde_json::from_str::<Datum>(&text).unwrap(), datum, "{text}");
            assert_eq!(serde_json::to_string(&datum).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Datum>("[\"set\",[3]]").unwrap(), Datum::from(3));
        assert_eq!(serde_json::from_str::<Datum>("1.5").unwrap(), Datum::Set(Box::new([Atom::Real(1.5)])));
    }

    #[test]
    fn refuses_what_the_protocol_does_not_know() {
        for text in [
            "null",
            "{}",
            "[]",
            "[\"set\"]",
            "[\"set\",1]",
            "[\"set\",[1,1]]",
            "[\"set\",[[\"set\",[]]]]",
            "[\"map\",[[1]]]",
            "[\"map\",[[1,2],[1,3]]]",
            "[\"named-uuid\",\"a\"]",
            "[\"uuid\",\"a\"]",
            "[\"uuid\",1]",
            "[\"set\",[],1]",
            "18446744073709551615",
            "1e999",
        ] {
            assert!(serde_json::from_str::<Datum>(text).is_err(), "{text}");
        }
    }
}
