//! The same against a real API server, which has schemas, field managers and validation that the test server lacks. It needs
//! one that may be written to; what is made there has names that begin with `portwright-test`.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use portwright::daemon::cluster::client::connect;
use portwright::daemon::cluster::contribution::{ANNOTATION, contributions};
use portwright::daemon::cluster::labels::Prefix;
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::start::{Telling, follow, publish};
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::cluster::{advertise, kinds};
use portwright::daemon::facts::Facts;
use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus, PolicyState, Summary};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAME: &str = "portwright-test-worker";
const POLICY: &str = "portwright-test-policy";
const BRIDGE: &str = "portwright-test.example/br-data";

async fn apply(client: &Client, path: &str, body: String) -> Value {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager=portwright-test&force=true"))
        .header("content-type", "application/apply-patch+yaml")
        .body(body.into_bytes())
        .unwrap();
    client.request(request).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn get(api: &Api<DynamicObject>, name: &str) -> Option<Value> {
    api.get_opt(name).await.unwrap().map(|object| serde_json::to_value(object).unwrap())
}

async fn until(api: &Api<DynamicObject>, name: &str, what: &str, accept: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            if let Some(object) = get(api, name).await.filter(&accept) {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(40), waiting).await {
        Ok(object) => object,
        Err(_) => panic!("{name} never so: {what}: {:?}", get(api, name).await),
    }
}

fn content(uid: &str, ready: bool) -> NodeStateContent {
    let status = if ready { ConditionStatus::True } else { ConditionStatus::False };
    let condition = |kind: &str, status| Condition {
        type_: kind.to_owned(),
        status,
        reason: if ready { "InSync" } else { "Pending" }.to_owned(),
        message: "because of that".to_owned(),
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        observed_generation: Some(1),
    };
    NodeStateContent {
        summary: Summary { pending: u32::from(!ready), ..Summary::default() },
        policies: vec![PolicyState {
            name: POLICY.to_owned(),
            uid: Some(uid.to_owned()),
            observed_generation: Some(1),
            pfs: 3,
            conditions: vec![condition("Accepted", ConditionStatus::True), condition("Ready", status)],
            ..PolicyState::default()
        }],
        conditions: vec![condition("Ready", status)],
        ..NodeStateContent::default()
    }
}

async fn prepare(client: &Client) {
    for (name, text) in portwright_api::crds() {
        apply(client, &format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"), text).await;
    }
    let resource = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&resource));
    for (name, _) in portwright_api::crds() {
        until(&crds, name, "established", |crd| {
            let conditions = crd["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
            })
        })
        .await;
    }
    kinds::nodes(client).delete(NAME, &Default::default()).await.ok();
    kinds::states(client).delete(NAME, &Default::default()).await.ok();
    kinds::policies(client).delete(POLICY, &Default::default()).await.ok();
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": {"zone": "a"}}});
    apply(client, &format!("/api/v1/nodes/{NAME}"), node.to_string()).await;
    let policy = json!({
        "apiVersion": "portwright.dev/v1alpha1", "kind": "NodePolicy", "metadata": {"name": POLICY},
        "spec": {"nodeSelector": {"matchLabels": {"zone": "a"}}, "disruption": "Evict", "maxUnavailable": "10%"},
    });
    apply(client, &format!("/apis/portwright.dev/v1alpha1/nodepolicies/{POLICY}"), policy.to_string()).await;
}

#[tokio::test]
#[ignore = "needs KUBECONFIG of a real API server that may be written to"]
async fn everything_is_as_a_real_api_server_wants_it() {
    let connection = connect(Some(NAME)).await.unwrap();
    let client = connection.client.clone();
    prepare(&client).await;
    let stop = CancellationToken::new();
    let mut following = follow(&connection, Patience::default(), &stop);
    let wish = following
        .wish
        .wait_for(|wish| wish.synced && wish.policies.contains_key(POLICY))
        .await
        .unwrap()
        .clone();
    assert_eq!((wish.trouble, wish.pods.map(|pods| pods.len())), (None, Some(0)));
    let policy = &wish.policies[POLICY];
    assert!(policy.read.is_ok(), "{policy:?}");
    let uid = policy.uid.clone().unwrap();

    let (facts, _) = watch::channel(Arc::new(Facts { sequence: 1, synced: true, ..Facts::default() }));
    let said = watch::Sender::new((
        content(&uid, false),
        Some(std::collections::BTreeMap::from([(BRIDGE.to_owned(), 1000)])),
    ));
    let (contents, resources) = (said.clone(), said.clone());
    let telling = Telling {
        content: Arc::new(move |_| {
            let content = contents.borrow().0.clone();
            let counted = contributions(&content.policies);
            (content, counted)
        }),
        resources: Some(Arc::new(move |_| resources.borrow().1.clone())),
        labels: Some("portwright-test.example".parse::<Prefix>().unwrap()),
        pace: Pace::default(),
    };
    publish(&connection, &following, &facts.subscribe(), telling, &stop);
    let (states, nodes, policies) = (kinds::states(&client), kinds::nodes(&client), kinds::policies(&client));

    let state = until(&states, NAME, "written", |state| state["status"]["summary"]["pending"] == 1).await;
    assert_eq!(state["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert!(state["metadata"]["annotations"][ANNOTATION].as_str().unwrap().contains(&uid));
    println!("metadata of a NodeState: {} bytes", state["metadata"].to_string().len());
    let node =
        until(&nodes, NAME, "offers the bridge", |node| node["status"]["capacity"][BRIDGE].is_string()).await;
    println!("capacity: {}", node["status"]["capacity"]);
    assert!(
        node["metadata"]["annotations"][advertise::ANNOTATION].as_str().unwrap().contains(BRIDGE),
        "{node}"
    );

    let counted = until(&policies, POLICY, "counted", |policy| policy["status"]["matchedNodes"] == 1).await;
    assert_eq!(counted["status"]["matchedPfs"], 3);
    assert_eq!(counted["metadata"]["generation"], 1, "a status is no new generation");

    // Ready now; Open vSwitch is gone.
    said.send_replace((content(&uid, true), Some(std::collections::BTreeMap::new())));
    facts.send_replace(Arc::new(Facts { sequence: 2, synced: true, ..Facts::default() }));
    until(&nodes, NAME, "offers nothing", |node| node["status"]["capacity"][BRIDGE] == "0").await;
    // What kubelet does with it.
    let followed = json!({"status": {"allocatable": {BRIDGE: "0"}}});
    nodes.patch_status(NAME, &PatchParams::default(), &Patch::Merge(&followed)).await.unwrap();
    until(&nodes, NAME, "withdrawn", |node| node["status"]["capacity"].get(BRIDGE).is_none()).await;
    until(&states, NAME, "written again", |state| state["status"]["summary"]["pending"] == 0).await;
    until(&policies, POLICY, "counted again", |policy| policy["status"]["readyNodes"] == 1).await;
    let events = kinds::events(&client).list(&Default::default()).await.unwrap();
    let ours = events.items.iter().filter(|event| event.data["regarding"]["name"] == NAME);
    let reasons: Vec<_> =
        ours.map(|event| event.data["reason"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(reasons.contains(&"Pending".to_owned()) && reasons.contains(&"InSync".to_owned()), "{reasons:?}");

    // The same again makes no version.
    let before = get(&states, NAME).await.unwrap()["metadata"]["resourceVersion"].clone();
    let same =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": {"zone": "b"}}});
    nodes.patch(NAME, &PatchParams::apply("portwright-test").force(), &Patch::Apply(&same)).await.unwrap();
    following.wish.wait_for(|wish| wish.policies.is_empty()).await.unwrap();
    assert_eq!(get(&states, NAME).await.unwrap()["metadata"]["resourceVersion"], before);
    stop.cancel();
    policies.delete(POLICY, &Default::default()).await.unwrap();
    states.delete(NAME, &Default::default()).await.unwrap();
    nodes.delete(NAME, &Default::default()).await.unwrap();
}
