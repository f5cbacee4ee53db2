//! How long the main job takes, beside what an administrator's shell loop takes on the same machine.

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![iommu("timing-vfio-beside-the-shell-way", vfio_path)]
}

const PAIRS: usize = 5;
/// Our time over the shell's, at most.
const GOAL: f64 = 0.65;

/// Create with autoprobe, then per VF readlink, unbind, driver_override, bind.
const SHELL_WAY: &str = r#"
set -e
cd /sys/bus/pci/devices/$1
echo 7 > sriov_numvfs
for link in virtfn*; do
    vf=$(readlink $link); vf=${vf##*/}
    [ -e $link/driver ] && echo $vf > $link/driver/unbind
    echo vfio-pci > $link/driver_override
    echo $vf > /sys/bus/pci/drivers/vfio-pci/bind
done
"#;

/// What nobody can beat: no default driver, override, probe.
const BEST_WAY: &str = r#"
set -e
cd /sys/bus/pci/devices/$1
echo 0 > sriov_drivers_autoprobe
echo 7 > sriov_numvfs
echo 1 > sriov_drivers_autoprobe
for link in virtfn*; do
    vf=$(readlink $link); vf=${vf##*/}
    echo vfio-pci > $link/driver_override
    echo $vf > /sys/bus/pci/drivers_probe
done
"#;

fn vfio_path(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    sys::tool("modprobe", &["vfio-pci"])?;
    let document = policy::document(&[policy::nic(&pf, &policy::vfio(7))]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        lab.reset()?;
        let shell = sys::run(sys::command("sh", &["-c", SHELL_WAY, "shell-way", &pf]), cli::DEADLINE)?;
        ensure!(shell.code == Some(0), "the shell way failed:\n{shell}");
        all_vfio(&pf)?;
        theirs.push(shell.took);
        lab.reset()?;
        let output = cli::apply(&document)?;
        ensure!(output.code == Some(0), "apply did not converge:\n{output}");
        all_vfio(&pf)?;
        ours.push(output.took);
    }
    lab.reset()?;
    let best = sys::run(sys::command("sh", &["-c", BEST_WAY, "best-way", &pf]), cli::DEADLINE)?;
    ensure!(best.code == Some(0), "the best way failed:\n{best}");
    let observe = cli::portwright(&["observe"])?;
    let (best, observe) = (best.took.as_secs_f64(), observe.took.as_secs_f64());
    lab.note(&format!("the best possible, without looking: {best:.2} s; one `observe`: {observe:.2} s"))?;
    let ratio = median(&mut ours)?.as_secs_f64() / median(&mut theirs)?.as_secs_f64();
    let shown = |times: &[Duration]| {
        times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect::<Vec<_>>().join(" ")
    };
    let text = format!(
        "7 VFs to vfio-pci, s: portwright apply {}; shell {}; ratio of medians {ratio:.2}",
        shown(&ours),
        shown(&theirs)
    );
    lab.note(&text)?;
    ensure!(ratio <= GOAL, "{text}; the goal is {GOAL}");
    Ok(())
}

fn all_vfio(pf: &str) -> Result<()> {
    let vfs = guest::vfs(pf);
    let bound = vfs.iter().filter(|(_, vf)| guest::driver(vf).as_deref() == Some("vfio-pci")).count();
    ensure!(vfs.len() == 7 && bound == 7, "{bound} of {} VFs are bound to vfio-pci", vfs.len());
    Ok(())
}

fn median(times: &mut [Duration]) -> Result<Duration> {
    times.sort();
    times.get(times.len().div_ceil(2).saturating_sub(1)).copied().context("no measurements")
}
