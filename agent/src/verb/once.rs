//! `run --once`: what the daemon would do at its start, once. At boot it makes VFs before kubelet asks for them.

use portwright_core::desired::Desired;

use super::apply::apply;
use crate::cli::Global;
use crate::daemon::files;
use crate::daemon::memory::Memory;
use crate::daemon::wish::Wish;
use crate::error::CliError;
use crate::output::{self, Exit};
use crate::pools::RunArgs;

/// Runs the verb.
pub fn run(global: &Global, arguments: &RunArgs) -> Result<Exit, CliError> {
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
    let desired = Desired { documents, bindings: memory.bindings(), ..Desired::default() };
    apply(global, &desired, &memory.node_addresses(), None)
}
