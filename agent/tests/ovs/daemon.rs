//! The daemon with a policy file: what others change is put right by itself, what the file says is followed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::rig::Rig;
use crate::traffic::{Flow, exchange};

pub const SPEC: &str = "bridges:
- name: br0
  datapath: netdev
  ports:
  - {name: va, vlan: {mode: access, tag: 10}}
  - {name: mon0, type: internal}
mirrors:
- {name: tap, bridge: br0, select: {ports: [\"v*\"]}, output: {port: mon0}}";

/// A daemon that runs beside the switch.
pub struct Daemon {
    pub child: Child,
    log: Receiver<String>,
}

impl Daemon {
    pub fn start(rig: &Rig, policies: &[&Path]) -> Daemon {
        let mut command = rig.command();
        command
            .args(["run", "--log", "portwright=debug", "--listen", "127.0.0.1:0", "--policy"])
            .args(policies);
        command.stderr(Stdio::piped()).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Daemon { child, log }
    }

    /// Waits for a line of the log.
    pub fn says(&self, what: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.log.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("it does not say {what}: {heard:#?}"),
            }
        }
    }

    /// What a verb that asks the daemon prints. It has a `/run/portwright` of its own.
    pub fn asked(&self, verb: &[&str]) -> Value {
        let (pid, binary) = (self.child.id().to_string(), env!("CARGO_BIN_EXE_portwright"));
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-m", "-n", binary]).args(verb).args(["-o", "json"]);
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{verb:?}: {error}: {output:?}"))
    }

    /// Waits until the only mirror's `Ready` has a reason. The slow timer is slow, so it is asked to look again and again.
    fn mirror_becomes(&self, reason: &str) -> Value {
        self.mirror_is("reconcile", reason).0
    }

    /// Asks again and again until the only mirror's `Ready` has a reason; with why the last round ran.
    fn mirror_is(&self, verb: &str, reason: &str) -> (Value, Value) {
        let start = Instant::now();
        loop {
            let state = self.asked(&[verb]);
            let ready = state["bridges"][0]["mirrors"][0]["conditions"][0].clone();
            if ready["reason"] == reason {
                return (ready, state["lastRound"]["causes"].clone());
            }
            assert!(start.elapsed() < Duration::from_secs(90), "{reason}: {state:#}");
            std::thread::park_timeout(Duration::from_millis(500));
        }
    }

    /// Tells it to stop; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// What it answers over HTTP at a port of its loopback, head and all.
    pub fn get(&self, port: &str, path: &str) -> String {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3 && cat <&3"
        );
        let pid = self.child.id().to_string();
        let output =
            Command::new("nsenter").args(["-t", &pid, "-n", "bash", "-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_others_change_is_put_right_and_the_file_is_followed() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("port va tag=10");
    rig.wait_until("mirror tap name=tap");
    daemon.says("the run has ended");

    rig.vsctl("set port va tag=7");
    rig.wait_until("port va tag=10");
    rig.vsctl("del-br br0");
    rig.wait_until("port va tag=10");
    rig.wait_until("mirror tap name=tap");

    // Another file, a bad one, and a good one again.
    rig.policy("p", &SPEC.replace("tag: 10", "tag: 20"));
    rig.wait_until("port va tag=20");
    rig.policy("p", &SPEC.replace("tag: 10", "tag: 5000"));
    let said = daemon.says("the last good policies stay");
    assert!(said.contains("spec.bridges[0].ports[0].vlan.tag"), "{said}");
    rig.vsctl("set port va tag=9");
    rig.wait_until("port va tag=20");
    rig.policy("p", &SPEC.replace("tag: 10", "tag: 30"));
    rig.wait_until("port va tag=30");

    // A port that comes later, and a policy that is gone while the daemon runs.
    rig.policy("p", &format!("{SPEC}\n").replace("{name: va, ", "{name: vb, "));
    rig.wait_until("bridge br0 external_ids:portwright.dev/owner=p");
    rig.plug_alone("vb");
    rig.wait_until("port vb tag=10");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(rig.vsctl("br-exists br0"), "", "what was made stays");
}

#[test]
fn the_third_correction_of_one_thing_is_not_made() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("port va tag=10");
    // What is set for the first time is no correction: the port was made with its VLAN.
    for _ in 0..3 {
        daemon.says("the run has ended");
        rig.vsctl("set port va tag=7");
        rig.wait_until("port va tag=10");
    }
    daemon.says("the run has ended");
    rig.vsctl("set port va tag=7");
    daemon.says("Contended");
    assert_eq!(rig.vsctl("get port va tag"), "7");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_switch_that_does_not_answer_or_dies_is_noticed_and_found_again() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("port va tag=10");
    daemon.says("the run has ended");
    rig.vswitchd.kill();
    daemon.says("Open vSwitch change");
    rig.vswitchd.launch();
    rig.vsctl("set port va tag=7");
    rig.wait_until("port va tag=10");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_second_writer_is_refused_and_bad_policies_end_the_start() {
    let rig = Rig::start();
    let bad = rig.policy("bad", "bridges: [{name: br0, datapath: nowhere}]");
    let ran = rig.portwright(&["run", "--policy", bad.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("spec.bridges[0].datapath"), "{ran:#?}");
    let ran = rig.portwright(&["run", "--once", "--before-kubelet"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
    assert!(ran.stderr.contains("no policy is known"), "{ran:#?}");
}

#[test]
fn the_last_good_policy_is_applied_once_before_kubelet_starts() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("port va tag=10");
    daemon.says("the run has ended");
    assert_eq!(daemon.stop(), Some(0));
    rig.vsctl("del-br br0");
    let ran = rig.portwright(&["run", "--once", "--before-kubelet"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(rig.vsctl("get port va tag"), "10");
}

/// That a mirror is set up says nothing of whether anybody sees copies. Here Open vSwitch drops what enters by the port that
/// the mirror copies from, because somebody else's mirror has it as output.
#[test]
fn a_mirror_that_is_set_up_and_copies_nothing_is_told() {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    let spec = "bridges:
- {name: br0, datapath: netdev, ports: [{name: va}, {name: vb}, {name: mon0, type: internal}]}
mirrors:
- {name: tap, bridge: br0, select: {ports: [va], direction: ingress}, output: {port: mon0}}";
    let policy = rig.policy("p", spec);
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("mirror tap name=tap");
    daemon.says("the run has ended");
    let ready = daemon.mirror_becomes("MirrorOutputDown");
    assert!(ready["status"] == "False" && ready["message"].as_str().unwrap().contains("`mon0`"), "{ready}");
    // Nobody asks for a look: the switch tells of a change, and what it means for the mirror wakes the loop.
    rig.ip(&["link", "set", "mon0", "up"]);
    let (_, causes) = daemon.mirror_is("status", "InSync");
    assert!(causes.as_array().unwrap().contains(&"Open vSwitch change".into()), "{causes}");
    exchange(&a, &b, 20);
    let flow = Flow::start(&a, &b);
    rig.vsctl("-- --id=@p get port va -- --id=@s get port vb -- --id=@m create mirror name=theirs select_src_port=@s output_port=@p -- add bridge br0 mirrors @m");
    rig.look_at_flows_again();
    let ready = daemon.mirror_becomes("MirrorNotCopying");
    assert_eq!(ready["status"], "False");
    let node = daemon.asked(&["status"])["conditions"][0].clone();
    assert_eq!((&node["status"], &node["reason"]), (&"False".into(), &"MirrorNotCopying".into()), "{node}");
    rig.vsctl("-- --id=@m get mirror theirs -- remove bridge br0 mirrors @m");
    rig.look_at_flows_again();
    daemon.mirror_becomes("InSync");
    drop(flow);
    assert_eq!(daemon.stop(), Some(0));
}
