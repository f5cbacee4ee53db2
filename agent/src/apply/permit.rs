//! Policies with `mode: Plan` publish their plan and change nothing: their steps are shown and not run.

use portwright_core::desired::{Desired, Mode};
use portwright_core::{Object, Plan};

/// The part of a plan that may be carried out.
pub fn permitted(plan: &Plan, desired: &Desired) -> Plan {
    let watching = |policy: &str| {
        desired.documents.iter().any(|document| document.name == policy && document.mode == Mode::Plan)
    };
    let left_alone: Vec<&Object> = plan
        .subjects
        .iter()
        .filter(|subject| watching(&subject.policy))
        .map(|subject| &subject.object)
        .collect();
    let mut permitted = plan.clone();
    permitted.steps.retain(|step| !left_alone.iter().any(|object| step.object.goes_with(object)));
    // What is done for the node as a whole (the udev rule) is done for the sake of a port.
    if permitted.steps.iter().all(|step| step.object == Object::Node) {
        permitted.steps.clear();
    }
    permitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use portwright_core::desired::{DisruptionPolicy, Document};
    use portwright_core::plan::Subject;
    use portwright_core::{Change, Disruption, Step};

    fn document(name: &str, mode: Mode) -> Document {
        Document {
            name: name.to_owned(),
            priority: 0,
            mode,
            disruption: DisruptionPolicy::WhenIdle,
            nics: Vec::new(),
            pools: Vec::new(),
            ovs: Default::default(),
        }
    }

    fn subject(address: &str, policy: &str) -> Subject {
        Subject {
            object: Object::Pci(address.parse().unwrap()),
            heading: String::new(),
            policy: policy.to_owned(),
            notes: Vec::new(),
        }
    }

    fn step(object: &str) -> Step {
        let object = object.parse().unwrap();
        let change = Change::SetPfMtu { from: 1500, to: 9000 };
        Step { object, change, disruption: Disruption::None, force: false }
    }

    fn objects(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| step.object.to_string()).collect()
    }

    #[test]
    fn steps_of_policies_that_only_plan_are_not_run() {
        let plan = Plan {
            steps: vec![step("node"), step("0000:01:00.0"), step("0000:02:00.0"), step("0000:02:00.0/vf/1")],
            subjects: vec![subject("0000:01:00.0", "act"), subject("0000:02:00.0", "watch")],
            ..Plan::default()
        };
        let desired = Desired {
            documents: vec![document("act", Mode::Apply), document("watch", Mode::Plan)],
            ..Desired::default()
        };
        assert_eq!(objects(&permitted(&plan, &desired)), ["node", "0000:01:00.0"]);

        let only_watching = Desired {
            documents: vec![document("act", Mode::Plan), document("watch", Mode::Plan)],
            ..desired
        };
        assert!(objects(&permitted(&plan, &only_watching)).is_empty(), "not even the node's own steps");
    }
}
