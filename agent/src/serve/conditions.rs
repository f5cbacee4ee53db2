//! How many objects of the node are in which condition: the same conditions as in the NodeState, counted when somebody asks.
//! The object itself is no label, so that the number of series does not grow with the node; `portwright status` names it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use portwright_api::NodeStateContent;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;

use crate::daemon::facts::Facts;
use crate::daemon::state::node_state;

/// The collector, to be registered where the prefix is `portwright`.
pub struct Conditions {
    facts: watch::Receiver<Arc<Facts>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    r#type: String,
    status: &'static str,
    reason: String,
}

impl Conditions {
    /// Conditions that are made of these facts.
    pub fn new(facts: watch::Receiver<Arc<Facts>>) -> Conditions {
        Conditions { facts }
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditions").finish_non_exhaustive()
    }
}

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = Arc::clone(&self.facts.borrow());
        let counted = count(&node_state(&facts, None, ""));
        let help = "Objects by condition";
        let mut metric = encoder.encode_descriptor("conditions", help, None, MetricType::Gauge)?;
        for (labels, number) in counted {
            metric.encode_family(&labels)?.encode_gauge(&number)?;
        }
        Ok(())
    }
}

fn count(content: &NodeStateContent) -> BTreeMap<Labels, i64> {
    let mut counted = BTreeMap::new();
    for (object, condition) in content.all_conditions() {
        let labels = Labels {
            kind: kind(&object),
            r#type: condition.type_.clone(),
            status: condition.status.as_str(),
            reason: condition.reason.clone(),
        };
        let number = counted.entry(labels).or_insert(0_i64);
        *number = number.saturating_add(1);
    }
    counted
}

/// What sort of object a condition is about, by how the NodeState calls it.
fn kind(object: &str) -> &'static str {
    match object.split_once('/') {
        None if object == "node" => "node",
        Some(("policy", _)) => "policy",
        Some(("pool", _)) => "pool",
        Some(("bridge", name)) if name.contains("/mirror/") => "mirror",
        Some(("bridge", _)) => "bridge",
        None | Some(_) => "pf",
    }
}

#[cfg(test)]
mod tests {
    use portwright_core::Observed;
    use portwright_core::observed::Pf;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn kinds_are_told_by_names() {
        let names = ["node", "policy/a", "0000:3b:00.0", "pool/a.b/c", "bridge/br0", "bridge/br0/mirror/m"];
        assert_eq!(names.map(kind), ["node", "policy", "pf", "pool", "bridge", "mirror"]);
    }

    #[test]
    fn objects_are_counted_and_not_named() {
        let pfs = vec![Pf::default(), Pf { address: "0000:3b:00.0".parse().unwrap(), ..Pf::default() }];
        let observed = Arc::new(Observed { pfs, ..Observed::default() });
        let (_sender, facts) = watch::channel(Arc::new(Facts { sequence: 1, observed, ..Facts::default() }));
        let mut registry = Registry::with_prefix("portwright");
        registry.register_collector(Box::new(Conditions::new(facts)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let unmanaged = r#"portwright_conditions{kind="pf",type="Ready",status="True",reason="Unmanaged"} 2"#;
        assert!(text.lines().any(|line| line == unmanaged), "{text}");
        assert!(!text.contains("0000:3b:00.0"), "{text}");
    }
}
