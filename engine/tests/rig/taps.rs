//! Taps on the ways of clients to the nodes of a cluster: whatever is said passes through here, and is on record.
//!
//! Clients know only these addresses, and nodes name no others. A request is recorded before it is passed on, an answer when
//! it has come, and one thread does both. So if the record has an answer before a request, the server had given the one
//! before it could have the other: whoever is accused of being stale is. What is lost on its way is a call without an
//! answer. Nothing is held up, changed or made up. Deliberately not here: what is said between nodes ([`super::roads`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use sluice_judges::history::{Call, CallId};
use sluice_judges::recorded::Event;
use sluice_protocol::header::{FrameHeader, HEADER_LEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::frames::{asks, replies};

/// What was said, in order.
struct Record {
    events: Vec<Event>,
    calls: u32,
    clients: u32,
    begun: Instant,
    /// Something was said that is not understood here.
    is_lost: bool,
}

impl Record {
    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }
}

/// See the module. They last as long as this.
pub struct Taps {
    /// Where clients connect, by node.
    pub addresses: Vec<SocketAddr>,
    /// Where the nodes are, once they are there.
    nodes: watch::Sender<Vec<SocketAddr>>,
    record: Arc<Mutex<Record>>,
}

impl Taps {
    /// For so many nodes, which need not be there yet.
    pub fn open(nodes: u64) -> Self {
        let listeners: Vec<_> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let (nodes, known) = watch::channel(Vec::new());
        let record =
            Record { events: Vec::new(), calls: 0, clients: 0, begun: Instant::now(), is_lost: false };
        let record = Arc::new(Mutex::new(record));
        let kept = Arc::clone(&record);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                for (node, listener) in (1..).zip(listeners) {
                    tokio::task::spawn_local(stand_at(node, listener, known.clone(), Arc::clone(&kept)));
                }
                let mut known = known;
                while known.changed().await.is_ok() {}
            });
        });
        Self { addresses, nodes, record }
    }

    /// Says where the nodes are.
    pub fn lead_to(&self, nodes: Vec<SocketAddr>) {
        self.nodes.send_replace(nodes);
    }

    /// What clients connect to.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        format!("sluice://{}", addresses.join(","))
    }

    /// All that was said so far.
    pub fn events(&self) -> Vec<Event> {
        let record = self.record.lock().unwrap();
        assert!(!record.is_lost, "a tap has ended, and says why above");
        record.events.clone()
    }
}

async fn stand_at(
    node: u64,
    listener: TcpListener,
    nodes: watch::Receiver<Vec<SocketAddr>>,
    record: Arc<Mutex<Record>>,
) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let to =
            nodes.borrow().get(node as usize - 1).copied().expect("clients come when the nodes are there");
        let record = Arc::clone(&record);
        tokio::task::spawn_local(async move {
            let heard = Arc::clone(&record);
            let passing = tokio::task::spawn_local(async move { pass_on(node, stream, to, &heard).await });
            // Whichever side ends it, the other notices.
            if passing.await.is_err() {
                record.lock().unwrap_or_else(PoisonError::into_inner).is_lost = true;
            }
        });
    }
}

/// What a client has asked and not heard, by the number that the answer will carry.
type Open = RefCell<HashMap<u64, Vec<CallId>>>;

async fn pass_on(
    node: u64,
    client: TcpStream,
    to: SocketAddr,
    record: &Mutex<Record>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let number = {
        let mut record = record.lock().unwrap();
        record.clients += 1;
        record.clients
    };
    let open = Open::default();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let asked = |frame: &Frame| {
        let asks = asks(frame.header.kind, frame.body());
        let mut record = record.lock().unwrap();
        let sent_us = record.now_us();
        let mut ids = Vec::new();
        for ask in asks {
            ids.push(CallId(record.calls));
            record.calls += 1;
            record.events.push(Event::Sent(Call { client: number, node, ask, sent_us, heard: None }));
        }
        let before = open.borrow_mut().insert(frame.header.correlation, ids);
        assert!(before.is_none_or(|before| before.is_empty()), "two requests of one number");
    };
    let answered = |frame: &Frame| {
        let Some(ids) = open.borrow_mut().remove(&frame.header.correlation) else { return };
        if ids.is_empty() || frame.header.kind.item_len().is_none() {
            return;
        }
        let replies = replies(frame.header.kind, frame.body());
        assert_eq!(ids.len(), replies.len(), "each item is answered");
        let mut record = record.lock().unwrap();
        let heard_us = record.now_us();
        let heard = ids.into_iter().zip(replies);
        record.events.extend(heard.map(|(id, reply)| Event::Heard(id, heard_us, reply)));
    };
    tokio::select! {
        ended = carry(client_read, server_write, asked) => ended,
        ended = carry(server_read, client_write, answered) => ended,
    }
}

/// A frame as it came.
struct Frame {
    header: FrameHeader,
    bytes: Vec<u8>,
}

impl Frame {
    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..]
    }
}

async fn carry(read: OwnedReadHalf, mut write: OwnedWriteHalf, note: impl Fn(&Frame)) -> std::io::Result<()> {
    let mut read = BufReader::with_capacity(64 * 1024, read);
    loop {
        let mut bytes = vec![0; HEADER_LEN];
        read.read_exact(&mut bytes).await?;
        let header = FrameHeader::parse(&bytes).unwrap().unwrap();
        bytes.resize(header.frame_len(), 0);
        read.read_exact(&mut bytes[HEADER_LEN..]).await?;
        let frame = Frame { header, bytes };
        note(&frame);
        write.write_all(&frame.bytes).await?;
    }
}
