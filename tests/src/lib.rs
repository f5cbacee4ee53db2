//! End-to-end tests, fixtures and the SR-IOV lab.
//!
//! [`lab`] is the program that runs inside the lab's machines, which `cargo xtask lab` boots.

pub mod agents;
pub mod apiserver;
pub mod fuzz;
pub mod kubelet;
pub mod lab;
pub mod tree;
