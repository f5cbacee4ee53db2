//! Reads one netdev's folder (`net/<name>` below its device, or `class/net/<name>`).

use nix::errno::Errno;
use portwright_core::Fact;
use portwright_core::observed::Netdev;

use super::{Reasons, parse};
use crate::root::{Dir, ReadError};

/// `IFF_UP` (`linux/if.h`).
const IFF_UP: u64 = 1;
/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ETHERNET: u16 = 1;

/// A netdev as its folder shows it.
#[derive(Debug, Default)]
pub(crate) struct RawNetdev {
    /// Its values.
    pub(crate) netdev: Netdev,
    /// What it is made of (`lower_*`).
    pub(crate) lowers: Vec<String>,
    /// What it is enslaved to (`master`).
    pub(crate) master: Option<String>,
    /// Kind as far as folders tell it; rtnetlink knows better.
    pub(crate) shape: Shape,
}

/// What the entries of a netdev's folder tell of its kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `DEVTYPE` in its `uevent` (`vlan`, `bridge`, `bond`, `vxlan`, `macvlan`).
    pub(crate) devtype: Option<String>,
    /// It has a `bonding` folder.
    pub(crate) bond: bool,
    /// It has a `bridge` folder.
    pub(crate) bridge: bool,
    /// It has `tun_flags`.
    pub(crate) tun: bool,
    /// It has a `device`.
    pub(crate) hardware: bool,
}

/// Which files its folder has; only what exists is opened.
#[derive(Debug, Default)]
struct Has {
    address: bool,
    ifindex: bool,
    mtu: bool,
    flags: bool,
    carrier: bool,
    speed: bool,
    link_type: bool,
    switch_id: bool,
    port_name: bool,
    uevent: bool,
    master: bool,
}

/// How much of a netdev is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All.
    Full,
    /// Not what has no meaning for a VF: it has no port of its own, and its speed is its PF's. To ask for the speed makes
    /// some drivers ask their firmware under the lock of all network configuration, once for every VF.
    Virtual,
}

/// Reads a netdev. What cannot be read is told in `reasons` and left out.
pub(crate) fn read(dir: &mut Dir<'_>, name: &str, detail: Detail, reasons: &mut Reasons) -> RawNetdev {
    let mut raw =
        RawNetdev { netdev: Netdev { name: name.to_owned(), ..Netdev::default() }, ..RawNetdev::default() };
    let mut has = match list(dir, &mut raw) {
        Ok(has) => has,
        Err(error) => {
            reasons.add(&error);
            return raw;
        }
    };
    if detail == Detail::Virtual {
        (has.speed, has.switch_id, has.port_name) = (false, false, false);
    }
    values(dir, &has, &mut raw.netdev, reasons);
    if has.master {
        raw.master = reasons.take(dir.link_name("master"));
    }
    if has.uevent && !raw.shape.hardware {
        let devtype = dir.parsed("uevent", "text in UTF-8", |text| {
            Some(text.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).map(str::to_owned))
        });
        raw.shape.devtype = reasons.take(devtype).flatten();
    }
    raw
}

fn list(dir: &mut Dir<'_>, raw: &mut RawNetdev) -> Result<Has, ReadError> {
    let mut has = Has::default();
    let shape = &mut raw.shape;
    let lowers = &mut raw.lowers;
    dir.scan(|name, _| match name {
        b"address" => has.address = true,
        b"ifindex" => has.ifindex = true,
        b"mtu" => has.mtu = true,
        b"flags" => has.flags = true,
        b"carrier" => has.carrier = true,
        b"speed" => has.speed = true,
        b"type" => has.link_type = true,
        b"phys_switch_id" => has.switch_id = true,
        b"phys_port_name" => has.port_name = true,
        b"uevent" => has.uevent = true,
        b"master" => has.master = true,
        b"bonding" => shape.bond = true,
        b"bridge" => shape.bridge = true,
        b"tun_flags" => shape.tun = true,
        b"device" => shape.hardware = true,
        other => {
            if let Some(lower) = other.strip_prefix(b"lower_") {
                lowers.push(String::from_utf8_lossy(lower).into_owned());
            }
        }
    })?;
    lowers.sort();
    Ok(has)
}

fn values(dir: &Dir<'_>, has: &Has, netdev: &mut Netdev, reasons: &mut Reasons) {
    if has.ifindex {
        netdev.ifindex =
            reasons.take(dir.parsed("ifindex", "an interface index", parse::decimal)).unwrap_or_default();
    }
    if has.mtu {
        netdev.mtu = reasons.fact(dir.parsed("mtu", "an MTU in bytes", parse::decimal));
    }
    if has.flags {
        let up = |text: &str| parse::hex(text).map(|flags| flags & IFF_UP != 0);
        netdev.up = reasons.fact(dir.parsed("flags", "a hexadecimal number such as `0x1003`", up));
    }
    if has.link_type {
        netdev.link_type = reasons.take(dir.parsed("type", "an ARPHRD number", parse::decimal));
    }
    if has.address && netdev.link_type.is_none_or(|kind| kind == ETHERNET) {
        let mac = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        netdev.mac = reasons.take(dir.parsed("address", "a MAC address", mac)).flatten();
    }
    // The kernel answers EINVAL while the interface is down, so there is nothing to ask for then.
    if netdev.up != Fact::Known(false) {
        if has.carrier {
            netdev.carrier =
                reasons.unless_refused(dir.parsed("carrier", "0 or 1", parse::flag), &[Errno::EINVAL]);
        }
        if has.speed {
            let speed = dir.parsed("speed", "a speed in Mbit/s", speed);
            netdev.speed = reasons.unless_refused(speed, &[Errno::EINVAL, Errno::EOPNOTSUPP]).flatten();
        }
    }
    if has.switch_id {
        netdev.phys_switch_id = port_word(dir, "phys_switch_id", reasons);
    }
    if has.port_name {
        netdev.phys_port_name = port_word(dir, "phys_port_name", reasons);
    }
}

/// Speed in Mbit/s; −1, which some drivers write as an unsigned number, is none.
fn speed(text: &str) -> Option<Option<u32>> {
    parse::decimal_or_negative::<u32>(text).map(|speed| speed.filter(|speed| *speed != u32::MAX))
}

/// A word that drivers without a switch refuse to give.
fn port_word(dir: &Dir<'_>, name: &str, reasons: &mut Reasons) -> Option<String> {
    let refused = [Errno::EOPNOTSUPP, Errno::EINVAL, Errno::ENODEV];
    reasons.unless_refused(dir.attribute(name), &refused).filter(|word| !word.is_empty())
}
