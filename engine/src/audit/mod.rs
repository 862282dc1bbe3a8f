//! The audit: every answer that was given, held against what became of its id.
//!
//! An [`Account`] records what was asked and what was answered, while a sale runs and servers die. Afterwards the
//! engine is read ([`fetch`]) and [`Account::judge`] looks for contradictions: a reservation that is gone, a refusal
//! that took units, a confirmed sale that expired, more units taken at some moment than there were. It relies on
//! nothing but the answers and the final state: an independent opinion, no part of the engine.
//!
//! One rule for those who are audited: after a definite no, or an error that says "nothing was done", try again
//! under a new id. Whoever heard nothing may use the old one.
//!
//! - [`Account`] what was asked; [`said`] what was answered
//! - [`Witness`] calls through the client crate, put on record
//! - `judge`: one id's answers; `history`: all events in the order of their sequences
//!
//! Deliberately not here: what to do in a sale. The demo and the kill test decide that.

mod fetch;
mod history;
mod judge;
pub mod said;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;

use sluice_client::{At, ProductId, ReservationId, UserId};

pub use fetch::{Books, Found, Shelf, fetch};
pub use judge::{Contradiction, Findings, ShelfFinding};
pub use said::Said;
pub use witness::Witness;

/// What a product was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Units at creation.
    pub stock: u64,
    /// Units that a user may have; 0 = any number.
    pub per_user_limit: u32,
    /// How long a hold lasts, milliseconds.
    pub hold_ms: u32,
}

/// What an id is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Take units.
    Reserve,
    /// Add units.
    Restock,
    /// Remove units.
    WriteOff,
}

/// One id, and what was asked under it.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The id.
    pub id: ReservationId,
    /// Which product.
    pub product: ProductId,
    /// For whom; 0 for changes of stock.
    pub user: UserId,
    /// How many units.
    pub quantity: u32,
    /// What for.
    pub purpose: Purpose,
    /// Whether a confirmation was sent, so that it may be confirmed.
    confirm_sent: bool,
    /// Whether a cancellation was sent, so that it may be cancelled.
    cancel_sent: bool,
    /// Whether something was sent that kills an id without an outcome.
    kill_sent: bool,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    ticket: Ticket,
    /// What it said.
    pub said: Said,
    /// The log index and ledger time at which it holds.
    pub at: At,
}

/// Names an [`Ask`] of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u32);

/// Everything that was asked and answered.
#[derive(Debug, Default)]
pub struct Account {
    products: BTreeMap<ProductId, Promise>,
    asks: Vec<Ask>,
    statements: Vec<Statement>,
}

impl Account {
    /// An account with room for so many ids, so that it does not move its tables in the midst of a rush.
    pub fn with_capacity(ids: usize) -> Self {
        Self { products: BTreeMap::new(), asks: Vec::with_capacity(ids), statements: Vec::with_capacity(ids) }
    }

    /// A product whose units are to be accounted for.
    pub fn product(&mut self, product: ProductId, promise: Promise) {
        self.products.insert(product, promise);
    }

    /// A new id is about to be used.
    ///
    /// # Panics
    /// If there are more than 2³² of them.
    pub fn ask(
        &mut self,
        id: ReservationId,
        product: ProductId,
        user: UserId,
        quantity: u32,
        purpose: Purpose,
    ) -> Ticket {
        let ticket = Ticket(u32::try_from(self.asks.len()).expect("an account has fewer than 2³² ids"));
        self.asks.push(Ask {
            id,
            product,
            user,
            quantity,
            purpose,
            confirm_sent: false,
            cancel_sent: false,
            kill_sent: false,
        });
        ticket
    }

    /// What was asked.
    pub fn asked(&self, ticket: Ticket) -> Ask {
        self.asks[ticket.0 as usize]
    }

    /// An answer was given.
    pub fn told(&mut self, ticket: Ticket, said: Said, at: At) {
        self.statements.push(Statement { ticket, said, at });
    }

    /// A confirmation is about to be sent.
    pub fn confirm_sent(&mut self, ticket: Ticket) {
        self.asks[ticket.0 as usize].confirm_sent = true;
    }

    /// A cancellation is about to be sent. It kills an id that has no outcome.
    pub fn cancel_sent(&mut self, ticket: Ticket) {
        let ask = &mut self.asks[ticket.0 as usize];
        (ask.cancel_sent, ask.kill_sent) = (true, true);
    }

    /// Something that kills an id without an outcome may have been sent: a resolve, by us or by the client crate for
    /// a call whose reply was lost.
    pub fn kill_sent(&mut self, ticket: Ticket) {
        self.asks[ticket.0 as usize].kill_sent = true;
    }

    /// Every id, in the order of the tickets.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = ReservationId> + '_ {
        self.asks.iter().map(|ask| ask.id)
    }

    /// The products.
    pub fn products(&self) -> impl ExactSizeIterator<Item = ProductId> + '_ {
        self.products.keys().copied()
    }

    /// Answers given so far.
    pub fn answers(&self) -> usize {
        self.statements.len()
    }
}
