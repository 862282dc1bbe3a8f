//! Who votes and who learns, and how that changes: learner first, one change at a time, through the log.

use protobuf::Message as _;
use raft::StateRole;
use raft::prelude::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType};
use thiserror::Error;

#[cfg(doc)]
use super::Actions;
use super::disk::Members;
use super::{ELECTION_TICKS, Lead, Replica};

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
    /// The node has not been heard from lately, or never: as a voter it would be one that is down, and cannot lead.
    #[error("the node does not answer: is it running, and do the nodes reach each other's ports for peers?")]
    Silent,
    /// Of those who would be left to vote, half or more have not been heard from lately: nothing could be decided any more.
    #[error(
        "too few of the voters that would be left answer: mend those first, or remove one that does not answer"
    )]
    NoQuorum,
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

/// A learner so many entries behind the leader, at most, may become a voter: it would not hold up commits.
const BEHIND_MAX: u64 = 256;

/// A change that was proposed here and has not been decided.
#[derive(Debug)]
pub(super) struct Proposed {
    index: u64,
    term: u64,
    ticket: u64,
}

impl Members {
    /// As raft wants it.
    pub(super) fn to_conf_state(&self) -> ConfState {
        let mut conf = ConfState::default();
        conf.set_voters(self.voters.clone());
        conf.set_learners(self.learners.clone());
        conf.set_voters_outgoing(self.outgoing.clone());
        conf.set_learners_next(self.learners_next.clone());
        conf.set_auto_leave(self.auto_leave);
        conf
    }

    /// Takes over what raft made of a change.
    fn follow(&mut self, conf: &ConfState) {
        let before = std::mem::take(self);
        let sorted = |nodes: &[u64]| {
            let mut nodes = nodes.to_vec();
            nodes.sort_unstable();
            nodes
        };
        self.voters = sorted(&conf.voters);
        self.learners = sorted(&conf.learners);
        self.outgoing = sorted(&conf.voters_outgoing);
        self.learners_next = sorted(&conf.learners_next);
        self.auto_leave = conf.auto_leave;
        let gone = before.nodes().filter(|node| !self.contains(*node));
        self.removed = before.removed.iter().copied().chain(gone).collect();
        self.removed.sort_unstable();
        self.incarnations = before.incarnations;
        let removed = &self.removed;
        self.incarnations.retain(|(node, _)| !removed.contains(node));
    }

    /// Every member once.
    pub fn nodes(&self) -> impl Iterator<Item = u64> + '_ {
        let more = self.outgoing.iter().filter(|node| !self.voters.contains(node));
        let learners = self.learners.iter().chain(&self.learners_next);
        let learners = learners.filter(|node| !self.voters.contains(node) && !self.outgoing.contains(node));
        self.voters.iter().chain(more).chain(learners).copied()
    }
}

impl Change {
    fn to_raft(self) -> ConfChangeV2 {
        let single = |kind, node| {
            let mut change = ConfChangeSingle::default();
            change.set_change_type(kind);
            change.node_id = node;
            change
        };
        let (changes, context) = match self {
            Self::AddLearner { node, incarnation } => {
                (vec![single(ConfChangeType::AddLearnerNode, node)], incarnation.to_le_bytes().to_vec())
            }
            Self::Promote { node } => (vec![single(ConfChangeType::AddNode, node)], Vec::new()),
            Self::Remove { node } => (vec![single(ConfChangeType::RemoveNode, node)], Vec::new()),
            Self::Replace { node, by } => (
                vec![single(ConfChangeType::AddNode, by), single(ConfChangeType::RemoveNode, node)],
                Vec::new(),
            ),
        };
        let mut change = ConfChangeV2::default();
        change.set_changes(changes.into());
        change.context = context.into();
        change
    }
}

impl Replica {
    /// Changes the membership. What becomes of it comes in some later [`Actions::changed`], with this ticket.
    pub fn change_members(&mut self, ticket: u64, change: Change) {
        let proposed = self.check_change(change).and_then(|()| self.propose_change(change));
        match proposed {
            Ok((index, term)) => self.changes.push(Proposed { index, term, ticket }),
            Err(error) => self.decided.push((ticket, Err(error))),
        }
    }

    /// Hands the leadership to a voter. Whether raft has begun to; it gives up after an election timeout.
    ///
    /// # Errors
    /// [`ChangeError::NotLeader`]; [`ChangeError::Unknown`] if `to` is no other voter; [`ChangeError::Silent`] if it does not
    /// answer: nothing is proposed while raft waits for it.
    pub fn transfer_leadership(&mut self, to: u64) -> Result<(), ChangeError> {
        self.check_leads()?;
        if to == self.config.identity.node || !self.members.voters.contains(&to) {
            return Err(ChangeError::Unknown);
        }
        if !self.is_heard(to) {
            return Err(ChangeError::Silent);
        }
        self.node.transfer_leader(to);
        Ok(())
    }

    /// The membership as of what is applied here.
    pub fn members(&self) -> &Members {
        &self.members
    }

    fn check_leads(&self) -> Result<(), ChangeError> {
        match self.lead {
            Lead::Open(_) | Lead::CatchingUp => Ok(()),
            _ => Err(ChangeError::NotLeader { leader: self.node.raft.leader_id }),
        }
    }

    fn check_change(&self, change: Change) -> Result<(), ChangeError> {
        self.check_leads()?;
        let members = &self.members;
        if self.is_changing() {
            return Err(ChangeError::UnderWay);
        }
        match change {
            Change::AddLearner { node, .. } if members.contains(node) => Err(ChangeError::Known),
            Change::AddLearner { node, .. } if members.removed.contains(&node) => Err(ChangeError::Removed),
            Change::AddLearner { node: 0, .. } => Err(ChangeError::Unknown),
            Change::AddLearner { .. } => Ok(()),
            Change::Promote { node } => self.check_learner(node),
            Change::Remove { node } | Change::Replace { node, .. } if node == self.config.identity.node => {
                Err(ChangeError::Leads)
            }
            Change::Remove { node } if !members.contains(node) => Err(ChangeError::Unknown),
            Change::Remove { node } if members.voters == [node] => Err(ChangeError::LastVoter),
            Change::Remove { node } if members.voters.contains(&node) => self.check_left(node, None),
            Change::Remove { .. } => Ok(()),
            Change::Replace { node, by } if members.voters.contains(&node) => {
                self.check_learner(by).and_then(|()| self.check_left(node, Some(by)))
            }
            Change::Replace { .. } => Err(ChangeError::Unknown),
        }
    }

    /// Whether those who vote when a voter has gone, and perhaps another has come, are enough to decide anything.
    fn check_left(&self, gone: u64, new: Option<u64>) -> Result<(), ChangeError> {
        let left = self.members.voters.iter().copied().filter(|node| *node != gone).chain(new);
        let (mut voters, mut heard) = (0, 0);
        for node in left {
            voters += 1;
            heard += usize::from(node == self.config.identity.node || self.is_heard(node));
        }
        if heard > voters / 2 { Ok(()) } else { Err(ChangeError::NoQuorum) }
    }

    /// Whether a node was heard within the time after which a follower misses its leader.
    pub(super) fn is_heard(&self, node: u64) -> bool {
        self.acquaintances.silent_ticks(node).is_some_and(|ticks| ticks <= ELECTION_TICKS as u64)
    }

    /// Whether a change is under way, or a joint membership not left yet.
    pub(super) fn is_changing(&self) -> bool {
        let raft = &self.node.raft;
        raft.pending_conf_index > raft.raft_log.applied || !self.members.outgoing.is_empty()
    }

    /// Whether a node learns, is there, and has caught up.
    fn check_learner(&self, node: u64) -> Result<(), ChangeError> {
        if !self.members.learners.contains(&node) {
            return Err(ChangeError::Unknown);
        }
        if !self.is_heard(node) {
            return Err(ChangeError::Silent);
        }
        let matched = self.node.raft.prs().get(node).map_or(0, |progress| progress.matched);
        match self.node.raft.raft_log.committed.saturating_sub(matched) {
            behind if behind > BEHIND_MAX => Err(ChangeError::Behind { behind }),
            _ => Ok(()),
        }
    }

    fn propose_change(&mut self, change: Change) -> Result<(u64, u64), ChangeError> {
        let change = change.to_raft();
        if self.node.propose_conf_change(Vec::new(), change).is_err() {
            return Err(ChangeError::Dropped);
        }
        let raft = &self.node.raft;
        // A change that raft refuses becomes an empty entry, without a word.
        let last = raft.raft_log.unstable_entries().last();
        if last.is_none_or(|entry| entry.get_entry_type() == EntryType::EntryNormal) {
            return Err(ChangeError::UnderWay);
        }
        Ok((raft.raft_log.last_index(), raft.term))
    }

    /// A membership entry was committed: every node makes the same of it.
    pub(super) fn apply_change(&mut self, entry: &Entry) {
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.data).expect("raft looked at it when it was proposed");
        let added = |single: &ConfChangeSingle| match single.get_change_type() {
            ConfChangeType::RemoveNode => None,
            _ => Some(single.node_id),
        };
        let added: Vec<u64> = change.changes.iter().filter_map(added).collect();
        if added.iter().any(|node| self.members.removed.contains(node)) {
            return;
        }
        let was_member = self.members.contains(self.config.identity.node);
        let conf = self.node.apply_conf_change(&change).expect("raft looked at it when it was proposed");
        self.removals.settle(&self.members);
        self.members.follow(&conf);
        if let Ok(incarnation) = <[u8; 8]>::try_from(&change.context[..]) {
            let new = added.iter().map(|node| (*node, u64::from_le_bytes(incarnation)));
            self.members.incarnations.extend(new);
            self.members.incarnations.sort_unstable();
        }
        self.publisher.board().rounds.set_needless(self.members.is_alone(self.config.identity.node));
        // It goes on voting and answering until enough others know of its removal: they may not know yet that they do not
        // need it.
        if was_member
            && !self.members.contains(self.config.identity.node)
            && self.node.raft.state == StateRole::Leader
        {
            // Raft goes on leading and has no place for its own progress any more.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
    }

    /// Something was applied at `index`: tells what became of changes that were proposed here.
    pub(super) fn decide_changes(&mut self, index: u64, term: u64) {
        let is_joint = !self.members.outgoing.is_empty();
        let decided = &mut self.decided;
        self.changes.retain(|change| {
            if change.index > index {
                return true;
            }
            if change.index == index && change.term != term {
                decided.push((change.ticket, Err(ChangeError::Dropped)));
                return false;
            }
            // A change through a joint membership is made when that is left.
            if !is_joint {
                decided.push((change.ticket, Ok(index)));
            }
            is_joint
        });
    }

    /// The leadership ended: nobody here will learn what becomes of its changes.
    pub(super) fn abandon_changes(&mut self) {
        let tickets = self.changes.drain(..).map(|change| (change.ticket, Err(ChangeError::Unresolved)));
        self.decided.extend(tickets);
    }

    /// Leaves a joint membership that an earlier leader entered: raft lets only the leader that entered it do so.
    pub(super) fn leave_joint_membership(&mut self) {
        let raft = &self.node.raft;
        let is_idle = raft.pending_conf_index <= raft.raft_log.applied;
        if raft.state == StateRole::Leader && is_idle && !self.members.outgoing.is_empty() {
            // Refused or dropped, it is tried again at the next tick.
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
        }
    }
}
