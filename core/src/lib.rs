//! The decisions of portwright: what a node looks like ([`observed`]), what is wanted of it ([`desired`]), what is
//! known of its hardware ([`profile`]), which [`step`]s lead from one to the other and what is in the way
//! ([`plan`]), and how a plan is carried out and verified ([`drive`]).
//!
//! Pure on purpose: no runtime, no files, no clock, no logger. Everything here is a function of its arguments, so
//! that every decision can be tested as data and shown to an operator before anything happens.

pub mod advertise;
pub mod affected;
pub mod blocked;
pub mod desired;
pub mod drive;
pub mod fact;
pub mod fallback;
pub mod id;
pub mod labels;
pub mod lanes;
pub mod mac;
pub mod management;
pub mod observed;
pub mod ovs;
pub mod patience;
pub mod plan;
pub mod pools;
pub mod profile;
pub mod range;
pub mod select;
pub mod sim;
pub mod step;
pub mod udev_rule;
pub mod usage;

pub use blocked::{Blocked, Reason};
pub use fact::Fact;
pub use id::{MacAddress, Object, PciAddress, PciId, VfRef};
pub use observed::Observed;
pub use plan::{Plan, plan};
pub use profile::Profiles;
pub use step::{Change, Disruption, Step};
