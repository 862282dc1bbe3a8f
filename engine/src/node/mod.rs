//! A node: threads and queues around the core; the only place where the paths come together.
//!
//! - `shared`: what the threads share
//! - `recovery`: from the data directory to a replica; [`found`]: to a data directory
//! - `replica`: the thread that decides; `talk`: what it does for peers, and `operators`: for operators
//! - `view`: the cluster as this node sees it
//! - `disk`: the thread that writes the log
//! - `snapshots`: the thread for snapshot files
//! - `events`: the threads for the event stream's files
//! - `room`: what is free on the disk
//!
//! Threads: N for the net, one replica, one for the log, one for snapshots, two for events, one for peers, one for the ops port. Data
//! flows one way; only outcomes come back.

mod disk;
mod events;
mod found;
mod operators;
mod recovery;
mod replica;
mod room;
pub(crate) mod shared;
mod snapshots;
mod talk;
mod view;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use crossbeam_queue::ArrayQueue;
use sluice_core::board::Board;
use sluice_core::desk::COLD_READS_MAX;
use sluice_core::replica::peer;
use sluice_core::replica::{CHUNK_LEN, Replica, ReplicaConfig, STEPS_MAX};
use sluice_core::session::Facts;
use sluice_protocol::{ClusterId, NodeId};
use thiserror::Error;
use tokio::sync::Notify;

use self::events::EventThreads;
pub use self::found::{FoundError, found, join};
use self::recovery::Opened;
pub use self::recovery::RecoveryError;
use self::replica::Turn;
use self::room::Room;
use self::shared::{NetHandle, Shared, Sleeper};
use self::snapshots::Files;
use self::talk::Talk;
use crate::books::Teller;
use crate::clock::Clock;
use crate::config::{Config, LimitsConfig};
use crate::datadir::DataDir;
use crate::descriptors::{self, TooFew};
use crate::failpoint::{self, Point};
use crate::net;
use crate::ops::health::Health;
use crate::ops::metrics::{Identity, Metrics};
use crate::ops::server::{OpsError, OpsServer};
use crate::peers::{self, PeerThread, Peers, Post};
use crate::snapshot::Shelf;
use crate::stream::reads::Reads;
use crate::stream::thread::Events;

/// Reports from the disk threads that may wait. The replica has far fewer steps under way.
const REPORTS_MAX: usize = 1024;

/// Why a node did not start. Nothing was changed, except that a new data directory may have been made.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Clients could not connect.
    #[error(
        "cannot listen on {address}: {source}: choose another address with --listen, or stop what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// Peers could not connect.
    #[error(
        "cannot listen on {address} for peers: {source}: choose another address with --peer-listen, or stop what uses it"
    )]
    ListenForPeers {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The ops port could not be opened.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The system allows too few open files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The system has no threads left.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    address: SocketAddr,
    ops: OpsServer,
    data: PathBuf,
    identity: (ClusterId, NodeId),
    nets: Vec<JoinHandle<()>>,
    replica: JoinHandle<()>,
    wal: JoinHandle<()>,
    snapshots: JoinHandle<()>,
    events: EventThreads,
    peers: Option<PeerThread>,
}

impl Node {
    /// Recovers the data directory (or makes it) and starts to serve.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(config: &Config) -> Result<Self, NodeError> {
        failpoint::begin();
        let (metrics, health) = (Metrics::new(), Health::new());
        let mut limits = config.limits.clone();
        limits.connections_max = descriptors::connections_max(config)?;
        metrics.connections_max.set(limits.connections_max as u64);
        // Before all else, so that whoever watches sees a node that is starting.
        let ops = OpsServer::start(&config.ops, Arc::clone(&metrics), Arc::clone(&health))?;
        let clock = Clock::start();
        metrics.started.set_ms(clock.now().wall_ms);
        let listen = config.node.listen;
        let as_listen = |source| NodeError::Listen { address: listen, source };
        let listener = net::listen(listen).map_err(as_listen)?;
        let address = listener.local_addr().map_err(as_listen)?;
        let peer_listener = config.peers.listen.map(listen_for_peers).transpose()?;
        let opened = recovery::open(config)?;
        let identity = (opened.identity.cluster, opened.identity.node);
        // The cell is this process's own and empty.
        let _ = metrics.identity.set(Identity { cluster: identity.0, node: identity.1 });
        let board = Arc::new(board(config, &opened));
        let replica_config = replica_config(config, &opened);
        let sleeper = Arc::<Sleeper>::default();
        let talk =
            peer_listener.map(|listener| talk(config, &opened, listener, address, &sleeper)).transpose()?;
        let (post, peers, peer_thread) =
            talk.map_or((None, None, None), |(post, peers, thread)| (Some(post), Some(peers), Some(thread)));
        let auditors_reader = opened.events.reader();
        let (events, streams) = events::queues(opened.events);
        let shared = shared(config, Arc::clone(&board), clock, metrics, health, streams);
        let shared = Arc::new(Shared { replica: sleeper, post, ..shared });
        let replica = Replica::new(replica_config, opened.recovered, board).map_err(RecoveryError::from)?;
        failpoint::reach(Point::StartReplica);
        tell_log(&shared.metrics, &replica, opened.log_first);
        let (log, data_dir) = (opened.log, Arc::new(opened.data_dir));
        let records_expected = config.limits.records_expected;
        let files = Files { store: opened.snapshots, records_expected, seed: opened.seed };
        let (orders, to_do) = mpsc::sync_channel(snapshots::ORDERS_MAX);
        let room = Room { dir: config.node.data.clone(), min: config.log.disk_free_min };
        let (with, room_of_log) = (Arc::clone(&shared), room.clone());
        let wal = spawn("wal", &data_dir, move || disk::write_log(&with, log, &room_of_log))?;
        let events = events.start(&shared, &data_dir, identity.0, config.peers.snapshot_rate)?;
        let with = Arc::clone(&shared);
        let snapshots = spawn("snapshots", &data_dir, move || snapshots::run(&with, files, &to_do))?;
        let pace = peers::Pace::new(config.peers.snapshot_rate, CHUNK_LEN as u64);
        let alarm_ms = config.stream.alarm_age.as_millis() as u64;
        let with = Arc::clone(&shared);
        let replica = spawn("replica", &data_dir, move || {
            Turn::new(&with, replica, &orders, &room, Talk::new(&with, peers, pace), alarm_ms).run();
        })?;
        let shelf = Shelf::new(&config.node.data, identity.0);
        ops.tells_books(Teller::new(Arc::clone(&shared), identity, shelf, auditors_reader));
        let nets =
            net::start(listener, &limits, &facts(identity, &limits), &shared).map_err(NodeError::Thread)?;
        Ok(Self {
            shared,
            address,
            ops,
            data: config.node.data.clone(),
            identity,
            nets,
            replica,
            wal,
            snapshots,
            events,
            peers: peer_thread,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where peers connect, if they can.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.shared.post.as_ref().map(|post| post.address())
    }

    /// Where operators look.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops.address()
    }

    /// The cluster and the node.
    pub fn identity(&self) -> (ClusterId, NodeId) {
        self.identity
    }

    /// Its data directory.
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// How it is.
    pub fn health(&self) -> &Arc<Health> {
        &self.shared.health
    }

    /// Stops admitting, finishes what is in flight, writes a snapshot, and ends all threads.
    ///
    /// # Panics
    /// If one of them has panicked.
    pub fn stop(self) {
        failpoint::reach(Point::StopBegun);
        self.shared.health.stopping();
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.replica.wake();
        let EventThreads { filler, files } = self.events;
        filler.thread().unpark();
        let threads = self.nets.into_iter().chain([self.replica, self.wal, self.snapshots, filler]);
        for thread in threads {
            thread.join().expect("threads of a node end without a panic");
        }
        // When nobody is left who makes events, or has any read.
        self.shared.events.stop();
        self.shared.event_reads.stop();
        for thread in files {
            thread.join().expect("threads of a node end without a panic");
        }
        // Last, so that what the replica said at its end is sent.
        if let Some(peers) = self.peers {
            peers.join().expect("threads of a node end without a panic");
        }
    }
}

/// Starts a thread that decides or writes. The data directory stays locked until the last of them has ended.
fn spawn(
    name: &str,
    data_dir: &Arc<DataDir>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let held = Arc::clone(data_dir);
    let run = move || {
        let _held = held;
        run();
    };
    Builder::new().name(name.into()).spawn(run).map_err(NodeError::Thread)
}

/// What clients are told of this node.
fn facts((cluster, node): (ClusterId, NodeId), limits: &LimitsConfig) -> Facts {
    Facts { cluster, node, frames_in_flight_max: limits.frames_in_flight_max as usize }
}

/// Begins to talk to peers. `clients` is where clients connect, as this machine sees it.
fn talk(
    config: &Config,
    opened: &Opened,
    listener: TcpListener,
    clients: SocketAddr,
    replica: &Arc<Sleeper>,
) -> Result<(Arc<Post>, Peers, PeerThread), NodeError> {
    let listens_at = listener.local_addr().map_err(NodeError::Thread)?;
    let start = peers::Start {
        listener,
        own: peer_identity(opened),
        entry: peers::Entry {
            boot: opened.data_dir.boot(),
            peers: advertised(&config.peers.advertise, listens_at),
            clients: advertised(&config.node.advertise, clients),
        },
        data: config.node.data.clone(),
        queue_bytes_max: config.peers.queue_bytes_max,
        replica: Arc::clone(replica),
    };
    peers::start(start).map_err(NodeError::Thread)
}

/// Who this process is, to its peers.
fn peer_identity(opened: &Opened) -> peer::Identity {
    peer::Identity {
        cluster: opened.identity.cluster,
        node: opened.identity.node.0,
        incarnation: opened.identity.incarnation,
        boot: opened.data_dir.boot(),
        nonce: opened.seed,
    }
}

fn listen_for_peers(address: SocketAddr) -> Result<TcpListener, NodeError> {
    net::listen(address).map_err(|source| NodeError::ListenForPeers { address, source })
}

/// What is told to others: what the configuration says, or where the node listens.
fn advertised(setting: &str, listens_at: SocketAddr) -> String {
    if setting == "auto" { listens_at.to_string() } else { setting.to_owned() }
}

/// An empty board. Filters that begin with room for what is there already are one deep, and asked at one place.
fn board(config: &Config, opened: &Opened) -> Board {
    let records = opened.recovered.ledger.totals().records as usize;
    let keys = config.limits.records_expected.max(records + records / 4);
    Board::new(opened.identity.node, keys, opened.seed)
}

/// The log as it was found.
fn tell_log(metrics: &Metrics, replica: &Replica, first: u64) {
    let status = replica.status();
    metrics.snapshot_index.set(status.snapshot);
    metrics.log_first_index.set(first);
    metrics.log_last_index.set(status.last_index);
}

/// Who the replica is, and how it works.
fn replica_config(config: &Config, opened: &Opened) -> ReplicaConfig {
    ReplicaConfig {
        identity: peer_identity(opened),
        seed: opened.seed,
        stripes: config.node.net_threads,
        snapshot_every_bytes: config.log.snapshot_every_bytes,
    }
}

fn shared(
    config: &Config,
    board: Arc<Board>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    (events, event_reads): (Events, Reads),
) -> Shared {
    let limits = &config.limits;
    // What one frame can add to a desk that is just below its limit.
    let returns_max = net::flights_max(limits) + 2;
    let nets = (0..config.node.net_threads).map(|_| NetHandle {
        returns: ArrayQueue::new(returns_max),
        cold: ArrayQueue::new(COLD_READS_MAX),
        wake: Notify::new(),
        watching: AtomicBool::new(false),
    });
    Shared {
        board,
        clock,
        metrics,
        health,
        // All that all desks can have away: a push never fails.
        flights: ArrayQueue::new(returns_max * config.node.net_threads),
        nets: nets.collect(),
        // Less than the replica has under way would not slow it down, but end it.
        appends: ArrayQueue::new(limits.appends_queue_max.max(STEPS_MAX)),
        reports: ArrayQueue::new(REPORTS_MAX),
        freezes: ArrayQueue::new(1),
        replica: Arc::default(),
        events,
        event_reads,
        post: None,
        wal: Sleeper::default(),
        stopping: AtomicBool::new(false),
        drained: AtomicBool::new(false),
        wal_done: AtomicBool::new(false),
    }
}
