//! Snapshots on their way to a peer that has fallen behind, and from one.

use bytes::Bytes;

use super::Replica;
use super::disk::SnapshotMeta;
use super::peer::ImageId;
use crate::ledger::Ledger;

/// Bytes of a snapshot file in one message.
pub const CHUNK_LEN: usize = 64 * 1024;

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

impl Replica {
    /// What was asked for in `Actions::chunk_reads`; `None` if that snapshot is not there any more or cannot be read.
    pub fn chunk_read(&mut self, _wanted: ChunkRead, _read: Option<(ImageId, SnapshotMeta, Bytes)>) {}

    /// Of this file, `have` bytes from its start have been written aside. They need not be durable.
    pub fn chunk_stored(&mut self, _image: ImageId, _have: u64) {}

    /// This file is whole, checked, loaded and durable, beside the node's own snapshots: the node recovers from it once
    /// an `Append` resets the log to its index.
    pub fn image_received(&mut self, _image: ImageId, _meta: SnapshotMeta, _ledger: Ledger) {}
}
