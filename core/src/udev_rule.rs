//! The one udev rule that we write: it keeps NetworkManager off VFs, so that fresh VFs do not take addresses and routes.
//!
//! It is static: a netdev whose PCI function has a `physfn` is a VF, whatever its name or address. It is written before the
//! first VF is made. Left out by address are VFs that carry the management path, so that it can never match the node's own
//! NIC, and VFs of ports that are none of ours: what NetworkManager has set on those has to be there after the next boot too.

use std::collections::BTreeSet;

use crate::id::PciAddress;

/// Path of the rule file, below the host's root.
pub const PATH: &str = "etc/udev/rules.d/10-portwright-unmanaged-vfs.rules";

/// Content of the rule file. `keep` are the VFs that it leaves alone.
pub fn content(keep: &BTreeSet<PciAddress>) -> String {
    let mut text = String::from(
        "# Written by portwright: VFs belong to their users, not to NetworkManager.\n\
         ACTION!=\"add|change|move\", GOTO=\"portwright_end\"\n\
         SUBSYSTEM!=\"net\", GOTO=\"portwright_end\"\n",
    );
    for address in keep {
        text.push_str(&format!("KERNELS==\"{address}\", GOTO=\"portwright_end\"\n"));
    }
    text.push_str(
        "TEST==\"device/physfn\", ENV{NM_UNMANAGED}=\"1\"\n\
         LABEL=\"portwright_end\"\n",
    );
    text
}
