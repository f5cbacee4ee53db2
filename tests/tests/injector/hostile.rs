//! Clients that are slow, greedy, many or no clients at all, and a good one beside them that must not notice.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::rig::{Client, Rig, pod, review, tls, until};

/// Lets time pass for everything in this process, injector included.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Reads until the other side closes; what came is returned, resets count as a close.
async fn drained(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(Duration::from_secs(15), reading).await.expect("the injector ends the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ended(rig: &Rig, reason: &str) -> f64 {
    rig.injector.metric(&format!("portwright_injector_connections_ended_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn a_head_that_stops_or_drips_is_given_up() {
    let rig = Rig::start(&[]).await;
    for drips in [false, true] {
        let mut slow = tls(rig.injector.webhook, &[&rig.authority.pem]).await.unwrap();
        slow.write_all(b"POST /mutate HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        slow.flush().await.unwrap();
        assert!(rig.review(&pod("foo-network")).await.is_patched());
        for _ in 0..3 {
            pass(Duration::from_secs(2)).await;
            if drips {
                // This does not buy more time; the injector may have closed before the last one.
                slow.write_all(b"a: b\r\n").await.ok();
                slow.flush().await.ok();
                assert!(rig.review(&pod("foo-network")).await.is_patched());
            }
        }
        let waited = std::time::Instant::now();
        assert_eq!(drained(&mut slow).await, "");
        assert!(waited.elapsed() < Duration::from_secs(3), "six seconds had passed already");
        until("counted", async || ended(&rig, "too_slow").await == if drips { 2.0 } else { 1.0 }).await;
    }
}

#[tokio::test]
async fn a_slow_body_is_answered_with_408() {
    let rig = Rig::start(&[]).await;
    let mut slow = tls(rig.injector.webhook, &[&rig.authority.pem]).await.unwrap();
    let head =
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.flush().await.unwrap();
    assert!(rig.review(&pod("foo-network")).await.is_patched());
    pass(Duration::from_secs(6)).await;
    let answer = drained(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn half_open_tls_and_plain_http_are_given_up() {
    let rig = Rig::start(&[]).await;
    let mut silent = TcpStream::connect(rig.injector.webhook).await.unwrap();
    let mut half = TcpStream::connect(rig.injector.webhook).await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let mut plain = TcpStream::connect(rig.injector.webhook).await.unwrap();
    plain.write_all(b"POST /mutate HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = drained(&mut plain).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(rig.review(&pod("foo-network")).await.is_patched());
    pass(Duration::from_secs(6)).await;
    drained(&mut silent).await;
    drained(&mut half).await;
    assert_eq!(ended(&rig, "handshake_timeout").await, 2.0);
    assert_eq!(ended(&rig, "handshake_failed").await, 1.0);
}

#[tokio::test]
async fn an_idle_connection_serves_again_after_a_hundred_seconds() {
    let rig = Rig::start(&[]).await;
    let mut client = rig.client().await;
    for _ in 0..3 {
        assert!(client.review(&pod("foo-network")).await.is_patched());
        pass(Duration::from_secs(100)).await;
    }
    assert!(client.review(&pod("foo-network")).await.is_patched());
    pass(Duration::from_secs(200)).await;
    let gone = async {
        while client.post(review(&pod("foo-network"))).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("closed in the end");
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let rig = Rig::start(&[]).await;
    let mut greedy = tls(rig.injector.webhook, &[&rig.authority.pem]).await.unwrap();
    let head = format!("POST /mutate HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    // The injector may close before it has taken all of it.
    greedy.write_all(head.as_bytes()).await.ok();
    let answer = drained(&mut greedy).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn who_holds_all_places_makes_room() {
    let rig = Rig::start(&["--max-connections=8"]).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(TcpStream::connect(rig.injector.webhook).await.unwrap());
    }
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(tls(rig.injector.webhook, &[&rig.authority.pem]).await.unwrap());
    }
    let mut client = rig.client().await;
    for _ in 0..10 {
        assert!(client.review(&pod("foo-network")).await.is_patched());
    }
    assert!(ended(&rig, "made_room").await >= 72.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_attempts_do_not_grow_it_or_disturb_others() {
    let rig = Rig::start(&["--max-connections=64"]).await;
    let mut client = rig.client().await;
    assert!(client.review(&pod("foo-network")).await.is_patched());
    let before = resident_kib();
    let address = rig.injector.webhook;
    let flood = tokio::spawn(async move {
        for attempt in 0..8_000_u32 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            if attempt % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00").await.ok();
            }
            // Reset instead of close, so that the test does not use up the machine's ports.
            stream.set_zero_linger().unwrap();
        }
    });
    let mut served = 0;
    while !flood.is_finished() {
        // One connection is kept throughout, others come and go.
        assert!(client.review(&pod("foo-network")).await.is_patched());
        let mut fresh = Client::connect(address, &[&rig.authority.pem]).await.unwrap();
        assert!(fresh.review(&pod("foo-network")).await.is_patched());
        served += 2;
    }
    flood.await.unwrap();
    let grown = resident_kib().saturating_sub(before);
    assert!(served > 10, "{served}");
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_bodies_at_once_stay_within_their_memory() {
    let rig = Rig::start(&[]).await;
    let before = resident_kib();
    let body = bytes::Bytes::from(vec![b' '; 6 * 1024 * 1024]);
    let posts = join_all((0..24).map(|_| {
        let body = body.clone();
        let rig = &rig;
        async move { rig.client().await.post(body).await.unwrap().status.as_u16() }
    }));
    let statuses = posts.await;
    // They are no reviews, but each was read whole, in its turn.
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    assert!(rig.review(&pod("foo-network")).await.is_patched());
    let grown = resident_kib().saturating_sub(before);
    // Both ends live in this process: 48 MiB of bodies, their transport, and the one body that all clients share.
    assert!(grown < 160 * 1024, "grew by {grown} KiB");
}

/// This process's resident memory; other tests of this run share it, so bounds are generous.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
