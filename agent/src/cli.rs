//! What can be typed. Help, completions and man pages are generated from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portwright_ovs::ovsdb::Remote;

use crate::pools::{PoolsArgs, RunArgs, SriovdpArgs};

/// SR-IOV and Open vSwitch provisioning of one node.
///
/// Shows what a node has, what a policy would change and what is in the way, and carries the change out.
/// Data goes to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "portwright", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 nothing to do or done, 1 something to do, blocked or not done, 2 could not tell.";

/// Flags that every verb takes.
#[derive(Debug, Args)]
pub struct Global {
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
    /// Read the host below this folder (other than `/`: only `observe`, `plan`, `pools`, `profiles` and
    /// `run` with pools only)
    #[arg(long, global = true, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Where journal and reports are kept
    #[arg(long, global = true, default_value = "/var/lib/portwright", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Where ovsdb-server listens: unix:PATH or tcp:HOST:PORT [default: unix:/run/openvswitch/db.sock; with another root:
    /// none]
    #[arg(long, global = true, value_name = "REMOTE")]
    pub ovsdb: Option<Remote>,
    /// kubelet's folder [default: var/lib/kubelet below the root]
    #[arg(long, global = true, value_name = "DIR")]
    pub kubelet_dir: Option<PathBuf>,
    /// Further hardware profiles; a file replaces the built-in one of its name
    #[arg(long, global = true, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what is on this node; `-o json` is also what `plan --observed` reads
    Observe,
    /// Show what would be done and what is in the way; changes nothing
    Plan(PlanArgs),
    /// Plan, carry the plan out and verify once
    Apply(ApplyArgs),
    /// Show what kubelet would be given, and why
    Pools(PoolsArgs),
    /// Keep the node as the policies want it and serve pools to kubelet, until stopped; without policies only pools
    Run(RunArgs),
    /// Serve pools to kubelet with the flags of sriov-network-device-plugin; changes nothing
    Sriovdp(SriovdpArgs),
    /// Show what the daemon makes of this node: the last round, and each policy, PF, pool, bridge and mirror in a line
    Status,
    /// Let the daemon look at once and forget how long it would wait after failures; waits for the end and prints as `status`
    Reconcile(ReconcileArgs),
    /// Show hardware profiles
    #[command(subcommand)]
    Profiles(ProfilesVerb),
    /// Ask Open vSwitch
    #[command(subcommand)]
    Ovs(OvsVerb),
    /// Write one archive for a bug report
    Bundle(BundleArgs),
    /// Print the CustomResourceDefinitions
    Crds,
    /// Print the completion script of a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write all of them
    Man {
        /// Write one page per verb into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Verb {
    /// The verb as it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Observe => "observe",
            Verb::Plan(_) => "plan",
            Verb::Apply(_) => "apply",
            Verb::Pools(_) => "pools",
            Verb::Run(_) => "run",
            Verb::Sriovdp(_) => "sriovdp",
            Verb::Status => "status",
            Verb::Reconcile(_) => "reconcile",
            Verb::Profiles(_) => "profiles",
            Verb::Ovs(_) => "ovs",
            Verb::Bundle(_) => "bundle",
            Verb::Crds => "crds",
            Verb::Completions { .. } => "completions",
            Verb::Man { .. } => "man",
        }
    }

    /// Whether it may be used on a tree that is not the running host.
    pub fn works_on_a_tree(&self) -> bool {
        match self {
            Verb::Observe
            | Verb::Plan(_)
            | Verb::Pools(_)
            | Verb::Run(_)
            | Verb::Sriovdp(_)
            | Verb::Profiles(_) => true,
            Verb::Apply(_)
            | Verb::Status
            | Verb::Reconcile(_)
            | Verb::Ovs(_)
            | Verb::Bundle(_)
            | Verb::Crds
            | Verb::Completions { .. }
            | Verb::Man { .. } => false,
        }
    }
}

/// Policy files.
#[derive(Debug, Args)]
pub struct Policies {
    /// NodePolicy documents: files with one or many each, `-` is stdin
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The policies.
    #[command(flatten)]
    pub policies: Policies,
    /// Plan for the node that `observe -o json` described in this file, not for this one
    #[arg(long, value_name = "FILE")]
    pub observed: Option<PathBuf>,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The policies.
    #[command(flatten)]
    pub policies: Policies,
    /// Begin no further step after so many seconds; the step that runs is finished. Also the time that a call to OVSDB may
    /// take, which is 10 otherwise
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Let steps cut ports off that the policy does not list: a bridge whose datapath changes is made anew
    #[arg(long)]
    pub allow_disruption: bool,
}

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Wait so long for the end of the round and of the steps that it runs
    #[arg(long, value_name = "SECONDS", default_value_t = crate::daemon::socket::ROUND_WITHIN,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Verbs below `ovs`.
#[derive(Debug, Subcommand)]
pub enum OvsVerb {
    /// Show whether ovsdb-server and ovs-vswitchd answer, and how fast; exit 1 if one does not
    Ping {
        /// Wait so long for an answer [default: 10]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Have ovs-vswitchd show whether our mirrors work, by emptying their counters; exit 1 if one does not
    Probe {
        /// Wait so long for each answer of the database [default: 10]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
}

/// Verbs below `profiles`.
#[derive(Debug, Subcommand)]
pub enum ProfilesVerb {
    /// List all profiles
    List,
    /// Show which profile applies to each PF, and by what rule
    Match {
        /// Look at the node that `observe -o json` described in this file, not at this one
        #[arg(long, value_name = "FILE")]
        observed: Option<PathBuf>,
    },
    /// Check profile files without using them; without files, those that are compiled in
    Check {
        /// TOML files
        files: Vec<PathBuf>,
    },
}

/// Arguments of `bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Add these policies and their plans
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The archive to write
    #[arg(default_value = "portwright-bundle.tar.gz", value_name = "ARCHIVE")]
    pub archive: PathBuf,
}
