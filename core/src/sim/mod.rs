//! A simulated node.
