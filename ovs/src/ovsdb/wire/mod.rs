//! Bytes to messages: `split` finds where a message ends, `message` says what kind it is.

pub(crate) mod message;
pub(crate) mod split;

pub use message::MessageError;
pub use split::{SplitError, Splitter};
