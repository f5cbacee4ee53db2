//! What the injector reads of a pod, and nothing else.
//!
//! The API server sends the pod before validation has run: there may be no containers, arrays may be `null`, and
//! quantities may be numbers. Everything here therefore treats absent and `null` alike and skips fields it does not
//! name without building them, so a pod of several megabytes costs one pass over its bytes.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A pod as admission sees it (`v1.Pod`, before validation).
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, namespace, labels and annotations.
    #[serde(deserialize_with = "nullable")]
    pub metadata: Metadata,
    /// Containers, volumes and placement.
    #[serde(deserialize_with = "nullable")]
    pub spec: Spec,
}

/// The part of `metadata` that matters here.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Empty for pods that are made from a template with `generateName`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The prefix from which the API server will make a name after admission.
    #[serde(deserialize_with = "nullable")]
    pub generate_name: String,
    /// Set by the API server before admission; reviews made by hand may lack it.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// `None` if absent or `null`.
    pub labels: Option<BTreeMap<String, Text>>,
    /// `None` if absent or `null`.
    pub annotations: Option<BTreeMap<String, Text>>,
}

/// The part of `spec` that matters here.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Application containers; `None` elements are `null` in the document.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Option<Container>>,
    /// Init containers; those with `restartPolicy: Always` run beside the application.
    #[serde(deserialize_with = "nullable")]
    pub init_containers: Vec<Option<Container>>,
    /// `None` if absent or `null`: an array must then be made before something can be appended.
    pub volumes: Option<Vec<Option<Named>>>,
    /// `None` if absent or `null`.
    pub node_selector: Option<BTreeMap<String, Text>>,
    /// Explicit dynamic resource allocation claims.
    #[serde(deserialize_with = "nullable")]
    pub resource_claims: Vec<Option<ResourceClaim>>,
    /// Whether the pod uses the node's network, where secondary networks have no meaning.
    #[serde(deserialize_with = "nullable")]
    pub host_network: bool,
}

/// One container of a pod.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// The container's name; may be empty before validation.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `None` if absent or `null`.
    pub resources: Option<Resources>,
    /// Names of environment variables; values are not kept.
    pub env: Option<Vec<Option<Named>>>,
    /// Where volumes are mounted.
    pub volume_mounts: Option<Vec<Option<VolumeMount>>>,
    /// `Always` on an init container makes it a sidecar that runs as long as the pod.
    #[serde(deserialize_with = "nullable")]
    pub restart_policy: String,
}

/// Requests and limits of a container.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `None` if absent or `null`.
    pub requests: Option<BTreeMap<String, Text>>,
    /// `None` if absent or `null`.
    pub limits: Option<BTreeMap<String, Text>>,
}

/// An element of a list of which only the name counts.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default)]
pub struct Named {
    /// The element's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
}

/// One mount of a container.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeMount {
    /// The volume's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Where it appears in the container.
    #[serde(deserialize_with = "nullable")]
    pub mount_path: String,
}

/// One entry of `spec.resourceClaims`.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceClaim {
    /// The pod's own name for the claim.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// An existing claim's name, if given.
    #[serde(deserialize_with = "nullable")]
    pub resource_claim_name: String,
    /// A claim template's name, if given.
    #[serde(deserialize_with = "nullable")]
    pub resource_claim_template_name: String,
}

impl Pod {
    /// Reads a pod from JSON.
    ///
    /// # Errors
    /// The text is not JSON, or a field that is looked at has a type that no pod can have.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of an annotation, if the pod carries it.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(|text| text.0.as_str())
    }

    /// What to call this pod in a log line: its name, or the prefix of the name it will get.
    pub fn display_name(&self) -> &str {
        if self.metadata.name.is_empty() { &self.metadata.generate_name } else { &self.metadata.name }
    }
}

impl Container {
    /// Whether this init container keeps running beside the application.
    pub fn is_restartable(&self) -> bool {
        self.restart_policy == "Always"
    }

    /// What the container asks for of `resource`: `(request, limit)` as written.
    pub fn amounts(&self, resource: &str) -> (Option<&str>, Option<&str>) {
        let Some(resources) = &self.resources else { return (None, None) };
        (
            resources.requests.as_ref().and_then(|map| map.get(resource)).map(|text| text.0.as_str()),
            resources.limits.as_ref().and_then(|map| map.get(resource)).map(|text| text.0.as_str()),
        )
    }
}

/// A string where clients also write numbers or booleans (quantities, label values made by templates).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a number")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Text, E> {
        Ok(Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Text, E> {
        Ok(Text(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Ok(Text::default())
    }
}

/// Reads `null` as the type's default, as Go's decoder does.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
