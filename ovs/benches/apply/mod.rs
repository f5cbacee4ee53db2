//! A whole apply as an operator gets it: look, plan, carry out, look again, plan again.

use std::time::{Duration, Instant};

use portwright_core::desired::{Desired, DisruptionPolicy, Document, Mode};
use portwright_core::drive::{Node, RunError, run_steps};
use portwright_core::ovs::{BridgeWish, Datapath, PortKind, PortWish, VlanSetting, Wishes};
use portwright_core::{Observed, Profiles, Step, plan};
use portwright_ovs::node::{OvsError, OvsNode, Seen};

use crate::harness::{Server, Vswitchd};
use crate::{bar, median, show};

/// A node that is a switch only.
struct Switch(OvsNode);

impl Node for Switch {
    type Error = OvsError;

    fn observe(&mut self) -> Result<Observed, OvsError> {
        match self.0.observe() {
            Seen::There(ovs) => Ok(Observed { ovs: Some(*ovs), ..Observed::default() }),
            Seen::Absent => Ok(Observed::default()),
            Seen::Unreachable(error) => Err(*error),
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<OvsError>> {
        self.0.run(std::slice::from_ref(step))
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        self.0.run(steps)
    }
}

/// A bridge with so many internal ports in a VLAN.
fn wish(ports: usize, tag: u16) -> Desired {
    let vlan = VlanSetting { mode: Some("access".to_owned()), tag: Some(tag), ..VlanSetting::default() };
    let port = |number: usize| PortWish {
        path: String::new(),
        name: format!("p{number}"),
        kind: PortKind::Internal,
        options: Default::default(),
        vlan: Some(vlan.clone()),
        qos: None,
        policing: None,
    };
    let bridge = BridgeWish {
        path: String::new(),
        name: "br0".to_owned(),
        datapath: Some(Datapath::Netdev),
        fail_mode: None,
        uplinks: Vec::new(),
        ports: (0..ports).map(port).collect(),
        options: Default::default(),
        adopt: false,
        advertise: None,
    };
    let document = Document {
        name: "bench".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: Vec::new(),
        pools: Vec::new(),
        ovs: Wishes { bridges: vec![bridge], ..Wishes::default() },
    };
    Desired { documents: vec![document], ..Desired::default() }
}

/// Applies and verifies; fails unless nothing is left.
fn apply(node: &mut Switch, desired: &Desired) -> Duration {
    let profiles = Profiles::default();
    let start = Instant::now();
    let first = plan(&node.observe().unwrap(), desired, &profiles);
    for report in run_steps(node, &first, &mut |_| {}) {
        assert_eq!(report.outcome, portwright_core::drive::Outcome::Done, "{}", report.step);
    }
    let left = plan(&node.observe().unwrap(), desired, &profiles);
    let took = start.elapsed();
    assert!(left.in_sync() && !first.steps.is_empty(), "{left:?}");
    took
}

/// The bars of a whole apply.
pub(crate) fn measure() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    let node = |server: &Server| Switch(OvsNode::new(server.remote(), Duration::from_secs(10)).unwrap());
    let mut connected = node(&server);
    let mut hundred = Vec::new();
    for _ in 0..5 {
        hundred.push(apply(&mut connected, &wish(100, 5)));
        // Each time from nothing.
        apply(&mut connected, &nothing());
    }
    let hundred = median(hundred);
    let what = "plan, apply and verify 100 ports, median of 5";
    bar(what, format!("{hundred:.1?}"), "≤ 100 ms", hundred <= Duration::from_millis(100));
    apply(&mut connected, &wish(200, 5));
    let mut changes = Vec::new();
    for number in 0..20_u16 {
        changes.push(apply(&mut connected, &wish(200, 6 + number % 2)));
    }
    show("plan, apply and verify 200 changed VLANs, median", format!("{:.1?}", median(changes)), "");
}

/// The same policy without its bridge.
fn nothing() -> Desired {
    let mut desired = wish(0, 5);
    for document in &mut desired.documents {
        document.ovs.bridges.clear();
    }
    desired
}
