//! kubelet is not there, comes, goes and comes again. The node is set up all the same.

use portwright_core::Reason;
use portwright_core::sim::Event;
use portwright_tests::agents::{in_sync, wish};
use portwright_tests::kubelet::{Kubelet, Resource};

use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, sequence, source, start, vf};

/// What kubelet notes of a device that a pod has.
fn checkpoint(device: &str) -> String {
    format!(
        r#"{{"Data":{{"PodDeviceEntries":[{{"PodUID":"f459","ContainerName":"c","ResourceName":"portwright.dev/net","DeviceIDs":{{"-1":["{device}"]}},"AllocResp":""}}],"RegisteredDevices":{{}}}},"Checksum":1}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kubelet_the_node_is_set_up_and_pools_are_registered_when_it_comes() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let (source, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    agent.until("set up", WITHIN, |facts| in_sync(facts) && facts.unconnected.len() == 2).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);

    let two = |resource: &Resource| resource.connected && resource.devices.len() == 2;
    for life in 0..2 {
        let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
        kubelet.wait("portwright.dev/net", WITHIN, two).await.unwrap();
        kubelet.wait("portwright.dev/dpdk", WITHIN, two).await.unwrap();
        agent.until("registered", WITHIN, |facts| facts.unconnected.is_empty()).await;
        kubelet.stop().await;
        agent.until("kubelet is missed", WITHIN, |facts| facts.unconnected.len() == 2).await;
        // Drift is repaired meanwhile.
        let before = sequence(&agent);
        machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.get_mut(&life).unwrap().admin.trust = false;
        agent.wake();
        in_sync_after(&mut agent, before).await;
        assert!(machine.node().kernel.pfs[&pf(0)].vfs[&life].admin.trust);
    }

    // What kubelet has noted of its pods holds while it is away.
    let id = machine.node().kernel.vf(vf(0)).unwrap().address.to_string();
    let noted = folder.path().join("kubelet/device-plugins/kubelet_internal_checkpoint");
    std::fs::write(&noted, checkpoint(&id)).unwrap();
    source.send_replace(wish(&POLICY.replace("vfs: 4", "vfs: 6")));
    let facts = agent
        .until("the pod is in the way", WITHIN, |facts| {
            facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::VfInUse)
        })
        .await;
    let blocked = facts.plan.blocked.iter().find(|blocked| blocked.reason == Reason::VfInUse).unwrap();
    assert!(blocked.message.contains("f459"), "{}", blocked.message);
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    machine.node().happen(&Event::Freed(vf(0)));
    std::fs::remove_file(&noted).unwrap();
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 6);
    agent.stop().await;
}
