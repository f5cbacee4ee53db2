//! The client on a healthy server.

use std::collections::BTreeMap;

use portwright_ovs::ovsdb::{
    Cause, Class, Datum, Error, Event, Link, LockName, LockState, Monitor, MonitorMethod, Mutation, Options,
    Session, Target, Txn, TxnError, Uuid, Value,
};

use crate::harness::proxy::{Mischief, Proxy};
use crate::harness::{Server, soon, within};

pub(crate) fn monitor() -> Monitor {
    Monitor::new("Open_vSwitch")
        .table("Open_vSwitch", &["bridges", "next_cfg", "cur_cfg", "other_config"], &[])
        .table("Bridge", &["name", "ports", "mirrors", "external_ids", "other_config", "flood_vlans"], &[])
        .table("Port", &["name", "interfaces", "tag", "trunks", "external_ids"], &[])
        .table("Interface", &["name", "type"], &[])
        .table("Mirror", &["name", "select_src_port", "output_port"], &["filter"])
}

pub(crate) fn session(server: &Server) -> Session {
    Session::start(server.remote(), monitor(), Options::default())
}

pub(crate) async fn root(session: &Session) -> Target {
    let view = session.synced(soon()).await.unwrap();
    let (uuid, _) = view.table("Open_vSwitch").unwrap().rows().next().unwrap();
    Target::row("Open_vSwitch", uuid)
}

/// Makes a bridge with ports in one transaction and gives its identity.
pub(crate) async fn add_bridge(session: &Session, name: &str, ports: &[&str]) -> Uuid {
    let (txn, bridge) = bridge_txn(root(session).await, name, ports);
    session.commit(&txn, soon()).await.unwrap().uuid(bridge).unwrap()
}

fn bridge_txn(root: Target, name: &str, ports: &[&str]) -> (Txn, portwright_ovs::ovsdb::NewRow) {
    let mut txn = Txn::new("test", "add a bridge");
    let mut rows = Vec::new();
    for port in ports {
        let interface = txn.insert("Interface", [("name", Value::from(*port))]);
        rows.push(txn.insert("Port", [("name", Value::from(*port)), ("interfaces", interface.into())]));
    }
    let bridge = txn.insert("Bridge", [("name", Value::from(name)), ("ports", Value::refs(rows))]);
    txn.mutate(root, [Mutation::insert("bridges", bridge)]);
    (txn, bridge)
}

#[tokio::test]
async fn what_a_commit_made_is_in_the_view_when_the_commit_returns() {
    let server = Server::start();
    let session = session(&server);
    // Names that would not be legal as they are, with everything that confuses a brace counter.
    let odd = "é☃ \"}{\\ i-1";
    let bridge = add_bridge(&session, odd, &["eth-0", "eth\"1"]).await;
    let view = session.state().view.clone().unwrap();
    let row = view.row("Bridge", bridge).unwrap();
    assert_eq!(row.get("name"), Some(&Datum::from(odd)));
    assert_eq!(row.get("ports").unwrap().len(), 2);
    assert_eq!(row.get("no such column"), None);
    assert_eq!(view.table("Interface").unwrap().find("name", "eth\"1").count(), 1);
    assert_eq!(server.vsctl(&["list-br"]).trim(), odd);
    assert_eq!(
        view.table("Mirror").unwrap().layout().columns().len(),
        3,
        "Mirror.filter is not in schema 8.3.1"
    );
}

#[tokio::test]
async fn sets_maps_and_optional_values_change_as_told() {
    let server = Server::start();
    let session = session(&server);
    let bridge = add_bridge(&session, "br0", &["p0"]).await;
    let view = session.synced(soon()).await.unwrap();
    let (port, _) = view.table("Port").unwrap().find("name", "p0").next().unwrap();
    let (on_port, on_bridge) = (Target::row("Port", port), Target::row("Bridge", bridge));
    let port_row = |column: &str| {
        session.state().view.as_ref().unwrap().row("Port", port).unwrap().get(column).unwrap().clone()
    };

    let mut txn = Txn::new("test", "values");
    txn.update(on_port.clone(), [("tag", Value::from(5)), ("trunks", Datum::set([1, 2, 3]).into())]);
    txn.mutate(
        on_port.clone(),
        [Mutation::put("external_ids", "a", "1"), Mutation::put("external_ids", "b", "2")],
    );
    session.commit(&txn, soon()).await.unwrap();
    assert_eq!((port_row("tag"), port_row("trunks")), (Datum::from(5), Datum::set([1, 2, 3])));

    let mut txn = Txn::new("test", "parts");
    txn.update(on_port.clone(), [("tag", Value::optional(Some(7)))]);
    txn.mutate(
        on_port.clone(),
        [
            Mutation::remove("trunks", Datum::from(2)),
            Mutation::insert("trunks", Datum::from(9)),
            Mutation::put("external_ids", "a", "overwritten"),
            Mutation::remove_keys("external_ids", ["b", "never there"]),
        ],
    );
    txn.read(on_port.clone(), &["external_ids", "tag"]);
    let committed = session.commit(&txn, soon()).await.unwrap();
    assert_eq!((port_row("tag"), port_row("trunks")), (Datum::from(7), Datum::set([1, 3, 9])));
    assert_eq!(port_row("external_ids"), Datum::map([("a", "overwritten")]));
    assert_eq!(committed.reads()[0][0].get("tag"), Some(&Datum::from(7)));

    let mut txn = Txn::new("test", "empty");
    txn.update(on_port, [("tag", Value::optional(None::<i64>)), ("trunks", Datum::empty_set().into())]);
    txn.update(
        on_bridge,
        [("other_config", Value::from(&BTreeMap::from([("k".to_owned(), "v".to_owned())])))],
    );
    session.commit(&txn, soon()).await.unwrap();
    assert_eq!((port_row("tag"), port_row("trunks")), (Datum::empty_set(), Datum::empty_set()));
}

#[tokio::test]
async fn a_transaction_that_believes_something_wrong_changes_nothing() {
    let server = Server::start();
    let session = session(&server);
    let bridge = add_bridge(&session, "br0", &["p0"]).await;
    let on_bridge = Target::row("Bridge", bridge);
    let owned = on_bridge.clone().includes("external_ids", Datum::map([("owner", "us")]));
    let gone = Target::row("Bridge", "8206b002-af40-4ad9-aef3-cb451e15921b".parse().unwrap());

    for (what, target) in [("not ours", owned.clone()), ("gone", gone)] {
        let mut txn = Txn::new("test", what);
        txn.update(on_bridge.clone(), [("other_config", Datum::map([("x", "y")]).into())]);
        txn.mutate(target, [Mutation::put("external_ids", "k", "v")]);
        let error = session.commit(&txn, soon()).await.unwrap_err();
        assert!(matches!(error, Error::GuardFailed { .. }), "{what}: {error}");
        assert_eq!(error.class(), Class::Conflict);
    }
    let mut txn = Txn::new("test", "another name");
    txn.guard(on_bridge.clone(), [("name", Value::from("br1"))]);
    txn.update(on_bridge.clone(), [("other_config", Datum::map([("x", "y")]).into())]);
    let error = session.commit(&txn, soon()).await.unwrap_err();
    assert!(error.to_string().contains("name = \"br1\" no longer holds"), "{error}");
    let row = session.state().view.as_ref().unwrap().row("Bridge", bridge).unwrap().clone();
    assert_eq!(row.get("other_config"), Some(&Datum::empty_map()));

    let mut txn = Txn::new("test", "take ownership");
    txn.mutate(
        on_bridge.excludes("external_ids", Datum::map([("owner", "us")])),
        [Mutation::put("external_ids", "owner", "us")],
    );
    session.commit(&txn, soon()).await.unwrap();
    let mut txn = Txn::new("test", "now it is ours");
    txn.mutate(owned, [Mutation::put("external_ids", "k", "v")]);
    session.commit(&txn, soon()).await.unwrap();
}

#[tokio::test]
async fn refusals_have_a_class_and_say_what_was_refused() {
    let server = Server::start();
    let session = session(&server);
    let bridge = Target::row("Bridge", add_bridge(&session, "br0", &["p0"]).await);
    let view = session.synced(soon()).await.unwrap();
    let (port, _) = view.table("Port").unwrap().find("name", "p0").next().unwrap();
    let port = Target::row("Port", port);
    let txn = |build: &dyn Fn(&mut Txn)| {
        let mut txn = Txn::new("test", "refused");
        build(&mut txn);
        txn
    };
    let cases: [(Txn, Class, &str); 8] = [
        (
            txn(&|txn| txn.update(port.clone(), [("tag", Value::from(5000))])),
            Class::Permanent,
            "not in the valid range",
        ),
        (txn(&|txn| txn.delete(port.clone())), Class::Conflict, "cannot delete Port row"),
        (bridge_txn(root(&session).await, "br0", &[]).0, Class::Permanent, "index on column"),
        (
            txn(&|txn| txn.update(port.clone(), [("name", Value::from("p1"))])),
            Class::Permanent,
            "cannot be changed",
        ),
        (
            txn(&|txn| txn.update(port.clone(), [("tag", Value::from("five"))])),
            Class::Permanent,
            "column's type",
        ),
        (
            txn(&|txn| txn.update(bridge.clone(), [("filter", Value::from("x"))])),
            Class::Permanent,
            "no column filter in table Bridge",
        ),
        (
            txn(&|txn| {
                txn.insert("Nothing", [("a", Value::from(1))]);
            }),
            Class::Permanent,
            "no table Nothing",
        ),
        (txn(&|txn| txn.require_lock(&"not_held".parse().unwrap())), Class::Conflict, "is not ours"),
    ];
    for (txn, class, part) in cases {
        let error = session.commit(&txn, soon()).await.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {source}").contains(part), "{error}: {source}");
        assert_eq!(error.class(), class, "{error}");
    }
    let error = session
        .commit(
            &{
                let root = root(&session).await;
                txn(&|txn| txn.delete(root.clone()))
            },
            soon(),
        )
        .await;
    let Err(Error::Txn { source: TxnError::DeletesRoot { .. } }) = error else { panic!("{error:?}") };
    assert_eq!(server.vsctl(&["list-br"]).trim(), "br0");
}

#[tokio::test]
async fn a_dry_run_finds_errors_and_changes_nothing() {
    let server = Server::start();
    let session = session(&server);
    let (txn, bridge) = bridge_txn(root(&session).await, "br0", &["p0"]);
    let outcome = session.dry_run(&txn, soon()).await.unwrap();
    assert!(outcome.uuid(bridge).is_some());
    assert_eq!(server.vsctl(&["list-br"]), "");
    let port = Target::row("Port", Uuid::ZERO);
    let mut wrong = Txn::new("test", "wrong");
    wrong.update(port, [("tag", Value::from(1))]);
    assert_eq!(session.dry_run(&wrong, soon()).await.unwrap_err().class(), Class::Conflict);
}

#[tokio::test]
async fn comments_are_in_the_log_and_durable_commits_answer() {
    let server = Server::start();
    let session = session(&server);
    let (mut txn, _) = bridge_txn(root(&session).await, "br0", &[]);
    txn.make_durable();
    session.commit(&txn, soon()).await.unwrap();
    let log =
        crate::harness::run("ovsdb-tool", &["show-log", server.path("conf.db").to_str().unwrap()], None);
    assert!(log.contains("test: add a bridge"), "{log}");
}

#[tokio::test]
async fn listeners_hear_every_change_in_order() {
    let server = Server::start();
    let session = session(&server);
    let mut changes = session.changes();
    let bridge = add_bridge(&session, "br0", &["p0"]).await;
    let mut heard = Vec::new();
    while !heard.contains(&"Update Open_vSwitch old new".to_owned()) {
        let Some(Event::Changed(batch)) = within(changes.next()).await else { panic!("nothing heard") };
        for change in &batch.changes {
            let part = |there: bool, text| if there { text } else { "-" };
            let (old, new) = (part(change.old.is_some(), "old"), part(change.new.is_some(), "new"));
            heard.push(format!("{:?} {} {old} {new}", batch.cause, change.table()));
        }
    }
    let first = if heard[0].starts_with("First") { 1 } else { 0 };
    assert_eq!(
        heard[first..],
        ["Update Bridge - new", "Update Interface - new", "Update Open_vSwitch old new", "Update Port - new"]
    );
    let mut txn = Txn::new("test", "remove");
    txn.mutate(root(&session).await, [Mutation::remove("bridges", bridge)]);
    session.commit(&txn, soon()).await.unwrap();
    let Some(Event::Changed(batch)) = within(changes.next()).await else { panic!("nothing heard") };
    assert_eq!(batch.cause, Cause::Update);
    assert_eq!(batch.changes.iter().filter(|change| change.new.is_none()).count(), 3);
    assert_eq!(batch.changes[0].row().unwrap().get("name"), Some(&Datum::from("br0")));
}

#[tokio::test]
async fn older_monitor_methods_give_the_same_view() {
    let server = Server::start();
    let known: [(&'static [&'static str], MonitorMethod); 3] = [
        (&[], MonitorMethod::MonitorCondSince),
        (&["monitor_cond_since", "get_server_id", "set_db_change_aware"], MonitorMethod::MonitorCond),
        (&["monitor_cond_since", "monitor_cond"], MonitorMethod::Monitor),
    ];
    let direct = session(&server);
    add_bridge(&direct, "before", &["p0"]).await;
    let directory = tempfile::tempdir().unwrap();
    for (number, (unknown, method)) in known.into_iter().enumerate() {
        let mischief = Mischief { unknown, crumbs: true, ..Mischief::default() };
        let proxy = Proxy::start(directory.path(), &number.to_string(), &server.path("db.sock"), mischief);
        let through = Session::start(proxy.remote(), monitor(), Options::default());
        through.synced(soon()).await.unwrap();
        let bridge = add_bridge(&direct, &format!("br{number}"), &[&format!("p1{number}")]).await;
        let mut txn = Txn::new("test", "change and delete");
        txn.mutate(
            Target::row("Bridge", bridge),
            [Mutation::put("external_ids", "a", "b"), Mutation::insert("flood_vlans", Datum::set([3, 4]))],
        );
        direct.commit(&txn, soon()).await.unwrap();
        let mut txn = Txn::new("test", "change and delete");
        txn.mutate(
            Target::row("Bridge", bridge),
            [Mutation::remove("flood_vlans", Datum::from(3)), Mutation::put("external_ids", "done", "1")],
        );
        txn.update(Target::row("Bridge", bridge), [("ports", Value::refs(Vec::<Uuid>::new()))]);
        direct.commit(&txn, soon()).await.unwrap();
        let expected = format!("{:?}", direct.state().view.as_ref().unwrap().tables().collect::<Vec<_>>());
        let same = through.wait_for("the same view", soon(), |view| {
            (format!("{:?}", view.tables().collect::<Vec<_>>()) == expected).then_some(())
        });
        same.await.unwrap();
        assert!(matches!(&through.state().link, Link::Up { method: used, .. } if *used == method));
    }
}

#[tokio::test]
async fn calls_overlap_and_echo_is_answered() {
    let server = Server::start();
    let session = session(&server);
    session.echo(soon()).await.unwrap();
    assert_eq!(session.list_dbs(soon()).await.unwrap(), ["Open_vSwitch", "_Server"]);
    let calls: Vec<_> = (0..2000)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(
                async move { session.select("Open_vSwitch", &["next_cfg"], soon()).await.unwrap().len() },
            )
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_lock_has_one_holder() {
    let server = Server::start();
    let (first, second) = (session(&server), session(&server));
    first.synced(soon()).await.unwrap();
    for wrong in ["", "a-b", "1a", "é"] {
        assert!(wrong.parse::<LockName>().is_err(), "{wrong}");
    }
    let name: LockName = "one".parse().unwrap();
    let mut mine = first.lock(&name, soon()).await.unwrap();
    assert!(within(mine.reached(LockState::Held)).await);
    let mut theirs = second.lock(&name, soon()).await.unwrap();
    second.echo(soon()).await.unwrap();
    assert_eq!(theirs.state(), LockState::Waiting);
    let mut txn = Txn::new("test", "with the lock");
    txn.require_lock(&name);
    let error = second.commit(&txn, soon()).await.unwrap_err();
    assert!(matches!(error, Error::LockNotHeld { .. }), "{error}");
    first.commit(&txn, soon()).await.unwrap();
    first.unlock(mine).await;
    assert!(within(theirs.reached(LockState::Held)).await);
    second.commit(&txn, soon()).await.unwrap();
    // A third client takes it by force.
    let mut thief = std::process::Command::new("ovsdb-client")
        .args(["steal", &server.remote().to_string(), "one"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(within(theirs.reached(LockState::Stolen)).await);
    thief.kill().unwrap();
    thief.wait().unwrap();
    assert!(within(theirs.reached(LockState::Held)).await);
}

#[tokio::test]
async fn a_schema_that_lacks_what_we_need_is_said_clearly() {
    let server = Server::start();
    let monitor = Monitor::new("Open_vSwitch").table("Mirror", &["filter"], &[]);
    let session = Session::start(server.remote(), monitor, crate::harness::quick());
    let error = session
        .synced(portwright_ovs::ovsdb::Deadline::after(std::time::Duration::from_millis(300)))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(inner) = cause {
        text.push_str(&format!("{inner}; "));
        cause = inner.source();
    }
    assert!(text.contains("schema 8.3.1) has no column filter in table Mirror"), "{text}");
}
