//! Who votes and who learns, and how that changes: learner first, one change at a time, through the log.

use thiserror::Error;

use super::Replica;

/// A change of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new node learns the log. It does not vote.
    AddLearner {
        /// Its id, never used before.
        node: u64,
        /// Of its data directory.
        incarnation: u64,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// The learner.
        node: u64,
    },
    /// A node leaves for good.
    Remove {
        /// The voter or learner; not the leader.
        node: u64,
    },
    /// At once: one voter comes, another one goes, through a joint membership.
    Replace {
        /// The voter that goes.
        node: u64,
        /// The learner that takes its place.
        by: u64,
    },
}

/// Why a change of membership was refused, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Only the leader takes changes.
    #[error("this node does not lead; ask node {leader} (0: nobody is known to lead)")]
    NotLeader {
        /// Who does; 0 = not known.
        leader: u64,
    },
    /// Another change is under way.
    #[error("another change of membership is under way: wait for it")]
    UnderWay,
    /// The node is a member already.
    #[error("the node is a member already")]
    Known,
    /// The node is no member, or not what the change needs it to be.
    #[error("the node is not a member of the kind that this change needs")]
    Unknown,
    /// Ids of removed nodes are not used again.
    #[error("the node was removed; join with an empty data directory under a new id")]
    Removed,
    /// The learner does not have the log yet.
    #[error("the learner is {behind} entries behind: wait until it has caught up")]
    Behind {
        /// Entries it lacks.
        behind: u64,
    },
    /// The leader cannot be removed while it leads.
    #[error("the node leads: transfer the leadership first")]
    Leads,
    /// Nobody would be left to vote.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// Raft took nothing; it may be tried again.
    #[error("the change was dropped: try again")]
    Dropped,
    /// The leadership ended first: whether it happened is seen in the membership.
    #[error("the leadership ended before the change was decided: look at the membership")]
    Unresolved,
}

impl Replica {
    /// Changes the membership. What becomes of it comes in some later `Actions::changed`, with this ticket.
    pub fn change_members(&mut self, _ticket: u64, _change: Change) {}
}
