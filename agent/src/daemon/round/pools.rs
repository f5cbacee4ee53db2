//! Publishing: the pools as kubelet may see them now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portwright_core::drive::chain;
use portwright_core::management::management_path;
use portwright_core::pools::{Health, Pools, assign, candidates};
use portwright_core::{Object, Observed, PciAddress, Reason};
use portwright_device_plugin::allocations::Allocations;

use super::Round;
use super::look::keep;
use crate::daemon::hands::Hands;

impl<N: Hands> Round<N> {
    pub(super) fn allocations(&self) -> Arc<Allocations> {
        Arc::clone(&self.allocations.borrow())
    }

    /// Serves the pools as the node is now.
    pub async fn publish(&mut self) -> Result<(), String> {
        let observed = Arc::clone(&self.state.observed);
        let allocations = self.allocations();
        let specs =
            self.pools.specs(&observed, &self.state.thought.desired).map_err(|error| chain(&error))?;
        let candidates = candidates(&observed, &management_path(&observed));
        let there: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.id.as_str()).collect();
        let held = self.plugin.held(&allocations, |id| there.contains(id));
        self.plugin.note_used(&observed);
        let mut pools = assign(&candidates, &specs, &held);
        self.judge(&mut pools);
        let withheld = self.withheld(&observed);
        withhold(&mut pools, &withheld);
        keep(&mut self.state.published, pools);
        self.plugin.publish_without(Arc::clone(&self.state.published), withheld).await;
        match &allocations.unknown {
            None => self.plugin.settle(&held),
            Some(why) => tracing::warn!(why, "what pods have is not known; no file of theirs is removed"),
        }
        Ok(())
    }

    /// What kubelet must not give away: what is not as it should be, and while steps run every VF of a port that they are on,
    /// also those that they have just made.
    fn withheld(&self, observed: &Observed) -> BTreeSet<PciAddress> {
        let mut withheld = self.state.thought.withheld.clone();
        let ports = self.mind.under_way().ports();
        let vfs = observed.pfs.iter().filter(|pf| ports.contains(&pf.address)).flat_map(|pf| &pf.vfs);
        withheld.extend(vfs.filter(|vf| vf.holders.is_empty()).map(|vf| vf.address));
        withheld
    }

    /// A VF that cannot be made what the policy wants is not given away.
    fn judge(&self, pools: &mut Pools) {
        let thought = &self.state.thought;
        let in_the_way =
            |reason: Reason| !matches!(reason, Reason::VfInUse | Reason::NeedsCluster | Reason::Releasing);
        let wrong: BTreeMap<PciAddress, String> = (thought.plan.blocked.iter())
            .filter(|blocked| in_the_way(blocked.reason))
            .filter_map(|blocked| {
                let Object::Vf(vf) = blocked.object else { return None };
                let address = self.state.observed.vf(vf)?.address;
                Some((address, format!("it is not as the policy wants it: {}", blocked.message)))
            })
            .collect();
        for device in pools.pools.iter_mut().flat_map(|pool| &mut pool.devices) {
            let why = device.candidate.address.and_then(|address| wrong.get(&address));
            if let (Some(why), Health::Healthy) = (why, &device.health) {
                device.health = Health::Unhealthy { why: why.clone() };
            }
        }
    }
}

/// Marks what kubelet must not give away.
fn withhold(pools: &mut Pools, withheld: &BTreeSet<PciAddress>) {
    for device in pools.pools.iter_mut().flat_map(|pool| &mut pool.devices) {
        if device.candidate.address.is_some_and(|address| withheld.contains(&address)) {
            device.health = Health::Withheld { why: "it is being put in order".to_owned() };
        }
    }
}
