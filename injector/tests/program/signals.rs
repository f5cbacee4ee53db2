//! SIGTERM while API servers go on asking.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::load::{Connection, lists, trust};
use crate::rig::{Finish, Replica, certificate, is_ready, wait_until};

/// Seconds for which a replica serves on.
const DELAY: u64 = 4;
/// Clients of each kind.
const CLIENTS: usize = 4;

/// What clients share: where they are to go, and what they have had.
#[derive(Default)]
struct Traffic {
    /// New connections go to the second replica: the Service has taken notice.
    moved: AtomicBool,
    done: AtomicBool,
    /// Reviews by replica, on kept and on new connections.
    served: [[AtomicUsize; 2]; 2],
}

impl Traffic {
    fn served(&self, replica: usize, fresh: bool) -> usize {
        self.served[replica][usize::from(fresh)].load(Ordering::Relaxed)
    }

    /// Has pods patched until all is done. A connection stays where it is until an answer says that it ends; with
    /// `fresh` each review gets a new one.
    fn flow(&self, ports: [u16; 2], config: &Arc<ClientConfig>, fresh: bool) {
        let mut kept = None;
        while !self.done.load(Ordering::Relaxed) {
            let (mut connection, replica) = kept.take().unwrap_or_else(|| {
                let replica = usize::from(self.moved.load(Ordering::Relaxed));
                (Connection::open(ports[replica], config).expect("connects"), replica)
            });
            let closing = connection.review().expect("the pod is patched");
            self.served[replica][usize::from(fresh)].fetch_add(1, Ordering::Relaxed);
            if !closing && !fresh {
                kept = Some((connection, replica));
            }
        }
    }
}

#[test]
fn sigterm_under_load_loses_no_request_and_readiness_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let api = lists();
    let delay = format!("--shutdown-delay={DELAY}");
    let mut leaving = Replica::start(dir.path(), api, &[&delay]);
    let mut staying = Replica::start(dir.path(), api, &[&delay]);
    let config = trust(dir.path());
    let ports = [leaving.webhook, staying.webhook];
    let probes = leaving.probes;
    // Somebody who has a connection and nothing to say must not hold up the end.
    let mut silent = Connection::open(ports[0], &config).unwrap();
    assert!(!silent.review().unwrap(), "nothing is closing yet");

    let traffic = Traffic::default();
    let more = |replica: usize, before: [usize; 2]| {
        (0..2).all(|kind| traffic.served(replica, kind == 1) > before[kind] + 20)
    };
    let now = |replica: usize| [traffic.served(replica, false), traffic.served(replica, true)];
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2 * CLIENTS)
            .map(|which| {
                scope.spawn({
                    let (traffic, config) = (&traffic, &config);
                    move || traffic.flow(ports, config, which % 2 == 1)
                })
            })
            .collect();
        let finish = Finish(&traffic.done);
        wait_until(&mut leaving.child, "loaded", || more(0, [0, 0]));
        let told = Command::new("kill").arg("-TERM").arg(leaving.child.id().to_string()).status();
        assert!(told.unwrap().success());
        wait_until(&mut leaving.child, "not ready", || !is_ready(probes));
        // Readiness went first: until the Service has taken notice, both kinds of connections are served as before.
        let seen = now(0);
        wait_until(&mut leaving.child, "serving on", || more(0, seen));
        traffic.moved.store(true, Ordering::Relaxed);
        wait_until(&mut staying.child, "the only one", || more(1, [0, 0]));
        let started = Instant::now();
        let ended = loop {
            if let Some(status) = leaving.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(DELAY + 15), "the process does not end");
            std::thread::yield_now();
        };
        assert_eq!(ended.code(), Some(0));
        let seen = now(1);
        wait_until(&mut staying.child, "still serving", || more(1, seen));
        drop(finish);
        for client in clients {
            client.join().expect("not one request failed");
        }
    });
}
