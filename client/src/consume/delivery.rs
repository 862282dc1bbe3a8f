//! What a consumer gets: deliveries of events, and news that are no events.
//!
//! Deliberately not here: how what is said of a delivery reaches the server ([`super::driver`]).

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sluice_protocol::event::EventView;
use tokio::time::Instant;

use super::book::Verdict;
use super::error::Fenced;
use super::sheet::{Event, Sheet, Slot};

/// The cause of a failed delivery that was neither acknowledged nor given back in time.
pub const CAUSE_TIMED_OUT: u32 = u32::MAX;

/// The cause of a failed delivery that was dropped by a thread that panicked.
pub const CAUSE_PANICKED: u32 = u32::MAX - 1;

/// What a consumer gets.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "an event that is dropped is delivered again"]
pub enum Consumed {
    /// An event, to be acknowledged.
    Event(Delivery),
    /// Events that are kept no more, and never come: the group was too far behind for what is kept, or was made or moved
    /// to where nothing is. It is told no later than the next event behind it.
    Gap {
        /// The first sequence that may be missing. Only where the group stood when this consumer was opened is known
        /// for certain, so some before the last of them may have been delivered.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// The delivery of an event failed for the last time. It is a dead letter of the group now, and passed over.
    Parked {
        /// The event.
        event: EventView,
        /// Deliveries that failed.
        attempts: u64,
    },
}

impl Consumed {
    /// The delivery, if it is one.
    pub fn delivery(self) -> Option<Delivery> {
        match self {
            Self::Event(delivery) => Some(delivery),
            Self::Gap { .. } | Self::Parked { .. } => None,
        }
    }
}

/// An event in the hands of the application.
///
/// # What a dropped delivery means
/// It is handed out again by this consumer, at once and before anything behind it in its lane; the server is told
/// nothing, and no failure is counted, since nothing is known to have failed: a future was dropped, a process is shutting
/// down. If the thread panics meanwhile, the delivery *is* a failed one, with [`CAUSE_PANICKED`], so that an event that
/// kills its handler becomes a dead letter in the end.
#[derive(Debug)]
#[must_use = "an event that is dropped is delivered again"]
pub struct Delivery {
    sheet: Arc<Sheet>,
    at: usize,
    /// Whether dropping it means something.
    is_armed: bool,
}

impl Delivery {
    /// One that the application has not seen; `None` if it was taken away meanwhile.
    pub(super) fn of(sheet: &Arc<Sheet>, at: usize) -> Option<Self> {
        let taken = sheet.turn(at, Slot::Fresh, Slot::Out);
        taken.then(|| Self { sheet: Arc::clone(sheet), at, is_armed: true })
    }

    fn entry(&self) -> &Event {
        &self.sheet.events[self.at]
    }

    /// The event.
    pub fn event(&self) -> &EventView {
        &self.entry().view
    }

    /// Deliveries to this group that are known to have failed; 255 = so many or more.
    pub fn attempts(&self) -> u8 {
        self.entry().attempts
    }

    /// Whether it was a dead letter, and is delivered again, out of order.
    pub fn is_redriven(&self) -> bool {
        self.entry().is_redriven
    }

    /// The event is done with, for good. It is acknowledged to the server soon: see [`crate::Consumer::flush`].
    ///
    /// # Errors
    /// [`Fenced`]: the event was taken away before this, and is delivered again.
    pub fn ack(self) -> Result<(), Fenced> {
        if self.sheet.turn(self.at, Slot::Out, Slot::Done) {
            self.sheet.tally.acked(1);
            return Ok(());
        }
        Err(Fenced)
    }

    /// Its delivery failed. The group's terms say when it is delivered again and how often; until it is done, what is
    /// behind it in its lane waits. `cause` is a code of your own, kept with a dead letter.
    ///
    /// # Errors
    /// [`Fenced`]: the event was taken away before this, and is delivered again anyway.
    pub fn nak(self, cause: u32) -> Result<(), Fenced> {
        self.fail(Verdict::Failed { delay_ms: 0, cause, for_good: false })
    }

    /// The same, delivered again after this long, from 1 ms on.
    ///
    /// # Errors
    /// As [`Delivery::nak`].
    pub fn nak_after(self, delay: Duration, cause: u32) -> Result<(), Fenced> {
        let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX).max(1);
        self.fail(Verdict::Failed { delay_ms, cause, for_good: false })
    }

    /// Nobody can do anything with it: it becomes a dead letter at once, and what is behind it goes on.
    ///
    /// # Errors
    /// As [`Delivery::nak`].
    pub fn park(self, cause: u32) -> Result<(), Fenced> {
        self.fail(Verdict::Failed { delay_ms: 0, cause, for_good: true })
    }

    /// Takes the event out and leaves the delivery open, for [`crate::Consumer::ack_through`] to acknowledge.
    pub fn defer(mut self) -> EventView {
        self.is_armed = false;
        *self.event()
    }

    fn fail(mut self, verdict: Verdict) -> Result<(), Fenced> {
        self.is_armed = false;
        if self.give_back(verdict) { Ok(()) } else { Err(Fenced) }
    }

    /// `false`: it was taken away before.
    fn give_back(&self, verdict: Verdict) -> bool {
        if !self.sheet.is(self.at, Slot::Out) {
            return false;
        }
        let Some(home) = self.sheet.home.upgrade() else { return false };
        let failed = {
            let mut book = home.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.failed(&self.sheet, self.at, verdict, Instant::now())
        };
        self.sheet.tally.driver.notify_one();
        failed
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let panicked = Verdict::Failed { delay_ms: 0, cause: CAUSE_PANICKED, for_good: false };
        // It is nobody's if it was acknowledged or taken away.
        let _ = self.give_back(if std::thread::panicking() { panicked } else { Verdict::Dropped });
    }
}
