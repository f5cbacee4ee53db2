//! Readers of sriov-network-device-plugin's configuration under a seeded, bounded mutation loop (not coverage-guided).
#![allow(clippy::panic, reason = "tests fail by panicking")]

use portwright_core::pools::fuzz;
use portwright_tests::fuzz::{corpus, run};

/// Enough for a few seconds; `FUZZ_CASES` asks for more.
const CASES: u64 = 20_000;

#[test]
fn whatever_a_configuration_holds_reading_it_ends_with_an_answer() {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let targets: [(&str, fn(&[u8])); 2] =
        [("device-plugin-config", fuzz::fuzz_config), ("device-plugin-range", fuzz::fuzz_range)];
    for (target, function) in targets {
        let corpus = corpus(target).unwrap_or_else(|error| panic!("{error}"));
        for seed in [1, 2] {
            if let Err(crash) = run(target, function, &corpus, seed, cases) {
                panic!(
                    "{target}: case {} of seed {seed} panicked; its input is {}",
                    crash.case,
                    crash.input.display()
                );
            }
        }
    }
}
