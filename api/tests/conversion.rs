//! What a document means to the planner, field by field; and that no policy, however odd, makes the conversion panic or
//! disagree with itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use portwright_api::{NodePolicy, check, convert, json_schema, load, policy_from_json};
use portwright_core::desired::{
    DisruptionPolicy, Document, DriverWish, EswitchMode, LinkState, MacPolicy, Mode, NicEntry, TxRateWish,
    VfGroup, Vlan, VlanProtocol,
};
use portwright_core::select::{Pattern, Selector};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

fn one(spec: &str) -> Document {
    let head = "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: p}\nspec:";
    let text = format!("{head} {spec}");
    load([("p.yaml", text.as_str())]).unwrap_or_else(|errors| panic!("{errors:#?}")).remove(0)
}

fn bare(path: &str, select: Selector) -> NicEntry {
    NicEntry {
        path: path.to_owned(),
        select,
        vfs: None,
        mtu: None,
        eswitch: None,
        externally_managed: false,
        allow_management_path: false,
        groups: Vec::new(),
    }
}

fn group(vfs: &str) -> VfGroup {
    VfGroup {
        vfs: vfs.parse().unwrap(),
        pool: None,
        driver: DriverWish::Kernel,
        mtu: None,
        trust: None,
        spoof_check: None,
        vlan: None,
        tx_rate: None,
        link_state: None,
        macs: None,
    }
}

#[test]
fn what_is_absent_is_left_as_it_is() {
    let document = one("{nics: [{select: {drivers: [igb]}, vfGroups: [{vfs: 3}, {vfs: 0, txRate: {}}]}]}");
    let mut entry = bare("spec.nics[0]", Selector { drivers: vec!["igb".into()], ..Selector::default() });
    let nothing = TxRateWish { min: None, max: None };
    entry.groups = vec![group("3"), VfGroup { tx_rate: Some(nothing), ..group("0") }];
    let expected = Document {
        name: "p".into(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: vec![entry],
        pools: Vec::new(),
        ovs: Default::default(),
    };
    assert_eq!(document, expected);
}

#[test]
fn every_field_arrives() {
    let document = one(r#"
  priority: -5
  mode: Plan
  disruption: Force
  nics:
  - select: {vendors: ["0x15B3"], devices: ["1017"], drivers: [mlx5_core], names: ["ens*"], addresses: ["0000:3B:00.*"],
             macs: ["52:54:00:AB:cd:ef"], numaNodes: [1], switchIds: [B83FD2]}
    vfs: 8
    mtu: 9000
    eswitch: switchdev
    externallyManaged: true
    allowManagementPath: true
    vfGroups:
    - {vfs: "0-2,5", pool: dpdk, driver: vfio-pci, mtu: 1500, trust: true, spoofCheck: false,
       vlan: {id: 100, qos: 3, protocol: 802.1ad}, txRate: {min: 1, max: 2}, linkState: disable, macs: random}
    - {vfs: 3, driver: kernel, trust: false, vlan: {id: 0}, macs: keep, linkState: auto}
    - {vfs: "4", macs: stable, linkState: enable, txRate: {max: 0}}"#);
    let pattern = |text| vec![Pattern::new(text).unwrap()];
    let select = Selector {
        vendors: vec!["15b3".parse().unwrap()],
        devices: vec!["1017".parse().unwrap()],
        drivers: vec!["mlx5_core".into()],
        names: pattern("ens*"),
        addresses: pattern("0000:3b:00.*"),
        macs: vec!["52:54:00:ab:cd:ef".parse().unwrap()],
        numa_nodes: vec![1],
        switch_ids: vec!["b83fd2".into()],
    };
    let groups = vec![
        VfGroup {
            pool: Some("dpdk".into()),
            driver: DriverWish::Named("vfio-pci".into()),
            mtu: Some(1500),
            trust: Some(true),
            spoof_check: Some(false),
            vlan: Some(Vlan { id: 100, qos: 3, protocol: VlanProtocol::Dot1ad }),
            tx_rate: Some(TxRateWish { min: Some(1), max: Some(2) }),
            link_state: Some(LinkState::Disable),
            macs: Some(MacPolicy::Random),
            ..group("0-2,5")
        },
        VfGroup {
            trust: Some(false),
            vlan: Some(Vlan { id: 0, qos: 0, protocol: VlanProtocol::Dot1q }),
            link_state: Some(LinkState::Auto),
            macs: Some(MacPolicy::Keep),
            ..group("3")
        },
        VfGroup {
            tx_rate: Some(TxRateWish { min: None, max: Some(0) }),
            link_state: Some(LinkState::Enable),
            macs: Some(MacPolicy::Stable),
            ..group("4")
        },
    ];
    let entry = NicEntry {
        vfs: Some(8),
        mtu: Some(9000),
        eswitch: Some(EswitchMode::Switchdev),
        externally_managed: true,
        allow_management_path: true,
        groups,
        ..bare("spec.nics[0]", select)
    };
    assert_eq!(document.priority, -5);
    assert_eq!(document.mode, Mode::Plan);
    assert_eq!(document.disruption, DisruptionPolicy::Force);
    assert_eq!(document.nics, [entry]);
}

/// Texts that some rule or other stumbles over.
const WORDS: &[&str] = &[
    "",
    "a",
    "0-3",
    "5-3",
    "0,x",
    "65535",
    "0-65535",
    "-1",
    "99999999999",
    "8086",
    "0x8086",
    "ens1f*",
    "[",
    "{a,b",
    "0000:3b:00.0",
    "0000:3b:00.*",
    "52:54:00:12:34:56",
    "kernel",
    "vfio-pci",
    "10%",
    "101%",
    "4094",
    "4095",
    "20-29",
    "br0",
    "portwright.dev/owner",
    "kubernetes.io",
    "flow",
    "192.0.2.1",
    "dpdk-devargs",
    "remote_ip",
    "é\u{0}\u{202e}",
    "averyveryveryverylongnameindeed",
    "0-3,2",
    "p0",
    "linux-htb",
    "\n",
];

/// Turns bytes into choices, so that a failing case shrinks to few and small ones.
struct Choices<'a>(std::slice::Iter<'a, u16>);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default()) % bound.max(1)
    }
}

/// Some document that fits the schema, or nearly.
fn document(schema: &Json, choices: &mut Choices<'_>, depth: usize) -> Json {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words[choices.below(words.len())].clone();
    }
    if schema.get("type").is_some_and(Json::is_array) {
        return if choices.below(2) == 0 { number(schema, choices) } else { word(choices) };
    }
    match schema.get("type").and_then(Json::as_str).unwrap_or_default() {
        "object" => object(schema, choices, depth),
        "array" => {
            let items = choices.below(3);
            Json::Array((0..items).map(|_| document(&schema["items"], choices, depth + 1)).collect())
        }
        "boolean" => json!(choices.below(2) == 0),
        "integer" => number(schema, choices),
        _ => word(choices),
    }
}

fn object(schema: &Json, choices: &mut Choices<'_>, depth: usize) -> Json {
    let mut object = Map::new();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        if required.contains(&json!(name)) || choices.below(3) == 0 {
            object.insert(name.clone(), document(below, choices, depth + 1));
        }
    }
    if let Some(below) = schema.get("additionalProperties").filter(|below| below.is_object()) {
        for _ in 0..choices.below(3) {
            let key = WORDS[choices.below(WORDS.len())].to_owned();
            object.insert(key, document(below, choices, depth + 1));
        }
    }
    Json::Object(object)
}

fn word(choices: &mut Choices<'_>) -> Json {
    json!(WORDS[choices.below(WORDS.len())])
}

fn number(schema: &Json, choices: &mut Choices<'_>) -> Json {
    let bound = |key: &str, otherwise| schema.get(key).and_then(Json::as_i64).unwrap_or(otherwise);
    let (least, most) = (bound("minimum", i64::from(i32::MIN)), bound("maximum", i64::from(i32::MAX)));
    let spread = i64::try_from(choices.below(8)).unwrap();
    json!(match choices.below(3) {
        0 => (least + spread).min(most),
        1 => (most - spread).max(least),
        _ => spread.clamp(least, most),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn converting_any_policy_ends_with_an_answer(bytes in prop::collection::vec(any::<u16>(), 0..400)) {
        let mut choices = Choices(bytes.iter());
        let mut json = document(&json_schema(), &mut choices, 0);
        json["apiVersion"] = json!("portwright.dev/v1alpha1");
        json["kind"] = json!("NodePolicy");
        json["metadata"] = json!({"name": "p"});
        let policy: NodePolicy = policy_from_json(&json).map_err(|e| TestCaseError::fail(format!("{e:?}\n{json}")))?;
        let (wrong, converted) = (check(&policy), convert(&policy));
        // `convert` never finds fewer mistakes than `check`.
        let found = converted.as_ref().err().cloned().unwrap_or_default();
        prop_assert!(wrong.iter().all(|error| found.contains(error)), "{wrong:?} {found:?}");
        prop_assert!(found.iter().all(|error| !error.path.is_empty() && !error.what.is_empty()), "{found:?}");
        // What is written back means the same.
        let again: NodePolicy = policy_from_json(&serde_json::to_value(&policy).unwrap()).unwrap();
        prop_assert_eq!(&again, &policy);
        prop_assert_eq!(convert(&again), converted);
    }

    #[test]
    fn reading_any_text_ends_with_an_answer(
        start in 0..portwright_api::example().len(),
        removed in 0..40_usize,
        inserted in "[ -~\n\t{}\\[\\]&*!|>'\"%@:#-]{0,6}",
    ) {
        let example = portwright_api::example();
        let after = example.len().min(start + removed);
        let text = format!("{}{inserted}{}", &example[..start], &example[after..]);
        portwright_api::fuzz::fuzz_policy(text.as_bytes());
        if let Err(errors) = load([("mutated.yaml", text.as_str())]) {
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.iter().all(|error| error.to_string().starts_with("mutated.yaml")));
        }
    }
}
