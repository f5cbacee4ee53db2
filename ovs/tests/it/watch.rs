//! A loop that waits hears of every kind of change, through the connection that looks anyway.

use std::time::Duration;

use portwright_ovs::node::{OvsClient, Seen, Woken};

use crate::harness::{Server, within};

#[tokio::test]
async fn a_waiting_loop_hears_of_rows_and_of_the_server() {
    let mut server = Server::start();
    let mut client = OvsClient::new(server.remote(), Duration::from_secs(10));
    let mut watch = client.watch();
    assert!(matches!(client.observe().await, Seen::There(_)));
    assert_eq!(within(watch.changed()).await, Some(Woken::Connected));

    let quiet = tokio::time::timeout(Duration::from_millis(200), watch.changed());
    assert!(quiet.await.is_err(), "nothing has happened");
    assert!(matches!(client.observe().await, Seen::There(_)));
    let quiet = tokio::time::timeout(Duration::from_millis(200), watch.changed());
    assert!(quiet.await.is_err(), "looking is no change");

    server.vsctl(&["--no-wait", "add-br", "br0"]);
    server.vsctl(&["--no-wait", "add-br", "br1"]);
    assert_eq!(within(watch.changed()).await, Some(Woken::Rows));
    let Seen::There(seen) = client.observe().await else { panic!("it is there") };
    assert_eq!(seen.bridges.len(), 2);

    server.kill();
    loop {
        match within(watch.changed()).await {
            // The second bridge may have been told on its own.
            Some(Woken::Rows) => {}
            other => break assert_eq!(other, Some(Woken::Disconnected)),
        }
    }
    server.launch();
    assert_eq!(within(watch.changed()).await, Some(Woken::Connected));
    drop(client);
}
