//! Times `observe` of two generated trees on disk, alternating: 8 PFs with 128 VFs each, and 16 with 256. Prints medians,
//! their ratio (4 would be linear), files read per VF, how often any file was read at most, and peak memory.
//!
//! Ends with an error if a goal is missed. `cargo xtask bench observe` runs it.
#![allow(missing_docs, reason = "a bench is a program")]
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time and asks /proc about itself")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portwright_host::inventory::Observer;
use portwright_host::root::Root;

#[path = "../tests/tree/mod.rs"]
mod tree;

/// Measured runs of each tree; the first ones warm the caches and are not counted.
const RUNS: usize = 31;
const WARM_UP: usize = 3;

/// Median of 8 × 128, in milliseconds, at most.
const GOAL_MS: f64 = 30.0;
/// 16 × 256 over 8 × 128 by processor time, at most. (By the clock it is printed only: the machine may be busy.)
const GOAL_RATIO: f64 = 4.5;

/// A generated tree and what was measured of it.
struct Bench {
    pfs: u32,
    vfs: u32,
    root: PathBuf,
    wall: Vec<Duration>,
    processor: Vec<Duration>,
    /// How often any one file was read in a scan, at most.
    most_reads: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut small = Bench::new(folder.path().join("small"), 8, 128)?;
    small.run(true)?;
    let peak = peak_kib()?;
    let mut large = Bench::new(folder.path().join("large"), 16, 256)?;
    for run in 0..WARM_UP + RUNS {
        small.run(run < WARM_UP)?;
        large.run(run < WARM_UP)?;
    }
    let (small_wall, small_processor) = small.report()?;
    let (large_wall, large_processor) = large.report()?;
    println!(
        "ratio 16x256 / 8x128: {:.2} by the clock, {:.2} by processor time (4 is linear)",
        large_wall / small_wall,
        large_processor / small_processor
    );
    println!("peak memory after 8x128: {peak} KiB, after 16x256: {} KiB", peak_kib()?);
    println!(
        "goals: median of 8x128 at most {GOAL_MS} ms, ratio at most {GOAL_RATIO}, each file read at most once"
    );
    let ratio = large_processor / small_processor;
    if small_wall > GOAL_MS || ratio > GOAL_RATIO || small.most_reads > 1 || large.most_reads > 1 {
        return Err("a goal was missed".into());
    }
    Ok(())
}

impl Bench {
    fn new(root: PathBuf, pfs: u32, vfs: u32) -> Result<Bench, Box<dyn Error>> {
        tree::generate(&root, pfs, vfs)?;
        Ok(Bench { pfs, vfs, root, wall: Vec::new(), processor: Vec::new(), most_reads: 0 })
    }

    fn run(&mut self, warm_up: bool) -> Result<(), Box<dyn Error>> {
        let observer = Observer::new(Root::new(&self.root), false, self.root.join("state"));
        let (start, ran) = (Instant::now(), processor_time()?);
        let observed = observer.observe()?;
        let (wall, ran) = (start.elapsed(), processor_time()?.saturating_sub(ran));
        let seen: usize = observed.pfs.iter().map(|pf| pf.vfs.len()).sum();
        if seen != usize::try_from(self.pfs * self.vfs)? || !observed.problems.is_empty() {
            return Err(format!("saw {seen} VFs, problems {:?}", observed.problems).into());
        }
        if !warm_up {
            self.wall.push(wall);
            self.processor.push(ran);
        }
        Ok(())
    }

    /// Prints the figures; gives back median and processor time in milliseconds.
    fn report(&mut self) -> Result<(f64, f64), Box<dyn Error>> {
        let Bench { pfs, vfs, .. } = *self;
        let audited = Root::audited(&self.root);
        Observer::new(audited.clone(), false, self.root.join("state")).observe()?;
        let most = audited.audit().unwrap_or_default().into_values().max().unwrap_or_default();
        self.most_reads = usize::try_from(most)?;
        let per_vf = f64::from(u32::try_from(audited.reads())?) / f64::from(pfs * vfs);
        let (wall, processor) = (median(&mut self.wall), median(&mut self.processor));
        let fastest = self.wall.first().copied().unwrap_or_default().as_secs_f64() * 1e3;
        println!(
            "observe {pfs} PFs x {vfs} VFs: median {wall:.1} ms of {RUNS} runs (fastest {fastest:.1}, processor \
             {processor:.1}), {per_vf:.2} files read per VF, each at most {most} time(s)"
        );
        Ok((wall, processor))
    }
}

/// The middle one, in milliseconds; sorts them.
fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len().div_ceil(2).saturating_sub(1)).copied().unwrap_or_default().as_secs_f64() * 1e3
}

/// Time that all threads of this process were on a processor: steadier than the clock on a busy machine.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    Ok(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into()?)
}

/// `VmHWM` of this process.
fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
