//! What `apply` needs beside `portwright-core`: which steps the policies permit, when to stop, how it is told.

pub mod carry;
pub mod hints;
pub mod permit;
pub mod progress;
pub mod report;
pub mod stop;
