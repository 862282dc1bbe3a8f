//! The roads between the nodes of a cluster: each node tells its peers to come to a door here, and what they say is passed
//! on, late, or not at all.
//!
//! Who opens a connection says who it is in its first frame, so each direction between two nodes is a road of its own. What
//! is said on a closed road waits, as in a network that retransmits; it arrives when the road opens, or never if the
//! connections are broken then. Deliberately not here: clients, who have their own ways in.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sluice_engine::child::cluster::Door;
use sluice_engine::child::free_address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::ClusterRig;
use super::scenes::Ways;

/// Bytes of a frame's header, and where in it the body's length is.
const HEADER_LEN: usize = 16;
const LEN_AT: usize = 8;

/// Bytes of a greeting, at most.
const GREETING_MAX: usize = 64 * 1024;

/// How the roads are.
#[derive(Clone, Debug, Default)]
struct State {
    /// From whom to whom nothing gets through.
    closed: BTreeSet<(u64, u64)>,
    /// How long everything takes.
    delay: Duration,
    /// How often all connections were broken.
    breaks: u64,
}

/// See the module. They last as long as this.
pub struct Roads {
    doors: Vec<Door>,
    state: watch::Sender<State>,
}

impl Roads {
    /// To so many nodes, all of them open.
    pub fn open(nodes: u64) -> Self {
        let (state, seen) = watch::channel(State::default());
        let mut doors = Vec::new();
        let mut listeners = Vec::new();
        for node in 1..=nodes {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (listen, advertise) = (free_address().unwrap(), listener.local_addr().unwrap());
            let door = Door { listen, advertise, clients: None };
            doors.push(door);
            listeners.push((node, listener, door));
        }
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                for (node, listener, door) in listeners {
                    tokio::task::spawn_local(stand_at(node, listener, door, seen.clone()));
                }
                let mut seen = seen;
                while seen.changed().await.is_ok() {}
            });
        });
        Self { doors, state }
    }

    /// Everything takes so much longer.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }
}

impl Ways for Roads {
    fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Judged in the end, so without snapshots but those of a stop: judges need the whole log.
    async fn cluster(&self, seed: u64) -> ClusterRig {
        ClusterRig::judged(seed, &["--snapshot-every-bytes", "1GiB"], &self.doors).await
    }

    fn close(&self, from: u64, to: u64) {
        self.state.send_modify(|state| {
            state.closed.insert((from, to));
        });
    }

    fn heal(&self, loses_what_waited: bool) {
        self.state.send_modify(|state| {
            *state = State { breaks: state.breaks + u64::from(loses_what_waited), ..State::default() };
        });
    }
}

async fn stand_at(node: u64, listener: TcpListener, door: Door, state: watch::Receiver<State>) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = state.clone();
        tokio::task::spawn_local(async move {
            // Whichever side ends it, the other notices.
            let _ = pass_on(node, stream, door, state).await;
        });
    }
}

async fn pass_on(
    to: u64,
    mut stream: TcpStream,
    door: Door,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting = read_greeting(&mut stream).await?;
    let from = sender(&greeting);
    let breaks = state.borrow().breaks;
    open(&mut state, from, to).await;
    let mut node = TcpStream::connect(door.listen).await?;
    node.set_nodelay(true)?;
    node.write_all(&greeting).await?;
    let (from_read, from_write) = stream.into_split();
    let (to_read, to_write) = node.into_split();
    tokio::select! {
        ended = carry(from_read, to_write, (from, to), state.clone()) => ended,
        ended = carry(to_read, from_write, (to, from), state.clone()) => ended,
        _ = state.wait_for(|state| state.breaks != breaks) => Ok(()),
    }
}

async fn carry(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    (from, to): (u64, u64),
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let len = read.read(&mut bytes).await?;
        if len == 0 {
            return Ok(());
        }
        open(&mut state, from, to).await;
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        write.write_all(&bytes[..len]).await?;
    }
}

/// Waits until the road is open.
async fn open(state: &mut watch::Receiver<State>, from: u64, to: u64) {
    if state.wait_for(|state| !state.closed.contains(&(from, to))).await.is_err() {
        // The test is over.
        std::future::pending::<()>().await;
    }
}

async fn read_greeting(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_LEN];
    stream.read_exact(&mut frame).await?;
    let len = u32::from_le_bytes(frame[LEN_AT..LEN_AT + 4].try_into().unwrap()) as usize;
    assert!(len <= GREETING_MAX, "it is no greeting");
    frame.resize(HEADER_LEN + len, 0);
    stream.read_exact(&mut frame[HEADER_LEN..]).await?;
    Ok(frame)
}

/// The node that greets; 0 for an operator who was told to come here.
fn sender(greeting: &[u8]) -> u64 {
    let said: Value = serde_json::from_slice(&greeting[HEADER_LEN..]).unwrap();
    said["from"]["node"].as_u64().unwrap_or(0)
}
