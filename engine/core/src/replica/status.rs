//! Figures of a replica, for people.

use raft::StateRole;

use super::asks::AskCounts;
use super::digest::DigestCounts;
use super::transfer::TransferCounts;
use super::{Replica, TICK_MS};
use crate::ledger::{Ledger, Totals};

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It knows no cluster yet: it waits to be added to one.
    #[default]
    Outsider,
    /// It gets the log and does not vote.
    Learner,
    /// It votes.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads. Its gate may be shut yet.
    Leader,
    /// It was removed, and stays as long as others may need it.
    Removed,
}

/// Figures for people. The members are [`Replica::members`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// What this node is.
    pub role: Role,
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
    /// Bytes of it that are here.
    pub incoming_have: u64,
    /// All of its bytes.
    pub incoming_len: u64,
    /// Log bytes behind the last durable snapshot.
    pub log_bytes: u64,
    /// Ledger time, milliseconds since 1970.
    pub ledger_ms: u64,
    /// The sequence of the ledger's last event.
    pub sequence: u64,
    /// Flights that wait for an entry.
    pub waiting: usize,
    /// Entries proposed and not applied.
    pub pending: usize,
    /// Milliseconds until this node, which has just started, may vote; 0 = it may.
    pub quarantine_ms: u64,
    /// Whether a change of membership is under way, or a joint membership not left yet.
    pub changing: bool,
    /// Snapshots that have travelled since the start.
    pub transfers: TransferCounts,
    /// Digests since the start.
    pub digests: DigestCounts,
    /// Reads that others' rounds, and rounds that others' reads, have waited for since the start.
    pub asks: AskCounts,
}

impl Replica {
    /// Figures for people.
    pub fn status(&self) -> ReplicaStatus {
        let raft = &self.node.raft;
        let (incoming_have, incoming_len) = self.transfers.received();
        ReplicaStatus {
            role: self.role(),
            term: raft.term,
            leader: raft.leader_id,
            open: self.is_open(),
            last_index: raft.raft_log.last_index(),
            commit: raft.raft_log.committed,
            applied: self.ledger.index(),
            snapshot: self.snapshots[0],
            incoming: self.transfers.incoming(),
            incoming_have,
            incoming_len,
            log_bytes: self.log_bytes,
            sequence: self.ledger.sequence(),
            ledger_ms: self.ledger.now_ms(),
            waiting: self.waiting.len(),
            pending: self.pending.len(),
            quarantine_ms: self.quarantine as u64 * TICK_MS,
            changing: self.is_changing(),
            transfers: self.transfers.counts(),
            digests: self.digests.counts(),
            asks: self.asks.counts(),
        }
    }

    fn role(&self) -> Role {
        let (own, members) = (self.config.identity.node, &self.members);
        match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if members.is_empty() => Role::Outsider,
            StateRole::Follower if members.votes(own) => Role::Follower,
            StateRole::Follower if members.contains(own) => Role::Learner,
            StateRole::Follower => Role::Removed,
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
