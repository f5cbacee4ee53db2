//! Names of things that do not change when somebody renames an interface: PCI addresses, VF references, MAC
//! addresses, PCI IDs, and the object names that plans, reports and conditions use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the form a type expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseError {
    /// What was given.
    pub text: String,
    /// What would have been right, with its article and an example.
    pub expected: &'static str,
}

macro_rules! text_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Address of a PCI function, `dddd:bb:dd.f` in hexadecimal. The domain may have more than four digits (VMD).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0–31.
    pub device: u8,
    /// Function number, 0–7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || ParseError { text: text.to_owned(), expected: "a PCI address such as `0000:3b:00.0`" };
        let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
            let plain = digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(part, 16).ok()).flatten()
        };
        let (rest, function) = text.rsplit_once('.').ok_or_else(refuse)?;
        let (rest, device) = rest.rsplit_once(':').ok_or_else(refuse)?;
        let (domain, bus) = rest.rsplit_once(':').ok_or_else(refuse)?;
        let domain = hex(domain, 4..=8).ok_or_else(refuse)?;
        let bus = hex(bus, 2..=2).and_then(|v| u8::try_from(v).ok()).ok_or_else(refuse)?;
        let device = hex(device, 2..=2).and_then(|v| u8::try_from(v).ok()).ok_or_else(refuse)?;
        let function = hex(function, 1..=1).and_then(|v| u8::try_from(v).ok()).ok_or_else(refuse)?;
        if device > 31 || function > 7 {
            return Err(refuse());
        }
        Ok(PciAddress { domain, bus, device, function })
    }
}
text_serde!(PciAddress);

/// One VF, named by its PF and its index in the PF's `virtfn*` links: it keeps its name while interfaces are renamed,
/// and it has one before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VfRef {
    /// The physical function.
    pub pf: PciAddress,
    /// VF number, from 0.
    pub index: u16,
}

impl fmt::Display for VfRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/vf/{}", self.pf, self.index)
    }
}

/// A 16-bit PCI vendor or device ID; text form is four hexadecimal digits without prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PciId(pub u16);

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl FromStr for PciId {
    type Err = ParseError;

    /// Takes `8086` and, as sysfs writes it, `0x8086`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u16::from_str_radix(digits, 16).ok()).flatten().map(PciId).ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "a PCI ID of four hexadecimal digits such as `8086`",
        })
    }
}
text_serde!(PciId);

/// A 48-bit MAC address, `aa:bb:cc:dd:ee:ff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `00:00:00:00:00:00`, which drivers report for "none set".
    pub const ZERO: MacAddress = MacAddress([0; 6]);
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || ParseError { text: text.to_owned(), expected: "a MAC address such as `52:54:00:12:34:56`" };
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Ok(MacAddress(bytes))
    }
}
text_serde!(MacAddress);

/// What a step, an obstacle, a problem or a condition is about. Its text form is the contract with scripts:
/// `node`, `0000:3b:00.0`, `0000:3b:00.0/vf/3`, `bridge/br-data`, `policy/workers/spec.nics[0]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The node as a whole (rules, modules).
    Node,
    /// A part of a policy document that no device answers to: policy name and field path.
    Policy(String, String),
    /// A physical function, or any other PCI function.
    Pci(PciAddress),
    /// A virtual function.
    Vf(VfRef),
    /// Anything else that has a stable name of its own, such as `bridge/br-data/port/mon0` or `net/eth0`.
    Named(String),
}

impl Object {
    /// The PF that the object belongs to, if it belongs to one.
    pub fn pf(&self) -> Option<PciAddress> {
        match self {
            Object::Pci(address) => Some(*address),
            Object::Vf(vf) => Some(vf.pf),
            Object::Node | Object::Policy(..) | Object::Named(_) => None,
        }
    }
}

impl Object {
    /// The Open vSwitch bridge that the object is or belongs to.
    pub fn bridge(&self) -> Option<&str> {
        let Object::Named(name) = self else { return None };
        let rest = name.strip_prefix("bridge/")?;
        Some(rest.split_once('/').map_or(rest, |(bridge, _)| bridge))
    }

    /// The PF or bridge that the object is or belongs to, or the thing itself.
    pub fn whole(&self) -> Object {
        match (self.pf(), self.bridge()) {
            (Some(pf), _) => Object::Pci(pf),
            (None, Some(bridge)) => Object::Named(format!("bridge/{bridge}")),
            (None, None) => self.clone(),
        }
    }

    /// Whether a failure on one keeps the other from being changed: they are on the same PF or the same bridge, or the same
    /// thing.
    pub fn goes_with(&self, other: &Object) -> bool {
        match (self.pf(), self.bridge()) {
            (Some(pf), _) => other.pf() == Some(pf),
            (None, Some(bridge)) => other.bridge() == Some(bridge),
            (None, None) => self == other,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Node => f.write_str("node"),
            Object::Policy(name, path) => write!(f, "policy/{name}/{path}"),
            Object::Pci(address) => address.fmt(f),
            Object::Vf(vf) => vf.fmt(f),
            Object::Named(name) => f.write_str(name),
        }
    }
}

impl FromStr for Object {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "node" {
            return Ok(Object::Node);
        }
        if let Some((name, path)) = text.strip_prefix("policy/").and_then(|rest| rest.split_once('/')) {
            return Ok(Object::Policy(name.to_owned(), path.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Object::Pci(address));
        }
        let vf = text
            .split_once("/vf/")
            .and_then(|(pf, index)| Some(VfRef { pf: pf.parse().ok()?, index: index.parse().ok()? }));
        Ok(vf.map_or_else(|| Object::Named(text.to_owned()), Object::Vf))
    }
}
text_serde!(Object);
