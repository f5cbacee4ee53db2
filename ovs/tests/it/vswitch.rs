//! The typed switch and the daemons' control sockets, against real `ovs-vswitchd` in network namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use portwright_ovs::liveness::ping;
use portwright_ovs::ovsdb::{Class, Datum, Deadline, Mutation, NewRow, Target, Txn, Uuid, Value};
use portwright_ovs::unixctl::{Unixctl, UnixctlError};
use portwright_ovs::vswitch::{
    BondMode, DatapathType, FailMode, Lacp, MirrorHealth, Ofport, Switch, SwitchError, VlanMode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, Vswitchd, quick, run, soon};

fn switch(server: &Server) -> Switch {
    Switch::connect(server.remote(), quick())
}

fn port(txn: &mut Txn, name: &str, kind: &str, columns: Vec<(&str, Value)>) -> NewRow {
    let interface = txn.insert("Interface", [("name", Value::from(name)), ("type", kind.into())]);
    let mut row = vec![("name", Value::from(name)), ("interfaces", interface.into())];
    row.extend(columns);
    txn.insert("Port", row)
}

/// A userspace bridge with its local port and more.
async fn add_bridge(switch: &Switch, name: &str, ports: &[&str]) -> Uuid {
    let root = switch.read(soon()).await.unwrap().uuid;
    let mut txn = Txn::new("test", "add a bridge");
    let mut rows = vec![port(&mut txn, name, "internal", vec![])];
    rows.extend(ports.iter().map(|name| port(&mut txn, name, "internal", vec![])));
    let columns =
        [("name", Value::from(name)), ("datapath_type", "netdev".into()), ("ports", Value::refs(rows))];
    let bridge = txn.insert("Bridge", columns);
    txn.mutate(Target::row("Open_vSwitch", root), [Mutation::insert("bridges", bridge)]);
    switch.apply(txn, soon()).await.unwrap().committed.uuid(bridge).unwrap()
}

fn set<T: Ord + Clone>(elements: &[T]) -> BTreeSet<T> {
    elements.iter().cloned().collect()
}

/// One of everything, as an operator would set it.
const CONFIGURED: &str = "--timeout=10
        -- add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure stp_enable=true mcast_snooping_enable=true
           flood_vlans=7,8 external_ids:portwright.dev/owner=p
        -- add-port br0 acc tag=5 vlan_mode=access -- set interface acc type=internal mtu_request=1400
        -- add-port br0 trk trunks=10,20 vlan_mode=native-tagged tag=3 -- set interface trk type=internal
        -- add-port br0 tun tag=9 vlan_mode=dot1q-tunnel cvlans=1,2 -- set interface tun type=internal
        -- add-port br0 vx -- set interface vx type=vxlan options:remote_ip=192.0.2.1 options:key=7
        -- add-bond br0 bond0 m1 m0 bond_mode=balance-slb lacp=active -- set interface m0 type=internal -- set interface m1 type=internal
        -- add-port br0 gone
        -- --id=@q create qos type=linux-htb other_config:max-rate=1000000 queues:0=@z
        -- --id=@z create queue other_config:min-rate=5 dscp=10 -- set port acc qos=@q
        -- set interface acc ingress_policing_rate=100 ingress_policing_burst=10
        -- add-br br1 -- set bridge br1 datapath_type=netdev
        -- --id=@acc get port acc -- --id=@trk get port trk -- --id=@m create mirror name=m select_src_port=@acc select_dst_port=@acc,@trk output_port=@trk select_vlan=5 snaplen=64 -- add bridge br0 mirrors @m
        -- --id=@n create mirror name=m select_all=true output_vlan=999 -- add bridge br1 mirrors @n
        -- set open_vswitch . other_config:hw-offload=true external_ids:system-id=x";

#[tokio::test]
async fn everything_that_was_set_reads_back_as_plain_values() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    let db = format!("--db={}", server.remote());
    let args: Vec<&str> = std::iter::once(db.as_str()).chain(CONFIGURED.split_whitespace()).collect();
    run("ovs-vsctl", &args, None);

    let read = switch(&server).read(soon()).await.unwrap();
    assert!(read.is_settled() && read.next_cfg > 0);
    assert_eq!(read.schema_version, "8.3.1");
    assert_eq!(read.ovs_version, None, "only ovs-ctl writes it");
    assert!(read.datapath_types.contains("netdev") && read.iface_types.contains("vxlan"));
    assert_eq!((read.has.mirror_filter, read.has.mirror_snaplen, read.has.cvlans), (false, true, true));
    assert_eq!(read.other_config["hw-offload"], "true");
    assert_eq!(read.external_ids["system-id"], "x");

    let bridge = &read.bridges["br0"];
    assert!(bridge.works() && bridge.stp_enable && bridge.mcast_snooping_enable && !bridge.rstp_enable);
    assert_eq!((&bridge.datapath_type, &bridge.fail_mode), (&DatapathType::Netdev, &Some(FailMode::Secure)));
    assert_eq!(bridge.flood_vlans, set(&[7, 8]));
    assert_eq!(bridge.external_ids["portwright.dev/owner"], "p");
    assert_eq!(bridge.local().unwrap().kind, "internal");
    assert_eq!(
        bridge.ports.keys().map(String::as_str).collect::<Vec<_>>(),
        ["acc", "bond0", "br0", "gone", "trk", "tun", "vx"]
    );

    let acc = &bridge.ports["acc"];
    assert_eq!((&acc.vlan_mode, acc.tag), (&Some(VlanMode::Access), Some(5)));
    assert_eq!(
        (acc.interfaces[0].kind.as_str(), acc.interfaces[0].mtu, acc.interfaces[0].mtu_request),
        ("internal", Some(1400), Some(1400))
    );
    assert_eq!((acc.interfaces[0].policing_rate, acc.interfaces[0].policing_burst), (100, 10));
    let qos = &read.qos[&acc.qos.unwrap()];
    assert_eq!((qos.kind.as_str(), qos.other_config["max-rate"].as_str()), ("linux-htb", "1000000"));
    assert_eq!(read.queues[&qos.queues[&0]].dscp, Some(10));
    assert_eq!(
        (&bridge.ports["trk"].vlan_mode, &bridge.ports["trk"].trunks),
        (&Some(VlanMode::NativeTagged), &set(&[10, 20]))
    );
    assert_eq!(
        (&bridge.ports["tun"].vlan_mode, &bridge.ports["tun"].cvlans),
        (&Some(VlanMode::Dot1qTunnel), &set(&[1, 2]))
    );
    assert_eq!(
        bridge.ports["vx"].interfaces[0].options,
        BTreeMap::from([("remote_ip".into(), "192.0.2.1".into()), ("key".into(), "7".into())])
    );
    let bond = &bridge.ports["bond0"];
    assert_eq!(bond.interfaces.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["m0", "m1"]);
    assert_eq!((&bond.bond_mode, &bond.lacp), (&Some(BondMode::BalanceSlb), &Some(Lacp::Active)));
    assert_eq!(read.interface("m1").unwrap().1.name, "bond0");
    let gone = &read.port("gone").unwrap().1.interfaces[0];
    assert_eq!((gone.kind.as_str(), gone.ofport), ("system", Ofport::Failed));
    assert!(gone.error.as_ref().unwrap().contains("could not open network device gone"), "{gone:?}");

    let mirror = &bridge.mirrors[0];
    assert_eq!(
        (mirror.name.as_str(), mirror.snaplen, mirror.output_port.as_deref()),
        ("m", Some(64), Some("trk"))
    );
    assert_eq!(
        (&mirror.select_src_port, &mirror.select_dst_port),
        (&set(&["acc".to_owned()]), &set(&["acc".to_owned(), "trk".to_owned()]))
    );
    assert_eq!(mirror.select_vlan, set(&[5]));
    let other = &read.bridges["br1"].mirrors[0];
    assert_eq!((other.name.as_str(), other.select_all, other.output_vlan), ("m", true, Some(999)));
    assert_ne!(other.uuid, mirror.uuid);
}

/// Open vSwitch 3.4 has a column that 3.1 lacks: found at run time, and read where it is.
#[tokio::test]
async fn a_column_of_a_newer_server_is_found_and_read() {
    let schema = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    schema["version"] = "8.8.0".into();
    schema["tables"]["Mirror"]["columns"]["filter"] =
        serde_json::json!({"type": {"key": "string", "min": 0, "max": 1}});
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("newer.ovsschema");
    std::fs::write(&file, schema.to_string()).unwrap();
    let server = Server::start_with(&file);
    server.vsctl(&["--no-wait", "init"]);
    let switch = switch(&server);
    let root = switch.read(soon()).await.unwrap().uuid;
    let mut txn = Txn::new("test", "a mirror as 3.4 has it");
    let mirror =
        txn.insert("Mirror", [("name", Value::from("m")), ("filter", Value::optional(Some("icmp")))]);
    let bridge = txn.insert("Bridge", [("name", Value::from("br0")), ("mirrors", mirror.into())]);
    txn.mutate(Target::row("Open_vSwitch", root), [Mutation::insert("bridges", bridge)]);
    switch.session().commit(&txn, soon()).await.unwrap();
    let read = switch.read(soon()).await.unwrap();
    assert!(read.has.mirror_filter && read.schema_version == "8.8.0");
    assert_eq!(read.bridges["br0"].mirrors[0].filter.as_deref(), Some("icmp"));
}

#[tokio::test]
async fn a_change_is_done_only_when_vswitchd_has_carried_it_out() {
    let server = Server::start();
    let mut vswitchd = Vswitchd::start(&server);
    let switch = switch(&server);
    add_bridge(&switch, "br0", &["p0"]).await;
    let read = switch.read(soon()).await.unwrap();
    assert!(
        matches!(read.bridges["br0"].ports["p0"].interfaces[0].ofport, Ofport::Open(_)),
        "applied means open"
    );

    vswitchd.kill();
    let mut txn = Txn::new("test", "while ovs-vswitchd is down");
    let target = Target::row("Port", read.port("p0").unwrap().1.uuid);
    txn.update(target, [("tag", Value::from(7))]);
    let error = switch.apply(txn, Deadline::after(Duration::from_millis(300))).await.unwrap_err();
    let SwitchError::NotApplied { wanted, current, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*wanted, *current + 1);
    assert_eq!(error.class(), Class::Conflict);
    let read = switch.read(soon()).await.unwrap();
    assert_eq!(read.port("p0").unwrap().1.tag, Some(7), "accepted");
    assert!(!read.is_settled());

    let before = switch.read(soon()).await.unwrap().next_cfg;
    switch.apply(Txn::new("test", "nothing"), soon()).await.unwrap();
    assert_eq!(switch.read(soon()).await.unwrap().next_cfg, before, "an empty change writes nothing");

    vswitchd.launch();
    let settled = switch.session().wait_for("ovs-vswitchd catching up", soon(), |view| {
        portwright_ovs::vswitch::Vswitch::read(view).ok()?.is_settled().then_some(())
    });
    settled.await.unwrap();
}

#[tokio::test]
async fn a_bridge_whose_datapath_cannot_be_made_does_not_work() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    let switch = switch(&server);
    let root = switch.read(soon()).await.unwrap().uuid;
    let mut txn = Txn::new("test", "a bridge of a kind that is not there");
    let local = port(&mut txn, "br0", "internal", vec![]);
    let bridge = txn.insert(
        "Bridge",
        [("name", Value::from("br0")), ("datapath_type", "nonsense".into()), ("ports", local.into())],
    );
    txn.mutate(Target::row("Open_vSwitch", root), [Mutation::insert("bridges", bridge)]);
    switch.apply(txn, soon()).await.unwrap();
    let read = switch.read(soon()).await.unwrap();
    assert!(read.is_settled() && !read.bridges["br0"].works());
    assert_eq!(read.bridges["br0"].datapath_type, DatapathType::Other("nonsense".into()));
}

#[tokio::test]
async fn an_empty_database_is_named_as_such() {
    let server = Server::start_with(Path::new("/usr/share/openvswitch/vswitch.ovsschema"));
    let error = switch(&server).read(soon()).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("ovs-vsctl --no-wait init"));
}

#[tokio::test]
async fn ping_tells_which_daemon_is_dead_and_which_is_stuck() {
    let server = Server::start();
    let mut vswitchd = Vswitchd::start(&server);
    let switch = switch(&server);
    let (session, directory) = (switch.session(), server.path(""));
    let short = || Deadline::after(Duration::from_millis(200));

    let alive = ping(session, &directory, soon()).await;
    assert!(alive.is_alive(), "{alive:?}");
    assert_eq!(alive.ovsdb.unwrap().schema_version, "8.3.1");
    assert!(alive.vswitchd.unwrap().version.starts_with("ovs-vswitchd (Open vSwitch) "));

    vswitchd.signal(Signal::SIGSTOP);
    let stuck = ping(session, &directory, short()).await;
    assert!(stuck.ovsdb.is_ok() && matches!(stuck.vswitchd, Err(UnixctlError::TimedOut { .. })), "{stuck:?}");
    vswitchd.signal(Signal::SIGCONT);
    server.signal(Signal::SIGSTOP);
    let stuck = ping(session, &directory, short()).await;
    assert_eq!(stuck.ovsdb.unwrap_err().class(), Class::Retry);
    server.signal(Signal::SIGCONT);
    vswitchd.kill();
    let dead = ping(session, &directory, soon()).await;
    assert!(matches!(dead.vswitchd, Err(UnixctlError::Connect { .. })), "{dead:?}");
    std::fs::remove_file(vswitchd_socket(&directory)).unwrap();
    let dead = ping(session, &directory, soon()).await;
    assert!(matches!(dead.vswitchd, Err(UnixctlError::NotRunning { .. })) && !dead.is_alive(), "{dead:?}");
    vswitchd.launch();
    assert!(ping(session, &directory, soon()).await.is_alive());
    let nowhere = Unixctl::of_vswitchd(&directory.join("none")).await;
    assert!(matches!(nowhere, Err(UnixctlError::Directory { .. })));
}

fn vswitchd_socket(directory: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut sockets = entries.filter(|path| {
        path.to_str().unwrap().contains("ovs-vswitchd.") && path.extension().is_some_and(|end| end == "ctl")
    });
    sockets.next().unwrap()
}

#[tokio::test]
async fn commands_reach_vswitchd_and_refusals_come_back() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    add_bridge(&switch(&server), "br0", &[]).await;
    let control = Unixctl::of_vswitchd(&server.path("")).await.unwrap();
    control.flush_fdb("br0", soon()).await.unwrap();
    let error = control.flush_fdb("br9", soon()).await.unwrap_err();
    assert!(error.to_string().ends_with("no such bridge"), "{error}");
    let error = control.call("no/such", &[], soon()).await.unwrap_err();
    assert!(matches!(error, UnixctlError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_control_socket_that_misbehaves_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (answer, part)) in [
        ("garbage", "not JSON-RPC"),
        ("{\"id\":0,\"result\":", "the connection failed"),
        ("", "the connection failed"),
        ("{\"id\":0,\"result\":5}", "expected an answer with a text"),
        ("{\"id\":0,\"method\":\"x\",\"params\":[]}", "expected an answer with a text"),
        ("{\"id\":0,\"error\":\"no\\n\"}", ": no"),
        ("{\"id\":0,\"result\"]}", "not an answer"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(number.to_string());
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1000];
            let _length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let error = Unixctl::at(path).version(soon()).await.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {source}").contains(part), "{answer}: {error}: {source}");
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_probe_tells_a_working_mirror_from_a_dead_one() {
    let server = Server::start();
    let _vswitchd = Vswitchd::start(&server);
    let switch = switch(&server);
    let bridge = add_bridge(&switch, "br0", &["src", "out"]).await;
    add_bridge(&switch, "br1", &["elsewhere"]).await;
    let read = switch.read(soon()).await.unwrap();
    let uuid = |name: &str| read.port(name).unwrap().1.uuid;
    let mut txn = Txn::new("test", "two mirrors, one with its output on another bridge");
    let make = |txn: &mut Txn, name: &str, output: &str| {
        let owner = Datum::map([("portwright.dev/owner", "test")]);
        txn.insert(
            "Mirror",
            [
                ("name", Value::from(name)),
                ("select_src_port", uuid("src").into()),
                ("output_port", uuid(output).into()),
                ("external_ids", owner.into()),
            ],
        )
    };
    let (good, bad) = (make(&mut txn, "good", "out"), make(&mut txn, "bad", "elsewhere"));
    txn.mutate(Target::row("Bridge", bridge), [Mutation::insert("mirrors", Value::refs([good, bad]))]);
    let applied = switch.apply(txn, soon()).await.unwrap();
    let owned = |row| {
        let target = Target::row("Mirror", applied.committed.uuid(row).unwrap());
        target.includes("external_ids", Datum::map([("portwright.dev/owner", "test")]))
    };
    let (patience, deadline) = (read.statistics_interval(), Deadline::after(Duration::from_secs(20)));
    let (good_health, bad_health) = tokio::join!(
        switch.probe_mirror(owned(good), patience, deadline),
        switch.probe_mirror(owned(bad), patience, deadline)
    );
    assert!(matches!(good_health, Ok(MirrorHealth::Active { .. })), "{good_health:?}");
    assert!(matches!(bad_health, Ok(MirrorHealth::Inactive { .. })), "{bad_health:?}");
    let counters = switch.statistics(owned(good), soon()).await.unwrap();
    assert!(counters.contains_key("tx_packets"), "{counters:?}");
    let foreign = Target::row("Mirror", applied.committed.uuid(good).unwrap())
        .includes("external_ids", Datum::map([("portwright.dev/owner", "somebody else")]));
    assert_eq!(switch.probe_mirror(foreign, patience, deadline).await.unwrap_err().class(), Class::Conflict);
}
