//! `run --once`: what the daemon would do at its start, once. At boot it makes VFs before kubelet asks for them.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use portwright_core::PciAddress;
use portwright_core::desired::Desired;
use portwright_core::fallback::FallBack;
use portwright_core::observed::Pf;
use portwright_host::inventory::Observer;
use portwright_host::journal::Journal;
use portwright_host::root::Root;

use super::apply::apply;
use crate::cli::Global;
use crate::daemon::files;
use crate::daemon::memory::Memory;
use crate::daemon::wish::Wish;
use crate::error::CliError;
use crate::output::{self, Exit};
use crate::pools::RunArgs;
use crate::pools::held::kubelet_dir;

/// Runs the verb.
pub fn run(global: &Global, arguments: &RunArgs) -> Result<Exit, CliError> {
    if let Some(socket) = arguments.before_kubelet.then(|| kubelet_answers(global)).flatten() {
        output::stderr(&format!(
            "error: kubelet runs already (it answers at {}), and with --before-kubelet nothing is done beside it\n\
             hint: order this before kubelet's own unit, or leave it to the daemon; `run --once` without \
             --before-kubelet asks kubelet who has which VF\n",
            socket.display()
        ));
        return Ok(Exit::Differs);
    }
    let memory = Memory::read(&global.state_dir);
    // Nothing of the memory is changed by a single run: the daemon that comes after it knows what was followed.
    let wish = if arguments.policy.is_empty() { Wish::default() } else { files::read(&arguments.policy)? };
    let documents = memory.documents_for(&wish);
    if documents.is_empty() {
        let place = global.state_dir.display();
        output::stderr(&format!(
            "no policy is known: {place} holds none and no --policy is given; nothing to do\n"
        ));
        return Ok(Exit::Ok);
    }
    let same = documents == memory.documents();
    let fall_back = if same { fallen(global, &memory) } else { BTreeMap::new() };
    let desired = Desired { documents, bindings: memory.bindings(), fall_back, ..Desired::default() };
    apply(global, &desired, &memory.node_addresses(), None)
}

/// The socket at which kubelet answers, if it does. A file that is left from before the boot does not.
fn kubelet_answers(global: &Global) -> Option<PathBuf> {
    let folder = kubelet_dir(global);
    let sockets = ["pod-resources/kubelet.sock", "device-plugins/kubelet.sock"].map(|name| folder.join(name));
    sockets.into_iter().find(|socket| UnixStream::connect(socket).is_ok())
}

/// Ports that the daemon keeps in their last good state since these same policies cannot be reached on them: a single run is
/// no other attempt.
fn fallen(global: &Global, memory: &Memory) -> BTreeMap<PciAddress, Pf> {
    let root = Root::new(&global.root);
    let journal = Journal::read(&root, &global.state_dir);
    let last_good = journal.pfs().filter_map(|pf| Some((pf, journal.last_good(pf)?.clone()))).collect();
    let mut fallback = FallBack::default();
    // What cannot be observed now is told by the run itself.
    if let Ok(observed) = Observer::new(root, true, &global.state_dir).observe() {
        fallback.resume(&memory.fallen(), &observed, &last_good);
    }
    fallback.fallen().clone()
}
