//! Policies as large as etcd takes them, and many of them: taken up, carried out and told of in an object that stays small,
//! without more writes than any other policy causes; what is wrong at their end is found and said.

use std::path::Path;
use std::time::{Duration, Instant};

use portwright::daemon::cluster::state::Pace;
use portwright::daemon::turn;
use portwright_core::PciAddress;
use portwright_core::ovs::Ovs;
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_tests::agents::{Agent, Machine, in_sync};
use portwright_tests::apiserver::{ApiServer, Mood};
use portwright_tests::kubelet::Kubelet;
use serde_json::{Value, json};

use crate::cluster::{POLICY, STATE, agent_over, api, connection, outfit, patience, ready};

/// Thousands of ports take a while in a build without optimisation, beside other tests.
const WITHIN: Duration = Duration::from_secs(120);
/// What etcd takes in one request; the API server's own notes on an object have to fit, too.
const ETCD: usize = 1536 * 1024;
const MEBIBYTE: usize = 1024 * 1024;
const PFS: u8 = 8;
const BRIDGES: usize = 128;
/// Ports of each bridge.
const PORTS: usize = 72;

fn pf(number: u8) -> PciAddress {
    format!("0000:{:02x}:00.0", 0x3b + number).parse().unwrap()
}

/// Eight ports of 64 VFs, and an Open vSwitch without bridges.
fn machine() -> Machine {
    let ovs = Ovs { vswitchd: true.into(), settled: true, ..Ovs::default() };
    let mut kernel = Kernel { ovs: Some(ovs), ..Kernel::default() };
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    for number in 0..PFS {
        let pf = SimPf::new(pf(number), Family::Ice, 64, &format!("ens{number}"));
        kernel.pfs.insert(pf.shown.address, pf);
    }
    Machine::new(SimNode::new(kernel))
}

/// A policy with all that a policy may hold a lot of: selectors, groups, pools, bridges, ports.
fn large() -> Value {
    let nic = |number: u8| {
        let others = (0..63).map(|other| format!("0001:{other:02x}:1?.*"));
        let addresses: Vec<String> = std::iter::once(pf(number).to_string()).chain(others).collect();
        let group = |group: u8| {
            json!({"vfs": format!("{}-{}", group * 8, group * 8 + 7), "pool": format!("pool-{number}-{group}"),
                "driver": if group.is_multiple_of(2) { "kernel" } else { "vfio-pci" }, "trust": true,
                "vlan": {"id": 100 + u16::from(group)}})
        };
        json!({"select": {"addresses": addresses}, "vfs": 64, "vfGroups": (0..8).map(group).collect::<Vec<_>>()})
    };
    let pools: Vec<Value> = (0..PFS)
        .flat_map(|nic| {
            (0..8).map(move |group| json!({"name": format!("pool-{nic}-{group}"), "prefer": "spread"}))
        })
        .collect();
    let bridge = |bridge: usize| {
        let port = |port: usize| {
            json!({"name": format!("p{bridge}-{port}"), "type": "internal",
                "vlan": {"mode": "trunk", "trunks": [port + 1, "1000-1019", "2000-2019", "3000-3019"]},
                "policing": {"rate": 10000, "burst": 1000}})
        };
        json!({"name": format!("br{bridge}"), "ports": (0..PORTS).map(port).collect::<Vec<_>>()})
    };
    json!({"kind": "NodePolicy", "metadata": {"name": "workers"}, "spec": {
        "nodeSelector": {"matchLabels": {"role": "worker"}},
        "nics": (0..PFS).map(nic).collect::<Vec<_>>(),
        "pools": pools,
        "bridges": (0..BRIDGES).map(bridge).collect::<Vec<_>>(),
    }})
}

/// So often may a NodeState be written: three times at once, and then once in this time.
const PERIOD: Duration = Duration::from_secs(1);

async fn start(api: &ApiServer, machine: &Machine, folder: &Path) -> Agent {
    let pace = (patience(), Pace { period: PERIOD, ..Pace::default() });
    agent_over(connection("worker-1", api).await, pace, turn::Settings::default(), machine, outfit(folder))
}

fn writes(api: &ApiServer) -> usize {
    api.requests("/nodestates/").iter().filter(|(method, _)| method == "PATCH").count()
}

/// No more writes than the pace allows, and the object is far from what etcd takes.
fn is_bounded(api: &ApiServer, since: Instant) {
    let most = 4.0 + since.elapsed().div_duration_f64(PERIOD);
    assert!(writes(api) as f64 <= most, "{} writes in {:?}", writes(api), since.elapsed());
    for change in api.history(STATE) {
        let size = change.object.to_string().len();
        assert!(size < MEBIBYTE, "{size} bytes");
    }
}

/// A condition of the policy as the node tells it.
fn condition(state: &Value, kind: &str) -> Value {
    let policies = state.pointer("/status/policies").and_then(Value::as_array).unwrap();
    let conditions = policies[0]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// What it is, how it comes into a port of the policy, and words that tell of it, the field's path first.
type Mistake = (&'static str, fn(&mut Value), &'static [&'static str]);

/// Puts mistakes into a policy that is followed: each is told, and nothing is done.
async fn mistakes_are_told(api: &ApiServer, machine: &Machine, policy: Value) {
    // What is wrong is said with its place, be it the last field, and what was good before stays.
    let (steps, bridge, port) = (machine.node().steps, BRIDGES - 1, PORTS - 1);
    let wrong: [Mistake; 4] = [
        ("an unknown field", |port| port["vlan"]["tagg"] = json!(5), &[".vlan.tagg"]),
        ("an unknown kind", |port| port["type"] = json!("quantum"), &[".type", "quantum"]),
        ("a value out of range", |port| port["policing"]["rate"] = json!(-1), &[".policing.rate"]),
        ("a conflict", |port| port["name"] = json!("p0-0"), &[".name", "spec.bridges[0].ports[0]"]),
    ];
    for (what, edit, words) in wrong {
        let mut bad = policy.clone();
        edit(&mut bad["spec"]["bridges"][bridge]["ports"][port]);
        api.put(POLICY, bad);
        let place = format!("spec.bridges[{bridge}].ports[{port}]{}", words[0]);
        let told = |state: &Value| {
            condition(state, "Accepted")["message"].as_str().is_some_and(|text| text.contains(&place))
        };
        let state = api.wait_for_within(WITHIN, STATE, told).await;
        let accepted = condition(&state, "Accepted");
        let message = accepted["message"].as_str().unwrap();
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("Invalid")),
            "{what}"
        );
        assert!(message.starts_with("the last good one is followed"), "{what}: {message}");
        assert!(words.iter().all(|word| message.contains(word)), "{what}: {message}");
        assert_eq!(ready(&state), Some("False"), "{what}");
    }
    // As many mistakes as there are ports: the first are said.
    let mut bad = policy;
    for port in bad["spec"]["bridges"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .flat_map(|bridge| bridge["ports"].as_array_mut().unwrap())
    {
        port["tagg"] = json!(5);
    }
    api.put(POLICY, bad);
    let cut = |state: &Value| {
        condition(state, "Accepted")["message"].as_str().is_some_and(|text| text.ends_with('…'))
    };
    let state = api.wait_for_within(WITHIN, STATE, cut).await;
    let message = condition(&state, "Accepted")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.bridges[0].ports[0].tagg") && message.len() < 2048, "{message}");
    assert_eq!(machine.node().steps, steps, "nothing is done for what cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_as_large_as_etcd_takes_is_followed_like_any_other() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let policy = large();
    let size = policy.to_string().len();
    assert!((ETCD - 200_000..ETCD - 50_000).contains(&size), "{size} bytes");
    api.put(POLICY, policy.clone());
    let began = Instant::now();
    let mut agent = start(&api, &machine, folder.path()).await;
    agent.until("in sync", WITHIN, in_sync).await;
    println!("in sync after {:?}", began.elapsed());
    let state = api.wait_for_within(WITHIN, STATE, |state| ready(state) == Some("True")).await;
    println!("told after {:?}, {} writes, {} bytes", began.elapsed(), writes(&api), state.to_string().len());
    assert_eq!(state["status"]["summary"]["vfs"], 512);
    let count = |field: &str| state["status"][field].as_array().map_or(0, Vec::len);
    assert_eq!((count("pfs"), count("pools"), count("bridges")), (8, 64, BRIDGES));
    {
        let node = machine.node();
        let bridges = &node.kernel.ovs.as_ref().unwrap().bridges;
        let ports: usize = bridges.iter().map(|bridge| bridge.others().count()).sum();
        assert_eq!((bridges.len(), ports), (BRIDGES, BRIDGES * PORTS));
        assert!(node.violations().is_empty());
    }
    is_bounded(&api, began);

    // Rounds that find everything in place tell nothing.
    let written = writes(&api);
    for _ in 0..5 {
        agent.wake();
        let heard = agent.has_heard();
        let facts = agent.until("another round", WITHIN, |facts| heard(facts) && in_sync(facts)).await;
        println!("a round: {:?}", facts.took);
    }
    assert_eq!(writes(&api), written);

    mistakes_are_told(&api, &machine, policy).await;
    is_bounded(&api, began);

    // An agent that starts while the API server is away has it, too.
    agent.stop().await;
    api.set_mood(Mood::Away);
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.clear();
    let mut agent = start(&api, &machine, folder.path()).await;
    agent.until("in sync again", WITHIN, in_sync).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 64);
    agent.stop().await;
    kubelet.stop().await;
    println!("done after {:?}", began.elapsed());
}

const MANY: usize = 300;

/// A policy with two bridges, each with a mirror whose name is as long as names may be.
fn small(number: usize) -> Value {
    let bridges = ["a", "b"].map(|half| format!("br{number:03}{half}"));
    let mirror = |bridge: &String| json!({"name": format!("{bridge}-{}", "m".repeat(240)), "bridge": bridge, "select": {"all": true}, "output": {"vlan": 999}});
    json!({"kind": "NodePolicy", "spec": {"nodeSelector": {"matchLabels": {"role": "worker"}},
        "bridges": bridges.iter().map(|bridge| json!({"name": bridge})).collect::<Vec<_>>(),
        "mirrors": bridges.iter().map(mirror).collect::<Vec<_>>()}})
}

fn path(number: usize) -> String {
    POLICY.replace("workers", &format!("p{number:03}"))
}

/// What the node adds to the count of each policy.
fn counted(state: &Value) -> Value {
    let text =
        state.pointer("/metadata/annotations/portwright.dev~1policies").and_then(Value::as_str).unwrap();
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_policies_what_needs_a_hand_is_told_and_all_are_counted() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let mut policies: Vec<Value> = (0..MANY).map(small).collect();
    // The last of them have mistakes: in the document, and as seen from the node.
    policies[MANY - 1]["spec"]["bridges"][1]["port"] = json!([]);
    let mirror =
        json!({"name": "tap", "bridge": "br298a", "select": {"all": true}, "output": {"port": "nosuch"}});
    policies[MANY - 2]["spec"]["mirrors"][0] = mirror;
    let began = Instant::now();
    api.put_all(policies.iter().enumerate().map(|(number, policy)| (path(number), policy.clone())));
    let mut agent = start(&api, &machine, folder.path()).await;
    let done = |facts: &portwright::daemon::facts::Facts| {
        facts.sequence > 0 && !facts.running && facts.plan.steps.is_empty() && facts.policies.len() == MANY
    };
    agent.until("nothing is left to do", WITHIN, done).await;
    println!("done after {:?}", began.elapsed());
    let state = api
        .wait_for_within(WITHIN, STATE, |state| {
            state["status"]["summary"]["pending"] == 0
                && state["status"]["summary"]["running"] == false
                && state["status"]["policies"].is_array()
        })
        .await;
    println!("told after {:?}, {} writes, {} bytes", began.elapsed(), writes(&api), state.to_string().len());
    // What does not fit is left out and counted; what is not well is not left out.
    let status = &state["status"];
    assert_eq!(status["omitted"]["policies"], MANY - 256, "{}", status["omitted"]);
    assert_eq!(status["omitted"]["bridges"], 2 * (MANY - 1) - 512, "{}", status["omitted"]);
    assert_eq!(ready(&state), Some("False"));
    let told = |list: &str, name: &str| {
        let list = status[list].as_array().unwrap();
        list.iter()
            .find(|one| one["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not told of"))
            .to_string()
    };
    assert!(told("policies", "p299").contains("spec.bridges[1].port"), "{}", told("policies", "p299"));
    assert!(told("policies", "p298").contains("MirrorOutputMissing"), "{}", told("policies", "p298"));
    assert!(told("bridges", "br298a").contains("MirrorOutputMissing"), "{}", told("bridges", "br298a"));
    // Policies that are not shown count, too.
    let counts = counted(&state);
    assert_eq!(counts.as_object().unwrap().len(), MANY);
    let well = counts.as_object().unwrap().values().filter(|one| one["ready"] == true).count();
    assert_eq!(well, MANY - 2);
    is_bounded(&api, began);

    // So many mistakes that they do not fit at that length: shorter, fewer, and it says how many are missing.
    let long: Vec<Value> =
        (0..40).map(|one| json!({"name": format!("br{one}"), "a-field-that-nobody-knows": one})).collect();
    api.put_all((0..MANY).map(|number| {
        let mut policy = policies[number].clone();
        policy["spec"]["bridges"] = json!(long);
        (path(number), policy)
    }));
    let cut =
        |state: &Value| state["status"]["omitted"]["policies"].as_u64().is_some_and(|left_out| left_out > 44);
    let state = api.wait_for_within(WITHIN, STATE, cut).await;
    println!(
        "cut after {:?}, {} writes, {} bytes: {}",
        began.elapsed(),
        writes(&api),
        state.to_string().len(),
        state["status"]["omitted"]
    );
    let shown = state["status"]["policies"].as_array().unwrap();
    assert_eq!(shown.len() + state["status"]["omitted"]["policies"].as_u64().unwrap() as usize, MANY);
    for policy in shown {
        let accepted = policy["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|condition| condition["type"] == "Accepted")
            .unwrap();
        let message = accepted["message"].as_str().unwrap();
        assert!(message.contains("spec.bridges[0].a-field") && message.ends_with('…'), "{message}");
    }
    assert_eq!(counted(&state).as_object().unwrap().len(), MANY);
    is_bounded(&api, began);
    agent.stop().await;
}
