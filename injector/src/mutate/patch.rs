//! JSON patches (RFC 6902) made of `add` operations, which is all that an injector needs.
//!
//! A patch that does not apply rejects the pod even where the webhook is registered as optional, so a patch is tried on
//! a skeleton of the pod, with a JSON patch implementation other than the one that wrote it, before it is sent.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::pod::{Container, Pod, Text};

/// One `add` operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Add {
    op: &'static str,
    /// JSON pointer (RFC 6901) of what is added or replaced.
    pub path: String,
    /// What is put there.
    pub value: Value,
}

impl Add {
    /// Adds `value` at the pointer made of `tokens`, which are escaped here.
    pub fn at(tokens: &[&str], value: Value) -> Self {
        Self { op: "add", path: pointer(tokens), value }
    }
}

/// Joins tokens into a JSON pointer: `~` becomes `~0`, then `/` becomes `~1`.
pub fn pointer(tokens: &[&str]) -> String {
    let mut path = String::new();
    for token in tokens {
        path.push('/');
        path.push_str(&token.replace('~', "~0").replace('/', "~1"));
    }
    path
}

/// A patch that would not apply to the pod it was made for: a defect of ours, never the user's.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The encoder or decoder refused it.
    #[error("cannot encode the patch")]
    Encode(#[source] serde_json::Error),
    /// An operation's parent does not exist.
    #[error("the patch does not apply to the pod it was made for")]
    Apply(#[source] json_patch::PatchError),
}

/// Encodes the patch and applies the encoded bytes to a skeleton of the pod.
///
/// # Errors
/// The patch does not apply.
pub fn encode_checked(pod: &Pod, patch: &[Add]) -> Result<Vec<u8>, PatchError> {
    let bytes = serde_json::to_vec(patch).map_err(PatchError::Encode)?;
    let parsed: json_patch::Patch = serde_json::from_slice(&bytes).map_err(PatchError::Encode)?;
    json_patch::patch(&mut skeleton(pod), &parsed).map_err(PatchError::Apply)?;
    Ok(bytes)
}

/// The pod reduced to the places a patch may touch; list elements keep only their count.
fn skeleton(pod: &Pod) -> Value {
    let mut metadata = Map::new();
    if let Some(annotations) = &pod.metadata.annotations {
        metadata.insert("annotations".to_owned(), texts(annotations));
    }
    let mut spec = Map::new();
    spec.insert("containers".to_owned(), containers(&pod.spec.containers));
    spec.insert("initContainers".to_owned(), containers(&pod.spec.init_containers));
    if let Some(volumes) = &pod.spec.volumes {
        spec.insert("volumes".to_owned(), vec![Value::Null; volumes.len()].into());
    }
    if let Some(selector) = &pod.spec.node_selector {
        spec.insert("nodeSelector".to_owned(), texts(selector));
    }
    json!({"metadata": metadata, "spec": spec})
}

fn containers(list: &[Option<Container>]) -> Value {
    list.iter().map(|container| container.as_ref().map_or(Value::Null, container_skeleton)).collect()
}

fn container_skeleton(container: &Container) -> Value {
    let mut found = Map::new();
    if let Some(resources) = &container.resources {
        let mut maps = Map::new();
        if let Some(requests) = &resources.requests {
            maps.insert("requests".to_owned(), texts(requests));
        }
        if let Some(limits) = &resources.limits {
            maps.insert("limits".to_owned(), texts(limits));
        }
        found.insert("resources".to_owned(), maps.into());
    }
    if let Some(env) = &container.env {
        found.insert("env".to_owned(), vec![Value::Null; env.len()].into());
    }
    if let Some(mounts) = &container.volume_mounts {
        found.insert("volumeMounts".to_owned(), vec![Value::Null; mounts.len()].into());
    }
    found.into()
}

fn texts(map: &std::collections::BTreeMap<String, Text>) -> Value {
    map.iter().map(|(key, text)| (key.clone(), Value::from(text.0.as_str()))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::pointer;

    #[test]
    fn tokens_of_a_pointer_are_escaped_in_the_right_order() {
        // RFC 6901 §3: were `/` replaced first, `~1` in a key would become a slash.
        assert_eq!(pointer(&["metadata", "annotations", "a/b~c~1"]), "/metadata/annotations/a~1b~0c~01");
    }
}
