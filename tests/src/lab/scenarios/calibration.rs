//! Keeps the simulator honest: the same wishes, one after the other, on the simulated node and on the real kernel; the
//! plans and what is observed afterwards must be the same, but for the fields listed here (and in docs/lab.md).

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, anyhow, ensure};
use portwright::input::{self, TextFile};
use portwright_core::drive::{self, Node as _, Outcome};
use portwright_core::observed::Observed;
use portwright_core::plan::{json, plan};
use portwright_core::sim::SimNode;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn table() -> Vec<Scenario> {
    vec![iommu("calibration-simulator-and-kernel-agree", agree)]
}

/// Fields of a PF's observation in which simulator and kernel may differ, `*` for any number.
const DIFFER: &[(&str, &str)] = &[
    ("/netdevs/*/ifindex", "the kernel counts every interface, also those that are gone"),
    ("/netdevs/*/speed", "the simulator has no line rate"),
    ("/vfs/*/address", "offset and stride of VFs are the card's; the simulator numbers them in a row"),
    (
        "/vfs/*/admin/linkState",
        "netlink says `auto` also for drivers that cannot set it; the simulator says unsupported",
    ),
    ("/vfs/*/iommuGroup", "the kernel counts groups in the order of creation"),
    ("/vfs/*/netdev", "the kernel names netdevs in the order in which drivers bind"),
    ("/vfs/*/netdevs/*/name", "the same"),
    ("/vfs/*/netdevs/*/ifindex", "as for the PF"),
    ("/vfs/*/netdevs/*/carrier", "the simulator's VFs have no link of their own"),
    ("/vfs/*/netdevs/*/speed", "the simulator has no line rate"),
    ("/vfs/*/remembered/name", "as the netdev's name"),
];

fn agree(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    sys::tool("modprobe", &["vfio-pci"])?;
    let nic = |wish: &str| policy::document(&[policy::nic(&pf, wish)]);
    let wishes = [
        ("three groups", nic(&policy::three_groups(100))),
        ("another VLAN", nic(&policy::three_groups(200))),
        // In a group, so that the MACs are wanted ones: igb invents random ones, which no simulator can.
        ("fewer VFs", nic("vfs: 3\nvfGroups:\n- {vfs: \"0-2\", pool: net, driver: kernel}")),
        ("all to vfio-pci", nic(&policy::vfio(3))),
        ("none", nic(&policy::plain(0))),
    ];
    let profiles = input::profiles(None)?;
    let mut sim = SimNode::from_observed(&observed()?);
    let mut used = BTreeSet::new();
    for (wish, document) in &wishes {
        guest::wait_for_carrier(&pf)?;
        let file = TextFile { name: (*wish).to_owned(), text: document.clone() };
        let desired = input::desired(&[file])?;
        let planned = plan(&sim.observe()?, &desired, &profiles);
        let real = cli::plan(document)?;
        let simulated: Vec<Value> = planned.steps.iter().map(json::step).collect();
        ensure!(simulated == real.steps, "{wish}: the plans differ; simulated {simulated:#?}\n{}", real);
        for report in drive::run_steps(&mut sim, &planned, &mut |_| {}) {
            ensure!(
                report.outcome == Outcome::Done,
                "{wish}: on the simulator {}: {:?}",
                report.step,
                report.outcome
            );
        }
        sim.remember();
        cli::converge(document)?;
        guest::wait_for_carrier(&pf)?;
        let (there, here) = (shown(&sim.observe()?, &pf)?, shown(&observed()?, &pf)?);
        let mut differences = Vec::new();
        compare("", &there, &here, &mut differences);
        for difference in differences {
            let general = generalised(&difference.0);
            let known = DIFFER.iter().any(|(field, _)| *field == general);
            ensure!(
                known,
                "{wish}: {} is {} on the simulator, {} on the kernel",
                difference.0,
                difference.1,
                difference.2
            );
            used.insert(general);
        }
    }
    for (field, _) in DIFFER.iter().filter(|(field, _)| !used.contains(*field)) {
        lab.note(&format!("calibration: {field} did not differ"))?;
    }
    Ok(())
}

fn observed() -> Result<Observed> {
    serde_json::from_value(cli::observe()?).context("observe's JSON is no Observed")
}

fn shown(observed: &Observed, pf: &str) -> Result<Value> {
    let address = pf.parse().map_err(|_| anyhow!("{pf} is no PCI address"))?;
    Ok(serde_json::to_value(observed.pf(address).with_context(|| format!("{pf} is not observed"))?)?)
}

/// Where two values differ: (pointer, one, other).
fn compare(at: &str, one: &Value, other: &Value, found: &mut Vec<(String, String, String)>) {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let null = Value::Null;
                let (a, b) = (left.get(name).unwrap_or(&null), right.get(name).unwrap_or(&null));
                compare(&format!("{at}/{name}"), a, b, found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (a, b)) in left.iter().zip(right).enumerate() {
                compare(&format!("{at}/{index}"), a, b, found);
            }
        }
        _ if one == other => {}
        _ => found.push((at.to_owned(), one.to_string(), other.to_string())),
    }
}

/// `/vfs/3/netdev` → `/vfs/*/netdev`.
fn generalised(pointer: &str) -> String {
    let parts = pointer
        .split('/')
        .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::{compare, generalised};
    use serde_json::json;

    #[test]
    fn differences_are_found_and_generalised() {
        let mut found = Vec::new();
        compare(
            "",
            &json!({"a": [{"b": 1}, {"b": 2}], "c": 1}),
            &json!({"a": [{"b": 1}, {"b": 3}], "d": null, "c": 1}),
            &mut found,
        );
        let pointers: Vec<&str> = found.iter().map(|(pointer, _, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/a/1/b"]);
        assert_eq!(generalised("/a/1/b"), "/a/*/b");
    }
}
