//! The daemon's conversation with the cluster: [`source`] follows policies, the own Node and its pods and says what is wanted;
//! [`state`], [`events`], [`advertise`], [`labels`] and [`census`] tell what is; [`start`] puts them together. Nothing here
//! holds up the loop: each part is a task of its own that keeps what it knows while the API server is slow or away, and
//! comes back by itself.

pub mod advertise;
pub mod ask;
mod believed;
pub mod census;
mod chosen;
pub mod client;
pub mod contribution;
pub mod events;
pub mod follow;
pub mod health;
mod keep;
pub mod kinds;
pub mod labels;
mod listing;
pub mod node;
pub mod pace;
pub mod policy;
pub mod selector;
pub mod source;
pub mod start;
pub mod state;
mod store;
