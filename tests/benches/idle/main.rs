//! How an agent rests: 1,024 VFs on a simulated node, policies from a file, nothing happens. Counts the rounds of the loop and
//! how often any of the process's threads was woken in a minute, and looks at its memory.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time and asks /proc about itself")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::time::Duration;

use portwright::daemon::facts::Facts;
use portwright::daemon::files;
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::{PciAddress, Profiles};
use portwright_tests::agents::{Agent, Machine, Start, in_sync};
use tokio_util::sync::CancellationToken;

const PFS: u32 = 8;
const VFS: u16 = 128;
/// How long it is watched.
const MINUTE: Duration = Duration::from_secs(60);
/// The slow timer comes every 30 s.
const MOST_ROUNDS: u64 = 3;
/// Besides the timer: what the runtime's threads need to go to sleep again.
const MOST_WAKES: u64 = 100;
const MOST_MEMORY: u64 = 20 * 1024;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.yaml");
    fs::write(&policy, POLICY)?;
    let stop = CancellationToken::new();
    let wish = files::follow(vec![policy.clone()], files::read(&[policy])?, stop.clone());
    let start = Start {
        folder: folder.path(),
        profiles: Profiles::default(),
        wish,
        turn: None,
        cluster: None,
        watcher: None,
    };
    let mut agent = Agent::start_until(&machine()?, start, stop);
    let facts = agent.until("in sync", MINUTE, in_sync).await;
    let vfs: usize = facts.observed.pfs.iter().map(|pf| pf.vfs.len()).sum();
    // What the start has left to do settles within a round of the timer.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = (agent.facts.borrow().sequence, wakes()?);
    let mut causes = BTreeMap::<String, u32>::new();
    let mut facts = agent.facts.clone();
    facts.mark_unchanged();
    let counting = async {
        while facts.changed().await.is_ok() {
            *causes.entry(Facts::list(&facts.borrow_and_update().causes)).or_default() += 1;
        }
    };
    drop(tokio::time::timeout(MINUTE, counting).await);
    let rounds = agent.facts.borrow().sequence.saturating_sub(before.0);
    let woken = wakes()?.saturating_sub(before.1);
    let (memory, anonymous) = (memory("VmRSS:")?, memory("RssAnon:")?);
    println!(
        "idle for 60 s with {vfs} VFs: {rounds} rounds, {woken} wakes of any thread, {memory} KiB resident, {anonymous} KiB of it anonymous (the simulated node included)"
    );
    println!("the rounds' causes: {causes:?}");
    agent.stop().await;
    if rounds > MOST_ROUNDS {
        return Err(format!("{rounds} rounds are more than the slow timer makes").into());
    }
    if woken > MOST_WAKES {
        return Err(format!("{woken} wakes: something else than the slow timer runs").into());
    }
    if memory > MOST_MEMORY {
        return Err(format!("{memory} KiB are more than {MOST_MEMORY}").into());
    }
    Ok(())
}

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

/// How often the threads of this process have gone to sleep by themselves so far.
fn wakes() -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.ok_or("no count of switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// A size of `/proc/self/status` in KiB.
fn memory(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such size")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
