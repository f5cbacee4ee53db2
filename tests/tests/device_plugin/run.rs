//! The daemon's loop over a tree: it follows the node and the configuration, and says how it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use portwright::cli::{Cli, Verb};
use portwright::pools::Wanted;
use portwright::pools::args::PoolSources;
use portwright_tests::kubelet::Kubelet;
use portwright_tests::tree::Tree;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::rig::{CONFIG, NODE, SOON, ids, request};

const NET: &str = "intel.com/net";
const DPDK: &str = "intel.com/dpdk";

struct Daemon {
    tree: Tree,
    dir: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(config: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("kubelet");
    std::fs::create_dir_all(folder.path().join("etc")).unwrap();
    let file = folder.path().join("etc/config.json");
    std::fs::write(&file, config).unwrap();
    let tree = Tree::from_text(NODE).unwrap();
    let address = free_address();
    let words = format!(
        "portwright run --root {} --kubelet-dir {} --device-plugin-config {} --listen {address}",
        tree.root().display(),
        dir.display(),
        file.display()
    );
    let cli = Cli::try_parse_from(words.split(' ')).unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let Verb::Run(arguments) = &cli.verb else { panic!("{cli:?}") };
        let wanted = Wanted::read(&PoolSources {
            files: Vec::new(),
            device_plugin_config: arguments.device_plugin_config.clone(),
            resource_prefix: None,
        });
        portwright::verb::run::serve(&cli.global, arguments, wanted.unwrap(), &stopped).await.unwrap();
    });
    Daemon { tree, dir, config: file, address, stop, task, _folder: folder }
}

/// Replaces a file as kubelet replaces a ConfigMap's.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// Asks for readiness until the answer begins so.
async fn becomes(address: SocketAddr, begins: &str) -> String {
    let ask = async {
        loop {
            let answer = get(address, "/readyz").await;
            if answer.starts_with(begins) {
                return answer;
            }
        }
    };
    tokio::time::timeout(SOON, ask).await.unwrap()
}

#[tokio::test]
async fn the_node_and_the_configuration_are_followed() {
    let daemon = start(CONFIG);
    let kubelet = Kubelet::start(&daemon.dir, true).await.unwrap();
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    ids(&kubelet, DPDK, &["0000:3b:01.2", "0000:3b:01.3"]).await;
    assert!(get(daemon.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    becomes(daemon.address, "HTTP/1.1 200").await;
    assert!(get(daemon.address, "/nothing").await.starts_with("HTTP/1.1 404"));

    daemon.tree.bind("0000:3b:01.0", Some("vfio-pci")).unwrap();
    ids(&kubelet, NET, &["0000:3b:01.1"]).await;
    ids(&kubelet, DPDK, &["0000:3b:01.0", "0000:3b:01.2", "0000:3b:01.3"]).await;
    daemon.tree.remove_function("0000:3b:01.3").unwrap();
    ids(&kubelet, DPDK, &["0000:3b:01.0", "0000:3b:01.2"]).await;

    // One pool less, the other unchanged: it is not registered again.
    let before = kubelet.resource(DPDK).unwrap().registrations;
    replace(
        &daemon.config,
        r#"{"resourceList": [{"resourceName": "dpdk", "selectors": {"drivers": ["vfio-pci"]}}]}"#,
    );
    assert!(kubelet.wait(NET, SOON, |found| !found.connected).await.is_ok());
    for (number, bad) in
        ["{", "", r#"{"resourceList": []}"#, r#"{"resourceList": [{"resourceName": "a.b"}]}"#]
            .iter()
            .enumerate()
    {
        replace(&daemon.config, bad);
        // It is read before the next change of the node is.
        let address = format!("0000:3b:02.{number}");
        daemon
            .tree
            .line(&format!("vf {address} pf=0000:3b:00.0 index={} driver=vfio-pci group=9", 10 + number))
            .unwrap();
        let found = kubelet.wait(DPDK, SOON, |found| found.ids().contains(&address)).await;
        assert!(found.is_ok(), "after {bad:?}");
    }
    assert_eq!(kubelet.resource(DPDK).unwrap().registrations, before);
    replace(&daemon.config, CONFIG);
    ids(&kubelet, NET, &["0000:3b:01.1"]).await;

    let mut client = kubelet.client(NET).await.unwrap();
    client.allocate(request(&["0000:3b:01.1"])).await.unwrap();
    client.allocate(request(&["nobody"])).await.unwrap_err();
    let metrics = get(daemon.address, "/metrics").await;
    for line in [
        r#"portwright_pool_devices{resource="intel.com/net"} 1"#,
        r#"portwright_pool_healthy_devices{resource="intel.com/dpdk"} 6"#,
        r#"portwright_pool_allocated_devices{resource="intel.com/net"} 1"#,
        r#"portwright_pool_failed_allocations_total{resource="intel.com/net"} 1"#,
        r#"portwright_pool_allocate_seconds_count{resource="intel.com/net"} 2"#,
        r#"portwright_pool_last_kubelet_contact_seconds{resource="intel.com/net"} "#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // By the configuration at the start, and by the one that names the pool again.
    let name = r#"portwright_pool_registrations_total{resource="intel.com/net"} "#;
    let count = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u32>().ok());
    assert_eq!(count, Some(2), "{metrics}");

    kubelet.stop().await;
    let answer = becomes(daemon.address, "HTTP/1.1 503").await;
    assert!(answer.contains("kubelet does not listen to intel.com/dpdk, intel.com/net"), "{answer}");
    daemon.stop.cancel();
    tokio::time::timeout(SOON, daemon.task).await.unwrap().unwrap();
    assert!(!daemon.dir.join("plugins_registry/intel.com_net.sock").exists());
}

/// What cannot be used, and the good one again, over and over while kubelet restarts and admits pods.
#[tokio::test]
async fn the_configuration_is_rewritten_under_load_while_kubelet_restarts() {
    let daemon = start(CONFIG);
    let bad = ["{", "", r#"{"resourceList": []}"#, r#"{"resourceList": [{"resourceName": "a.b"}]}"#, "\u{0}"];
    for round in 0..50_usize {
        let kubelet = Kubelet::start(&daemon.dir, true).await.unwrap();
        replace(&daemon.config, bad[round % bad.len()]);
        let found = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
        ids(&kubelet, DPDK, &["0000:3b:01.2", "0000:3b:01.3"]).await;
        let mut client = kubelet.client(NET).await.unwrap();
        let rewriting = async {
            for text in [CONFIG, bad[(round + 1) % bad.len()], CONFIG] {
                replace(&daemon.config, text);
                tokio::task::yield_now().await;
            }
        };
        let (answer, ()) = tokio::join!(client.allocate(request(&["0000:3b:01.1"])), rewriting);
        let given = answer.unwrap().get_ref().container_responses[0].envs["PCIDEVICE_INTEL_COM_NET"].clone();
        assert_eq!(given, "0000:3b:01.1", "round {round}");
        if round % 3 == 0 {
            std::fs::remove_file(&found.socket).unwrap();
            ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
        }
        kubelet.stop().await;
    }
    daemon.stop.cancel();
    tokio::time::timeout(SOON, daemon.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_of_the_http_port_that_says_nothing_keeps_nobody_out() {
    let daemon = start(CONFIG);
    let kubelet = Kubelet::start(&daemon.dir, true).await.unwrap();
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(daemon.address).await.unwrap());
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), get(daemon.address, "/healthz")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    daemon.stop.cancel();
    tokio::time::timeout(SOON, daemon.task).await.unwrap().unwrap();
}
