//! Which policy entry each PF follows. The unit is the PF: the document of highest priority binds it whole, lower ones are
//! shown as overridden. Equal priority is a conflict on both; a binding recorded earlier keeps the PF.

use std::collections::{BTreeMap, BTreeSet};

use crate::blocked::{Blocked, Reason};
use crate::desired::{Desired, Document, NicEntry};
use crate::id::{Object, PciAddress};
use crate::observed::{Observed, Pf};

/// A PF's entry.
pub(super) struct Bound<'a> {
    pub(super) document: &'a Document,
    pub(super) entry: &'a NicEntry,
    pub(super) notes: Vec<String>,
}

/// All bindings, by PF address, and what is wrong with the rest.
pub(super) struct Bindings<'a> {
    pub(super) bound: Vec<(&'a Pf, Bound<'a>)>,
    pub(super) blocked: Vec<Blocked>,
    /// PFs that any document selects, bound or in conflict.
    pub(super) selected: BTreeSet<PciAddress>,
}

type Candidate<'a> = (&'a Document, &'a NicEntry);

/// Binds every PF that a document selects.
pub(super) fn bind<'a>(observed: &'a Observed, desired: &'a Desired) -> Bindings<'a> {
    let mut candidates: BTreeMap<PciAddress, Vec<Candidate<'a>>> = BTreeMap::new();
    let mut blocked = Vec::new();
    for document in &desired.documents {
        for entry in &document.nics {
            let matching = observed.pfs.iter().filter(|pf| entry.select.matches(pf));
            let addresses: Vec<PciAddress> = matching.map(|pf| pf.address).collect();
            if addresses.is_empty() {
                blocked.push(missing(observed, document, entry));
            }
            for address in addresses {
                candidates.entry(address).or_default().push((document, entry));
            }
        }
    }
    let selected = candidates.keys().copied().collect();
    let mut bound = Vec::new();
    for (address, candidates) in candidates {
        let Some(pf) = observed.pf(address) else { continue };
        match choose(address, &candidates, desired.bindings.get(&address)) {
            Ok(winner) => bound.push((pf, winner)),
            Err(conflict) => blocked.push(conflict),
        }
    }
    Bindings { bound, blocked, selected }
}

/// Nothing answers to an entry.
fn missing(observed: &Observed, document: &Document, entry: &NicEntry) -> Blocked {
    let hint = if observed.pfs.is_empty() {
        "this node has no SR-IOV PF; check BIOS settings and the NIC's firmware".to_owned()
    } else {
        let there: Vec<String> = observed
            .pfs
            .iter()
            .map(|pf| {
                format!("{} {} ({}:{})", pf.address, pf.name.as_deref().unwrap_or("-"), pf.vendor, pf.device)
            })
            .collect();
        format!("PFs on this node: {}", there.join(", "))
    };
    Blocked::new(
        Object::Policy(document.name.clone(), entry.path.clone()),
        Reason::PfMissing,
        format!("no PF matches {}", entry.select.describe()),
        hint,
    )
}

/// The entry that a PF follows among those that match it.
fn choose<'a>(
    address: PciAddress,
    candidates: &[Candidate<'a>],
    recorded: Option<&String>,
) -> Result<Bound<'a>, Blocked> {
    let top = candidates.iter().map(|(document, _)| document.priority).max().unwrap_or_default();
    let (first, lower): (Vec<Candidate<'a>>, Vec<Candidate<'a>>) =
        candidates.iter().partition(|(document, _)| document.priority == top);
    let kept: Vec<Candidate<'a>> = match recorded {
        Some(name) if first.iter().any(|(document, _)| document.name == *name) => {
            first.iter().copied().filter(|(document, _)| document.name == *name).collect()
        }
        Some(_) | None => first.clone(),
    };
    let places = |list: &[Candidate<'a>]| {
        let places: Vec<String> =
            list.iter().map(|(document, entry)| format!("`{}` {}", document.name, entry.path)).collect();
        places.join(" and ")
    };
    let [(document, entry)] = kept.as_slice() else {
        return Err(Blocked::new(
            Object::Pci(address),
            Reason::PolicyConflict,
            format!("{} both select it with priority {top}", places(&kept)),
            "give one of them a larger `priority`, or narrow its `select`",
        ));
    };
    let mut notes = Vec::new();
    let losers: Vec<Candidate<'a>> =
        first.iter().filter(|(other, _)| other.name != document.name).copied().collect();
    if !losers.is_empty() {
        notes.push(format!(
            "PolicyConflict: {} also select it with priority {top}; `{}` was there first",
            places(&losers),
            document.name
        ));
    }
    if !lower.is_empty() {
        notes.push(format!("overrides {}", places(&lower)));
    }
    Ok(Bound { document, entry, notes })
}
