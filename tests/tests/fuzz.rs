//! The readers of everything that comes from outside, under a seeded, bounded mutation loop (not coverage-guided).
//!
//! `cargo xtask test` runs each target briefly, `cargo xtask bench long-tests` for longer. `FUZZ_SEED` picks another
//! sequence.
#![allow(clippy::panic, clippy::print_stdout, reason = "tests fail by panicking and print their seed")]

use portwright_tests::fuzz::{corpus, run};

/// A target, its name and how many cases take about a second without optimisation.
struct Target {
    name: &'static str,
    function: fn(&[u8]),
    cases: u64,
}

/// How many times longer the long run is.
const LONGER: u64 = 100;

const POLICY: &[Target] =
    &[Target { name: "policy", function: portwright_api::fuzz::fuzz_policy, cases: 2_000 }];

const SYSFS: &[Target] =
    &[Target { name: "sysfs", function: portwright_host::fuzz::fuzz_sysfs, cases: 20_000 }];

const POOLS: &[Target] = &[
    Target {
        name: "device-plugin-config",
        function: portwright_core::pools::fuzz::fuzz_config,
        cases: 10_000,
    },
    Target { name: "device-plugin-range", function: portwright_core::pools::fuzz::fuzz_range, cases: 10_000 },
];

const OVSDB: &[Target] = &[
    Target { name: "ovsdb-stream", function: portwright_ovs::fuzz::fuzz_stream, cases: 20_000 },
    Target { name: "ovsdb-update", function: portwright_ovs::fuzz::fuzz_update, cases: 20_000 },
    Target { name: "ovsdb-answer", function: portwright_ovs::fuzz::fuzz_answer, cases: 20_000 },
    Target { name: "ovsdb-schema", function: portwright_ovs::fuzz::fuzz_schema, cases: 20_000 },
];

const INJECTOR: &[Target] = &[
    Target { name: "injector-annotation", function: portwright_injector::fuzz::annotation, cases: 20_000 },
    Target { name: "injector-body", function: portwright_injector::fuzz::body, cases: 10_000 },
    Target { name: "injector-amount", function: portwright_injector::fuzz::amount, cases: 20_000 },
];

fn check(targets: &[Target], longer: u64) {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for Target { name, function, cases } in targets {
        let corpus = corpus(name).unwrap_or_else(|error| panic!("{error}"));
        println!("{name}: {} cases with FUZZ_SEED={seed}", cases * longer);
        if let Err(crash) = run(name, *function, &corpus, seed, cases * longer) {
            let input = crash.input.display();
            panic!("{name}: case {} of FUZZ_SEED={seed} panicked; its input is {input}", crash.case);
        }
    }
}

#[test]
fn no_policy_document_makes_the_reader_panic() {
    check(POLICY, 1);
}

#[test]
fn no_file_of_the_kernel_makes_the_inventory_panic() {
    check(SYSFS, 1);
}

#[test]
fn no_configuration_of_pools_makes_the_reader_panic() {
    check(POOLS, 1);
}

#[test]
fn whatever_a_database_server_sends_reading_it_ends_with_an_answer() {
    check(OVSDB, 1);
}

#[test]
fn no_annotation_and_no_review_makes_the_injector_panic() {
    check(INJECTOR, 1);
}

#[test]
#[ignore = "long: run by cargo xtask bench"]
fn all_readers_at_length() {
    for targets in [POLICY, SYSFS, POOLS, OVSDB, INJECTOR] {
        check(targets, LONGER);
    }
}
