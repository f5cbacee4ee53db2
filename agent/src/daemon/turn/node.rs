//! What stands on the own Node: whether it is cordoned and by whom, and the handshake with an external drainer. Only reading
//! and the making of patches; the requests are in [`super::calls`].

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::Request;
use super::pool::mark;

/// On a Node that we have cordoned: the policies for which, joined by commas. Without it a cordon is somebody else's.
pub const CORDONED: &str = "portwright.dev/cordoned";

/// Set by the administrator: who drains this node in our place.
pub const DRAINER: &str = "portwright.dev/drainer";

/// Set by us for the drainer: a [`Disruption`] as JSON.
pub const REQUESTED: &str = "portwright.dev/disruption-requested";

/// Set by the drainer: the id of the request that it grants.
pub const GRANTED: &str = "portwright.dev/disruption-granted";

/// What is asked of an external drainer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// Names this request; another one for each.
    pub id: String,
    /// The pods that hold what will be taken away, as `namespace/name`.
    pub pods: BTreeSet<String>,
    /// The policies that want it.
    pub policies: BTreeSet<String>,
}

/// The own Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NodeView {
    /// `metadata.uid`.
    pub(super) uid: String,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// `spec.unschedulable`.
    pub(super) unschedulable: bool,
    /// Our mark of a cordon.
    pub(super) cordoned: Option<String>,
    /// Who drains, if not we.
    pub(super) drainer: Option<String>,
    /// What was asked; `Err` is a text that is none of ours.
    pub(super) requested: Option<Result<Disruption, String>>,
    /// What was granted.
    pub(super) granted: Option<String>,
}

/// How far the handshake has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handshake {
    /// This is to be written.
    Ask(Disruption),
    /// It stands there and is not granted yet.
    Wait,
    /// It is granted.
    Granted,
}

impl NodeView {
    /// Reads a Node.
    pub(super) fn read(node: &DynamicObject) -> NodeView {
        let text = |key: &str| {
            let text = node.metadata.annotations.as_ref()?.get(key)?;
            (!text.is_empty()).then(|| text.clone())
        };
        let requested = text(REQUESTED);
        NodeView {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            version: node.metadata.resource_version.clone().unwrap_or_default(),
            unschedulable: node.data.pointer("/spec/unschedulable") == Some(&Json::Bool(true)),
            cordoned: text(CORDONED),
            drainer: text(DRAINER),
            requested: requested.map(|text| serde_json::from_str(&text).map_err(|_| text)),
            granted: text(GRANTED),
        }
    }

    /// The patch that cordons the node for these policies; none if it takes no pods already, by whomever, or if somebody has
    /// undone our cordon since.
    pub(super) fn cordon<'a>(&self, policies: impl Iterator<Item = &'a String>) -> Option<Json> {
        let policies: Vec<&str> = policies.map(String::as_str).collect();
        let spec = json!({"unschedulable": true});
        (!self.unschedulable && self.cordoned.is_none())
            .then(|| self.patch([(CORDONED, json!(policies.join(",")))], Some(spec)))
    }

    /// Whether our cordon is for any of these policies.
    pub(super) fn is_cordoned_for(&self, policies: &BTreeSet<String>) -> bool {
        let named = self.cordoned.iter().flat_map(|names| names.split(','));
        named.map(str::trim).any(|name| policies.contains(name))
    }

    /// The patch that takes our cordon away; none if there is none of ours.
    pub(super) fn uncordon(&self) -> Option<Json> {
        self.cordoned.as_ref()?;
        let spec = self.unschedulable.then(|| json!({"unschedulable": null}));
        Some(self.patch([(CORDONED, Json::Null)], spec))
    }

    /// How far the drainer is with what is wanted. A request that covers it stands; one that does not is asked anew, so that
    /// nothing is granted that the drainer has not seen.
    pub(super) fn handshake(&self, wanted: &Request) -> Handshake {
        let pods: BTreeSet<String> = wanted.evict.values().flatten().map(ToString::to_string).collect();
        let policies: BTreeSet<String> = wanted.policies.keys().cloned().collect();
        if let Some(Ok(asked)) = &self.requested
            && pods.is_subset(&asked.pods)
            && policies.is_subset(&asked.policies)
        {
            let granted = self.granted.as_ref() == Some(&asked.id);
            return if granted { Handshake::Granted } else { Handshake::Wait };
        }
        // The version is another one for every state that the Node was ever in.
        Handshake::Ask(Disruption { id: mark(&format!("{}/{}", self.uid, self.version)), pods, policies })
    }

    /// The patch that asks the drainer.
    pub(super) fn ask(&self, disruption: &Disruption) -> Json {
        let text = serde_json::to_string(disruption).unwrap_or_default();
        self.patch([(REQUESTED, json!(text)), (GRANTED, Json::Null)], None)
    }

    /// The patch that ends the handshake; none if there is nothing of it.
    pub(super) fn unask(&self) -> Option<Json> {
        self.requested.as_ref()?;
        Some(self.patch([(REQUESTED, Json::Null), (GRANTED, Json::Null)], None))
    }

    /// A merge patch for the Node as it was read, and no other.
    fn patch<const N: usize>(&self, annotations: [(&str, Json); N], spec: Option<Json>) -> Json {
        let annotations: Map<String, Json> =
            annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut patch = json!({"metadata": {"resourceVersion": self.version, "annotations": annotations}});
        if let (Some(spec), Some(map)) = (spec, patch.as_object_mut()) {
            map.insert("spec".to_owned(), spec);
        }
        patch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::wish::MaxUnavailable;
    use super::super::{PodName, Request};
    use super::{Handshake, NodeView};

    fn wanted(policies: &[&str], pods: &[&str]) -> Request {
        let pod = |name: &&str| PodName { namespace: "web".to_owned(), name: (*name).to_owned() };
        Request {
            policies: policies.iter().map(|name| ((*name).to_owned(), MaxUnavailable::Nodes(1))).collect(),
            evict: BTreeMap::from([("p".to_owned(), pods.iter().map(pod).collect())]),
            ..Request::default()
        }
    }

    #[test]
    fn a_foreign_cordon_is_neither_claimed_nor_removed() {
        let foreign = NodeView { unschedulable: true, ..NodeView::default() };
        assert_eq!(foreign.cordon(["p".to_owned()].iter()), None);
        assert_eq!(foreign.uncordon(), None);
        let ours = NodeView { unschedulable: true, cordoned: Some("p".to_owned()), ..NodeView::default() };
        let patch = ours.uncordon().unwrap();
        assert!(patch.pointer("/spec/unschedulable").unwrap().is_null());
        let uncordoned_by_hand = NodeView { unschedulable: false, ..ours };
        assert_eq!(uncordoned_by_hand.uncordon().unwrap().pointer("/spec"), None);
    }

    #[test]
    fn a_grant_holds_for_what_the_drainer_has_seen_and_no_more() {
        let mut node = NodeView { uid: "u".to_owned(), version: "7".to_owned(), ..NodeView::default() };
        let Handshake::Ask(first) = node.handshake(&wanted(&["p"], &["a", "b"])) else {
            panic!("nothing stands there yet")
        };
        node.requested = Some(Ok(first.clone()));
        node.granted = Some("an older request".to_owned());
        assert_eq!(node.handshake(&wanted(&["p"], &["a", "b"])), Handshake::Wait);
        node.granted = Some(first.id.clone());
        node.version = "8".to_owned();
        let cases: BTreeMap<&str, (Request, bool)> = BTreeMap::from([
            ("the same", (wanted(&["p"], &["a", "b"]), true)),
            ("a pod has gone", (wanted(&["p"], &["b"]), true)),
            ("another pod", (wanted(&["p"], &["a", "c"]), false)),
            ("another policy", (wanted(&["p", "q"], &["a"]), false)),
        ]);
        for (what, (wanted, granted)) in cases {
            match node.handshake(&wanted) {
                Handshake::Granted => assert!(granted, "{what}"),
                Handshake::Ask(second) => {
                    assert!(!granted, "{what}");
                    assert_ne!(second.id, first.id);
                }
                Handshake::Wait => panic!("{what}: it was granted"),
            }
        }
        node.requested = Some(Err("nonsense".to_owned()));
        assert!(matches!(node.handshake(&wanted(&["p"], &[])), Handshake::Ask(_)));
    }
}
