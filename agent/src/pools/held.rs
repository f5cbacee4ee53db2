//! What kubelet has given to pods, added to what is observed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_core::Observed;
use portwright_device_plugin::{Witness, allocations};
use portwright_host::node::Supplement;
use portwright_host::root::Root;

use crate::cli::Global;

/// kubelet's folder: what was given, else the usual one below the root.
pub fn kubelet_dir(global: &Global) -> PathBuf {
    global.kubelet_dir.clone().unwrap_or_else(|| global.root.join("var/lib/kubelet"))
}

/// Adds pods to the holders of VFs.
pub fn add_pods(root: &Root, kubelet_dir: &Path, observed: &mut Observed) {
    allocations::read_blocking(root, kubelet_dir, &Witness::default()).give(observed);
}

/// The same for a node that is about to be changed: asked again right before each disruptive step.
pub fn supplement(global: &Global) -> Supplement {
    let (root, folder) = (Root::new(&global.root), kubelet_dir(global));
    let witness = Witness::default();
    Arc::new(move |observed: &mut Observed| {
        allocations::read_blocking(&root, &folder, &witness).give(observed);
    })
}
