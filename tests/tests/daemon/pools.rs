//! kubelet sees a device only while it is as the policy wants it.

use std::path::Path;

use portwright_core::sim::Event;
use portwright_proto::device_plugin::{AllocateRequest, ContainerAllocateRequest};
use portwright_tests::agents::wish;
use portwright_tests::kubelet::{Answer, Kubelet, Pod};

use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, sequence, source, start, vf};

/// What Allocate looks at itself is on disk: the VF's driver and, unless it is elsewhere, its netdev.
pub fn on_disk(root: &Path, id: &str, netdev: bool) {
    let device = root.join("sys/bus/pci/devices").join(id);
    std::fs::create_dir_all(if netdev { device.join("net/ens0v0") } else { device.clone() }).unwrap();
    std::fs::create_dir_all(root.join("sys/bus/pci/drivers/iavf")).unwrap();
    std::os::unix::fs::symlink("../../drivers/iavf", device.join("driver")).unwrap();
}

pub fn request(id: &str) -> AllocateRequest {
    let request = ContainerAllocateRequest { device_ids: vec![id.to_owned()] };
    AllocateRequest { container_requests: vec![request] }
}

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
        container: "c".to_owned(),
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
    on_disk(folder.path(), &id, true);
    let mut client = kubelet.client("portwright.dev/net").await.unwrap();
    client.allocate(request(&id)).await.unwrap();
    let netdev = machine.node().kernel.vf(vf(0)).unwrap().netdev.clone().unwrap();
    assert!(
        netdev.in_host() && netdev.name != "net1",
        "it was put in order before it was handed out: {netdev:?}"
    );
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
    kubelet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_somebody_still_has_is_refused_by_name_and_one_whose_pod_ended_soon_is_not() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let (_wish, receiver) = source(POLICY);
    let agent = start(&machine, folder.path(), receiver);
    let two =
        |resource: &portwright_tests::kubelet::Resource| resource.connected && resource.devices.len() == 2;
    kubelet.wait("portwright.dev/net", WITHIN, two).await.unwrap();
    let ids = [0, 1].map(|index| machine.node().kernel.vf(vf(index)).unwrap().address.to_string());
    let mut client = kubelet.client("portwright.dev/net").await.unwrap();

    // A pod that ends at once, and the next that gets its device.
    on_disk(folder.path(), &ids[0], true);
    for _ in 0..2 {
        client.allocate(request(&ids[0])).await.unwrap();
    }

    // The pod is force-deleted, its network namespace lives on with the netdev in it.
    on_disk(folder.path(), &ids[1], false);
    machine.node().happen(&Event::NetdevLeaves(vf(1), "web".to_owned()));
    let refused = client.allocate(request(&ids[1])).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    for words in ["portwright.dev/net", ids[1].as_str(), "in network namespace web", "waited 10 s"] {
        assert!(refused.message().contains(words), "{words}: {}", refused.message());
    }
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
    kubelet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_planned_takes_no_device_away() {
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let (source, receiver) = source(POLICY);
    let mut agent = start(&machine, folder.path(), receiver);
    let two =
        |resource: &portwright_tests::kubelet::Resource| resource.connected && resource.devices.len() == 2;
    kubelet.wait("portwright.dev/net", WITHIN, two).await.unwrap();
    in_sync_after(&mut agent, 0).await;
    let lists = kubelet.resource("portwright.dev/net").unwrap().lists;
    let planned = POLICY.replace("spec:", "spec:\n  mode: Plan").replace("vfs: 4", "vfs: 6");
    source.send_replace(wish(&planned));
    agent.until("the plan is shown", WITHIN, |facts| !facts.plan.steps.is_empty()).await;
    let resource = kubelet.resource("portwright.dev/net").unwrap();
    assert_eq!((resource.devices.len(), resource.lists), (2, lists), "resizing is planned and not done");
    agent.stop().await;
    kubelet.stop().await;
}
