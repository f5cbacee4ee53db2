//! Servers that go away, hang, forget, or change their schema (the faults of the operating guide).

use std::time::Duration;

use nix::sys::signal::Signal;
use portwright_ovs::ovsdb::{
    Cause, Class, Deadline, Error, Event, Link, LinkError, LockName, LockState, Monitor, Mutation, Options,
    Session, Txn, Value,
};

use crate::client::{add_bridge, monitor, root};
use crate::harness::{Server, quick, run, soon, within};

fn server_id(session: &Session) -> Option<String> {
    match &session.state().link {
        Link::Up { server_id, .. } => server_id.clone(),
        Link::Down { .. } => None,
    }
}

async fn until(session: &Session, is_down: impl Fn(&Link) -> bool) {
    let mut session = session.clone();
    let wait = async {
        while !is_down(&session.state().link) {
            assert!(session.state_changed().await);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
}

fn broke_by(link: &Link, kind: impl Fn(&LinkError) -> bool) -> bool {
    matches!(link, Link::Down { why: Some(why), .. } if kind(why))
}

#[tokio::test]
async fn a_restart_is_survived_and_what_changed_meanwhile_is_told() {
    let mut server = Server::start();
    let session = Session::start(server.remote(), monitor(), quick());
    add_bridge(&session, "stays", &["p0"]).await;
    add_bridge(&session, "goes", &["p1"]).await;
    let name: LockName = "ours".parse().unwrap();
    let mut lock = session.lock(&name, soon()).await.unwrap();
    assert!(within(lock.reached(LockState::Held)).await);
    let (before, mut changes) = (server_id(&session), session.changes());

    server.kill();
    until(&session, |link| !link.is_up()).await;
    assert_eq!(lock.state(), LockState::Waiting);
    assert_eq!(
        session.state().view.as_ref().unwrap().table("Bridge").unwrap().len(),
        2,
        "the old view stays"
    );
    let error = session.echo(Deadline::after(Duration::from_millis(200))).await.unwrap_err();
    assert!(matches!(error, Error::NotConnected { source: Some(_), .. }), "{error:?}");

    server.launch();
    server.vsctl(&["--no-wait", "del-br", "goes", "--", "add-br", "comes"]);
    assert!(within(lock.reached(LockState::Held)).await);
    let see = session.wait_for("the new bridge", soon(), |view| {
        let bridges = view.table("Bridge")?;
        (bridges.find("name", "comes").count() == 1 && bridges.len() == 2).then_some(())
    });
    see.await.unwrap();
    assert_ne!(server_id(&session), before);

    // Nothing is told twice and nothing is left out, however the snapshot and the change fell together.
    let (mut names, mut resyncs) = (Vec::new(), 0);
    while names.len() < 2 {
        let Some(Event::Changed(batch)) = within(changes.next()).await else { panic!("nothing heard") };
        resyncs += usize::from(batch.cause == Cause::Resync);
        for change in batch.changes.iter().filter(|change| change.table() == "Bridge") {
            let name =
                change.row().unwrap().get("name").unwrap().scalar().unwrap().as_str().unwrap().to_owned();
            names.push(format!("{}{name}", if change.new.is_some() { '+' } else { '-' }));
        }
    }
    names.sort();
    assert_eq!(names, ["+comes", "-goes"]);
    assert!(resyncs <= 1);
}

#[tokio::test]
async fn a_call_that_was_cut_off_says_whether_it_may_have_happened() {
    let mut server = Server::start();
    let session = Session::start(server.remote(), monitor(), quick());
    let root = root(&session).await;
    server.signal(Signal::SIGSTOP);
    let mut txn = Txn::new("test", "unknown");
    txn.mutate(root.clone(), [Mutation::add("next_cfg", 1)]);
    let error = session.commit(&txn, Deadline::after(Duration::from_millis(100))).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { source: None, .. }), "{error:?}");
    assert_eq!(error.class(), Class::Conflict);
    let error = session.echo(Deadline::after(Duration::from_millis(100))).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let (writer, reader) = (session.clone(), session.clone());
    let cut = tokio::spawn(async move { writer.commit(&txn, soon()).await });
    let reading = tokio::spawn(async move { reader.echo(soon()).await });
    for _ in 0..100 {
        // One thread: after this both calls are with the server, which will not look at them.
        tokio::task::yield_now().await;
    }
    server.kill();
    let (cut, reading) = (cut.await.unwrap(), reading.await.unwrap());
    let (cut, reading) = (cut.unwrap_err(), reading.unwrap_err());
    assert!(matches!(cut, Error::OutcomeUnknown { source: Some(_), .. }), "{cut:?}");
    assert!(matches!(reading, Error::ConnectionLost { .. }), "{reading:?}");
    assert_eq!(reading.class(), Class::Retry);
}

#[tokio::test]
async fn a_hung_server_is_noticed_and_used_again_when_it_wakes() {
    let server = Server::start();
    let options = Options {
        probe_interval: Duration::from_millis(100),
        greeting_timeout: Duration::from_millis(200),
        ..quick()
    };
    let session = Session::start(server.remote(), monitor(), options);
    session.synced(soon()).await.unwrap();
    server.signal(Signal::SIGSTOP);
    until(&session, |link| broke_by(link, |why| matches!(why, LinkError::Silent { .. }))).await;
    until(&session, |link| broke_by(link, |why| matches!(why, LinkError::Greeting { .. }))).await;
    server.signal(Signal::SIGCONT);
    add_bridge(&session, "after", &[]).await;
    assert_eq!(server.vsctl(&["list-br"]).trim(), "after");
}

#[tokio::test]
async fn an_idle_connection_stays_up_through_its_probes() {
    let server = Server::start();
    let options = Options { probe_interval: Duration::from_millis(300), ..quick() };
    let session = Session::start(server.remote(), monitor(), options);
    session.synced(soon()).await.unwrap();
    stays_up(&session, Duration::from_millis(1500)).await;
}

/// Nothing happens to an idle session for that long; a lost connection would be a change of state.
async fn stays_up(session: &Session, time: Duration) {
    let mut session = session.clone();
    while tokio::time::timeout(Duration::ZERO, session.state_changed()).await.is_ok() {}
    let quiet = tokio::time::timeout(time, session.state_changed()).await;
    assert!(quiet.is_err() && session.state().link.is_up(), "{:?}", session.state().link);
}

#[tokio::test]
async fn a_wiped_database_shows_as_removed_rows() {
    let mut server = Server::start();
    let session = Session::start(server.remote(), monitor(), quick());
    add_bridge(&session, "br0", &["p0"]).await;
    let before = session.state().view.clone().unwrap();
    server.kill();
    server.wipe();
    server.launch();
    server.vsctl(&["--no-wait", "init"]);
    let see = session.wait_for("the new root", soon(), |view| {
        let (new, _) = view.table("Open_vSwitch")?.rows().next()?;
        before.row("Open_vSwitch", new).is_none().then(|| view.table("Bridge").map_or(1, |table| table.len()))
    });
    assert_eq!(see.await.unwrap(), 0);
    // A transaction made for the old root touches nothing.
    let (old_root, _) = before.table("Open_vSwitch").unwrap().rows().next().unwrap();
    let mut txn = Txn::new("test", "late");
    txn.mutate(portwright_ovs::ovsdb::Target::row("Open_vSwitch", old_root), [Mutation::add("next_cfg", 1)]);
    assert_eq!(session.commit(&txn, soon()).await.unwrap_err().class(), Class::Conflict);
}

#[tokio::test]
async fn an_online_schema_change_keeps_connection_and_open_calls() {
    let server = Server::start();
    let session = Session::start(server.remote(), monitor(), quick());
    add_bridge(&session, "br0", &["p0"]).await;
    let (before, mut changes) = (server_id(&session), session.changes());

    let text = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    schema["version"] = "8.8.0".into();
    schema["tables"]["Mirror"]["columns"]["filter"] =
        serde_json::json!({"type": {"key": "string", "min": 0, "max": 1}});
    std::fs::write(server.path("new.ovsschema"), schema.to_string()).unwrap();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    session.echo(soon()).await.unwrap();
                }
            })
        })
        .collect();
    let (remote, path) = (server.remote().to_string(), server.path("new.ovsschema"));
    let convert = tokio::task::spawn_blocking(move || {
        run("ovsdb-client", &["convert", &remote, path.to_str().unwrap()], None)
    });
    convert.await.unwrap();
    for call in calls {
        call.await.unwrap();
    }
    let see = session.wait_for("the new schema", soon(), |view| {
        (view.schema().version == "8.8.0").then(|| view.table("Mirror").unwrap().layout().columns().len())
    });
    assert_eq!(see.await.unwrap(), 4, "Mirror.filter is followed now");
    assert_eq!(server_id(&session), before, "the connection stayed");
    let view = session.state().view.clone().unwrap();
    assert_eq!(view.table("Bridge").unwrap().find("name", "br0").count(), 1);
    let mut txn = Txn::new("test", "use the new column");
    let mirror = txn.insert("Mirror", [("name", Value::from("m")), ("filter", Value::from("icmp"))]);
    let (bridge, _) = view.table("Bridge").unwrap().find("name", "br0").next().unwrap();
    txn.mutate(portwright_ovs::ovsdb::Target::row("Bridge", bridge), [Mutation::insert("mirrors", mirror)]);
    session.commit(&txn, soon()).await.unwrap();
    let Some(Event::Changed(_)) = within(changes.next()).await else { panic!("nothing heard") };
}

#[tokio::test]
async fn nobody_there_is_said_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    for (remote, part) in [
        (format!("unix:{}", directory.path().join("none.sock").display()), "No such file"),
        (format!("unix:{}", directory.path().join("x".repeat(200)).display()), "path must be shorter"),
        ("tcp:127.0.0.1:1".to_owned(), "refused"),
    ] {
        let session = Session::start(remote.parse().unwrap(), Monitor::new("Open_vSwitch"), quick());
        let error = session.synced(Deadline::after(Duration::from_millis(100))).await.unwrap_err();
        let Error::NotConnected { source: Some(why), .. } = &error else { panic!("{error:?}") };
        let LinkError::Connect { source, .. } = &**why else { panic!("{why:?}") };
        assert!(source.to_string().contains(part), "{source}");
        assert!(error.to_string().contains(&remote), "{error}");
    }
}

#[tokio::test]
async fn tcp_works_too() {
    let server = Server::start();
    server.appctl("ovsdb.ctl", &["ovsdb-server/add-remote", "ptcp:0:127.0.0.1"]);
    let session = Session::start(tcp(&server).await, monitor(), quick());
    add_bridge(&session, "br0", &["p0"]).await;
    assert_eq!(server.vsctl(&["list-br"]).trim(), "br0");
}

#[tokio::test]
async fn the_echo_of_a_tcp_server_is_answered() {
    let server = Server::start();
    server.appctl("ovsdb.ctl", &["ovsdb-server/add-remote", "db:Open_vSwitch,Open_vSwitch,manager_options"]);
    let manager = "--no-wait -- --id=@m create manager target=\"ptcp:0:127.0.0.1\" inactivity_probe=1000 \
                   -- set open_vswitch . manager_options=@m";
    server.vsctl(&manager.split_whitespace().collect::<Vec<_>>());
    let options = Options { probe_interval: Duration::from_secs(60), ..quick() };
    let session = Session::start(tcp(&server).await, monitor(), options);
    session.synced(soon()).await.unwrap();
    // The server asks after one interval, of at least a second, and ends the connection after the next.
    stays_up(&session, Duration::from_millis(3500)).await;
}

/// Where the server listens for TCP; it looks into its database for that now and then.
async fn tcp(server: &Server) -> portwright_ovs::ovsdb::Remote {
    let look = async {
        loop {
            let log = std::fs::read_to_string(server.path("ovsdb-server.log")).unwrap();
            if let Some((_, port)) = log.rsplit_once("listening on port ") {
                return format!("tcp:127.0.0.1:{}", port.lines().next().unwrap()).parse().unwrap();
            }
            server.appctl("ovsdb.ctl", &["ovsdb-server/list-remotes"]);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.unwrap()
}

#[tokio::test]
async fn a_session_that_follows_nothing_can_read_and_write() {
    let server = Server::start();
    let session = Session::start(server.remote(), Monitor::new("Open_vSwitch"), quick());
    let rows = session.select("Open_vSwitch", &["_uuid", "next_cfg"], soon()).await.unwrap();
    let uuid = rows[0].get("_uuid").unwrap().scalar().unwrap().as_uuid().unwrap();
    let mut txn = Txn::new("test", "without a copy");
    txn.mutate(portwright_ovs::ovsdb::Target::row("Open_vSwitch", uuid), [Mutation::add("next_cfg", 1)]);
    session.commit(&txn, soon()).await.unwrap();
    assert_eq!(session.state().view.as_ref().unwrap().tables().count(), 0);
}

#[tokio::test]
async fn a_dropped_lock_is_given_back_without_being_asked() {
    let server = Server::start();
    let options = Options { probe_interval: Duration::from_millis(50), ..quick() };
    let first = Session::start(server.remote(), Monitor::new("Open_vSwitch"), options);
    let second = Session::start(server.remote(), Monitor::new("Open_vSwitch"), quick());
    let name: LockName = "one".parse().unwrap();
    let mut mine = first.lock(&name, soon()).await.unwrap();
    assert!(within(mine.reached(LockState::Held)).await);
    let mut theirs = second.lock(&name, soon()).await.unwrap();
    drop(mine);
    assert!(within(theirs.reached(LockState::Held)).await);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let mut server = Server::start();
    server.kill();
    let small = server.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Mounted::tmpfs(&small, "256k");
    std::fs::copy(server.path("conf.db"), small.join("conf.db")).unwrap();
    std::fs::remove_file(server.path("conf.db")).unwrap();
    std::os::unix::fs::symlink(small.join("conf.db"), server.path("conf.db")).unwrap();
    server.launch();
    let session = Session::start(server.remote(), monitor(), quick());
    add_bridge(&session, "before", &[]).await;
    // What is left of the disk is filled by something else.
    let filler = small.join("filler");
    drop(std::fs::write(&filler, vec![0_u8; 1 << 20]));
    let root = root(&session).await;
    let mut txn = Txn::new("test", &"long ".repeat(2000));
    txn.mutate(root, [Mutation::add("next_cfg", 1)]);
    let error = session.commit(&txn, soon()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { tag, .. } if tag == "I/O error"), "{error}");
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(session.select("Bridge", &["name"], soon()).await.unwrap().len(), 1, "still readable");
    std::fs::remove_file(filler).unwrap();
    session.commit(&txn, soon()).await.unwrap();
    drop(session);
    server.kill();
    drop(mount);
}

struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(path: &std::path::Path, size: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", path.to_str().unwrap()], None);
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
