//! Entries that were proposed here and have not been applied yet, with the flights that wait for them.
//!
//! They are named by index *and* term: after a change of leader another entry may be applied at the same index,
//! and then what waited is known not to have happened.

use std::collections::VecDeque;

use crate::fault::{self, Mutant};
use crate::flight::Flight;

/// Flights in one proposed entry.
#[derive(Debug)]
struct Proposed {
    index: u64,
    term: u64,
    flights: Vec<Box<Flight>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: VecDeque<Proposed>,
}

/// What an applied entry means for those who waited.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// It is theirs: the ledger's answers are for them, in this order.
    pub(super) applied: Vec<Box<Flight>>,
    /// Another entry took their index: theirs never happens.
    pub(super) dropped: Vec<Box<Flight>>,
}

impl Pending {
    /// Registers an entry that was just proposed.
    pub(super) fn push(&mut self, index: u64, term: u64, flights: Vec<Box<Flight>>) {
        self.entries.push_back(Proposed { index, term, flights });
    }

    /// Resolves those who waited for `index` or less, or in an earlier term, now that an entry of `term` was applied at
    /// `index`.
    pub(super) fn resolve(&mut self, index: u64, term: u64) -> Resolved {
        let mut resolved = Resolved::default();
        let term_is = |own: u64| own == term || fault::is_on(Mutant::IndexWithoutTerm);
        if self.entries.front().is_some_and(|first| first.index == index && term_is(first.term)) {
            let first = self.entries.pop_front().expect("it was just looked at");
            resolved.applied = first.flights;
            return resolved;
        }
        // Proposals of several terms may wait, and a later one may stand at a lower index than an earlier one. Terms
        // never fall along a log: behind an entry of a later term none of an earlier one is ever committed. Whoever
        // waited for that index instead might wait for ever, and keep a leader that waits for nothing in flight shut.
        for entry in std::mem::take(&mut self.entries) {
            let is_cut_off = entry.term < term && !fault::is_on(Mutant::IndexWithoutTerm);
            if entry.index > index && !is_cut_off {
                self.entries.push_back(entry);
            } else if entry.index == index && term_is(entry.term) {
                resolved.applied = entry.flights;
            } else {
                resolved.dropped.extend(entry.flights);
            }
        }
        resolved
    }

    /// Takes those who waited for `index` or less, now that a snapshot stands for all of that.
    pub(super) fn behind(&mut self, index: u64) -> Vec<Box<Flight>> {
        let (behind, rest) = self.entries.drain(..).partition(|entry: &Proposed| entry.index <= index);
        self.entries = rest;
        let behind: VecDeque<Proposed> = behind;
        behind.into_iter().flat_map(|entry| entry.flights).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
