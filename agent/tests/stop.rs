//! Signals stop a run between two steps and never end it. A file of its own, because signals go to the whole process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use portwright::apply::stop::Stop;
use portwright_host::deadline::Deadline;

#[test]
fn a_signal_is_a_reason_to_stop_and_a_second_one_changes_nothing() {
    let stop = Stop::on_signals(None).unwrap();
    assert_eq!(stop.reason(), None);
    raise(Signal::SIGTERM).unwrap();
    let deadline = Deadline::after(Duration::from_secs(20));
    while stop.reason().is_none() && !deadline.expired() {
        std::thread::yield_now();
    }
    assert_eq!(stop.reason().as_deref(), Some("stopped by SIGTERM"));
    raise(Signal::SIGINT).unwrap();
    raise(Signal::SIGTERM).unwrap();
    assert_eq!(stop.reason().as_deref(), Some("stopped by SIGTERM"));
}
