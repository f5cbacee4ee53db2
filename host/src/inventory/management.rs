//! What the management path is found by, and which interface has which address.
//!
//! What could not be read is kept in words: while anything is unread, every port may be the one that the node is reached
//! over.

use std::collections::BTreeSet;

use portwright_core::drive::chain;
use portwright_core::observed::{ManagementEvidence, Session, Sight};

use crate::proc::address::{self, Addresses};
use crate::proc::{route, tcp};
use crate::root::Root;
use crate::sysfs::Reasons;

/// A table with 100,000 lines has about 15 MB.
const TABLE_LIMIT: usize = 64 << 20;

/// Routes, sessions and addresses.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) management: ManagementEvidence,
    /// By interface, link-local ones included.
    pub(crate) addresses: Addresses,
    /// What could not be read.
    pub(crate) unread: Vec<String>,
}

impl Evidence {
    /// Says whether all of it could be read.
    pub(crate) fn conclude(&mut self) {
        if !self.unread.is_empty() {
            self.management.sight = Sight::Partial { why: self.unread.join("; ") };
        }
    }
}

/// Notes if this process is not in the network namespace of the host's first process: then the routes, addresses and
/// sessions that it sees are not the node's.
pub(crate) fn check_network(root: &Root, evidence: &mut Evidence) {
    let namespace = |process: &str| root.dir("proc").and_then(|proc| proc.link(&format!("{process}/ns/net")));
    match (namespace("self"), namespace("1")) {
        (Ok(own), Ok(host)) if own == host => {}
        (Ok(own), Ok(host)) => evidence.unread.push(format!(
            "this process is in the network namespace {}, the host's first process in {}",
            own.display(),
            host.display()
        )),
        (Err(error), _) | (_, Err(error)) => {
            let why = chain(&error);
            evidence
                .unread
                .push(format!("whether this is the host's network namespace cannot be told: {why}"));
        }
    }
}

/// Reads them from the texts in `proc/net`.
pub(crate) fn from_tables(root: &Root) -> Evidence {
    let mut reasons = Reasons::default();
    let mut table =
        |name: &str| reasons.take(root.document(format!("proc/net/{name}"), TABLE_LIMIT)).unwrap_or_default();
    let routes = route::routes4(&table("route"));
    let addresses = address::addresses(&table("fib_trie"), &routes, &table("if_inet6"));
    let default_routes = route::default_routes(&routes, &table("ipv6_route"));
    let management = ManagementEvidence { default_routes, ..ManagementEvidence::default() };
    Evidence { management, addresses, unread: reasons.0 }
}

/// Adds the established TCP sessions of both families.
pub(crate) fn add_sessions(root: &Root, live: bool, evidence: &mut Evidence) {
    let mut reasons = Reasons::default();
    let mut found: BTreeSet<Session> = BTreeSet::new();
    for name in ["tcp", "tcp6"] {
        match root.document(format!("proc/net/{name}"), TABLE_LIMIT) {
            // A kernel without IPv6 has no `tcp6`, and a tree need not have any.
            Err(error) if error.is_absent() && !(live && name == "tcp") => {}
            Err(error) => reasons.add(&error),
            Ok(text) => found.extend(tcp::sessions(&text)),
        }
    }
    evidence.management.sessions = found.into_iter().collect();
    evidence.unread.extend(reasons.0);
}
