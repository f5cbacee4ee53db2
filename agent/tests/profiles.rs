//! The compiled-in hardware profiles: complete, readable, honest about their sources.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

use std::collections::BTreeSet;
use std::path::Path;

use portwright::builtin;
use portwright_core::profile::{Confidence, Configure, Dpdk, EswitchOrder, MacApplies, Profile, VfAttribute};

/// Families that an operator may meet; each must have a profile.
const FAMILIES: &[&str] = &[
    "be2net",
    "bnx2x",
    "bnxt",
    "cxgb4",
    "ena",
    "enic",
    "fbnic",
    "fm10k",
    "gve",
    "hinic",
    "hns3",
    "i40e",
    "ice",
    "idpf",
    "igb",
    "ionic",
    "ixgbe",
    "liquidio",
    "mana",
    "mlx4",
    "mlx5",
    "netdevsim",
    "nfp",
    "octeon",
    "qede",
    "rvu",
    "sfc",
    "virtio",
];

fn all() -> Vec<Profile> {
    let profiles = builtin::profiles().unwrap_or_else(|errors| panic!("profiles do not parse: {errors:#?}"));
    profiles.iter().cloned().collect()
}

fn named(name: &str) -> Profile {
    all().into_iter().find(|profile| profile.name == name).unwrap_or_else(|| panic!("no profile {name}"))
}

#[test]
fn every_file_of_the_folder_is_compiled_in_and_parses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hw-profiles");
    let on_disk: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let compiled: BTreeSet<String> = builtin::FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(compiled, on_disk);
    assert_eq!(all().len(), on_disk.len());
}

#[test]
fn every_family_of_the_inventory_has_a_profile() {
    let names: BTreeSet<String> = all().into_iter().map(|profile| profile.name).collect();
    let missing: Vec<_> = FAMILIES.iter().filter(|family| !names.contains(**family)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_fact_names_its_source() {
    for profile in all() {
        let sources = profile.quirks.iter().map(|quirk| &quirk.source);
        let empty = sources.filter(|source| source.trim().is_empty()).count();
        assert_eq!(empty, 0, "{}", profile.name);
        assert!(!profile.summary.is_empty() && !profile.drivers.is_empty(), "{}", profile.name);
    }
}

/// A guess must not keep an operator from anything.
#[test]
fn facts_that_stop_a_change_are_better_than_assumed() {
    for profile in all() {
        let assumed = |confidence: Confidence| confidence == Confidence::Assumed;
        let name = &profile.name;
        assert!(!profile.max_vfs.is_some_and(|fact| assumed(fact.confidence)), "{name}: max-vfs");
        assert!(!profile.vf_attributes.is_some_and(|fact| assumed(fact.confidence)), "{name}: vf-attributes");
        assert!(
            !profile.configure.is_some_and(|fact| fact.value != Configure::Sysfs && assumed(fact.confidence)),
            "{name}: configure"
        );
    }
}

#[test]
fn only_what_the_lab_runs_is_called_tested() {
    let tested: Vec<String> =
        all().into_iter().filter(|profile| profile.tested.is_some()).map(|profile| profile.name).collect();
    assert_eq!(tested, ["igb"]);
}

#[test]
fn the_strategies_that_plans_depend_on_are_as_measured_or_read() {
    let igb = named("igb");
    let attributes = igb.vf_attributes.unwrap().value;
    for refused in [VfAttribute::VlanDot1ad, VfAttribute::LinkState, VfAttribute::MinRate] {
        assert!(!attributes.contains(&refused), "igb {refused:?}");
    }
    assert!(igb.rate_needs_carrier.unwrap().value);
    assert_eq!(igb.mac_applies.unwrap().value, MacApplies::AtProbe);
    assert_eq!(igb.vf_driver.unwrap().value, "igbvf");

    let mlx5 = named("mlx5");
    assert_eq!(mlx5.eswitch_order.unwrap().value, EswitchOrder::VfsUnbound);
    assert_eq!(mlx5.dpdk.unwrap().value, Dpdk::Bifurcated);
    assert!(mlx5.firmware_hint.unwrap().value.contains("mstconfig"));

    assert_eq!(named("ice").eswitch_order.unwrap().value, EswitchOrder::WithoutVfs);
    assert_eq!(named("mlx4").configure.unwrap().value, Configure::ModuleParameter);
    assert_eq!(named("enic").configure.unwrap().value, Configure::External);
}
