//! kubelet sees a device only while it is as the policy wants it.

use portwright_core::sim::Event;
use portwright_proto::device_plugin::{AllocateRequest, ContainerAllocateRequest};
use portwright_tests::kubelet::{Answer, Kubelet, Pod};

use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, sequence, source, start, vf};

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_shown_after_they_were_verified_and_taken_away_while_they_are_not() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let (_wish, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    let two =
        |resource: &portwright_tests::kubelet::Resource| resource.connected && resource.devices.len() == 2;
    kubelet.wait("portwright.dev/net", WITHIN, two).await.unwrap();
    kubelet.wait("portwright.dev/dpdk", WITHIN, two).await.unwrap();
    let lists = kubelet.resource("portwright.dev/net").unwrap().lists;
    assert_eq!(lists, 1, "nothing was shown before it was verified");

    // Somebody rebinds a VF by hand: it is taken away, put right, and shown again.
    let before = sequence(&agent);
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.get_mut(&0).unwrap().driver = None;
    agent.wake();
    kubelet
        .wait("portwright.dev/net", WITHIN, |resource| resource.lists > lists && resource.devices.len() == 2)
        .await
        .unwrap();
    in_sync_after(&mut agent, before).await;

    // A VF in use stays in the list.
    let id = machine.node().kernel.vf(vf(0)).unwrap().address.to_string();
    let pod = Pod {
        namespace: "default".to_owned(),
        name: "web-0".to_owned(),
        resource: "portwright.dev/net".to_owned(),
        devices: vec![id.clone()],
    };
    kubelet.set_pods(Answer::Pods(vec![pod]));
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(kubelet.resource("portwright.dev/net").unwrap().devices.len(), 2);

    // kubelet hands out a VF whose pod has just let go and left its netdev as it was there.
    machine.node().happen(&Event::NetdevLeaves(vf(0), "pod".to_owned()));
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    machine.node().happen(&Event::NetdevReturns(vf(0)));
    kubelet.set_pods(Answer::Pods(Vec::new()));
    // What Allocate looks at itself is on disk.
    let device = folder.path().join("sys/bus/pci/devices").join(&id);
    std::fs::create_dir_all(device.join("net/ens0v0")).unwrap();
    std::fs::create_dir_all(folder.path().join("sys/bus/pci/drivers/iavf")).unwrap();
    std::os::unix::fs::symlink("../../drivers/iavf", device.join("driver")).unwrap();
    let mut client = kubelet.client("portwright.dev/net").await.unwrap();
    let request = ContainerAllocateRequest { device_ids: vec![id] };
    client.allocate(AllocateRequest { container_requests: vec![request] }).await.unwrap();
    let node = machine.node();
    let netdev = node.kernel.vf(vf(0)).unwrap().netdev.clone().unwrap();
    assert!(
        netdev.in_host() && netdev.name != "net1",
        "it was put in order before it was handed out: {netdev:?}"
    );
    assert!(node.violations().is_empty());
    drop(node);
    agent.stop().await;
    kubelet.stop().await;
}
