//! Servers that do not keep to the protocol. Whatever they send, the session neither panics nor hangs: it says what
//! is wrong, keeps the last good view, and connects again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portwright_ovs::ovsdb::{
    Class, Deadline, Error, Link, LinkError, Monitor, Options, Remote, Session, Splitter, Target, Txn, Uuid,
    Value,
};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::harness::{quick, soon, within};

/// What the fake server answers to a request; `{ID}` stands for the request's id. None: the usual.
type Script = Arc<dyn Fn(&Json) -> Option<Vec<u8>> + Send + Sync>;

struct Fake {
    path: PathBuf,
    /// Answers that the client sent.
    answers: mpsc::UnboundedReceiver<Json>,
    _directory: tempfile::TempDir,
}

const ROW: &str = "8206b002-af40-4ad9-aef3-cb451e15921b";

impl Fake {
    fn start(script: impl Fn(&Json) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let script: Script = Arc::new(script);
        let (sender, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, sender) = (Arc::clone(&script), sender.clone());
                tokio::spawn(async move {
                    let mut splitter = Splitter::new(1 << 20);
                    while matches!(stream.read_buf(splitter.buffer()).await, Ok(1..)) {
                        while let Some(message) = splitter.next_message().unwrap() {
                            let request: Json = serde_json::from_slice(&message).unwrap();
                            if request.get("method").is_none() {
                                let _nobody_listens = sender.send(request);
                                continue;
                            }
                            let answer = script(&request).unwrap_or_else(|| usual(&request));
                            if stream.write_all(&answer).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { path, answers, _directory: directory }
    }

    fn session(&self, options: Options) -> Session {
        let monitor = Monitor::new("Open_vSwitch").table("Bridge", &["name", "ports"], &["newer"]);
        Session::start(Remote::Unix(self.path.clone()), monitor, options)
    }
}

fn reply(request: &Json, result: Json) -> Vec<u8> {
    json!({"id": request["id"], "result": result, "error": null}).to_string().into_bytes()
}

fn usual(request: &Json) -> Vec<u8> {
    let set = json!({"key": {"type": "uuid"}, "min": 0, "max": "unlimited"});
    let columns = json!({"name": {"type": "string"}, "ports": {"type": set}});
    let result = match request["method"].as_str().unwrap_or_default() {
        "get_server_id" => json!(ROW),
        "get_schema" => json!({"name": "Open_vSwitch", "tables": {"Bridge": {"columns": columns}}}),
        "monitor_cond_since" => json!([false, ROW, {"Bridge": {ROW: {"initial": {"name": "br0"}}}}]),
        "transact" => json!([]),
        "cancel" => return Vec::new(),
        _ => json!({}),
    };
    reply(request, result)
}

fn is(request: &Json, method: &str) -> bool {
    request["method"] == method
}

fn why(session: &Session) -> Option<Arc<LinkError>> {
    match &session.state().link {
        Link::Down { why, .. } => why.clone(),
        Link::Up { .. } => None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The reason that is published after the greeting or a later message fails.
async fn reason(session: &Session) -> String {
    let mut session = session.clone();
    let wait = async {
        loop {
            if let Some(why) = why(&session) {
                return chain(&*why);
            }
            assert!(session.state_changed().await);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap()
}

#[tokio::test]
async fn bad_greetings_are_named() {
    let deep = [b"{\"a\":".to_vec(), b"[".repeat(300)].concat();
    let snapshot =
        |updates: Json| json!({"id": "ID", "result": [false, ROW, updates]}).to_string().into_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("get_server_id", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "expected a JSON object, got the byte 0x48"),
        ("get_server_id", b"\xff\xfe".to_vec(), "0xff"),
        ("get_server_id", b"{\"id\": nonsense}".to_vec(), "not valid JSON-RPC"),
        ("get_server_id", b"{\"id\":1,\"result\":\"\xff\"}".to_vec(), "not valid JSON-RPC"),
        ("get_server_id", b"{}".to_vec(), "neither a request nor an answer"),
        ("get_server_id", b"{\"id\":99999,\"result\":1}".to_vec(), "the id 99999, which is not one of ours"),
        ("get_server_id", b"{\"id\":\"foreign\",\"result\":1}".to_vec(), "the id \"foreign\""),
        ("get_server_id", deep, "nests deeper than 100 levels"),
        ("get_schema", b"{\"id\":ID,\"result\":{\"name\":5}}".to_vec(), "the server's schema cannot be read"),
        ("get_schema", b"{\"id\":ID,\"result\":null}".to_vec(), "the server's schema cannot be read"),
        ("get_schema", b"{\"id\":ID}".to_vec(), "the server's schema cannot be read"),
        ("get_schema", b"{\"id\":ID,\"error\":{\"error\":\"unknown database\",\"details\":\"no\"}}".to_vec(), "refused get_schema: unknown database: no"),
        ("get_schema", b"{\"id\":ID,\"error\":[1]}".to_vec(), "refused get_schema: unknown error: [1]"),
        ("get_schema", b"{\"id\":ID,\"result\":{\"name\":\"x\",\"tables\":{}}}".to_vec(), "has no table Bridge"),
        ("get_schema", b"{\"id\":ID,\"result\":{\"name\":\"x\",\"version\":\"1.0\",\"tables\":{\"Bridge\":{\"columns\":{\"name\":{\"type\":\"string\"}}}}}}".to_vec(), "(schema 1.0) has no column ports in table Bridge"),
        ("get_schema", b"{\"id\":ID,\"result\":{\"name\":\"x\",\"tables\":{\"Bridge\":{\"columns\":{\"name\":{\"type\":\"float\"}}}}}}".to_vec(), "the server's schema cannot be read"),
        ("monitor_cond_since", b"{\"id\":ID,\"error\":\"busy\"}".to_vec(), "refused monitor_cond_since: busy"),
        ("monitor_cond_since", b"{\"id\":ID,\"result\":[]}".to_vec(), "the first snapshot cannot be read"),
        ("monitor_cond_since", snapshot(json!({"Port": {}})), "the table \"Port\", which we do not follow"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {"no uuid": {}}})), "is not a UUID"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {}}})), "a row update is empty"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"upsert": {}}}})), "no kind of row update"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"initial": {"name": 5}}}})), "does not have the column's type"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"initial": {"name": ["set", []]}}}})), "holds 0 elements"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"initial": {"colour": "red"}}}})), "Bridge.colour, which we do not follow"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"modify": {"name": "x"}}}})), "which is not in our copy"),
        ("monitor_cond_since", snapshot(json!({"Bridge": {ROW: {"delete": null}}})), "which is not in our copy"),
    ];
    for (method, answer, part) in cases {
        let fake = Fake::start(move |request| is(request, method).then(|| with_id(&answer, request)));
        let session = fake.session(quick());
        let said = reason(&session).await;
        assert!(said.contains(part), "{method}: expected {part:?}, got {said:?}");
        assert!(session.state().view.is_none(), "a half-read snapshot must not be shown");
    }
}

fn with_id(answer: &[u8], request: &Json) -> Vec<u8> {
    // Not as text: some answers are not UTF-8 on purpose.
    let (mut result, mut rest) = (Vec::new(), answer);
    while !rest.is_empty() {
        let mark = [&b"\"ID\""[..], b"ID"].into_iter().find(|mark| rest.starts_with(mark));
        match mark {
            Some(mark) => {
                result.extend(request["id"].to_string().bytes());
                rest = &rest[mark.len()..];
            }
            None => {
                result.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    result
}

#[tokio::test]
async fn an_endless_message_is_cut_off_at_the_limit() {
    let fake = Fake::start(|request| {
        // The beginning of a gigabyte; much more than the limit comes, and never an end.
        is(request, "get_schema").then(|| [b"{\"id\":3,\"result\":\"".to_vec(), vec![b'x'; 8 << 20]].concat())
    });
    let session = fake.session(Options { max_message: 1 << 20, ..quick() });
    assert!(reason(&session).await.contains("longer than 1048576 bytes"));
}

#[tokio::test]
async fn half_a_message_and_silence_is_not_waited_for() {
    let fake = Fake::start(|request| is(request, "get_schema").then(|| b"{\"id\":3,\"resu".to_vec()));
    let session = fake.session(Options { greeting_timeout: Duration::from_millis(50), ..quick() });
    assert!(reason(&session).await.contains("did not answer get_schema within 50ms"));
}

#[tokio::test]
async fn bad_updates_keep_the_old_view_and_fetch_a_new_one() {
    let update = |updates: Json| {
        json!({"id": null, "method": "update3", "params": ["monitor-1", ROW, updates]}).to_string()
    };
    let other = "00000000-0000-0000-0000-000000000001";
    let cases = [
        (update(json!({"Bridge": {other: {"modify": {"name": "x"}}}})), "which is not in our copy"),
        (update(json!({"Bridge": {ROW: {"insert": {"name": "x"}}}})), "which is in our copy already"),
        (
            update(
                json!({"Bridge": {other: {"insert": {"name": "good"}}, ROW: {"modify": {"name": ["set", []]}}}}),
            ),
            "leaves name with 0 elements",
        ),
        (
            update(json!({"Bridge": {ROW: {"modify": {"ports": ["map", [[1, 2]]]}}}})),
            "does not have the column's type",
        ),
        (update(json!({"Bridge": 7})), "an update cannot be read"),
        (
            json!({"id": null, "method": "update3", "params": "monitor-1"}).to_string(),
            "an update cannot be read",
        ),
        (
            format!(
                "{{\"id\":null,\"method\":\"update3\",\"params\":[\"monitor-1\",0,{{\"Bridge\":{{\"{other}\":{{\"insert\":{{}}}},\"{other}\":{{\"insert\":{{}}}}}}}}]}}"
            ),
            "which is in our copy already",
        ),
        (json!({"id": 4000, "result": {}}).to_string(), "not one of ours"),
        (
            json!({"id": null, "method": "locked", "params": [7]}).to_string(),
            "a lock's notification cannot be read",
        ),
    ];
    for (update, part) in cases {
        let shown = update.clone();
        let fake = Fake::start(move |request| {
            is(request, "transact")
                .then(|| [update.as_bytes(), &reply(request, json!([{"rows": []}]))].concat())
        });
        let slow = Options { backoff_first: Duration::from_secs(5), ..quick() };
        let session = fake.session(slow);
        session.synced(soon()).await.unwrap();
        let error = session.select("Bridge", &["name"], soon()).await.unwrap_err();
        assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
        let said = reason(&session).await;
        assert!(said.contains(part), "{shown}: expected {part:?}, got {said:?}");
        let view = session.state().view.clone().unwrap();
        let names: Vec<_> = view
            .table("Bridge")
            .unwrap()
            .rows()
            .map(|(_, row)| format!("{:?}", row.get("name").unwrap()))
            .collect();
        assert_eq!(names, ["\"br0\""], "{shown}");
    }
}

#[tokio::test]
async fn oddities_that_do_no_harm_are_passed_over() {
    let fake = Fake::start(|request| {
        is(request, "transact").then(|| {
            let odd = [
                json!({"id": null, "method": "update3", "params": ["somebody-else", ROW, {"X": {}}]}),
                json!({"id": null, "method": "weather", "params": null}),
                json!({"id": "q", "method": "question", "params": []}),
                json!({"id": {"odd": 1}, "method": "echo", "params": ["x"]}),
                json!({"id": 1, "result": "an answer that came before"}),
                json!({"id": null, "method": "locked", "params": ["not asked for"]}),
            ];
            let mut bytes: Vec<u8> = odd.iter().flat_map(|one| format!("{one}\n \t").into_bytes()).collect();
            bytes.extend(reply(request, json!([{"rows": [{"name": "br0"}]}])));
            bytes
        })
    });
    let session = fake.session(quick());
    assert_eq!(session.select("Bridge", &["name"], soon()).await.unwrap().len(), 1);
    assert!(session.state().link.is_up());
}

#[tokio::test]
async fn echoes_are_answered_with_what_they_carried_also_while_greeting() {
    let mut fake = Fake::start(|request| {
        let echo = json!({"id": {"at": request["method"]}, "method": "echo", "params": ["x", 1]}).to_string();
        let asks = is(request, "get_schema") || is(request, "transact");
        asks.then(|| [echo.into_bytes(), usual(request)].concat())
    });
    let session = fake.session(quick());
    drop(session.select("Bridge", &["name"], soon()).await);
    for method in ["get_schema", "transact"] {
        let answer = within(fake.answers.recv()).await.unwrap();
        assert_eq!(answer, json!({"id": {"at": method}, "result": ["x", 1], "error": null}));
    }
}

#[tokio::test]
async fn odd_answers_to_a_transaction_are_errors_not_successes() {
    let cases: Vec<(Json, &str, Class)> = vec![
        (json!([{}, {}, {"count": 2}]), "met 2 rows instead of 1", Class::Conflict),
        (json!([{}, {}, {"count": 0}]), "met 0 rows instead of 1", Class::Conflict),
        (json!([{}, {}, {}]), "met 0 rows instead of 1", Class::Conflict),
        (json!([{}, {}]), "too few elements", Class::Permanent),
        (json!([]), "too few elements", Class::Permanent),
        (json!([{}, {}, null]), "left out although none failed", Class::Permanent),
        (json!([{}, {}, {"count": 1}, {}]), "too many elements", Class::Permanent),
        (
            json!([{}, {}, {"count": 1}, {"error": "I/O error"}]),
            "refused the commit: I/O error",
            Class::Retry,
        ),
        (json!([{}, {"error": "timed out"}, null]), "no longer holds", Class::Conflict),
        (
            json!([{}, {"error": "weird", "details": "x", "syntax": "y"}, null]),
            "weird: x (in y)",
            Class::Permanent,
        ),
        (json!([{}, {"error": 17}]), "unknown error", Class::Permanent),
        (json!([{"error": null}, {}, {"count": 1}]), "", Class::Permanent),
        (json!({"rows": 1}), "cannot be read", Class::Permanent),
        (json!([1, 2, 3]), "cannot be read", Class::Permanent),
        (json!(null), "cannot be read", Class::Permanent),
    ];
    for (answer, part, class) in cases {
        let shown = answer.to_string();
        let fake =
            Fake::start(move |request| is(request, "transact").then(|| reply(request, answer.clone())));
        let session = fake.session(quick());
        let mut txn = Txn::new("test", "odd");
        txn.update(Target::row("Bridge", Uuid::ZERO), [("name", Value::from("x"))]);
        match session.commit(&txn, soon()).await {
            Ok(_) => assert_eq!(part, "", "{shown}"),
            Err(error) => {
                assert!(!part.is_empty() && error.to_string().contains(part), "{shown}: {error}");
                assert_eq!(error.class(), class, "{shown}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn an_unanswered_call_ends_at_its_deadline_and_is_called_off() {
    let (sender, mut cancelled) = mpsc::unbounded_channel();
    let fake = Fake::start(move |request| {
        if is(request, "cancel") {
            sender.send(request["params"].clone()).unwrap();
        }
        is(request, "transact").then(Vec::new)
    });
    let session = fake.session(quick());
    session.synced(soon()).await.unwrap();
    let error =
        session.select("Bridge", &["name"], Deadline::after(Duration::from_millis(50))).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(within(cancelled.recv()).await.unwrap()[0].is_u64());
    session.echo(soon()).await.unwrap();
}
