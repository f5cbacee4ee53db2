//! Whether mirrors work, shown by ovs-vswitchd itself: their counters are emptied, and only those of a working mirror are filled
//! again. This writes to rows of ours (to no setting of theirs), so nothing does it but an operator's own command.

use std::time::Duration;

use portwright_core::ovs::{OWNER_KEY, Target as Object};

use crate::ovsdb::{Datum, Deadline, Target};
use crate::vswitch::{MirrorHealth, StatisticsError, Switch, Vswitch};

/// What was found out about one mirror.
#[derive(Debug)]
pub struct Probed {
    /// The mirror.
    pub object: Object,
    /// Whether it works.
    pub health: Result<MirrorHealth, StatisticsError>,
}

/// Probes all mirrors that carry an owner key of ours, at the same time. `within` is for each answer of the database.
pub(super) async fn probe(switch: &Switch, read: &Vswitch, within: Duration) -> Vec<Probed> {
    let patience = read.statistics_interval();
    let mut waiting = Vec::new();
    for bridge in read.bridges.values() {
        for mirror in &bridge.mirrors {
            let Some(owner) = mirror.external_ids.get(OWNER_KEY) else { continue };
            let owned = Datum::map([(OWNER_KEY, owner.as_str())]);
            let target = Target::row("Mirror", mirror.uuid).includes("external_ids", owned);
            let switch = switch.clone();
            let probing = tokio::spawn(async move {
                switch.probe_mirror(target, patience, Deadline::after(patience + within)).await
            });
            waiting.push((Object::mirror(&bridge.name, &mirror.name), probing));
        }
    }
    let mut probed = Vec::new();
    for (object, probing) in waiting {
        // A task of ours ends; if the runtime goes, nobody waits for this either.
        if let Ok(health) = probing.await {
            probed.push(Probed { object, health });
        }
    }
    probed
}
