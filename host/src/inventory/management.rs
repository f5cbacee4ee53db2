//! What the management path is found by, and which interface has which address.

use std::collections::BTreeSet;

use portwright_core::Object;
use portwright_core::observed::{ManagementEvidence, Problem, Session};

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
    pub(crate) addresses: Addresses,
}

/// Reads them from the texts in `proc/net`.
pub(crate) fn from_tables(root: &Root, problems: &mut Vec<Problem>) -> Evidence {
    let mut reasons = Reasons::default();
    let mut table =
        |name: &str| reasons.take(root.document(format!("proc/net/{name}"), TABLE_LIMIT)).unwrap_or_default();
    let routes = route::routes4(&table("route"));
    let addresses = address::addresses(&table("fib_trie"), &routes, &table("if_inet6"));
    let default_routes = route::default_routes(&routes, &table("ipv6_route"));
    tell(problems, reasons);
    let management = ManagementEvidence { default_routes, ..ManagementEvidence::default() };
    Evidence { management, addresses }
}

/// Established TCP sessions of both families.
pub(crate) fn sessions(root: &Root, problems: &mut Vec<Problem>) -> Vec<Session> {
    let mut reasons = Reasons::default();
    let mut found: BTreeSet<Session> = BTreeSet::new();
    for name in ["tcp", "tcp6"] {
        let text = reasons.take(root.document(format!("proc/net/{name}"), TABLE_LIMIT));
        found.extend(tcp::sessions(&text.unwrap_or_default()));
    }
    tell(problems, reasons);
    found.into_iter().collect()
}

fn tell(problems: &mut Vec<Problem>, reasons: Reasons) {
    problems.extend(reasons.0.into_iter().map(|reason| Problem { object: Object::Node, reason }));
}
