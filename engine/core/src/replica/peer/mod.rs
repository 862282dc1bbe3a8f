//! What replicas say to each other, as values.
//!
//! - `wire`: the same as bytes, in a format of our own: raft's protobuf never meets a socket; `parts`: those bytes on
//!   their way out
//! - [`mod@acquaintance`]: which process a peer's messages may come from
//!
//! Every message says which process sent it. A receiver that does not know that process yet answers
//! [`Body::WhoAreYou`] and looks at nothing else, until a [`Body::Hello`] has passed `acquaintance`. So a transport may
//! lose, repeat, delay and reorder messages, and need not know what a connection is.

pub mod acquaintance;
mod parts;
mod wire;

use bytes::Bytes;
use raft::prelude::Message;
use sluice_protocol::ids::ClusterId;
use thiserror::Error;

use super::disk::SnapshotMeta;

pub(super) use self::wire::travels;
pub use self::wire::{MESSAGE_LEN_MAX, WireError};

/// Who a process is, to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; the same on all its nodes.
    pub cluster: ClusterId,
    /// The node; never 0.
    pub node: u64,
    /// Drawn when its data directory was created: tells a wiped node from itself.
    pub incarnation: u64,
    /// How often the data directory was opened, durable before the first message: tells an older copy from itself.
    pub boot: u64,
    /// Drawn when the process started: tells two processes on copies of one directory apart.
    pub nonce: u64,
}

/// A message and who it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The sender.
    pub from: Identity,
    /// The receiver's node id.
    pub to: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// This is me. Said at the start, and to whoever asks.
    Hello(Hello),
    /// The receiver is known as the process that `nonce` names.
    Welcome {
        /// The receiver's nonce.
        nonce: u64,
    },
    /// A message came from a process that is not known here (any more): it should say hello.
    WhoAreYou {
        /// The receiver's nonce.
        nonce: u64,
    },
    /// The process that `nonce` names must not take part.
    Refused {
        /// The receiver's nonce.
        nonce: u64,
        /// Why.
        refusal: Refusal,
        /// Of a removal: how many must say so before the receiver ends itself, since fewer might still need its vote.
        quorum: u64,
    },
    /// Raft's own. A snapshot's message carries neither its data nor its members: they came before, in chunks.
    Raft(Box<Message>),
    /// A part of a snapshot file.
    Chunk(Chunk),
    /// How much of a snapshot file the sender of this holds.
    ChunkAck {
        /// Which file.
        image: ImageId,
        /// Bytes from its start.
        have: u64,
    },
    /// A number of the sender's whole state.
    Digest {
        /// Behind this log index.
        index: u64,
        /// The number.
        digest: u64,
        /// Of the image that it was taken of.
        format: u8,
    },
    /// Reads wait at the sender for a round of the receiver's, who leads.
    RoundAsk {
        /// What the sender calls it. Its process never uses a name again.
        name: u64,
    },
    /// A round was started after the ask had arrived, and was confirmed.
    RoundDone {
        /// The receiver's nonce.
        nonce: u64,
        /// What the receiver calls it.
        name: u64,
        /// All that anybody could know of when the ask arrived is applied up to here.
        index: u64,
    },
}

/// What a process says of itself: what it found on its disk when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its term.
    pub term: u64,
    /// The last index of its log.
    pub last_index: u64,
}

/// Why a process must not take part. It ends itself when it hears so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It belongs to another cluster.
    #[error("the peer belongs to another cluster: check the addresses in the configuration")]
    OtherCluster,
    /// The id was a member's and was removed.
    #[error("this node id was removed from the cluster: join with an empty data directory under a new id")]
    Removed,
    /// Another data directory bears this id.
    #[error(
        "the cluster knows this node id with another data directory (a wiped disk?): join under a new id, and remove the old one"
    )]
    OtherIncarnation,
    /// The data directory was opened more often than this process knows: it is an older copy, or a second process runs
    /// on one.
    #[error(
        "a later process of this node has been seen: this data directory is an older copy, or another process uses a copy of it"
    )]
    Superseded,
    /// It has forgotten what it had acknowledged.
    #[error(
        "this node has lost what it had acknowledged: its disk was rolled back or damaged. Join with an empty data directory under a new id"
    )]
    LostState,
}

/// Names a snapshot file. Files of one index differ if a build changed how it writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageId {
    /// The last log index in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Bytes of the file.
    pub len: u64,
    /// A checksum of the whole file.
    pub digest: u32,
}

/// A part of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which file.
    pub image: ImageId,
    /// What it is a snapshot of.
    pub meta: SnapshotMeta,
    /// Where in the file.
    pub offset: u64,
    /// Its bytes, at least one.
    pub bytes: Bytes,
}
