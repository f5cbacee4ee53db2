//! What the OVSDB client costs, against a private ovsdb-server: `cargo bench -p portwright-ovs --bench ovsdb`.
//!
//! Prints a round trip over a raw socket and through a session, the splitter's speed on a large snapshot in arbitrary
//! chunks, the first synchronisation of 2,000 ports with the memory that it takes, a commit's cost, and ovs-vsctl's for
//! the same change. With ovs-vswitchd (needs root for a network namespace) also 100 ports applied.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::integer_division,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::let_underscore_must_use,
    reason = "a measuring program: it starts servers, prints figures and fails by panicking"
)]

#[path = "apply/mod.rs"]
mod apply;
#[path = "../tests/it/harness/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod harness;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::{Server, Vswitchd, soon};
use portwright_ovs::ovsdb::{
    Deadline, Mutation, NewRow, Options, Remote, Session, Splitter, Target, Txn, Value,
};
use portwright_ovs::vswitch::{Switch, Vswitch, monitor};

const ECHO: &[u8] = br#"{"id":1,"method":"echo","params":[]}"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--synchronise") {
        synchronise_once(arguments[at + 1].parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    runtime.block_on(round_trips(&server, "one thread"));
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    threads.block_on(round_trips(&server, "two threads"));
    runtime.block_on(fill(&server, "br0", 200));
    runtime.block_on(against_vsctl(&server, 200));
    runtime.block_on(fill(&server, "br1", 1_800));
    synchronise(&server);
    split(&server);
    runtime.block_on(apply_100());
    apply::measure();
    match MISSED.load(Ordering::Relaxed) {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("{missed} goals are missed");
            ExitCode::FAILURE
        }
    }
}

static MISSED: AtomicU32 = AtomicU32::new(0);

/// A figure with a goal; a goal that is missed fails the whole run in the end.
fn bar(what: &str, value: impl std::fmt::Display, goal: &str, met: bool) {
    show(what, value, &format!("goal: {goal}{}", if met { "" } else { "   MISSED" }));
    if !met {
        MISSED.fetch_add(1, Ordering::Relaxed);
    }
}

fn show(what: &str, value: impl std::fmt::Display, goal: &str) {
    println!("{what:<58} {value:>14}   {goal}");
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

/// A round trip at the bottom and at the top, alternating in blocks so that the machine's moods hit both.
async fn round_trips(server: &Server, runtime: &str) {
    let session = Session::start(server.remote(), monitor(), Options::default());
    session.synced(soon()).await.unwrap();
    let mut raw = UnixStream::connect(server.path("db.sock")).unwrap();
    let (mut below, mut above, mut buffer) = (Vec::new(), Vec::new(), [0; 1000]);
    for _ in 0..50 {
        for _ in 0..100 {
            let start = Instant::now();
            raw.write_all(ECHO).unwrap();
            let _length = raw.read(&mut buffer).unwrap();
            below.push(start.elapsed());
        }
        for _ in 0..100 {
            above.push(session.echo(soon()).await.unwrap());
        }
    }
    let (below, above) = (median(below), median(above));
    show("echo, raw blocking socket, median", format!("{below:.1?}"), "");
    show(&format!("echo, session, {runtime}, median"), format!("{above:.1?}"), "");
    let more = above.saturating_sub(below);
    bar("session above raw", format!("{more:.1?}"), "≤ 20 µs", more <= Duration::from_micros(20));
}

fn port(txn: &mut Txn, name: &str, kind: &str) -> NewRow {
    let interface = txn.insert("Interface", [("name", Value::from(name)), ("type", kind.into())]);
    txn.insert("Port", [("name", Value::from(name)), ("interfaces", interface.into())])
}

fn with_ports(root: portwright_ovs::ovsdb::Uuid, bridge: &str, ports: usize) -> Txn {
    let mut txn = Txn::new("bench", "fill");
    let mut rows = vec![port(&mut txn, bridge, "internal")];
    rows.extend((0..ports).map(|number| port(&mut txn, &format!("{bridge}p{number}"), "internal")));
    let columns =
        [("name", Value::from(bridge)), ("datapath_type", "netdev".into()), ("ports", Value::refs(rows))];
    let bridge = txn.insert("Bridge", columns);
    txn.mutate(Target::row("Open_vSwitch", root), [Mutation::insert("bridges", bridge)]);
    txn
}

async fn fill(server: &Server, bridge: &str, ports: usize) {
    let switch = Switch::connect(server.remote(), Options::default());
    let root = switch.read(soon()).await.unwrap().uuid;
    switch.session().commit(&with_ports(root, bridge, ports), soon()).await.unwrap();
}

/// A port that comes and goes, seen through the socket, and the same by ovs-vsctl.
async fn against_vsctl(server: &Server, ports: usize) {
    let switch = Switch::connect(server.remote(), Options::default());
    let bridge = Target::row("Bridge", switch.read(soon()).await.unwrap().bridges["br0"].uuid);
    let mut ours = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        let mut txn = Txn::new("bench", "a port comes");
        let new = port(&mut txn, "veth7", "system");
        txn.mutate(bridge.clone(), [Mutation::insert("ports", new)]);
        let uuid = switch.session().commit(&txn, soon()).await.unwrap().uuid(new).unwrap();
        let mut txn = Txn::new("bench", "a port goes");
        txn.mutate(bridge.clone(), [Mutation::remove("ports", uuid)]);
        switch.session().commit(&txn, soon()).await.unwrap();
        ours.push(start.elapsed() / 2);
    }
    let mut theirs = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        server.vsctl(&["--no-wait", "add-port", "br0", "veth7"]);
        server.vsctl(&["--no-wait", "del-port", "br0", "veth7"]);
        theirs.push(start.elapsed() / 2);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    show(&format!("a port comes or goes at {ports} ports, guarded, median"), format!("{ours:.1?}"), "");
    show("the same by ovs-vsctl --no-wait", format!("{theirs:.1?}"), "");
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    bar("ovs-vsctl over ours", format!("{ratio:.0} ×"), "≥ 50 ×", ratio >= 50.0);
}

/// In processes of their own, so that the memory is the synchronisation's and not this program's.
fn synchronise(server: &Server) {
    let mut samples = Vec::new();
    for _ in 0..5 {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own);
        child.args(["--synchronise", &server.remote().to_string()]).stderr(Stdio::inherit());
        let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
        let mut words = output.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let micros = words.next().expect("the child says how long it took");
        samples.push((Duration::from_micros(micros), words.next().unwrap(), words.next().unwrap()));
    }
    let time = median(samples.iter().map(|sample| sample.0).collect());
    let stays = samples.iter().map(|sample| sample.1).max().unwrap();
    let peak = samples.iter().map(|sample| sample.2).max().unwrap();
    let soon = time <= Duration::from_millis(300);
    bar("2,000 ports, first synchronisation, median of 5", format!("{time:.1?}"), "≤ 300 ms", soon);
    for (what, kib) in [("that stays", stays), ("at its peak", peak)] {
        let what = format!("2,000 ports, RSS {what}, most of 5");
        bar(&what, format!("{kib} KiB more"), "< 10 MB", kib * 1024 < 10_000_000);
    }
}

fn synchronise_once(remote: Remote) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = memory("VmRSS:");
    runtime.block_on(async {
        let start = Instant::now();
        let session = Session::start(remote, monitor(), Options::default());
        let view = session.synced(soon()).await.unwrap();
        let micros = start.elapsed().as_micros();
        assert!(view.table("Port").unwrap().len() >= 2_000);
        println!("{micros} {} {}", memory("VmRSS:") - before, memory("VmHWM:") - before);
        drop(Vswitch::read(&view).unwrap());
    });
}

/// A figure of `/proc/self/status`, KiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The snapshot of the 2,000 ports, as the server sent it, through the splitter in chunks of many sizes.
fn split(server: &Server) {
    let message = snapshot(server);
    let mut best = [0.0_f64; 3];
    for _ in 0..30 {
        for (slot, sizes) in best.iter_mut().zip([&[64 * 1024][..], &[1, 7, 64, 13, 100], &[1500]]) {
            let start = Instant::now();
            assert_eq!(split_in(&message, sizes), message.len());
            let rate = message.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
            *slot = slot.max(rate);
        }
    }
    let megabytes = message.len() as f64 / 1e6;
    for (what, rate) in ["64 KiB", "1 to 100 bytes", "1,500 bytes"].into_iter().zip(best) {
        let what = format!("splitter, {megabytes:.2} MB in chunks of {what}, best of 30");
        bar(&what, format!("{rate:.0} MB/s"), "≥ 500 MB/s", rate >= 500.0);
    }
}

fn split_in(message: &[u8], sizes: &[usize]) -> usize {
    let (mut splitter, mut rest, mut sizes) = (Splitter::new(1 << 26), message, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        splitter.buffer().extend_from_slice(chunk);
        rest = after;
        if let Some(message) = splitter.next_message().unwrap() {
            return message.len();
        }
    }
    0
}

fn snapshot(server: &Server) -> Vec<u8> {
    let mut stream = UnixStream::connect(server.path("db.sock")).unwrap();
    let requests =
        ["Open_vSwitch", "Bridge", "Port", "Interface"].map(|table| format!("\"{table}\":{{}}")).join(",");
    let request =
        format!("{{\"id\":1,\"method\":\"monitor\",\"params\":[\"Open_vSwitch\",0,{{{requests}}}]}}");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut splitter, mut buffer) = (Splitter::new(1 << 26), vec![0; 1 << 16]);
    loop {
        let length = stream.read(&mut buffer).unwrap();
        splitter.buffer().extend_from_slice(&buffer[..length]);
        if let Some(message) = splitter.next_message().unwrap() {
            return message.to_vec();
        }
    }
}

/// 100 ports in one change until ovs-vswitchd has opened them all and the rows show it.
async fn apply_100() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    let switch = Switch::connect(server.remote(), Options::default());
    let root = switch.read(soon()).await.unwrap().uuid;
    switch.apply(with_ports(root, "br0", 0), soon()).await.unwrap();
    let bridge = switch.read(soon()).await.unwrap().bridges["br0"].uuid;
    let mut samples = Vec::new();
    for round in 0..5 {
        let mut txn = Txn::new("bench", "100 ports");
        let rows: Vec<NewRow> =
            (0..100).map(|number| port(&mut txn, &format!("r{round}p{number}"), "internal")).collect();
        txn.mutate(Target::row("Bridge", bridge), [Mutation::insert("ports", Value::refs(rows))]);
        let start = Instant::now();
        switch.apply(txn, Deadline::after(Duration::from_secs(30))).await.unwrap();
        let read = switch.read(soon()).await.unwrap();
        let open = read.bridges["br0"].ports.values().filter(|port| {
            port.interfaces.iter().all(|one| matches!(one.ofport, portwright_ovs::vswitch::Ofport::Open(_)))
        });
        assert_eq!(open.count(), 100 * (round + 1) + 1);
        samples.push(start.elapsed());
    }
    let first = samples[0];
    let what = "100 ports in one change, applied and verified, first";
    bar(what, format!("{first:.1?}"), "≤ 100 ms", first <= Duration::from_millis(100));
    show("the same, median of 5 (each on top of the others)", format!("{:.1?}", median(samples)), "");
}
