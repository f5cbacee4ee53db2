//! Next-hop objects: where a route leads that names one instead of an interface (`ip route add default nhid 3`).
//!
//! A host that has set `net.ipv4.nexthop_compat_mode` to 0, as routing daemons advise for large tables, does not tell the
//! interface along with the route.

use std::collections::{BTreeMap, BTreeSet};

use super::attr::{Malformed, attrs};
use super::error::NetlinkError;
use super::socket::{Ask, Connection};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;
/// Length of `struct nexthop_grp`.
const MEMBER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;

/// Where a next-hop object leads.
#[derive(Debug, Default, PartialEq, Eq)]
struct NextHop {
    ifindex: Option<u32>,
    members: Vec<u32>,
    blackhole: bool,
}

/// All next-hop objects of the present network namespace.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    by_id: BTreeMap<u32, NextHop>,
}

impl NextHops {
    pub(super) fn read(connection: &mut Connection) -> Result<NextHops, NetlinkError> {
        let ask = Ask::new("list", "next hops");
        let messages = connection.list(&ask, RTM_GETNEXTHOP, &[0; HEADER])?;
        let of_nexthops = messages.iter().filter(|message| message.kind == RTM_NEWNEXTHOP);
        let decoded: Result<BTreeMap<_, _>, Malformed> =
            of_nexthops.map(|message| decode(&message.body)).collect();
        Ok(NextHops { by_id: decoded.map_err(|Malformed(why)| ask.malformed(why))? })
    }

    /// The interfaces that a next hop leads out of. One that is unknown may lead anywhere: that is an error.
    pub(super) fn interfaces(&self, id: u32) -> Result<BTreeSet<u32>, Malformed> {
        let unknown = |id: u32| Malformed(format!("a route has next hop {id}, which is not listed"));
        let found = self.by_id.get(&id).ok_or_else(|| unknown(id))?;
        let mut interfaces: BTreeSet<u32> = found.ifindex.into_iter().collect();
        // A group has no groups in it.
        for member in &found.members {
            interfaces.extend(self.by_id.get(member).ok_or_else(|| unknown(*member))?.ifindex);
        }
        if interfaces.is_empty() && !found.blackhole {
            return Err(Malformed(format!("next hop {id} names no interface")));
        }
        Ok(interfaces)
    }
}

fn decode(body: &[u8]) -> Result<(u32, NextHop), Malformed> {
    let rest = body.get(HEADER..).ok_or_else(|| Malformed(format!("a next hop of {} bytes", body.len())))?;
    let (mut id, mut found) = (None, NextHop::default());
    for attr in attrs(rest) {
        let attr = attr?;
        match attr.kind {
            NHA_ID => id = Some(attr.u32()?),
            NHA_OIF => found.ifindex = Some(attr.u32()?),
            NHA_BLACKHOLE => found.blackhole = true,
            NHA_GROUP => {
                let (members, odd) = attr.value.as_chunks::<MEMBER>();
                if !odd.is_empty() {
                    return Err(Malformed(format!("a next-hop group of {} bytes", attr.value.len())));
                }
                found.members =
                    members.iter().map(|[a, b, c, d, ..]| u32::from_ne_bytes([*a, *b, *c, *d])).collect();
            }
            _ => {}
        }
    }
    Ok((id.ok_or_else(|| Malformed("a next hop without a number".to_owned()))?, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes
    }

    #[test]
    fn groups_lead_where_their_members_do() {
        let message = |attrs: &[Vec<u8>]| decode(&[vec![0; HEADER], attrs.concat()].concat());
        let id = |id: u32| attr(NHA_ID, &id.to_ne_bytes());
        let group = |ids: &[u32]| {
            let members = ids.iter().flat_map(|id| [id.to_ne_bytes(), [0; 4]]);
            attr(NHA_GROUP, &members.flatten().collect::<Vec<u8>>())
        };
        let all = [
            message(&[id(1), attr(NHA_OIF, &7_u32.to_ne_bytes())]),
            message(&[id(2), attr(NHA_OIF, &8_u32.to_ne_bytes())]),
            message(&[id(3), group(&[1, 2])]),
            message(&[id(4), attr(NHA_BLACKHOLE, &[])]),
            message(&[id(5), group(&[1, 9])]),
            message(&[id(6)]),
        ];
        let hops = NextHops { by_id: all.into_iter().collect::<Result<_, _>>().unwrap() };
        let interfaces = |id| hops.interfaces(id).map(|found| found.into_iter().collect::<Vec<u32>>());
        assert_eq!(interfaces(1).unwrap(), [7]);
        assert_eq!(interfaces(3).unwrap(), [7, 8]);
        assert_eq!(interfaces(4).unwrap(), [0_u32; 0]);
        for unknown in [5, 6, 9] {
            assert!(interfaces(unknown).is_err(), "{unknown} may lead anywhere");
        }
        assert!(
            message(&[attr(NHA_OIF, &[0; 4])]).is_err()
                && message(&[id(1), attr(NHA_GROUP, &[0; 9])]).is_err()
        );
    }
}
