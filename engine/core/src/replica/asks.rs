//! Reads that are answered by a node that does not lead, with a round of the leader: rule N holds for them too.
//!
//! While reads wait and no ask is under way, the node asks the leader for a read round. All reads that were there when the
//! ask left share it; those that come later wait for the next one. The leader starts a round after the ask has arrived,
//! and tells the index at which it was confirmed; the reads are answered from this node's own ledger once it has applied that
//! index. An ask that is not answered is given up and sent under another name, to whoever leads then. A name is
//! never used again, and what was said to an earlier process does not count.
//!
//! Deliberately not here: what the leader's own reads wait for (`reads`), and whatever sells: notices, filters and gates of
//! a node that does not lead are of no use to anybody.

use std::collections::{BTreeMap, VecDeque};

use raft::StateRole;
use sluice_protocol::Answer;

use super::peer::{Body, Identity};
use super::reads::{self, Read};
use super::{Actions, ELECTION_TICKS, Replica, ticks};
use crate::desk::RETRY_AFTER_MS;
use crate::fault::{self, Mutant};
use crate::flight::Flight;

/// Ticks after which an ask is sent again: a leader that takes longer is missed anyway.
const REPEAT_TICKS: u32 = ELECTION_TICKS as u32;

/// Ticks after which a read is given up here, if its desk has not done so.
const WAIT_TICKS: u64 = ticks(2_000) as u64;

/// What became of asks since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskCounts {
    /// Reads that were answered with a round of the leader's.
    pub answered: u64,
    /// Asks that nobody answered in time.
    pub repeated: u64,
    /// Asks that were under way when another node began to lead.
    pub redirected: u64,
    /// Rounds of this node that others had asked for.
    pub served: u64,
}

/// An ask that was sent.
#[derive(Debug)]
struct Ask {
    name: u64,
    leader: u64,
    ticks: u32,
    /// All that waited when it was sent.
    reads: Vec<Read>,
}

/// Who asked this node, which leads, for a round.
#[derive(Debug)]
struct Asker {
    nonce: u64,
    name: u64,
    round: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// The last name that was used.
    name: u64,
    under_way: Option<Ask>,
    /// What may be answered once an index is applied.
    due: VecDeque<(u64, Vec<Read>)>,
    /// What was waited for too long.
    given_up: Vec<Box<Flight>>,
    /// By node.
    askers: BTreeMap<u64, Asker>,
    /// The last own round that was confirmed, and its index.
    confirmed: (u64, u64),
    counts: AskCounts,
}

impl Asks {
    /// Whether no read waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.due.is_empty() && self.given_up.is_empty()
    }

    pub(super) fn counts(&self) -> AskCounts {
        self.counts
    }

    /// This node leads no more: nobody is told of its rounds.
    pub(super) fn forget_askers(&mut self) {
        self.askers.clear();
    }

    /// Everything that waits here, in the order in which it came.
    fn take_all(&mut self) -> Vec<Read> {
        let due = std::mem::take(&mut self.due).into_iter().flat_map(|(_, reads)| reads);
        due.chain(self.under_way.take().into_iter().flat_map(|ask| ask.reads)).collect()
    }

    /// Takes what waits for too long.
    fn take_overdue(&mut self, until: u64) -> Vec<Read> {
        let lists = self.due.iter_mut().map(|(_, reads)| reads);
        let lists = lists.chain(self.under_way.as_mut().map(|ask| &mut ask.reads));
        let overdue: Vec<Read> =
            lists.flat_map(|reads| reads.extract_if(.., |read| read.since <= until)).collect();
        self.due.retain(|(_, reads)| !reads.is_empty());
        self.under_way.take_if(|ask| ask.reads.is_empty());
        overdue
    }
}

impl Replica {
    /// What a node that does not lead does about reads.
    pub(super) fn answer_by_asking(&mut self, actions: &mut Actions) {
        actions.settled.append(&mut self.asks.given_up);
        // A net thread may have sent them before it saw that the gate is shut.
        if !fault::is_on(Mutant::SuspectTakenForRead) {
            for mut flight in self.reads.take_suspects() {
                flight.answer_all(self.publisher.board().shut());
                actions.settled.push(flight);
            }
        }
        if fault::is_on(Mutant::FollowerReadUnasked) {
            self.asks.due.push_back((0, self.reads.take_all()));
        }
        let applied = self.ledger.index();
        while let Some((_, due)) = self.asks.due.pop_front_if(|(index, _)| *index <= applied) {
            for mut read in due {
                reads::answer(&self.ledger, &mut read.flight);
                self.asks.counts.answered += 1;
                actions.settled.push(read.flight);
            }
        }
        // Whoever is no member would not be answered.
        if !self.members.contains(self.config.identity.node) {
            let answer = self.publisher.board().shut();
            for mut flight in self.drain_reads() {
                flight.answer_all(answer);
                actions.settled.push(flight);
            }
            return;
        }
        let leader = self.node.raft.leader_id;
        if leader == 0 {
            return;
        }
        if let Some(ask) = self.asks.under_way.take_if(|ask| ask.leader != leader) {
            self.asks.counts.redirected += 1;
            self.reads.put_back(ask.reads);
        }
        if self.asks.under_way.is_none() && !self.reads.is_empty() {
            self.asks.name += 1;
            let (name, reads) = (self.asks.name, self.reads.take_all());
            self.asks.under_way = Some(Ask { name, leader, ticks: 0, reads });
            self.say(leader, Body::RoundAsk { name });
        }
    }

    /// This node leads from now on: what it had asked another for waits for its own rounds.
    pub(super) fn take_asks_back(&mut self) {
        let reads = self.asks.take_all();
        self.reads.put_back(reads);
    }

    /// Takes every read that waits for anything, for an answer that is not the ledger's.
    pub(super) fn drain_reads(&mut self) -> Vec<Box<Flight>> {
        let mut flights = std::mem::take(&mut self.asks.given_up);
        let reads = self.asks.take_all().into_iter().chain(self.reads.take_all());
        flights.extend(reads.map(|read| read.flight));
        flights
    }

    /// One tick for what waits: asked again, or given up.
    pub(super) fn tick_asks(&mut self) {
        let now = self.reads.tick();
        if self.node.raft.state == StateRole::Leader {
            return;
        }
        if let Some(until) = now.checked_sub(WAIT_TICKS) {
            let mut overdue = self.asks.take_overdue(until);
            overdue.extend(self.reads.take_overdue(until));
            for mut read in overdue {
                read.flight.answer_all(match self.node.raft.leader_id {
                    0 => Answer::not_leader(0),
                    _ => Answer::busy(RETRY_AFTER_MS),
                });
                self.asks.given_up.push(read.flight);
            }
        }
        let Some(ask) = &mut self.asks.under_way else { return };
        ask.ticks += 1;
        if ask.ticks >= REPEAT_TICKS {
            let ask = self.asks.under_way.take().expect("it was just looked at");
            self.asks.counts.repeated += 1;
            self.reads.put_back(ask.reads);
        }
    }

    /// A member asks for a round. One that was started before the ask arrived would not do.
    pub(super) fn round_asked(&mut self, from: &Identity, name: u64) {
        let (node, nonce) = (from.node, from.nonce);
        if self.node.raft.state != StateRole::Leader || !self.members.contains(node) {
            return;
        }
        if self.asks.askers.get(&node).is_some_and(|known| known.nonce == nonce && known.name >= name) {
            return;
        }
        let rounds = &self.publisher.board().rounds;
        let joins = fault::is_on(Mutant::AskJoinsStartedRound);
        let round = if joins { rounds.started() } else { rounds.ask() };
        self.asks.askers.insert(node, Asker { nonce, name, round });
        // One that is yet to start is not confirmed.
        let (number, index) = self.asks.confirmed;
        self.tell_askers(number, index);
    }

    /// Rounds up to `number` are confirmed, at this index.
    pub(super) fn tell_askers(&mut self, number: u64, index: u64) {
        self.asks.confirmed = (number, index);
        let done: Vec<_> = self.asks.askers.extract_if(.., |_, asker| asker.round <= number).collect();
        for (node, Asker { nonce, name, .. }) in done {
            self.asks.counts.served += 1;
            self.say(node, Body::RoundDone { nonce, name, index });
        }
    }

    /// A leader tells the index of a round that was asked for under this name.
    pub(super) fn round_done(&mut self, name: u64, index: u64) {
        if let Some(ask) = self.asks.under_way.take_if(|ask| ask.name == name) {
            self.asks.due.push_back((index, ask.reads));
        }
    }
}
