//! What the journal adds to an observation.

use std::path::Path;

use portwright_core::VfRef;
use portwright_core::observed::{Pf, Problem};

use super::Journal;
use crate::root::Root;
use crate::stuck;

/// Adds to each PF what the state directory and `/run` remember of it.
pub(crate) fn recall(root: &Root, state_dir: &Path, pfs: &mut [Pf], problems: &mut Vec<Problem>) {
    let journal = Journal::read(root, state_dir);
    problems.extend_from_slice(journal.problems());
    for pf in pfs {
        // A value that is back already is not due any more, even if a crash kept that from being noted.
        pf.saved_autoprobe = journal.saved_autoprobe(pf.address).filter(|saved| !pf.autoprobe.is(saved));
        pf.made_by_us = journal.made_by_us(pf.address) && !pf.vfs.is_empty();
        pf.stuck = stuck::look(root, pf.address);
        for vf in &mut pf.vfs {
            vf.remembered = journal.remembered(VfRef { pf: pf.address, index: vf.index }).cloned();
        }
    }
}
