//! Fifty nodes, two at once, some of which crash while they hold a place.

use std::time::Duration;

use portwright::daemon::turn::Turn;
use portwright_tests::apiserver::ApiServer;
use tokio::time::Instant;

use super::rig::{Gauge, Node, holders, most_held, place, settings};

/// A stand-in for the loop: it wants its turn, disrupts in small steps while it is granted, and is done. `crash_at` is the
/// step at which the process dies; another process then begins anew.
async fn disrupt(server: &ApiServer, gauge: &Gauge, name: String, mut crash_at: Option<u32>) {
    loop {
        let mut node = Node::start(server, &name);
        node.ask(place(2));
        let (mut step, mut counted) = (0, None);
        while step < 3 {
            let turn =
                node.turn(|turn| matches!(turn, Turn::Granted { until, .. } if !until.expired())).await;
            assert!(matches!(turn, Turn::Granted { .. }));
            counted.get_or_insert_with(|| gauge.enter(&name));
            if crash_at == Some(step) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            step += 1;
        }
        if crash_at.take().is_some() {
            drop(counted.take());
            node.crash().await;
            continue;
        }
        drop(counted.take());
        node.done();
        node.stop.cancel();
        node.handle.ended().await;
        return;
    }
}

#[tokio::test]
async fn fifty_nodes_two_at_once_though_some_crash() {
    let server = ApiServer::start().await;
    let gauge = Gauge::default();
    let began = Instant::now();
    let all = (0..50).map(|number| {
        let crash_at = (number % 10 == 3).then_some(number % 3);
        disrupt(&server, &gauge, format!("node-{number}"), crash_at)
    });
    futures::future::join_all(all).await;
    assert!((1..=2).contains(&gauge.most()), "{} nodes were disrupted at once", gauge.most());
    assert_eq!(most_held(&server), 2, "both places were used, and no more");
    assert!(holders(&server).is_empty(), "no lease is left");
    assert!(began.elapsed() < settings().lease * 30, "{:?}", began.elapsed());
}
