//! `cargo xtask lab`: boots real kernels with real SR-IOV drivers and runs the scenarios of `tests/src/lab` there.
//!
//! One boot runs all its scenarios, since booting and emulation are what costs time. Everything lives below the
//! target folder; nothing is installed.

mod boots;
mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod netdevsim;
mod qemu;
mod results;

use crate::cli::LabArgs;
use crate::{setup, sys};
use anyhow::{Context as _, Result, bail};
use boots::Boot;
use kernel::Kernel;
use qemu::{Accelerator, End, Machine};
use results::{Event, Tally};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a lab run came to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Scenarios that were not wanted this time, with the reason.
    pub(crate) left_out: Vec<String>,
    /// Machines that had to be replaced on the way.
    pub(crate) replaced: usize,
    /// Names of the failed scenarios.
    pub(crate) broken: Vec<String>,
}

/// The time limit of a boot that runs the long scenarios too.
const LONG: Duration = Duration::from_secs(5400);
/// Lines of the console that a failure shows.
const TAIL: usize = 40;

/// Whether the lab could get a kernel: extracted already, or offered by apt.
pub(crate) fn kernel_available() -> bool {
    folder().is_ok_and(|lab| kernel::extracted(&lab).is_some()) || !kernel::offered().is_empty()
}

/// Runs the lab and prints one line per scenario and a closing line.
pub(crate) fn run(args: &LabArgs) -> Result<Summary> {
    let rig = Rig::build(args)?;
    let started = sys::now();
    let mut summary = Summary::default();
    for boot in [&boots::IOMMU, &boots::PLAIN] {
        let names = rig.scenarios(boot, args, &mut summary)?;
        if args.list {
            names.iter().for_each(|name| sys::out(&format!("lab::{name}")));
        } else if !names.is_empty() {
            rig.boot(boot, &names, args, &mut summary)?;
        }
    }
    if args.list {
        return Ok(Summary::default());
    }
    if summary.passed + summary.failed == 0 {
        bail!("no scenario matches {:?}; `cargo xtask lab --list` shows them", args.only);
    }
    let word = if summary.failed == 0 { "ok" } else { "FAILED" };
    let Summary { passed, failed, left_out, replaced, .. } = &summary;
    sys::out(&format!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {} ignored; {replaced} machines replaced; finished in {}",
        left_out.len(),
        sys::seconds(started.elapsed())
    ));
    Ok(summary)
}

/// Boots the guided tour; what the guest says goes to stdout.
pub(crate) fn demo() -> Result<bool> {
    let rig = Rig::build(&LabArgs::default())?;
    let machine = rig.machine(&boots::DEMO, Vec::new(), boots::DEMO.limit);
    let mut tally = Tally::expecting(["demo".to_owned()]);
    let end = loop {
        let end = machine.run(|line| {
            let event = results::parse(line);
            tally.take(&event);
            match event {
                Event::Note(text) => sys::out(&text),
                Event::Failed(_, text, _) => sys::say(&format!("demo failed: {text}")),
                Event::Hello(_) | Event::Start(_) | Event::Good(..) | Event::End | Event::Garbage(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        if end != End::TimersStopped || !tally.excuse() {
            break end;
        }
        sys::say(
            "demo: the machine's timers stopped, which software emulation does at times; once more from the start",
        );
    };
    let (_, failed) = tally.counts();
    if failed > 0 {
        sys::say(&format!("demo: {}", describe(&end)));
        show_log(&machine.log)?;
    }
    Ok(failed == 0)
}

fn folder() -> Result<PathBuf> {
    Ok(sys::target()?.join("lab/rig"))
}

/// Everything that a boot needs.
struct Rig {
    kernel: Kernel,
    initramfs: PathBuf,
    guest: PathBuf,
    accelerator: Accelerator,
    /// Two runs at once would overwrite each other's image and logs.
    _lock: Option<std::fs::File>,
}

impl Rig {
    /// Provides kernel, modules, binaries and the memory image. To list scenarios it stops before the image.
    fn build(args: &LabArgs) -> Result<Self> {
        let binaries = binaries(!args.no_build)?;
        let guest = binaries.iter().find(|path| path.ends_with("lab-guest")).context("no lab-guest")?.clone();
        let lab = folder()?;
        if args.list {
            let kernel = Kernel { release: String::new(), lab };
            let accelerator = Accelerator::Tcg;
            return Ok(Self { kernel, initramfs: PathBuf::new(), guest, accelerator, _lock: None });
        }
        if !setup::run(false)? {
            bail!("the lab cannot run without what is listed above");
        }
        let lock = Some(sys::lock(&lab.join("lock"))?);
        let kernel = kernel::provide(&lab)?;
        let module = netdevsim::provide(&kernel)?;
        let mut binaries = binaries;
        binaries.push(vfio_user(&lab)?);
        // What an administrator's script runs on, for the comparison of times; busybox has no part in it.
        for tool in ["bash", "readlink", "basename"] {
            binaries.push(sys::program(tool).with_context(|| format!("this machine has no {tool}"))?);
        }
        let init = sys::workspace()?.join("tests/lab/init");
        let contents = initramfs::Contents { init: &init, netdevsim: &module, binaries: &binaries };
        let initramfs = initramfs::write(&kernel, &contents)?;
        let accelerator = qemu::accelerator(&kernel, &initramfs, &boots::PROBE)?;
        sys::say(&format!("lab: Linux {} on {}", kernel.release, accelerator.name()));
        Ok(Self { kernel, initramfs, guest, accelerator, _lock: lock })
    }

    /// The names that a boot is expected to report; those left out because they are long go to the summary.
    fn scenarios(&self, boot: &Boot, args: &LabArgs, summary: &mut Summary) -> Result<Vec<String>> {
        let list = sys::capture(sys::command(&self.guest).args(["--list", boot.name]))?;
        let wanted =
            |name: &str| args.only.is_empty() || args.only.iter().any(|word| name.contains(word.as_str()));
        let mut names = Vec::new();
        for line in list.lines() {
            let (name, kind) = line.split_once(' ').unwrap_or((line, ""));
            if !wanted(name) {
                continue;
            }
            if kind == "long" && !args.long {
                let reason = "needs minutes: cargo xtask lab --long";
                sys::out(&format!("test lab::{name} ... ignored, {reason}"));
                summary.left_out.push(format!("lab::{name}: {reason}"));
            } else {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn machine<'a>(&'a self, boot: &'a Boot, mut words: Vec<String>, limit: Duration) -> Machine<'a> {
        words.insert(0, format!("portwright.boot={}", boot.name));
        Machine {
            kernel: &self.kernel,
            initramfs: &self.initramfs,
            boot,
            accelerator: self.accelerator,
            words,
            log: self.kernel.lab.join("logs").join(format!("{}.log", boot.name)),
            limit,
        }
    }

    /// Runs one boot and adds what it came to.
    ///
    /// A scenario that hangs takes its machine with it, and the others run in a new one. A machine that broke down by itself
    /// (its timers stopped, which its kernel reports; QEMU aborted) is replaced, and what it was at begins again, once.
    fn boot(&self, boot: &Boot, names: &[String], args: &LabArgs, summary: &mut Summary) -> Result<()> {
        sys::say(&format!("lab: boot {} ({}), {} scenarios", boot.name, boot.about, names.len()));
        let mut words = Vec::new();
        if args.long {
            words.push("portwright.long".to_owned());
        }
        if !args.only.is_empty() {
            words.push(format!("portwright.only={}", args.only.join(",")));
        }
        let limit = if args.long { LONG } else { boot.limit };
        let started = sys::now();
        let mut tally = Tally::expecting(names.iter().cloned());
        let mut machine = self.machine(boot, words.clone(), limit);
        let end = loop {
            let end = machine.run(|line| {
                let event = results::parse(line);
                if matches!(event, Event::Failed(..)) && machine.timers_stopped() {
                    return ControlFlow::Break(());
                }
                tally.take(&event);
                print(&event);
                ControlFlow::Continue(())
            })?;
            let by_itself = matches!(end, End::TimersStopped | End::Enough | End::QemuFailed(_));
            let stopped = by_itself || machine.timers_stopped();
            if !(stopped && tally.excuse()) {
                tally.blame(&describe(&end)).iter().for_each(print);
            }
            let Some(from) = tally.next() else { break end };
            sys::out(&format!("     {}; a new machine goes on from {from}", describe(&end)));
            show_log(&machine.log)?;
            let left = limit.saturating_sub(started.elapsed());
            let words = words.iter().cloned().chain([format!("portwright.from={from}")]).collect();
            machine = self.machine(boot, words, left);
            machine.log.set_extension(format!("{}.log", tally.machines()));
        };
        for (name, why) in tally.missing(&describe(&end)) {
            print(&Event::Failed(name, why, 0.0));
        }
        let (passed, failed) = tally.counts();
        summary.passed += passed;
        summary.failed += failed;
        summary.replaced += tally.machines() - 1;
        summary.broken.extend(tally.broken().map(|name| format!("lab::{name}")));
        if failed > 0 || !tally.complete {
            show_log(&machine.log)?;
        } else if !args.keep {
            sys::remove(&machine.log)?;
        }
        Ok(())
    }
}

fn print(event: &Event) {
    match event {
        Event::Hello(seconds) => sys::say(&format!("lab: user space after {seconds:.1} s")),
        Event::Good(name, seconds) => sys::out(&format!("test lab::{name} ... ok ({seconds:.1} s)")),
        Event::Failed(name, text, _) => {
            sys::out(&format!("test lab::{name} ... FAILED\n---- lab::{name}\n{text}\n----"));
        }
        Event::Note(text) => sys::out(&format!("     {text}")),
        Event::Garbage(text) => sys::say(&format!("lab: unexpected line from the guest: {text}")),
        Event::Start(_) | Event::End => {}
    }
}

fn describe(end: &End) -> String {
    match end {
        End::PoweredOff => "the machine powered off".to_owned(),
        End::TimedOut(limit) => format!("the machine was stopped after {} s", limit.as_secs()),
        End::TimersStopped => "the machine's timers stopped, a fault of the emulation".to_owned(),
        End::Enough => {
            "a scenario failed after the machine's timers had stopped, a fault of the emulation".to_owned()
        }
        End::QemuFailed(text) => text.clone(),
    }
}

fn show_log(log: &Path) -> Result<()> {
    let text = String::from_utf8_lossy(&sys::read_bytes(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    sys::out(&format!("---- end of the console, whole log in {}", log.display()));
    lines.iter().skip(from).for_each(|line| sys::out(line.trim_end()));
    sys::out("----");
    Ok(())
}

/// Builds the C program that uses a VF through VFIO.
fn vfio_user(lab: &Path) -> Result<PathBuf> {
    let source = sys::workspace()?.join("tests/lab/vfio-user.c");
    let program = lab.join("vfio-user");
    sys::run(sys::command("gcc").args(["-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Builds what runs in the guest; the profile `lab` trades optimisation for build time where emulation allows it.
fn binaries(build: bool) -> Result<Vec<PathBuf>> {
    if build {
        sys::say("lab: building the binaries");
        let mut cargo = sys::cargo()?;
        cargo.args([
            "build",
            "--quiet",
            "--profile",
            "lab",
            "--bins",
            "-p",
            "portwright",
            "-p",
            "portwright-tests",
        ]);
        sys::run(&mut cargo)?;
    }
    let folder = sys::target()?.join("lab");
    let mut binaries = vec![folder.join("lab-guest")];
    let product = folder.join("portwright");
    if product.is_file() {
        binaries.push(product);
    }
    Ok(binaries)
}
