//! One NodePolicy of the API server: for this node or not, and what it says or what is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use portwright_api::policy::{NodePolicy, NodeSelector};
use portwright_api::{FieldError, check_selector, convert, policy_from_json};
use portwright_core::desired::{DisruptionPolicy, Document};
use serde_json::Value as Json;

use super::census::{Counted, counted};
use super::selector::selects;
use crate::daemon::wish::{MaxUnavailable, Policy};

/// A policy and the nodes that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// As the loop gets it.
    pub policy: Policy,
    /// Nodes; none selects all.
    pub selector: Option<NodeSelector>,
    /// What matters for its status.
    pub counted: Counted,
    /// When it was made.
    pub created: Option<Timestamp>,
}

impl Followed {
    /// Reads an object. A policy whose selector cannot be read, or can match no node, is for every node: nothing of it is
    /// applied, somebody has to say what is wrong, and where it was followed the last good version holds.
    pub fn read(object: DynamicObject) -> Followed {
        let (uid, generation) = (object.metadata.uid.clone(), object.metadata.generation);
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let matched = object.data.pointer("/status/matchedNodes").and_then(Json::as_u64);
        let counted = counted(
            uid.as_deref(),
            generation,
            object.metadata.resource_version.as_deref(),
            object.data.get("status"),
        );
        let json = document(object);
        let text: Arc<str> = json.to_string().into();
        let typed = policy_from_json(&json);
        let selector = match &typed {
            Ok(policy) => policy.spec.node_selector.clone(),
            Err(_) => json
                .pointer("/spec/nodeSelector")
                .and_then(|selector| serde_json::from_value(selector.clone()).ok()),
        };
        let selector = selector.filter(|selector| check_selector(selector).is_empty());
        let (max_unavailable, cordon) = typed.as_ref().map_or_else(
            |_| (MaxUnavailable::default(), false),
            |policy| (max_unavailable(policy, matched), policy.spec.cordon),
        );
        let read = typed
            .and_then(|policy| convert(&policy))
            .map(Arc::new)
            .map_err(|mistakes| mistakes.iter().map(line).collect::<Vec<_>>().join("\n"));
        Followed {
            policy: Policy { uid, generation, read, text, max_unavailable, cordon },
            selector,
            counted,
            created,
        }
    }

    /// Whether it is for a node with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        selects(self.selector.as_ref(), labels)
    }

    /// Whether the pods of the node matter to it. They may if it cannot be read: an older version of it may be in force.
    pub fn needs_pods(&self) -> bool {
        self.policy.read.as_deref().map_or(true, needs_pods)
    }
}

fn needs_pods(document: &Document) -> bool {
    document.disruption == DisruptionPolicy::Evict
        || document.ovs.mirrors.iter().any(|mirror| mirror.pods.is_some())
}

/// The document as an operator would write it: without what the API server adds.
fn document(object: DynamicObject) -> Json {
    let DynamicObject { types, metadata, data } = object;
    let mut json = data;
    let Some(map) = json.as_object_mut() else { return Json::Null };
    map.remove("status");
    // Lists leave the type of their items out.
    let (version, kind) = types.map_or((None, None), |types| (Some(types.api_version), Some(types.kind)));
    let ours = || portwright_api::policy::API_VERSION.to_owned();
    map.insert(
        "apiVersion".to_owned(),
        version.filter(|version| !version.is_empty()).unwrap_or_else(ours).into(),
    );
    let ours = || portwright_api::policy::KIND.to_owned();
    map.insert("kind".to_owned(), kind.filter(|kind| !kind.is_empty()).unwrap_or_else(ours).into());
    map.insert("metadata".to_owned(), serde_json::json!({"name": metadata.name}));
    json
}

fn line(mistake: &FieldError) -> String {
    let FieldError { path, what, hint } = mistake;
    let hint = hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    if path.is_empty() { format!("{what}{hint}") } else { format!("{path}: {what}{hint}") }
}

/// `spec.maxUnavailable`; what it cannot be has been refused.
fn max_unavailable(policy: &NodePolicy, matched: Option<u64>) -> MaxUnavailable {
    match &policy.spec.max_unavailable {
        None => MaxUnavailable::default(),
        Some(IntOrString::Int(nodes)) => MaxUnavailable::Nodes(u32::try_from(*nodes).unwrap_or(1).max(1)),
        Some(IntOrString::String(text)) => match text.strip_suffix('%').map(str::parse) {
            Some(Ok(percent)) => MaxUnavailable::Percent {
                percent,
                of: matched.map(|nodes| u32::try_from(nodes).unwrap_or(u32::MAX)),
            },
            Some(Err(_)) | None => MaxUnavailable::default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::Followed;
    use crate::daemon::wish::MaxUnavailable;

    fn read(spec: Value) -> Followed {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "portwright.dev/v1alpha1", "kind": "NodePolicy",
            "metadata": {"name": "p", "uid": "u", "generation": 3, "resourceVersion": "9", "managedFields": []},
            "spec": spec, "status": {"matchedNodes": 40, "newer": true},
        }))
        .unwrap();
        Followed::read(object)
    }

    #[test]
    fn all_mistakes_are_told_and_the_selector_still_counts() {
        let followed = read(json!({
            "nodeSelector": {"matchLabels": {"zone": "a"}}, "modes": "Plan", "priority": "high",
        }));
        let why = followed.policy.read.as_ref().unwrap_err();
        assert!(why.contains("spec.modes") && why.contains("spec.priority"), "{why}");
        assert_eq!(why.lines().count(), 2, "{why}");
        assert!(!followed.selects(&BTreeMap::new()));
        assert!(followed.selects(&BTreeMap::from([("zone".to_owned(), "a".to_owned())])));
        assert_eq!((followed.policy.uid.as_deref(), followed.policy.generation), (Some("u"), Some(3)));
    }

    #[test]
    fn an_unreadable_selector_is_everybodys_business() {
        let followed = read(json!({"nodeSelector": ["zone"]}));
        assert!(followed.policy.read.is_err() && followed.selects(&BTreeMap::new()));
    }

    #[test]
    fn a_selector_that_no_node_can_match_is_everybodys_business() {
        let expression =
            |operator: &str, values: Value| json!({"key": "zone", "operator": operator, "values": values});
        for selector in [
            json!({"matchLabels": {"bad key": "a"}}),
            json!({"matchLabels": {"zone": "no value!"}}),
            json!({"matchExpressions": [expression("In", json!([]))]}),
            json!({"matchExpressions": [expression("In", json!(["a"])), expression("NotIn", json!(["a"]))]}),
        ] {
            for spec in
                [json!({"nodeSelector": selector}), json!({"nodeSelector": selector, "priority": "high"})]
            {
                let followed = read(spec.clone());
                assert!(followed.selects(&BTreeMap::new()), "{spec}");
                assert!(followed.policy.read.is_err(), "{spec}");
            }
        }
    }

    #[test]
    fn limits_of_nodes() {
        let limit = |value: Value| read(json!({"maxUnavailable": value})).policy.max_unavailable;
        assert_eq!(limit(json!(3)), MaxUnavailable::Nodes(3));
        assert_eq!(limit(json!("10%")), MaxUnavailable::Percent { percent: 10, of: Some(40) });
        assert_eq!(limit(json!("10%")).nodes(), 4);
        assert_eq!(read(json!({})).policy.max_unavailable, MaxUnavailable::Nodes(1));
    }

    #[test]
    fn pods_are_needed_for_evictions_mirrors_by_pods_and_what_cannot_be_read() {
        let mirror = |select: Value| json!({"mirrors": [{"name": "m", "bridge": "br", "select": select, "output": {"port": "mon"}}]});
        for (spec, expected) in [
            (json!({}), false),
            (json!({"disruption": "Force"}), false),
            (json!({"disruption": "Evict"}), true),
            (mirror(json!({"all": true})), false),
            (mirror(json!({"pods": {"namespace": "web", "matchLabels": {"app": "x"}}})), true),
            (json!({"wrong": 1}), true),
        ] {
            assert_eq!(read(spec.clone()).needs_pods(), expected, "{spec}");
        }
    }

    #[test]
    fn what_the_server_adds_is_not_in_the_text_that_is_kept() {
        let text = read(json!({"priority": 3})).policy.text;
        assert!(!text.contains("status") && !text.contains("managedFields"), "{text}");
        let kept = portwright_api::load([("kept", &*text)]).unwrap();
        assert_eq!(kept.first().map(|document| document.priority), Some(3));
    }
}
