//! How far the other members are, for people. Deliberately not here: what is done about it, which is raft's.

use raft::{Progress, ProgressState, StateRole};

use super::disk::Members;
use super::{ELECTION_TICKS, Replica, TICK_MS};

/// A member's part in the membership as of what is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// It votes.
    Voter,
    /// It votes in the new half of a joint membership only: it comes.
    Incoming,
    /// It votes in the old half only: it goes.
    Outgoing,
    /// It gets the log and does not vote.
    Learner,
}

/// How a leader sends the log to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// One message at a time: where the logs part is not known, or the last message was not answered.
    Probe,
    /// As fast as it goes.
    Replicate,
    /// It needs a snapshot first.
    Snapshot,
}

/// How far a member is, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// All up to this index is on its disk.
    pub matched: u64,
    /// The next index that it is sent.
    pub next: u64,
    /// How it is sent the log.
    pub state: PeerState,
    /// Entries that were sent and are not acknowledged.
    pub entries_in_flight: u64,
    /// Messages with entries that were sent and are not answered.
    pub messages_in_flight: usize,
    /// Of a snapshot that is being sent, the bytes that it holds, and all of them, which is 0 until they are known.
    pub sending: Option<(u64, u64)>,
}

/// Another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its node id.
    pub node: u64,
    /// Its part in the membership.
    pub seat: Seat,
    /// Milliseconds since this node heard it, in ticks; `None` if it never did.
    pub silent_ms: Option<u64>,
    /// How far it is; only a leader knows.
    pub progress: Option<PeerProgress>,
}

impl PeerStatus {
    /// Whether it was heard within the time after which a follower misses its leader. Followers hear nobody but their leader.
    pub fn is_heard(&self) -> bool {
        self.silent_ms.is_some_and(|ms| ms <= ELECTION_TICKS as u64 * TICK_MS)
    }
}

impl Members {
    /// What a member's part is.
    pub fn seat(&self, node: u64) -> Seat {
        let is_joint = !self.outgoing.is_empty();
        match (self.voters.contains(&node), self.outgoing.contains(&node)) {
            (true, false) if is_joint => Seat::Incoming,
            (true, _) => Seat::Voter,
            (false, true) => Seat::Outgoing,
            (false, false) => Seat::Learner,
        }
    }
}

fn progress(known: &Progress, sending: Option<(u64, u64)>) -> PeerProgress {
    let state = match known.state {
        ProgressState::Probe => PeerState::Probe,
        ProgressState::Replicate => PeerState::Replicate,
        ProgressState::Snapshot => PeerState::Snapshot,
    };
    let is_sent_ahead = state == PeerState::Replicate;
    PeerProgress {
        matched: known.matched,
        next: known.next_idx,
        state,
        entries_in_flight: if is_sent_ahead { (known.next_idx - 1).saturating_sub(known.matched) } else { 0 },
        messages_in_flight: known.ins.count(),
        sending,
    }
}

impl Replica {
    /// The other members. Costs a little for each of them.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let own = self.config.identity.node;
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        let others = self.members.nodes().filter(|node| *node != own);
        others
            .map(|node| PeerStatus {
                node,
                seat: self.members.seat(node),
                silent_ms: self.acquaintances.silent_ticks(node).map(|ticks| ticks * TICK_MS),
                progress: raft
                    .prs()
                    .get(node)
                    .filter(|_| leads)
                    .map(|known| progress(known, self.transfers.sent(node))),
            })
            .collect()
    }
}
