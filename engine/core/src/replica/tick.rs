//! What happens as raft's clock goes on, beside raft's own: election timeouts from the seed, a start without a vote, a
//! leader whose disk has stopped.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use raft::StateRole;

use super::{ELECTION_TICKS, HEARTBEAT_TICKS, Replica, ticks};
use crate::fault::{self, Mutant};

/// Ticks after which a leader whose disk does not answer hands the leadership over.
const STALL_TICKS: u32 = ticks(500);
/// Ticks after which it gives up leading even if nobody takes it.
const STALL_TICKS_MAX: u32 = ticks(1_200);

impl Replica {
    /// One tick of raft's clock.
    pub fn tick(&mut self) {
        self.acquaintances.tick();
        // Whoever was removed meanwhile may be gone for good, and will never welcome anybody.
        self.strangers.retain(|node| self.members.contains(*node));
        for node in self.strangers.clone() {
            self.say_hello(node);
        }
        if self.quarantine > 0 && !fault::is_on(Mutant::QuarantineSkipped) {
            self.quarantine -= 1;
            // It does not vote; but when it may, it must know for how long it has not heard the leader.
            self.node.raft.election_elapsed += 1;
        } else if self.node.raft.state == StateRole::Leader || self.may_campaign() {
            self.node.tick();
        }
        self.draw_election_timeout();
        self.tick_silence();
        self.tick_transfers();
        self.tick_asks();
        self.deposed_ticks = match self.node.raft.state {
            StateRole::Leader => 0,
            _ => self.deposed_ticks.saturating_add(1),
        };
        self.leave_joint_membership();
        self.watch_disk();
    }

    /// Whether raft may be told to campaign. It looks for changes of membership between what is applied and what is
    /// committed, and cannot while a snapshot stands in between that the disk does not have. The only voter is elected
    /// by its own vote, which waits for no sync: so it waits until the disk has its log.
    pub(super) fn may_campaign(&self) -> bool {
        let raft = &self.node.raft;
        let is_durable = raft.raft_log.last_index() == raft.raft_log.persisted;
        self.installing.is_none() && (is_durable || !raft.prs().is_singleton())
    }

    /// Draws an election timeout from the seed, in place of the random one that raft draws whenever it resets its clock.
    pub(super) fn draw_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let asks_again = raft.state == StateRole::PreCandidate && raft.election_elapsed == 0;
        if (self.election.0, self.election.1) != (raft.term, raft.state) || asks_again {
            self.election = (raft.term, raft.state, self.election.2 + 1);
            // Who has asked in vain whether an election makes sense asks again sooner: nothing has to be on a disk for that.
            if raft.state == StateRole::PreCandidate {
                raft.election_elapsed = ELECTION_TICKS / 2;
            }
        }
        let drawn = FixedState::with_seed(self.config.seed).hash_one((
            self.config.identity.node,
            raft.term,
            self.election.2,
        ));
        // Nobody grants a vote within an election timeout of a heartbeat: whoever asks waits a little longer than the others
        // may have to.
        let spread = (ELECTION_TICKS - HEARTBEAT_TICKS) as u64;
        raft.set_randomized_election_timeout(ELECTION_TICKS + HEARTBEAT_TICKS + (drawn % spread) as usize);
    }

    /// Hands the leadership to the voter that has most of the log, of those who answer. It goes on leading if nobody takes it.
    pub fn hand_over(&mut self) {
        let raft = &self.node.raft;
        let others = self.members.voters.iter().filter(|node| **node != self.config.identity.node);
        let matched = |node: &u64| raft.prs().get(*node).map_or(0, |progress| progress.matched);
        let best = others.copied().max_by_key(|node| (self.is_heard(*node), matched(node)));
        if let Some(best) = best.filter(|_| raft.state == StateRole::Leader) {
            self.node.transfer_leader(best);
        }
    }

    /// A leader whose disk does not answer can answer nobody: another should lead.
    fn watch_disk(&mut self) {
        let oldest = self.appends.front().map_or(0, |step| step.number);
        let is_same = oldest != 0 && oldest == self.stalled.0;
        self.stalled = (oldest, if is_same { self.stalled.1 + 1 } else { 0 });
        // The only voter has nobody to hand it to: nobody else could ever lead.
        if self.node.raft.state != StateRole::Leader || self.node.raft.prs().is_singleton() {
            return;
        }
        if self.stalled.1 == STALL_TICKS {
            self.hand_over();
        } else if self.stalled.1 >= STALL_TICKS_MAX {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
    }
}
