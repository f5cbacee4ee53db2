//! NIC selectors: given fields must all match (AND), members of one list are alternatives (OR), names and addresses are
//! globs. An empty selector is refused where it is parsed.

use globset::{Glob, GlobMatcher};

use crate::id::{MacAddress, PciId};
use crate::observed::Pf;

/// A shell-like pattern (`*`, `?`, `[a-c]`, `{a,b}`) over a whole name.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern: {why}")]
pub struct PatternError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        let refuse = |why: &str| PatternError { text: text.to_owned(), why: why.to_owned() };
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        let glob = Glob::new(text).map_err(|error| refuse(&error.kind().to_string()))?;
        Ok(Pattern { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The compiled form says nothing to a reader.
        write!(f, "{:?}", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Pattern {}

/// `select` of a NIC entry. Empty lists do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// PCI vendor IDs.
    pub vendors: Vec<PciId>,
    /// PCI device IDs of the PF.
    pub devices: Vec<PciId>,
    /// PF drivers.
    pub drivers: Vec<String>,
    /// Netdev names or alternative names.
    pub names: Vec<Pattern>,
    /// PCI addresses.
    pub addresses: Vec<Pattern>,
    /// MAC addresses of the PF's netdevs.
    pub macs: Vec<MacAddress>,
    /// NUMA nodes.
    pub numa_nodes: Vec<u16>,
    /// Switch IDs.
    pub switch_ids: Vec<String>,
}

impl Selector {
    /// Whether nothing is restricted at all.
    pub fn is_empty(&self) -> bool {
        *self == Selector::default()
    }

    /// Whether the PF is meant.
    pub fn matches(&self, pf: &Pf) -> bool {
        let Selector { vendors, devices, drivers, names, addresses, macs, numa_nodes, switch_ids } = self;
        let address = pf.address.to_string();
        let any_name = |pattern: &Pattern| {
            pf.netdevs
                .iter()
                .any(|n| pattern.matches(&n.name) || n.alt_names.iter().any(|alt| pattern.matches(alt)))
                || pf.name.as_deref().is_some_and(|name| pattern.matches(name))
        };
        either(vendors, |id| *id == pf.vendor)
            && either(devices, |id| *id == pf.device)
            && either(drivers, |driver| pf.driver.as_deref() == Some(driver))
            && either(names, any_name)
            && either(addresses, |pattern| pattern.matches(&address))
            && either(macs, |mac| pf.netdevs.iter().any(|n| n.mac == Some(*mac)))
            && either(numa_nodes, |node| pf.numa_node == Some(*node))
            && either(switch_ids, |id| pf.netdevs.iter().any(|n| n.phys_switch_id.as_deref() == Some(id)))
    }

    /// The selector in one line, as an operator wrote it: `vendors 8086, names ens1f*`.
    pub fn describe(&self) -> String {
        let Selector { vendors, devices, drivers, names, addresses, macs, numa_nodes, switch_ids } = self;
        let texts = |patterns: &[Pattern]| patterns.iter().map(|p| p.text.clone()).collect::<Vec<_>>();
        let fields = [
            ("vendors", shown(vendors)),
            ("devices", shown(devices)),
            ("drivers", drivers.clone()),
            ("names", texts(names)),
            ("addresses", texts(addresses)),
            ("macs", shown(macs)),
            ("numaNodes", shown(numa_nodes)),
            ("switchIds", switch_ids.clone()),
        ];
        let parts: Vec<String> = fields
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| format!("{name} {}", values.join(" or ")))
            .collect();
        parts.join(", ")
    }
}

fn shown<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// An empty list does not restrict; otherwise one member must match.
fn either<T>(list: &[T], matches: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}
