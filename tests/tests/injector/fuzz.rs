//! Seeded mutation of hand-written corpora, bounded in cases; the targets are the injector's.

use portwright_injector::fuzz;
use portwright_tests::fuzz::{corpus, run};

fn check(target: &str, function: fn(&[u8]), cases: u64) {
    let corpus = corpus(target).unwrap();
    if let Err(crash) = run(target, function, &corpus, 1, cases) {
        panic!("{target}: case {} panicked, input kept as {}", crash.case, crash.input.display());
    }
}

#[test]
fn annotations() {
    check("injector-annotation", fuzz::annotation, 20_000);
}

#[test]
fn bodies() {
    check("injector-body", fuzz::body, 10_000);
}

#[test]
fn amounts() {
    check("injector-amount", fuzz::amount, 10_000);
}
