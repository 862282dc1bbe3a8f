//! Invariant 6: a reservation in any reply exists at or below the reply's index.

use sluice_protocol::State;

use super::Violation;
use super::setup::violation;
use crate::history::{Call, Reply};
use crate::model::Timeline;

/// See the module.
#[derive(Debug, Default)]
pub struct Existence {
    /// Replies that named a reservation.
    pub checks: u64,
}

impl Existence {
    /// A client heard a reply.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(&mut self, call: &Call, reply: &Reply, timeline: &Timeline) -> Result<(), Violation> {
        let (Some(id), Some(answer)) = (call.ask.id(), reply.answer()) else { return Ok(()) };
        if answer.state() == State::None {
            return Ok(());
        }
        self.checks += 1;
        match timeline.known_since(id) {
            Some(since) if since <= answer.at().index => Ok(()),
            Some(since) => {
                violation!("existence", "{answer:?} names {id:032x}, which exists since index {since}")
            }
            None => violation!("existence", "{answer:?} names {id:032x}, which is nowhere in the log"),
        }
    }
}
