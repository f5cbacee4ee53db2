//! Everything that needs a writer process. Without the usual harness: this program is the writer, too, as the agent is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "tests make files and start processes")]

mod bench;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod hands;
mod kernel;
mod node;
mod node_drivers;
mod node_journal;
mod node_links;
#[path = "../tree/mod.rs"]
mod tree;

use std::path::Path;

use portwright_host::child::{WRITER_ARGUMENT, child_main};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [WRITER_ARGUMENT] => return child_main().unwrap(),
        ["__parent", file] => return child::parent_of_a_stuck_writer(Path::new(file)),
        ["__agent", root] => return node_journal::agent_in_a_write(root),
        ["__holder", root] => return child::holder_of_the_lock(root),
        _ => {}
    }
    // As the usual harness: words choose tests by name, options are for it alone.
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut run = 0;
    for (name, test) in child::TESTS
        .into_iter()
        .chain(node::TESTS)
        .chain(node_drivers::TESTS)
        .chain(node_journal::TESTS)
        .chain(node_links::TESTS)
        .chain(hands::TESTS)
    {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            println!("test {name}");
            test();
            run += 1;
        }
    }
    println!("test result: ok. {run} passed");
}
