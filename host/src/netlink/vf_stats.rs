//! Traffic counters of VFs, as their PF's driver counts them.
//!
//! Asked per interface, like the attributes, and apart from them: counting costs some drivers a command to the firmware
//! for each VF, so only who wants the numbers asks for them. The kernel fills in zeros for a driver that does not count
//! (`struct ifla_vf_stats` of linux/if_link.h has no place for "unknown"), which is why a list without a single count
//! is told apart by [`any_counted`].

use std::collections::BTreeMap;

use super::attr::{Attr, Malformed, attrs};
use super::error::NetlinkError;
use super::link::{LINK_HEADER, RTM_GETLINK, header};
use super::socket::{Ask, Connection};

// `IFLA_*` of linux/if_link.h.
const ADDRESS: u16 = 1;
const NUM_VF: u16 = 21;
const VFINFO_LIST: u16 = 22;
const EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_VF`, and not `RTEXT_FILTER_SKIP_STATS`.
const MASK: u32 = 1;
// `IFLA_VF_*`.
const VF_MAC: u16 = 1;
const VF_STATS: u16 = 8;
// `IFLA_VF_STATS_*`.
const RX_PACKETS: u16 = 0;
const TX_PACKETS: u16 = 1;
const RX_BYTES: u16 = 2;
const TX_BYTES: u16 = 3;
const BROADCAST: u16 = 4;
const MULTICAST: u16 = 5;
const RX_DROPPED: u16 = 7;
const TX_DROPPED: u16 = 8;

/// What a driver has counted for one VF, from the VF's side: received is what the VF got. Counters start anew when the VF
/// is created or reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VfStatistics {
    /// Packets that the VF received.
    pub rx_packets: u64,
    /// Packets that the VF sent.
    pub tx_packets: u64,
    /// Bytes that the VF received.
    pub rx_bytes: u64,
    /// Bytes that the VF sent.
    pub tx_bytes: u64,
    /// Broadcast packets that the VF received.
    pub broadcast: u64,
    /// Multicast packets that the VF received.
    pub multicast: u64,
    /// Packets for the VF that were dropped; absent on kernels that do not tell.
    pub rx_dropped: Option<u64>,
    /// Packets of the VF that were dropped; absent on kernels that do not tell.
    pub tx_dropped: Option<u64>,
}

impl VfStatistics {
    fn is_zero(&self) -> bool {
        let VfStatistics {
            rx_packets,
            tx_packets,
            rx_bytes,
            tx_bytes,
            broadcast,
            multicast,
            rx_dropped,
            tx_dropped,
        } = *self;
        let dropped = [rx_dropped, tx_dropped].map(Option::unwrap_or_default);
        [rx_packets, tx_packets, rx_bytes, tx_bytes, broadcast, multicast]
            .iter()
            .chain(&dropped)
            .all(|counter| *counter == 0)
    }
}

/// Whether a driver counts at all: a list of nothing but zeros is what the kernel makes up for one that does not, and also
/// that of VFs which never saw a packet. They cannot be told apart, and neither says anything.
pub fn any_counted(statistics: &BTreeMap<u16, VfStatistics>) -> bool {
    !statistics.values().all(VfStatistics::is_zero)
}

/// Counters of the VFs of the PF netdev `ifindex`, by VF index. VFs of which the kernel tells no counters are left out;
/// whatever cannot be decoded is an error. Above some 200 VFs the kernel cannot put the list into one attribute and refuses
/// (`EMSGSIZE`) or cuts it off, which is an error too.
pub fn vf_statistics(ifindex: u32) -> Result<BTreeMap<u16, VfStatistics>, NetlinkError> {
    let ask = Ask::new("read VF counters of", format!("ifindex {ifindex}"));
    let mut body = header(ifindex);
    body.extend_from_slice(&8_u16.to_ne_bytes());
    body.extend_from_slice(&EXT_MASK.to_ne_bytes());
    body.extend_from_slice(&MASK.to_ne_bytes());
    let messages = Connection::route()?.request(&ask, RTM_GETLINK, 0, &body)?;
    let first = messages.first().ok_or_else(|| ask.malformed("an empty answer"))?;
    decode(&first.body).map_err(|Malformed(why)| ask.malformed(why))
}

/// Decodes a link message.
fn decode(body: &[u8]) -> Result<BTreeMap<u16, VfStatistics>, Malformed> {
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
                    let (index, statistics) = decode_vf(&info?)?;
                    vfs.extend(statistics.map(|statistics| (index, statistics)));
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

fn decode_vf(info: &Attr<'_>) -> Result<(u16, Option<VfStatistics>), Malformed> {
    let (mut index, mut statistics) = (None, None);
    for attr in info.nested() {
        let attr = attr?;
        match attr.kind {
            VF_MAC => index = Some(attr.u32()?),
            VF_STATS => statistics = Some(decode_counters(&attr)?),
            _ => {}
        }
    }
    let index = index.ok_or_else(|| Malformed("a VF without index".to_owned()))?;
    let index = u16::try_from(index).map_err(|_| Malformed(format!("VF index {index}")))?;
    Ok((index, statistics))
}

fn decode_counters(list: &Attr<'_>) -> Result<VfStatistics, Malformed> {
    let mut found = VfStatistics::default();
    for attr in list.nested() {
        let attr = attr?;
        let counter = || attr.bytes::<8>().map(u64::from_ne_bytes);
        match attr.kind {
            RX_PACKETS => found.rx_packets = counter()?,
            TX_PACKETS => found.tx_packets = counter()?,
            RX_BYTES => found.rx_bytes = counter()?,
            TX_BYTES => found.tx_bytes = counter()?,
            BROADCAST => found.broadcast = counter()?,
            MULTICAST => found.multicast = counter()?,
            RX_DROPPED => found.rx_dropped = Some(counter()?),
            TX_DROPPED => found.tx_dropped = Some(counter()?),
            // Padding, and what later kernels add.
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "vf_stats_tests.rs"]
mod tests;
