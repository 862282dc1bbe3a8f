//! What a node says to the other nodes of its cluster, and hears from them; and what operators ask of it.
//!
//! - `frame`: the bytes · `greeting`: how a conversation begins · `book`: where nodes are
//! - `link`: messages that wait for a connection · `connection`: both directions of one
//! - `dial`: one connection to each peer, made again and again · `accept`: those that peers and operators make
//! - [`operator`]: what operators ask · `pace`: how fast snapshots may go
//!
//! Each node sends over connections that it made itself, so one of each pair carries each direction. Only what answers a
//! particular process ([`Body::Welcome`] and its like) goes back over the connection that asked: of two processes with one
//! node id, each hears its own. All of it has a thread, a listener and descriptors of its own: clients cannot crowd it
//! out. Every queue is bounded; what is dropped is told to raft as unreachable.
//!
//! Deliberately not here: what messages mean.

mod accept;
mod book;
mod connection;
mod dial;
mod frame;
mod greeting;
mod link;
pub mod operator;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::{ArrayQueue, SegQueue};
use parking_lot::Mutex;
use sluice_core::replica::peer::{Body, Envelope, Identity};
use sluice_protocol::ids::ClusterId;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::LocalSet;

pub(crate) use self::book::{BOOK_FILE, BOOK_FILE_ASIDE, Book, Entry};
pub(crate) use self::link::Link;
use self::operator::Call;
pub(crate) use self::pace::Pace;
use crate::node::shared::Sleeper;

/// Connections that others make: peers, a few of each while they are made anew, and operators.
pub(crate) const ACCEPTED_MAX: usize = 64;

/// Descriptors that all of it may take: those, one to each peer, and a runtime's own.
pub(crate) const DESCRIPTORS: usize = 2 * ACCEPTED_MAX;

/// KiB of messages that have arrived and that the replica has not taken.
const INBOX_KIB: usize = 32 * 1024;

/// Operators whose calls may be under way: a part of the places.
const CALLS_MAX: usize = ACCEPTED_MAX / 4;

/// How long a peer that was removed stays known after it was last connected.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How long the thread's end may wait for the system: for a disk, or for names that are being resolved.
const END_MAX: Duration = Duration::from_secs(1);

/// A message that has arrived, and the room that it takes.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) envelope: Envelope,
    _room: OwnedSemaphorePermit,
}

/// What the replica thread, the net threads and the connections share.
#[derive(Debug)]
pub(crate) struct Post {
    own: Identity,
    address: SocketAddr,
    data: PathBuf,
    queue_bytes_max: usize,
    inbox: SegQueue<Arrived>,
    room: Arc<Semaphore>,
    calls: ArrayQueue<Call>,
    /// Places for operators, who may have to wait for their answers.
    operators: Semaphore,
    /// Ways back to the processes that have connected here, by their nonce.
    returns: Mutex<BTreeMap<u64, Arc<Link>>>,
    book: watch::Sender<Book>,
    /// Of whom nobody else is believed: this node, which knows best, and those that were removed and have gone.
    ignored: Mutex<BTreeSet<u64>>,
    replica: Arc<Sleeper>,
}

impl Post {
    /// Where the other nodes connect, as this machine sees it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// This node.
    pub(crate) fn node(&self) -> u64 {
        self.own.node
    }

    /// Its cluster.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.own.cluster
    }

    /// The next message that has arrived.
    pub(crate) fn take(&self) -> Option<Arrived> {
        self.inbox.pop()
    }

    /// The next call of an operator.
    pub(crate) fn take_call(&self) -> Option<Call> {
        self.calls.pop()
    }

    /// Where a node can be reached.
    pub(crate) fn entry(&self, node: u64) -> Option<Entry> {
        self.book.borrow().get(node).cloned()
    }

    /// All that is known of where nodes are.
    pub(crate) fn book(&self) -> Book {
        self.book.borrow().clone()
    }

    /// Takes over what somebody else knows.
    fn learn(&self, other: &Book) {
        let ignored = self.ignored.lock();
        self.change(|book| book.merge(other, &ignored));
    }

    /// Changes the book, and has it written down and every peer told.
    fn change(&self, change: impl FnOnce(&mut Book) -> bool) {
        self.book.send_if_modified(change);
    }

    /// Hands a message to the replica, when there is room.
    async fn deliver(&self, envelope: Envelope, len: usize) {
        let kib = u32::try_from(len / 1024 + 1).expect("a message is far shorter");
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.expect("it is never closed");
        self.inbox.push(Arrived { envelope, _room: room });
    }

    fn wake_replica(&self) {
        self.replica.wake();
    }
}

/// The sending side, which the replica thread owns.
#[derive(Debug)]
pub(crate) struct Peers {
    post: Arc<Post>,
    links: BTreeMap<u64, Arc<Link>>,
    known: watch::Receiver<Book>,
    /// Links that were given something since the last flush.
    touched: Vec<Arc<Link>>,
    dial: mpsc::UnboundedSender<Arc<Link>>,
}

impl Peers {
    /// Queues a message for its receiver.
    pub(crate) fn send(&mut self, envelope: Envelope) {
        let back = match &envelope.body {
            Body::Welcome { nonce } | Body::WhoAreYou { nonce } | Body::Refused { nonce, .. } => {
                self.post.returns.lock().get(nonce).cloned()
            }
            _ => None,
        };
        let link = back.unwrap_or_else(|| self.link(envelope.to));
        link.push(envelope);
        if !self.touched.iter().any(|touched| Arc::ptr_eq(touched, &link)) {
            self.touched.push(link);
        }
    }

    /// Has what was queued sent.
    pub(crate) fn flush(&mut self) {
        self.touched.drain(..).for_each(|link| link.wake());
    }

    /// Peers to whom messages may not have arrived since this was last asked.
    pub(crate) fn failed(&self) -> impl Iterator<Item = u64> + '_ {
        self.links.values().filter(|link| link.take_failed()).map(|link| link.node())
    }

    /// Connects to all whose addresses have become known: they learn this node's, and an election need not wait for it.
    pub(crate) fn introduce(&mut self) {
        if !self.known.has_changed().unwrap_or(false) {
            return;
        }
        self.known.mark_unchanged();
        let nodes: Vec<u64> = self.post.book().nodes().filter(|node| *node != self.post.own.node).collect();
        for node in nodes {
            self.link(node);
        }
    }

    /// Lets go of nodes that were removed and do not answer any more.
    pub(crate) fn forget(&mut self, removed: &[u64]) {
        for node in removed {
            let gone = |link: &Arc<Link>| {
                let standing = link.standing();
                !standing.is_up && standing.since.elapsed() >= REMEMBERED
            };
            if self.links.get(node).is_some_and(gone) {
                self.links.remove(node);
                self.post.ignored.lock().insert(*node);
                self.post.change(|book| book.forget(*node));
            }
        }
    }

    /// How the connection to a peer is.
    pub(crate) fn standing(&self, node: u64) -> Option<link::Standing> {
        self.links.get(&node).map(|link| link.standing())
    }

    /// Messages to a peer that were dropped.
    pub(crate) fn dropped(&self, node: u64) -> u64 {
        self.links.get(&node).map_or(0, |link| link.dropped())
    }

    fn link(&mut self, node: u64) -> Arc<Link> {
        let (post, dial) = (&self.post, &self.dial);
        let link = self.links.entry(node).or_insert_with(|| {
            let link = Arc::new(Link::new(node, post.queue_bytes_max));
            // It ends with the thread that dials, which outlives this one.
            let _ = dial.send(Arc::clone(&link));
            link
        });
        Arc::clone(link)
    }
}

/// What it takes to start.
pub(crate) struct Start {
    pub(crate) listener: TcpListener,
    pub(crate) own: Identity,
    /// Where others find this node.
    pub(crate) entry: Entry,
    pub(crate) data: PathBuf,
    pub(crate) queue_bytes_max: usize,
    pub(crate) replica: Arc<Sleeper>,
}

/// The thread behind it all. It ends when nothing holds its other end any more.
#[derive(Debug)]
pub(crate) struct PeerThread {
    _alive: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl PeerThread {
    /// Ends it.
    pub(crate) fn join(self) -> std::thread::Result<()> {
        drop(self._alive);
        self.thread.join()
    }
}

/// Starts to listen and to dial.
///
/// # Errors
/// The system's.
pub(crate) fn start(start: Start) -> io::Result<(Arc<Post>, Peers, PeerThread)> {
    let Start { listener, own, entry, data, queue_bytes_max, replica } = start;
    let address = listener.local_addr()?;
    let mut book = Book::load(&data);
    // Who starts knows where it is, whatever was written down: an older directory may come back at the same count.
    book.forget(own.node);
    book.learn(own.node, entry);
    let post = Arc::new(Post {
        own,
        address,
        data,
        queue_bytes_max,
        inbox: SegQueue::new(),
        room: Arc::new(Semaphore::new(INBOX_KIB)),
        calls: ArrayQueue::new(CALLS_MAX),
        operators: Semaphore::new(CALLS_MAX),
        returns: Mutex::new(BTreeMap::new()),
        book: watch::Sender::new(book),
        ignored: Mutex::new(BTreeSet::from([own.node])),
        replica,
    });
    post.book().save(&post.data)?;
    let written = post.book.subscribe();
    let (dial, to_dial) = mpsc::unbounded_channel();
    let (alive, end) = mpsc::channel(1);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let with = Arc::clone(&post);
    let run = move || {
        LocalSet::new().block_on(&runtime, async {
            tokio::task::spawn_local(write_down(with.data.clone(), written));
            serve(with, listener, to_dial, end).await;
        });
        // A name that nobody resolves must not keep the node from ending.
        runtime.shutdown_timeout(END_MAX);
    };
    let thread = std::thread::Builder::new().name("peers".into()).spawn(run)?;
    let mut known = post.book.subscribe();
    known.mark_changed();
    let peers = Peers { post: Arc::clone(&post), links: BTreeMap::new(), known, touched: Vec::new(), dial };
    Ok((post, peers, PeerThread { _alive: alive, thread }))
}

/// Writes the book down whenever it has changed. Aside: neither heartbeats nor the replica wait for the disk.
async fn write_down(data: PathBuf, mut book: watch::Receiver<Book>) {
    while book.changed().await.is_ok() {
        let (now, data) = (book.borrow_and_update().clone(), data.clone());
        let saved = tokio::task::spawn_blocking(move || now.save(&data)).await;
        if let Err(error) = saved.map_err(io::Error::from).flatten() {
            tracing::warn!(%error, "the addresses of the other nodes cannot be written down");
        }
    }
}

async fn serve(
    post: Arc<Post>,
    listener: TcpListener,
    mut to_dial: mpsc::UnboundedReceiver<Arc<Link>>,
    mut end: mpsc::Receiver<()>,
) {
    tokio::task::spawn_local(accept::run(Arc::clone(&post), listener));
    loop {
        tokio::select! {
            Some(link) = to_dial.recv() => {
                tokio::task::spawn_local(dial::run(Arc::clone(&post), link));
            }
            _ = end.recv() => return,
        }
    }
}
