//! Three nodes in memory that a test kills, hangs, cuts off and crowns.
//!
//! Nodes decide nothing: who leads is what the test says. All of them write into one book, as a replicated log
//! would have it. Deliberately not here: elections, terms.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sluice_protocol::response::{ProductReply, ProductView};
use sluice_protocol::{Answer, Kind, ProductId};
use tokio::io::{duplex, split};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::fake::groups::Group;
use super::fake::{AT, Act, Book, Manner, Request, Server, keeper, reservation};
use crate::dial::{Dial, Dialling, Wire};
use crate::url::Address;
use crate::{Builder, Client, Error, ReserveOutcome, Terms};

/// Where the nodes are; node 1 is the first.
pub(super) const ADDRESSES: [&str; 3] = ["a:7400", "b:7400", "c:7400"];

/// Attempts to connect to one node that no test comes near.
const DIALS_MAX: usize = 10_000;

/// Bytes on their way in one direction.
const PIPE: usize = 256 * 1024;

/// What happens to those who connect to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Nobody listens.
    Refuses,
    /// Nothing ever comes back: the machine is gone.
    Swallows,
}

/// What a node that leads or follows does with requests, where it is not the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The leader answers from the book; others say who leads.
    Proper,
    /// Any node answers reads.
    Reads,
    /// Whatever is asked is done, and no reply gets through.
    Mute,
    /// Replies are kept back until a request comes after this is over; pings are answered.
    Slow,
    /// Nothing is admitted, everything is told to wait this long, milliseconds.
    Busy(u32),
    /// It says that nobody leads, whatever its welcome says.
    Shut,
    /// It reads, and says otherwise that nobody leads.
    OnlyReads,
}

#[derive(Debug)]
pub(super) struct Node {
    server: Arc<Server>,
    door: Mutex<Door>,
    way: Arc<Mutex<Way>>,
    leader: Arc<AtomicU64>,
    connections: Mutex<Vec<AbortHandle>>,
    /// When each attempt to connect began.
    dialled: Mutex<Vec<Instant>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

/// The network and what is behind it.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: HashMap<String, Node>,
    pub(super) book: Arc<Mutex<Book>>,
    group: Arc<Mutex<Group>>,
}

impl Cluster {
    /// Node 1 leads.
    pub(super) fn new() -> Arc<Self> {
        let (book, group): (Arc<Mutex<Book>>, Arc<Mutex<Group>>) = (Arc::default(), Arc::default());
        let node = |(address, id): (&&str, u64)| {
            ((*address).to_owned(), Node::new(id, Arc::clone(&book), Arc::clone(&group)))
        };
        let nodes = ADDRESSES.iter().zip(1..).map(node).collect();
        let cluster = Self { nodes, book: Arc::clone(&book), group: Arc::clone(&group) };
        cluster.crown(1);
        Arc::new(cluster)
    }

    pub(super) fn node(&self, id: u64) -> &Node {
        &self.nodes[ADDRESSES[id as usize - 1]]
    }

    fn ids() -> impl Iterator<Item = u64> {
        1..=ADDRESSES.len() as u64
    }

    /// All nodes hear that this one leads; 0: that nobody does.
    pub(super) fn crown(&self, leader: u64) {
        Self::ids().for_each(|id| self.tell(id, leader));
    }

    /// A node hears that this one leads.
    pub(super) fn tell(&self, node: u64, leader: u64) {
        self.node(node).leader.store(leader, Ordering::Relaxed);
        let mut manner = self.node(node).manner();
        manner.leader = leader;
        let elsewhere = leader != 0 && leader != node;
        manner.leader_address =
            if elsewhere { ADDRESSES[leader as usize - 1].to_owned() } else { String::new() };
    }

    /// Connects with all three addresses.
    pub(super) async fn connect(self: &Arc<Self>, builder: Builder) -> Client {
        self.try_connect(builder).await.unwrap()
    }

    pub(super) async fn try_connect(self: &Arc<Self>, builder: Builder) -> Result<Client, Error> {
        let dial: Arc<dyn Dial> = Arc::clone(self) as Arc<dyn Dial>;
        builder.connect_over(dial, &format!("sluice://{}", ADDRESSES.join(","))).await
    }

    /// How often each node was dialled.
    pub(super) fn dials(&self) -> [usize; 3] {
        [1, 2, 3].map(|id| self.node(id).dialled.lock().unwrap().len())
    }

    /// Attempts to connect to any node within a span.
    pub(super) fn dials_between(&self, from: Instant, to: Instant) -> usize {
        let within =
            |node: &Node| node.dialled.lock().unwrap().iter().filter(|at| (from..to).contains(at)).count();
        self.nodes.values().map(within).sum()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// The consumer group that all nodes keep.
    pub(super) fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap()
    }
}

impl Dial for Cluster {
    fn dial(&self, address: &Address) -> Dialling {
        let node = self.nodes.get(&address.to_string());
        let door = node.map_or(Door::Refuses, |node| node.dialled());
        let (near, far) = duplex(PIPE);
        match (door, node) {
            (Door::Open, Some(node)) => {
                let server = Arc::clone(&node.server);
                let task = tokio::spawn(async move { server.talk(far).await });
                node.connections.lock().unwrap().push(task.abort_handle());
            }
            (Door::Swallows, _) => return Box::pin(std::future::pending()),
            _ => return Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))),
        }
        let (reader, writer) = split(near);
        Box::pin(std::future::ready(Ok(Wire { reader: Box::new(reader), writer: Box::new(writer) })))
    }
}

impl Node {
    fn new(id: u64, book: Arc<Mutex<Book>>, group: Arc<Mutex<Group>>) -> Self {
        let (way, leader) = (Arc::new(Mutex::new(Way::Proper)), Arc::new(AtomicU64::new(0)));
        let mut mind =
            Mind { id, leader: Arc::clone(&leader), way: Arc::clone(&way), book, group, kept: Vec::new() };
        Self {
            server: Server::new(Manner { node: id, ..Manner::default() }, move |request| mind.act(request)),
            door: Mutex::new(Door::Open),
            way,
            leader,
            connections: Mutex::default(),
            dialled: Mutex::default(),
        }
    }

    /// A client that dials for ever at one moment would never let the clock go on.
    fn dialled(&self) -> Door {
        let mut dialled = self.dialled.lock().unwrap();
        dialled.push(Instant::now());
        assert!(dialled.len() < DIALS_MAX, "{} dials: the client hammers", dialled.len());
        *self.door.lock().unwrap()
    }

    pub(super) fn manner(&self) -> MutexGuard<'_, Manner> {
        self.server.manner.lock().unwrap()
    }

    pub(super) fn door(&self, door: Door) {
        *self.door.lock().unwrap() = door;
    }

    pub(super) fn way(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    /// As SIGKILL: connections are gone, and nobody listens.
    pub(super) async fn kill(&self) {
        self.door(Door::Refuses);
        self.hang_up().await;
    }

    /// Its connections are gone, and who was connected knows.
    pub(super) async fn hang_up(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
        sleep(Duration::from_millis(1)).await;
    }

    /// As SIGSTOP: the system accepts connections and bytes, and nobody looks at them.
    pub(super) fn stop(&self) {
        self.server.stopped.send_replace(true);
    }

    /// As SIGCONT.
    pub(super) fn go_on(&self) {
        self.server.stopped.send_replace(false);
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.server.seen()
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.server.kinds()
    }

    pub(super) fn attempts(&self) -> Vec<u8> {
        self.server.attempts()
    }
}

/// What a node makes of requests.
struct Mind {
    id: u64,
    leader: Arc<AtomicU64>,
    way: Arc<Mutex<Way>>,
    book: Arc<Mutex<Book>>,
    group: Arc<Mutex<Group>>,
    kept: Vec<Act>,
}

impl Mind {
    fn act(&mut self, request: &Request) -> Act {
        let way = *self.way.lock().unwrap();
        let leader = self.leader.load(Ordering::Relaxed);
        let act = match way {
            Way::Busy(retry_after_ms) => all(request, Answer::busy(retry_after_ms)),
            Way::Shut => all(request, Answer::not_leader(0)),
            Way::Reads | Way::OnlyReads if is_read(request.kind()) => all(request, Answer::done(AT, 0)),
            Way::OnlyReads => all(request, Answer::not_leader(0)),
            _ if leader != self.id => all(request, Answer::not_leader(leader)),
            _ if is_read(request.kind()) => all(request, Answer::done(AT, 0)),
            _ if keeper::is_about_groups(request.kind()) => {
                keeper::answer(&mut self.group.lock().unwrap(), request)
            }
            _ => request.reply(&self.book.lock().unwrap().answer(request)),
        };
        match way {
            Way::Mute => Act::Lose,
            Way::Slow => {
                self.kept.push(act);
                Act::Lose
            }
            _ => {
                self.kept.push(act);
                Act::Both(std::mem::take(&mut self.kept))
            }
        }
    }
}

fn is_read(kind: Kind) -> bool {
    matches!(kind, Kind::QueryReservation | Kind::QueryProduct | Kind::ListProducts)
}

/// A reply that gives every item the same answer, in the shape of its kind.
fn all(request: &Request, answer: Answer) -> Act {
    let count = usize::from(request.header.count);
    match request.kind() {
        kind if keeper::is_about_groups(kind) => keeper::refuse(request, answer),
        Kind::QueryReservation => request.reply(&vec![reservation(answer); count]),
        Kind::QueryProduct | Kind::ListProducts => {
            request.reply(&vec![ProductReply { answer, record: some_product().into() }; count])
        }
        _ => request.all(answer),
    }
}

fn some_product() -> ProductView {
    ProductView {
        product: ProductId(7),
        stock: 0,
        free: 0,
        held: 0,
        sold: 0,
        terms: Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 1, unlimited: false },
        sealed: false,
        earliest_return_ms: 0,
    }
}

/// Whether the reservation is the caller's, and whether an earlier attempt had taken it.
pub(super) fn reserved(outcome: Result<ReserveOutcome, Error>) -> bool {
    match outcome {
        Ok(ReserveOutcome::Reserved { repeated, .. }) => repeated,
        other => panic!("reserved was expected, not {other:?}"),
    }
}
