//! Prints what is seen of a node: `cargo run -p portwright-host --example observe [ROOT]`.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

use portwright_host::inventory::Observer;
use portwright_host::root::Root;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Root::new(std::env::args().nth(1).unwrap_or_else(|| "/".to_owned()));
    let live = root.is_host();
    let observed = Observer::new(root, live, "/var/lib/portwright").observe()?;
    println!("{}", serde_json::to_string_pretty(&observed)?);
    Ok(())
}
