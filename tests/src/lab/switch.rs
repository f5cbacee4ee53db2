//! Open vSwitch in the guest, started by hand with an empty database, where portwright looks for it.

use super::{eventually, sys, uptime};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// Where everything of it is.
const FOLDER: &str = "/run/openvswitch";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const WITHIN: Duration = Duration::from_secs(30);

/// Runs something beside a virtual switch and ends the switch again, also after a failure.
pub(crate) fn beside<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = start().and_then(|()| job());
    let stopped = stop();
    let done = done?;
    stopped?;
    Ok(done)
}

/// Frames that an interface has received.
pub(crate) fn received(link: &str) -> Result<u64> {
    let text = sys::read(format!("/sys/class/net/{link}/statistics/rx_packets"))?;
    text.parse().with_context(|| format!("{link} received {text:?}"))
}

/// Runs `ovs-vsctl`, whose answers owe nothing to our code.
pub(crate) fn vsctl(words: &str) -> Result<String> {
    let database = format!("--db=unix:{FOLDER}/db.sock");
    let said =
        sys::tool("ovs-vsctl", &[&[database.as_str()], &words.split(' ').collect::<Vec<_>>()[..]].concat())?;
    Ok(said.trim().to_owned())
}

/// Asks ovs-vswitchd something.
pub(crate) fn ask(args: &[&str]) -> Result<String> {
    let pid = sys::read(format!("{FOLDER}/ovs-vswitchd.pid"))?;
    let target = format!("{FOLDER}/ovs-vswitchd.{pid}.ctl");
    sys::tool("ovs-appctl", &[&["-t", &target], args].concat())
}

fn start() -> Result<()> {
    // The second needs the first without saying so.
    for module in ["crc32c_generic", "openvswitch"] {
        sys::tool("modprobe", &[module])?;
    }
    sys::remove(FOLDER)?;
    sys::make_dir(FOLDER)?;
    let database = format!("{FOLDER}/conf.db");
    sys::tool("ovsdb-tool", &["create", &database, SCHEMA])?;
    daemon("ovsdb-server", &[&database, &format!("--remote=punix:{FOLDER}/db.sock")])?;
    vsctl("--no-wait init")?;
    // Open vSwitch 3.1 takes its own cache of the number of processors, which is 0, for fresh while the machine is younger than ten
    // seconds; then nobody takes frames from the kernel's datapath.
    eventually("the machine being old enough", WITHIN, || {
        uptime().is_ok_and(|age| age > 11.0).then_some(())
    })?;
    daemon("ovs-vswitchd", &[&format!("unix:{FOLDER}/db.sock")])
}

fn daemon(program: &str, args: &[&str]) -> Result<()> {
    let mut command = sys::command(program, args);
    command.env("OVS_RUNDIR", FOLDER).env("OVS_LOGDIR", FOLDER);
    command
        .args([&format!("--pidfile={FOLDER}/{program}.pid"), &format!("--log-file={FOLDER}/{program}.log")]);
    command.args(["--detach", "--no-chdir", "-vconsole:off"]);
    let output = sys::run(command, WITHIN)?;
    ensure!(output.code == Some(0), "{program} does not start:\n{output}");
    Ok(())
}

/// Ends both; the kernel's datapaths go with them.
fn stop() -> Result<()> {
    for (program, how) in [("ovs-vswitchd", &["exit", "--cleanup"][..]), ("ovsdb-server", &["exit"][..])] {
        let Ok(pid) = sys::read(format!("{FOLDER}/{program}.pid")) else { continue };
        let target = format!("{FOLDER}/{program}.{pid}.ctl");
        sys::tool("ovs-appctl", &[&["-t", &target], how].concat())?;
    }
    sys::remove(FOLDER)
}
