//! What the threads of a node share: the queues between them, and how they wake each other.
//!
//! Every queue is bounded. Flights come back to the net thread they left, whose desk never has more away than
//! its return queue holds. Deliberately not here: the threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use sluice_core::board::Board;
use sluice_core::desk::Cold;
use sluice_core::flight::Flight;
use sluice_core::ledger::{Image, Ledger};
use sluice_core::replica::disk::{Append, SnapshotMeta};
use sluice_core::replica::peer::ImageId;
use sluice_core::replica::{ChunkRead, StopReason};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;
use crate::peers::Post;
use crate::stream::reads::Reads;
use crate::stream::thread::Events;

/// A thread that sleeps while it has nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Sleeper(OnceLock<Thread>);

impl Sleeper {
    /// The calling thread is the one to wake.
    pub(crate) fn is_me(&self) {
        self.0.set(std::thread::current()).expect("one thread registers, once");
    }

    /// Wakes it; if it is awake, its next sleep ends at once.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// One net thread, as the others see it.
#[derive(Debug)]
pub(crate) struct NetHandle {
    /// Flights with their answers.
    pub(crate) returns: ArrayQueue<Box<Flight>>,
    /// Events that were read from files.
    pub(crate) cold: ArrayQueue<Cold>,
    /// Something is in `returns` or in `cold`, or an apply matters to this thread.
    pub(crate) wake: Notify,
    /// Something is in doubt there: applies matter.
    pub(crate) watching: AtomicBool,
}

/// The exit code of a process that gave up; the same as of any internal failure.
const GAVE_UP: i32 = 70;

/// The exit code of a process whose data directory is of no use to its cluster; the same as of a start that is refused.
const REFUSED: i32 = 4;

/// What a thread tells the replica thread.
#[derive(Debug)]
pub(crate) enum Report {
    /// The durable step of this number is on disk.
    Persisted(u64),
    /// The snapshot is durable, or not.
    Snapshot(bool),
    /// The digest of the state behind this index.
    Digest(u64, u64),
    /// A part of a snapshot file was dealt with.
    Part(Part),
}

/// What became of a part of a snapshot file.
#[derive(Debug)]
pub(crate) enum Part {
    /// It was read for a peer, if it could be.
    Read(ChunkRead, Option<Box<(ImageId, SnapshotMeta, Bytes)>>),
    /// So much of a peer's file is there.
    Stored(ImageId, u64),
    /// A peer's file is whole, durable and loaded.
    Received(ImageId, Box<(SnapshotMeta, Ledger)>),
    /// It could not be written.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    /// Net threads → replica.
    pub(crate) flights: ArrayQueue<Box<Flight>>,
    /// Replica → net threads.
    pub(crate) nets: Vec<NetHandle>,
    /// Replica → WAL.
    pub(crate) appends: ArrayQueue<(u64, Append)>,
    /// WAL and snapshot threads → replica.
    pub(crate) reports: ArrayQueue<Report>,
    /// Anybody → replica: who waits for the state as it is. One at a time; who asks last is served.
    pub(crate) freezes: ArrayQueue<SyncSender<Image>>,
    pub(crate) replica: Arc<Sleeper>,
    /// Replica and snapshot thread → the thread that writes events.
    pub(crate) events: Events,
    /// Anybody → the thread that reads events from files.
    pub(crate) event_reads: Reads,
    /// What comes from peers and operators, if there can be any.
    pub(crate) post: Option<Arc<Post>>,
    pub(crate) wal: Sleeper,
    /// The node is to go away.
    pub(crate) stopping: AtomicBool,
    /// The replica has answered everything; net threads write out what they have and end.
    pub(crate) drained: AtomicBool,
    /// The replica asks for nothing more; the WAL thread closes the log and ends.
    pub(crate) wal_done: AtomicBool,
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tells the replica thread.
    pub(crate) fn report(&self, report: Report) {
        self.reports.push(report).expect("there are fewer steps and parts under way than the queue holds");
        self.replica.wake();
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }
}

/// Ends the process because it can no longer trust its own disk or state. Nothing that was not durable has been
/// answered, so a restart continues from the truth.
pub(crate) fn give_up(shared: &Shared, what: &str) -> ! {
    shared.health.poison(what.to_owned());
    tracing::error!("{what}; this process stops serving now and must be restarted");
    eprintln!("sluice: {what}; this process stops serving now and must be restarted");
    std::process::exit(GAVE_UP)
}

/// Ends the process because the replica must not go on. Unless its disk failed, a restart on the same directory would end
/// in the same way: the reason says what to do instead.
pub(crate) fn stop_for(shared: &Shared, reason: StopReason) -> ! {
    if reason == StopReason::DiskFailed {
        give_up(shared, &reason.to_string());
    }
    shared.health.poison(reason.to_string());
    tracing::error!("{reason}; this process stops serving now");
    eprintln!("sluice: {reason}; this process stops serving now");
    std::process::exit(REFUSED)
}
