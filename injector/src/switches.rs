//! Switches that an operator may change while the injector runs: the ConfigMap `nri-control-switches`.
//!
//! The document is network-resources-injector's, so an existing ConfigMap keeps working. It is read strictly: one
//! wrong value spoils the whole document, and a spoiled document changes nothing, because half of an operator's wish
//! is not what the operator wished. Without the ConfigMap the flags hold.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "nri-control-switches";
/// The key in its `data`.
pub const KEY: &str = "config.json";
/// The only place that user-defined injections may write to.
const INJECTION_PATH: &str = "/metadata/annotations";

/// What to do with a resource that a pod already asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Existing {
    /// Leave it alone, whatever the amount.
    Skip,
    /// Raise the pod's total to what its networks need.
    TopUp,
    /// Add what the networks need to what is there, once.
    Add,
}

/// User-defined injections: pod label key → annotations to set.
pub type Injections = BTreeMap<String, BTreeMap<String, String>>;

/// The switches in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switches {
    /// Whether hugepage amounts are written to the downward-API volume.
    pub hugepages: bool,
    /// What to do with resources that are already there.
    pub existing: Existing,
    /// Annotations to set on pods that carry a label with the value `true`.
    pub injections: Injections,
}

/// Why a document is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchesError {
    /// Not JSON, or JSON whose outer shape is wrong.
    #[error("{KEY} is not the expected JSON: {0}")]
    Json(String),
    /// A feature that is not `true` or `false`.
    #[error("features.{0} must be true or false")]
    Feature(String),
    /// An injection that cannot be applied.
    #[error("user-defined-injections.{label}: {problem}")]
    Injection {
        /// The label key that would trigger it.
        label: String,
        /// What is wrong.
        problem: &'static str,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    features: Option<Map<String, Value>>,
    #[serde(default, rename = "user-defined-injections")]
    injections: Option<Map<String, Value>>,
}

impl Switches {
    /// The switches that `document` makes of the flags' values; unknown features are returned by name.
    ///
    /// # Errors
    /// Anything in the document that cannot be understood.
    pub fn read(flags: &Self, document: &str) -> Result<(Self, Vec<String>), SwitchesError> {
        let wrong = |error: serde_json::Error| SwitchesError::Json(error.to_string());
        // A derived reader would also take a list of values for the document, so insist on an object first.
        let document: Map<String, Value> = serde_json::from_str(document).map_err(wrong)?;
        let document: Document = serde_json::from_value(document.into()).map_err(wrong)?;
        let mut switches = flags.clone();
        let mut unknown = Vec::new();
        for (name, value) in document.features.unwrap_or_default() {
            let Some(on) = value.as_bool() else { return Err(SwitchesError::Feature(name)) };
            match (name.as_str(), on) {
                ("enableHugePageDownApi", _) => switches.hugepages = on,
                ("enableHonorExistingResources", true) => switches.existing = Existing::Add,
                // Off means "not add"; a flag that asks for topping up is not touched by that.
                ("enableHonorExistingResources", false) if flags.existing == Existing::Add => {
                    switches.existing = Existing::Skip;
                }
                ("enableHonorExistingResources", false) => {}
                _ => unknown.push(name),
            }
        }
        for (label, value) in document.injections.unwrap_or_default() {
            let annotations = injection(&value)
                .map_err(|problem| SwitchesError::Injection { label: label.clone(), problem })?;
            switches.injections.insert(label, annotations);
        }
        Ok((switches, unknown))
    }
}

fn injection(value: &Value) -> Result<BTreeMap<String, String>, &'static str> {
    if value.get("op").and_then(Value::as_str) != Some("add") {
        return Err("\"op\" must be \"add\"");
    }
    if value.get("path").and_then(Value::as_str) != Some(INJECTION_PATH) {
        return Err("\"path\" must be \"/metadata/annotations\"");
    }
    let annotations = value.get("value").and_then(Value::as_object).ok_or("\"value\" must be an object")?;
    let mut found = BTreeMap::new();
    for (key, value) in annotations {
        let text = value.as_str().ok_or("\"value\" must have strings as its values")?;
        found.insert(key.clone(), text.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Existing, Injections, Switches, SwitchesError};

    fn flags() -> Switches {
        Switches { hugepages: true, existing: Existing::Skip, injections: Injections::new() }
    }

    #[test]
    fn named_features_override_flags_and_others_follow_them() -> Result<(), SwitchesError> {
        let (switches, unknown) =
            Switches::read(&flags(), r#"{"features":{"enableHonorExistingResources":true,"old":false}}"#)?;
        assert!(switches.hugepages);
        assert_eq!(switches.existing, Existing::Add);
        assert_eq!(unknown, ["old"]);
        let (switches, _) = Switches::read(&flags(), r#"{"features":{"enableHugePageDownApi":false}}"#)?;
        assert!(!switches.hugepages);
        assert_eq!(Switches::read(&flags(), "{}")?.0, flags());
        Ok(())
    }

    #[test]
    fn one_wrong_value_spoils_the_document() {
        let cases = [
            "",
            "[]",
            r#"{"features":[]}"#,
            r#"{"features":{"enableHugePageDownApi":"true"}}"#,
            r#"{"user-defined-injections":{"a":{"op":"remove","path":"/metadata/annotations","value":{}}}}"#,
            r#"{"user-defined-injections":{"a":{"op":"add","path":"/spec","value":{}}}}"#,
            r#"{"user-defined-injections":{"a":{"op":"add","path":"/metadata/annotations","value":{"k":1}}}}"#,
            r#"{"user-defined-injections":{"a":null}}"#,
        ];
        for case in cases {
            assert!(Switches::read(&flags(), case).is_err(), "{case}");
        }
    }
}
