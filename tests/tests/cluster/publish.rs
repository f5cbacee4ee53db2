//! What the daemon tells the cluster, and what it costs the API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::advertise;
use portwright::daemon::cluster::contribution::ANNOTATION;
use portwright::daemon::cluster::labels::Prefix;
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::start::{Following, Telling, follow, publish};
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus, PfState, PolicyState, Summary, VfRange};
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::rig::{NODE, NODE_PATH, connection_of, node, pauses, policy, policy_path};

const STATE_PATH: &str = "/apis/portwright.dev/v1alpha1/nodestates/worker-1";

/// What the loop and the decisions about it would say.
#[derive(Debug, Clone, Default)]
struct Said {
    content: NodeStateContent,
    resources: Option<BTreeMap<String, u64>>,
}

/// A daemon's publishers, fed by the test.
struct Told {
    facts: watch::Sender<Arc<Facts>>,
    said: Arc<Mutex<Said>>,
    /// Keeps the channels of the source open.
    following: Following,
    stop: CancellationToken,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn quick() -> Pace {
    Pace {
        burst: 3,
        period: Duration::from_millis(300),
        confirm: Duration::from_secs(3600),
        pauses: Growing::new(Duration::from_millis(50), Duration::from_millis(300)),
    }
}

impl Told {
    async fn start(api: &ApiServer) -> Self {
        Self::of(api, NODE, quick()).await
    }

    async fn of(api: &ApiServer, name: &str, pace: Pace) -> Self {
        let connection = connection_of(api, name).await;
        let (facts, stop) = (watch::Sender::<Arc<Facts>>::default(), CancellationToken::new());
        let said = Arc::new(Mutex::new(Said::default()));
        let following = follow(&connection, pauses(), &stop);
        let (content, resources) = (Arc::clone(&said), Arc::clone(&said));
        let telling = Telling {
            content: Arc::new(move |_| content.lock().unwrap().content.clone()),
            resources: Some(Arc::new(move |_| resources.lock().unwrap().resources.clone())),
            labels: Some("nics.example.org".parse::<Prefix>().unwrap()),
            pace,
        };
        publish(&connection, &following, &facts.subscribe(), telling, &stop);
        Self { facts, said, following, stop }
    }

    /// A round of the loop that found this.
    fn round(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap());
        self.facts.send_modify(|facts| {
            let sequence = facts.sequence + 1;
            *facts = Arc::new(Facts { sequence, synced: true, ..Facts::default() });
        });
    }
}

fn condition(kind: &str, status: ConditionStatus, reason: &str) -> Condition {
    Condition { type_: kind.to_owned(), status, reason: reason.to_owned(), ..Condition::default() }
}

fn pending(count: u32) -> NodeStateContent {
    NodeStateContent {
        summary: Summary { pending: count, ..Summary::default() },
        ..NodeStateContent::default()
    }
}

fn policy_state(ready: bool) -> Vec<PolicyState> {
    let ready = if ready { ConditionStatus::True } else { ConditionStatus::False };
    vec![PolicyState {
        name: "p".to_owned(),
        uid: Some("u".to_owned()),
        observed_generation: Some(1),
        pfs: 2,
        conditions: vec![
            condition("Accepted", ConditionStatus::True, "Accepted"),
            condition("Ready", ready, "Pending"),
        ],
        ..PolicyState::default()
    }]
}

async fn cluster() -> ApiServer {
    let api = ApiServer::start().await;
    api.put(NODE_PATH, node(json!({"zone": "a"})));
    api
}

fn writes(api: &ApiServer) -> usize {
    api.requests("/nodestates/worker-1").iter().filter(|(method, _)| method == "PATCH").count()
}

fn is_pending(count: u32) -> impl Fn(&Value) -> bool {
    move |state| state["status"]["summary"]["pending"] == count
}

/// Waits until all that was begun is done: nothing is asked for so long.
async fn quiet(api: &ApiServer) {
    let mut before = usize::MAX;
    loop {
        let now = api.requests("").iter().filter(|(method, _)| method != "GET").count();
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test]
async fn a_state_is_written_once_and_belongs_to_the_node() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    let state = api.wait_for(STATE_PATH, is_pending(1)).await;
    let owner = &state["metadata"]["ownerReferences"][0];
    let uid = api.get(NODE_PATH).unwrap()["metadata"]["uid"].clone();
    assert_eq!((&owner["kind"], &owner["name"], &owner["uid"]), (&json!("Node"), &json!(NODE), &uid));
    let annotation: Value =
        serde_json::from_str(state["metadata"]["annotations"][ANNOTATION].as_str().unwrap()).unwrap();
    assert_eq!(
        annotation,
        json!({"p": {"uid": "u", "generation": 1, "pfs": 2, "accepted": true, "ready": true}})
    );
    for _ in 0..5 {
        told.round(|said| {
            said.content.last_round =
                Some(portwright_api::state::Round { sequence: 7, ..Default::default() });
        });
    }
    quiet(&api).await;
    assert_eq!(writes(&api), 1, "rounds that found nothing new write nothing");
    assert!(
        api.requests("nodestates")
            .iter()
            .all(|(_, path)| !path.contains("PATCH") || path.contains("fieldManager=portwright"))
    );

    // Another process of the same agent finds what there is.
    drop(told);
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    quiet(&api).await;
    assert_eq!(writes(&api), 1, "a restart writes nothing");
    told.round(|said| said.content = pending(2));
    api.wait_for(STATE_PATH, is_pending(2)).await;
}

#[tokio::test]
async fn fields_that_are_no_longer_told_go_and_others_stay() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| {
        said.content.pfs = vec![PfState { address: "0000:3b:00.0".to_owned(), ..PfState::default() }]
    });
    let mut state = api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    state["metadata"]["labels"] = json!({"theirs": "x"});
    api.put(STATE_PATH, state);
    told.round(|said| said.content = pending(1));
    let state = api.wait_for(STATE_PATH, is_pending(1)).await;
    assert!(state["status"].get("pfs").is_none(), "{state}");
    assert_eq!(state["metadata"]["labels"]["theirs"], "x");
}

#[tokio::test]
async fn writes_are_bounded_and_the_last_state_wins() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let started = std::time::Instant::now();
    for count in 1..=200 {
        told.round(|said| said.content = pending(count));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    api.wait_for(STATE_PATH, is_pending(200)).await;
    let periods = started.elapsed().as_millis() / 300;
    assert!((writes(&api) as u128) <= 3 + periods + 1, "{} writes in {periods} periods", writes(&api));
    quiet(&api).await;
    assert!(is_pending(200)(&api.get(STATE_PATH).unwrap()));
}

#[tokio::test]
async fn while_the_api_server_is_away_nothing_is_lost_and_nobody_waits() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = pending(1));
    api.wait_for(STATE_PATH, is_pending(1)).await;
    for (count, mood) in [(2, Mood::Away), (3, Mood::Failing(500)), (4, Mood::Failing(409))] {
        api.set_mood(mood);
        for _ in 0..3 {
            told.round(|said| said.content = pending(count));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        api.set_mood(Mood::Well);
        api.wait_for(STATE_PATH, is_pending(count)).await;
    }
}

#[tokio::test]
async fn a_full_node_stays_below_a_mebibyte() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let ranges = (0..128).map(|index| VfRange {
        vfs: index.to_string(),
        driver: Some("vfio-pci".to_owned()),
        pool: Some("portwright.dev/dpdk".to_owned()),
        unhealthy: Some("the port has no carrier, and the pool asks for one".to_owned()),
    });
    let pf = PfState {
        vfs: ranges.collect(),
        pods: (0..64).map(|pod| format!("namespace-of-a-team/deployment-{pod}")).collect(),
        conditions: vec![condition("Ready", ConditionStatus::False, "Pending")],
        ..PfState::default()
    };
    told.round(|said| said.content.pfs = vec![pf; 16]);
    let state = api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    let size = state.to_string().len();
    assert!(size < 1024 * 1024, "{size} bytes for 2,048 VFs that are all different");
}

#[tokio::test]
async fn a_node_made_anew_gets_its_own_state() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = pending(1));
    api.wait_for(STATE_PATH, is_pending(1)).await;
    api.delete(NODE_PATH);
    let mut following = told.following.clone();
    following.node.wait_for(Option::is_none).await.unwrap();
    // What the garbage collector does.
    api.delete(STATE_PATH);
    told.round(|said| said.content = pending(2));
    quiet(&api).await;
    assert_eq!(api.get(STATE_PATH), None, "there is no Node that it could belong to");
    api.put(NODE_PATH, node(json!({})));
    let uid = api.get(NODE_PATH).unwrap()["metadata"]["uid"].clone();
    let state = api.wait_for(STATE_PATH, is_pending(2)).await;
    assert_eq!(
        state["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": uid}])
    );
}

#[tokio::test]
async fn the_same_is_confirmed_from_time_to_time() {
    let api = cluster().await;
    let told = Told::of(&api, NODE, Pace { confirm: Duration::from_millis(500), ..quick() }).await;
    told.round(|said| said.content = pending(1));
    let before = api.wait_for(STATE_PATH, is_pending(1)).await;
    let mut edited = before.clone();
    edited["status"]["summary"]["pending"] = json!(99);
    api.put(STATE_PATH, edited);
    api.wait_for(STATE_PATH, is_pending(1)).await;
    api.delete(STATE_PATH);
    api.wait_for(STATE_PATH, is_pending(1)).await;
}

#[tokio::test]
async fn before_policies_are_known_nothing_is_taken_back() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    let before = api.wait_for(STATE_PATH, is_pending(1)).await;
    drop(told);
    let told = Told::start(&api).await;
    told.said.lock().unwrap().content = pending(0);
    told.facts.send_replace(Arc::new(Facts { sequence: 1, synced: false, ..Facts::default() }));
    quiet(&api).await;
    assert_eq!(api.get(STATE_PATH), Some(before));
    told.round(|said| said.content = pending(2));
    api.wait_for(STATE_PATH, is_pending(2)).await;
}

fn events(api: &ApiServer) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let history = api.history("/apis/events.k8s.io/v1/namespaces/default/events");
    history
        .iter()
        .map(|change| {
            (text(&change.object["type"]), text(&change.object["reason"]), text(&change.object["note"]))
        })
        .collect()
}

#[tokio::test]
async fn events_tell_changes_of_conditions_and_nothing_else() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let said = |status: ConditionStatus, reason: &str, pending: u32| {
        let ready = Condition { message: "why".to_owned(), ..condition("Ready", status, reason) };
        let pf =
            PfState { address: "0000:3b:00.0".to_owned(), conditions: vec![ready], ..PfState::default() };
        NodeStateContent { pfs: vec![pf], ..self::pending(pending) }
    };
    let steps = [
        (ConditionStatus::True, "InSync", 0),
        (ConditionStatus::False, "Failed", 1),
        (ConditionStatus::False, "Failed", 2),
        (ConditionStatus::False, "Waiting", 3),
        (ConditionStatus::True, "InSync", 4),
        (ConditionStatus::True, "InSync", 5),
    ];
    for (status, reason, count) in steps {
        told.round(|told| told.content = said(status, reason, count));
        api.wait_for(STATE_PATH, is_pending(count)).await;
        quiet(&api).await;
    }
    let note = "0000:3b:00.0: why".to_owned();
    let expected = [("Warning", "Failed"), ("Warning", "Waiting"), ("Normal", "InSync")];
    let expected: Vec<_> =
        expected.map(|(kind, reason)| (kind.to_owned(), reason.to_owned(), note.clone())).into();
    assert_eq!(events(&api), expected);
    let event = &api.history("/apis/events.k8s.io/v1/namespaces/default/events")[0].object;
    assert_eq!(event["regarding"]["name"], NODE);
    assert_eq!(event["regarding"]["uid"], api.get(NODE_PATH).unwrap()["metadata"]["uid"]);
    let time = event["eventTime"].as_str().unwrap();
    assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");

    // After a restart what was told is not told again, and what has changed meanwhile is.
    drop(told);
    let told = Told::start(&api).await;
    told.round(|told| told.content = said(ConditionStatus::True, "InSync", 5));
    quiet(&api).await;
    assert_eq!(events(&api).len(), 3);
    drop(told);
    let told = Told::start(&api).await;
    told.round(|told| told.content = said(ConditionStatus::False, "Failed", 5));
    quiet(&api).await;
    assert_eq!(events(&api).len(), 4);
}

#[tokio::test]
async fn events_are_bounded() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let pfs = |status: ConditionStatus| {
        let pf = |index| PfState {
            address: format!("0000:3b:{index:02x}.0"),
            conditions: vec![condition("Ready", status, "Failed")],
            ..PfState::default()
        };
        (0..64).map(pf).collect::<Vec<_>>()
    };
    told.round(|said| said.content.pfs = pfs(ConditionStatus::False));
    api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    quiet(&api).await;
    assert_eq!(events(&api).len(), 10);
}

fn capacity(api: &ApiServer) -> Value {
    api.get(NODE_PATH).unwrap()["status"]["capacity"].clone()
}

fn set_status(api: &ApiServer, change: impl FnOnce(&mut Value)) {
    let mut node = api.get(NODE_PATH).unwrap();
    change(&mut node["status"]);
    api.put(NODE_PATH, node);
}

const BRIDGE: &str = "ovs-cni.network.kubevirt.io/br-data";

fn bridge(amount: u64) -> Option<BTreeMap<String, u64>> {
    Some(BTreeMap::from([(BRIDGE.to_owned(), amount)]))
}

#[tokio::test]
async fn bridges_are_offered_repaired_and_withdrawn() {
    let api = cluster().await;
    set_status(&api, |status| status["capacity"]["vendor.example/gpu"] = json!("4"));
    let told = Told::start(&api).await;
    told.round(|_| {});
    quiet(&api).await;
    assert!(capacity(&api).get(BRIDGE).is_none(), "nobody can tell yet");
    let asked = std::time::Instant::now();
    told.round(|said| said.resources = bridge(1000));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "1000").await;
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());

    // kubelet registers the node anew.
    set_status(&api, |status| status["capacity"][BRIDGE] = json!("0"));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "1000").await;
    set_status(&api, |status| {
        // As the API server writes it, and as kubelet follows.
        status["capacity"][BRIDGE] = json!("1k");
        status["allocatable"][BRIDGE] = json!("1k");
    });
    quiet(&api).await;
    assert_eq!(capacity(&api)[BRIDGE], "1k", "the same value in another spelling");

    // Open vSwitch is dead.
    told.round(|said| said.resources = Some(BTreeMap::new()));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "0").await;
    quiet(&api).await;
    assert_eq!(capacity(&api)[BRIDGE], "0", "kubelet has not seen it");
    set_status(&api, |status| status["allocatable"][BRIDGE] = json!("0"));
    let node = api.wait_for(NODE_PATH, |node| node["status"]["capacity"].get(BRIDGE).is_none()).await;
    assert_eq!(
        node["status"]["capacity"],
        json!({"cpu": "8", "vendor.example/gpu": "4"}),
        "others' are untouched"
    );
    quiet(&api).await;
    let annotations = api.get(NODE_PATH).unwrap()["metadata"]["annotations"].clone();
    assert!(annotations.get(advertise::ANNOTATION).is_none(), "{annotations}");
    let requests = api.requests("/status");
    assert!(
        requests
            .iter()
            .all(|(method, path)| method == "PATCH" && path.starts_with("/api/v1/nodes/worker-1/status")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn what_an_earlier_life_offered_is_withdrawn() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.resources = bridge(5));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "5").await;
    drop(told);
    set_status(&api, |status| status["capacity"]["ovs-cni.network.kubevirt.io/theirs"] = json!("1000"));
    let told = Told::start(&api).await;
    told.round(|said| said.resources = Some(BTreeMap::new()));
    let node = api
        .wait_for(NODE_PATH, |node| node["status"]["capacity"].get(BRIDGE).is_none_or(|amount| amount == "0"))
        .await;
    assert_eq!(node["status"]["capacity"]["ovs-cni.network.kubevirt.io/theirs"], "1000");
}

#[tokio::test]
async fn labels_below_the_prefix_are_ours_alone() {
    let api = cluster().await;
    api.put(
        NODE_PATH,
        node(json!({"zone": "a", "nics.example.org/nic-pfs": "9", "nics.example.org.other/pfs": "9"})),
    );
    let told = Told::start(&api).await;
    let observed: portwright_core::Observed = serde_json::from_value(json!({
        "pfs": [{"address": "0000:3b:00.0", "vendor": "8086", "device": "10c9", "driver": "igb", "totalVfs": 7, "vfs": []}],
    }))
    .unwrap();
    told.facts.send_replace(Arc::new(Facts {
        sequence: 1,
        observed: Arc::new(observed),
        ..Facts::default()
    }));
    let wanted = json!({
        "zone": "a", "nics.example.org.other/pfs": "9", "nics.example.org/nic-pfs": "1",
        "nics.example.org/nic-total-vfs": "7", "nics.example.org/nic-device.8086-10c9": "1",
        "nics.example.org/nic-driver.igb": "1",
    });
    api.wait_for(NODE_PATH, |node| node["metadata"]["labels"] == wanted).await;
    told.round(|_| {});
    api.wait_for(NODE_PATH, |node| node["metadata"]["labels"]["nics.example.org/nic-pfs"] == "0").await;
}

#[tokio::test]
async fn nodes_are_counted_by_whoever_is_drawn() {
    let api = ApiServer::start().await;
    policy(&api, "p", json!({}));
    let mut object = api.get(&policy_path("p")).unwrap();
    object["metadata"]["generation"] = json!(1);
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    api.put(&policy_path("p"), object);
    let said = |ready: bool| {
        let mut policies = policy_state(ready);
        policies[0].uid = Some(uid.clone());
        NodeStateContent { policies, ..NodeStateContent::default() }
    };
    let mut agents = Vec::new();
    for index in 0..8 {
        let name = format!("worker-{index}");
        api.put(&format!("/api/v1/nodes/{name}"), node(json!({})));
        let told = Told::of(&api, &name, quick()).await;
        let content = said(index < 3);
        told.round(move |told| told.content = content);
        agents.push(told);
    }
    let status = |ready: u32| {
        move |policy: &Value| policy["status"]["matchedNodes"] == 8 && policy["status"]["readyNodes"] == ready
    };
    let counted = wait(&api, status(3)).await;
    assert_eq!(counted["status"]["matchedPfs"], 16);
    assert_eq!(counted["status"]["observedGeneration"], 1);
    for told in &agents {
        let content = said(true);
        told.round(move |told| told.content = content);
    }
    wait(&api, status(8)).await;
    let lists = api.requests("/nodestates?").len();
    assert!(lists <= 4, "{lists} counts");
    let ready = api.get(&policy_path("p")).unwrap()["status"]["conditions"][1].clone();
    assert_eq!(
        (&ready["type"], &ready["status"], &ready["reason"]),
        (&json!("Ready"), &json!("True"), &json!("InSync"))
    );
}

/// A count may take longer than other things: whoever counts rests for ten seconds.
async fn wait(api: &ApiServer, accept: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let policy = api.get(&policy_path("p")).unwrap();
            if accept(&policy) {
                return policy;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(40), waiting).await;
    waited.unwrap_or_else(|_| panic!("not counted: {:?}", api.get(&policy_path("p"))))
}
