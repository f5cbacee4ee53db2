//! What is under way: the lanes whose steps are being carried out, and how the node, the plan and the needs were when they began.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portwright_core::affected::needs_turn;
use portwright_core::desired::Desired;
use portwright_core::lanes::{self, Course, Lane};
use portwright_core::{Object, Observed, PciAddress, Plan, Reason};

/// The policies that need the turn, each for the sake of these objects.
pub type Needs = BTreeMap<String, BTreeSet<Object>>;

/// The lanes that are under way.
#[derive(Debug, Default)]
pub struct UnderWay(BTreeMap<Lane, Begun>);

/// Steps that are being carried out.
#[derive(Debug)]
struct Begun {
    course: Course,
    /// What was planned on their ports and bridges.
    part: Plan,
    needs: Needs,
    /// The node.
    observed: Arc<Observed>,
}

impl UnderWay {
    /// Notes that steps begin, as they were planned.
    pub fn begin(&mut self, course: &Course, plan: &Plan, needs: &Needs, observed: &Arc<Observed>) {
        let mut part = lanes::part(plan, course);
        // What is fought over is found each time.
        part.blocked.retain(|blocked| blocked.reason != Reason::Contended);
        let mine = |objects: &BTreeSet<Object>| -> BTreeSet<Object> {
            objects.iter().filter(|object| course.covers(object)).cloned().collect()
        };
        let needs = needs.iter().map(|(policy, objects)| (policy.clone(), mine(objects)));
        let needs = needs.filter(|(_, objects)| !objects.is_empty()).collect();
        let begun = Begun { course: course.clone(), part, needs, observed: Arc::clone(observed) };
        self.0.insert(course.lane, begun);
    }

    /// Steps have ended, or did not begin after all.
    pub fn end(&mut self, lane: Lane) {
        self.0.remove(&lane);
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps.
    pub fn courses(&self) -> Vec<&Course> {
        self.0.values().map(|begun| &begun.course).collect()
    }

    /// Whether steps are on the port or bridge of an object.
    pub fn covers(&self, object: &Object) -> bool {
        self.0.values().any(|begun| begun.course.covers(object))
    }

    /// The ports that steps are on.
    pub fn ports(&self) -> BTreeSet<PciAddress> {
        self.on_ports().map(|(port, _)| port).collect()
    }

    fn on_ports(&self) -> impl Iterator<Item = (PciAddress, &Begun)> {
        self.0.values().filter_map(|begun| match begun.course.lane {
            Lane::Port(port) => Some((port, begun)),
            Lane::Node | Lane::Switch => None,
        })
    }

    /// The ports and bridges that steps are on.
    pub fn objects(&self) -> BTreeSet<Object> {
        let steps = self.0.values().flat_map(|begun| &begun.course.steps);
        steps.map(|step| step.object.whole()).collect()
    }

    /// The node as it is, with the ports that steps are on as they were before. Half-way through, a port may have no VFs, no
    /// netdev or another name, and who plans for others must not take that for what is to stay.
    pub fn before<'a>(&self, observed: &'a Observed) -> Cow<'a, Observed> {
        let mut node = Cow::Borrowed(observed);
        for (port, begun) in self.on_ports() {
            let Some(before) = begun.observed.pf(port) else { continue };
            let mut functions: BTreeSet<PciAddress> = BTreeSet::from([port]);
            let now = observed.pf(port);
            functions.extend(now.into_iter().chain([before]).flat_map(|pf| &pf.vfs).map(|vf| vf.address));
            let node = node.to_mut();
            node.pfs.retain(|pf| pf.address != port);
            let at = node.pfs.partition_point(|pf| pf.address < port);
            node.pfs.insert(at, before.clone());
            let of_port = |pci: Option<PciAddress>| pci.is_some_and(|pci| functions.contains(&pci));
            node.links.retain(|link| !of_port(link.pci));
            node.links.extend(begun.observed.links.iter().filter(|link| of_port(link.pci)).cloned());
        }
        node
    }

    /// The plan, which of what steps are on says what it said when they began. Users that nobody waits for any more are left out
    /// of it: they are not to be evicted.
    pub fn beside(&self, fresh: Plan) -> Plan {
        let waited_for: BTreeSet<Object> = fresh.held.iter().map(|held| held.object.clone()).collect();
        let parts = self.0.values().map(|begun| (&begun.course, &begun.part));
        let mut planned = lanes::beside(fresh, parts);
        planned.held.retain(|held| waited_for.contains(&held.object));
        planned
    }

    /// The policies that need the turn: for what is due, and for what is under way.
    pub fn needs(&self, due: &Plan, observed: &Observed, desired: &Desired) -> Needs {
        let mut free = due.clone();
        free.steps.retain(|step| !self.covers(&step.object));
        free.held.retain(|held| !self.covers(&held.object));
        let mut needs = needs_turn(&free, observed, desired);
        for (policy, objects) in self.0.values().flat_map(|begun| &begun.needs) {
            needs.entry(policy.clone()).or_default().extend(objects.iter().cloned());
        }
        needs
    }

    /// The policies whose places steps under way rest on.
    pub fn policies(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(|begun| begun.needs.keys()).map(String::as_str).collect()
    }
}
