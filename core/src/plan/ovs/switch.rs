//! The switch as a whole: hardware offload, and whether ovs-vswitchd keeps up.

use super::Scene;
use super::bind::Bindings;
use super::cut::{self, Cut};
use crate::blocked::{Blocked, Reason};
use crate::desired::Document;
use crate::ovs::{Bridge, Change, Target};
use crate::plan::{Findings, Plan, Subject};

/// Plans `spec.ovs.hwOffload`, and reports an ovs-vswitchd that does not act.
pub(super) fn plan_switch(
    scene: &Scene<'_>,
    bindings: &Bindings<'_>,
    plan: &mut Plan,
    findings: &mut Findings,
) {
    let wants_something = scene.desired.documents.iter().any(|document| !document.ovs.is_empty());
    if scene.ovs.vswitchd.is(&false) && wants_something {
        let left = ", and has not carried out what the database asks for";
        let left = if scene.ovs.settled { "" } else { left };
        findings.obstacle(
            &Target::Switch,
            Reason::OvsUnreachable,
            format!("ovs-vswitchd does not answer on its control socket{left}"),
            "start ovs-vswitchd, or look into its log; `portwright ovs ping` tells whether it answers",
        );
    } else if !scene.ovs.settled && wants_something {
        findings.obstacle(
            &Target::Switch,
            Reason::NotApplied,
            "ovs-vswitchd has not carried out what the database asks for",
            "start ovs-vswitchd, or look into its log; `portwright ovs ping` tells whether it answers",
        );
    }
    let wishes: Vec<(&Document, bool)> = scene
        .desired
        .documents
        .iter()
        .filter_map(|document| Some((document, document.ovs.hw_offload?)))
        .collect();
    let Some(top) = wishes.iter().map(|(document, _)| document.priority).max() else { return };
    let mut first = wishes.iter().filter(|(document, _)| document.priority == top);
    let Some((document, wish)) = first.next() else { return };
    if let Some((other, _)) = first.find(|(_, other)| other != wish) {
        plan.blocked.push(Blocked::new(
            Target::Switch.object(),
            Reason::PolicyConflict,
            format!(
                "`{}` and `{}` disagree about spec.ovs.hwOffload with priority {top}",
                document.name, other.name
            ),
            "give one of them a larger `priority`",
        ));
        return;
    }
    let found = crate::ovs::hw_offload(scene.ovs);
    let mut notes = Vec::new();
    // Absent and off are the same to ovs-vswitchd.
    if found.unwrap_or(false) != *wish {
        let change = Change::SetHwOffload { from: found, to: *wish };
        if *wish {
            turn_on(scene, bindings, document, change, findings, &mut notes);
        } else {
            findings.change(&Target::Switch, &document.name, change);
            notes.push(
                "turning hw-offload off takes effect when ovs-vswitchd is restarted; portwright does not restart it"
                    .to_owned(),
            );
        }
    }
    plan.subjects.push(Subject {
        object: Target::Switch.object(),
        heading: String::new(),
        policy: document.name.clone(),
        notes,
    });
}

/// ovs-vswitchd acts at once: it sets up traffic control on every port of every bridge.
fn turn_on(
    scene: &Scene<'_>,
    bindings: &Bindings<'_>,
    document: &Document,
    change: Change,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    let bridges = || scene.ovs.bridges.iter().map(|bridge| (bridge, cut::all_of(scene, bridge)));
    let adopts = |bridge: &Bridge| {
        bindings.bridges.iter().any(|bound| bound.wish.name == bridge.name && bound.wish.adopt)
    };
    let others =
        bridges().flat_map(|(bridge, ports)| cut::others(scene, bridge, adopts(bridge), &ports, None));
    let cut = Cut {
        target: &Target::Switch,
        what: "turning hw-offload on",
        policy: document.disruption,
        ports: bridges().flat_map(|(_, ports)| ports).collect(),
        others: others.collect(),
    };
    let leave = cut::leave(scene, &cut, findings);
    notes.append(&mut findings.notes);
    if let Some(leave) = leave {
        findings.let_through(&Target::Switch, &document.name, change, leave);
        notes.push("ovs-vswitchd turns hw-offload on at once, on all ports".to_owned());
    }
}
