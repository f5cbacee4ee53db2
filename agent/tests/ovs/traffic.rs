//! Frames: sending numbered ones from one pod to another, and seeing what arrives at an interface.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
const MARK: &[u8] = b"portwright";

/// Runs something in a thread that is in a network namespace.
pub fn within<T: Send + 'static>(namespace: &str, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let path = format!("/run/netns/{namespace}");
    std::thread::spawn(move || {
        let file = std::fs::File::open(&path).unwrap();
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        job()
    })
}

fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

fn message(number: u32) -> Vec<u8> {
    let mut message = MARK.to_vec();
    message.extend(number.to_be_bytes());
    message.resize(100, 0);
    message
}

fn number_in(frame: &[u8]) -> Option<u32> {
    let at = frame.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().unwrap()))
}

/// Sends numbered datagrams without end until it is dropped, and answers each.
pub struct Flow {
    stop: Arc<AtomicBool>,
    /// The last number that has arrived at the other end.
    pub arrived: Arc<AtomicU32>,
    /// The last number that was sent.
    pub sent: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Flow {
    /// From pod `a` (10.9.0.1) to pod `b` (10.9.0.2), every two milliseconds.
    pub fn start(a: &str, b: &str) -> Flow {
        let (stop, arrived, sent) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let mut flow = Flow { stop, arrived, sent, threads: Vec::new() };
        let (stop, arrived) = (Arc::clone(&flow.stop), Arc::clone(&flow.arrived));
        flow.threads.push(within(b, move || {
            let socket = bound("10.9.0.2:6000");
            let mut frame = [0; 2000];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut frame) else { continue };
                if let Some(number) = number_in(&frame[..length]) {
                    arrived.store(number, Ordering::SeqCst);
                }
                let _ = socket.send_to(&frame[..length], from);
            }
        }));
        let (stop, sent) = (Arc::clone(&flow.stop), Arc::clone(&flow.sent));
        flow.threads.push(within(a, move || {
            let socket = bound("10.9.0.1:5000");
            socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let mut frame = [0; 2000];
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                sent.store(number, Ordering::SeqCst);
                let _ = socket.send_to(&message(number), "10.9.0.2:6000");
                let _ = socket.recv_from(&mut frame);
            }
        }));
        flow
    }

    /// Waits until so many more datagrams than now have arrived.
    pub fn goes_on(&self, more: u32) {
        let start = self.sent.load(Ordering::SeqCst);
        until("the flow goes on", || self.arrived.load(Ordering::SeqCst) >= start + more);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits for something that another process does; its own deadline ends it.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A numbered frame that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub number: u32,
    /// Whether it was on its way from 10.9.0.1.
    pub forth: bool,
    pub length: usize,
}

/// What arrives at an interface.
pub struct Sniffer {
    stop: Arc<AtomicBool>,
    pub seen: Arc<std::sync::Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    pub fn start(namespace: &str, interface: &str) -> Sniffer {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (thread_stop, thread_seen, interface) =
            (Arc::clone(&stop), Arc::clone(&seen), interface.to_owned());
        let thread = within(namespace, move || {
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                    .unwrap();
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000)).unwrap();
            let index = nix::net::if_::if_nametoindex(interface.as_str()).unwrap();
            ready.send(()).unwrap();
            let mut frame = [0; 4000];
            while !thread_stop.load(Ordering::Relaxed) {
                let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut frame) else {
                    continue;
                };
                let here = u32::try_from(from.ifindex()).unwrap() == index;
                // Requests carry their number also when the frame was cut; the addresses are always there.
                let forth = frame[..length].windows(8).any(|part| part == [10, 9, 0, 1, 10, 9, 0, 2]);
                let back = frame[..length].windows(8).any(|part| part == [10, 9, 0, 2, 10, 9, 0, 1]);
                let number = number_in(&frame[..length]).or((length < 100).then_some(0));
                if let Some(number) = number.filter(|_| here && (forth || back)) {
                    thread_seen.lock().unwrap().push(Seen { number, forth, length });
                }
            }
        });
        is_ready.recv().unwrap();
        Sniffer { stop, seen, thread: Some(thread) }
    }

    pub fn count(&self, forth: bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|frame| frame.forth == forth && frame.number > 0).count()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends so many numbered datagrams from `a` to `b`, each answered. Learned addresses and resolved neighbours come first,
/// without numbers.
pub fn exchange(a: &str, b: &str, count: u32) {
    let done = Arc::new(AtomicBool::new(false));
    let server_done = Arc::clone(&done);
    let server = within(b, move || {
        let socket = bound("10.9.0.2:6000");
        let mut frame = [0; 2000];
        while !server_done.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut frame) {
                let _ = socket.send_to(&frame[..length], from);
            }
        }
    });
    let client = within(a, move || {
        let socket = bound("10.9.0.1:5000");
        let mut frame = [0; 2000];
        let mut ask = |message: &[u8]| {
            let start = Instant::now();
            loop {
                socket.send_to(message, "10.9.0.2:6000").unwrap();
                if let Ok((length, _)) = socket.recv_from(&mut frame)
                    && frame[..length] == *message
                {
                    return;
                }
                assert!(start.elapsed() < PATIENCE, "no answer");
            }
        };
        ask(b"hello");
        for number in 1..=count {
            ask(&message(number));
        }
    });
    client.join().unwrap();
    done.store(true, Ordering::Relaxed);
    server.join().unwrap();
}

/// Sends a megabyte by TCP from `a` to `b`.
pub fn tcp(a: &str, b: &str) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = within(b, move || {
        let listener = TcpListener::bind("10.9.0.2:7000").unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    is_ready.recv().unwrap();
    let client = within(a, || {
        let address: SocketAddr = "10.9.0.2:7000".parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.write_all(&vec![7; 1 << 20]).unwrap();
    });
    client.join().unwrap();
    assert_eq!(server.join().unwrap(), 1 << 20);
}
