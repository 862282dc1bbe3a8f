//! What is done with what peers say.

use thiserror::Error;

use super::Replica;
use super::peer::{Envelope, Refusal};

/// Why a process must end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StopReason {
    /// A peer says that it must not take part.
    #[error("node {by} refuses this node: {refusal}")]
    Refused {
        /// Who says so.
        by: u64,
        /// Why.
        refusal: Refusal,
    },
    /// Its removal was applied here.
    #[error("this node was removed from the cluster")]
    Removed,
    /// A write or a sync of the log failed: what is on the disk is not known.
    #[error("the log could not be written")]
    DiskFailed,
}

impl Replica {
    /// Takes a message from a peer.
    pub fn receive(&mut self, _envelope: Envelope) {}

    /// The transport knows that messages to `node` do not arrive.
    pub fn unreachable(&mut self, _node: u64) {}

    /// A write or a sync of the log failed. Nothing is ever said again.
    pub fn disk_failed(&mut self) {}
}
