//! A node's files of events, with the contract of the real ones: what was not synced may vanish in any part, what lies behind
//! the recovered ledger is cut, and what is neither there nor dropped is missing.
//!
//! Deliberately not here: whose events are needed, and how long anything takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_core::desk::COLD_EVENTS;
use sluice_core::fault::{self, Mutant};
use sluice_core::stream::Block;
use sluice_protocol::event::EventRecord;

use crate::random::Random;

/// See the module.
#[derive(Clone, Debug)]
pub struct EventFiles {
    events: BTreeMap<u64, EventRecord>,
    next: u64,
    dropped: u64,
    /// Up to here all that is there is durable.
    synced: u64,
}

impl Default for EventFiles {
    fn default() -> Self {
        Self { events: BTreeMap::new(), next: 1, dropped: 0, synced: 0 }
    }
}

impl EventFiles {
    /// Opens the files for a ledger that has made events up to `upto`. What lies behind is cut: it will be made again.
    pub fn open(&mut self, upto: u64) {
        if fault::is_on(Mutant::EventsNotCut) {
            self.next = self.next.max(upto + 1);
            return;
        }
        let short = u64::from(fault::is_on(Mutant::EventsCutShort));
        self.events.split_off(&(upto + 1 - short));
        self.next = upto + 1;
        self.synced = upto;
    }

    /// Writes events that follow the last.
    ///
    /// # Panics
    /// If they do not.
    pub fn append(&mut self, block: &Block) {
        assert_eq!(block.first(), self.next, "events are dense");
        self.events.extend(block.events().iter().map(|event| (event.sequence(), *event)));
        self.next = block.last() + 1;
    }

    /// The ledger was replaced by one whose next event is this: what was not written is missing.
    ///
    /// # Panics
    /// If that was written already.
    pub fn reset(&mut self, next: u64) {
        assert!(self.next <= next, "a ledger is replaced by a later one");
        self.next = next;
    }

    /// Makes all that was written durable. What was not before.
    pub fn sync(&mut self) -> impl Iterator<Item = u64> {
        let before = std::mem::replace(&mut self.synced, self.next - 1);
        self.events.range(before + 1..).map(|(sequence, _)| *sequence)
    }

    /// Lets go of everything up to a sequence.
    pub fn drop_upto(&mut self, upto: u64) {
        self.events = self.events.split_off(&(upto + 1));
        self.dropped = self.dropped.max(upto);
    }

    /// The process or the machine has died. Whether anything is lost.
    pub fn crash(&mut self, random: &mut Random) -> bool {
        let unsynced: Vec<u64> =
            self.events.range(self.synced + 1..).map(|(sequence, _)| *sequence).collect();
        let (holes, kept) = (random.chance(1, 3), random.below(unsynced.len() as u64 + 1) as usize);
        let mut is_lost = false;
        for (at, sequence) in unsynced.iter().enumerate() {
            if at >= kept || (holes && random.chance(1, 4)) {
                self.events.remove(sequence);
                is_lost = true;
            }
        }
        is_lost
    }

    /// As many events as a read may return, from this one on. `None`: it is not here.
    pub fn read(&self, from: u64) -> Option<Arc<Block>> {
        let row =
            self.events.range(from..).zip(from..).take_while(|((sequence, _), next)| **sequence == *next);
        let events: Vec<EventRecord> = row.take(COLD_EVENTS).map(|((_, event), _)| *event).collect();
        (!events.is_empty()).then(|| Arc::new(Block::new(events)))
    }

    /// The first event at or after a time; the next one if there is none.
    pub fn find(&self, time_ms: u64) -> u64 {
        let found = self.events.values().find(|event| event.time_ms() >= time_ms);
        found.map_or(self.next, EventRecord::sequence)
    }

    /// Takes what is missing here from another node's files.
    pub fn fill_from(&mut self, other: &Self) {
        let missing = other.events.range(self.dropped + 1..self.next);
        let missing: Vec<_> = missing.filter(|(sequence, _)| !self.events.contains_key(sequence)).collect();
        self.events.extend(missing);
    }

    /// All that is here.
    pub fn all(&self) -> Vec<EventRecord> {
        self.events.values().copied().collect()
    }

    /// The sequence of the next event that is written.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The last sequence that retention has let go of; 0 = none.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether events are missing from a sequence on.
    pub fn misses(&self, from: u64) -> bool {
        let from = from.max(self.dropped + 1);
        from < self.next && (self.events.range(from..).count() as u64) < self.next - from
    }
}
