//! Device events of the real kernel, in a network namespace of their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{fresh_netns, sh};
use portwright_host::deadline::Deadline;
use portwright_host::netlink;
use portwright_host::uevent::{Event, Uevents};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

#[test]
fn a_new_veth_is_heard_and_waited_for() {
    fresh_netns();
    let mut uevents = Uevents::open().unwrap();
    sh("ip link add uv0 type veth peer name uv1");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        match uevents.next(soon()).unwrap().unwrap() {
            Event::Device(event) if event.key("SUBSYSTEM") == Some("net") => {
                assert_eq!(event.action, "add");
                heard.push(event.key("INTERFACE").unwrap().to_owned());
            }
            Event::Device(_) | Event::Link => {}
            Event::Overflow => panic!("overflow with two interfaces"),
        }
    }
    heard.sort();
    assert_eq!(heard, ["uv0", "uv1"]);
}

#[test]
fn waiting_looks_again_at_each_event_and_not_in_between() {
    fresh_netns();
    sh("ip link add uv0 type veth peer name uv1");
    let mut uevents = Uevents::open().unwrap();
    // The link's state is the second trigger: setting an interface up is no device event. It is set up only after the
    // first look.
    let (looked, wait_for_look) = mpsc::channel();
    let setter = std::thread::spawn(move || {
        wait_for_look.recv().unwrap();
        sh("ip link set uv0 up")
    });
    let mut looks = 0;
    let found = uevents.wait_until(soon(), || {
        looks += 1;
        let up = netlink::links().unwrap().into_iter().find(|link| link.name == "uv0" && link.up);
        looked.send(()).unwrap_or_default();
        up
    });
    assert!(found.is_some());
    setter.join().unwrap();
    assert!((2..20).contains(&looks), "{looks} looks: one per burst of events, no polling");
}

#[test]
fn a_deadline_ends_the_wait() {
    fresh_netns();
    let mut uevents = Uevents::open().unwrap();
    let mut looks = 0;
    let found: Option<()> = uevents.wait_until(Deadline::after(Duration::from_millis(50)), || {
        looks += 1;
        None
    });
    assert_eq!((found, looks), (None, 2), "once at the start, once at the end");
}

#[test]
fn a_buffer_that_ran_over_says_so_and_listening_goes_on() {
    fresh_netns();
    let mut uevents = Uevents::open().unwrap();
    // Some 12,000 link messages of 1 KiB and more fill the 4 MiB that are asked for.
    sh("ip link add uv0 type veth peer name uv1
        ( for i in $(seq 1 6000); do echo \"link set uv0 up\"; echo \"link set uv0 down\"; done ) | ip -batch -");
    let mut overflown = false;
    while let Some(event) = uevents.next(Deadline::after(Duration::from_millis(200))).unwrap() {
        overflown |= event == Event::Overflow;
    }
    assert!(overflown, "the burst was meant to overflow the buffer");
    sh("ip link add uv2 type ifb");
    assert!(uevents.next(soon()).unwrap().is_some());
}
