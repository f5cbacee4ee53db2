//! How pools are set: `spec.pools` of all policies together. The document of highest priority binds a pool whole; what several
//! of the same priority set differently is a conflict, and neither of the settings is applied.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::POLICY_PREFIX;
use crate::blocked::{Blocked, Reason};
use crate::desired::{Desired, Document, PoolWish};
use crate::id::Object;

/// The settings of one pool.
#[derive(Debug, Clone)]
pub(super) struct Setting<'a> {
    /// What holds: settings in conflict are as if nobody had made them.
    pub(super) wish: PoolWish,
    /// The documents that set it, all of the same priority.
    documents: Vec<&'a Document>,
    /// The fields that they set differently.
    disputed: BTreeSet<&'static str>,
}

/// The settings by pool name.
pub(super) fn settings(desired: &Desired) -> BTreeMap<&str, Setting<'_>> {
    let mut settings: BTreeMap<&str, Setting<'_>> = BTreeMap::new();
    let mut documents: Vec<&Document> = desired.documents.iter().collect();
    documents.sort_by_key(|document| std::cmp::Reverse(document.priority));
    for document in documents {
        for pool in &document.pools {
            let found = settings.entry(pool.name.as_str()).or_insert_with(|| Setting {
                wish: pool.clone(),
                documents: Vec::new(),
                disputed: BTreeSet::new(),
            });
            if found.documents.first().is_none_or(|first| first.priority == document.priority) {
                found.documents.push(document);
                found.disputed.extend(differing(&found.wish, pool));
            }
        }
    }
    for setting in settings.values_mut() {
        setting.wish = without(&setting.wish, &setting.disputed);
    }
    settings
}

/// The obstacles: pools that several documents of the same, highest priority set differently.
pub fn conflicts(desired: &Desired) -> Vec<Blocked> {
    let disputed = settings(desired).into_iter().filter(|(_, setting)| !setting.disputed.is_empty());
    let tell = |(name, setting): (&str, Setting<'_>)| {
        let prefix = setting.wish.prefix.as_deref().unwrap_or(POLICY_PREFIX);
        let policies: Vec<String> =
            setting.documents.iter().map(|document| format!("`{}`", document.name)).collect();
        let fields: Vec<String> = setting.disputed.iter().map(|field| format!("`{field}`")).collect();
        let priority = setting.documents.first().map(|document| document.priority).unwrap_or_default();
        Blocked::new(
            Object::Named(format!("pool/{prefix}/{name}")),
            Reason::PolicyConflict,
            format!(
                "{} set {} differently with priority {priority}; neither counts",
                policies.join(" and "),
                fields.join(" and ")
            ),
            "give one of them a larger `priority`, or set the pool in one of them only",
        )
    };
    disputed.map(tell).collect()
}

/// The fields in which two wishes differ, as policies write them.
fn differing(one: &PoolWish, other: &PoolWish) -> Vec<&'static str> {
    let PoolWish { name: _, prefix, exclude_topology, vhost_net, rdma, prefer, iommufd, carrier } = one;
    let fields = [
        ("prefix", *prefix != other.prefix),
        ("excludeTopology", *exclude_topology != other.exclude_topology),
        ("vhostNet", *vhost_net != other.vhost_net),
        ("rdma", *rdma != other.rdma),
        ("prefer", *prefer != other.prefer),
        ("iommufd", *iommufd != other.iommufd),
        ("carrier", *carrier != other.carrier),
    ];
    fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// A wish in which nobody has set the disputed fields.
fn without(wish: &PoolWish, disputed: &BTreeSet<&'static str>) -> PoolWish {
    let nothing = PoolWish::default();
    let PoolWish { name, prefix, exclude_topology, vhost_net, rdma, prefer, iommufd, carrier } = wish.clone();
    let keeps = |field: &str| !disputed.contains(field);
    PoolWish {
        name,
        prefix: prefix.filter(|_| keeps("prefix")),
        exclude_topology: exclude_topology && keeps("excludeTopology"),
        vhost_net: vhost_net && keeps("vhostNet"),
        rdma: rdma && keeps("rdma"),
        prefer: if keeps("prefer") { prefer } else { nothing.prefer },
        iommufd: iommufd && keeps("iommufd"),
        carrier: carrier && keeps("carrier"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Prefer;

    fn document(name: &str, priority: i32, pool: PoolWish) -> Document {
        Document {
            name: name.to_owned(),
            priority,
            mode: Default::default(),
            disruption: Default::default(),
            nics: Vec::new(),
            ovs: Default::default(),
            pools: vec![pool],
        }
    }

    fn pool() -> PoolWish {
        PoolWish { name: "dpdk".to_owned(), ..PoolWish::default() }
    }

    #[test]
    fn what_equals_set_differently_counts_for_neither_and_the_rest_does() {
        let one = PoolWish { prefix: Some("example.com".to_owned()), rdma: true, vhost_net: true, ..pool() };
        let other = PoolWish { prefer: Prefer::Spread, vhost_net: false, ..one.clone() };
        let lower = PoolWish { carrier: true, ..pool() };
        let documents = vec![document("a", 1, one), document("low", 0, lower), document("b", 1, other)];
        let mut desired = Desired { documents, ..Desired::default() };
        let wanted = PoolWish { vhost_net: false, ..desired.documents[0].pools[0].clone() };
        assert_eq!(settings(&desired)["dpdk"].wish, wanted);
        let [blocked] = conflicts(&desired).try_into().unwrap();
        assert_eq!(blocked.object.to_string(), "pool/example.com/dpdk");
        let message = "`a` and `b` set `prefer` and `vhostNet` differently with priority 1; neither counts";
        assert_eq!((blocked.reason, blocked.message.as_str()), (Reason::PolicyConflict, message));
        desired.documents[0].priority = 2;
        assert!(conflicts(&desired).is_empty(), "the larger priority binds the pool whole");
        assert_eq!(settings(&desired)["dpdk"].wish, desired.documents[0].pools[0]);
    }

    #[test]
    fn every_field_can_be_disputed() {
        let set = PoolWish {
            name: "dpdk".to_owned(),
            prefix: Some("example.com".to_owned()),
            exclude_topology: true,
            vhost_net: true,
            rdma: true,
            prefer: Prefer::None,
            iommufd: true,
            carrier: true,
        };
        let documents = vec![document("a", 0, set), document("b", 0, pool())];
        let desired = Desired { documents, ..Desired::default() };
        assert_eq!(settings(&desired)["dpdk"].wish, pool());
        assert_eq!(conflicts(&desired)[0].message.matches('`').count(), 4 + 2 * 7);
        let same = Desired {
            documents: vec![document("a", 0, pool()), document("b", 0, pool())],
            ..Desired::default()
        };
        assert!(conflicts(&same).is_empty(), "saying the same is no conflict");
    }
}
