//! Starting the emulated machine and listening to it.
//!
//! The guest's console goes to a file that failure messages name. Its results arrive as lines on QEMU's standard
//! output (a virtio serial port), so waiting for them needs no polling and ends at a deadline.

use super::boots::Boot;
use super::kernel::Kernel;
use crate::sys;
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// A machine that has not said anything by then will not; booting takes a few seconds.
const FIRST_WORD: Duration = Duration::from_secs(90);

/// How often a silent machine's console is read.
const GLANCE: Duration = Duration::from_secs(20);
/// A machine whose kernel says that its timers stopped may have been stopped as a whole and go on; after so long it does
/// not.
const LOST: Duration = Duration::from_secs(60);
/// What the kernel says when a processor gets no timer interrupts (`rcu_check_gp_kthread_expired_fqs_timer` in
/// kernel/rcu/tree_stall.h).
const TIMERS_STOPPED: &str = "kthread timer wakeup didn't happen";

/// How the processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// Hardware virtualisation, seen to boot this kernel.
    Kvm,
    /// Software emulation, one thread per processor.
    Tcg,
}

impl Accelerator {
    fn args(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// A name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "software emulation",
        }
    }
}

/// A machine to start.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    pub(super) boot: &'a Boot,
    pub(super) accelerator: Accelerator,
    /// Words for the guest program, put on the kernel's command line.
    pub(super) words: Vec<String>,
    /// Where the console goes.
    pub(super) log: PathBuf,
    /// When the machine is stopped, however far it got.
    pub(super) limit: Duration,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It powered off by itself.
    PoweredOff,
    /// It was stopped at its limit.
    TimedOut(Duration),
    /// It was stopped since its kernel gets no timer interrupts any more: emulation lost one, and nothing in the guest can
    /// help that.
    TimersStopped,
    /// It was stopped because the reader of its results wanted no more.
    Enough,
    /// QEMU itself failed, with its last words.
    QemuFailed(String),
}

impl Machine<'_> {
    fn command(&self) -> Result<Command> {
        let qemu = sys::program("qemu-system-x86_64").context("no QEMU; run `cargo xtask setup`")?;
        // With it, a machine does not outlive a run that is interrupted.
        let mut command = match sys::program("setpriv") {
            Some(setpriv) => sys::command(setpriv),
            None => sys::command(&qemu),
        };
        if command.get_program() != qemu.as_os_str() {
            command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu);
        }
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-machine",
                "q35",
                "-smp",
                "2",
                "-m",
                "1G",
            ])
            .args(["-no-reboot", "-kernel"])
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(self.initramfs)
            .args(self.accelerator.args())
            .args(["-serial", &format!("file:{}", self.log.display())])
            // Not `stdio`: with nothing on its input it counts as unplugged, and the guest's writes would block.
            .args(["-chardev", "file,id=results,path=/proc/self/fd/1", "-device", "virtio-serial"])
            .args(["-device", "virtserialport,chardev=results,name=results"])
            .args(self.boot.device_args());
        let mut line = "console=ttyS0 panic=-1 quiet loglevel=5".to_owned();
        for word in
            self.boot.kernel_args.iter().map(|word| (*word).to_owned()).chain(self.words.iter().cloned())
        {
            line.push(' ');
            line.push_str(&word);
        }
        command.args(["-append", &line]);
        Ok(command)
    }

    /// Whether the kernel of this machine has said on its console that its timers stopped.
    pub(super) fn timers_stopped(&self) -> bool {
        sys::read_bytes(&self.log).is_ok_and(|text| String::from_utf8_lossy(&text).contains(TIMERS_STOPPED))
    }

    /// Boots, hands each line of results to `line`, returns when the machine is off, its limit has passed or `line` wants
    /// no more.
    pub(super) fn run(&self, mut line: impl FnMut(&str) -> ControlFlow<()>) -> Result<End> {
        sys::write(&self.log, &[])?;
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", sys::shown(&command)))?;
        let lines = listen(&mut child)?;
        let started = sys::now();
        let mut heard = started;
        let mut limit = self.limit.min(FIRST_WORD);
        let end = loop {
            let left = limit.saturating_sub(started.elapsed());
            match lines.recv_timeout(left.min(GLANCE)) {
                Ok(text) => {
                    heard = sys::now();
                    limit = self.limit;
                    if line(&text).is_break() {
                        break Some(End::Enough);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) if heard.elapsed() >= LOST && self.timers_stopped() => {
                    break Some(End::TimersStopped);
                }
                Err(RecvTimeoutError::Timeout) if left > GLANCE => {}
                Err(RecvTimeoutError::Timeout) => break Some(End::TimedOut(limit)),
            }
        };
        if end.is_some() {
            child.kill().context("cannot stop QEMU")?;
        }
        let output = child.wait_with_output().context("cannot wait for QEMU")?;
        Ok(end.unwrap_or_else(|| {
            if output.status.success() {
                End::PoweredOff
            } else {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                End::QemuFailed(format!("QEMU ended with {}: {words}", output.status))
            }
        }))
    }
}

/// A thread that turns the child's output into lines; the channel closes when the output does.
fn listen(child: &mut Child) -> Result<mpsc::Receiver<String>> {
    let stdout = child.stdout.take().context("QEMU has no standard output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// KVM if a short probe boot reaches user space with it: a `/dev/kvm` that cannot run this kernel is common in nested
/// machines.
pub(super) fn accelerator(kernel: &Kernel, initramfs: &Path, probe: &Boot) -> Result<Accelerator> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let machine = Machine {
        kernel,
        initramfs,
        boot: probe,
        accelerator: Accelerator::Kvm,
        words: vec!["portwright.boot=probe".to_owned()],
        log: kernel.lab.join("logs/kvm-probe.log"),
        limit: Duration::from_secs(20),
    };
    let mut reached = false;
    let end = machine.run(|line| {
        reached |= line.contains("\"hello\"");
        ControlFlow::Continue(())
    })?;
    Ok(if reached && end == End::PoweredOff { Accelerator::Kvm } else { Accelerator::Tcg })
}
