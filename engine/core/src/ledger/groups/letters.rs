//! Dead letters: deliveries that a group gave up, by the sequence of their events.
//!
//! A letter is parked until somebody has it delivered again, which gives it a number in the order of such wishes, or drops
//! it. A letter that is gone before its lane's cursor has passed it leaves a mark, or its event would be delivered once more
//! as if nothing had happened.
//!
//! Deliberately not here: when a delivery is given up (`commands`).

use std::collections::{BTreeMap, BTreeSet};

use sluice_protocol::event::EventRecord;

use super::DEAD_MAX;

/// A dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The event, as it is on disk.
    pub event: EventRecord,
    /// Deliveries that failed.
    pub attempts: u32,
    /// When it became one, or again, ledger milliseconds.
    pub died_ms: u64,
    /// The consumer's own code for why.
    pub cause: u32,
    /// The number of its redrive; 0 = it is parked.
    pub redrive: u64,
}

/// All dead letters of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Letters {
    rows: BTreeMap<u64, Letter>,
    /// Sequences of those that are being delivered again, by the numbers of their redrives.
    again: BTreeMap<u64, u64>,
    /// Sequences of those that are gone and that some lane's cursor has not passed.
    gone: BTreeSet<u64>,
    /// The number of the last redrive.
    redrives: u64,
}

impl Letters {
    /// As they were stored; `None` if they could not have become so.
    pub(super) fn restore(
        letters: impl Iterator<Item = Letter>,
        gone: impl Iterator<Item = u64>,
        redrives: u64,
    ) -> Option<Self> {
        let mut restored = Self { redrives, ..Self::default() };
        for letter in letters {
            let sequence = letter.event.sequence();
            let is_last = restored.rows.last_key_value().is_none_or(|(last, _)| *last < sequence);
            if !is_last || letter.redrive > redrives {
                return None;
            }
            if letter.redrive != 0 && restored.again.insert(letter.redrive, sequence).is_some() {
                return None;
            }
            restored.rows.insert(sequence, letter);
        }
        for sequence in gone {
            let is_last = restored.gone.last().is_none_or(|last| *last < sequence);
            if !is_last || restored.rows.contains_key(&sequence) {
                return None;
            }
            restored.gone.insert(sequence);
        }
        (restored.rows.len() + restored.gone.len() <= DEAD_MAX).then_some(restored)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn redrives(&self) -> u64 {
        self.redrives
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Letter> {
        self.rows.get(&sequence)
    }

    /// Letters whose sequences are at least this, in their order.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = &Letter> {
        self.rows.range(sequence..).map(|(_, letter)| letter)
    }

    /// Letters that are being delivered again, whose redrives have later numbers than `after`, in their order.
    pub(super) fn redriven(&self, after: u64) -> impl Iterator<Item = &Letter> {
        let later = after.checked_add(1).map(|first| self.again.range(first..));
        later.into_iter().flatten().map(|(_, sequence)| &self.rows[sequence])
    }

    /// Sequences of letters that are gone and not passed.
    pub(super) fn gone(&self) -> impl Iterator<Item = u64> {
        self.gone.iter().copied()
    }

    /// Whether an event is a letter, or was one.
    pub(super) fn is_dead(&self, sequence: u64) -> bool {
        self.rows.contains_key(&sequence) || self.gone.contains(&sequence)
    }

    /// Whether there may be one more.
    pub(super) fn has_room(&self) -> bool {
        self.rows.len() + self.gone.len() < DEAD_MAX
    }

    /// Parks a letter, in place of what it was before.
    pub(super) fn park(&mut self, letter: Letter) {
        let before = self.rows.insert(letter.event.sequence(), letter);
        self.again.remove(&before.map_or(0, |before| before.redrive));
    }

    /// Has a letter delivered again. It must be there.
    pub(super) fn redrive(&mut self, sequence: u64) {
        self.redrives += 1;
        let letter = self.rows.get_mut(&sequence).expect("a letter is redriven when it was found");
        self.again.remove(&letter.redrive);
        letter.redrive = self.redrives;
        self.again.insert(self.redrives, sequence);
    }

    /// Removes a letter, and leaves a mark if its lane's cursor is before it. It must be there.
    pub(super) fn remove(&mut self, sequence: u64, cursor: u64) {
        let letter = self.rows.remove(&sequence).expect("a letter is removed when it was found");
        self.again.remove(&letter.redrive);
        if sequence > cursor {
            self.gone.insert(sequence);
        }
    }

    /// Whether there are marks up to this sequence.
    pub(super) fn has_marks(&self, upto: u64) -> bool {
        self.gone.first().is_some_and(|first| *first <= upto)
    }

    /// Removes marks up to this sequence.
    pub(super) fn unmark(&mut self, upto: u64) {
        while self.has_marks(upto) {
            self.gone.pop_first();
        }
    }
}
