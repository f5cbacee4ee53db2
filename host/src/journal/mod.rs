//! What the agent has to remember across its own end: what it was about to do, what it found before, what worked last.
//!
//! One file per PF under the state directory, `pf/<address>.json`, written whole and synced before the change that it is
//! about. The kernel is the truth and the journal explains it: a file that cannot be read is reported and set aside, and
//! the node is planned from what is seen. What only holds until the next boot carries the boot's id and is forgotten in
//! another one: VFs, autoprobe and interface names do not survive it.

mod path;
mod recall;
mod record;
mod udev;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portwright_core::observed::{Pf, Problem, RememberedVf, Vf};
use portwright_core::{Object, PciAddress, VfRef};

pub(crate) use self::path::{note_path, path_seen};
pub(crate) use self::recall::recall;
use self::record::{ParseError, Record, ThisBoot};
use self::udev::Named;
use crate::root::{ReadError, Root};
use crate::write::{self, WriteError};

/// Where the state directory is unless something else is said.
pub const STATE_DIR: &str = "/var/lib/portwright";
const FOLDER: &str = "pf";
/// A PF with 256 remembered VFs takes some 100 KiB.
const LARGEST: usize = 16 * 1024 * 1024;

/// A journal entry that could not be written. The change that it is about is then not made.
#[derive(Debug, thiserror::Error)]
#[error("the journal of {pf} cannot be written")]
pub struct JournalError {
    /// The PF.
    pub pf: PciAddress,
    /// Why.
    #[source]
    pub source: WriteError,
}

/// The journal of all PFs.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    boot: String,
    records: BTreeMap<PciAddress, Record>,
    broken: BTreeMap<PciAddress, PathBuf>,
    problems: Vec<Problem>,
}

impl Journal {
    /// Reads the journal in `state_dir`. What cannot be read is among [`Journal::problems`]; nothing is written.
    pub fn read(root: &Root, state_dir: &Path) -> Journal {
        let boot = root.document("proc/sys/kernel/random/boot_id", 64).unwrap_or_default().trim().to_owned();
        let folder = state_dir.join(FOLDER);
        let mut journal = Journal {
            folder: folder.clone(),
            boot,
            records: BTreeMap::new(),
            broken: BTreeMap::new(),
            problems: Vec::new(),
        };
        let names = match root.names(&folder) {
            Ok(names) => names,
            Err(error) => {
                if !error.is_absent() {
                    journal.tell(Object::Node, &error);
                }
                return journal;
            }
        };
        let pfs = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<PciAddress>().ok());
        for pf in pfs {
            journal.read_one(root, pf);
        }
        journal
    }

    fn read_one(&mut self, root: &Root, pf: PciAddress) {
        let path = self.path(pf);
        match root.document(&path, LARGEST) {
            Ok(text) => match Record::parse(&text, &self.boot) {
                Ok(record) => {
                    self.records.insert(pf, record);
                }
                Err(ParseError(why)) => {
                    let reason = format!("the journal {} is not used: {why}", path.display());
                    self.problems.push(Problem { object: Object::Pci(pf), reason });
                    self.broken.insert(pf, path);
                }
            },
            Err(error) => self.tell(Object::Pci(pf), &error),
        }
    }

    fn tell(&mut self, object: Object, error: &ReadError) {
        let reason = format!("the journal cannot be read: {}", portwright_core::drive::chain(error));
        self.problems.push(Problem { object, reason });
    }

    fn path(&self, pf: PciAddress) -> PathBuf {
        self.folder.join(format!("{pf}.json"))
    }

    /// What could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn this_boot(&self, pf: PciAddress) -> Option<&ThisBoot> {
        Some(&self.records.get(&pf)?.this_boot)
    }

    /// The value of `sriov_drivers_autoprobe` that we found and have not put back yet.
    pub fn saved_autoprobe(&self, pf: PciAddress) -> Option<bool> {
        self.this_boot(pf)?.saved_autoprobe
    }

    /// PFs that something is remembered of.
    pub fn pfs(&self) -> impl Iterator<Item = PciAddress> {
        self.records.keys().copied()
    }

    /// Whether we made the PF's VFs in this boot.
    pub fn made_by_us(&self, pf: PciAddress) -> bool {
        self.this_boot(pf).is_some_and(|record| record.made_by_us)
    }

    /// What the VF's netdev looked like when it was last verified in this boot.
    pub fn remembered(&self, vf: VfRef) -> Option<&RememberedVf> {
        self.this_boot(vf.pf)?.vfs.get(&vf.index)
    }

    /// The step that was begun and not ended: what a crash interrupted.
    pub fn doing(&self, pf: PciAddress) -> Option<&str> {
        self.this_boot(pf)?.doing.as_deref()
    }

    /// The PF as it was when it was last verified, in this boot or before.
    pub fn last_good(&self, pf: PciAddress) -> Option<&Pf> {
        self.records.get(&pf)?.last_good.as_ref()
    }

    /// Notes the step that begins, or that none is under way.
    pub fn set_doing(&mut self, pf: PciAddress, step: Option<String>) -> Result<(), JournalError> {
        self.change(pf, |record| record.this_boot.doing = step)
    }

    /// Keeps the value of `sriov_drivers_autoprobe` that was found, unless an older one is kept already; returns the one
    /// that is due in the end.
    pub fn save_autoprobe(&mut self, pf: PciAddress, found: bool) -> Result<bool, JournalError> {
        let due = self.saved_autoprobe(pf).unwrap_or(found);
        self.change(pf, |record| record.this_boot.saved_autoprobe = Some(due))?;
        Ok(due)
    }

    /// Notes that the value of `sriov_drivers_autoprobe` is back.
    pub fn autoprobe_restored(&mut self, pf: PciAddress) -> Result<(), JournalError> {
        self.change(pf, |record| record.this_boot.saved_autoprobe = None)
    }

    /// Notes that the PF's VFs are ours, or no more.
    pub fn set_made_by_us(&mut self, pf: PciAddress, ours: bool) -> Result<(), JournalError> {
        self.change(pf, |record| record.this_boot.made_by_us = ours)
    }

    /// Forgets the PF's VFs, which are about to be removed.
    pub fn forget_vfs(&mut self, pf: PciAddress) -> Result<(), JournalError> {
        self.change(pf, |record| record.this_boot.vfs.clear())
    }

    /// Forgets a VF whose netdev is about to go.
    pub fn forget_vf(&mut self, vf: VfRef) -> Result<(), JournalError> {
        self.change(vf.pf, |record| {
            record.this_boot.vfs.remove(&vf.index);
        })
    }

    /// Notes of each VF that is remembered that somebody has been seen to hold it, or that its netdev has been seen to be
    /// away. Only then is anything put back once it is here again.
    pub fn note_away(&mut self, pf: &Pf) -> Result<(), JournalError> {
        let known = self.this_boot(pf.address).map(|record| &record.vfs);
        let gone = pf.vfs.iter().filter(|vf| !is_here(vf)).map(|vf| vf.index);
        let gone: Vec<u16> = gone.filter(|index| known.is_some_and(|vfs| vfs.contains_key(index))).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.change(pf.address, |record| {
            for index in gone {
                if let Some(remembered) = record.this_boot.vfs.get_mut(&index) {
                    remembered.away = true;
                }
            }
        })
    }

    /// Keeps a verified PF as its last good state, and what its VFs' netdevs look like. A VF whose netdev is not here now
    /// (a pod has it) keeps what was known before; so does one that udevd has not named yet.
    pub fn remember(&mut self, root: &Root, pf: &Pf) -> Result<(), JournalError> {
        let named = Named::read(root);
        self.change(pf.address, |record| {
            let vfs = &mut record.this_boot.vfs;
            vfs.retain(|index, _| pf.vf(*index).is_some());
            for vf in pf.vfs.iter().filter(|vf| is_here(vf)) {
                let Some(netdev) = vf.netdevs.first() else { continue };
                if named.is_final(root, netdev) {
                    let (name, mtu) = (netdev.name.clone(), netdev.mtu.known().copied());
                    vfs.insert(vf.index, RememberedVf { name, mac: netdev.mac, mtu, away: false });
                } else if let Some(remembered) = vfs.get_mut(&vf.index) {
                    remembered.away = false;
                }
            }
            record.last_good = Some(Record::settled(pf));
        })
    }

    /// Changes a PF's record and writes it, if it has become another one.
    fn change(&mut self, pf: PciAddress, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        let before = self.records.get(&pf);
        let mut after = before.cloned().unwrap_or_else(|| Record::new(&self.boot));
        change(&mut after);
        let unchanged = before.map_or_else(|| after == Record::new(&self.boot), |before| *before == after);
        if unchanged {
            return Ok(());
        }
        self.set_aside(pf).map_err(|source| JournalError { pf, source })?;
        write::replace(&self.path(pf), after.to_json().as_bytes(), 0o600, 0o700)
            .map_err(|source| JournalError { pf, source })?;
        self.records.insert(pf, after);
        Ok(())
    }

    /// Keeps a file that could not be read beside the new one, for whoever wants to know what happened.
    fn set_aside(&mut self, pf: PciAddress) -> Result<(), WriteError> {
        if let Some(path) = self.broken.remove(&pf) {
            let aside = path.with_extension("json.broken");
            std::fs::rename(&path, &aside).map_err(|source| WriteError {
                operation: "set aside",
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Nobody has the VF, and its netdev is in the host's network namespace.
fn is_here(vf: &Vf) -> bool {
    vf.holders.is_empty() && !vf.netdevs.is_empty()
}

#[cfg(test)]
mod tests;
