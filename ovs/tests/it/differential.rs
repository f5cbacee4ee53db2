//! Thousands of random transactions by several clients whose connections keep breaking: in the end every copy must
//! be what `ovsdb-client dump` shows. The schema has columns of every kind and knows nothing of bridges.

use std::collections::BTreeMap;
use std::sync::Arc;

use portwright_ovs::ovsdb::{
    Atom, Class, Datum, Event, Monitor, Mutation, Options, Session, Target, Txn, Uuid, Value, View,
};
use serde_json::{Value as Json, json};

use crate::harness::proxy::{Mischief, Proxy};
use crate::harness::{Server, quick, soon, within};

const CLIENTS: u64 = 5;
const TRANSACTIONS: u64 = 2_000;
const COLUMNS: [&str; 10] =
    ["num", "flag", "text", "opt", "real", "nums", "reals", "texts", "ids", "friends"];

fn schema() -> Json {
    let set = |kind: &str| json!({"type": {"key": kind, "min": 0, "max": "unlimited"}});
    let optional = |kind: &str| json!({"type": {"key": kind, "min": 0, "max": 1}});
    let columns = json!({
        "num": {"type": "integer"}, "flag": {"type": "boolean"}, "text": {"type": "string"},
        "opt": optional("integer"), "real": {"type": "real"},
        "nums": set("integer"), "reals": set("real"),
        "texts": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        "ids": {"type": {"key": "integer", "value": "boolean", "min": 0, "max": "unlimited"}},
        "friends": {"type": {"key": {"type": "uuid", "refTable": "Thing", "refType": "weak"}, "min": 0, "max": "unlimited"}},
    });
    json!({"name": "Zoo", "version": "1.0.0", "tables": {"Thing": {"columns": columns, "isRoot": true}}})
}

fn monitor() -> Monitor {
    Monitor::new("Zoo").table("Thing", &COLUMNS, &[])
}

/// Marsaglia's xorshift; the seed is in the failure message because it is the client's number.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn integer(&mut self) -> i64 {
        self.below(6) as i64 - 3
    }

    fn text(&mut self) -> &'static str {
        ["", "a", "é\"\\", "}{", "\u{1}\n", "long long long"][self.below(6) as usize]
    }

    fn real(&mut self) -> Atom {
        Atom::Real([0.0, 1.0, -2.5, 1e300][self.below(4) as usize])
    }

    fn many<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn value(&mut self, column: &str, rows: &[Uuid]) -> Value {
        match column {
            "num" => self.integer().into(),
            "flag" => (self.below(2) == 0).into(),
            "text" => self.text().into(),
            "opt" => Value::optional((self.below(2) == 0).then(|| self.integer())),
            "real" => Value::Datum(self.real().into()),
            "nums" => Value::Datum(Datum::set(self.many(Self::integer))),
            "reals" => Value::Datum(Datum::set(self.many(Self::real))),
            "texts" => Value::Datum(Datum::map(self.many(|random| (random.text(), random.text())))),
            "ids" => Value::Datum(Datum::map(self.many(|random| (random.integer(), random.below(2) == 0)))),
            _ => Value::refs(self.many(|random| rows[random.below(rows.len() as u64) as usize])),
        }
    }

    fn mutation(&mut self, rows: &[Uuid]) -> Mutation {
        let column = ["nums", "reals", "texts", "ids", "friends"][self.below(5) as usize];
        match self.below(5) {
            0 => Mutation::add("num", self.integer()),
            1 => Mutation::put("texts", self.text(), self.text()),
            2 => Mutation::remove_keys("ids", self.many(Self::integer)),
            3 => Mutation::insert(column, self.value(column, rows)),
            _ => Mutation::remove(column, self.value(column, rows)),
        }
    }

    fn txn(&mut self, view: &View) -> Txn {
        let rows: Vec<Uuid> = view.table("Thing").unwrap().rows().map(|(uuid, _)| uuid).collect();
        let mut txn = Txn::new("test", "random");
        for _ in 0..=self.below(3) {
            let target = rows
                .get(self.below(rows.len().max(1) as u64) as usize)
                .map(|uuid| Target::row("Thing", *uuid));
            let (action, column) = (self.below(8), COLUMNS[self.below(10) as usize]);
            match (action, target) {
                (0, Some(target)) if rows.len() > 20 => txn.delete(target),
                (0..=3, Some(target)) => txn.update(target, [(column, self.value(column, &rows))]),
                (4..=6, Some(target)) => txn.mutate(target, [self.mutation(&rows), self.mutation(&rows)]),
                _ if rows.len() < 60 => {
                    let friend = txn.insert("Thing", [("text", Value::from("new"))]);
                    let columns = [("friends", friend.into()), ("num", self.integer().into())];
                    txn.insert("Thing", columns);
                }
                _ => {}
            }
        }
        txn
    }
}

/// Commits as many transactions as it is told; how many happened depends on what the others did.
async fn client(session: Session, seed: u64) -> (u64, u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 32) ^ seed);
    let (mut done, mut conflicts) = (0, 0);
    for _ in 0..TRANSACTIONS {
        let view = session.synced(soon()).await.unwrap();
        let txn = random.txn(&view);
        drop(view);
        match session.commit(&txn, soon()).await {
            Ok(_) => done += 1,
            // Others were faster, or the connection broke.
            Err(error) if matches!(error.class(), Class::Conflict | Class::Retry) => conflicts += 1,
            Err(error) => panic!("client {seed}: {error:?}"),
        }
    }
    (done, conflicts)
}

/// A copy that is built from nothing but events.
async fn follow(session: Session) -> BTreeMap<Uuid, String> {
    let mut changes = session.changes();
    let mut rows = BTreeMap::new();
    let mut generation = 0;
    loop {
        match changes.next().await {
            Some(Event::Changed(batch)) => {
                assert_eq!(batch.generation.max(generation), batch.generation);
                generation = batch.generation;
                for change in &batch.changes {
                    let shown = |row: &Option<Arc<_>>| row.as_ref().map(|row| format!("{row:?}"));
                    assert_eq!(
                        rows.get(&change.uuid).cloned(),
                        shown(&change.old),
                        "old row of {}",
                        change.uuid
                    );
                    match shown(&change.new) {
                        Some(new) => rows.insert(change.uuid, new),
                        None => rows.remove(&change.uuid),
                    };
                }
                if batch.changes.iter().any(|change| is_end(change.new.as_deref())) {
                    return rows;
                }
            }
            Some(Event::Missed { .. }) | None => panic!("events were lost"),
        }
    }
}

fn is_end(row: Option<&portwright_ovs::ovsdb::Row>) -> bool {
    row.and_then(|row| row.get("text")?.scalar()?.as_str()) == Some("the end")
}

fn dumped(server: &Server) -> Rows {
    let tables = server.dump("Zoo");
    let headings: Vec<String> = serde_json::from_value(tables[0]["headings"].clone()).unwrap();
    let rows: Vec<Vec<Datum>> = serde_json::from_value(tables[0]["data"].clone()).unwrap();
    rows.into_iter()
        .map(|row| {
            let mut columns: BTreeMap<String, Datum> = headings.iter().cloned().zip(row).collect();
            let uuid = columns.remove("_uuid").unwrap();
            (uuid.scalar().unwrap().as_uuid().unwrap(), columns)
        })
        .collect()
}

fn copied(view: &View) -> Rows {
    let table = view.table("Thing").unwrap();
    table
        .rows()
        .map(|(uuid, row)| {
            (uuid, row.columns().map(|(name, datum)| (name.to_owned(), datum.clone())).collect())
        })
        .collect()
}

type Rows = BTreeMap<Uuid, BTreeMap<String, Datum>>;

/// Each column that is not the same on both sides.
fn differences(ours: &Rows, theirs: &Rows) -> Vec<String> {
    let mut found = Vec::new();
    for uuid in ours.keys().chain(theirs.keys()) {
        for column in COLUMNS {
            let (a, b) = (ours.get(uuid).map(|row| &row[column]), theirs.get(uuid).map(|row| &row[column]));
            if a != b {
                found.push(format!("{uuid} {column}: ours {a:?}, theirs {b:?}"));
            }
        }
    }
    found
}

/// Reals that are whole numbers come without a point from the tool.
fn normalised(rows: Rows, view: &View) -> Rows {
    let columns: BTreeMap<_, _> = view.table("Thing").unwrap().layout().columns().iter().cloned().collect();
    let conform = |(name, datum): (String, Datum)| {
        let datum = columns[&name].conform(datum).unwrap();
        (name, datum)
    };
    rows.into_iter().map(|(uuid, row)| (uuid, row.into_iter().map(conform).collect())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_equal_the_database_after_10_000_random_transactions_and_many_disconnects() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zoo.ovsschema");
    std::fs::write(&file, schema().to_string()).unwrap();
    let server = Server::start_with(&file);

    let steady = Session::start(server.remote(), monitor(), Options::default());
    let follower = tokio::spawn(follow(steady.clone()));
    let (mut clients, mut proxies) = (Vec::new(), Vec::new());
    for seed in 1..=CLIENTS {
        let mischief = Mischief {
            break_after: Some(200 * seed),
            unknown: [&[][..], &["monitor_cond_since"], &["monitor_cond_since", "monitor_cond"]]
                [seed as usize % 3],
            crumbs: false,
        };
        let proxy =
            Proxy::start(directory.path(), &format!("{seed}.sock"), &server.path("db.sock"), mischief);
        let session = Session::start(
            proxy.remote(),
            monitor(),
            Options { backoff_most: quick().backoff_first, ..quick() },
        );
        clients.push((session.clone(), tokio::spawn(client(session, seed))));
        proxies.push(proxy);
    }
    let (mut done, mut conflicts, mut sessions) = (0, 0, vec![steady.clone()]);
    for (session, task) in clients {
        let (more_done, more_conflicts) = task.await.unwrap();
        (done, conflicts) = (done + more_done, conflicts + more_conflicts);
        sessions.push(session);
    }
    let broken: u64 =
        proxies.iter().map(|proxy| proxy.broken.load(std::sync::atomic::Ordering::Relaxed)).sum();
    assert_eq!(done + conflicts, CLIENTS * TRANSACTIONS);
    assert!(
        done > 5_000 && broken > 20,
        "{done} done, {conflicts} conflicts, {broken} disconnects: not much of a test"
    );

    for proxy in &proxies {
        proxy.calm.send_replace(true);
    }
    let mut last = Txn::new("test", "end");
    last.insert("Thing", [("text", Value::from("the end"))]);
    steady.commit(&last, soon()).await.unwrap();
    let expected = normalised(dumped(&server), steady.state().view.as_ref().unwrap());
    assert!(expected.len() > 10);
    for (number, session) in sessions.iter().enumerate() {
        let seen = session.wait_for("the end", soon(), |view| {
            let end = view.table("Thing")?.rows().any(|(_, row)| is_end(Some(row)));
            end.then(|| copied(view))
        });
        assert_eq!(differences(&seen.await.unwrap(), &expected), Vec::<String>::new(), "client {number}");
    }
    let followed = within(follower).await.unwrap();
    let view = steady.state().view.clone().unwrap();
    let shown: BTreeMap<_, _> =
        view.table("Thing").unwrap().rows().map(|(uuid, row)| (uuid, format!("{row:?}"))).collect();
    assert_eq!(followed, shown);
}
