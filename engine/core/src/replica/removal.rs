//! When whoever was removed may go.
//!
//! A node that was removed goes on voting and answering. Others may have its removal in their logs and not know that it was
//! committed, and would need its vote to learn so; if it went, nobody could lead any more. It is refused only by a peer whose
//! disk knows of the removal, and ends itself when enough have refused it, or when one has and for long nobody has asked it
//! for anything: those whom it knows may be gone themselves. Started again, it would serve whoever needs it after all.

use std::collections::{BTreeSet, VecDeque};

use raft::StateRole;

use super::disk::{Append, Members};
use super::{Actions, Replica, Step, StopReason, ticks};

/// Ticks without a word from a leader after which a node says hello to everybody again.
const SILENT_TICKS: usize = ticks(3_000) as usize;

/// Ticks without a message of raft's after which a node that one peer has refused ends itself.
const UNHEARD_TICKS: u32 = ticks(60_000);

/// What this node knows of removals.
#[derive(Debug)]
pub(super) struct Removals {
    /// Who was removed, as far as this node's disk knows.
    known: Vec<u64>,
    /// The same as of a durable step that is under way.
    under_way: VecDeque<(u64, Vec<u64>)>,
    /// Removals before the last change of membership. That one was proposed when its leader had applied them, so whoever
    /// stored it knows of them, and that is a majority.
    settled: Vec<u64>,
    /// A change of membership was applied, and the disk does not know that it was committed.
    is_new: bool,
    /// Who has told this node that it was removed.
    refusers: BTreeSet<u64>,
    /// Ticks since a peer needed anything of raft's here.
    unheard_ticks: u32,
}

impl Removals {
    /// As recovered.
    pub(super) fn new(members: &Members) -> Self {
        Self {
            known: members.removed.clone(),
            under_way: VecDeque::new(),
            settled: Vec::new(),
            is_new: false,
            refusers: BTreeSet::new(),
            unheard_ticks: 0,
        }
    }

    /// Who may be refused for having been removed.
    pub(super) fn known(&self) -> &[u64] {
        &self.known
    }

    /// Another change of membership is about to be applied.
    pub(super) fn settle(&mut self, members: &Members) {
        self.settled.clone_from(&members.removed);
    }

    /// A change of membership was applied.
    pub(super) fn changed(&mut self) {
        self.is_new = true;
    }

    /// This step takes the membership to the disk.
    pub(super) fn under_way(&mut self, step: u64, members: &Members) {
        self.under_way.push_back((step, members.removed.clone()));
    }

    /// This step, and all before it, are on disk.
    pub(super) fn persisted(&mut self, number: u64) {
        while let Some((_, removed)) = self.under_way.pop_front_if(|(step, _)| *step <= number) {
            self.known = removed;
        }
    }

    /// How many must refuse a removed node before it ends itself: a majority of those who vote now, or one where it is
    /// known that a majority knows.
    pub(super) fn quorum(&self, node: u64, members: &Members) -> u64 {
        if self.settled.contains(&node) { 1 } else { members.voters.len() as u64 / 2 + 1 }
    }

    /// A message of raft's was taken.
    pub(super) fn heard(&mut self) {
        self.unheard_ticks = 0;
    }

    /// One tick. Whether nobody seems to need this node, which was removed.
    fn is_forgotten(&mut self) -> bool {
        self.unheard_ticks += 1;
        !self.refusers.is_empty() && self.unheard_ticks >= UNHEARD_TICKS
    }

    /// A peer says that this node was removed. Whether that is enough.
    pub(super) fn refused_by(&mut self, node: u64, quorum: u64) -> bool {
        self.refusers.insert(node);
        self.refusers.len() as u64 >= quorum
    }
}

impl Replica {
    /// Orders the commit index to be durable, since a change of membership was applied. A node that forgot that a joint
    /// membership was left would need the votes of those who have gone.
    pub(super) fn keep_membership(&mut self, actions: &mut Actions) {
        if !std::mem::take(&mut self.removals.is_new) {
            return;
        }
        self.last_append += 1;
        let ready = self.last_ready;
        let step = Step { number: self.last_append, ready, term: self.hard_state.term };
        self.appends.push_back(step);
        self.removals.under_way(self.last_append, &self.members);
        let append = Append { hard_state: Some(self.hard_state), ..Append::default() };
        actions.appends.push((self.last_append, append));
    }

    /// Says hello again to everybody if no leader has been heard for long: whoever was removed meanwhile is told so.
    pub(super) fn tick_silence(&mut self) {
        let own = self.config.identity.node;
        if self.removals.is_forgotten() {
            self.stop = Some(StopReason::Removed);
        }
        self.silent_ticks += 1;
        let is_removed = !self.members.is_empty() && !self.members.contains(own);
        let is_silent = self.silent_ticks >= SILENT_TICKS && self.silent_ticks.is_multiple_of(SILENT_TICKS);
        if is_removed || (is_silent && self.node.raft.state != StateRole::Leader) {
            let others: Vec<u64> = self.members.nodes().filter(|node| *node != own).collect();
            others.into_iter().for_each(|node| self.say_hello(node));
        }
    }
}
