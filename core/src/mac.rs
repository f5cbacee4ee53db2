//! Stable MAC addresses for VFs.

use sha2::{Digest, Sha256};

use crate::id::{MacAddress, VfRef};

/// Derives the seed of all stable MACs of a node from its machine-id (`/etc/machine-id`, 32 hexadecimal digits): a hash
/// with a purpose of its own, because the machine-id itself must not leave the node (`man 5 machine-id`).
pub fn seed(machine_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"portwright/vf-mac/seed/1\0");
    hash.update(machine_id.trim().as_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The MAC of a VF: a function of the node's seed, the PF's address and the VF's index only, so it survives a wiped state
/// directory and renamed netdevs. Locally administered, unicast (IEEE 802, first octet `x2`).
pub fn stable(seed: &str, vf: VfRef) -> MacAddress {
    let mut hash = Sha256::new();
    hash.update(b"portwright/vf-mac/1\0");
    hash.update(seed.as_bytes());
    hash.update([0]);
    hash.update(vf.pf.to_string().as_bytes());
    hash.update(vf.index.to_be_bytes());
    let digest = hash.finalize();
    let mut bytes = [0_u8; 6];
    for (byte, from) in bytes.iter_mut().zip(digest.iter()) {
        *byte = *from;
    }
    let [first, ..] = &mut bytes;
    *first = (*first & 0xfc) | 0x02;
    MacAddress(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_mac_depends_on_node_pf_and_index_only() {
        let vf = |index| VfRef { pf: "0000:3b:00.0".parse().unwrap(), index };
        let seed_a = seed("0123456789abcdef0123456789abcdef\n");
        // Written down once: a change of this value would change the MACs of every node in the field.
        assert_eq!(stable(&seed_a, vf(0)).to_string(), "b2:74:e7:97:3d:60");
        assert_eq!(stable(&seed_a, vf(3)), stable(&seed("0123456789abcdef0123456789abcdef"), vf(3)));
        assert_ne!(stable(&seed_a, vf(0)), stable(&seed_a, vf(1)));
        assert_ne!(stable(&seed_a, vf(0)), stable(&seed("other"), vf(0)));
    }

    #[test]
    fn stable_macs_are_local_unicast() {
        let seed = seed("x");
        for index in 0..512 {
            let [first, ..] = stable(&seed, VfRef { pf: "0000:3b:00.0".parse().unwrap(), index }).0;
            assert_eq!(first & 0b11, 0b10);
        }
    }
}
