//! Digests: replicas compare their whole state now and then, and tell if one differs.
//!
//! Same log, same bytes. A replica whose ledger is another at the same index has met a bug of ours or a bit that the memory
//! lost, and would say so only when somebody is answered wrongly. So each freezes an image at points that are the same
//! for all without a word, the entries with which ledger time crosses a multiple of [`DIGEST_EVERY_MS`]; the shell makes
//! a number of it aside; each tells the others its number, and holds theirs against its own. A number that is lost, or a
//! point that is passed over because the last number is not done, costs one comparison: a difference does not go away.
//!
//! Deliberately not here: what is done about a difference. Which of two is right, neither knows, so nothing is stopped.

use std::collections::{BTreeMap, VecDeque};

use super::disk::Members;
use super::peer::Body;
use super::{Actions, Replica};
use crate::ledger::image::FORMAT;

/// Ledger time from one point to the next.
pub const DIGEST_EVERY_MS: u64 = 60_000;

/// Own digests that are remembered, and digests of each peer that are kept for indexes that are not reached yet.
const KEPT_MAX: usize = 4;

/// Two replicas are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The index at which they differ.
    pub index: u64,
    /// The other one.
    pub node: u64,
    /// This node's digest.
    pub own: u64,
    /// The other's.
    pub theirs: u64,
}

/// How many digests there have been since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestCounts {
    /// Taken here.
    pub taken: u64,
    /// Compared with another's.
    pub compared: u64,
    /// Of these, those that differed.
    pub diverged: u64,
}

/// An own digest.
#[derive(Debug)]
struct Own {
    index: u64,
    digest: u64,
    /// With whose it was compared.
    compared: Vec<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Digests {
    under_way: Option<u64>,
    /// Whether there is anything new since the last one.
    is_changed: bool,
    own: VecDeque<Own>,
    /// Index and digest, by node.
    theirs: BTreeMap<u64, VecDeque<(u64, u64)>>,
    found: VecDeque<Divergence>,
    counts: DigestCounts,
}

impl Digests {
    pub(super) fn new() -> Self {
        Self {
            under_way: None,
            is_changed: true,
            own: VecDeque::new(),
            theirs: BTreeMap::new(),
            found: VecDeque::new(),
            counts: DigestCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> DigestCounts {
        self.counts
    }

    /// An entry carried ledger time from here to there, and perhaps changed something else. Whether a digest is to be taken
    /// behind it.
    fn is_due(&mut self, before_ms: u64, now_ms: u64, changed: bool) -> bool {
        self.is_changed |= changed;
        let is_point = before_ms / DIGEST_EVERY_MS != now_ms / DIGEST_EVERY_MS;
        is_point && self.under_way.is_none() && std::mem::take(&mut self.is_changed)
    }

    /// A digest was taken here.
    fn taken(&mut self, index: u64, digest: u64, members: &Members) {
        assert_eq!(self.under_way.take(), Some(index), "only what was asked for is told");
        self.counts.taken += 1;
        if self.own.len() == KEPT_MAX {
            self.own.pop_front();
        }
        self.own.push_back(Own { index, digest, compared: Vec::new() });
        self.theirs.retain(|node, _| members.contains(*node));
        let mut due = Vec::new();
        for (node, kept) in &mut self.theirs {
            due.extend(kept.iter().filter(|(known, _)| *known == index).map(|(_, theirs)| (*node, *theirs)));
            kept.retain(|(known, _)| *known > index);
        }
        due.into_iter().for_each(|(node, theirs)| self.compare(index, node, theirs));
    }

    /// A peer tells its digest.
    fn heard(&mut self, index: u64, node: u64, theirs: u64) {
        if self.own.back().is_some_and(|last| index <= last.index) {
            return self.compare(index, node, theirs);
        }
        let kept = self.theirs.entry(node).or_default();
        if kept.iter().any(|(known, _)| *known == index) {
            return;
        }
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((index, theirs));
    }

    /// Holds a peer's digest against the own one of that index, if there is one: once.
    fn compare(&mut self, index: u64, node: u64, theirs: u64) {
        let Some(own) = self.own.iter_mut().find(|own| own.index == index) else { return };
        if own.compared.contains(&node) {
            return;
        }
        own.compared.push(node);
        self.counts.compared += 1;
        if own.digest != theirs {
            self.counts.diverged += 1;
            self.found.push_back(Divergence { index, node, own: own.digest, theirs });
        }
    }

    /// A difference that has not been told.
    pub(super) fn pop(&mut self) -> Option<Divergence> {
        self.found.pop_front()
    }
}

impl Replica {
    /// Hands out an image if this entry, which is applied, is a point and somebody else has one to compare.
    pub(super) fn freeze_for_digest(&mut self, before_ms: u64, changed: bool, actions: &mut Actions) {
        let has_others = self.members.nodes().any(|node| node != self.config.identity.node);
        if self.digests.is_due(before_ms, self.ledger.now_ms(), changed) && has_others {
            let index = self.ledger.index();
            self.digests.under_way = Some(index);
            actions.digest = Some((index, self.ledger.freeze()));
        }
    }

    /// The digest of the image that was handed out last in [`Actions::digest`].
    ///
    /// # Panics
    /// If it was not of this index.
    pub fn digest_taken(&mut self, index: u64, digest: u64) {
        self.digests.taken(index, digest, &self.members);
        let own = self.config.identity.node;
        let others: Vec<u64> = self.members.nodes().filter(|node| *node != own).collect();
        for node in others {
            self.say(node, Body::Digest { index, digest, format: FORMAT });
        }
    }

    /// A peer tells its digest of its state at `index`. Images of another format have other bytes.
    pub(super) fn digest_came(&mut self, from: u64, index: u64, digest: u64, format: u8) {
        if format == FORMAT && self.members.contains(from) {
            self.digests.heard(index, from, digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_came_early_wait_until_their_index_is_reached() {
        let members = Members { voters: vec![1, 2, 3], ..Members::default() };
        let mut digests = Digests::new();
        for (index, theirs) in [(10, 7), (20, 8), (30, 9)] {
            digests.heard(index, 2, theirs);
            digests.heard(index, 4, 1);
        }
        for (index, own, before_ms) in [(10, 7, 0), (20, 5, 60_000), (30, 9, 120_000)] {
            assert!(!digests.is_due(before_ms, before_ms + 59_999, true), "the minute is not over");
            assert!(digests.is_due(before_ms + 59_999, before_ms + 60_000, false));
            digests.under_way = Some(index);
            assert!(!digests.is_due(before_ms, before_ms + 60_000, true), "one at a time");
            digests.taken(index, own, &members);
        }
        assert_eq!(digests.pop(), Some(Divergence { index: 20, node: 2, own: 5, theirs: 8 }));
        assert_eq!(digests.pop(), None, "no member has told the rest");
        assert_eq!(digests.counts(), DigestCounts { taken: 3, compared: 3, diverged: 1 });
    }
}
