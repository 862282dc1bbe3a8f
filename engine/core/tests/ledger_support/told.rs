//! What applying one entry told, in the order in which it was told.
//!
//! Shared with the fuzz targets, which are in a workspace of their own. Deliberately not here: what it means.

use sluice_core::ledger::effect::{Effects, Event};
use sluice_protocol::{Answer, ProductId, ReservationId, UserId};

/// What one entry told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// One for each command.
    pub answers: Vec<Answer>,
    /// Changes.
    pub events: Vec<Event>,
    /// Product, units.
    pub credits: Vec<(u64, i64)>,
    /// Product, user, whether the user has any.
    pub buyers: Vec<(u64, u64, bool)>,
    /// Id, whether it is remembered.
    pub known: Vec<(u128, bool)>,
}

impl Effects for Told {
    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn credit(&mut self, product: ProductId, units: i64) {
        self.credits.push((product.0, units));
    }

    fn buyer(&mut self, product: ProductId, user: UserId, has: bool) {
        self.buyers.push((product.0, user.0, has));
    }

    fn known(&mut self, id: ReservationId, is: bool) {
        self.known.push((id.0, is));
    }
}
