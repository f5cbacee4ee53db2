//! What is measured, in the order in which it is printed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use futures::future::join_all;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::bodies::{self, Body};
use crate::load::{self, Client, Figures};
use crate::options::Options;
use crate::process::{Injector, Surroundings};

fn nad(name: &str, resource: &str) -> (String, Value) {
    let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/{name}");
    let config = "{\"cniVersion\":\"1.0.0\",\"type\":\"sriov\",\"vlan\":100,\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/16\"}}";
    let object = json!({
        "kind": "NetworkAttachmentDefinition", "metadata": {"annotations": {"k8s.v1.cni.cncf.io/resourceName": resource}},
        "spec": {"config": config},
    });
    (path, object)
}

/// Everything.
pub async fn all(options: &Options) {
    let api = ApiServer::start().await;
    api.put_all(
        (0..10_000).map(|i| {
            nad(&format!("net-{i}"), if i % 2 == 0 { "example.com/even" } else { "example.com/odd" })
        }),
    );
    let around = Surroundings::new(&api);
    let client = Client::new(&around.authority);
    let front = tls_front(&api, &around).await;

    println!("cold start with 10,000 networks");
    let mut ours = Injector::ours(options, &around);
    let took = ours.ready().await;
    println!(
        "  ours: ready after {:.0} ms, {} KiB resident",
        took.as_secs_f64() * 1000.0,
        ours.memory_kib().0
    );
    let mut peer = options.peer.as_deref().map(|binary| Injector::peer(binary, &around, front));
    if let Some(peer) = &mut peer {
        let took = peer.ready().await;
        println!(
            "  peer: ready after {:.0} ms (its readiness may not mean a filled cache), {} KiB resident",
            took.as_secs_f64() * 1000.0,
            peer.memory_kib().0
        );
    }
    let bodies = if options.rounds == 0 { Vec::new() } else { bodies::all() };
    for body in bodies {
        for fresh in [false, true] {
            measure(options, &client, &body, fresh, &ours, peer.as_ref()).await;
        }
    }
    let memory = |name: &str, injector: &Injector| {
        let (now, most) = injector.memory_kib();
        println!("  {name}: {now} KiB now, {most} KiB at most");
        now as f64
    };
    println!("resident memory after the load");
    let own = memory("ours", &ours);
    if let Some(peer) = &peer {
        println!("  ours / peer: {:.2}", own / memory("peer", peer));
    }
    first_requests(options, &client, &around, &api).await;
    if options.flood > 0 {
        flood(options, &client, &ours).await;
    }
    if options.idle {
        idle(&client, &ours).await;
    }
}

/// One body, alternately on ours and the peer.
async fn measure(
    options: &Options,
    client: &Client,
    body: &Body,
    fresh: bool,
    ours: &Injector,
    peer: Option<&Injector>,
) {
    println!(
        "{} ({} bytes), {}",
        body.name,
        body.text.len(),
        if fresh { "new connections" } else { "kept connections" }
    );
    let bytes = Bytes::from(body.text.clone());
    let mut best = [Figures::default(); 2];
    let mut cpu = [f64::MAX; 2];
    for round in 0..options.rounds {
        // Who goes first changes, so that being second is nobody's disadvantage.
        for turn in 0..2 {
            let index = (round + turn) % 2;
            let Some(injector) = [Some(ours), peer][index] else { continue };
            let before = injector.cpu_ms();
            let time = Duration::from_secs(options.seconds);
            let figures = load::run(client, injector.address, &bytes, options.connections, time, fresh).await;
            let spent = (injector.cpu_ms() - before) as f64 / figures.requests.max(1) as f64 * 1000.0;
            cpu[index] = cpu[index].min(spent);
            if figures.per_second > best[index].per_second {
                best[index] = figures;
            }
        }
    }
    for (index, name) in ["ours", "peer"].into_iter().enumerate().take(1 + usize::from(peer.is_some())) {
        let Figures { per_second, p50, p99, p999, failed, .. } = best[index];
        println!(
            "  {name}: {per_second:.0}/s, p50 {p50:.2?}, p99 {p99:.2?}, p99.9 {p999:.2?}, {:.0} ms CPU per 1,000, {failed} failed",
            cpu[index]
        );
    }
    if let Some(peer) = peer {
        if same_pod(client, body, ours, peer).await {
            println!(
                "  ours / peer: {:.1} × requests per second, {:.2} × CPU",
                best[0].per_second / best[1].per_second,
                cpu[0] / cpu[1]
            );
        } else {
            println!("  no ratio: the two make different pods of this body");
        }
    }
}

async fn same_pod(client: &Client, body: &Body, ours: &Injector, peer: &Injector) -> bool {
    let mut results = Vec::new();
    for injector in [ours, peer] {
        let mut connection = client.connect(injector.address).await.unwrap();
        let Ok(answer) = connection.post(Bytes::from(body.text.clone())).await else { return false };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let mut pod = body.pod.clone();
        if let Some(patch) = answer["response"]["patch"].as_str() {
            let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
            let patch: Option<json_patch::Patch> = serde_json::from_slice(&patch).unwrap();
            json_patch::patch(&mut pod, &patch.unwrap_or_default()).unwrap();
        }
        results.push((answer["response"]["allowed"].clone(), pod));
    }
    results[0] == results[1]
}

/// A hundred pods at once that name a network which the cache does not have.
async fn first_requests(options: &Options, client: &Client, around: &Surroundings, api: &ApiServer) {
    api.set_mood(Mood::Blind);
    let mut injector = Injector::start_blind(options, around);
    injector.ready().await;
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(client.connect(injector.address).await.unwrap());
    }
    let body = Bytes::from(bodies::small("net-77"));
    let before = api.requests("network-attachment-definitions/net-77").len();
    let started = Instant::now();
    let answers = join_all(connections.iter_mut().map(|connection| connection.post(body.clone()))).await;
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    let asked = api.requests("network-attachment-definitions/net-77").len() - before;
    println!(
        "100 first requests at once: {good} answered, the last after {:.1?}, with {asked} look-ups",
        started.elapsed()
    );
    api.set_mood(Mood::Well);
}

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
async fn flood(options: &Options, client: &Client, ours: &Injector) {
    let (address, attempts) = (ours.address, options.flood);
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
}

async fn idle(client: &Client, ours: &Injector) {
    let body = Bytes::from(bodies::small("net-1"));
    let mut connection = client.connect(ours.address).await.unwrap();
    connection.post(body.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    println!("after 100 s of silence: {:?}", connection.post(body).await.map(|_| "served"));
}

/// The API server over TLS, for injectors that will not speak to it otherwise.
async fn tls_front(api: &ApiServer, around: &Surroundings) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(around.server_config()));
    let back: SocketAddr = api.url().trim_start_matches("http://").parse().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut front = acceptor.accept(stream).await.ok()?;
                let mut back = TcpStream::connect(back).await.ok()?;
                tokio::io::copy_bidirectional(&mut front, &mut back).await.ok()
            });
        }
    });
    address
}
