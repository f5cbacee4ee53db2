//! devlink on the wire, with netdevsim: `insmod netdevsim.ko`, as root, nothing else using device 10.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::sh;
use portwright_core::Fact;
use portwright_core::desired::EswitchMode;
use portwright_host::devlink::{Devlink, Flavour, Handle};

struct Device;

impl Device {
    fn new() -> Device {
        sh(
            "echo '10 2' > /sys/bus/netdevsim/new_device; echo 3 > /sys/bus/netdevsim/devices/netdevsim10/sriov_numvfs",
        );
        Device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        sh("echo 10 > /sys/bus/netdevsim/del_device");
    }
}

#[test]
#[ignore = "needs the netdevsim module, root and iproute2's devlink"]
fn mode_ports_information_and_a_refusal_in_the_kernels_own_words() {
    let _device = Device::new();
    let handle: Handle = "netdevsim/netdevsim10".parse().unwrap();
    let mut devlink = Devlink::open().unwrap().unwrap();
    assert!(devlink.devices().unwrap().contains(&handle));
    assert_eq!(devlink.info(&handle).unwrap().unwrap().driver.as_deref(), Some("netdevsim"));
    assert_eq!(devlink.eswitch_mode(&handle).unwrap(), Fact::Known(EswitchMode::Legacy));
    let count = |devlink: &mut Devlink, flavour| {
        let ports = devlink.ports().unwrap();
        ports.iter().filter(|port| port.handle == handle && port.flavour == flavour).count()
    };
    assert_eq!((count(&mut devlink, Flavour::Physical), count(&mut devlink, Flavour::PciVf)), (2, 0));

    devlink.set_eswitch_mode(&handle, EswitchMode::Switchdev).unwrap();
    assert_eq!(devlink.eswitch_mode(&handle).unwrap(), Fact::Known(EswitchMode::Switchdev));
    assert_eq!(count(&mut devlink, Flavour::PciVf), 3);
    let ports = devlink.ports().unwrap();
    let second = ports.iter().find(|port| port.handle == handle && port.vf == Some(1)).unwrap();
    let netdev = portwright_host::netlink::link(second.ifindex.unwrap()).unwrap();
    assert_eq!(netdev.phys_port_name.as_deref(), Some("pf0vf1"));
    assert!(netdev.phys_switch_id.is_some());

    sh("devlink port function rate add netdevsim/netdevsim10/group1");
    let error = devlink.set_eswitch_mode(&handle, EswitchMode::Legacy).unwrap_err().to_string();
    assert!(error.contains("netdevsim/netdevsim10 to legacy: EBUSY"), "{error}");
    assert!(error.contains("Rate node"), "the kernel's own sentence is missing: {error}");
    sh("devlink port function rate del netdevsim/netdevsim10/group1");
    devlink.set_eswitch_mode(&handle, EswitchMode::Legacy).unwrap();

    let stranger: Handle = "pci/0000:ff:1f.7".parse().unwrap();
    assert_eq!(devlink.eswitch_mode(&stranger).unwrap(), Fact::UNSUPPORTED);
}

#[test]
fn a_kernel_without_devlink_is_no_error() {
    // Where the family exists this lists devices instead; both are answers.
    if let Some(mut devlink) = Devlink::open().unwrap() {
        devlink.devices().unwrap();
        devlink.ports().unwrap();
    }
}
