//! Which process a peer's messages may come from.
//!
//! What is remembered of a peer lives in memory: its latest process, the highest term it was heard in, when that was, and
//! what it acknowledged while this node led. Together with the incarnations in the membership it tells apart: a stranger, a
//! removed node, a wiped disk, an older copy of a disk, and two processes on copies of one. What no living peer
//! remembers cannot be told: a copy that is older than anything seen since all peers restarted passes, as raft allows
//! only if fewer than half of the disks forget.
//!
//! Deliberately not here: what is done with a message that passes.

use std::collections::BTreeMap;

use super::{Hello, Identity, Refusal};
use crate::fault::{self, Mutant};
use crate::replica::disk::Members;

/// What is known of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    boot: u64,
    nonce: u64,
    /// The highest term it was heard in: it had that on disk.
    term: u64,
    /// The highest committed index it acknowledged: it has that on disk.
    acknowledged: u64,
    /// The tick in which it was heard last.
    heard_at: u64,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Pass,
    /// Ask who it is.
    Ask,
    /// Tell it why not.
    Refuse(Refusal),
    /// Not for this node, or from nobody it could answer.
    Ignore,
}

/// See the module.
#[derive(Debug)]
pub struct Acquaintances {
    own: Identity,
    known: BTreeMap<u64, Known>,
    ticks: u64,
}

impl Acquaintances {
    /// Nobody is known yet.
    pub fn new(own: Identity) -> Self {
        Self { own, known: BTreeMap::new(), ticks: 0 }
    }

    /// What membership says of a sender; the same for every kind of message.
    fn membership(&self, from: &Identity, members: &Members, removed: &[u64]) -> Result<(), Verdict> {
        if from.node == self.own.node {
            return Err(Verdict::Ignore);
        }
        if from.cluster != self.own.cluster {
            return Err(Verdict::Refuse(Refusal::OtherCluster));
        }
        // A node without members has just been made: whoever talks to it first knows better.
        if members.is_empty() {
            return Ok(());
        }
        if removed.contains(&from.node) && !fault::is_on(Mutant::RemovedAccepted) {
            return Err(Verdict::Refuse(Refusal::Removed));
        }
        match members.incarnation(from.node) {
            Some(incarnation)
                if incarnation != from.incarnation && !fault::is_on(Mutant::WipedDiskAccepted) =>
            {
                Err(Verdict::Refuse(Refusal::OtherIncarnation))
            }
            // Not a member as far as this node knows; it may be behind.
            _ => Ok(()),
        }
    }

    /// Whether a message that is no hello may be taken. `removed`: who may be refused for having been removed.
    pub fn judge(&self, from: &Identity, members: &Members, removed: &[u64]) -> Verdict {
        if let Err(verdict) = self.membership(from, members, removed) {
            return verdict;
        }
        match self.known.get(&from.node) {
            Some(known) if (known.boot, known.nonce) == (from.boot, from.nonce) => Verdict::Pass,
            Some(known) if from.boot < known.boot => Verdict::Refuse(Refusal::Superseded),
            Some(known) if from.boot == known.boot => Verdict::Refuse(Refusal::Superseded),
            _ => Verdict::Ask,
        }
    }

    /// Takes a hello.
    pub fn greet(&mut self, from: &Identity, hello: Hello, members: &Members, removed: &[u64]) -> Verdict {
        if let Err(verdict) = self.membership(from, members, removed) {
            return verdict;
        }
        let known = self.known.get(&from.node).copied().unwrap_or_default();
        if known.boot > from.boot || (known.boot == from.boot && known.nonce != from.nonce && known.boot != 0)
        {
            return Verdict::Refuse(Refusal::Superseded);
        }
        let is_new = known.boot < from.boot;
        let is_judged = is_new && !fault::is_on(Mutant::LostStateAccepted);
        if is_judged && (hello.term < known.term || hello.last_index < known.acknowledged) {
            return Verdict::Refuse(Refusal::LostState);
        }
        let heard_at = self.ticks;
        self.known.insert(from.node, Known { boot: from.boot, nonce: from.nonce, heard_at, ..known });
        Verdict::Pass
    }

    /// One tick.
    pub fn tick(&mut self) {
        self.ticks += 1;
    }

    /// A message that passed came from a peer.
    pub fn heard(&mut self, node: u64) {
        if let Some(known) = self.known.get_mut(&node) {
            known.heard_at = self.ticks;
        }
    }

    /// Ticks since a peer was heard; `None` if it never was.
    pub fn silent_ticks(&self, node: u64) -> Option<u64> {
        self.known.get(&node).map(|known| self.ticks - known.heard_at)
    }

    /// A peer was heard in a term that it must have on disk.
    pub fn heard_in(&mut self, node: u64, term: u64) {
        if let Some(known) = self.known.get_mut(&node) {
            known.term = known.term.max(term);
        }
    }

    /// A peer has acknowledged all up to `index`, which is committed.
    pub fn acknowledged(&mut self, node: u64, index: u64) {
        if let Some(known) = self.known.get_mut(&node) {
            known.acknowledged = known.acknowledged.max(index);
        }
    }
}
