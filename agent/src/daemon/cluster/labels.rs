//! What NICs a node has, as labels of the Node that schedulers and policies can select by. Only where an operator asked for
//! it and gave a prefix, which is then ours alone: labels below it that say nothing true are removed, no others are touched.
//! What they say is decided in [`portwright_core::labels`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::Patch;
use portwright_core::Observed;
use portwright_core::labels::labels;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::ask::{AskError, ask};
use super::client::{Connection, is_subdomain};
use super::keep::{Known, Pace, keep};
use super::kinds;
use super::node::NodeView;
use super::pace::{Bucket, Growing};
use crate::daemon::facts::Facts;

/// How long to wait for more changes before a patch.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// The prefix of our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl std::str::FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefix, String> {
        if !is_subdomain(text) {
            return Err("is not a prefix of labels: lower-case letters, digits, `-` and `.`, such as `nics.example.org`".to_owned());
        }
        // The API server lets agents of nodes set few labels there, and others may be behind those.
        if ["kubernetes.io", "k8s.io"]
            .iter()
            .any(|theirs| text == *theirs || text.ends_with(&format!(".{theirs}")))
        {
            return Err("belongs to Kubernetes itself; use a domain of your own".to_owned());
        }
        Ok(Prefix(text.to_owned()))
    }
}

impl Prefix {
    /// The labels of a node that was seen so.
    pub fn labels(&self, observed: &Observed) -> BTreeMap<String, String> {
        labels(observed, &self.0)
    }

    /// Labels to set and, as none, to remove; empty if the Node has what is wanted.
    pub fn due(
        &self,
        wanted: &BTreeMap<String, String>,
        there: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Option<String>> {
        let below = format!("{}/", self.0);
        let stale = there.keys().filter(|label| label.starts_with(&below) && !wanted.contains_key(*label));
        let fresh = wanted.iter().filter(|(label, value)| there.get(*label) != Some(*value));
        let fresh = fresh.map(|(label, value)| (label.clone(), Some(value.clone())));
        fresh.chain(stale.map(|label| (label.clone(), None))).collect()
    }
}

/// Keeps the Node's labels as they should be until the loop or the source is gone.
pub async fn run(
    connection: Connection,
    prefix: Prefix,
    facts: watch::Receiver<Arc<Facts>>,
    node: watch::Receiver<Option<Arc<NodeView>>>,
) {
    let pace = Pace {
        bucket: Bucket::new(5, Duration::from_secs(30)),
        pauses: Growing::new(Duration::from_secs(1), Duration::from_secs(60)),
        debounce: DEBOUNCE,
    };
    let differs = |facts: &Facts, node: &NodeView| {
        let due = prefix.due(&prefix.labels(&facts.observed), &node.labels);
        (!due.is_empty()).then_some(due)
    };
    let write = |due| write(&connection, due);
    keep("setting the node's labels", Known { facts, node }, pace, differs, write).await;
}

async fn write(connection: &Connection, due: BTreeMap<String, Option<String>>) -> Result<(), AskError> {
    let name = connection.node.as_str();
    let parameters = kinds::patching();
    let patch: Patch<Json> = Patch::Merge(json!({"metadata": {"labels": due}}));
    let api = kinds::nodes(&connection.client);
    ask(format!("set the labels of Node {name}"), api.patch_metadata(name, &parameters, &patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portwright_core::Observed;
    use serde_json::json;

    use super::Prefix;

    #[test]
    fn prefixes_of_others_are_refused() {
        for bad in ["", "Nics", "a/b", "kubernetes.io", "node.kubernetes.io", "feature.k8s.io"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        for good in ["portwright.dev", "nics.example.org", "notkubernetes.io"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
    }

    #[test]
    fn labels_say_what_is_there_and_stale_ones_of_ours_go() {
        let pf = |address: &str, driver: &str| json!({"address": address, "vendor": "8086", "device": "159b", "driver": driver, "totalVfs": 64, "vfs": []});
        let observed: Observed = serde_json::from_value(json!({
            "pfs": [pf("0000:3b:00.0", "ice"), pf("0000:3b:00.1", "ice")],
        }))
        .unwrap();
        let prefix: Prefix = "n.example".parse().unwrap();
        let wanted = prefix.labels(&observed);

        let mut there = wanted.clone();
        assert!(prefix.due(&wanted, &there).is_empty());
        there.insert("n.example/nic-pfs".to_owned(), "3".to_owned());
        for foreign in ["zone", "n.example.org/x", "n.examples/x", "other/pfs"] {
            there.insert(foreign.to_owned(), "x".to_owned());
        }
        there.insert("n.example/nic-driver.old".to_owned(), "1".to_owned());
        let due = prefix.due(&wanted, &there);
        let expected = [
            ("n.example/nic-driver.old".to_owned(), None),
            ("n.example/nic-pfs".to_owned(), Some("2".to_owned())),
        ];
        assert_eq!(due, BTreeMap::from(expected));
    }
}
