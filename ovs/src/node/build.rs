//! One transaction from the steps of one bridge.
//!
//! The bridge's own row comes last: when it is made, it refers to the rows of its ports and mirrors. Every row that is
//! changed is guarded by its present owner. A row that is taken over is guarded by all of its `external_ids`, because a
//! condition cannot say that a key is absent.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::ovs::{Change, Key, NewBridge, OWNER_KEY, Part, Setting, Target};

use super::Job;
use super::columns::{self, Columns, ids, owned_by, put};
use super::parts;
use crate::ovsdb::{self, Datum, Mutation, NewRow, Ref, Txn, Uuid, Value};
use crate::vswitch::{Bridge, Map, Port, Vswitch};

/// Who and what for, in the database's log.
const WHO: &str = "portwright";

/// A transaction under construction.
pub(super) struct Build<'a> {
    pub(super) found: &'a Vswitch,
    pub(super) bridge: Option<&'a Bridge>,
    pub(super) txn: Txn,
    /// Rows of ports by name: those that are there and those that are made.
    pub(super) ports: BTreeMap<String, Ref>,
    made_ports: Vec<NewRow>,
    gone_ports: BTreeSet<Uuid>,
    made_mirrors: Vec<NewRow>,
    gone_mirrors: BTreeSet<Uuid>,
    /// Columns of the bridge to be given other values, and parts of columns.
    columns: Columns,
    mutations: Vec<Mutation>,
    /// Rows that are taken over: their owner is not a condition.
    taken: BTreeSet<Uuid>,
}

/// The transaction of some steps on one bridge, or of one on the switch.
pub(super) fn transaction(found: &Vswitch, jobs: &[Job<'_>]) -> Txn {
    let name = jobs.first().and_then(Job::bridge).unwrap_or_default();
    let owner = jobs.first().map(|job| job.owner).unwrap_or_default();
    let words: BTreeSet<&str> = jobs.iter().map(|job| job.change.action()).collect();
    let why = format!("policy {owner}: {} {name}", words.into_iter().collect::<Vec<_>>().join(" "));
    let bridge = found.bridges.get(name);
    let ports = bridge.into_iter().flat_map(|bridge| bridge.ports.values());
    let mut build = Build {
        found,
        bridge,
        txn: Txn::new(WHO, why.trim_end()),
        ports: ports.map(|port| (port.name.clone(), Ref::Row(port.uuid))).collect(),
        made_ports: Vec::new(),
        gone_ports: BTreeSet::new(),
        made_mirrors: Vec::new(),
        gone_mirrors: BTreeSet::new(),
        columns: Columns::new(),
        mutations: Vec::new(),
        taken: BTreeSet::new(),
    };
    let mut new = None;
    for job in jobs {
        match (&job.target, job.change) {
            (Target::Bridge(name, _), Change::CreateBridge { to }) => {
                new = Some((name.clone(), job.owner, to));
                let local = parts::local_port(&mut build.txn, name, to.mtu_request);
                build.add_port(name, local);
            }
            _ => build.job(job),
        }
    }
    build.finish(new);
    build.txn
}

impl Build<'_> {
    fn job(&mut self, job: &Job<'_>) {
        match &job.target {
            Target::Switch => self.switch(job.change),
            Target::Bridge(_, Part::Itself) => self.of_bridge(job.change),
            Target::Bridge(_, Part::Port(port)) => self.of_port(port, job),
            Target::Bridge(_, Part::Mirror(mirror)) => self.of_mirror(mirror, job),
        }
    }

    fn root(&self) -> ovsdb::Target {
        ovsdb::Target::row("Open_vSwitch", self.found.uuid)
    }

    fn switch(&mut self, change: &Change) {
        if let Change::SetHwOffload { to, .. } = change {
            let put = Mutation::put("other_config", "hw-offload", to.to_string());
            self.txn.mutate(self.root(), [put]);
        }
    }

    /// A row, guarded by its owner as far as it has one that stays.
    pub(super) fn target(&self, table: &str, uuid: Uuid, external_ids: &Map) -> ovsdb::Target {
        let target = ovsdb::Target::row(table, uuid);
        match external_ids.get(OWNER_KEY) {
            Some(owner) if !self.taken.contains(&uuid) => target.includes("external_ids", owned_by(owner)),
            Some(_) | None => target,
        }
    }

    /// Gives a row our key. It must be as it was seen.
    fn take_over(&mut self, table: &str, uuid: Uuid, external_ids: &Map, owner: &str) {
        self.taken.insert(uuid);
        let target = ovsdb::Target::row(table, uuid);
        self.txn.guard(target.clone(), [("external_ids", Value::from(external_ids))]);
        self.txn.mutate(target, [Mutation::put("external_ids", OWNER_KEY, owner)]);
    }

    fn of_bridge(&mut self, change: &Change) {
        let Some(bridge) = self.bridge else { return };
        match change {
            Change::SetDatapath { to, .. } => put(&mut self.columns, "datapath_type", to.as_str()),
            Change::RemoveBridge { .. } => self.remove_bridge(bridge),
            Change::Set { from, to } => self.set_bridge(bridge, from, to),
            Change::SetHwOffload { .. }
            | Change::CreateBridge { .. }
            | Change::AddPort { .. }
            | Change::ReplugPort { .. }
            | Change::RemovePort { .. }
            | Change::CollectPort { .. }
            | Change::AddMirror { .. }
            | Change::SetMirror { .. }
            | Change::RemoveMirror { .. } => {}
        }
    }

    /// Everything on it goes with it, if it is what was seen.
    fn remove_bridge(&mut self, bridge: &Bridge) {
        for port in bridge.ports.values() {
            self.drop_qos(port);
        }
        let ports = Value::refs(bridge.ports.values().map(|port| port.uuid));
        let target = self.target("Bridge", bridge.uuid, &bridge.external_ids);
        self.txn.guard(target, [("ports", ports)]);
        self.txn.mutate(self.root(), [Mutation::remove("bridges", bridge.uuid)]);
    }

    fn set_bridge(&mut self, bridge: &Bridge, from: &Setting, to: &Setting) {
        match to {
            Setting::Owner(owner) => {
                let owner = owner.clone().unwrap_or_default();
                self.take_over("Bridge", bridge.uuid, &bridge.external_ids, &owner);
            }
            Setting::OtherConfig(key, value) => self.set_key("other_config", key, value.as_ref()),
            Setting::ExternalId(key, value) => self.set_key("external_ids", key, value.as_ref()),
            Setting::FailMode(mode) => put(&mut self.columns, "fail_mode", columns::text(mode.as_ref())),
            Setting::Stp(on) => put(&mut self.columns, "stp_enable", *on),
            Setting::Rstp(on) => put(&mut self.columns, "rstp_enable", *on),
            Setting::McastSnooping(on) => put(&mut self.columns, "mcast_snooping_enable", *on),
            Setting::FloodVlans(vlans) => {
                if let Setting::FloodVlans(before) = from {
                    let target = self.target("Bridge", bridge.uuid, &bridge.external_ids);
                    self.txn.guard(target, [("flood_vlans", columns::numbers(before))]);
                }
                put(&mut self.columns, "flood_vlans", columns::numbers(vlans));
            }
            Setting::MtuRequest(mtu) => {
                if let Some(local) = bridge.local() {
                    let target = ovsdb::Target::row("Interface", local.uuid);
                    self.txn.update(target, [("mtu_request", columns::number(*mtu))]);
                }
            }
            Setting::Kind(_)
            | Setting::InterfaceOption(..)
            | Setting::Vlan(_)
            | Setting::BondMode(_)
            | Setting::Lacp(_)
            | Setting::Members(_)
            | Setting::Qos(_)
            | Setting::Policing(_) => {}
        }
    }

    fn set_key(&mut self, column: &str, key: &str, value: Option<&String>) {
        self.mutations.push(match value {
            Some(value) => Mutation::put(column, key, value.as_str()),
            None => Mutation::remove_keys(column, [key]),
        });
    }

    fn add_port(&mut self, name: &str, row: NewRow) {
        self.ports.insert(name.to_owned(), Ref::New(row));
        self.made_ports.push(row);
    }

    fn of_port(&mut self, name: &str, job: &Job<'_>) {
        if let Change::AddPort { to } = job.change {
            let row = parts::port(&mut self.txn, name, job.owner, to, self.found.has.cvlans);
            self.add_port(name, row);
            return;
        }
        let Some(port) = self.bridge.and_then(|bridge| bridge.ports.get(name)) else { return };
        match job.change {
            Change::RemovePort { .. } => {
                let owner = Key { key: OWNER_KEY.to_owned(), value: job.owner.to_owned() };
                self.remove_port(port, &owner);
            }
            Change::CollectPort { owner, .. } => self.remove_port(port, owner),
            Change::Set { to: Setting::Owner(owner), .. } => {
                let owner = owner.clone().unwrap_or_default();
                self.take_over("Port", port.uuid, &port.external_ids, &owner);
            }
            Change::Set { to, .. } => parts::set_port(self, port, job.owner, to),
            Change::AddPort { .. }
            | Change::ReplugPort { .. }
            | Change::SetHwOffload { .. }
            | Change::CreateBridge { .. }
            | Change::SetDatapath { .. }
            | Change::RemoveBridge { .. }
            | Change::AddMirror { .. }
            | Change::SetMirror { .. }
            | Change::RemoveMirror { .. } => {}
        }
    }

    fn remove_port(&mut self, port: &Port, owner: &Key) {
        let pair = Datum::map([(owner.key.as_str(), owner.value.as_str())]);
        let target = ovsdb::Target::row("Port", port.uuid).includes("external_ids", pair);
        self.txn.guard::<&str>(target, []);
        self.drop_qos(port);
        self.ports.remove(&port.name);
        self.gone_ports.insert(port.uuid);
    }

    /// QoS rows are roots: they stay when their port goes. Ours go with it.
    pub(super) fn drop_qos(&mut self, port: &Port) {
        let Some((uuid, qos)) = port.qos.and_then(|uuid| Some((uuid, self.found.qos.get(&uuid)?))) else {
            return;
        };
        if let Some(owner) = qos.external_ids.get(OWNER_KEY) {
            let target = self.target("Port", port.uuid, &port.external_ids);
            // The server counts references before it collects the port.
            self.txn.update(target, [("qos", Value::refs::<Uuid>([]))]);
            let target = ovsdb::Target::row("QoS", uuid).includes("external_ids", owned_by(owner));
            self.txn.delete(target);
        }
    }

    fn of_mirror(&mut self, name: &str, job: &Job<'_>) {
        let has_snaplen = self.found.has.mirror_snaplen;
        let mut row = Columns::new();
        if let Change::AddMirror { to } | Change::SetMirror { to, .. } = job.change {
            columns::mirror(to, has_snaplen, &|port| self.ports.get(port).copied(), &mut row);
        }
        if let Change::AddMirror { .. } = job.change {
            put(&mut row, "name", name);
            put(&mut row, "external_ids", ids(job.owner, &Map::new()));
            let row = self.txn.insert("Mirror", row);
            self.made_mirrors.push(row);
            return;
        }
        let Some(bridge) = self.bridge else { return };
        let named = bridge.mirrors.iter().filter(|mirror| mirror.name == name);
        for mirror in named {
            let owner = mirror.external_ids.get(OWNER_KEY);
            let ours = owner.map(String::as_str) == Some(job.owner) || self.taken.contains(&mirror.uuid);
            match job.change {
                Change::Set { from: Setting::Owner(from), .. } if owner == from.as_ref() => {
                    self.take_over("Mirror", mirror.uuid, &mirror.external_ids, job.owner);
                }
                Change::SetMirror { .. } if ours => {
                    let target = self.target("Mirror", mirror.uuid, &mirror.external_ids);
                    self.txn.update(target, row.clone());
                }
                Change::RemoveMirror { .. } if ours => {
                    let target = self.target("Mirror", mirror.uuid, &mirror.external_ids);
                    self.txn.guard::<&str>(target, []);
                    self.gone_mirrors.insert(mirror.uuid);
                }
                Change::Set { .. }
                | Change::SetMirror { .. }
                | Change::RemoveMirror { .. }
                | Change::AddMirror { .. }
                | Change::SetHwOffload { .. }
                | Change::CreateBridge { .. }
                | Change::SetDatapath { .. }
                | Change::RemoveBridge { .. }
                | Change::AddPort { .. }
                | Change::ReplugPort { .. }
                | Change::RemovePort { .. }
                | Change::CollectPort { .. } => {}
            }
        }
    }

    /// Writes the bridge's own row.
    fn finish(&mut self, new: Option<(String, &str, &NewBridge)>) {
        if let Some((name, owner, to)) = new {
            let (ports, mirrors) =
                (std::mem::take(&mut self.made_ports), std::mem::take(&mut self.made_mirrors));
            let mut row = parts::bridge(&name, owner, to);
            put(&mut row, "ports", Value::refs(ports));
            put(&mut row, "mirrors", Value::refs(mirrors));
            let row = self.txn.insert("Bridge", row);
            self.txn.mutate(self.root(), [Mutation::insert("bridges", row)]);
            return;
        }
        let Some(bridge) = self.bridge else { return };
        let target = self.target("Bridge", bridge.uuid, &bridge.external_ids);
        let mut mutations = std::mem::take(&mut self.mutations);
        for (column, gone) in [("ports", &self.gone_ports), ("mirrors", &self.gone_mirrors)] {
            if !gone.is_empty() {
                mutations.push(Mutation::remove(column, Value::refs(gone.iter().copied())));
            }
        }
        for (column, made) in [("ports", &self.made_ports), ("mirrors", &self.made_mirrors)] {
            if !made.is_empty() {
                mutations.push(Mutation::insert(column, Value::refs(made.iter().copied())));
            }
        }
        if !self.columns.is_empty() {
            self.txn.update(target.clone(), std::mem::take(&mut self.columns));
        }
        if !mutations.is_empty() {
            self.txn.mutate(target, mutations);
        }
    }
}
