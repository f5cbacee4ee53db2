//! The daemon on a real kernel: what somebody changes by hand is put right, what goes comes back, and kills at random moments
//! leave nothing behind.

use super::{Lab, Scenario, iommu};
use crate::lab::gate::Gate;
use crate::lab::{cli, eventually, guest, links, policy, switch, sys};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("daemon-puts-right-what-others-change", drift),
        iommu("daemon-puts-right-what-others-change-in-open-vswitch", switch_drift),
        iommu("daemon-write-that-hangs", hang),
        iommu("daemon-killed-ten-times", killed),
        iommu("daemon-boots-before-kubelet", boot),
    ]
}

const POLICY: &str = "/tmp/daemon.yaml";
const STATE: &str = "/tmp/daemon-state";
/// Longer than what is promised (1 s): every instruction is emulated. What it took is noted.
const WITHIN: Duration = Duration::from_secs(60);
/// Five times what is promised, because every instruction is emulated: the slow timer comes after 30 s and would be no sign
/// that an event was heard. From the change to the line of the log that names it; what it took is noted.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// A VLAN of VFs.
const VLAN: u64 = 100;
/// Kills of the matrix.
const KILLS: u32 = 10;

fn groups(pf: &str, vfs: u32, vlan: u16) -> String {
    let last = vfs.saturating_sub(1);
    let groups = format!(
        "vfs: {vfs}\nvfGroups:\n- {{vfs: \"0-1\", pool: net, driver: kernel, trust: true, vlan: {{id: {vlan}}}}}\n\
         - {{vfs: \"2-{last}\", pool: dpdk, driver: vfio-pci}}"
    );
    policy::document(&[policy::nic(pf, &groups)])
}

fn start() -> Result<sys::Running> {
    let words = ["run", "--policy", POLICY, "--state-dir", STATE, "--log", "portwright=debug"];
    sys::Running::start(sys::command("portwright", &words))
}

/// The daemon is as it should be: VLANs of VFs 0 and 1, drivers of the others.
fn good(pf: &str, name: &str, vfs: usize, vlan: u64) -> Option<()> {
    let found = guest::vfs(pf);
    let vlan_of = |index: u32| {
        let info = links::vf_info(name, index).ok()?;
        links::number(&info, "/vlan_list/0/vlan").ok()
    };
    let drivers = found.iter().map(|(_, vf)| guest::driver(vf));
    let wanted = (0..vfs).map(|index| Some(if index < 2 { "igbvf" } else { "vfio-pci" }.to_owned()));
    (found.len() == vfs && drivers.eq(wanted) && (0..2).all(|index| vlan_of(index) == Some(vlan)))
        .then_some(())
}

/// What somebody changes: when the daemon has noticed it, and when it is right again.
struct Drifts {
    daemon: sys::Running,
    notes: Vec<String>,
}

impl Drifts {
    /// Makes a change. It is noticed when the daemon's log has a line with these words, and over when it is `right`.
    fn after(
        &mut self,
        what: &str,
        words: &[&str],
        change: impl FnOnce() -> Result<()>,
        right: impl Fn() -> Option<()>,
    ) -> Result<()> {
        while self.daemon.next_line(Duration::ZERO).is_some() {}
        let started = sys::now();
        change()?;
        let noticed = self.noticed(what, words, started)?;
        eventually(what, WITHIN, right)?;
        let took = started.elapsed().as_secs_f64();
        self.notes.push(format!("{what} {noticed:.2} s {took:.2} s"));
        Ok(())
    }

    /// Seconds from the change to the line.
    fn noticed(&mut self, what: &str, words: &[&str], started: std::time::Instant) -> Result<f64> {
        loop {
            let left = NOTICED_WITHIN.saturating_sub(started.elapsed());
            let line = self.daemon.next_line(left).filter(|_| !left.is_zero());
            let line =
                line.with_context(|| format!("{what}: not noticed within {} s", NOTICED_WITHIN.as_secs()))?;
            if words.iter().all(|word| line.contains(word)) {
                return Ok(started.elapsed().as_secs_f64());
            }
        }
    }

    fn end(mut self, lab: &mut Lab) -> Result<()> {
        cli_says(&mut self.daemon)?;
        lab.note(&format!(
            "what was changed, until it was noticed, until it was right: {}",
            self.notes.join(", ")
        ))
    }
}

fn drift(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let name = guest::netdev(&pf).context("no netdev")?;
    sys::write(POLICY, &groups(&pf, 4, 100))?;
    let mut drifts = Drifts { daemon: start()?, notes: Vec::new() };
    let right = |vfs: usize| good(&pf, &name, vfs, VLAN);
    eventually("made", WITHIN, || right(4))?;
    eventually("in sync", WITHIN, in_sync)?;

    let vf = |index: u32| format!("{pf}/vf/{index}");
    let tag = || sys::tool("ip", &["link", "set", &name, "vf", "1", "vlan", "7"]).map(drop);
    drifts.after("VLAN changed", &["begins", &vf(1)], tag, || right(4))?;
    let rebound = guest::vf(&pf, 2)?;
    let unbind = || sys::write(format!("/sys/bus/pci/devices/{rebound}/driver/unbind"), &rebound);
    drifts.after("VF unbound", &["begins", &vf(2)], unbind, || right(4))?;
    let none = || guest::set_attribute(&pf, "sriov_numvfs", "0");
    drifts.after("all VFs removed", &["begins", &pf], none, || right(4))?;
    let five = || sys::write(POLICY, &groups(&pf, 5, 100));
    drifts.after("policy file changed", &["begins", &pf], five, || right(5))?;
    let gone = || guest::vfs(&pf).is_empty().then_some(());
    drifts.after("port removed", &["PfMissing"], || guest::set_attribute(&pf, "remove", "1"), gone)?;
    let found = || sys::write("/sys/bus/pci/rescan", "1");
    drifts.after("port found again", &["PfMissing", "not in the way any more"], found, || right(5))?;
    drifts.end(lab)
}

/// Whether the daemon says that nothing is left to be done.
fn in_sync() -> Option<()> {
    let status = cli::portwright(&["status", "-o", "json"]).ok()?;
    let state: Value = serde_json::from_str(&status.stdout).ok()?;
    let is = |field: &str, value: Value| state.pointer(field) == Some(&value);
    (is("/summary/running", false.into()) && is("/summary/pending", 0.into())).then_some(())
}

fn switch_drift(lab: &mut Lab) -> Result<()> {
    let bridge = "{name: br-lab, ports: [{name: mon0, type: internal, vlan: {mode: access, tag: 10}}]}";
    let text = format!(
        "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: lab}}\nspec:\n  bridges: [{bridge}]\n"
    );
    sys::write(POLICY, &text)?;
    switch::beside(|| {
        let mut drifts = Drifts { daemon: start()?, notes: Vec::new() };
        let right = || switch::vsctl("get port mon0 tag").ok().filter(|tag| tag == "10").map(drop);
        eventually("made", WITHIN, right)?;
        eventually("in sync", WITHIN, in_sync)?;
        let by_hand = |words: &'static str| move || switch::vsctl(words).map(drop);
        let port = ["begins", "bridge/br-lab/port/mon0"];
        drifts.after("port retagged", &port, by_hand("--no-wait set port mon0 tag=7"), right)?;
        drifts.after("port removed", &port, by_hand("--no-wait del-port br-lab mon0"), right)?;
        let all = ["begins", "bridge/br-lab"];
        drifts.after("bridge deleted", &all, by_hand("--no-wait del-br br-lab"), right)?;
        drifts.end(lab)
    })
}

/// A write that hangs on one port, as a driver that waits for its firmware makes it: the other port is put right meanwhile, and the
/// first one when the write has returned.
fn hang(lab: &mut Lab) -> Result<()> {
    const UNBIND: &str = "/sys/bus/pci/drivers/igbvf/unbind";
    let (first, second) = (lab.card(0)?, lab.card(1)?);
    let name = guest::netdev(&second).context("no netdev")?;
    let documents = |of_first: &str| {
        let group = |vfs: &str, driver: &str| format!("- {{vfs: \"{vfs}\", driver: {driver}}}");
        let entry = |groups: &[String]| format!("vfs: 4\nvfGroups:\n{}", groups.join("\n"));
        let vlan = format!("{{vfs: \"0-1\", driver: kernel, vlan: {{id: {VLAN}}}}}");
        policy::document(&[
            policy::nic(&first, &entry(&[group("0-3", of_first)])),
            policy::nic(&second, &entry(&[format!("- {vlan}"), group("2-3", "vfio-pci")])),
        ])
    };
    sys::write(POLICY, &documents("kernel"))?;
    let mut daemon = start()?;
    let all = |driver: &str| {
        let found = guest::vfs(&first);
        (found.len() == 4 && found.iter().all(|(_, vf)| guest::driver(vf).as_deref() == Some(driver)))
            .then_some(())
    };
    eventually("both are made", WITHIN, || all("igbvf").and_then(|()| good(&second, &name, 4, VLAN)))?;

    let gate = Gate::shut(UNBIND)?;
    sys::write(POLICY, &documents("vfio-pci"))?;
    let running = || {
        let status = cli::portwright(&["status", "-o", "json"]).ok()?;
        let state: Value = serde_json::from_str(&status.stdout).ok()?;
        (state.pointer("/summary/running") == Some(&Value::Bool(true))).then_some(())
    };
    eventually("a write hangs", WITHIN, running)?;
    let started = sys::now();
    sys::tool("ip", &["link", "set", &name, "vf", "1", "vlan", "7"])?;
    eventually("VLAN changed", WITHIN, || good(&second, &name, 4, VLAN))?;
    let vlan = started.elapsed().as_secs_f64();
    let started = sys::now();
    let rebound = guest::vf(&second, 2)?;
    sys::write(format!("/sys/bus/pci/devices/{rebound}/driver/unbind"), &rebound)?;
    eventually("VF unbound", WITHIN, || good(&second, &name, 4, VLAN))?;
    let unbound = started.elapsed().as_secs_f64();
    ensure!(
        all("igbvf").is_some() && running().is_some(),
        "the first port's write did not hang all the while"
    );

    gate.open()?;
    eventually("the first port is as wanted", WITHIN, || all("vfio-pci"))?;
    cli_says(&mut daemon)?;
    lab.note(&format!("beside a write that hangs: VLAN changed {vlan:.2} s, VF unbound {unbound:.2} s"))
}

/// Ends the daemon as systemd does; it says nothing of a panic.
fn cli_says(daemon: &mut sys::Running) -> Result<()> {
    sys::tool("kill", &["-TERM", &daemon.child.id().to_string()])?;
    let status = eventually("the daemon ends", WITHIN, || daemon.child.try_wait().ok().flatten())?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    Ok(())
}

/// Kills the daemon at ten moments of its work, which the policy makes for it anew each time.
fn killed(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let name = guest::netdev(&pf).context("no netdev")?;
    let mut lines = 0;
    for number in 0..KILLS {
        let vlan = 100 + u16::try_from(number)?;
        sys::write(POLICY, &groups(&pf, 3 + number % 4, vlan))?;
        let mut daemon = start()?;
        // A different number of lines of its log each time: before, between and behind steps.
        for _ in 0..(number * 3 % 17) {
            if daemon.next_line(Duration::from_secs(10)).is_some() {
                lines += 1;
            }
        }
        daemon.kill()?;
        daemon.finish(Duration::from_secs(30))?;
    }
    sys::write(POLICY, &groups(&pf, 5, 200))?;
    let mut daemon = start()?;
    eventually("all is as wanted after ten kills", WITHIN, || good(&pf, &name, 5, 200))?;
    ensure!(guest::attribute(&pf, "sriov_drivers_autoprobe")? == "1", "autoprobe was not put back");
    cli_says(&mut daemon)?;
    lab.note(&format!("{KILLS} kills, {lines} lines of log before them"))
}

/// The last good policy is applied before anything else runs, as at boot.
fn boot(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let name = guest::netdev(&pf).context("no netdev")?;
    sys::write(POLICY, &groups(&pf, 4, 300))?;
    let mut daemon = start()?;
    eventually("made", WITHIN, || good(&pf, &name, 4, 300))?;
    cli_says(&mut daemon)?;
    lab.reset()?;
    guest::wait_for_carrier(&pf).ok();
    let output = cli::portwright(&["run", "--once", "--before-kubelet", "--state-dir", STATE])?;
    ensure!(output.code == Some(0), "{output}");
    good(&pf, &name, 4, 300).context("the last good policy was not applied")
}
