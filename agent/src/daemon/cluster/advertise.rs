//! Bridges as resources of the Node: a merge patch on its status whenever what is there differs from what is wanted, no
//! matter who changed it. kubelet takes capacities over into allocatable amounts, and sets them to 0 when it registers.
//!
//! Which entries are ours stands in an annotation that is written in the same request, so that they are found again
//! after a restart and nobody else's are touched. What is no longer offered becomes 0 first, so that nobody schedules on it
//! any more, and goes once kubelet has seen the 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::Patch;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::ask::{AskError, ask};
use super::client::Connection;
use super::keep::{Known, Pace, keep};
use super::kinds;
use super::node::NodeView;
use super::pace::{Bucket, Growing};
use crate::daemon::facts::Facts;

/// The annotation of a Node: a JSON list of the resources that are ours.
pub const ANNOTATION: &str = "portwright.dev/advertised";
/// How long to wait for more changes before a patch.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Says which resources the node has, and how much of each; none while nobody can tell.
pub type Resources = Arc<dyn Fn(&Facts) -> Option<BTreeMap<String, u64>> + Send + Sync>;

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Capacities by resource; none removes.
    pub capacity: BTreeMap<String, Option<u64>>,
    /// Resources that are ours afterwards.
    pub ours: BTreeSet<String>,
}

/// Compares; none if the Node is as it should be.
pub fn due(wanted: &BTreeMap<String, u64>, node: &NodeView) -> Option<Due> {
    let marked = node.annotations.get(ANNOTATION);
    let known: BTreeSet<String> = marked.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut due = Due { ours: wanted.keys().cloned().collect(), ..Due::default() };
    for (resource, amount) in wanted {
        if node.capacity.get(resource).and_then(|text| quantity(text)) != Some(*amount) {
            due.capacity.insert(resource.clone(), Some(*amount));
        }
    }
    for resource in known.iter().filter(|resource| !wanted.contains_key(*resource)) {
        let Some(capacity) = node.capacity.get(resource) else { continue };
        let seen = node.allocatable.get(resource).is_none_or(|amount| quantity(amount) == Some(0));
        match quantity(capacity) {
            Some(0) if seen => {
                due.capacity.insert(resource.clone(), None);
            }
            Some(0) => {
                due.ours.insert(resource.clone());
            }
            Some(_) | None => {
                due.capacity.insert(resource.clone(), Some(0));
                due.ours.insert(resource.clone());
            }
        }
    }
    (!due.capacity.is_empty() || due.ours != known).then_some(due)
}

/// A whole amount as Kubernetes writes it: the API server shortens 1000 to `1k`.
fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at_checked(end)?;
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl Due {
    fn patch(&self) -> Json {
        let amount = |amount: &Option<u64>| amount.map_or(Json::Null, |amount| amount.to_string().into());
        let capacity: BTreeMap<&String, Json> =
            self.capacity.iter().map(|(resource, wanted)| (resource, amount(wanted))).collect();
        let ours = (!self.ours.is_empty()).then(|| json!(self.ours).to_string());
        json!({"metadata": {"annotations": {ANNOTATION: ours}}, "status": {"capacity": capacity}})
    }
}

/// Keeps the Node's resources as they should be until the loop or the source is gone.
pub async fn run(
    connection: Connection,
    resources: Resources,
    facts: watch::Receiver<Arc<Facts>>,
    node: watch::Receiver<Option<Arc<NodeView>>>,
) {
    let pace = Pace {
        bucket: Bucket::new(20, Duration::from_secs(10)),
        pauses: Growing::new(Duration::from_millis(500), Duration::from_secs(30)),
        debounce: DEBOUNCE,
    };
    let differs = |facts: &Facts, node: &NodeView| due(&resources(facts)?, node);
    let write = |due| write(&connection, due);
    keep("setting the node's resources", Known { facts, node }, pace, differs, write).await;
}

async fn write(connection: &Connection, due: Due) -> Result<(), AskError> {
    let name = connection.node.as_str();
    let api = kinds::nodes(&connection.client);
    let parameters = kinds::patching();
    let patch = Patch::Merge(due.patch());
    ask(format!("set the resources of Node {name}"), api.patch_status(name, &parameters, &patch)).await?;
    tracing::info!(capacity = ?due.capacity, "the node's resources are set");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{ANNOTATION, Due, due, quantity};
    use crate::daemon::cluster::node::NodeView;

    fn amounts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn node(capacity: &[(&str, &str)], allocatable: &[(&str, &str)], ours: &[&str]) -> NodeView {
        NodeView {
            capacity: amounts(capacity),
            allocatable: amounts(allocatable),
            annotations: amounts(&[(ANNOTATION, &json!(ours).to_string())]),
            ..NodeView::default()
        }
    }

    fn wanted(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    }

    fn set(pairs: &[(&str, Option<u64>)], ours: &[&str]) -> Option<Due> {
        Some(Due {
            capacity: pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
            ours: ours.iter().map(|key| (*key).to_owned()).collect(),
        })
    }

    #[test]
    fn values_are_compared_and_only_ours_go() {
        let want = wanted(&[("p/a", 1000)]);
        let cases = [
            ("new", &want, node(&[("cpu", "8")], &[], &[]), set(&[("p/a", Some(1000))], &["p/a"])),
            ("there", &want, node(&[("p/a", "1k"), ("q/x", "5")], &[], &["p/a"]), None),
            ("reset", &want, node(&[("p/a", "0")], &[], &["p/a"]), set(&[("p/a", Some(1000))], &["p/a"])),
            ("not marked", &want, node(&[("p/a", "1000")], &[], &[]), set(&[], &["p/a"])),
            (
                "withdrawn",
                &wanted(&[]),
                node(&[("p/a", "1k"), ("q/x", "5")], &[("p/a", "1k")], &["p/a"]),
                set(&[("p/a", Some(0))], &["p/a"]),
            ),
            ("not seen yet", &wanted(&[]), node(&[("p/a", "0")], &[("p/a", "1k")], &["p/a"]), None),
            (
                "seen",
                &wanted(&[]),
                node(&[("p/a", "0")], &[("p/a", "0")], &["p/a"]),
                set(&[("p/a", None)], &[]),
            ),
            ("gone", &wanted(&[]), node(&[("q/x", "5")], &[], &["p/a"]), set(&[], &[])),
            ("nothing", &wanted(&[]), NodeView::default(), None),
        ];
        for (name, wanted, node, expected) in cases {
            assert_eq!(due(wanted, &node), expected, "{name}");
        }
    }

    #[test]
    fn a_removal_is_a_null_and_an_empty_mark_goes() {
        let patch = set(&[("p/a", None)], &[]).unwrap().patch();
        assert_eq!(
            patch,
            json!({"metadata": {"annotations": {ANNOTATION: null}}, "status": {"capacity": {"p/a": null}}})
        );
    }

    #[test]
    fn quantities() {
        for (text, value) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("1k", Some(1000)),
            ("2M", Some(2_000_000)),
            ("1Ki", Some(1024)),
            ("1500m", None),
            ("", None),
            ("k", None),
            ("1e3", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
