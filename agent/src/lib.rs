//! The daemon and the operator's command line: wires everything, owns the loop.

pub mod builtin;
