//! Makes busy flows follow a change of mirrors.
//!
//! Open vSwitch before 2.17.12, 3.0.8, 3.1.6, 3.2.4 and 3.3.3 does not look at cached flows again when a mirror is made or
//! changed, and no version does when one is removed: a busy flow goes on being copied. Forgetting the learned addresses of the bridge
//! makes it look, and we wait until it has looked. A bridge that forwards by flows learns nothing, so there the datapath's
//! flows are dropped; as they are where one cannot wait because both datapaths are in use.
//! Without a control socket (a remote database) a VLAN is flooded for a moment, which has the same effect.

use std::collections::BTreeSet;

use super::OvsError;
use super::columns::numbers;
use crate::ovsdb::{Deadline, Target, Txn};
use crate::unixctl::Unixctl;
use crate::vswitch::{Bridge, FailMode, Switch, Vswitch};

/// A VLAN that no frame has (IEEE 802.1Q).
const NOBODYS_VLAN: u16 = 4095;

/// Makes ovs-vswitchd look at every cached flow of a bridge again.
pub(super) async fn look_again(
    switch: &Switch,
    before: &Vswitch,
    bridge: &str,
    deadline: Deadline,
) -> Result<(), OvsError> {
    let by_flows = |bridge: &Bridge| bridge.controllers > 0 || bridge.fail_mode == Some(FailMode::Secure);
    let purge = before.bridges.get(bridge).is_some_and(by_flows);
    if asked(switch, bridge, purge, deadline).await {
        return Ok(());
    }
    toggled(switch, bridge, deadline)
        .await
        .map_err(|source| OvsError::Flows { bridge: bridge.to_owned(), source: Box::new(source) })
}

async fn asked(switch: &Switch, bridge: &str, purge: bool, deadline: Deadline) -> bool {
    let Some(directory) = switch.session().remote().directory() else { return false };
    let Ok(control) = Unixctl::of_vswitchd(directory).await else { return false };
    if control.flush_fdb(bridge, deadline).await.is_err() {
        return false;
    }
    if !purge {
        // The look happens in other threads. A round that is under way when we ask may have begun too early, so the one after
        // it counts.
        let first = control.call("revalidator/wait", &[], deadline).await;
        if first.is_ok() && control.call("revalidator/wait", &[], deadline).await.is_ok() {
            return true;
        }
    }
    control.call("revalidator/purge", &[], deadline).await.is_ok()
}

async fn toggled(
    switch: &Switch,
    bridge: &str,
    deadline: Deadline,
) -> Result<(), crate::vswitch::SwitchError> {
    for flooded in [true, false] {
        let read = switch.read(deadline).await?;
        let Some(found) = read.bridges.get(bridge) else { return Ok(()) };
        let mut vlans: BTreeSet<u16> = found.flood_vlans.clone();
        if flooded {
            vlans.insert(NOBODYS_VLAN)
        } else {
            vlans.remove(&NOBODYS_VLAN)
        };
        let mut txn = Txn::new("portwright", "busy flows follow a change of mirrors");
        let target = Target::row("Bridge", found.uuid);
        txn.guard(target.clone(), [("flood_vlans", numbers(&found.flood_vlans))]);
        txn.update(target, [("flood_vlans", numbers(&vlans))]);
        switch.apply(txn, deadline).await?;
    }
    Ok(())
}
