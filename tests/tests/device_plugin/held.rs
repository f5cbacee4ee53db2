//! What pods have: pod resources, the checkpoint, our own hand-outs, and the files that are kept for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use portwright_core::pools::PoolDevice;
use portwright_device_plugin::{Context, Gate, Registration, Witness, allocations};
use portwright_host::root::Root;
use portwright_tests::kubelet::{Answer, Kubelet, Pod};
use tokio::sync::Notify;

use crate::rig::{CONFIG, NODE, Rig, ids, request};

const NET: &str = "intel.com/net";
const INFO: &str = "var/run/k8s.cni.cncf.io/devinfo/dp";

fn pod(devices: &[&str]) -> Answer {
    Answer::Pods(vec![Pod {
        namespace: "default".to_owned(),
        name: "web-0".to_owned(),
        container: "c".to_owned(),
        resource: NET.to_owned(),
        devices: devices.iter().map(|id| (*id).to_owned()).collect(),
    }])
}

fn checkpoint(rig: &Rig, device: &str) {
    let folder = rig.dir.join("device-plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        r#"{{"Data":{{"PodDeviceEntries":[{{"PodUID":"f459","ContainerName":"c","ResourceName":"{NET}","DeviceIDs":{{"-1":["{device}"]}},"AllocResp":""}}],"RegisteredDevices":{{}}}},"Checksum":1}}"#
    );
    std::fs::write(folder.join("kubelet_internal_checkpoint"), text).unwrap();
}

/// Makes kubelet's socket look as if it had been there for long: its age is read from its change time, which only the
/// kernel writes, so the clock that is compared with is the other side.
async fn read(rig: &Rig) -> allocations::Allocations {
    allocations::read(&Root::new(rig.tree.root()), &rig.dir, &Witness::default()).await
}

fn devices(found: &allocations::Allocations) -> Vec<&str> {
    found.list.iter().map(|one| one.device.as_str()).collect()
}

#[tokio::test]
async fn the_checkpoint_counts_while_kubelet_does_not_tell() {
    let rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    assert_eq!(read(&rig).await, allocations::Allocations::default(), "no kubelet, no pods");

    checkpoint(&rig, "0000:3b:01.1");
    assert_eq!(devices(&read(&rig).await), ["0000:3b:01.1"], "no socket");

    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    kubelet.set_pods(pod(&["0000:3b:01.0"]));
    // Its socket is new: what it lists may not be all.
    assert_eq!(devices(&read(&rig).await), ["0000:3b:01.0", "0000:3b:01.1"]);
    kubelet.set_pods(Answer::Refused);
    assert_eq!(devices(&read(&rig).await), ["0000:3b:01.1"], "refused");

    std::fs::write(rig.dir.join("device-plugins/kubelet_internal_checkpoint"), "{\"Data\"").unwrap();
    let unknown = read(&rig).await.unknown.unwrap();
    for word in ["rejected by rate limit", "checkpoint"] {
        assert!(unknown.contains(word), "{word}: {unknown}");
    }

    // A checkpoint of before this boot counts for nothing, whatever it holds.
    let boot = SystemTime::now() + Duration::from_secs(3600);
    let boot = boot.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    rig.tree.file("proc/stat", format!("cpu 1 2 3\nbtime {boot}\n")).unwrap();
    assert_eq!(read(&rig).await, allocations::Allocations::default());
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_looked_at_is_not_one_that_is_not_there() {
    let rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    std::fs::create_dir_all(&rig.dir).unwrap();
    assert_eq!(read(&rig).await, allocations::Allocations::default(), "there is none");
    std::fs::write(rig.dir.join("device-plugins"), "where the folder should be").unwrap();
    let unknown = read(&rig).await.unknown.expect("pods may have devices, for all anybody can tell");
    assert!(unknown.contains("cannot look at kubelet's checkpoint"), "{unknown}");
}

#[tokio::test]
async fn a_silent_kubelet_is_given_up() {
    let rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    kubelet.set_pods(Answer::Silent);
    checkpoint(&rig, "0000:3b:01.1");
    assert_eq!(devices(&read(&rig).await), ["0000:3b:01.1"]);
}

#[tokio::test]
async fn a_device_in_a_pod_stays_in_its_pool() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    kubelet.set_pods(pod(&["0000:3b:01.0"]));
    rig.read_held().await;
    // Its netdev goes into the pod: it is as healthy as before.
    std::fs::remove_dir_all(rig.tree.root().join("sys/devices/pci0000:00/0000:3b:01.0/net")).unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    // Bound to another driver it is of no use, and kubelet must still count it.
    rig.tree.bind("0000:3b:01.0", Some("vfio-pci")).unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["!0000:3b:01.0", "0000:3b:01.1"]).await;
    let mut client = kubelet.client(NET).await.unwrap();
    let (code, text) = crate::rig::refused(&mut client, request(&["0000:3b:01.0"])).await;
    assert_eq!(code, tonic::Code::FailedPrecondition);
    assert!(
        text.contains("intel.com/net: device 0000:3b:01.0 is unhealthy: drivers wants iavf, found vfio-pci"),
        "{text}"
    );
    // What does not exist is in no list, pod or not.
    rig.tree.remove_function("0000:3b:01.0").unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.1"]).await;
}

#[tokio::test]
async fn files_are_kept_for_whoever_has_the_device() {
    let mut rig = Rig::with(NODE, CONFIG, Registration::Legacy, true);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut net = kubelet.client(NET).await.unwrap();
    let mut dpdk = kubelet.client("intel.com/dpdk").await.unwrap();
    net.allocate(request(&["0000:3b:01.0"])).await.unwrap();
    dpdk.allocate(request(&["0000:3b:01.2"])).await.unwrap();
    let info = rig.tree.root().join(INFO).join("intel.com-net-0000:3b:01.0-device.json");
    let cdi = rig.tree.root().join("var/run/cdi/sriov-dp-intel.com-net-pci-dpdk.json");
    assert!(info.exists() && cdi.exists());
    let foreign = rig.tree.root().join(INFO).join("other.com-net-0000:3b:01.0-device.json");
    std::fs::write(&foreign, "{}").unwrap();

    // Handed out a moment ago: kubelet does not list it yet, and nothing is swept.
    rig.read_held().await;
    assert!(info.exists() && cdi.exists());
    rig.plugin.stop().await;
    assert!(info.exists() && cdi.exists(), "a stop of ours is no end of the pod");

    // A new run knows only what kubelet says.
    let settings = portwright_device_plugin::Settings {
        kubelet_dir: rig.dir.clone(),
        registration: Registration::Legacy,
        use_cdi: true,
    };
    let context = portwright_device_plugin::Context::new(
        Root::new(rig.tree.root()),
        settings,
        portwright_device_plugin::metrics::Metrics::default(),
    );
    rig.plugin = portwright_device_plugin::Plugin::start(context);
    kubelet.set_pods(pod(&["0000:3b:01.0"]));
    rig.publish().await;
    rig.read_held().await;
    assert!(info.exists(), "the pod still has it");
    assert!(!cdi.exists(), "nobody has these");
    kubelet.set_pods(pod(&[]));
    rig.read_held().await;
    assert!(!info.exists(), "nobody has it any more");
    assert!(foreign.exists(), "files of others stay");
    assert_eq!(rig.held, BTreeMap::new());
}

#[tokio::test]
async fn a_device_that_an_old_process_still_has_is_waited_for_and_then_named() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut client = kubelet.client("intel.com/dpdk").await.unwrap();
    for id in ["0000:3b:01.2", "0000:3b:01.3"] {
        client.allocate(request(&[id])).await.unwrap();
    }
    // Both pods are force-deleted; their processes live on, with the VFIO group open.
    for (pid, group) in [(4242, 12), (4243, 13)] {
        rig.tree.file(format!("proc/{pid}/comm"), "qemu\n").unwrap();
        rig.tree.dir(format!("proc/{pid}/fd")).unwrap();
        rig.tree.link(format!("proc/{pid}/fd/7"), format!("/dev/vfio/{group}")).unwrap();
    }
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.allocate(request(&["0000:3b:01.3"])).await });
    let (code, text) = crate::rig::refused(&mut client, request(&["0000:3b:01.2"])).await;
    assert_eq!(code, tonic::Code::FailedPrecondition);
    for words in ["intel.com/dpdk: device 0000:3b:01.2: it ", "/dev/vfio/12", "4242", "qemu", "waited 10 s"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The other call had the same to say; when its process has ended the device is free.
    assert!(waiting.await.unwrap().is_err());
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.allocate(request(&["0000:3b:01.3"])).await });
    std::fs::remove_dir_all(rig.tree.root().join("proc/4243")).unwrap();
    waiting.await.unwrap().unwrap();
}

/// A plugin that begins knows nothing of pods that came and went before.
fn restart(rig: &mut Rig, door: Option<Door>) {
    let settings = portwright_device_plugin::Settings {
        kubelet_dir: rig.dir.clone(),
        registration: Registration::Legacy,
        use_cdi: false,
    };
    let metrics = portwright_device_plugin::metrics::Metrics::default();
    let context = Context::new(Root::new(rig.tree.root()), settings, metrics);
    let context = match door {
        Some(door) => context.with_gate(Box::new(door)),
        None => context,
    };
    rig.plugin = portwright_device_plugin::Plugin::start(context);
}

#[tokio::test]
async fn what_an_old_process_has_is_looked_at_after_a_restart_too() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    // While nobody of ours was there a pod was deleted by force. No kubelet knows of it; its process has the VFIO group open.
    rig.tree.file("proc/4242/comm", "qemu\n").unwrap();
    rig.tree.dir("proc/4242/fd").unwrap();
    rig.tree.link("proc/4242/fd/7", "/dev/vfio/12").unwrap();
    restart(&mut rig, None);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut client = kubelet.client("intel.com/dpdk").await.unwrap();
    let (code, text) = crate::rig::refused(&mut client, request(&["0000:3b:01.2"])).await;
    assert_eq!(code, tonic::Code::FailedPrecondition);
    for words in ["intel.com/dpdk: device 0000:3b:01.2: it ", "/dev/vfio/12", "qemu"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    client.allocate(request(&["0000:3b:01.3"])).await.unwrap();
}

#[tokio::test]
async fn what_kubelets_checkpoint_has_noted_is_looked_at_before_it_is_given_away() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    restart(&mut rig, Some(Door { asked: Arc::clone(&asked), open: Arc::clone(&open) }));
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    let noted = |device: &str| allocations::Allocation {
        device: device.to_owned(),
        resource: "intel.com/dpdk".to_owned(),
        namespace: allocations::BY_UID.to_owned(),
        pod: "f459".to_owned(),
        container: "c".to_owned(),
    };
    let found = allocations::Allocations { noted: vec![noted("0000:3b:01.2")], ..Default::default() };
    assert!(rig.plugin.held(&found, |_| true).is_empty(), "nobody is said to have it");
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut client = kubelet.client("intel.com/dpdk").await.unwrap();
    client.allocate(request(&["0000:3b:01.3"])).await.unwrap();
    let waiting = tokio::spawn(async move { client.allocate(request(&["0000:3b:01.2"])).await });
    tokio::time::timeout(crate::rig::SOON, asked.notified()).await.expect("the gate is asked");
    open.notify_one();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_device_that_is_made_anew_is_not_the_one_that_was_handed_out() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut client = kubelet.client("intel.com/dpdk").await.unwrap();
    client.allocate(request(&["0000:3b:01.2"])).await.unwrap();
    rig.tree.remove_function("0000:3b:01.2").unwrap();
    rig.read_held().await;
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.3"]).await;
    rig.tree.line("vf 0000:3b:01.2 pf=0000:3b:00.0 index=2 netdev=ens1f0v2").unwrap();
    rig.read_held().await;
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1", "0000:3b:01.2"]).await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.3"]).await;
}

/// Says when it is asked, and lets the call go on when it is told to.
struct Door {
    asked: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate for Door {
    fn ready<'a>(&'a self, _: &'a PoolDevice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async {
            self.asked.notify_one();
            self.open.notified().await;
            Ok(())
        })
    }
}

#[tokio::test]
async fn what_changed_while_allocate_waited_counts() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let door = Door { asked: Arc::clone(&asked), open: Arc::clone(&open) };
    restart(&mut rig, Some(door));
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let mut client = kubelet.client("intel.com/dpdk").await.unwrap();
    client.allocate(request(&["0000:3b:01.2"])).await.unwrap();

    // A pod had it: the call waits. Meanwhile the device goes to the kernel's driver, and so into another pool.
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.allocate(request(&["0000:3b:01.2"])).await });
    asked.notified().await;
    rig.tree.bind("0000:3b:01.2", Some("iavf")).unwrap();
    rig.publish().await;
    open.notify_one();
    let refused = waiting.await.unwrap().expect_err("it would have been handed out for another driver");
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(refused.message().contains("not in this pool any more"), "{refused}");
}
