//! What changes on a node is noticed and put right; what cannot be, is told.

use portwright_core::desired::{Vlan, VlanProtocol};
use portwright_core::sim::{Errno, Event};
use portwright_core::{Change, Reason, Step};
use portwright_tests::agents::{Agent, Start, wish};

use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, sequence, settings, source, start, vf};

/// What somebody does to a port by hand.
type Edit = fn(&mut portwright_core::sim::SimPf);

#[tokio::test(flavor = "multi_thread")]
async fn vfs_are_made_and_what_others_change_is_put_right() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (_wish, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);

    let edits: [(&str, Edit); 3] = [
        ("VLAN", |pf| {
            pf.vfs.get_mut(&0).unwrap().admin.vlan = Vlan { id: 7, qos: 0, protocol: VlanProtocol::Dot1q };
        }),
        ("driver", |pf| {
            let vf = pf.vfs.get_mut(&2).unwrap();
            (vf.driver, vf.driver_override) = (None, None);
        }),
        ("all VFs", |pf| pf.vfs.clear()),
    ];
    for (what, edit) in edits {
        let before = sequence(&agent);
        edit(machine.node().kernel.pfs.get_mut(&pf(0)).unwrap());
        agent.wake();
        in_sync_after(&mut agent, before).await;
        let node = machine.node();
        let vfs = &node.kernel.pfs[&pf(0)].vfs;
        assert_eq!((vfs.len(), vfs[&0].admin.vlan.id), (4, 100), "{what}");
        assert_eq!(vfs[&2].driver.as_deref(), Some("vfio-pci"), "{what}");
    }
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4, "the agent's end changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_vanishes_and_returns_is_set_up_again() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (_wish, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    machine.node().happen(&Event::PfVanishes(pf(0)));
    agent.wake();
    let missing = |facts: &portwright::daemon::facts::Facts| {
        facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::PfMissing)
    };
    agent.until("the port is missed", WITHIN, missing).await;
    machine.node().happen(&Event::PfReturns(pf(0)));
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_is_tried_again_and_told_meanwhile() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    machine.node().happen(&Event::NumVfsFails(pf(0), Errno::NoSpace));
    let (_wish, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    let facts = agent
        .until("the failure is told", WITHIN, |facts| {
            facts.waiting.values().any(|why| why.contains("ENOSPC"))
        })
        .await;
    assert!(!facts.plan.steps.is_empty(), "what is left to do is shown while it waits");
    in_sync_after(&mut agent, facts.sequence).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_no_policy_lists_any_more_is_released_once_nobody_uses_it() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (source, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    machine.node().happen(&Event::Allocated(vf(1), "web-0".to_owned()));
    source.send_replace(wish(&POLICY.replace("0000:3b:00.0", "0000:3b:00.1")));
    let releasing = |facts: &portwright::daemon::facts::Facts| {
        facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::Releasing)
    };
    let facts = agent.until("it says that it waits", WITHIN, releasing).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    machine.node().happen(&Event::Freed(vf(1)));
    agent.wake();
    in_sync_after(&mut agent, facts.sequence).await;
    let left = [0, 1].map(|number| machine.node().kernel.pfs[&pf(number)].vfs.len());
    assert_eq!(left, [0, 4]);
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_source_the_last_good_policy_is_followed_and_nothing_is_released() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (first, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    agent.kill().await;
    drop(first);
    // As with an API server that is away at the start: nothing was read yet.
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.clear();
    let (_nothing, receiver) = tokio::sync::watch::channel(portwright::daemon::wish::Wish::default());
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_reach_its_new_state_goes_back_to_its_last_good_one() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (source, receiver) = source(POLICY);
    let there = machine.clone();
    let watcher = std::sync::Arc::new(move |step: Option<&Step>| {
        if let Some(Change::SetNumVfs { to: 6, .. }) = step.map(|step| &step.change) {
            there.node().happen(&Event::EnablesAtMost(pf(0), 2));
        }
    });
    let start = Start { watcher: Some(watcher), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    in_sync_after(&mut agent, 0).await;
    source.send_replace(wish(&POLICY.replace("vfs: 4", "vfs: 6")));
    let fallen = |facts: &portwright::daemon::facts::Facts| {
        !facts.running && facts.desired.fall_back.contains_key(&pf(0)) && facts.plan.steps.is_empty()
    };
    agent.until("it goes back", WITHIN, fallen).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    // Another start of the agent is no other attempt.
    agent.kill().await;
    let (tried, receiver) = (machine.node().steps, source.subscribe());
    let mut agent = Agent::start(&machine, settings(folder.path(), receiver));
    agent.until("it stays there", WITHIN, |facts| facts.sequence > 0 && fallen(facts)).await;
    assert_eq!(machine.node().steps, tried, "nothing was tried");
    // An operator who has found the cause asks for another attempt; another policy is one too.
    source.send_replace(wish(&POLICY.replace("vfs: 4", "vfs: 5")));
    let before = sequence(&agent);
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 5);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_has_another_name_for_a_moment_keeps_its_vfs() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let by_name = POLICY.replace("addresses: ['0000:3b:00.0']", "names: [ens0]");
    let (source, receiver) = source(&by_name);
    let mut agent = start(&machine, folder.path(), receiver);
    in_sync_after(&mut agent, 0).await;
    let rename = |name: &str| {
        machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().netdev.as_mut().unwrap().name = name.to_owned();
    };
    rename("eth0");
    agent.wake();
    let heard = agent.has_heard();
    let missing = |facts: &portwright::daemon::facts::Facts| {
        heard(facts) && facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::PfMissing)
    };
    let facts = agent.until("the port is missed", WITHIN, missing).await;
    assert!(facts.plan.steps.is_empty(), "{:?}", facts.plan.steps);
    rename("ens0");
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);

    // A policy that was changed so that it lists the port no more is another matter.
    source.send_replace(wish(&by_name.replace("names: [ens0]", "names: [ens1]")));
    let before = sequence(&agent);
    in_sync_after(&mut agent, before).await;
    agent.until("it is released", WITHIN, |facts| facts.observed.pfs[0].vfs.is_empty()).await;
    agent.stop().await;
}
