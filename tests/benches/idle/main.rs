//! How an agent rests: 1,024 VFs on a simulated node, a policy file, a kubelet that listens, nothing happens. Counts the rounds
//! of the loop and how often any of the process's threads was woken in a minute, and looks at its memory: then, and after as
//! many rounds as the slow timer makes in two hours.
//!
//! It is measured as it ships: `cargo xtask bench` builds this program as it builds the agent, all of the agent is in it, the
//! loop is on the main thread, and the environment is that of the DaemonSet. The agent is a process of its own; the first
//! one is kubelet meanwhile.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench starts a child, takes the time and asks /proc about itself"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use portwright::daemon::facts::{Cause, Facts};
use portwright::daemon::files;
use portwright::serve::wake::Wakes;
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::{PciAddress, Profiles};
use portwright_tests::agents::{Machine, Ready, Start, in_sync};
use portwright_tests::kubelet::Kubelet;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PFS: u32 = 8;
const VFS: u16 = 128;
/// How long it is watched.
const MINUTE: Duration = Duration::from_secs(60);
/// The slow timer comes every 30 s.
const MOST_ROUNDS: u64 = 3;
/// Besides the timer: what the runtime's threads need to go to sleep again.
const MOST_WAKES: u64 = 100;
/// Rounds of the slow timer in two hours.
const MANY: u32 = 240;
/// In KiB.
const MOST_MEMORY: u64 = 20 * 1024;
/// The argument that makes this program the agent of the folder that follows.
const AGENT: &str = "as-agent";
/// The argument that makes it the shipped program.
const PROGRAM: &str = "portwright";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1) {
        None => runtime()?.block_on(kubelet()),
        Some(argument) if argument == AGENT => {
            let folder = arguments.get(2).ok_or("no folder")?;
            runtime()?.block_on(agent(Path::new(folder)))?;
            Ok(ExitCode::SUCCESS)
        }
        // So that nothing of the agent is left out of the program.
        Some(argument) if argument == PROGRAM => Ok(portwright::run(arguments.into_iter().skip(1))),
        // What cargo says to benches.
        Some(_) => runtime()?.block_on(kubelet()),
    }
}

/// As in `portwright run`.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Is kubelet while the agent is measured.
async fn kubelet() -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg(AGENT).arg(folder.path()).env_clear().envs(environment()?).kill_on_drop(true);
    let ended = command.status().await?;
    kubelet.stop().await;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the DaemonSet gives to every agent.
fn environment() -> Result<BTreeMap<String, String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent/30-daemonset.yaml");
    let manifest: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
    let variables = manifest.pointer("/spec/template/spec/containers/0/env").and_then(|list| list.as_array());
    let variable = |entry: &serde_json::Value| {
        let text = |key: &str| entry.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        Some((text("name")?, text("value")?))
    };
    Ok(variables.ok_or("the DaemonSet has no environment")?.iter().filter_map(variable).collect())
}

/// Is the agent, and measures itself.
async fn agent(folder: &Path) -> Result<()> {
    let policy = folder.join("policy.yaml");
    fs::write(&policy, POLICY)?;
    let stop = CancellationToken::new();
    let wish = files::follow(vec![policy.clone()], files::read(&[policy])?, stop.clone());
    let start =
        Start { folder, profiles: Profiles::default(), wish, turn: None, cluster: None, watcher: None };
    let Ready { facts, wakes, run } = Ready::new(&machine()?, start, stop.clone());
    let measured = async {
        let measured = measure(facts, &wakes).await;
        stop.cancel();
        measured
    };
    let ((), measured) = tokio::join!(run, measured);
    let missed = measured?;
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ").into()) }
}

/// Which goals were missed.
async fn measure(mut facts: watch::Receiver<Arc<Facts>>, wakes: &Wakes) -> Result<Vec<String>> {
    let at_rest = |facts: &Arc<Facts>| {
        let pools = facts.pools.pools.iter().map(|pool| pool.devices.len()).sum::<usize>();
        in_sync(facts) && facts.unconnected.is_empty() && pools == usize::from(VFS) * 8
    };
    // What the loop has told is not kept here: that would count as the agent's.
    let vfs = |facts: &Facts| facts.observed.pfs.iter().map(|pf| pf.vfs.len()).sum::<usize>();
    let vfs = tokio::time::timeout(MINUTE, facts.wait_for(at_rest)).await?.map(|facts| vfs(&facts))?;
    // What the start has left to do settles within a round of the timer.
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("the start: {}", memory()?);
    let before = (facts.borrow().sequence, woken()?);
    let mut causes = BTreeMap::<String, u32>::new();
    facts.mark_unchanged();
    let counting = async {
        while facts.changed().await.is_ok() {
            *causes.entry(Facts::list(&facts.borrow_and_update().causes)).or_default() += 1;
        }
    };
    drop(tokio::time::timeout(MINUTE, counting).await);
    let rounds = facts.borrow().sequence.saturating_sub(before.0);
    let woken = woken()?.saturating_sub(before.1);
    let rested = memory()?;
    println!(
        "idle for 60 s with {vfs} VFs ({BUILD}): {rounds} rounds, {woken} wakes of any thread, {rested}"
    );
    println!("the rounds' causes: {causes:?}");
    for _ in 0..MANY {
        let ticket = wakes.wake(Cause::Timer);
        tokio::time::timeout(MINUTE, facts.wait_for(|facts| facts.heard >= ticket)).await??;
    }
    let later = memory()?;
    println!("after {MANY} rounds more: {later}");
    let resident = rested.resident.max(later.resident);
    let mut missed = Vec::new();
    if rounds > MOST_ROUNDS {
        missed.push(format!("{rounds} rounds are more than the slow timer makes"));
    }
    if woken > MOST_WAKES {
        missed.push(format!("{woken} wakes: something else than the slow timer runs"));
    }
    if resident > MOST_MEMORY {
        missed.push(format!("{resident} KiB are more than {MOST_MEMORY}"));
    }
    Ok(missed)
}

/// What is measured.
const BUILD: &str = if cfg!(target_feature = "crt-static") {
    "a static program, as the agent ships"
} else {
    "no static program: not what ships"
};

const POLICY: &str = "
apiVersion: portwright.dev/v1alpha1
kind: NodePolicy
metadata: {name: workers}
spec:
  nics:
  - select: {drivers: [ice]}
    vfs: 128
    vfGroups:
    - {vfs: '0-63', pool: net, driver: kernel, trust: true}
    - {vfs: '64-127', pool: dpdk, driver: vfio-pci}
";

fn machine() -> Result<Machine> {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    for number in 0..PFS {
        let address: PciAddress = format!("{number:04x}:3b:00.0").parse()?;
        kernel.pfs.insert(address, SimPf::new(address, Family::Ice, VFS, &format!("ens{number}")));
    }
    Ok(Machine::new(SimNode::new(kernel)))
}

/// How often the threads of this process have gone to sleep by themselves so far, those that have ended included.
fn woken() -> Result<u64> {
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.voluntary_context_switches().try_into()?)
}

/// Memory in KiB.
struct Memory {
    resident: u64,
    /// Without the pages of files, which are the program's own.
    anonymous: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Memory { resident, anonymous } = self;
        write!(f, "{resident} KiB resident, {anonymous} KiB of it anonymous (the simulated node included)")
    }
}

/// What `/proc/self/status` says.
fn memory() -> Result<Memory> {
    let status = fs::read_to_string("/proc/self/status")?;
    let size = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such size")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Memory { resident: size("VmRSS:")?, anonymous: size("RssAnon:")? })
}
