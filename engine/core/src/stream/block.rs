//! The events of one round of applies: a row of neighbours that never changes again.

use std::fmt;

use sluice_protocol::event::EventRecord;

/// See the module. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    events: Box<[EventRecord]>,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}..={})", self.first(), self.last())
    }
}

impl Block {
    /// Events with sequences in a row.
    ///
    /// # Panics
    /// If there are none, or if they are not in a row.
    pub fn new(events: Vec<EventRecord>) -> Self {
        let first = events.first().expect("a block has events").sequence();
        let last = events.last().expect("a block has events").sequence();
        assert_eq!(last - first + 1, events.len() as u64, "events are dense");
        Self { events: events.into() }
    }

    /// The sequence of the first.
    pub fn first(&self) -> u64 {
        self.events[0].sequence()
    }

    /// The sequence of the last.
    pub fn last(&self) -> u64 {
        self.first() + self.events.len() as u64 - 1
    }

    /// All of them.
    pub fn events(&self) -> &[EventRecord] {
        &self.events
    }

    /// Those whose sequence is at least `sequence`.
    pub fn from(&self, sequence: u64) -> &[EventRecord] {
        let skipped = sequence.saturating_sub(self.first()).min(self.events.len() as u64);
        &self.events[skipped as usize..]
    }

    /// This and the next, as one.
    pub(super) fn and(&self, next: &Self) -> Self {
        Self::new([&self.events[..], &next.events[..]].concat())
    }

    /// Bytes of its events.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.events)
    }
}
