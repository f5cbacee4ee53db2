//! Hostile clients against the process itself, whose memory can be told from theirs.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::load::{Connection, REVIEW, lists, trust};
use crate::rig::{Finish, Replica, certificate};

/// Attempts, sixteen at a time.
const ATTEMPTS: usize = 100_000;
const TASKS: usize = 16;
/// Half-open connections that each task holds; all together they are more than the injector has places.
const HELD: usize = 40;
/// What the process may come to, in KiB: a third of the limit in its manifest.
const MEMORY: u64 = 64 * 1024;

/// The first bytes of a TLS handshake that never goes on.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";
const PLAIN: &[u8] = b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // An address of their own, as hostile clients have.
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    // Reset instead of close, so that the test does not use up the machine's ports.
    stream.set_zero_linger().unwrap();
    stream
}

/// Silence, half a handshake, plain HTTP, and half a handshake that is held open, in turn.
async fn attack(address: SocketAddr, attempts: usize) {
    let mut held = VecDeque::new();
    for attempt in 0..attempts {
        let mut stream = connect(address).await;
        match attempt % 4 {
            0 => {}
            1 => drop(stream.write_all(HALF_HELLO).await),
            2 => {
                stream.write_all(PLAIN).await.ok();
                let mut answer = Vec::new();
                // It may be thrown out to make room before it is told what is wrong.
                let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
                ended.expect("plain HTTP is not left waiting").ok();
                assert!(!answer.starts_with(b"HTTP/1.1 200"), "no review without TLS");
            }
            _ => {
                stream.write_all(HALF_HELLO).await.ok();
                held.push_back(stream);
                if held.len() > HELD {
                    held.pop_front();
                }
            }
        }
    }
}

/// Goes on having pods patched, on a kept connection and on new ones, until `done`; how many were.
fn good_client(port: u16, config: &Arc<ClientConfig>, done: &AtomicBool) -> usize {
    let mut kept = Connection::open(port, config).unwrap();
    let mut served = 0;
    while !done.load(Ordering::Relaxed) {
        assert!(!kept.review().expect("served on a kept connection"));
        let mut fresh = Connection::open(port, config).expect("connects");
        assert!(!fresh.review().expect("served on a new connection"));
        served += 2;
    }
    served
}

#[test]
fn a_hundred_thousand_hostile_connections_cost_little_memory_and_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let replica = Replica::start(dir.path(), lists(), &[]);
    let (port, config) = (replica.webhook, trust(dir.path()));
    let done = AtomicBool::new(false);
    let [before, _] = replica.memory_kib();
    std::thread::scope(|scope| {
        let good = scope.spawn(|| good_client(port, &config, &done));
        let finish = Finish(&done);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let attacks = (0..TASKS).map(|_| attack(address, ATTEMPTS.div_euclid(TASKS)));
            futures::future::join_all(attacks).await;
        });
        drop(finish);
        assert!(good.join().expect("not one request failed") > 20);
    });
    let [after, most] = replica.memory_kib();
    assert!(most < MEMORY, "{before} KiB before, {after} KiB after, {most} KiB at most");
}

/// Bodies of a megabyte that are no reviews, each in its own way.
fn bad_bodies() -> [Vec<u8>; 5] {
    const SIZE: usize = 1 << 20;
    let (before, after) = REVIEW.split_at(REVIEW.find("\"image\"").unwrap());
    let around = |middle: Vec<u8>| [before.as_bytes(), &middle, after.as_bytes()].concat();
    let equal_keys = "\"uid\":\"u\",".repeat(SIZE.div_euclid(10));
    [
        [b"[".repeat(SIZE)].concat(),
        around([b"\"a\":".as_slice(), &b"[".repeat(SIZE)].concat()),
        around([b"\"a\":\"".as_slice(), &b"\xff\xfe".repeat(SIZE.div_euclid(2)), b"\","].concat()),
        REVIEW.replace("\"uid\"", &format!("{equal_keys}\"uid\"")).into_bytes(),
        [REVIEW.as_bytes(), &b" ".repeat(SIZE), b"x"].concat(),
    ]
}

#[test]
fn large_bodies_that_are_no_reviews_cost_no_more_than_they_weigh_and_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let replica = Replica::start(dir.path(), lists(), &[]);
    let (port, config) = (replica.webhook, trust(dir.path()));
    let done = AtomicBool::new(false);
    let bodies = bad_bodies();
    std::thread::scope(|scope| {
        let good = scope.spawn(|| good_client(port, &config, &done));
        let finish = Finish(&done);
        let bad: Vec<_> = (0..10)
            .map(|which| {
                let (body, config) = (&bodies[which % bodies.len()], &config);
                scope.spawn(move || Connection::open(port, config).unwrap().post(body).unwrap())
            })
            .collect();
        for bad in bad {
            let (status, _, text) = bad.join().unwrap();
            assert_eq!(status, 400, "{text}");
        }
        drop(finish);
        assert!(good.join().expect("not one request failed") > 0);
    });
    let [now, most] = replica.memory_kib();
    assert!(most < MEMORY, "{now} KiB now, {most} KiB at most");
}
