//! Properties of the planner: for random nodes, policies, users of VFs and faults, applying any plan on the simulator, cut
//! off anywhere, converges on planning again; no step meets EBUSY; no VF in use and nothing on the management path is
//! touched; the last plan is empty and the node is as the policy says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking and say on the terminal with which seed"
)]

mod case;
mod chaos;
mod choices;
mod mutants;
mod node;
mod oracle;
mod policy;
mod story;
mod unknown;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::case::Case;
use crate::story::{Shelf, Tally, play};

/// Cases in a normal run.
const CASES: u32 = 5_000;
/// Cases in a long run.
const LONG: u32 = 200_000;

fn number(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// The lists of numbers that cases are made of, always the same for a seed.
fn runner(cases: u32, seed: u32) -> TestRunner {
    let mut bytes = [0_u8; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Plays cases from a seed; a failing one is shrunk and printed.
fn check(cases: u32) {
    let seed = number("PORTWRIGHT_SEED", 1);
    let cases = number("PORTWRIGHT_CASES", cases);
    println!("{cases} cases with PORTWRIGHT_SEED={seed}");
    let mut runner = runner(cases, seed);
    let shelf = Shelf::new();
    let tally = std::cell::RefCell::new(Tally::default());
    let outcome = runner.run(&vec(any::<u16>(), 0..400), |numbers| {
        let case = Case::new(&numbers);
        unknown::check(&case, &numbers, shelf.of(&case)).map_err(TestCaseError::fail)?;
        play(&case, &shelf, &portwright_core::plan, &mut tally.borrow_mut()).map_err(TestCaseError::fail)
    });
    println!("{:?}", tally.borrow());
    if let Err(error) = outcome {
        if let proptest::test_runner::TestError::Fail(why, numbers) = &error {
            let case = Case::new(numbers);
            panic!("PORTWRIGHT_SEED={seed}: {why}\n{}", story::describe(&case));
        }
        panic!("PORTWRIGHT_SEED={seed}: {error}");
    }
}

#[test]
fn plans_converge_and_hurt_nobody() {
    check(CASES);
}

#[test]
#[ignore = "long: run by cargo xtask bench"]
fn plans_converge_and_hurt_nobody_at_length() {
    check(LONG);
}

/// How many cases a mistake may survive. The rarest need a coincidence: two documents, or a VF in an unusual state.
const MUTANT_CASES: usize = 4_000;

#[test]
fn every_planner_mistake_of_the_list_is_caught() {
    let mut runner = runner(0, number("PORTWRIGHT_SEED", 1));
    let strategy = vec(any::<u16>(), 0..400);
    let cases: Vec<Case> =
        (0..MUTANT_CASES).map(|_| Case::new(&strategy.new_tree(&mut runner).unwrap().current())).collect();
    let shelf = Shelf::new();
    let mut survivors = Vec::new();
    for mutant in mutants::all() {
        let caught = cases.iter().enumerate().find_map(|(number, case)| {
            let why = play(case, &shelf, &mutant.plan, &mut Tally::default()).err()?;
            Some((number, why))
        });
        match caught {
            Some((number, why)) => {
                let short: String = why.chars().take(100).collect();
                println!("case {number:4}: \"{}\" → {short}", mutant.mistake);
            }
            None => survivors.push(mutant.mistake),
        }
    }
    assert!(survivors.is_empty(), "not caught in {MUTANT_CASES} cases: {survivors:?}");
}
