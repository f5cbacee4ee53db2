//! devlink on the wire, with netdevsim: e-switch modes, representors, and the driver's own words in our errors.

use super::{Lab, Scenario, plain};
use crate::lab::{cli, sys};
use anyhow::{Context as _, Result, bail, ensure};
use portwright_core::Fact;
use portwright_core::desired::EswitchMode;
use portwright_core::drive::chain;
use portwright_host::child::{Command, Launcher};
use portwright_host::devlink::{Devlink, Flavour, Handle};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        plain("devlink-eswitch-read-and-set", read_and_set),
        plain("devlink-representors", representors),
        plain("devlink-extended-ack", extended_ack),
    ]
}

const DEVICE: &str = "netdevsim/netdevsim10";
const VFS: u16 = 3;

/// A fresh simulated NIC with two ports and three VFs; taken away when dropped.
pub(super) struct Nic {
    devlink: Devlink,
    handle: Handle,
}

impl Nic {
    pub(super) fn new() -> Result<Self> {
        sys::tool("modprobe", &["netdevsim"])?;
        sys::write("/sys/bus/netdevsim/new_device", "10 2")?;
        sys::write("/sys/bus/netdevsim/devices/netdevsim10/sriov_numvfs", &VFS.to_string())?;
        let devlink = Devlink::open()?.context("this kernel has no devlink")?;
        Ok(Self { devlink, handle: DEVICE.parse()? })
    }

    pub(super) fn set(&mut self, mode: EswitchMode) -> Result<()> {
        Ok(self.devlink.set_eswitch_mode(&self.handle, mode)?)
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        // What stays would show in the next scenario.
        sys::write("/sys/bus/netdevsim/del_device", "10").ok();
    }
}

fn read_and_set(_: &mut Lab) -> Result<()> {
    let mut nic = Nic::new()?;
    ensure!(nic.devlink.devices()?.contains(&nic.handle), "the device is not listed");
    for mode in [EswitchMode::Switchdev, EswitchMode::Legacy, EswitchMode::Switchdev] {
        nic.set(mode)?;
        let read = nic.devlink.eswitch_mode(&nic.handle)?;
        ensure!(read == Fact::Known(mode), "set {mode}, read {read:?}");
        let shown = sys::tool("devlink", &["dev", "eswitch", "show", DEVICE])?;
        ensure!(shown.contains(&format!("mode {mode}")), "set {mode}, iproute2 reads {shown}");
    }
    let igb: Handle = "pci/0000:01:00.0".parse()?;
    let none = nic.devlink.eswitch_mode(&igb)?;
    ensure!(matches!(none, Fact::Absent(_)), "igb has no e-switch, read {none:?}");
    Ok(())
}

fn representors(_: &mut Lab) -> Result<()> {
    let mut nic = Nic::new()?;
    nic.set(EswitchMode::Switchdev)?;
    let mut found = BTreeMap::new();
    for port in nic.devlink.ports()?.into_iter().filter(|port| port.handle == nic.handle) {
        if let (Flavour::PciVf, Some(vf), Some(ifindex)) = (port.flavour, port.vf, port.ifindex) {
            found.insert(vf, name_of(ifindex)?);
        }
    }
    // The kernel's files are the independent witness: same switch, and the port's name names the VF.
    let uplink = netdev_of_port("p1")?;
    let switch = sys::read(format!("/sys/class/net/{uplink}/phys_switch_id"))?;
    for vf in 0..VFS {
        let want = netdev_of_port(&format!("pf0vf{vf}"))?;
        ensure!(found.get(&vf) == Some(&want), "VF {vf}: {want} by its port name, {found:?} by devlink");
        let its = sys::read(format!("/sys/class/net/{want}/phys_switch_id"))?;
        ensure!(its == switch, "{want} is on switch {its}, {uplink} on {switch}");
        // A name that udev or NetworkManager gave must play no part.
        sys::tool("ip", &["link", "set", &want, "down", "name", &format!("stolen{vf}")])?;
    }
    observed_as(&uplink, &switch)
}

/// `observe` of a tree whose PF carries the switch's uplink names the representor of each VF.
fn observed_as(uplink: &str, switch: &str) -> Result<()> {
    const TREE: &str = "/tmp/tree";
    const PF: &str = "0000:aa:00.0";
    sys::remove(TREE)?;
    let device = format!("{TREE}/sys/devices/pci0000:aa/{PF}");
    sys::make_dir(format!("{device}/net"))?;
    sys::make_dir(format!("{TREE}/sys/bus/pci/devices"))?;
    sys::make_dir(format!("{TREE}/sys/class/net"))?;
    sys::tool(
        "ln",
        &["-s", &format!("../../../devices/pci0000:aa/{PF}"), &format!("{TREE}/sys/bus/pci/devices/{PF}")],
    )?;
    let put = |name: &str, text: &str| sys::write(format!("{device}/{name}"), text);
    for (name, text) in [
        ("vendor", "0x15b3"),
        ("device", "0x1017"),
        ("class", "0x020000"),
        ("sriov_totalvfs", "8"),
        ("sriov_numvfs", "3"),
    ] {
        put(name, &format!("{text}\n"))?;
    }
    for vf in 0..VFS {
        let address = format!("0000:aa:00.{}", vf + 1);
        let folder = format!("{TREE}/sys/devices/pci0000:aa/{address}");
        sys::make_dir(&folder)?;
        for (name, text) in [("vendor", "0x15b3"), ("device", "0x1018"), ("class", "0x020000")] {
            sys::write(format!("{folder}/{name}"), &format!("{text}\n"))?;
        }
        sys::tool("ln", &["-s", &format!("../{address}"), &format!("{device}/virtfn{vf}")])?;
        sys::tool("ln", &["-s", &format!("../{PF}"), &format!("{folder}/physfn")])?;
        sys::tool(
            "ln",
            &[
                "-s",
                &format!("../../../devices/pci0000:aa/{address}"),
                &format!("{TREE}/sys/bus/pci/devices/{address}"),
            ],
        )?;
    }
    for netdev in sys::list("/sys/class/net") {
        let its = sys::read(format!("/sys/class/net/{netdev}/phys_switch_id")).unwrap_or_default();
        if its != switch {
            continue;
        }
        // All ports of a switch hang below the PF, as those of a real NIC do.
        let folder = format!("{device}/net/{netdev}");
        sys::make_dir(&folder)?;
        for file in ["phys_switch_id", "phys_port_name", "ifindex", "mtu", "address", "flags", "type"] {
            sys::write(
                format!("{folder}/{file}"),
                &format!("{}\n", sys::read(format!("/sys/class/net/{netdev}/{file}"))?),
            )?;
        }
        sys::tool(
            "ln",
            &[
                "-s",
                &format!("../../devices/pci0000:aa/{PF}/net/{netdev}"),
                &format!("{TREE}/sys/class/net/{netdev}"),
            ],
        )?;
    }
    let output = cli::portwright(&["observe", "--root", TREE, "-o", "json"])?;
    ensure!(output.code == Some(0), "{output}");
    let observed: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let pf = cli::observed_pf(&observed, PF)?;
    ensure!(cli::field(&pf, "name") == uplink, "the PF's netdev should be {uplink}: {pf}");
    for vf in 0..VFS {
        let seen = pf.pointer(&format!("/vfs/{vf}/representor")).and_then(serde_json::Value::as_str);
        ensure!(seen == Some(&format!("stolen{vf}")), "VF {vf}: {seen:?} in {pf}");
    }
    Ok(())
}

/// A rate group in the way makes devlink refuse a change of mode, with a sentence of its own.
fn extended_ack(_: &mut Lab) -> Result<()> {
    let mut nic = Nic::new()?;
    nic.set(EswitchMode::Switchdev)?;
    sys::tool("devlink", &["port", "function", "rate", "add", &format!("{DEVICE}/group1")])?;
    let Err(error) = nic.set(EswitchMode::Legacy) else { bail!("the kernel should have refused") };
    let text = format!("{error:#}");
    ensure!(text.contains("Rate node(s) exists"), "the kernel's sentence is missing: {text}");
    ensure!(text.contains(DEVICE) && text.contains("EBUSY"), "device or errno is missing: {text}");
    // The same refusal on the way that a step takes: through the shipped program's own writer process.
    let mut writer = Launcher::of("portwright").start()?;
    let command = Command::Eswitch { device: DEVICE.to_owned(), mode: EswitchMode::Legacy };
    let Err(error) = writer.carry_out(&command, Duration::from_secs(20)) else {
        bail!("the kernel should have refused the writer")
    };
    let text = chain(&error);
    ensure!(text.contains("Rate node(s) exists"), "the writer lost the kernel's sentence: {text}");
    sys::tool("devlink", &["port", "function", "rate", "del", &format!("{DEVICE}/group1")])?;
    nic.set(EswitchMode::Legacy)
}

fn name_of(ifindex: u32) -> Result<String> {
    let all = sys::list("/sys/class/net");
    let found = all.into_iter().find(|name| {
        sys::read(format!("/sys/class/net/{name}/ifindex")).is_ok_and(|text| text == ifindex.to_string())
    });
    found.with_context(|| format!("no netdev has ifindex {ifindex}"))
}

/// The netdev that the kernel says is a port of this name.
pub(super) fn netdev_of_port(port: &str) -> Result<String> {
    let all = sys::list("/sys/class/net");
    let found = all.into_iter().find(|name| {
        sys::read(format!("/sys/class/net/{name}/phys_port_name")).is_ok_and(|text| text == port)
    });
    found.with_context(|| format!("no netdev has the port name {port}"))
}
