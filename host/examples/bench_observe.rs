//! Times `observe` of generated trees on disk: 8 PFs with 128 VFs each, and 16 with 256. Prints the median, the ratio of both
//! (4 would be linear), files read per VF, how often any file was read at most, and the peak memory of this process.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time and asks /proc about itself")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use portwright_host::inventory::Observer;
use portwright_host::root::Root;

#[path = "../tests/tree/mod.rs"]
mod tree;

/// Measured runs of each tree; the first ones warm the caches and are not counted.
const RUNS: usize = 21;
const WARM_UP: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let small = measure(folder.path(), 8, 128)?;
    let peak = peak_kib()?;
    let large = measure(folder.path(), 16, 256)?;
    println!("ratio 16x256 / 8x128: {:.2} (4 is linear)", large.as_secs_f64() / small.as_secs_f64());
    println!("peak memory after 8x128: {peak} KiB, after 16x256: {} KiB", peak_kib()?);
    Ok(())
}

fn measure(folder: &Path, pfs: u32, vfs: u32) -> Result<Duration, Box<dyn Error>> {
    let root = folder.join(format!("{pfs}x{vfs}"));
    tree::generate(&root, pfs, vfs)?;
    let mut times = Vec::with_capacity(RUNS);
    let mut busy = Vec::with_capacity(RUNS);
    for run in 0..WARM_UP + RUNS {
        let observer = Observer::new(Root::new(&root), false, folder.join("state"));
        let (start, ran) = (Instant::now(), processor_time()?);
        let observed = observer.observe()?;
        let (time, ran) = (start.elapsed(), processor_time()?.saturating_sub(ran));
        let seen: usize = observed.pfs.iter().map(|pf| pf.vfs.len()).sum();
        if seen != usize::try_from(pfs * vfs)? || !observed.problems.is_empty() {
            return Err(format!("saw {seen} VFs, problems {:?}", observed.problems).into());
        }
        if run >= WARM_UP {
            times.push(time);
            busy.push(ran);
        }
    }
    times.sort();
    busy.sort();
    let middle = |sorted: &[Duration]| sorted.get(RUNS.div_ceil(2) - 1).copied().unwrap_or_default();
    let median = middle(&times);
    let audited = Root::audited(&root);
    Observer::new(audited.clone(), false, folder.join("state")).observe()?;
    let most = audited.audit().unwrap_or_default().into_values().max().unwrap_or_default();
    let per_vf = f64::from(u32::try_from(audited.reads())?) / f64::from(pfs * vfs);
    println!(
        "observe {pfs} PFs x {vfs} VFs: median {:.1} ms of {RUNS} runs (fastest {:.1}; processor {:.1}), {per_vf:.2} files read per VF, \
         each at most {most} time(s)",
        median.as_secs_f64() * 1e3,
        times.first().copied().unwrap_or_default().as_secs_f64() * 1e3,
        middle(&busy).as_secs_f64() * 1e3,
    );
    Ok(median)
}

/// Time that this process was on a processor: steadier than the clock on a busy machine.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(Duration::from_nanos(schedstat.split(' ').next().unwrap_or_default().parse()?))
}

/// `VmHWM` of this process.
fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
