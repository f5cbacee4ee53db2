//! A man in the middle: sits between a session and a real server, lets whole messages through, and can pretend that
//! the server does not know a method, cut messages into odd pieces, or break connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portwright_ovs::ovsdb::{Remote, Splitter};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What a proxy does to the traffic.
#[derive(Clone, Default)]
pub(crate) struct Mischief {
    /// Methods that it answers with "unknown method" itself.
    pub(crate) unknown: &'static [&'static str],
    /// Breaks the connection in the middle of a message after about this many messages from the server.
    pub(crate) break_after: Option<u64>,
    /// Writes to the client byte by byte.
    pub(crate) crumbs: bool,
}

pub(crate) struct Proxy {
    path: PathBuf,
    pub(crate) broken: Arc<AtomicU64>,
    /// While false, everything is broken on arrival without mischief: true ends the mischief.
    pub(crate) calm: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) fn start(directory: &Path, name: &str, server: &Path, mischief: Mischief) -> Self {
        let path = directory.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let broken = Arc::new(AtomicU64::new(0));
        let calm = watch::Sender::new(false);
        let (server, count, quiet) = (server.to_owned(), Arc::clone(&broken), calm.subscribe());
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                let upstream = UnixStream::connect(&server).await.unwrap();
                let (mischief, count, quiet) = (mischief.clone(), Arc::clone(&count), quiet.clone());
                tokio::spawn(async move {
                    if relay(client, upstream, &mischief, number, &quiet).await.is_none() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { path, broken, calm }
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::Unix(self.path.clone())
    }
}

/// Ends with something if a side closed, with nothing if we broke it.
async fn relay(
    client: UnixStream,
    server: UnixStream,
    mischief: &Mischief,
    number: u64,
    calm: &watch::Receiver<bool>,
) -> Option<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut requests, mut answers) = (Splitter::new(1 << 26), Splitter::new(1 << 26));
    let mut passed = 0;
    loop {
        tokio::select! {
            read = from_client.read_buf(requests.buffer()) => {
                if !matches!(read, Ok(1..)) { return Some(()); }
                while let Some(message) = requests.next_message().unwrap() {
                    match refusal(&message, mischief.unknown) {
                        Some(answer) => to_client.write_all(answer.as_bytes()).await.ok().or(Some(()))?,
                        None => if to_server.write_all(&message).await.is_err() { return Some(()); },
                    }
                }
            }
            read = from_server.read_buf(answers.buffer()) => {
                if !matches!(read, Ok(1..)) { return Some(()); }
                while let Some(message) = answers.next_message().unwrap() {
                    passed += 1;
                    // Each connection lives a little differently.
                    if mischief.break_after.is_some_and(|after| passed > after + number % 17) && !*calm.borrow() {
                        let _ = to_client.write_all(&message[..message.len() / 2]).await;
                        return None;
                    }
                    if mischief.crumbs {
                        for byte in &message {
                            if to_client.write_all(&[*byte]).await.is_err() { return Some(()); }
                            tokio::task::yield_now().await;
                        }
                    } else if to_client.write_all(&message).await.is_err() {
                        return Some(());
                    }
                }
            }
        }
    }
}

fn refusal(message: &[u8], unknown: &[&str]) -> Option<String> {
    let value: Value = serde_json::from_slice(message).unwrap();
    let method = value["method"].as_str()?;
    unknown.contains(&method).then(|| json!({"id": value["id"], "error": "unknown method"}).to_string())
}
