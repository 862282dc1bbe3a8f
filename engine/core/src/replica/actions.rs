//! What a replica asks of its shell, and tells it.

use super::StopReason;
use super::digest::Divergence;
use super::disk::{Append, SnapshotMeta};
use super::membership::ChangeError;
use super::peer::{Chunk, Envelope};
use super::transfer::ChunkRead;
use crate::flight::Flight;
use crate::ledger::image::Image;
use crate::stream::StreamStep;

/// What the shell is to do. The shell empties it.
#[derive(Debug, Default)]
pub struct Actions {
    /// Durable steps, in order, each with the number to report.
    pub appends: Vec<(u64, Append)>,
    /// Flights with their answers.
    pub settled: Vec<Box<Flight>>,
    /// A snapshot to save aside.
    pub snapshot: Option<(SnapshotMeta, Image)>,
    /// Entries applied: those who watch the board should look.
    pub applied: usize,
    /// Of each entry proposed, its commands and its bytes.
    pub proposed: Vec<(usize, usize)>,
    /// What to send to peers, at once.
    pub messages: Vec<Envelope>,
    /// Parts of a snapshot file to be read for a peer.
    pub chunk_reads: Vec<ChunkRead>,
    /// Parts of a snapshot file that a peer sends, to be written aside.
    pub chunk_writes: Vec<Chunk>,
    /// What became of changes of membership: the ticket, and the log index as of which it holds.
    pub changed: Vec<(u64, Result<u64, ChangeError>)>,
    /// The state behind this index, of which a digest is wanted. No other is handed out before that is told.
    pub digest: Option<(u64, Image)>,
    /// Another replica is not the same as this one. It is told once for each index and node.
    pub divergence: Option<Divergence>,
    /// What to do with the files of events, in this order. A snapshot handed out with them contains them.
    pub stream: Vec<StreamStep>,
    /// Read rounds that began or ended.
    pub rounds: RoundNews,
    /// This process must not go on, and why. Nothing is done any more.
    pub stop: Option<StopReason>,
}

/// Read rounds that began or ended since this was emptied. They are numbered from 1 on, and end in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundNews {
    /// The first one that was started; 0 = none was.
    pub first_started: u64,
    /// The last one that was started; 0 = none was.
    pub last_started: u64,
    /// All up to this one are confirmed, except those abandoned before; 0 = nothing new.
    pub confirmed: u64,
    /// All up to this one that are not confirmed never will be: the leadership they were started in is over; 0 = nothing new.
    pub abandoned: u64,
}

impl RoundNews {
    /// A round was started.
    pub(super) fn start(&mut self, number: u64) {
        if self.first_started == 0 {
            self.first_started = number;
        }
        self.last_started = number;
    }
}
