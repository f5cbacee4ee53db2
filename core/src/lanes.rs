//! Lanes: which steps may be carried out beside which others.
//!
//! What a step waits for (a write of the kernel that hangs, a switch that does not answer) must hold up its own port or bridge
//! and nothing else. So a plan is carried out in lanes: the steps of one PF one after the other, those of Open vSwitch one after
//! the other, and both beside each other. While a lane is under way the node is looked at and planned on; what the lane is
//! on is taken as it was planned ([`beside`]), because half-way through nothing is to be learned about it.
//!
//! Some things go together all the same. What is done for the node comes before its ports. Netdevs are plugged into bridges
//! after the steps on the ports or VFs that they belong to. VFs are made on one port at a time: the kernel has one lock for it, and gains nothing. And two ports that one
//! link is made of (a bond, a bridge) are not both disturbed at once, or the link would go down with both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::{Object, PciAddress, VfRef};
use crate::management::{Below, below};
use crate::observed::Observed;
use crate::ovs::{self, Bridge, Part, Setting, Target};
use crate::plan::Plan;
use crate::step::{Change, Step};

/// What is carried out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What is done for the node as a whole.
    Node,
    /// A PF and its VFs.
    Port(PciAddress),
    /// Open vSwitch.
    Switch,
}

impl Lane {
    /// Where steps on an object belong.
    pub fn of(object: &Object) -> Lane {
        match (object, object.pf()) {
            (_, Some(pf)) => Lane::Port(pf),
            (Object::Node, None) => Lane::Node,
            (Object::Policy(..) | Object::Pci(_) | Object::Vf(_) | Object::Named(_), None) => Lane::Switch,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lane::Node => f.write_str("node"),
            Lane::Port(port) => port.fmt(f),
            Lane::Switch => f.write_str("Open vSwitch"),
        }
    }
}

/// Steps that are carried out one after the other, and what must not be done meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Where they belong.
    pub lane: Lane,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Ports whose netdevs the steps plug into bridges, or pull out.
    pub ports: BTreeSet<PciAddress>,
    /// The same for VFs, also by their representors.
    pub vfs: BTreeSet<VfRef>,
    /// The ports and bridges that the steps are on: asked for each object of a plan, and a plan may have ten thousands.
    wholes: BTreeSet<Object>,
}

impl Course {
    fn new(lane: Lane, steps: Vec<Step>, ports: BTreeSet<PciAddress>, vfs: BTreeSet<VfRef>) -> Course {
        let wholes = steps.iter().map(|step| step.object.whole()).collect();
        Course { lane, steps, ports, vfs, wholes }
    }

    /// Whether an object is on a port or bridge that the steps are on.
    pub fn covers(&self, object: &Object) -> bool {
        self.wholes.contains(&object.whole())
    }

    /// Whether VFs are made or removed.
    fn resizes(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.change, Change::SetNumVfs { .. } | Change::SetEswitch { .. }))
    }

    /// Whether the port itself is disturbed, and not only VFs of it.
    fn disturbs_port(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.object, Object::Pci(_)))
    }

    /// Steps on a port.
    fn on(port: PciAddress, steps: Vec<Step>) -> Course {
        Course::new(Lane::Port(port), steps, BTreeSet::new(), BTreeSet::new())
    }

    /// Whether a port's steps and a bridge's are about the same netdev.
    fn meets(&self, ports: &BTreeSet<PciAddress>, vfs: &BTreeSet<VfRef>) -> bool {
        let Lane::Port(port) = self.lane else { return false };
        let whole = self.disturbs_port() && (ports.contains(&port) || vfs.iter().any(|vf| vf.pf == port));
        whole || self.steps.iter().any(|step| matches!(&step.object, Object::Vf(vf) if vfs.contains(vf)))
    }
}

/// What may begin, and what waits for what is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// To be begun now, beside each other.
    pub begin: Vec<Course>,
    /// What waits, and for what.
    pub wait: BTreeMap<Object, String>,
}

/// Which of the steps that are due may begin beside those that are under way. Steps that those under way cover are not due.
pub fn next(due: &[Step], under_way: &[&Course], observed: &Observed) -> Next {
    let mut next = Next::default();
    let of_node: Vec<Step> = due.iter().filter(|step| step.object == Object::Node).cloned().collect();
    let node = under_way.iter().any(|course| course.lane == Lane::Node) || !of_node.is_empty();
    if !of_node.is_empty() && !under_way.iter().any(|course| course.lane == Lane::Node) {
        next.begin.push(Course::new(Lane::Node, of_node, BTreeSet::new(), BTreeSet::new()));
    }
    let mut late: Vec<Course> = Vec::new();
    for (port, steps) in by_port(due) {
        let course = Course::on(port, steps);
        let others = || under_way.iter().copied().chain(&next.begin);
        let hindered = others().find_map(|other| hinders(other, &course, observed));
        match hindered.or_else(|| node.then(|| "waits for a step for the whole node".to_owned())) {
            Some(why) => {
                next.wait.insert(Object::Pci(port), why);
                late.push(course);
            }
            None => next.begin.push(course),
        }
    }
    of_switch(due, under_way, &late, observed, &mut next);
    next
}

/// The steps on ports, by port.
fn by_port(due: &[Step]) -> BTreeMap<PciAddress, Vec<Step>> {
    let mut ports: BTreeMap<PciAddress, Vec<Step>> = BTreeMap::new();
    for step in due {
        if let Lane::Port(port) = Lane::of(&step.object) {
            ports.entry(port).or_default().push(step.clone());
        }
    }
    ports
}

/// Why a port's steps have to wait for others that are under way or begin now; none if they need not.
fn hinders(other: &Course, course: &Course, observed: &Observed) -> Option<String> {
    if course.meets(&other.ports, &other.vfs) {
        return Some("waits for steps that plug its netdevs into a bridge, or pull them out".to_owned());
    }
    let (Lane::Port(port), Lane::Port(own)) = (other.lane, course.lane) else { return None };
    if other.resizes() && course.resizes() {
        return Some(format!("waits for the steps on {port}: VFs are made on one port at a time"));
    }
    let both = BTreeSet::from([port, own]);
    let tie = (other.disturbs_port() && course.disturbs_port()).then(|| tie(observed, &both)).flatten();
    tie.map(|link| format!("waits for the steps on {port}: `{link}` is made of both ports"))
}

/// A link that is made of all these ports.
fn tie<'a>(observed: &'a Observed, ports: &BTreeSet<PciAddress>) -> Option<&'a str> {
    let is_above = |names: &mut dyn Iterator<Item = &str>| below(observed, names).pfs().is_superset(ports);
    let mut links = observed.links.iter().map(|link| link.name.as_str());
    let link = links.find(|name| is_above(&mut std::iter::once(*name)));
    let bridges = || observed.ovs.iter().flat_map(|ovs| &ovs.bridges);
    link.or_else(|| {
        let mut above = bridges().filter(|bridge| is_above(&mut interfaces(bridge)));
        above.next().map(|bridge| bridge.name.as_str())
    })
}

fn interfaces(bridge: &Bridge) -> impl Iterator<Item = &str> {
    bridge.interfaces().map(|interface| interface.name.as_str())
}

/// Steps on bridges, all at once if Open vSwitch is free; those of a bridge wait together for the steps on what is plugged into it.
fn of_switch(due: &[Step], under_way: &[&Course], late: &[Course], observed: &Observed, next: &mut Next) {
    let due: Vec<(Object, &Step)> = (due.iter().filter(|step| Lane::of(&step.object) == Lane::Switch))
        .map(|step| (step.object.whole(), step))
        .collect();
    let mut groups: BTreeMap<&Object, Vec<&Step>> = BTreeMap::new();
    due.iter().for_each(|(whole, step)| groups.entry(whole).or_default().push(step));
    let busy = under_way.iter().any(|course| course.lane == Lane::Switch);
    let (mut ports, mut vfs, mut steps) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut judged: BTreeMap<&Object, bool> = BTreeMap::new();
    for (whole, step) in &due {
        let known = judged.get(whole).copied();
        let free = known.unwrap_or_else(|| {
            let plugged = plugged(groups.get(whole).into_iter().flatten().copied(), observed);
            let others = || under_way.iter().copied().chain(&next.begin).chain(late);
            let met = others().find(|other| other.meets(&plugged.ports, &plugged.vfs));
            let why = match met {
                _ if busy => Some("waits for other steps on Open vSwitch".to_owned()),
                Some(course) => Some(format!("waits for the steps on {}", course.lane)),
                None => None,
            };
            let free = why.is_none();
            if free {
                ports.extend(plugged.ports);
                vfs.extend(plugged.vfs);
            }
            next.wait.extend(why.map(|why| (whole.clone(), why)));
            judged.insert(whole, free);
            free
        });
        if free {
            steps.push((*step).clone());
        }
    }
    if !steps.is_empty() {
        next.begin.push(Course::new(Lane::Switch, steps, ports, vfs));
    }
}

/// What the netdevs are on that steps of one bridge plug in or pull out.
fn plugged<'a>(group: impl Iterator<Item = &'a Step>, observed: &Observed) -> Below {
    let mut netdevs: BTreeSet<&str> = BTreeSet::new();
    for step in group {
        let Change::Ovs { change, .. } = &step.change else { continue };
        let bridge = || observed.ovs.as_ref().and_then(|ovs| ovs.bridge(step.object.bridge()?));
        match &**change {
            ovs::Change::AddPort { to } => netdevs.extend(to.interfaces.iter().map(String::as_str)),
            ovs::Change::Set { to: Setting::Members(to), .. } => {
                netdevs.extend(to.iter().map(String::as_str).chain(of_port(bridge(), &step.object)));
            }
            ovs::Change::SetDatapath { .. } | ovs::Change::RemoveBridge { .. } => {
                netdevs.extend(bridge().into_iter().flat_map(interfaces));
            }
            ovs::Change::ReplugPort { .. }
            | ovs::Change::RemovePort { .. }
            | ovs::Change::CollectPort { .. } => netdevs.extend(of_port(bridge(), &step.object)),
            ovs::Change::SetHwOffload { .. }
            | ovs::Change::CreateBridge { .. }
            | ovs::Change::Set { .. }
            | ovs::Change::AddMirror { .. }
            | ovs::Change::SetMirror { .. }
            | ovs::Change::RemoveMirror { .. } => {}
        }
    }
    below(observed, netdevs.into_iter())
}

/// The interfaces of a bridge's port.
fn of_port<'a>(bridge: Option<&'a Bridge>, object: &Object) -> Vec<&'a str> {
    let Some(Target::Bridge(_, Part::Port(name))) = Target::of(object) else { return Vec::new() };
    let ports = bridge.into_iter().flat_map(|bridge| &bridge.ports).filter(|port| port.name == name);
    ports.flat_map(|port| &port.interfaces).map(|interface| interface.name.as_str()).collect()
}

/// A fresh plan beside steps that are under way: of what they are on, it says what was planned when they began. `begun` has
/// these parts, each as [`part`] made it.
pub fn beside<'a>(mut fresh: Plan, begun: impl Iterator<Item = (&'a Course, &'a Plan)>) -> Plan {
    for (course, part) in begun {
        let free = |object: &Object| !course.covers(object);
        fresh.steps.retain(|step| free(&step.object));
        fresh.blocked.retain(|blocked| free(&blocked.object));
        fresh.unknown.retain(|unknown| free(&unknown.object));
        fresh.held.retain(|held| free(&held.object));
        fresh.subjects.retain(|subject| free(&subject.object));
        fresh.steps.extend(part.steps.iter().cloned());
        fresh.blocked.extend(part.blocked.iter().cloned());
        fresh.unknown.extend(part.unknown.iter().cloned());
        fresh.held.extend(part.held.iter().cloned());
        fresh.subjects.extend(part.subjects.iter().cloned());
        // As a plan is ordered: the node, ports by address, bridges.
        fresh.steps.sort_by_key(|step| Lane::of(&step.object));
        fresh.subjects.sort_by_key(|subject| Lane::of(&subject.object));
    }
    fresh
}

/// What a plan says of the ports and bridges that some steps of it are on.
pub fn part(plan: &Plan, course: &Course) -> Plan {
    let mine = |object: &Object| course.covers(object);
    Plan {
        steps: plan.steps.iter().filter(|step| mine(&step.object)).cloned().collect(),
        blocked: plan.blocked.iter().filter(|blocked| mine(&blocked.object)).cloned().collect(),
        unknown: plan.unknown.iter().filter(|unknown| mine(&unknown.object)).cloned().collect(),
        subjects: plan.subjects.iter().filter(|subject| mine(&subject.object)).cloned().collect(),
        held: plan.held.iter().filter(|held| mine(&held.object)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
