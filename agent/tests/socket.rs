//! The socket beside the daemon: what it answers, when it waits, what is left of it. The loop is played by the test, which
//! answers each wake with a round.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{compare, folder, portwright};
use portwright::daemon::facts::{Cause, Facts, Run};
use portwright::daemon::socket::client::{self, AskError};
use portwright::daemon::socket::{SOCKET, serve};
use portwright::output::Exit;
use portwright::verb::status::exit;
use portwright_api::NodeStateContent;
use portwright_core::desired::Desired;
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::{Observed, plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A socket with its loop's other ends.
struct Rig {
    folder: tempfile::TempDir,
    facts: watch::Sender<Arc<Facts>>,
    asked: mpsc::UnboundedReceiver<u64>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Rig {
    fn new(facts: Facts) -> Rig {
        Rig::below(tempfile::tempdir().unwrap(), facts)
    }

    fn below(folder: tempfile::TempDir, facts: Facts) -> Rig {
        let (tell, asks) = (watch::Sender::new(Arc::new(facts)), AtomicU64::new(0));
        let (wake, asked) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let ask = move || {
            let ticket = asks.fetch_add(1, Ordering::SeqCst) + 1;
            wake.send(ticket).unwrap();
            ticket
        };
        let server = serve(&folder.path().join(SOCKET), "worker-1", tell.subscribe(), ask, stop.clone());
        Rig { folder, facts: tell, asked, stop, server: tokio::spawn(server.unwrap()) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    async fn state(&self) -> NodeStateContent {
        client::state(&self.path()).await.unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        within(self.server).await.unwrap();
        self.folder
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("it hangs"))
}

fn scenario(name: &str) -> Facts {
    let folder = common::repository().join("tests/fixtures/scenarios").join(name);
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let observed: Observed = serde_json::from_str(&text("observed.json")).unwrap();
    let documents = portwright_api::load([("policy.yaml", text("policy.yaml").as_str())]).unwrap();
    let desired = Desired { documents, ..Desired::default() };
    let plan = plan(&observed, &desired, &portwright::builtin::profiles().unwrap());
    Facts {
        sequence: 1,
        at: 1_790_000_000,
        causes: BTreeSet::from([Cause::Start, Cause::Switch]),
        observed: Arc::new(observed),
        desired: Arc::new(desired),
        plan,
        ..Facts::default()
    }
}

#[tokio::test]
async fn the_state_is_told_as_the_loop_knows_it() {
    let rig = Rig::new(Facts::default());
    let before = rig.state().await;
    assert_eq!((before.node.as_str(), before.ready().unwrap().reason.as_str()), ("worker-1", "NotObserved"));
    assert_eq!(exit(&before), Exit::CouldNotTell);
    rig.facts.send_replace(Arc::new(scenario("in-sync")));
    assert_eq!(exit(&rig.state().await), Exit::Ok);
    rig.facts.send_replace(Arc::new(scenario("mtu-raise")));
    assert_eq!(exit(&rig.state().await), Exit::Differs);
    rig.stop().await;
}

#[tokio::test]
async fn conditions_have_the_time_of_their_change() {
    let rig = Rig::new(scenario("mtu-raise"));
    let first = rig.state().await;
    let later = Facts { at: 1_790_000_600, sequence: 2, ..scenario("mtu-raise") };
    rig.facts.send_replace(Arc::new(later));
    let second = rig.state().await;
    assert_eq!(second.last_round.as_ref().unwrap().sequence, 2);
    assert!(second.equal_but_for_time(&first));
    let time = |content: &NodeStateContent| content.ready().unwrap().last_transition_time.clone();
    assert_eq!(time(&second), time(&first));
    rig.stop().await;
}

#[tokio::test]
async fn a_round_is_waited_for_until_its_steps_have_ended() {
    let mut rig = Rig::new(scenario("mtu-raise"));
    let path = rig.path();
    let mut asks = tokio::spawn(async move { client::reconcile(&path, 20).await });
    let ticket = within(rig.asked.recv()).await.unwrap();
    // A round that was on its way, the one that heard and runs steps, and the one that verifies.
    for (heard, running) in [(ticket - 1, false), (ticket, true)] {
        rig.facts.send_replace(Arc::new(Facts { heard, running, ..scenario("mtu-raise") }));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut asks).await;
        assert!(early.is_err(), "it did not wait: {early:?}");
    }
    let causes = BTreeSet::from([Cause::Asked]);
    rig.facts.send_replace(Arc::new(Facts { heard: ticket, sequence: 4, causes, ..scenario("in-sync") }));
    let state = within(asks).await.unwrap().unwrap();
    assert_eq!(state.last_round.as_ref().unwrap().causes, ["asked by the operator"]);
    assert_eq!(exit(&state), Exit::Ok);
    rig.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told() {
    let rig = Rig::new(scenario("mtu-raise"));
    let error = within(client::reconcile(&rig.path(), 0)).await.unwrap_err();
    assert!(matches!(error, AskError::Refused { status: 504, .. }), "{error}");
    assert_eq!(error.to_string(), "the daemon refused: the round has not ended within 0 s; it goes on");
    assert!(error.hint().contains("--timeout"));
    // Whoever waits while the daemon stops is not left waiting.
    let path = rig.path();
    let asks = tokio::spawn(async move { client::reconcile(&path, 20).await });
    let mut rig = rig;
    within(async { while rig.asked.recv().await != Some(2) {} }).await;
    rig.stop().await;
    assert!(matches!(within(asks).await.unwrap().unwrap_err(), AskError::Broken { .. }));
}

#[tokio::test]
async fn the_socket_is_roots_and_goes_with_its_daemon_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SOCKET);
    // What a killed daemon has left, and what stands where the new one is made.
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    std::fs::write(path.with_extension("sock.new"), "x").unwrap();
    let rig = Rig::below(folder, Facts::default());
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    rig.state().await;
    let folder = rig.stop().await;
    assert!(!path.exists());
    // A later daemon's socket stays.
    let rig = Rig::below(folder, Facts::default());
    std::fs::remove_file(&path).unwrap();
    let later = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let folder = rig.stop().await;
    assert!(path.exists());
    drop((later, folder));
}

/// Sends bytes as they are and reads until the end.
async fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut is an answer too.
    drop(within(stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn other_requests_are_refused_and_harm_nothing() {
    let rig = Rig::new(scenario("in-sync"));
    let path = rig.path();
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("POST /state HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("GET /reconcile HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /reconcile?within=soon HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("POST /reconcile?within=-1 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("\0\0\0\r\n\r\n", "400"),
    ] {
        let answer = raw(&path, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    }
    let silent: Vec<UnixStream> =
        futures::future::try_join_all((0..7).map(|_| UnixStream::connect(&path))).await.unwrap();
    assert_eq!(exit(&within(rig.state()).await), Exit::Ok);
    drop(silent);
    rig.stop().await;
}

#[tokio::test]
async fn answers_of_others_are_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let nobody = client::state(&path).await.unwrap_err();
    assert!(nobody.hint().contains("portwright run"), "{nobody}");
    for answer in [
        "",
        "hello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
    ] {
        let _unused = std::fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let error = within(client::state(&path)).await.unwrap_err();
        assert!(matches!(error, AskError::Broken { .. } | AskError::Format { .. }), "{answer:?}: {error}");
        within(server).await.unwrap();
    }
}

/// What `status` prints, in full.
#[tokio::test]
async fn the_text_is_as_the_file_says() {
    let mut found = String::new();
    let mut failed = scenario("ovs-drift");
    let report = |step: &portwright_core::Step| StepReport {
        step: step.clone(),
        outcome: Outcome::Failed { why: "the database refused: constraint violation".to_owned() },
    };
    let steps = failed.plan.steps.iter().take(12).map(report).collect();
    failed.last_run =
        Some(Arc::new(Run { number: 1, at: 1_790_000_000, causes: failed.causes.clone(), steps }));
    failed.source_trouble = Some("cannot read `/etc/portwright/policy.yaml`".to_owned());
    failed.waiting.insert("bridge/br-data".parse().unwrap(), "waits up to 4 s after 3 failures".to_owned());
    for (name, mut facts) in [
        ("in-sync", scenario("in-sync")),
        ("resize-vf-in-use", scenario("resize-vf-in-use")),
        ("ovs-drift", failed),
    ] {
        let followed = |document: &portwright_core::desired::Document| {
            let fact = portwright::daemon::facts::PolicyFact { followed: true, ..Default::default() };
            (document.name.clone(), fact)
        };
        facts.policies = facts.desired.documents.iter().map(followed).collect();
        let rig = Rig::new(facts);
        let mut state = rig.state().await;
        state.agent_version = "0.0.0".to_owned();
        found.push_str(&format!("# {name}\n{}\n", portwright::text::status::render(&state)));
        rig.stop().await;
    }
    compare(&folder().join("fixtures/status.txt"), &found);
}

#[test]
fn without_a_daemon_nothing_can_be_told() {
    if Path::new("/run/portwright/agent.sock").exists() {
        panic!("a daemon runs on this machine; this test needs one without");
    }
    for verb in ["status", "reconcile"] {
        let ran = portwright(&[verb]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:#?}");
        assert!(
            ran.stderr.starts_with(
                "error: the daemon cannot be asked: no daemon answers at `/run/portwright/agent.sock`"
            ),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("\n\nhint: start it"), "{}", ran.stderr);
    }
}
