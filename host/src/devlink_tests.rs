//! Answers written by hand after linux/devlink.h; the same readers run against netdevsim in `tests/devlink.rs`.

use netlink_packet_core::DefaultNla;

use super::*;

fn answer(attributes: Vec<DefaultNla>) -> Message {
    Message { kind: 20, body: message(PORT_GET, attributes) }
}

fn short(kind: u16, value: u16) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn long(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn nested(kind: u16, parts: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; parts.buffer_len()];
    parts.emit(&mut value);
    DefaultNla::new(kind, value)
}

#[test]
fn handles_take_any_bus() {
    for text in ["pci/0000:3b:00.0", "netdevsim/netdevsim10", "auxiliary/mlx5_core.sf.2"] {
        assert_eq!(text.parse::<Handle>().unwrap().to_string(), text);
    }
    for text in ["", "pci", "/x", "pci/"] {
        assert!(text.parse::<Handle>().is_err(), "{text}");
    }
    let address: PciAddress = "0000:3b:00.0".parse().unwrap();
    assert_eq!(Handle::from(address).to_string(), "pci/0000:3b:00.0");
}

#[test]
fn a_vf_port_is_read() {
    let handle: Handle = "netdevsim/netdevsim10".parse().unwrap();
    let mut attributes = name(&handle);
    attributes.extend([
        long(PORT_INDEX, 128),
        long(PORT_NETDEV_IFINDEX, 9),
        short(PORT_FLAVOUR, 4),
        short(PORT_PCI_PF_NUMBER, 0),
        short(PORT_PCI_VF_NUMBER, 3),
    ]);
    let port = port_of(&answer(attributes)).unwrap();
    let (flavour, pf, vf) = (Flavour::PciVf, Some(0), Some(3));
    assert_eq!(port, SwitchPort { handle, index: 128, flavour, controller: None, pf, vf, ifindex: Some(9) });
}

#[test]
fn broken_answers_are_errors() {
    let handle: Handle = "pci/0000:3b:00.0".parse().unwrap();
    let mut wrong_length = name(&handle);
    wrong_length.extend([long(PORT_INDEX, 1), DefaultNla::new(PORT_PCI_VF_NUMBER, vec![1])]);
    for bad in [answer(wrong_length), answer(name(&handle)), answer(vec![long(PORT_INDEX, 1)])] {
        assert!(port_of(&bad).is_err(), "{bad:?}");
    }
    assert!(port_of(&Message { kind: 20, body: vec![1] }).is_err());
}

#[test]
fn running_versions_win_over_stored_ones() {
    let version = |kind, name: &str, value: &str| {
        nested(kind, &[text(INFO_VERSION_NAME, name), text(INFO_VERSION_VALUE, value)])
    };
    let info = info_of(&answer(vec![
        text(INFO_DRIVER_NAME, "ice"),
        version(INFO_VERSION_STORED, "fw.mgmt", "7.5"),
        version(INFO_VERSION_RUNNING, "fw.mgmt", "7.4"),
        version(INFO_VERSION_FIXED, "board.id", "K1"),
    ]))
    .unwrap();
    assert_eq!(info.driver.as_deref(), Some("ice"));
    let versions: Vec<_> = info.versions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(versions, ["board.id=K1", "fw.mgmt=7.4"]);
}
