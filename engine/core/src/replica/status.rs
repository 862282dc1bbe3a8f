//! Figures of a replica, for people.

use super::Replica;
use crate::ledger::{Ledger, Totals};

/// Figures for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Raft's term.
    pub term: u64,
    /// Who leads; 0 = not known.
    pub leader: u64,
    /// Whether this node leads and its gate is open.
    pub open: bool,
    /// The last log index.
    pub last_index: u64,
    /// The commit index.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The last index in a durable snapshot.
    pub snapshot: u64,
    /// The index of a snapshot that comes in from a peer, or has come and is not in use; 0 = none.
    pub incoming: u64,
    /// Log bytes behind that snapshot.
    pub log_bytes: u64,
    /// Ledger time, milliseconds since 1970.
    pub ledger_ms: u64,
    /// Flights that wait for an entry.
    pub waiting: usize,
    /// Entries proposed and not applied.
    pub pending: usize,
}

impl Replica {
    /// Figures for people.
    pub fn status(&self) -> ReplicaStatus {
        let raft = &self.node.raft;
        ReplicaStatus {
            term: raft.term,
            leader: raft.leader_id,
            open: self.is_open(),
            last_index: raft.raft_log.last_index(),
            commit: raft.raft_log.committed,
            applied: self.ledger.index(),
            snapshot: self.snapshots[0],
            incoming: self.transfers.incoming(),
            log_bytes: self.log_bytes,
            ledger_ms: self.ledger.now_ms(),
            waiting: self.waiting.len(),
            pending: self.pending.len(),
        }
    }

    /// Sums over all products.
    pub fn totals(&self) -> Totals {
        self.ledger.totals()
    }

    /// The ledger, to look at.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
