//! Size of the binary, and the peak memory and time of a whole `observe` process over a tree of 8 PFs × 128 VFs.
//!
//! `cargo xtask bench` names the static release binary in `PORTWRIGHT_BINARY`; without it the bench build is measured.
#![allow(missing_docs, reason = "a bench is a program")]
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench starts the program, takes the time and asks for its size"
)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

#[path = "../../host/tests/tree/mod.rs"]
mod tree;

const RUNS: usize = 11;
/// Size of the release binary in MB, at most.
const GOAL_MB: f64 = 15.0;
/// Peak memory of `observe` in KiB, at most.
const GOAL_KIB: i64 = 20 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let named = std::env::var("PORTWRIGHT_BINARY").ok();
    let which = if named.is_some() { "release" } else { "bench build, not what ships" };
    let binary = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_portwright").to_owned());
    let bytes = std::fs::metadata(&binary)?.len();
    let megabytes = f64::from(u32::try_from(bytes)?) / 1e6;
    println!("binary ({which}): {megabytes:.1} MB (goal: at most {GOAL_MB} MB)");

    let folder = tempfile::tempdir()?;
    tree::generate(folder.path(), 8, 128)?;
    let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        let status = Command::new(&binary)
            .args(["observe", "-o", "json", "--root"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .status()?;
        times.push(start.elapsed());
        if !status.success() {
            return Err(format!("observe ended with {status}").into());
        }
    }
    times.sort();
    let median = times.get(RUNS.div_ceil(2) - 1).copied().unwrap_or_default();
    // Linux counts ru_maxrss in KiB; it is the largest child's, and observe is the only child.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!(
        "observe process, 8 PFs x 128 VFs ({which}): median {:.1} ms of {RUNS} runs, peak memory {peak} KiB (goal: at \
         most {GOAL_KIB} KiB)",
        median.as_secs_f64() * 1e3
    );
    if megabytes > GOAL_MB || peak > GOAL_KIB {
        return Err("a goal was missed".into());
    }
    Ok(())
}
