//! Snapshots on their way to a peer that has fallen behind, and from one.
//!
//! When raft wants to send a snapshot, its message waits here while the newest snapshot's file travels in chunks: one
//! under way at a time, each answered with how much the peer holds, so that a lost one is sent again and a peer that
//! was restarted goes on where it was. When the peer holds all of it, durable and checked, raft's message follows and
//! raft is told that the snapshot arrived. Whatever ends a transfer otherwise is told to raft as a failure.
//!
//! Deliberately not here: files. The shell reads and writes them.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::prelude::Message;
use raft::{SnapshotStatus, StateRole};

use super::disk::SnapshotMeta;
use super::peer::{Body, Chunk, ImageId};
use super::{Replica, ticks};
use crate::ledger::Ledger;

/// Bytes of a snapshot file in one message.
pub const CHUNK_LEN: usize = 64 * 1024;

/// Ticks without an answer after which a chunk is sent again.
const RESEND_TICKS: u32 = ticks(500);
/// Ticks without an answer after which a transfer has failed.
const FAILED_TICKS: u32 = ticks(4_000);

/// A part of a snapshot file that a peer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRead {
    /// Who needs it.
    pub to: u64,
    /// The snapshot's index.
    pub index: u64,
    /// Where in its file; at most [`CHUNK_LEN`] bytes from there.
    pub offset: u64,
}

/// A snapshot on its way to a peer.
#[derive(Debug)]
struct Sending {
    /// Raft's message, for the end.
    message: Message,
    /// Known once the first part was read.
    image: Option<ImageId>,
    /// Where the part under way begins.
    offset: u64,
    silent_ticks: u32,
}

/// A snapshot on its way from a peer.
#[derive(Debug)]
struct Receiving {
    from: u64,
    image: ImageId,
    /// Bytes from its start that are written aside.
    have: u64,
    /// Whether the part behind them was handed out to be written and has not been reported: the last one is only when
    /// the whole file is loaded, and that takes as long as it takes.
    is_writing: bool,
    /// Once it is whole.
    loaded: Option<(SnapshotMeta, Ledger)>,
}

/// How many snapshots have travelled since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// A peer has said that it holds all of it.
    pub sent: u64,
    /// A peer did not answer, the file was gone, or the leadership was over first.
    pub failed: u64,
    /// Came from a peer, whole.
    pub received: u64,
}

/// Both.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    sending: BTreeMap<u64, Sending>,
    receiving: Option<Receiving>,
    counts: TransferCounts,
}

impl Transfers {
    /// Nothing is sent any more: this node does not lead.
    pub(super) fn forget_sending(&mut self) {
        self.counts.failed += self.sending.len() as u64;
        self.sending.clear();
    }

    /// Of the snapshot that is sent to a peer, the bytes that it holds and all of them; 0 as long as they are not known.
    pub(super) fn sent(&self, to: u64) -> Option<(u64, u64)> {
        let sending = self.sending.get(&to)?;
        Some((sending.offset, sending.image.map_or(0, |image| image.len)))
    }

    /// Of the snapshot that comes in, the bytes that are here and all of them; 0 and 0 if none does.
    pub(super) fn received(&self) -> (u64, u64) {
        self.receiving.as_ref().map_or((0, 0), |known| (known.have, known.image.len))
    }

    pub(super) fn counts(&self) -> TransferCounts {
        self.counts
    }

    /// The index of the snapshot that comes in, or has come; 0 = none.
    pub(super) fn incoming(&self) -> u64 {
        self.receiving.as_ref().map_or(0, |known| known.image.index)
    }

    /// The snapshot of this index and term, if it was received whole.
    pub(super) fn loaded(&self, index: u64, term: u64) -> Option<&SnapshotMeta> {
        let (meta, _) = self.receiving.as_ref()?.loaded.as_ref()?;
        (meta.index == index && meta.term == term).then_some(meta)
    }

    /// Takes what was received.
    pub(super) fn take_loaded(&mut self) -> Option<(SnapshotMeta, Ledger)> {
        self.receiving.take()?.loaded
    }
}

impl Replica {
    /// What was asked for in [`super::Actions::chunk_reads`], from [`ChunkRead::offset`] on; `None` if that snapshot is
    /// not there any more or cannot be read.
    pub fn chunk_read(&mut self, wanted: ChunkRead, read: Option<(ImageId, SnapshotMeta, Bytes)>) {
        let Some(sending) = self.transfers.sending.get_mut(&wanted.to) else { return };
        let index = sending.message.get_snapshot().get_metadata().index;
        if (wanted.index, wanted.offset) != (index, sending.offset) {
            return;
        }
        match read {
            Some((image, meta, bytes)) => {
                sending.image = Some(image);
                let chunk = Chunk { image, meta, offset: wanted.offset, bytes };
                self.say(wanted.to, Body::Chunk(chunk));
            }
            None => self.end_sending(wanted.to, SnapshotStatus::Failure),
        }
    }

    /// Of this file, `have` bytes from its start have been written aside. They need not be durable.
    pub fn chunk_stored(&mut self, image: ImageId, have: u64) {
        if let Some(receiving) = self.transfers.receiving.as_mut().filter(|known| known.image == image) {
            receiving.is_writing = false;
            // Once it is whole it stays so, whatever is said of a part that came twice.
            if receiving.loaded.is_none() {
                receiving.have = have;
            }
            let (from, have) = (receiving.from, receiving.have);
            self.say(from, Body::ChunkAck { image, have });
        }
    }

    /// This file is whole, checked, loaded and durable, beside the node's own snapshots: the node recovers from it once
    /// an [`super::disk::Append`] resets the log to its index.
    pub fn image_received(&mut self, image: ImageId, meta: SnapshotMeta, ledger: Ledger) {
        if let Some(receiving) = self.transfers.receiving.as_mut().filter(|known| known.image == image) {
            (receiving.have, receiving.is_writing) = (image.len, false);
            let was_loaded = receiving.loaded.replace((meta, ledger)).is_some();
            self.transfers.counts.received += u64::from(!was_loaded);
            let from = receiving.from;
            self.say(from, Body::ChunkAck { image, have: image.len });
        }
    }

    /// Begins to send what raft's message names.
    pub(super) fn begin_sending(&mut self, mut message: Message) {
        // The members travel with the chunks.
        message.mut_snapshot().mut_metadata().clear_conf_state();
        let (to, index) = (message.to, message.get_snapshot().get_metadata().index);
        self.transfers.sending.insert(to, Sending { message, image: None, offset: 0, silent_ticks: 0 });
        self.outbox.reads.push(ChunkRead { to, index, offset: 0 });
    }

    /// A peer says how much it holds.
    pub(super) fn chunk_acknowledged(&mut self, from: u64, image: ImageId, have: u64) {
        let Some(sending) = self.transfers.sending.get_mut(&from) else { return };
        if sending.image != Some(image) || have > image.len {
            return;
        }
        if have == image.len {
            return self.end_sending(from, SnapshotStatus::Finish);
        }
        // The same part is sent again only after a while, so that an answer that comes twice is not sent twice as much.
        // Whoever answers is there, though.
        sending.silent_ticks = 0;
        if have != sending.offset {
            sending.offset = have;
            self.outbox.reads.push(ChunkRead { to: from, index: image.index, offset: have });
        }
    }

    fn end_sending(&mut self, to: u64, status: SnapshotStatus) {
        let Some(sending) = self.transfers.sending.remove(&to) else { return };
        let counts = &mut self.transfers.counts;
        match status {
            SnapshotStatus::Finish => counts.sent += 1,
            SnapshotStatus::Failure => counts.failed += 1,
        }
        if self.node.raft.state != StateRole::Leader || self.node.raft.term != sending.message.term {
            return;
        }
        if status == SnapshotStatus::Finish {
            self.say(to, Body::Raft(Box::new(sending.message)));
        }
        self.node.report_snapshot(to, status);
    }

    /// One tick for what is being sent: again, or given up. What came in and was overtaken by the log goes: it may be as
    /// big as the ledger.
    pub(super) fn tick_transfers(&mut self) {
        let applied = self.ledger.index();
        self.transfers.receiving.take_if(|known| known.image.index <= applied);
        let mut failed = Vec::new();
        for (to, sending) in &mut self.transfers.sending {
            sending.silent_ticks += 1;
            if sending.silent_ticks >= FAILED_TICKS {
                failed.push(*to);
            } else if sending.silent_ticks.is_multiple_of(RESEND_TICKS) {
                let index = sending.message.get_snapshot().get_metadata().index;
                self.outbox.reads.push(ChunkRead { to: *to, index, offset: sending.offset });
            }
        }
        for to in failed {
            self.end_sending(to, SnapshotStatus::Failure);
        }
    }

    /// A part of a snapshot's file came from a peer.
    pub(super) fn chunk_came(&mut self, from: u64, chunk: Chunk) {
        let image = chunk.image;
        if image.index <= self.ledger.index() {
            // What is in it is here: raft's message will tell the leader so.
            return self.say(from, Body::ChunkAck { image, have: image.len });
        }
        // What raft has accepted is still needed, here until it is in use and as a file until the log begins with it: no
        // other may take its place. Who sends this one sends it again.
        if self.node.snap().is_some() || self.installing.is_some() {
            return;
        }
        let known = self.transfers.receiving.as_mut().filter(|known| known.image == image);
        let Some(receiving) = known else {
            if chunk.offset == 0 {
                self.transfers.receiving =
                    Some(Receiving { from, image, have: 0, is_writing: true, loaded: None });
                self.outbox.writes.push(chunk);
            } else {
                self.say(from, Body::ChunkAck { image, have: 0 });
            }
            return;
        };
        receiving.from = from;
        if receiving.loaded.is_none() && chunk.offset == receiving.have && !receiving.is_writing {
            receiving.is_writing = true;
            self.outbox.writes.push(chunk);
        } else {
            let have = receiving.have;
            self.say(from, Body::ChunkAck { image, have });
        }
    }
}
