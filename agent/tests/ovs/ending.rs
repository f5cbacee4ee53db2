//! How the daemon ends, and what `/readyz` says of the switch: the real binary, beside a switch that is stopped in the middle
//! of a step.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, SPEC};
use crate::rig::Rig;

/// A daemon whose step waits for the switch, which is stopped; the policy says `tag: 20` now.
fn in_the_middle_of_a_step(rig: &mut Rig) -> (Daemon, Pid) {
    rig.pod("a", 1);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(rig, &[&policy]);
    rig.wait_until("port va tag=10");
    daemon.says("the run has ended");
    let switch = std::fs::read_to_string(rig.server.path("ovs-vswitchd.pid")).unwrap();
    let switch = Pid::from_raw(switch.trim().parse().unwrap());
    kill(switch, Signal::SIGSTOP).unwrap();
    rig.policy("p", &SPEC.replace("tag: 10", "tag: 20"));
    daemon.says("begins");
    // The database has taken it over; the switch has not.
    rig.wait_until("port va tag=20");
    (daemon, switch)
}

#[test]
fn the_first_signal_lets_the_step_end() {
    let mut rig = Rig::start();
    let (mut daemon, switch) = in_the_middle_of_a_step(&mut rig);
    daemon.signal(Signal::SIGTERM);
    daemon.says("a step that runs is finished first");
    assert_eq!(daemon.child.try_wait().unwrap(), None);
    kill(switch, Signal::SIGCONT).unwrap();
    daemon.says("ended");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    let policy = rig.policy("p", &SPEC.replace("tag: 10", "tag: 20"));
    rig.is_in_sync(&policy);
}

#[test]
fn the_second_signal_ends_it_at_once_and_the_next_start_goes_on() {
    let mut rig = Rig::start();
    let (mut daemon, switch) = in_the_middle_of_a_step(&mut rig);
    daemon.signal(Signal::SIGTERM);
    daemon.says("a step that runs is finished first");
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.says("stopped at once; a write that the kernel has begun goes on");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    kill(switch, Signal::SIGCONT).unwrap();
    let policy = rig.policy("p", &SPEC.replace("tag: 10", "tag: 30"));
    let daemon = Daemon::start(&rig, &[&policy]);
    rig.wait_until("port va tag=30");
    assert_eq!(daemon.stop(), Some(0));
}

/// Asks until `/readyz` answers with this status; what it says.
fn readyz(daemon: &Daemon, address: &str, status: u16) -> String {
    let start = Instant::now();
    loop {
        let answer = daemon.get(address, "/readyz");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.starts_with(&format!("HTTP/1.1 {status} ")) {
            return text.to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "not {status}: {answer:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn ready_means_that_the_switch_answers_where_a_policy_wants_it() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    rig.ip(&["link", "set", "lo", "up"]);
    let policy = rig.policy("p", SPEC);
    let daemon = Daemon::start(&rig, &[&policy]);
    let line = daemon.says("metrics and health are served");
    let address = line.split("127.0.0.1:").nth(1).unwrap();
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    rig.wait_until("port va tag=10");
    assert_eq!(readyz(&daemon, &port, 200), "ok\n");
    assert!(daemon.get(&port, "/healthz").starts_with("HTTP/1.1 200 "));

    rig.vswitchd.kill();
    let why = readyz(&daemon, &port, 503);
    assert!(why.contains("vswitchd"), "{why}");
    assert!(daemon.get(&port, "/healthz").starts_with("HTTP/1.1 200 "), "restarting it would not help");
    rig.vswitchd.launch();
    readyz(&daemon, &port, 200);
    rig.server.kill();
    readyz(&daemon, &port, 503);

    // Nobody wants anything of it.
    rig.policy("p", "nics: []");
    readyz(&daemon, &port, 200);
    assert_eq!(daemon.stop(), Some(0));
}
