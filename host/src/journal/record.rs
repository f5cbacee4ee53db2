//! The journal of one PF as it stands in its file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use portwright_core::observed::{Pf, RememberedVf, VfAdmin};

/// Version of the format. A file of a later version is not guessed at.
const VERSION: u32 = 1;

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct ParseError(pub(super) String);

/// One PF.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    version: u32,
    /// What holds until the next boot only.
    pub(super) this_boot: ThisBoot,
    /// The PF as it was last verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_good: Option<Pf>,
}

/// What holds until the next boot only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThisBoot {
    /// `/proc/sys/kernel/random/boot_id`.
    boot_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) saved_autoprobe: Option<bool>,
    #[serde(default)]
    pub(super) made_by_us: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doing: Option<String>,
    #[serde(default)]
    pub(super) vfs: BTreeMap<u16, RememberedVf>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    pub(super) fn new(boot: &str) -> Record {
        let this_boot = ThisBoot { boot_id: boot.to_owned(), ..ThisBoot::default() };
        Record { version: VERSION, this_boot, last_good: None }
    }

    /// Reads a file. What belongs to another boot than `boot` is dropped.
    pub(super) fn parse(text: &str, boot: &str) -> Result<Record, ParseError> {
        let fail = |error: serde_json::Error| ParseError(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(fail)?;
        if version != VERSION {
            return Err(ParseError(format!("it has version {version}, and this program knows {VERSION}")));
        }
        let mut record: Record = serde_json::from_str(text).map_err(fail)?;
        // Without a boot id nobody can tell, and then what a boot ends is not trusted.
        if boot.is_empty() || record.this_boot.boot_id != boot {
            record.this_boot = ThisBoot { boot_id: boot.to_owned(), ..ThisBoot::default() };
        }
        Ok(record)
    }

    pub(super) fn to_json(&self) -> String {
        // A record holds strings, numbers and maps with simple keys: it always has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// A PF without what is of the moment: who held it, and what the journal itself says.
    pub(super) fn settled(pf: &Pf) -> Pf {
        let mut settled = Pf { saved_autoprobe: None, stuck: None, ..pf.clone() };
        for vf in &mut settled.vfs {
            // What a VF in use has was set by its user.
            if !vf.holders.is_empty() {
                vf.admin = VfAdmin::default();
            }
            vf.holders.clear();
            vf.remembered = None;
        }
        settled
    }
}
