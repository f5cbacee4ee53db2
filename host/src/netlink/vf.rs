//! What a PF's driver says of its VFs.
//!
//! Asked per interface: a PF whose answer cannot be decoded is an error of that PF and hides no other. −1 for spoof check
//! and trust means that the driver has no such thing; it is not "off".

use std::collections::BTreeMap;

use portwright_core::desired::{LinkState, TxRate, Vlan, VlanProtocol};
use portwright_core::observed::VfAdmin;
use portwright_core::{Fact, MacAddress};

use super::attr::{Attr, Malformed, attrs};
use super::error::NetlinkError;
use super::link::{LINK_HEADER, RTM_GETLINK, header};
use super::socket::{Ask, Connection};

// `IFLA_*` of linux/if_link.h.
const ADDRESS: u16 = 1;
const NUM_VF: u16 = 21;
const VFINFO_LIST: u16 = 22;
const EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS`.
const MASK: u32 = 1 | (1 << 3);
const VF_INFO: u16 = 1;
// `IFLA_VF_*`.
const VF_MAC: u16 = 1;
const VF_VLAN: u16 = 2;
const VF_SPOOFCHK: u16 = 4;
const VF_LINK_STATE: u16 = 5;
const VF_RATE: u16 = 6;
const VF_TRUST: u16 = 9;
const VF_VLAN_LIST: u16 = 12;
const VF_VLAN_INFO: u16 = 1;
/// Setting of a driver that cannot say.
const UNSUPPORTED: u32 = u32::MAX;
const ETH_P_8021AD: u16 = 0x88a8;

/// Attributes of the VFs of the PF netdev `ifindex`, by VF index. A netdev without VFs gives an empty map; whatever cannot
/// be decoded is an error.
pub fn vf_attributes(ifindex: u32) -> Result<BTreeMap<u16, VfAdmin>, NetlinkError> {
    let ask = Ask::new("read VF attributes of", format!("ifindex {ifindex}"));
    let mut body = header(ifindex);
    body.extend_from_slice(&8_u16.to_ne_bytes());
    body.extend_from_slice(&EXT_MASK.to_ne_bytes());
    body.extend_from_slice(&MASK.to_ne_bytes());
    let messages = Connection::route()?.request(&ask, RTM_GETLINK, 0, &body)?;
    let first = messages.first().ok_or_else(|| ask.malformed("an empty answer"))?;
    decode(&first.body).map_err(|Malformed(why)| ask.malformed(why))
}

/// Decodes a link message.
pub(super) fn decode(body: &[u8]) -> Result<BTreeMap<u16, VfAdmin>, Malformed> {
    let rest = body
        .get(LINK_HEADER..)
        .ok_or_else(|| Malformed(format!("a link message of {} bytes", body.len())))?;
    let (mut vfs, mut addresses, mut announced) = (BTreeMap::new(), 0, 0);
    for attr in attrs(rest) {
        let attr = attr?;
        match attr.kind {
            ADDRESS => addresses += 1,
            NUM_VF => announced = attr.u32()?,
            VFINFO_LIST => {
                for info in attr.nested() {
                    let (index, admin) = decode_vf(&info?)?;
                    vfs.insert(index, admin);
                }
            }
            _ => {}
        }
    }
    // A list of more than 64 KiB wraps its 16-bit length, and the VFs behind it look like further attributes of the link.
    if addresses > 1 {
        let found = vfs.len();
        return Err(Malformed(format!("the list of VFs was cut off at {found} of {announced}")));
    }
    Ok(vfs)
}

fn decode_vf(info: &Attr<'_>) -> Result<(u16, VfAdmin), Malformed> {
    if info.kind != VF_INFO {
        return Err(Malformed(format!("attribute {} in the list of VFs", info.kind)));
    }
    let (mut index, mut admin) = (None, VfAdmin::default());
    for attr in info.nested() {
        let attr = attr?;
        match attr.kind {
            VF_MAC => {
                let [a, b, c, d, rest @ ..] = attr.bytes::<10>()?;
                index = Some(u32::from_ne_bytes([a, b, c, d]));
                admin.mac = Fact::Known(MacAddress(rest));
            }
            // The list, which follows, also holds the protocol.
            VF_VLAN => admin.vlan = Fact::Known(vlan(&attr, VlanProtocol::Dot1q)?),
            VF_VLAN_LIST => {
                if let Some(found) = vlan_of_list(&attr)? {
                    admin.vlan = Fact::Known(found);
                }
            }
            VF_SPOOFCHK => admin.spoof_check = switch(&attr)?,
            VF_TRUST => admin.trust = switch(&attr)?,
            VF_RATE => admin.tx_rate = Fact::Known(TxRate { min: attr.word(1)?, max: attr.word(2)? }),
            VF_LINK_STATE => admin.link_state = link_state(&attr)?,
            _ => {}
        }
    }
    let index = index.ok_or_else(|| Malformed("a VF without index".to_owned()))?;
    let index = u16::try_from(index).map_err(|_| Malformed(format!("VF index {index}")))?;
    Ok((index, admin))
}

fn switch(attr: &Attr<'_>) -> Result<Fact<bool>, Malformed> {
    Ok(match attr.word(1)? {
        UNSUPPORTED => Fact::UNSUPPORTED,
        setting => Fact::Known(setting != 0),
    })
}

fn link_state(attr: &Attr<'_>) -> Result<Fact<LinkState>, Malformed> {
    match attr.word(1)? {
        0 => Ok(Fact::Known(LinkState::Auto)),
        1 => Ok(Fact::Known(LinkState::Enable)),
        2 => Ok(Fact::Known(LinkState::Disable)),
        other => Err(Malformed(format!("link state {other} of a VF"))),
    }
}

fn vlan(attr: &Attr<'_>, protocol: VlanProtocol) -> Result<Vlan, Malformed> {
    let (id, qos) = (attr.word(1)?, attr.word(2)?);
    match (u16::try_from(id), u8::try_from(qos)) {
        (Ok(id), Ok(qos)) => Ok(Vlan { id, qos, protocol }),
        (Err(_), _) | (_, Err(_)) => Err(Malformed(format!("VLAN {id} with priority {qos} of a VF"))),
    }
}

/// The first (and on all drivers only) entry.
fn vlan_of_list(list: &Attr<'_>) -> Result<Option<Vlan>, Malformed> {
    for attr in list.nested() {
        let attr = attr?;
        if attr.kind == VF_VLAN_INFO {
            let bytes = attr.bytes::<14>()?;
            let [.., high, low] = bytes;
            let protocol = if u16::from_be_bytes([high, low]) == ETH_P_8021AD {
                VlanProtocol::Dot1ad
            } else {
                VlanProtocol::Dot1q
            };
            return vlan(&attr, protocol).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "vf_tests.rs"]
mod tests;
