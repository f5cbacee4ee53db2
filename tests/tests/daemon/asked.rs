//! An operator asks over the daemon's socket, and the real loop answers.

use portwright::daemon::socket::client;
use portwright::output::Exit;
use portwright::verb::status::exit;
use portwright_core::sim::{Errno, Event};

use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, settings, source};
use portwright_tests::agents::Agent;

#[tokio::test(flavor = "multi_thread")]
async fn drift_that_made_no_event_is_put_right_when_an_operator_asks() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("agent.sock");
    // No kubelet listens here, so nothing is to be in a pool.
    let (_wish, receiver) = source(&POLICY.replace("pool: net, ", "").replace("pool: dpdk, ", ""));
    let mut agent = Agent::start(&machine, settings(folder.path(), receiver));
    in_sync_after(&mut agent, 0).await;
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.get_mut(&0).unwrap().admin.trust = false;

    let state = client::reconcile(&socket, 20).await.unwrap();
    assert!(machine.node().kernel.pfs[&pf(0)].vfs[&0].admin.trust, "it has not waited for the steps");
    assert!(state.plan.steps.is_empty() && !state.summary.running, "{:?}", state.plan);
    let run = state.last_run.as_ref().unwrap();
    assert_eq!((run.done, run.failed), (1, 0), "{run:?}");
    assert!(run.causes.contains(&"asked by the operator".to_owned()), "{:?}", run.causes);
    let port = state.pfs.iter().find(|port| port.address == pf(0).to_string()).unwrap();
    assert_eq!((port.num_vfs, port.conditions[0].reason.as_str()), (4, "InSync"));

    let told = client::state(&socket).await.unwrap();
    assert!(told.equal_but_for_time(&state));
    assert_eq!(exit(&told), Exit::Ok, "{:?}", told.conditions);
    agent.stop().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_ends_the_wait_after_failures() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("agent.sock");
    machine.node().happen(&Event::NumVfsFails(pf(0), Errno::NoSpace));
    let (_wish, receiver) = source(POLICY);
    let mut agent = Agent::start(&machine, settings(folder.path(), receiver));
    agent
        .until("the failure is told", WITHIN, |facts| {
            facts.waiting.values().any(|why| why.contains("ENOSPC"))
        })
        .await;
    let state = client::reconcile(&socket, 20).await.unwrap();
    assert!(state.plan.waiting.is_empty(), "{:?}", state.plan.waiting);
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    agent.stop().await;
}
