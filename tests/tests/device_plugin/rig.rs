//! A tree, a plugin that serves it, and a kubelet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portwright_core::Observed;
use portwright_core::management::management_path;
use portwright_core::pools::{PoolSpec, Pools, ResourceName, assign, candidates, config, spec};
use portwright_device_plugin::metrics::Metrics;
use portwright_device_plugin::{Context, Plugin, Registration, Settings, Witness, allocations};
use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use portwright_proto::device_plugin::{AllocateRequest, ContainerAllocateRequest};
use portwright_tests::kubelet::{Client, Kubelet, Resource};
use portwright_tests::tree::Tree;

/// What every wait in these tests ends with. Much longer than what is promised, because the machine may be busy; what is
/// promised is measured by the bench.
pub const SOON: Duration = Duration::from_secs(20);

/// One PF with four VFs.
pub const NODE: &str = "
pf 0000:3b:00.0 netdev=ens1f0 total=8
vf 0000:3b:01.0 pf=0000:3b:00.0 index=0 netdev=ens1f0v0
vf 0000:3b:01.1 pf=0000:3b:00.0 index=1 netdev=ens1f0v1
vf 0000:3b:01.2 pf=0000:3b:00.0 index=2 driver=vfio-pci group=12
vf 0000:3b:01.3 pf=0000:3b:00.0 index=3 driver=vfio-pci group=13
";

/// Kernel VFs in one pool, VFIO VFs in another.
pub const CONFIG: &str = r#"{"resourceList": [
    {"resourceName": "net", "selectors": {"drivers": ["iavf"]}},
    {"resourceName": "dpdk", "selectors": {"drivers": ["vfio-pci"]}}
]}"#;

pub struct Rig {
    pub tree: Tree,
    pub plugin: Plugin,
    pub specs: Vec<PoolSpec>,
    pub dir: PathBuf,
    pub held: BTreeMap<String, ResourceName>,
    _kubelet_folder: tempfile::TempDir,
}

/// Reads a configuration that is right.
pub fn specs(config: &str) -> Vec<PoolSpec> {
    spec::of_config(&config::parse(config, spec::CONFIG_PREFIX).unwrap(), None)
}

/// What is seen of a tree.
pub fn observe(root: &Path) -> Observed {
    Observer::new(Root::new(root), false, root.join("state")).observe().unwrap()
}

/// The pools of a tree.
pub fn pools(root: &Path, specs: &[PoolSpec], held: &BTreeMap<String, ResourceName>) -> Pools {
    let observed = observe(root);
    let candidates = candidates(&observed, &management_path(&observed));
    assign(&candidates, specs, held)
}

impl Rig {
    pub fn new(node: &str, config: &str, registration: Registration) -> Rig {
        Rig::with(node, config, registration, false)
    }

    pub fn with(node: &str, config: &str, registration: Registration, use_cdi: bool) -> Rig {
        let kubelet_folder = tempfile::tempdir().unwrap();
        let dir = kubelet_folder.path().join("k");
        let tree = Tree::from_text(node).unwrap();
        let settings = Settings { kubelet_dir: dir.clone(), registration, use_cdi };
        let plugin = Plugin::start(Context::new(Root::new(tree.root()), settings, Metrics::default()));
        let held = BTreeMap::new();
        Rig { tree, plugin, specs: specs(config), dir, held, _kubelet_folder: kubelet_folder }
    }

    /// Looks at the tree and publishes.
    pub async fn publish(&mut self) {
        self.plugin.note_used(&observe(self.tree.root()));
        let pools = pools(self.tree.root(), &self.specs, &self.held);
        self.plugin.publish(pools).await;
    }

    /// What pods have, by the kubelet's word.
    pub async fn read_held(&mut self) {
        let found = allocations::read(&Root::new(self.tree.root()), &self.dir, &Witness::default()).await;
        let bus = self.tree.root().join("sys/bus/pci/devices");
        self.held = self.plugin.held(&found, |id| bus.join(id).exists());
        if found.unknown.is_none() {
            self.plugin.settle(&self.held);
        }
    }
}

/// Waits for a resource's ids; an id that is not healthy has a `!` before it.
pub async fn ids(kubelet: &Kubelet, resource: &str, expected: &[&str]) -> Resource {
    let found = kubelet.wait(resource, SOON, |found| found.connected && found.ids() == expected).await;
    found.unwrap_or_else(|last| panic!("{resource}: wanted {expected:?}, last seen {last:?}"))
}

/// One Allocate call for one container.
pub fn request(ids: &[&str]) -> AllocateRequest {
    let device_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] }
}

/// The error text of an Allocate that must fail.
pub async fn refused(client: &mut Client, request: AllocateRequest) -> (tonic::Code, String) {
    let status = client.allocate(request).await.expect_err("this must be refused");
    (status.code(), status.message().to_owned())
}
