//! devlink over generic netlink: e-switch mode, switch ports (representors) and device information.
//!
//! Devices are named by bus and name, and the bus may be any: `pci/0000:3b:00.0`, `netdevsim/netdevsim10`. A kernel
//! without devlink, a device that its driver does not register and a driver without the operation all mean
//! "unsupported"; everything else that goes wrong is an error with the driver's own words.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use netlink_packet_core::{DefaultNla, Emitable};
use nix::errno::Errno;

use portwright_core::desired::EswitchMode;
use portwright_core::id::ParseError;
use portwright_core::{Fact, PciAddress};

use crate::netlink::{Ask, Attr, Connection, Malformed, Message, NetlinkError, attrs};

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;
// linux/genetlink.h
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
// linux/devlink.h: commands
const GET: u8 = 1;
const PORT_GET: u8 = 5;
const ESWITCH_GET: u8 = 29;
const ESWITCH_SET: u8 = 30;
const INFO_GET: u8 = 51;
// linux/devlink.h: attributes
const BUS_NAME: u16 = 1;
const DEV_NAME: u16 = 2;
const PORT_INDEX: u16 = 3;
const PORT_NETDEV_IFINDEX: u16 = 6;
const ESWITCH_MODE: u16 = 25;
const PORT_FLAVOUR: u16 = 77;
const INFO_DRIVER_NAME: u16 = 98;
const INFO_VERSION_FIXED: u16 = 100;
const INFO_VERSION_RUNNING: u16 = 101;
const INFO_VERSION_STORED: u16 = 102;
const INFO_VERSION_NAME: u16 = 103;
const INFO_VERSION_VALUE: u16 = 104;
const PORT_PCI_PF_NUMBER: u16 = 127;
const PORT_PCI_VF_NUMBER: u16 = 128;
const PORT_CONTROLLER_NUMBER: u16 = 150;

/// A devlink device: `bus/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle {
    /// Bus (`pci`).
    pub bus: String,
    /// Name on that bus (`0000:3b:00.0`).
    pub device: String,
}

impl From<PciAddress> for Handle {
    fn from(address: PciAddress) -> Handle {
        Handle { bus: "pci".to_owned(), device: address.to_string() }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bus, self.device)
    }
}

impl FromStr for Handle {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Handle, ParseError> {
        let parts = text.split_once('/').filter(|(bus, device)| !bus.is_empty() && !device.is_empty());
        let (bus, device) = parts.ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "a devlink device such as `pci/0000:3b:00.0`",
        })?;
        Ok(Handle { bus: bus.to_owned(), device: device.to_owned() })
    }
}

/// What stands behind a port of the switch in the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// A physical port: the uplink.
    Physical,
    /// A PF, seen from elsewhere (SmartNIC).
    PciPf,
    /// A VF: the port's netdev is its representor.
    PciVf,
    /// A sub-function.
    PciSf,
    /// Anything else, by the kernel's number.
    Other(u16),
}

/// One port of the switch in a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchPort {
    /// The device.
    pub handle: Handle,
    /// Port number.
    pub index: u32,
    /// What stands behind it.
    pub flavour: Flavour,
    /// Controller number, if it is another host's.
    pub controller: Option<u32>,
    /// PF number.
    pub pf: Option<u16>,
    /// VF number.
    pub vf: Option<u16>,
    /// Interface index of its netdev.
    pub ifindex: Option<u32>,
}

/// What a driver says of its device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Driver name.
    pub driver: Option<String>,
    /// Versions by name (`fw.mgmt`, `fw.app`): running ones first, then stored, then fixed.
    pub versions: BTreeMap<String, String>,
}

/// A connection to the kernel's devlink.
pub struct Devlink {
    connection: Connection,
    family: u16,
}

impl Devlink {
    /// Connects; `None` if the kernel has no devlink.
    pub fn open() -> Result<Option<Devlink>, NetlinkError> {
        let mut connection = Connection::generic()?;
        let ask = Ask::new("look up", "the devlink family");
        let body = message(GET_FAMILY, vec![text(FAMILY_NAME, "devlink")]);
        let messages = match connection.request(&ask, CONTROL, 0, &body) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let family = first(&messages, FAMILY_ID, |attr| attr.u16());
        let family = family.map_err(|Malformed(why)| ask.malformed(why))?;
        let family = family.ok_or_else(|| ask.malformed("no family number"))?;
        Ok(Some(Devlink { connection, family }))
    }

    /// The devices that drivers have registered.
    pub fn devices(&mut self) -> Result<Vec<Handle>, NetlinkError> {
        let ask = Ask::new("list", "devlink devices");
        let messages = self.connection.list(&ask, self.family, &message(GET, Vec::new()))?;
        let handles: Result<Vec<_>, _> = messages.iter().map(handle_of).collect();
        handles.map_err(|Malformed(why)| ask.malformed(why))
    }

    /// E-switch mode of a device.
    pub fn eswitch_mode(&mut self, handle: &Handle) -> Result<Fact<EswitchMode>, NetlinkError> {
        let ask = Ask::new("read e-switch mode of", handle.to_string());
        let body = message(ESWITCH_GET, name(handle));
        let messages = match self.connection.request(&ask, self.family, 0, &body) {
            // ENODEV: the driver registers no devlink device.
            Err(error) if error.is_unsupported() || error.is_gone() => return Ok(Fact::UNSUPPORTED),
            other => other?,
        };
        let mode = first(&messages, ESWITCH_MODE, |attr| attr.u16());
        match mode.map_err(|Malformed(why)| ask.malformed(why))? {
            None => Ok(Fact::UNSUPPORTED),
            Some(0) => Ok(Fact::Known(EswitchMode::Legacy)),
            Some(1) => Ok(Fact::Known(EswitchMode::Switchdev)),
            Some(other) => Err(ask.malformed(format!("e-switch mode {other}"))),
        }
    }

    /// Changes the e-switch mode. May take long and is only called in a child process with a watchdog.
    pub fn set_eswitch_mode(&mut self, handle: &Handle, mode: EswitchMode) -> Result<(), NetlinkError> {
        let ask = Ask::new("set e-switch mode of", format!("{handle} to {mode}"));
        let number: u16 = match mode {
            EswitchMode::Legacy => 0,
            EswitchMode::Switchdev => 1,
        };
        let mut attributes = name(handle);
        attributes.push(DefaultNla::new(ESWITCH_MODE, number.to_ne_bytes().to_vec()));
        self.connection.request(&ask, self.family, 0, &message(ESWITCH_SET, attributes)).map(drop)
    }

    /// The ports of all devices.
    pub fn ports(&mut self) -> Result<Vec<SwitchPort>, NetlinkError> {
        let ask = Ask::new("list", "devlink ports");
        let messages = self.connection.list(&ask, self.family, &message(PORT_GET, Vec::new()))?;
        let ports: Result<Vec<_>, _> = messages.iter().map(port_of).collect();
        ports.map_err(|Malformed(why)| ask.malformed(why))
    }

    /// What the driver says of a device; `None` if it does not.
    pub fn info(&mut self, handle: &Handle) -> Result<Option<DeviceInfo>, NetlinkError> {
        let ask = Ask::new("read device information of", handle.to_string());
        let body = message(INFO_GET, name(handle));
        let messages = match self.connection.request(&ask, self.family, 0, &body) {
            Err(error) if error.is_unsupported() || error.is_gone() => return Ok(None),
            other => other?,
        };
        let found = messages.first().map(info_of).transpose();
        found.map_err(|Malformed(why)| ask.malformed(why))
    }
}

fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, value.bytes().chain([0]).collect())
}

fn name(handle: &Handle) -> Vec<DefaultNla> {
    vec![text(BUS_NAME, &handle.bus), text(DEV_NAME, &handle.device)]
}

/// `struct genlmsghdr` and attributes.
fn message(command: u8, attributes: Vec<DefaultNla>) -> Vec<u8> {
    let attributes = attributes.as_slice();
    let mut list = vec![0_u8; attributes.buffer_len()];
    attributes.emit(&mut list);
    let mut body = vec![command, 1, 0, 0];
    body.append(&mut list);
    body
}

fn attributes_of(message: &Message) -> Result<&[u8], Malformed> {
    let short = || Malformed(format!("a generic netlink message of {} bytes", message.body.len()));
    message.body.get(GENERIC_HEADER..).ok_or_else(short)
}

/// The first attribute of a kind in the first message.
fn first<T>(
    messages: &[Message],
    kind: u16,
    read: impl Fn(&Attr<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    let Some(message) = messages.first() else { return Ok(None) };
    for attr in attrs(attributes_of(message)?) {
        let attr = attr?;
        if attr.kind == kind {
            return read(&attr).map(Some);
        }
    }
    Ok(None)
}

fn handle_of(message: &Message) -> Result<Handle, Malformed> {
    let (mut bus, mut device) = (None, None);
    for attr in attrs(attributes_of(message)?) {
        let attr = attr?;
        match attr.kind {
            BUS_NAME => bus = Some(attr.text()),
            DEV_NAME => device = Some(attr.text()),
            _ => {}
        }
    }
    match (bus, device) {
        (Some(bus), Some(device)) => Ok(Handle { bus, device }),
        (None, _) | (_, None) => Err(Malformed("a device without bus or name".to_owned())),
    }
}

fn port_of(message: &Message) -> Result<SwitchPort, Malformed> {
    let handle = handle_of(message)?;
    let (mut index, mut ifindex, mut controller) = (None, None, None);
    let (mut flavour, mut pf, mut vf) = (None, None, None);
    for attr in attrs(attributes_of(message)?) {
        let attr = attr?;
        match attr.kind {
            PORT_INDEX => index = Some(attr.u32()?),
            PORT_NETDEV_IFINDEX => ifindex = Some(attr.u32()?),
            PORT_FLAVOUR => flavour = Some(attr.u16()?),
            PORT_PCI_PF_NUMBER => pf = Some(attr.u16()?),
            PORT_PCI_VF_NUMBER => vf = Some(attr.u16()?),
            PORT_CONTROLLER_NUMBER => controller = Some(attr.u32()?),
            _ => {}
        }
    }
    let flavour = match flavour {
        // Drivers that say nothing have physical ports only.
        None | Some(0) => Flavour::Physical,
        Some(3) => Flavour::PciPf,
        Some(4) => Flavour::PciVf,
        Some(7) => Flavour::PciSf,
        Some(other) => Flavour::Other(other),
    };
    let index = index.ok_or_else(|| Malformed(format!("a port of {handle} without number")))?;
    Ok(SwitchPort { handle, index, flavour, controller, pf, vf, ifindex })
}

fn info_of(message: &Message) -> Result<DeviceInfo, Malformed> {
    let mut info = DeviceInfo::default();
    let mut ranked: BTreeMap<String, (u8, String)> = BTreeMap::new();
    for attr in attrs(attributes_of(message)?) {
        let attr = attr?;
        let rank = match attr.kind {
            INFO_DRIVER_NAME => {
                info.driver = Some(attr.text());
                continue;
            }
            INFO_VERSION_RUNNING => 0,
            INFO_VERSION_STORED => 1,
            INFO_VERSION_FIXED => 2,
            _ => continue,
        };
        let (mut name, mut value) = (None, None);
        for part in attr.nested() {
            let part = part?;
            match part.kind {
                INFO_VERSION_NAME => name = Some(part.text()),
                INFO_VERSION_VALUE => value = Some(part.text()),
                _ => {}
            }
        }
        if let (Some(name), Some(value)) = (name, value) {
            let better = ranked.get(&name).is_none_or(|(there, _)| rank < *there);
            if better {
                ranked.insert(name, (rank, value));
            }
        }
    }
    info.versions = ranked.into_iter().map(|(name, (_, value))| (name, value)).collect();
    Ok(info)
}

#[cfg(test)]
#[path = "devlink_tests.rs"]
mod tests;
