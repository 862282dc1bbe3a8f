//! Events that were handed out together, and a byte for each that says where it stands.
//!
//! A delivery is a number of a sheet, so that acknowledging one is an atomic exchange: no lock, no message, no memory.
//! The bookkeeper looks at the bytes when it gathers acknowledgements. Whoever changes a byte has won: an event that was
//! taken away can not be acknowledged, one that was acknowledged can not be taken away.
//! Deliberately not here: what follows from it ([`super::book`]).

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sluice_protocol::event::{EventRecord, EventView};
use tokio::sync::Notify;

use super::Shared;

/// An event on its way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) view: EventView,
    pub(crate) attempts: u8,
    pub(crate) is_redriven: bool,
}

impl Event {
    /// `None` if its bytes are not what a replica made, or of a kind that this version does not know.
    pub(crate) fn read(record: &EventRecord) -> Option<Self> {
        let (attempts, is_redriven) = (record.attempts(), record.is_redriven());
        record.view().map(|view| Self { view, attempts, is_redriven })
    }

    /// Its bytes as they were delivered.
    pub(crate) fn record(&self) -> EventRecord {
        EventRecord::from(self.view).delivered(u32::from(self.attempts), self.is_redriven)
    }
}

/// Where an event of a sheet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Slot {
    /// The application has not seen it.
    Fresh = 0,
    /// The application has it.
    Out = 1,
    /// The application is done with it, or nobody has to be.
    Done = 2,
    /// Its delivery failed.
    Failed = 3,
    /// It was taken away.
    Fenced = 4,
}

/// What all sheets of a consumer count together, and whom they wake.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Events that were acknowledged since somebody last looked.
    acked: AtomicUsize,
    /// So many of them are worth looking at once.
    many: usize,
    /// Wakes the task that talks to the server.
    pub(crate) driver: Notify,
    /// Tells whoever waits that acknowledgements have arrived.
    pub(crate) progress: Notify,
}

impl Tally {
    pub(crate) fn new(many: usize) -> Self {
        Self { acked: AtomicUsize::new(0), many, driver: Notify::new(), progress: Notify::new() }
    }

    /// More were acknowledged. The first starts the clock, and many stop it.
    pub(crate) fn acked(&self, count: usize) {
        let before = self.acked.fetch_add(count, Ordering::Relaxed);
        if count > 0 && (before == 0 || (before < self.many && before + count >= self.many)) {
            self.driver.notify_one();
        }
    }

    /// How many were since somebody last looked.
    pub(crate) fn look(&self) -> usize {
        self.acked.load(Ordering::Relaxed)
    }

    /// The same, and begins to count anew.
    pub(crate) fn take(&self) -> usize {
        self.acked.swap(0, Ordering::Relaxed)
    }

    /// Whether so many are worth telling at once.
    pub(crate) fn are_many(&self, count: usize) -> bool {
        count >= self.many
    }
}

/// Events that were handed out together.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) events: Vec<Event>,
    slots: Vec<AtomicU8>,
    pub(crate) tally: Arc<Tally>,
    /// The consumer, as long as it is open.
    pub(crate) home: Weak<Shared>,
}

impl Sheet {
    pub(crate) fn new(events: Vec<Event>, tally: Arc<Tally>, home: Weak<Shared>) -> Self {
        let slots = events.iter().map(|_| AtomicU8::new(Slot::Fresh as u8)).collect();
        Self { events, slots, tally, home }
    }

    pub(crate) fn is(&self, at: usize, slot: Slot) -> bool {
        self.slots[at].load(Ordering::Acquire) == slot as u8
    }

    /// Moves an event on, if it still stands where it is thought to.
    pub(crate) fn turn(&self, at: usize, from: Slot, to: Slot) -> bool {
        // What the application did before it acknowledged happened before the acknowledgement is sent.
        let (won, lost) = (Ordering::AcqRel, Ordering::Acquire);
        self.slots[at].compare_exchange(from as u8, to as u8, won, lost).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the task was woken since this was last asked.
    async fn was_woken(tally: &Tally) -> bool {
        tokio::select! {
            biased;
            () = tally.driver.notified() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn the_first_acknowledgement_wakes_and_many_do_and_those_between_do_not() {
        let tally = Tally::new(4);
        let mut woken = Vec::new();
        for _ in 0..6 {
            tally.acked(1);
            woken.push(was_woken(&tally).await);
        }
        assert_eq!(woken, [true, false, false, true, false, false]);
        assert_eq!(tally.take(), 6);
        tally.acked(0);
        assert!(!was_woken(&tally).await);
        tally.acked(9);
        assert!(was_woken(&tally).await);
    }
}
