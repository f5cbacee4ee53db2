//! Times pools of 1,024 VFs (8 PFs × 128) in 10 pools with 10 selectors: from nothing to the first list of every pool,
//! files read per look, Allocate, and from a change of the node to the list that shows it.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time and asks /proc about itself")]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use portwright::cli::{Cli, Verb};
use portwright::pools::Wanted;
use portwright::pools::args::PoolSources;
use portwright_core::management::management_path;
use portwright_core::pools::{assign, candidates, config, spec};
use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use portwright_proto::device_plugin::{AllocateRequest, ContainerAllocateRequest};
use portwright_tests::kubelet::Kubelet;
use portwright_tests::tree::Tree;
use tokio_util::sync::CancellationToken;

const PFS: u32 = 8;
const VFS: u32 = 128;
const POOLS: u32 = 10;
const STARTS: usize = 11;
const CHANGES: u32 = 21;
const START_WITHIN: Duration = Duration::from_millis(150);
const ALLOCATE_WITHIN: Duration = Duration::from_millis(1);
const CHANGE_WITHIN: Duration = Duration::from_millis(100);
const WITHIN: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let tree = Tree::from_text(&node()?)?;
    reads(tree.root())?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let rig = Rig::start(&tree).await?;
        starts.push(rig.first_lists);
        rig.stop().await;
    }
    report("start to the first list of all pools", &mut starts);
    goal("start to the first list of all pools, median", middle(&starts), START_WITHIN)?;
    let rig = Rig::start(&tree).await?;
    let mut calls = rig.allocate().await?;
    report("Allocate over the socket", &mut calls);
    goal("Allocate, p99", part(&calls, 99), ALLOCATE_WITHIN)?;
    let mut changes = rig.changes(&tree).await?;
    report("a VF rebound to the list that shows it", &mut changes);
    goal("a change to its list, median", middle(&changes), CHANGE_WITHIN)?;
    println!("memory of this process, kubelet and tree included: {} KiB", resident()?);
    rig.stop().await;
    Ok(())
}

fn node() -> Result<String> {
    let mut text = String::new();
    for pf in 0..PFS {
        writeln!(text, "pf {pf:04x}:3b:00.0 netdev=ens{pf}f0 total=128")?;
        for vf in 0..VFS {
            let (device, function) = (1 + (vf >> 3), vf & 7);
            writeln!(
                text,
                "vf {pf:04x}:3b:{device:02x}.{function} pf={pf:04x}:3b:00.0 index={vf} netdev=ens{pf}f0v{vf} group={}",
                1000 + pf * 1000 + vf
            )?;
        }
    }
    Ok(text)
}

/// Each pool takes a tenth of every PF's VFs.
fn configuration() -> String {
    let pools: Vec<String> = (0..POOLS)
        .map(|pool| {
            let (first, last) = (pool * 13, (pool * 13 + 12).min(VFS - 1));
            let names: Vec<String> = (0..PFS).map(|pf| format!("\"ens{pf}f0#{first}-{last}\"")).collect();
            format!(
                r#"{{"resourceName": "pool{pool}", "selectors": {{"vendors": ["8086"], "drivers": ["iavf"], "pfNames": [{}]}}}}"#,
                names.join(", ")
            )
        })
        .collect();
    format!("{{\"resourceList\": [{}]}}", pools.join(", "))
}

/// Files read in one look, and how long looking and sorting take.
fn reads(root: &Path) -> Result<()> {
    let specs = spec::of_config(&config::parse(&configuration(), spec::CONFIG_PREFIX)?, None);
    let audited = Root::audited(root);
    Observer::new(audited.clone(), false, root.join("state")).observe()?;
    let most = audited.audit().unwrap_or_default().into_values().max().unwrap_or_default();
    println!("files read in one look: {}, each at most {most} time(s)", audited.reads());
    let (mut looks, mut sorts) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begin = Instant::now();
        let observed = Observer::new(Root::new(root), false, root.join("state")).observe()?;
        looks.push(begin.elapsed());
        let begin = Instant::now();
        let pools = assign(&candidates(&observed, &management_path(&observed)), &specs, &Default::default());
        sorts.push(begin.elapsed());
        let devices: usize = pools.pools.iter().map(|pool| pool.devices.len()).sum();
        if devices != usize::try_from(PFS * VFS)? {
            return Err(format!("{devices} devices").into());
        }
    }
    report("look at the tree", &mut looks);
    report("sort into pools", &mut sorts);
    Ok(())
}

struct Rig {
    kubelet: Kubelet,
    first_lists: Duration,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start(tree: &Tree) -> Result<Rig> {
        let folder = tempfile::tempdir()?;
        let kubelet = Kubelet::start(&folder.path().join("k"), true).await?;
        let file = folder.path().join("config.json");
        std::fs::write(&file, configuration())?;
        let words = format!(
            "portwright run --root {} --kubelet-dir {} --device-plugin-config {} --listen 127.0.0.1:0",
            tree.root().display(),
            kubelet.dir().display(),
            file.display()
        );
        let stop = CancellationToken::new();
        let begin = Instant::now();
        let cli = Arc::new(Cli::try_parse_from(words.split(' '))?);
        let (stopped, shared) = (stop.clone(), Arc::clone(&cli));
        let wanted = Wanted::read(&PoolSources {
            files: Vec::new(),
            device_plugin_config: Some(file),
            resource_prefix: None,
        })?;
        let task = tokio::spawn(async move {
            if let Verb::Run(arguments) = &shared.verb
                && let Err(error) =
                    portwright::verb::run::serve(&shared.global, arguments, wanted, &stopped).await
            {
                println!("{error}");
            }
        });
        for pool in 0..POOLS {
            let name = format!("intel.com/pool{pool}");
            let listed = kubelet.wait(&name, WITHIN, |found| !found.devices.is_empty()).await;
            listed.map_err(|last| format!("{name}: {last:?}"))?;
        }
        Ok(Rig { kubelet, first_lists: begin.elapsed(), stop, task, _folder: folder })
    }

    async fn allocate(&self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for pool in 0..POOLS {
            let name = format!("intel.com/pool{pool}");
            let mut client = self.kubelet.client(&name).await?;
            for id in self.kubelet.resource(&name).unwrap_or_default().ids() {
                let container_requests = vec![ContainerAllocateRequest { device_ids: vec![id] }];
                let begin = Instant::now();
                client.allocate(AllocateRequest { container_requests }).await?;
                times.push(begin.elapsed());
            }
        }
        Ok(times)
    }

    /// A VF that no pool has handed out goes away and comes back.
    async fn changes(&self, tree: &Tree) -> Result<Vec<Duration>> {
        let (name, address) = ("intel.com/pool0", "0000:3b:01.0");
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let driver = if change % 2 == 0 { "vfio-pci" } else { "iavf" };
            let lists = self.kubelet.resource(name).unwrap_or_default().lists;
            let begin = Instant::now();
            tree.bind(address, Some(driver))?;
            let seen = self.kubelet.wait(name, WITHIN, |found| found.lists > lists).await;
            times.push(begin.elapsed());
            seen.map_err(|last| format!("{last:?}"))?;
        }
        Ok(times)
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            println!("{error}");
        }
        self.kubelet.stop().await;
    }
}

/// The value below which so many of a hundred are.
fn part(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

fn middle(sorted: &[Duration]) -> Duration {
    part(sorted, 50)
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what}: median {:.2} ms, p99 {:.2} ms, of {}",
        ms(middle(times)),
        ms(part(times, 99)),
        times.len()
    );
}

/// A goal that is missed is an error.
fn goal(what: &str, found: Duration, goal: Duration) -> Result<()> {
    if found <= goal {
        return Ok(());
    }
    Err(format!("{what}: {found:?} is more than the goal, {goal:?}").into())
}

fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
