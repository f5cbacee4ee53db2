//! The guest program of the SR-IOV lab: scenarios that run the real binary on a real kernel as root.
//!
//! `cargo xtask lab` boots machines whose init starts this program. The kernel command line says which boot it is
//! (`portwright.boot=NAME`) and which scenarios are wanted. Results are lines of JSON on a serial port. A scenario is
//! a function in [`scenarios`]; the machine is put back to a known state before each one.

mod cli;
mod gate;
mod guest;
mod links;
mod policy;
mod scenarios;
mod switch;
mod sys;
mod trace;

use anyhow::{Context as _, Result};
use guest::Lab;
use serde_json::json;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Lines of the kernel's log that a failure shows.
const KERNEL_LINES: usize = 60;

/// A scenario that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(200);
/// The same for one of the long ones.
const LONG_LIMIT: Duration = Duration::from_secs(3600);

/// A named test of the lab.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name in reports.
    pub(crate) name: &'static str,
    /// The boot that it needs.
    pub(crate) boot: &'static str,
    /// Whether it takes minutes and runs only when asked for.
    pub(crate) long: bool,
    /// The test itself.
    pub(crate) run: fn(&mut Lab) -> Result<()>,
}

/// Entry point of `lab-guest`.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list", boot] => list(boot),
        [] => run(),
        _ => Err(anyhow::anyhow!("usage: lab-guest [--list BOOT]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The console is the last place to say it.
            writeln!(std::io::stderr(), "lab-guest: {error:#}").ok();
            ExitCode::from(2)
        }
    }
}

/// One line per scenario of a boot: its name, and `long` if it is.
fn list(boot: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for scenario in scenarios::all().filter(|scenario| scenario.boot == boot) {
        writeln!(out, "{}{}", scenario.name, if scenario.long { " long" } else { "" })?;
    }
    Ok(())
}

/// What the kernel command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    boot: String,
    long: bool,
    only: Vec<String>,
    /// Where to begin, for a machine that goes on where another one ended.
    from: String,
}

impl Wanted {
    fn parse(cmdline: &str) -> Self {
        let mut wanted = Self::default();
        for word in cmdline.split_whitespace() {
            match word.strip_prefix("portwright.").map(|word| word.split_once('=').unwrap_or((word, ""))) {
                Some(("boot", name)) => wanted.boot = name.to_owned(),
                Some(("long", _)) => wanted.long = true,
                Some(("from", name)) => wanted.from = name.to_owned(),
                Some(("only", names)) => wanted.only = names.split(',').map(str::to_owned).collect(),
                _ => {}
            }
        }
        wanted
    }

    fn begins(&self, scenario: &Scenario) -> bool {
        self.from.is_empty() || self.from == scenario.name
    }

    fn takes(&self, scenario: &Scenario) -> bool {
        scenario.boot == self.boot
            && (self.long || !scenario.long)
            && (self.only.is_empty() || self.only.iter().any(|word| scenario.name.contains(word.as_str())))
    }
}

fn run() -> Result<()> {
    let wanted = Wanted::parse(&sys::read("/proc/cmdline")?);
    let mut results = sys::Results::open();
    results.send(&json!({"event": "hello", "seconds": uptime()?}))?;
    if wanted.boot != "probe" {
        let mut lab = Lab::new(results)?;
        let mine = scenarios::all().filter(|scenario| wanted.takes(scenario));
        for scenario in mine.skip_while(|scenario| !wanted.begins(scenario)) {
            run_one(&mut lab, &scenario)?;
        }
        results = lab.into_results();
    }
    results.send(&json!({"event": "end"}))
}

fn run_one(lab: &mut Lab, scenario: &Scenario) -> Result<()> {
    let name = scenario.name;
    lab.send(&json!({"event": "start", "test": name}))?;
    sys::write("/dev/kmsg", &format!("lab: {name}\n"))?;
    let started = sys::now();
    let watchdog = Watchdog::over(name, scenario.long, lab.share_results());
    let outcome = lab
        .reset()
        .context("cannot reset the machine before the scenario")
        .and_then(|()| (scenario.run)(lab));
    drop(watchdog);
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => lab.send(&json!({"event": "ok", "test": name, "seconds": seconds})),
        Err(error) => {
            let text = format!("{error:#}\n[kernel log]\n{}", kernel_log(name));
            lab.send(&json!({"event": "failed", "test": name, "text": text, "seconds": seconds}))
        }
    }
}

/// Ends the whole machine when a scenario hangs: somebody sleeps in the kernel, and nothing after it can be trusted.
struct Watchdog {
    /// Dropping it tells the watching thread that the scenario is over.
    _over: mpsc::Sender<()>,
}

impl Watchdog {
    fn over(name: &'static str, long: bool, mut results: sys::Results) -> Self {
        let (sender, over) = mpsc::channel::<()>();
        let limit = if long { LONG_LIMIT } else { LIMIT };
        std::thread::spawn(move || {
            if over.recv_timeout(limit) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
            // Blocked tasks with their kernel stacks, into the kernel's log.
            sys::write("/proc/sysrq-trigger", "w").ok();
            let processes = sys::tool("ps", &["-o", "pid,ppid,stat,args"]).unwrap_or_default();
            let text = format!(
                "hangs for {} s; the machine is stopped\n{processes}\n{}",
                limit.as_secs(),
                kernel_log(name)
            );
            let event = json!({"event": "failed", "test": name, "text": text, "seconds": limit.as_secs()});
            results.send(&event).ok();
            // Not an orderly power-off: that waits for what hangs. A reset ends the machine, which never starts again.
            sys::write("/proc/sysrq-trigger", "b").ok();
        });
        Self { _over: sender }
    }
}

/// What the kernel said since the scenario began: the end of it.
fn kernel_log(scenario: &str) -> String {
    let log = sys::tool("dmesg", &[]).unwrap_or_default();
    let mark = format!("lab: {scenario}");
    let lines: Vec<&str> = log.lines().skip_while(|line| !line.ends_with(&mark)).skip(1).collect();
    let from = lines.len().saturating_sub(KERNEL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Seconds since the kernel started.
fn uptime() -> Result<f64> {
    let text = sys::read("/proc/uptime")?;
    let first = text.split_whitespace().next().context("empty /proc/uptime")?;
    first.parse().context("no number in /proc/uptime")
}

/// Waits until `condition` gives a value; looks again after short pauses, until the deadline.
///
/// The scenarios watch a foreign process, which sends them no events.
pub(crate) fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = sys::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        anyhow::ensure!(
            started.elapsed() < deadline,
            "{what} did not happen within {} s",
            deadline.as_secs()
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::{Scenario, Wanted, scenarios};
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_boots_known() {
        let mut names = BTreeSet::new();
        for scenario in scenarios::all() {
            assert!(names.insert(scenario.name), "{} appears twice", scenario.name);
            assert!(
                ["iommu", "plain", "demo"].contains(&scenario.boot),
                "{} has an unknown boot",
                scenario.name
            );
            assert!(!scenario.name.contains([' ', ',']), "{} must be one word", scenario.name);
        }
    }

    #[test]
    fn the_command_line_chooses() {
        let wanted = Wanted::parse("quiet portwright.boot=iommu portwright.only=a,b console=ttyS0");
        let scenario = |name, boot, long| Scenario { name, boot, long, run: |_| Ok(()) };
        assert!(wanted.takes(&scenario("xbx", "iommu", false)));
        assert!(!wanted.takes(&scenario("xcx", "iommu", false)));
        assert!(!wanted.takes(&scenario("xbx", "plain", false)));
        assert!(!wanted.takes(&scenario("xbx", "iommu", true)));
        assert!(wanted.begins(&scenario("any", "iommu", false)));
        let wanted = Wanted::parse("portwright.from=a");
        assert!(
            wanted.begins(&scenario("a", "iommu", false)) && !wanted.begins(&scenario("ab", "iommu", false))
        );
    }
}
