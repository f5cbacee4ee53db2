//! How long the main job takes, beside what an administrator's shell loop takes on the same machine.

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![iommu("timing-vfio-beside-the-shell-way", vfio_path)]
}

const PAIRS: usize = 5;
/// Our time over the shell's, as wished for.
const GOAL: f64 = 0.65;
/// Our time over that of writing the files without ever looking, at most. The kernel's own share of the time is fixed (igb
/// resets itself for a second), and on a machine that emulates fast it alone can be more than the goal allows.
const OVER_BEST: f64 = 1.5;

/// Create with autoprobe, then per VF readlink, unbind, driver_override, bind; with bash and coreutils, as on any node.
const SHELL_WAY: &str = r#"
set -e
cd /sys/bus/pci/devices/$1
echo 7 > sriov_numvfs
for link in virtfn*; do
    vf=$(basename $(readlink $link))
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
    let (mut ours, mut theirs, mut best) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        theirs.push(script(lab, &pf, SHELL_WAY)?);
        lab.reset()?;
        let output = cli::apply(&document)?;
        ensure!(output.code == Some(0), "apply did not converge:\n{output}");
        all_vfio(&pf)?;
        ours.push(output.took);
        best.push(script(lab, &pf, BEST_WAY)?);
    }
    let (apply, shell, floor) = (median(&mut ours)?, median(&mut theirs)?, median(&mut best)?);
    let ratio = apply / shell;
    lab.note(&format!("7 VFs to vfio-pci, medians of {PAIRS}: apply {apply:.2} s, shell {shell:.2} s, best possible {floor:.2} s"))?;
    let met = if ratio <= GOAL { "met" } else { "missed" };
    lab.note(&format!(
        "apply/shell {ratio:.2} (goal {GOAL} {met}; the best possible has {:.2})",
        floor / shell
    ))?;
    ensure!(
        ratio <= GOAL || apply <= OVER_BEST * floor,
        "apply takes {:.2} times the best possible",
        apply / floor
    );
    ensure!(ratio < 1.0, "apply is slower than the shell");
    Ok(())
}

/// Runs one of the scripts from a clean start; how long it took.
fn script(lab: &mut Lab, pf: &str, text: &str) -> Result<Duration> {
    lab.reset()?;
    let output = sys::run(sys::command("bash", &["-c", text, "script", pf]), cli::DEADLINE)?;
    ensure!(output.code == Some(0), "the script failed:\n{output}");
    all_vfio(pf)?;
    Ok(output.took)
}

fn all_vfio(pf: &str) -> Result<()> {
    let vfs = guest::vfs(pf);
    let bound = vfs.iter().filter(|(_, vf)| guest::driver(vf).as_deref() == Some("vfio-pci")).count();
    ensure!(vfs.len() == 7 && bound == 7, "{bound} of {} VFs are bound to vfio-pci", vfs.len());
    Ok(())
}

/// The median, in seconds.
fn median(times: &mut [Duration]) -> Result<f64> {
    times.sort();
    let middle = times.get(times.len().div_ceil(2).saturating_sub(1)).context("no measurements")?;
    Ok(middle.as_secs_f64())
}
