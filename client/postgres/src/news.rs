//! What a hand-off tells of itself while it works.
//!
//! Deliberately not here: errors that end it ([`crate::HandOffError`]).

use sluice_client::{ConsumeError, EventView};

/// What has happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum News {
    /// A connection to PostgreSQL is there and ready.
    Connected,
    /// A batch is committed.
    Committed {
        /// Events that took effect.
        done: usize,
        /// Events that had taken effect before, and were delivered again.
        repeated: usize,
    },
    /// PostgreSQL was lost, or could not do now what it was asked. It is tried again, on another connection.
    Lost {
        /// What was the matter.
        why: String,
    },
    /// Servers of Sluice do not answer, lanes have moved, an event was damaged on its way: the consumer goes on by itself.
    Troubled(ConsumeError),
    /// The effect refuses an event. It is delivered again as the group's terms say; others go on, but for what is behind
    /// it in its lane.
    Failed {
        /// The event.
        event: EventView,
        /// What is kept with a dead letter: a SQLSTATE in base 36, or the effect's own code.
        cause: u32,
        /// For people.
        why: String,
    },
    /// An event was refused for the last time: it is a dead letter of the group now.
    Parked {
        /// The event.
        event: EventView,
        /// Deliveries that failed.
        attempts: u64,
    },
    /// Events are kept no more and never come. It is noted in `sluice_gaps`.
    Gap {
        /// The first that may be missing.
        from: u64,
        /// The last that is.
        to: u64,
    },
}

/// All news, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events that took effect.
    pub events: u64,
    /// Transactions in which they did.
    pub batches: u64,
    /// Events that had taken effect before, and were delivered again.
    pub repeated: u64,
    /// Connections to PostgreSQL.
    pub connections: u64,
    /// Times that PostgreSQL was lost.
    pub losses: u64,
    /// Times that Sluice was in trouble.
    pub troubles: u64,
    /// Deliveries that the effect refused.
    pub failures: u64,
    /// Dead letters.
    pub parked: u64,
    /// Gaps.
    pub gaps: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, news: &News) {
        match news {
            News::Connected => self.connections += 1,
            News::Committed { done, repeated } => {
                self.events += *done as u64;
                self.repeated += *repeated as u64;
                self.batches += 1;
            }
            News::Lost { .. } => self.losses += 1,
            News::Troubled(_) => self.troubles += 1,
            News::Failed { .. } => self.failures += 1,
            News::Parked { .. } => self.parked += 1,
            News::Gap { .. } => self.gaps += 1,
        }
    }
}
