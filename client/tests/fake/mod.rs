//! A server that speaks the protocol and does what a test tells it: answer, lose, reorder, close, lie.
//!
//! A test gives a handler, which sees every request frame and says what to do. [`Book`] is a ledger of one
//! product for handlers that want to be honest; `groups` has a consumer group, and `keeper` answers for it. Deliberately not here: stock, time, terms.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each binary uses a part of it")]

pub mod groups;
pub mod keeper;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_protocol::handshake::{Fault, Welcome};
use sluice_protocol::header::seal;
use sluice_protocol::request::{IdItem, ReserveItem, StockItem, items};
use sluice_protocol::response::{At, ReservationReply, ReservationView};
use sluice_protocol::{
    Answer, ClusterId, FrameHeader, HEADER_LEN, Kind, NodeId, PROTOCOL_VERSION, ReservationId, State,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zerocopy::{Immutable, IntoBytes};

/// When everything in these tests happens.
pub const AT: At = At { index: 9, time_ms: 1_000 };

/// A request frame as the server read it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    pub header: FrameHeader,
    pub body: Vec<u8>,
}

impl Request {
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    pub fn reserves(&self) -> &[ReserveItem] {
        items(&self.body).unwrap()
    }

    pub fn ids(&self) -> &[IdItem] {
        items(&self.body).unwrap()
    }

    pub fn stocks(&self) -> &[StockItem] {
        items(&self.body).unwrap()
    }

    /// The reply frame that consists of these items.
    pub fn reply(&self, items: &[impl IntoBytes + Immutable]) -> Act {
        let body: Vec<u8> = items.iter().flat_map(|item| item.as_bytes().to_vec()).collect();
        Act::Write(frame(self.kind().reply(), PROTOCOL_VERSION, items.len(), self.header.correlation, &body))
    }

    /// The reply frame that gives every item the same answer.
    pub fn all(&self, answer: Answer) -> Act {
        self.reply(&vec![answer; usize::from(self.header.count)])
    }

    pub fn pong(&self) -> Act {
        self.reply(&[0_u8; 0])
    }
}

pub fn frame(kind: Kind, version: u8, count: usize, correlation: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    seal(&mut frame, kind, version, count as u16, 0, correlation);
    frame
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    Write(Vec<u8>),
    /// Nothing: the reply is lost.
    Lose,
    /// Close the connection.
    Close,
    /// Close it with a fault.
    Fault(u16),
    /// Write these bytes and reset the connection.
    Reset(Vec<u8>),
    /// Nothing, for so long.
    Pause(Duration),
    /// Several of these.
    Both(Vec<Act>),
}

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct Manner {
    pub items_max: u16,
    pub body_max: u32,
    pub frames_in_flight_max: u32,
    pub cluster: u128,
    pub node: u64,
    /// Who leads; 0 = not known.
    pub leader: u64,
    /// The leader's address if it is known and elsewhere.
    pub leader_address: String,
    /// A fault instead of a welcome.
    pub fault: Option<u16>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            items_max: 1024,
            body_max: 64 * 1024,
            frames_in_flight_max: 256,
            cluster: 1,
            node: 1,
            leader: 1,
            leader_address: String::new(),
            fault: None,
        }
    }
}

impl Manner {
    /// Of a server that says where the leader is.
    pub fn naming(leader_address: String) -> Self {
        Self { leader: 2, leader_address, ..Self::default() }
    }
}

type Handler = Box<dyn FnMut(&Request) -> Act + Send>;

/// What the connections of one server share.
pub struct Server {
    pub manner: Mutex<Manner>,
    /// While this is true it says nothing, and does nothing with what arrives.
    pub stopped: watch::Sender<bool>,
    seen: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    handler: Mutex<Handler>,
}

impl Server {
    pub fn new(manner: Manner, handler: impl FnMut(&Request) -> Act + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            manner: Mutex::new(manner),
            stopped: watch::Sender::new(false),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            handler: Mutex::new(Box::new(handler)),
        })
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All requests so far, except pings.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Kinds of all requests so far, except pings.
    pub fn kinds(&self) -> Vec<Kind> {
        self.seen().iter().map(Request::kind).collect()
    }

    /// Attempt numbers of all reserve items so far.
    pub fn attempts(&self) -> Vec<u8> {
        let seen = self.seen();
        let reserves = seen.iter().filter(|request| request.kind() == Kind::Reserve);
        reserves.flat_map(|request| request.reserves().to_vec()).map(|item| item.attempt).collect()
    }

    /// Serves one connection until it ends. `Some`: it is to be reset.
    pub async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut stopped = self.stopped.subscribe();
        let (hello, _) = read_frame(&mut stream).await?;
        assert_eq!(hello.kind, Kind::Hello);
        stopped.wait_for(|stopped| !stopped).await.ok()?;
        let manner = self.manner.lock().unwrap().clone();
        if let Some(code) = manner.fault {
            write_fault(&mut stream, code).await;
            return None;
        }
        stream.write_all(&welcome(&manner)).await.ok()?;
        loop {
            let (header, body) = read_frame(&mut stream).await?;
            stopped.wait_for(|stopped| !stopped).await.ok()?;
            let request = Request { connection, header, body };
            let mut acts = if header.kind == Kind::Ping {
                vec![request.pong()]
            } else {
                self.seen.lock().unwrap().push(request.clone());
                vec![self.handler.lock().unwrap()(&request)]
            };
            while !acts.is_empty() {
                match acts.remove(0) {
                    Act::Write(bytes) => stream.write_all(&bytes).await.ok()?,
                    Act::Lose => {}
                    Act::Pause(time) => tokio::time::sleep(time).await,
                    Act::Close => return None,
                    Act::Fault(code) => {
                        write_fault(&mut stream, code).await;
                        return None;
                    }
                    Act::Reset(bytes) => return stream.write_all(&bytes).await.ok(),
                    Act::Both(more) => acts.splice(0..0, more).for_each(drop),
                }
            }
        }
    }
}

fn welcome(manner: &Manner) -> Vec<u8> {
    let mut body = Vec::new();
    Welcome {
        version: PROTOCOL_VERSION,
        items_max: manner.items_max,
        body_max: manner.body_max,
        frames_in_flight_max: manner.frames_in_flight_max,
        cluster: ClusterId(manner.cluster),
        node: NodeId(manner.node),
        leader: NodeId(manner.leader),
        leader_address: &manner.leader_address,
        time_ms: AT.time_ms,
    }
    .encode(&mut body);
    frame(Kind::Welcome, 0, 0, 0, &body)
}

/// A running fake server. Dropped, it closes everything.
pub struct Fake {
    address: SocketAddr,
    server: Arc<Server>,
    listener: JoinHandle<()>,
}

impl Deref for Fake {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Fake {
    /// Pings are answered without asking the handler.
    pub async fn start(handler: impl FnMut(&Request) -> Act + Send + 'static) -> Self {
        Self::start_with(Manner::default(), "127.0.0.1:0", handler).await
    }

    pub async fn start_with(
        manner: Manner,
        address: &str,
        handler: impl FnMut(&Request) -> Act + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(manner, handler);
        let listener = tokio::spawn(listen(listener, Arc::clone(&server)));
        Self { address, server, listener }
    }

    pub fn url(&self) -> String {
        format!("sluice://{}", self.address)
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(listener: TcpListener, server: Arc<Server>) {
    // Ends, with all its tasks, when the listener is aborted.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let server = Arc::clone(&server);
        connections.spawn(async move {
            if server.talk(&mut stream).await.is_some() {
                stream.set_zero_linger().unwrap();
            }
        });
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(FrameHeader, Vec<u8>)> {
    let mut bytes = vec![0; HEADER_LEN];
    stream.read_exact(&mut bytes).await.ok()?;
    let header = FrameHeader::parse(&bytes).unwrap().unwrap();
    bytes.resize(header.frame_len(), 0);
    stream.read_exact(&mut bytes[HEADER_LEN..]).await.ok()?;
    header.check_body(&bytes).unwrap();
    Some((header, bytes.split_off(HEADER_LEN)))
}

async fn write_fault(stream: &mut (impl AsyncWrite + Unpin), code: u16) {
    let mut body = Vec::new();
    Fault { code, text: "as the test wishes" }.encode(&mut body);
    // Whoever does not read it any more does not need it.
    let _ = stream.write_all(&frame(Kind::Fault, 0, 0, 0, &body)).await;
}

/// What a query of a reservation is answered with.
pub fn reservation(answer: Answer) -> ReservationReply {
    ReservationReply { answer, record: ReservationView::default().into() }
}

/// One outcome for each id, as a ledger keeps it. Every reserve succeeds.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<ReservationId, (State, ReserveItem)>,
}

impl Book {
    pub fn state(&self, id: ReservationId) -> State {
        self.entries.get(&id).map_or(State::None, |entry| entry.0)
    }

    pub fn held(&self) -> usize {
        self.entries.values().filter(|entry| entry.0 == State::Held).count()
    }

    /// The answers to a reserve, resolve, confirm or cancel.
    pub fn answer(&mut self, request: &Request) -> Vec<Answer> {
        match request.kind() {
            Kind::Reserve => request.reserves().to_vec().iter().map(|item| self.reserve(item)).collect(),
            kind => request.ids().to_vec().iter().map(|item| self.named(kind, item.id())).collect(),
        }
    }

    fn reserve(&mut self, item: &ReserveItem) -> Answer {
        let Some((state, kept)) = self.entries.get(&item.id()) else {
            self.entries.insert(item.id(), (State::Held, *item));
            return Answer::reserved(AT, self.entries.len() as u64, 5_000);
        };
        let same =
            (kept.product(), kept.user(), kept.quantity()) == (item.product(), item.user(), item.quantity());
        match state {
            State::Fenced => Answer::fenced(AT),
            _ if !same => Answer::plain(AT, sluice_protocol::Status::IdConflict),
            state => Answer::already(AT, *state, 1, 5_000),
        }
    }

    fn named(&mut self, kind: Kind, id: ReservationId) -> Answer {
        let unknown = ReserveItem::new(id, 0.into(), 0.into(), 0);
        let entry = self.entries.entry(id);
        let known = matches!(entry, std::collections::hash_map::Entry::Occupied(_));
        let (state, _) = entry.or_insert((State::Fenced, unknown));
        if !known || *state == State::Fenced {
            return Answer::fenced(AT);
        }
        match (kind, *state) {
            (Kind::Confirm, State::Held) => {
                *state = State::Confirmed;
                Answer::confirmed(AT, 2)
            }
            (Kind::Cancel, State::Held) => {
                *state = State::Cancelled;
                Answer::cancelled(AT, 2)
            }
            (_, state) => Answer::already(AT, state, 1, 5_000),
        }
    }
}
