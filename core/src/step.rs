//! Everything that portwright can ever do to a node, as a list of sentences.
//!
//! A step carries what it expects to find (`from`), what it makes of it (`to`) and what it disrupts. Whoever runs it first
//! checks that `from` still holds; if not, the step is stale and the node is planned again. Steps name VFs by PF address
//! and index, so one plan can create VFs and configure them.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::desired::{EswitchMode, LinkState, TxRate, Vlan};
use crate::id::{MacAddress, Object};
use crate::ovs;

/// One change to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is changed.
    pub object: Object,
    /// The change.
    pub change: Change,
    /// What it disrupts.
    pub disruption: Disruption,
    /// Whether the policy lets it take VFs from pods and network namespaces (`disruption: Force`). Never from open VFIO
    /// or iommufd files.
    pub force: bool,
}

/// What a step disrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disruption {
    /// Nothing.
    None,
    /// Traffic of one VF.
    Vf,
    /// Traffic of the PF and all of its VFs.
    Pf,
    /// Traffic of an Open vSwitch bridge.
    Bridge,
    /// The node's own network path.
    NodePath,
}

/// The driver that a VF is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverTarget {
    /// A driver by name, pinned by `driver_override` while it is bound.
    Named {
        /// Driver name.
        driver: String,
        /// Whether the override stays afterwards: it does for drivers that are not the kernel's own for the device.
        keep_override: bool,
    },
    /// Whatever the kernel chooses (the VF driver is not known).
    Default,
}

impl fmt::Display for DriverTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverTarget::Named { driver, .. } => driver,
            DriverTarget::Default => "kernel default",
        })
    }
}

/// The changes there are. `from: None` on a VF attribute means that the VF did not exist when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write the udev rule that keeps NetworkManager off VFs.
    WriteUdevRule {
        /// Present content.
        from: Option<String>,
        /// Wanted content.
        to: String,
    },
    /// Load a kernel module with the host's `modprobe`.
    LoadModule {
        /// Module name.
        module: String,
    },
    /// Set the PF's netdev administratively up.
    SetPfUp {
        /// How long to wait for carrier afterwards, in milliseconds; 0 does not wait. Some drivers take rates only then.
        wait_carrier_ms: u64,
    },
    /// Set the PF's MTU in bytes.
    SetPfMtu {
        /// Present MTU.
        from: u32,
        /// Wanted MTU.
        to: u32,
    },
    /// Set `sriov_drivers_autoprobe`. The value found first is written to the journal before.
    SetAutoprobe {
        /// Present value.
        from: bool,
        /// Wanted value.
        to: bool,
    },
    /// Set the number of VFs. From one non-zero number to another goes through 0, as the kernel demands.
    SetNumVfs {
        /// Present number.
        from: u16,
        /// Wanted number.
        to: u16,
    },
    /// Set the e-switch mode by devlink.
    SetEswitch {
        /// Present mode.
        from: EswitchMode,
        /// Wanted mode.
        to: EswitchMode,
    },
    /// Unbind a VF from its driver.
    UnbindVf {
        /// Present driver.
        from: String,
    },
    /// Bind a VF to a driver, unbinding it from another first.
    BindVf {
        /// Present driver.
        from: Option<String>,
        /// Wanted driver.
        to: DriverTarget,
    },
    /// Unbind a VF and bind it to the same driver, so that the driver reads its settings again.
    ReprobeVf {
        /// The driver.
        driver: String,
    },
    /// Set a VF's administrative MAC.
    SetVfMac {
        /// Present MAC.
        from: Option<MacAddress>,
        /// Wanted MAC.
        to: MacAddress,
    },
    /// Set a VF's VLAN.
    SetVfVlan {
        /// Present VLAN.
        from: Option<Vlan>,
        /// Wanted VLAN.
        to: Vlan,
    },
    /// Set a VF's source address check.
    SetVfSpoofCheck {
        /// Present value.
        from: Option<bool>,
        /// Wanted value.
        to: bool,
    },
    /// Set a VF's trust.
    SetVfTrust {
        /// Present value.
        from: Option<bool>,
        /// Wanted value.
        to: bool,
    },
    /// Set a VF's transmit rates.
    SetVfRate {
        /// Present rates.
        from: Option<TxRate>,
        /// Wanted rates.
        to: TxRate,
    },
    /// Set a VF's link state control.
    SetVfLinkState {
        /// Present value.
        from: Option<LinkState>,
        /// Wanted value.
        to: LinkState,
    },
    /// Give a VF's netdev its name back.
    RenameVf {
        /// Present name.
        from: String,
        /// Wanted name.
        to: String,
    },
    /// Set the MTU of a VF's netdev in bytes.
    SetVfMtu {
        /// Present MTU.
        from: Option<u32>,
        /// Wanted MTU.
        to: u32,
    },
    /// Change Open vSwitch.
    Ovs {
        /// Policy whose name the row carries or gets.
        owner: String,
        /// What is changed.
        change: Box<ovs::Change>,
    },
}

impl Change {
    /// The variant in kebab-case, as `plan -o json` prints it.
    pub fn action(&self) -> &'static str {
        match self {
            Change::WriteUdevRule { .. } => "write-udev-rule",
            Change::LoadModule { .. } => "load-module",
            Change::SetPfUp { .. } => "set-pf-up",
            Change::SetPfMtu { .. } => "set-pf-mtu",
            Change::SetAutoprobe { .. } => "set-autoprobe",
            Change::SetNumVfs { .. } => "set-num-vfs",
            Change::SetEswitch { .. } => "set-eswitch",
            Change::UnbindVf { .. } => "unbind-vf",
            Change::BindVf { .. } => "bind-vf",
            Change::ReprobeVf { .. } => "reprobe-vf",
            Change::SetVfMac { .. } => "set-vf-mac",
            Change::SetVfVlan { .. } => "set-vf-vlan",
            Change::SetVfSpoofCheck { .. } => "set-vf-spoof-check",
            Change::SetVfTrust { .. } => "set-vf-trust",
            Change::SetVfRate { .. } => "set-vf-rate",
            Change::SetVfLinkState { .. } => "set-vf-link-state",
            Change::RenameVf { .. } => "rename-vf",
            Change::SetVfMtu { .. } => "set-vf-mtu",
            Change::Ovs { change, .. } => change.action(),
        }
    }

    /// The same in words, without object and values: `set MTU`.
    pub fn words(&self) -> &'static str {
        match self {
            Change::WriteUdevRule { .. } => "write udev rule",
            Change::LoadModule { .. } => "load module",
            Change::SetPfUp { .. } => "set link",
            Change::SetPfMtu { .. } | Change::SetVfMtu { .. } => "set MTU",
            Change::SetAutoprobe { .. } => "set autoprobe",
            Change::SetNumVfs { .. } => "set VFs",
            Change::SetEswitch { .. } => "set e-switch",
            Change::UnbindVf { .. } => "unbind",
            Change::BindVf { .. } => "bind",
            Change::ReprobeVf { .. } => "re-probe",
            Change::SetVfMac { .. } => "set MAC",
            Change::SetVfVlan { .. } => "set VLAN",
            Change::SetVfSpoofCheck { .. } => "set spoof check",
            Change::SetVfTrust { .. } => "set trust",
            Change::SetVfRate { .. } => "set rate",
            Change::SetVfLinkState { .. } => "set link state",
            Change::RenameVf { .. } => "rename",
            Change::Ovs { change, .. } => change.words(),
        }
    }

    /// What the step expects to find and what it makes of it, as JSON values; null means none.
    pub fn values(&self) -> (Value, Value) {
        match self {
            Change::WriteUdevRule { from, to } => (json!(from), json!(to)),
            Change::LoadModule { module } => (Value::Null, json!(module)),
            Change::SetPfUp { .. } => (json!("down"), json!("up")),
            Change::SetPfMtu { from, to } => (json!(from), json!(to)),
            Change::SetAutoprobe { from, to } => (json!(from), json!(to)),
            Change::SetNumVfs { from, to } => (json!(from), json!(to)),
            Change::SetEswitch { from, to } => (json!(from), json!(to)),
            Change::UnbindVf { from } => (json!(from), Value::Null),
            Change::BindVf { from, to } => (json!(from), json!(to.to_string())),
            Change::ReprobeVf { driver } => (json!(driver), json!(driver)),
            Change::SetVfMac { from, to } => (json!(from), json!(to)),
            Change::SetVfVlan { from, to } => (json!(from), json!(to)),
            Change::SetVfSpoofCheck { from, to } | Change::SetVfTrust { from, to } => {
                (json!(from), json!(to))
            }
            Change::SetVfRate { from, to } => (json!(from), json!(to)),
            Change::SetVfLinkState { from, to } => (json!(from), json!(to)),
            Change::RenameVf { from, to } => (json!(from), json!(to)),
            Change::SetVfMtu { from, to } => (json!(from), json!(to)),
            Change::Ovs { change, .. } => change.values(),
        }
    }

    /// The two values as an operator reads them: `(none)` where there is none.
    pub fn texts(&self) -> (String, String) {
        fn or_none<T: ToString>(value: Option<&T>) -> String {
            value.map_or_else(|| "(none)".to_owned(), ToString::to_string)
        }
        fn on_off(value: bool) -> String {
            if value { "on" } else { "off" }.to_owned()
        }
        let none = || "(none)".to_owned();
        match self {
            Change::WriteUdevRule { from, .. } => (
                if from.is_some() { "outdated".to_owned() } else { none() },
                "keeps NetworkManager off VFs".to_owned(),
            ),
            Change::LoadModule { module } => ("not loaded".to_owned(), module.clone()),
            Change::SetPfUp { .. } => ("down".to_owned(), "up".to_owned()),
            Change::SetPfMtu { from, to } => (from.to_string(), to.to_string()),
            Change::SetAutoprobe { from, to } => (on_off(*from), on_off(*to)),
            Change::SetNumVfs { from, to } => (from.to_string(), to.to_string()),
            Change::SetEswitch { from, to } => (from.to_string(), to.to_string()),
            Change::UnbindVf { from } => (from.clone(), none()),
            Change::BindVf { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::ReprobeVf { driver } => (driver.clone(), driver.clone()),
            Change::SetVfMac { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::SetVfVlan { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::SetVfSpoofCheck { from, to } | Change::SetVfTrust { from, to } => {
                (from.map_or_else(none, on_off), on_off(*to))
            }
            Change::SetVfRate { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::SetVfLinkState { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::RenameVf { from, to } => (from.clone(), to.clone()),
            Change::SetVfMtu { from, to } => (or_none(from.as_ref()), to.to_string()),
            Change::Ovs { change, .. } => change.texts(),
        }
    }
}

impl Step {
    /// Whether it takes a leftover away. A port that is made again at once must be gone before: in one transaction, ovs-vswitchd would see
    /// the same port before and after and keep its dead device.
    fn collects(&self) -> bool {
        let Change::Ovs { change, .. } = &self.change else { return false };
        matches!(**change, ovs::Change::CollectPort { .. })
    }

    /// Whether it is carried out in one transaction with the step before it.
    pub fn joins(&self, earlier: &Step) -> bool {
        let joins = |step: &Step| match &step.change {
            Change::Ovs { change, .. } => change.joins(),
            Change::WriteUdevRule { .. }
            | Change::LoadModule { .. }
            | Change::SetPfUp { .. }
            | Change::SetPfMtu { .. }
            | Change::SetAutoprobe { .. }
            | Change::SetNumVfs { .. }
            | Change::SetEswitch { .. }
            | Change::UnbindVf { .. }
            | Change::BindVf { .. }
            | Change::ReprobeVf { .. }
            | Change::SetVfMac { .. }
            | Change::SetVfVlan { .. }
            | Change::SetVfSpoofCheck { .. }
            | Change::SetVfTrust { .. }
            | Change::SetVfRate { .. }
            | Change::SetVfLinkState { .. }
            | Change::RenameVf { .. }
            | Change::SetVfMtu { .. } => false,
        };
        let same_bridge = self.object.bridge().is_some() && self.object.bridge() == earlier.object.bridge();
        same_bridge && joins(self) && joins(earlier) && self.collects() == earlier.collects()
    }
}

impl fmt::Display for Step {
    /// One sentence: `0000:3b:00.0: set VFs 0 → 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.change.texts();
        write!(f, "{}: {} {from} → {to}", self.object, self.change.words())
    }
}
