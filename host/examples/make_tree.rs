//! Makes a tree that looks like a node with SR-IOV: `make_tree DIR PFS VFS`. For benches and for trying things out.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

#[path = "../tests/tree/mod.rs"]
mod tree;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, pfs, vfs] = words.as_slice() else { return Err("usage: make_tree DIR PFS VFS".into()) };
    let (pfs, vfs) = (pfs.parse()?, vfs.parse()?);
    tree::generate(dir.as_ref(), pfs, vfs)?;
    println!("{dir}: {pfs} PFs with {vfs} VFs each");
    Ok(())
}
