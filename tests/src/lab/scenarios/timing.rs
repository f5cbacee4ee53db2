//! How long the main job takes, beside what an administrator's shell loop takes on the same machine.

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![iommu("timing-vfio-beside-the-shell-way", vfio_path)]
}

const PAIRS: usize = 5;
/// Our time over the shell's, at most, from a bare NIC.
const GOAL: f64 = 0.65;

/// Port up, create with autoprobe, then per VF readlink, unbind, driver_override, bind; with bash and coreutils, as on any
/// node.
const SHELL_WAY: &str = r#"
set -e
cd /sys/bus/pci/devices/$1
ip link set dev $(ls net) up
echo 7 > sriov_numvfs
for link in virtfn*; do
    vf=$(basename $(readlink $link))
    [ -e $link/driver ] && echo $vf > $link/driver/unbind
    echo vfio-pci > $link/driver_override
    echo $vf > /sys/bus/pci/drivers/vfio-pci/bind
done
"#;

/// What nobody can beat: no default driver, VFs before the port is up, override, probe; and nothing is ever looked at.
const BEST_WAY: &str = r#"
set -e
cd /sys/bus/pci/devices/$1
echo 0 > sriov_drivers_autoprobe
echo 7 > sriov_numvfs
echo 1 > sriov_drivers_autoprobe
ip link set dev $(ls net) up
for link in virtfn*; do
    vf=$(readlink $link); vf=${vf##*/}
    echo vfio-pci > $link/driver_override
    echo $vf > /sys/bus/pci/drivers_probe
done
"#;

/// What the port is before each run. All three ways leave it up.
#[derive(Clone, Copy)]
enum Port {
    /// A bare NIC: nobody has used it yet.
    Down,
    /// In use, perhaps. There igb takes itself down and up again for a second when VFs are made, whoever makes them: that
    /// time is the kernel's and can be more than the goal leaves for everything.
    Up,
}

fn vfio_path(lab: &mut Lab) -> Result<()> {
    sys::tool("modprobe", &["vfio-pci"])?;
    measure(lab, Port::Up)?;
    let ratio = measure(lab, Port::Down)?;
    ensure!(ratio <= GOAL, "apply takes {ratio:.2} of the shell way from a bare NIC; the goal is {GOAL}");
    Ok(())
}

/// The three ways in turn; our time over the shell's, by medians.
fn measure(lab: &mut Lab, port: Port) -> Result<f64> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::vfio(7))]);
    let (mut ours, mut theirs, mut best) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        theirs.push(script(lab, port, &pf, SHELL_WAY)?);
        prepare(lab, port, &pf)?;
        let output = cli::apply(&document)?;
        ensure!(output.code == Some(0), "apply did not converge:\n{output}");
        all_vfio(&pf)?;
        ours.push(output.took);
        best.push(script(lab, port, &pf, BEST_WAY)?);
    }
    let (apply, shell, floor) = (median(&mut ours)?, median(&mut theirs)?, median(&mut best)?);
    let from = match port {
        Port::Down => "a bare NIC (port down)",
        Port::Up => "a port that is up",
    };
    lab.note(&format!(
        "7 VFs to vfio-pci from {from}, medians of {PAIRS}: apply {apply:.2} s, shell {shell:.2} s, best possible {floor:.2} s; \
         apply/shell {:.2}, best/shell {:.2}",
        apply / shell,
        floor / shell
    ))?;
    Ok(apply / shell)
}

/// A clean start.
fn prepare(lab: &mut Lab, port: Port, pf: &str) -> Result<()> {
    lab.reset()?;
    match port {
        Port::Up => Ok(()),
        Port::Down => {
            let name = guest::netdev(pf).context("the card has no netdev")?;
            sys::tool("ip", &["link", "set", "dev", &name, "down"]).map(drop)
        }
    }
}

/// Runs one of the scripts from a clean start; how long it took.
fn script(lab: &mut Lab, port: Port, pf: &str, text: &str) -> Result<Duration> {
    prepare(lab, port, pf)?;
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
