//! Registration and lists, in both modes, over what happens to sockets, folders and kubelet.

use portwright_device_plugin::Registration;
use portwright_tests::kubelet::{Kubelet, connect, raw};

use crate::rig::{CONFIG, NODE, Rig, SOON, ids, request};

const NET: &str = "intel.com/net";
const DPDK: &str = "intel.com/dpdk";
const MODES: [(Registration, bool); 2] = [(Registration::Watcher, true), (Registration::Legacy, false)];

#[tokio::test]
async fn a_change_of_the_node_arrives_and_names_the_right_devices() {
    for (registration, watcher) in MODES {
        let mut rig = Rig::new(NODE, CONFIG, registration);
        let kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        rig.publish().await;
        let found = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
        assert_eq!(found.devices[0].topology.as_ref().unwrap().nodes[0].id, 0);
        ids(&kubelet, DPDK, &["0000:3b:01.2", "0000:3b:01.3"]).await;

        rig.tree.bind("0000:3b:01.1", Some("vfio-pci")).unwrap();
        rig.publish().await;
        ids(&kubelet, NET, &["0000:3b:01.0"]).await;
        ids(&kubelet, DPDK, &["0000:3b:01.1", "0000:3b:01.2", "0000:3b:01.3"]).await;

        rig.tree.line("vf 0000:3b:01.7 pf=0000:3b:00.0 index=7 netdev=ens1f0v7").unwrap();
        rig.publish().await;
        ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.7"]).await;

        for address in ["0000:3b:01.0", "0000:3b:01.7"] {
            rig.tree.remove_function(address).unwrap();
        }
        rig.publish().await;
        let empty = ids(&kubelet, NET, &[]).await;
        assert!(empty.connected, "an empty pool stays registered");

        let before = kubelet.resource(DPDK).unwrap();
        rig.publish().await;
        rig.tree.line("vf 0000:3b:01.4 pf=0000:3b:00.0 index=4 netdev=ens1f0v4").unwrap();
        rig.publish().await;
        ids(&kubelet, NET, &["0000:3b:01.4"]).await;
        let after = kubelet.resource(DPDK).unwrap();
        assert_eq!(
            (before.lists, before.registrations),
            (after.lists, after.registrations),
            "nothing changed there"
        );
        rig.plugin.stop().await;
        kubelet.stop().await;
    }
}

#[tokio::test]
async fn a_pool_without_devices_is_registered_when_it_gets_one() {
    let mut rig = Rig::new(
        NODE,
        r#"{"resourceList": [{"resourceName": "x", "selectors": {"drivers": ["ixgbevf"]}}]}"#,
        Registration::Legacy,
    );
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    assert!(!rig.dir.join("device-plugins/intel.com_x.sock").exists());
    assert!(kubelet.names().is_empty());
    rig.tree.bind("0000:3b:01.0", Some("ixgbevf")).unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/x", &["0000:3b:01.0"]).await;
}

#[tokio::test]
async fn auto_takes_the_watcher_where_there_is_one() {
    for watcher in [true, false] {
        let mut rig = Rig::new(NODE, CONFIG, Registration::Auto);
        let kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        rig.publish().await;
        let found = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
        let folder = if watcher { "plugins_registry" } else { "device-plugins" };
        assert_eq!(found.socket, rig.dir.join(folder).join("intel.com_net.sock"));
        rig.plugin.stop().await;
        assert!(!found.socket.exists(), "a clean stop takes the socket away");
        kubelet.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_socket_a_restarted_kubelet_and_a_new_folder_are_recovered_from() {
    for (registration, watcher) in MODES {
        let mut rig = Rig::new(NODE, CONFIG, registration);
        // kubelet is not there yet, nor are its folders.
        rig.publish().await;
        let mut kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        let all = ["0000:3b:01.0", "0000:3b:01.1"];
        let found = ids(&kubelet, NET, &all).await;

        std::fs::remove_file(&found.socket).unwrap();
        let again =
            kubelet.wait(NET, SOON, |now| now.connected && now.registrations > found.registrations).await;
        assert!(again.unwrap().socket.exists(), "{registration:?}: a deleted socket");

        kubelet.stop().await;
        kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        ids(&kubelet, NET, &all).await;
        ids(&kubelet, DPDK, &["0000:3b:01.2", "0000:3b:01.3"]).await;

        kubelet.stop().await;
        std::fs::remove_dir_all(&rig.dir).unwrap();
        kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        ids(&kubelet, NET, &all).await;
        let mut client = kubelet.client(NET).await.unwrap();
        assert!(client.allocate(request(&["0000:3b:01.0"])).await.is_ok());
        rig.plugin.stop().await;
        kubelet.stop().await;
    }
}

#[tokio::test]
async fn a_refused_registration_is_tried_again() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    kubelet.refuse(Some("not today"));
    rig.publish().await;
    let socket = rig.dir.join("device-plugins/intel.com_net.sock");
    // It serves although kubelet does not want it.
    let wait = async {
        loop {
            if let Ok(mut client) = connect(&socket).await {
                return client.get_device_plugin_options(portwright_proto::device_plugin::Empty {}).await;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(SOON, wait).await.unwrap().unwrap().get_ref().get_preferred_allocation_available
    );
    kubelet.refuse(None);
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
}

#[tokio::test]
async fn kubelets_escaped_authority_is_taken() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Watcher);
    let kubelet = Kubelet::start(&rig.dir, true).await.unwrap();
    rig.publish().await;
    let socket = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await.socket;
    let escaped = raw::authority(&socket);
    assert!(escaped.starts_with("%2F"), "{escaped}");
    for authority in [escaped.as_str(), "/var/lib/kubelet/x.sock", "localhost"] {
        let frames = raw::get_info(&socket, authority).await.unwrap();
        let answers = frames.iter().filter(|(kind, payload)| {
            *kind == 0 && payload.windows(NET.len()).any(|window| window == NET.as_bytes())
        });
        assert_eq!(answers.count(), 2, "{authority}: {frames:?}");
        assert!(frames.iter().all(|(kind, _)| *kind != 3), "{authority}: a stream was reset: {frames:?}");
    }
}

#[tokio::test]
async fn what_is_withheld_is_neither_listed_nor_handed_out() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
    let kubelet = Kubelet::start(&rig.dir, false).await.unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    let mut client = kubelet.client(NET).await.unwrap();
    rig.plugin.withhold(["0000:3b:01.0".parse().unwrap()].into()).await;
    ids(&kubelet, NET, &["0000:3b:01.1"]).await;
    let (_, text) = crate::rig::refused(&mut client, request(&["0000:3b:01.0"])).await;
    assert!(text.contains("intel.com/net: device 0000:3b:01.0"), "{text}");
    rig.plugin.withhold([].into()).await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    assert!(client.allocate(request(&["0000:3b:01.0"])).await.is_ok());
}
