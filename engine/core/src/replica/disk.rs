//! What the replica asks of the disk, as values. The shell's log store carries it out; nothing here does.

use bytes::Bytes;

/// One entry of the raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index; dense.
    pub index: u64,
    /// The raft term it was proposed in.
    pub term: u64,
    /// What `data` is.
    pub kind: EntryKind,
    /// The proposer's bytes; empty for a new leader's no-op.
    pub data: Bytes,
}

/// What an entry's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A [`crate::ledger::command::Batch`], or nothing (a new leader's no-op).
    Normal = 0,
    /// A change of membership.
    Membership = 1,
}

/// Raft's hard state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HardState {
    /// The latest term seen.
    pub term: u64,
    /// The node voted for in it; 0 = none.
    pub vote: u64,
    /// The commit index, as far as it was known when something else was written.
    pub commit: u64,
}

/// One durable step of the log: all of it or nothing survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// To be stored if present.
    pub hard_state: Option<HardState>,
    /// Contiguous; whatever is stored at the first one's index and behind it is replaced.
    pub entries: Vec<LogEntry>,
    /// Entries up to this index are in a durable snapshot and may go, a few at a time. 0 = none.
    pub compact_to: u64,
    /// A snapshot of this index and term was received and is durable: everything in the log goes, and `entries` follow
    /// the snapshot. From this step on the node recovers from that snapshot.
    pub reset: Option<(u64, u64)>,
}

/// Who votes and who learns, as of an index. Members are node ids, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Members {
    /// Voters; in a joint membership, those of its new half.
    pub voters: Vec<u64>,
    /// Learners.
    pub learners: Vec<u64>,
    /// Voters of the old half of a joint membership; otherwise none.
    pub outgoing: Vec<u64>,
    /// Voters of the old half who will be learners once it is left.
    pub learners_next: Vec<u64>,
    /// Whether the leader leaves a joint membership by itself.
    pub auto_leave: bool,
    /// Each member's incarnation, by node. One that is missing was never told and is believed.
    pub incarnations: Vec<(u64, u64)>,
    /// Nodes that were members and never will be again.
    pub removed: Vec<u64>,
}

impl Members {
    /// Whether there is nobody: the node has just been made, and waits to be added to a cluster.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.learners.is_empty()
    }

    /// Whether `node` votes or learns.
    pub fn contains(&self, node: u64) -> bool {
        self.votes(node) || self.learners.contains(&node)
    }

    /// Whether `node` votes, in either half of a joint membership.
    pub fn votes(&self, node: u64) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether `node` is the only member.
    pub fn is_alone(&self, node: u64) -> bool {
        self.voters == [node] && self.learners.is_empty() && self.outgoing.is_empty()
    }

    /// A member's incarnation, if it was told.
    pub fn incarnation(&self, node: u64) -> Option<u64> {
        self.incarnations.iter().find(|(known, _)| *known == node).map(|(_, incarnation)| *incarnation)
    }
}

/// What a snapshot holds beside the ledger's image.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SnapshotMeta {
    /// The last log index the image contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The membership at that index.
    pub members: Members,
}
