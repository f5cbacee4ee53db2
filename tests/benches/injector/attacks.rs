//! Clients that only take up room: a flood of connection attempts, and one that is silent for long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use tokio::net::TcpSocket;

use crate::bodies;
use crate::goals::{FLOOD_KIB, Missed};
use crate::load::Client;
use crate::options::Options;
use crate::process::Injector;

/// Attempts under way at once.
const FLOOD_TASKS: u32 = 32;

/// One attempt: nothing, or the beginning of a handshake, and then a reset, which leaves no port in use.
async fn attack(address: SocketAddr, begin: bool) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    // A full backlog is what a flood brings about.
    let Ok(stream) = socket.connect(address).await else { return };
    if begin {
        stream.try_write(b"\x16\x03\x01\x02\x00").ok();
    }
    stream.set_zero_linger().unwrap();
}

/// Connection attempts in turn, beside a client that goes on working.
pub async fn flood(options: &Options, client: &Client, ours: &Injector, missed: &mut Missed) {
    let (address, attempts) = (ours.address, options.flood);
    ours.forget_peak();
    let before = ours.memory_kib().0;
    let body = Bytes::from(bodies::small("net-1"));
    let mut kept = client.connect(address).await.unwrap();
    kept.post(body.clone()).await.unwrap();
    let tasks: Vec<_> = (0..FLOOD_TASKS)
        .map(|_| {
            tokio::spawn(async move {
                for attempt in 0..attempts / FLOOD_TASKS {
                    attack(address, attempt % 2 == 0).await;
                }
            })
        })
        .collect();
    let flood = join_all(tasks);
    let mut flood = std::pin::pin!(flood);
    let started = Instant::now();
    let (mut good, mut bad) = (0, 0);
    while futures::poll!(flood.as_mut()).is_pending() {
        let fresh = match client.connect(address).await {
            Ok(mut connection) => connection.post(body.clone()).await.is_ok(),
            Err(_) => false,
        };
        for served in [kept.post(body.clone()).await.is_ok(), fresh] {
            *(if served { &mut good } else { &mut bad }) += 1;
        }
    }
    let (now, most) = ours.memory_kib();
    println!(
        "{attempts} connection attempts in {:.1?}: {good} requests beside them served, {bad} failed; {before} KiB before, {now} KiB after, {most} KiB at most",
        started.elapsed()
    );
    missed.unless(bad == 0 && good > 0, || {
        format!("beside a flood {good} requests were served and {bad} failed")
    });
    missed.unless(most <= before + FLOOD_KIB, || format!("a flood took memory from {before} to {most} KiB"));
}

/// Uses a connection, leaves it alone for `time`, and uses it again.
pub async fn idle(client: Client, mut injector: Injector, time: Duration) -> Result<(), String> {
    injector.ready().await;
    let body = Bytes::from(bodies::small("net-1"));
    let mut connection = client.connect(injector.address).await.map_err(|error| error.to_string())?;
    connection.post(body.clone()).await?;
    tokio::time::sleep(time).await;
    connection.post(body).await.map(drop)
}
