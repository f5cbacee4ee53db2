//! Kubelet restarts fifty times, sockets vanish, the configuration changes: nothing is lost and nothing is left behind.

use portwright_device_plugin::Registration;
use portwright_tests::fuzz::Random;
use portwright_tests::kubelet::Kubelet;

use crate::rig::{CONFIG, NODE, Rig, SOON, ids, request, specs};

const NET: &str = "intel.com/net";
const DPDK: &str = "intel.com/dpdk";
const RESTARTS: u64 = 50;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn storm(registration: Registration, watcher: bool) {
    let mut rig = Rig::new(NODE, CONFIG, registration);
    let mut random = Random::new(7);
    let other =
        specs(r#"{"resourceList": [{"resourceName": "net", "selectors": {"pfNames": ["ens1f0#0-1"]}}]}"#);
    let both = rig.specs.clone();
    let (mut files, mut tasks) = (0, 0);
    let runtime = tokio::runtime::Handle::current();
    for round in 0..RESTARTS {
        let kubelet = Kubelet::start(&rig.dir, watcher).await.unwrap();
        rig.publish().await;
        let found = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
        ids(&kubelet, DPDK, &["0000:3b:01.2", "0000:3b:01.3"]).await;
        let mut client = kubelet.client(NET).await.unwrap();
        let answer = client.allocate(request(&["0000:3b:01.1"])).await.unwrap();
        let given = &answer.get_ref().container_responses[0].envs["PCIDEVICE_INTEL_COM_NET"];
        assert_eq!(given, "0000:3b:01.1", "round {round}");
        match random.below(4) {
            0 => std::fs::remove_file(&found.socket).unwrap(),
            1 => {
                rig.specs.clone_from(&other);
                rig.publish().await;
                let gone = kubelet.wait(DPDK, SOON, |found| !found.connected).await;
                assert!(gone.is_ok(), "round {round}: a pool that is not wanted any more");
                rig.specs.clone_from(&both);
            }
            2 => std::fs::remove_dir_all(rig.dir.join("device-plugins")).unwrap(),
            _ => {}
        }
        kubelet.stop().await;
        if round == 4 {
            (files, tasks) = (open_files(), runtime.metrics().num_alive_tasks());
        }
    }
    // Whatever was in flight ends.
    let ended = async {
        while open_files() > files + 8 || runtime.metrics().num_alive_tasks() > tasks + 8 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(SOON, ended).await;
    assert!(
        ended.is_ok(),
        "files {files} → {}, tasks {tasks} → {}",
        open_files(),
        runtime.metrics().num_alive_tasks()
    );
    rig.plugin.stop().await;
}

#[tokio::test]
async fn fifty_restarts_by_the_plugin_watcher() {
    storm(Registration::Watcher, true).await;
}

#[tokio::test]
async fn fifty_restarts_by_the_older_way() {
    storm(Registration::Legacy, false).await;
}
