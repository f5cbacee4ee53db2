//! The daemon's parts. Around the loop in [`crate::reconcile`] there are sources, which say what is wanted ([`wish`]), and
//! publishers, which tell what is ([`facts`]); each is a task of its own, so that one that is slow or away holds up nobody
//! else. Before somebody else's traffic is disrupted, [`turn`] asks the cluster.

pub mod cluster;
pub mod facts;
pub mod files;
pub mod gate;
pub mod hands;
pub mod kube;
pub mod memory;
pub mod mind;
pub mod round;
pub mod socket;
pub mod start;
pub mod state;
pub mod turn;
pub mod under_way;
pub mod wish;
