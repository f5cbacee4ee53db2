//! The fuzz target on texts as the kernel writes them, cut and bent in every place.

use portwright_host::fuzz::fuzz_sysfs;

/// Written by hand after Linux 6.12.
const TEXTS: [&str; 12] = [
    "0x020000\n",
    "virtfn12",
    "pf0vf3",
    "-1\n",
    "none [integrity] confidentiality",
    "../../devices/pci0000:00/0000:3b:01.1/vfio-dev/vfio0",
    "anon_inode:[vfio-device]\n/dev/vfio/12\n/dev/infiniband/uverbs0 (deleted)\nnet:[4026531840]\n",
    "vfio-device-syspath: /sys/devices/pci0000:00/0000:3b:01.1\nCapEff:\t000001ffffffffff\n",
    "Iface\tDestination\nbond0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
    "  sl local\n 0: 020200C0:A0F2 010200C0:192B 01 00000000:00000000\n",
    "     |-- 192.0.2.2\n        /32 host LOCAL\n20010db8000000000000000000000005 02 40 00 80 eth0\n",
    "401 30 0:4 net:[4026532200] /run/netns/a\\040b rw - nsfs nsfs rw\nkubelet\0--node-ip=192.0.2.1\0",
];

#[test]
fn every_cut_and_every_bent_byte_is_taken_calmly() {
    for text in TEXTS {
        let bytes = text.as_bytes();
        for end in 0..=bytes.len() {
            fuzz_sysfs(bytes.get(..end).unwrap_or_default());
            fuzz_sysfs(bytes.get(end..).unwrap_or_default());
        }
        for place in 0..bytes.len() {
            for value in [0, b'\n', b' ', b'0', b'9', b'-', b':', b'/', b'\\', 0x7f, 0xc3, 0xff] {
                let mut bent = bytes.to_vec();
                if let Some(byte) = bent.get_mut(place) {
                    *byte = value;
                }
                fuzz_sysfs(&bent);
            }
        }
    }
}
