//! Counters of mirrors and of the ports that they select, read when somebody wants to know how mirrors fare. Nothing is
//! written; what follows from the counters is decided in `portwright_core::ovs`.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::Fact;
use portwright_core::ovs::{MirrorCounts, Ovs};

use super::see;
use crate::ovsdb::{Atom, Committed, Datum, Deadline, Error, Selected, Target, Txn, Uuid};
use crate::vswitch::{Bridge, Mirror, Switch, SwitchError, Vswitch};

/// More interfaces than these are read with all others at once.
const MANY: usize = 64;

/// Fills in what is counted about every mirror. Without ovs-vswitchd nothing is: counters stay at their last values then.
pub(super) async fn count(switch: &Switch, ovs: &mut Ovs, deadline: Deadline) -> Result<(), SwitchError> {
    let no_mirrors = ovs.bridges.iter().all(|bridge| bridge.mirrors.is_empty());
    if no_mirrors || ovs.vswitchd == Fact::Known(false) {
        return Ok(());
    }
    let read = switch.read(deadline).await?;
    let failed = |source: Error| SwitchError::Database {
        what: "reading counters",
        remote: switch.session().remote().clone(),
        source,
    };
    let counters = Counters::read(switch, &read, deadline).await.map_err(failed)?;
    for bridge in &mut ovs.bridges {
        let Some(there) = read.bridges.get(&bridge.name) else { continue };
        for mirror in &mut bridge.mirrors {
            let same = |one: &&Mirror| {
                let seen = see::mirror(one);
                seen.name == mirror.name && seen.copies == mirror.copies
            };
            mirror.counts = there.mirrors.iter().find(same).map(|one| counters.of(there, one));
        }
    }
    Ok(())
}

/// `statistics` by row.
#[derive(Default)]
struct Counters(BTreeMap<Uuid, BTreeMap<String, u64>>);

impl Counters {
    async fn read(switch: &Switch, read: &Vswitch, deadline: Deadline) -> Result<Counters, Error> {
        let mut wanted = BTreeSet::new();
        for bridge in read.bridges.values() {
            for mirror in &bridge.mirrors {
                wanted.extend(selected(bridge, mirror).into_iter().flatten().map(|(uuid, _)| uuid));
            }
        }
        let columns = ["_uuid", "statistics"];
        let mut txn = Txn::reading();
        txn.read_all("Mirror", &columns);
        if wanted.len() > MANY {
            txn.read_all("Interface", &columns);
        } else {
            wanted.iter().for_each(|uuid| txn.read(Target::row("Interface", *uuid), &columns));
        }
        let committed: Committed = switch.session().commit(&txn, deadline).await?;
        let rows = committed.reads().iter().flatten();
        Ok(Counters(rows.filter_map(|row| Some((row_id(row)?, numbers(row.get("statistics")?)))).collect()))
    }

    fn get(&self, row: Uuid, name: &str) -> Option<u64> {
        self.0.get(&row)?.get(name).copied()
    }

    fn of(&self, bridge: &Bridge, mirror: &Mirror) -> MirrorCounts {
        let offered = selected(bridge, mirror)
            .map(|all| all.into_iter().filter_map(|(interface, name)| self.get(interface, name)).sum());
        let output = mirror.output_port.as_ref().and_then(|name| bridge.ports.get(name));
        let up = output.and_then(|port| port.interfaces.iter().filter_map(|one| one.admin_up).max());
        MirrorCounts {
            copied: self.get(mirror.uuid, "tx_packets"),
            copied_bytes: self.get(mirror.uuid, "tx_bytes"),
            offered,
            output_up: up,
        }
    }
}

/// Interfaces whose frames a mirror selects, with the counter of the direction. Frames of a VLAN are not counted by anybody.
fn selected(bridge: &Bridge, mirror: &Mirror) -> Option<Vec<(Uuid, &'static str)>> {
    if !mirror.select_vlan.is_empty() || mirror.filter.is_some() {
        return None;
    }
    let mut all = Vec::new();
    for (name, port) in &bridge.ports {
        let is_output = mirror.output_port.as_ref() == Some(name);
        let rows = port.interfaces.iter().map(|interface| interface.uuid);
        // Every frame enters once, so for all of them one direction says it.
        if mirror.select_all && !is_output || mirror.select_src_port.contains(name) {
            all.extend(rows.clone().map(|row| (row, "rx_packets")));
        }
        if mirror.select_dst_port.contains(name) {
            all.extend(rows.map(|row| (row, "tx_packets")));
        }
    }
    Some(all)
}

fn row_id(row: &Selected) -> Option<Uuid> {
    row.get("_uuid")?.scalar().and_then(Atom::as_uuid)
}

fn numbers(statistics: &Datum) -> BTreeMap<String, u64> {
    let pairs = statistics.pairs().iter();
    let number = |atom: &Atom| u64::try_from(atom.as_integer()?).ok();
    pairs.filter_map(|(name, count)| Some((name.as_str()?.to_owned(), number(count)?))).collect()
}
