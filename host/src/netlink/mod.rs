//! Route netlink: links, addresses, default routes and VF attributes, read and set.
//!
//! A synchronous façade over blocking sockets: one request, one answer, a deadline. Messages are built with
//! netlink-packet-route's types. Answers are decoded here, and only as far as they are used: an attribute that we do not
//! look at can never lose a link, and one that we do look at and that is not what it should be is an error. Never is a
//! link or a VF silently left out, because "no VFs" would be taken for the truth.
//!
//! Extended acknowledgements are on: a refusal carries the driver's own sentence.

mod address;
mod attr;
mod error;
mod link;
mod namespace;
mod nexthop;
mod set;
mod socket;
mod vf;
mod vf_stats;

pub use address::{RawAddress, RawRoute, addresses, default_routes};
pub use error::NetlinkError;
pub use link::{RawLink, link, links};
pub use namespace::links_in_netns;
pub use set::{
    Port, rename, set_address, set_mtu, set_up, set_vf_link_state, set_vf_mac, set_vf_rate,
    set_vf_spoof_check, set_vf_trust, set_vf_vlan,
};
pub use vf::vf_attributes;
pub use vf_stats::{VfStatistics, any_counted, vf_statistics};

pub(crate) use attr::{Attr, Malformed, attrs};
pub(crate) use socket::{Ask, Connection, Message};
