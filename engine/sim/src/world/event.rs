//! What may happen in the world.

use bytes::Bytes;
use sluice_core::desk::ColdRead;
use sluice_core::ledger::Image;
use sluice_core::replica::ChunkRead;
use sluice_core::replica::peer::{Chunk, ImageId};
use sluice_protocol::Kind;
use sluice_protocol::seat::FetchItem;

use sluice_judges::history::{Ask, Reply};

/// A frame of a client, on its way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) correlation: u64,
    pub(crate) kind: Kind,
    pub(crate) asks: Vec<Ask>,
    pub(crate) budget_ms: u32,
    /// A fetch, in place of anything else.
    pub(crate) fetch: Option<FetchItem>,
}

/// Something for one process. It happens only in the life it was ordered in, and not while the process stands still.
#[derive(Debug)]
pub(crate) enum Input {
    /// The node's own clock has made a step.
    Tick,
    /// What has come in is worked off.
    Turn,
    /// Desks look at their deadlines, and at what is in doubt.
    Look,
    /// The log's step under way is synced, or failed.
    Written,
    /// The files of events have what was under way.
    EventsWritten,
    /// A desk's read of the files of events is done.
    ColdRead(usize, ColdRead),
    /// The snapshot under way is saved, or could not be.
    Saved,
    /// A part of a snapshot's file was read for a peer.
    ChunkRead(ChunkRead),
    /// A part of a peer's file was written.
    ChunkWritten(Box<Chunk>),
    /// A peer's file is whole, and was synced and loaded.
    ImageSynced(ImageId),
    /// A digest is made of an image.
    Digest(Box<Image>),
    /// The transport gave up.
    Unreachable(u64),
}

#[derive(Debug)]
pub(crate) enum Event {
    Process {
        host: usize,
        life: u64,
        input: Input,
    },
    /// A message of a peer arrives.
    Peer {
        host: usize,
        bytes: Bytes,
    },
    /// A client's frame arrives.
    Request {
        host: usize,
        request: Box<Request>,
    },
    /// A frame's replies arrive.
    Replies {
        correlation: u64,
        replies: Vec<Reply>,
    },
    /// A client stops waiting for a frame.
    GiveUp {
        correlation: u64,
    },
    /// A job goes on.
    Job(usize),
    /// A consumer goes on.
    Consumer(usize),
    /// A step of the nemesis begins.
    Fault(usize),
    /// It ends.
    FaultOver(usize),
    /// A part of a step that goes on by itself: a flapping partition, a rolling restart.
    FaultGoesOn {
        step: usize,
        round: u64,
    },
    /// A process is started.
    Start {
        host: usize,
    },
    /// The operator looks at the membership.
    Operator,
}
