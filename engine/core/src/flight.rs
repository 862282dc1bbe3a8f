//! What travels between a net thread and the replica: the part of one frame that only the log, or the ledger
//! itself, can answer. It goes there and comes back as one box, so that a frame costs one message each way.
//!
//! Relies on: nothing. Deliberately not here: who decides to send one (the desk), who answers it (the replica).

use std::sync::Arc;

use sluice_protocol::response::{ProductReply, ReservationReply};
use sluice_protocol::{Answer, ProductId, ReservationId};

use crate::gate::Gate;
use crate::ledger::command::Group;

/// Where a flight came from. The replica carries it back untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The net thread.
    pub thread: u16,
    /// That thread's name for the frame. Names are used again.
    pub frame: u32,
    /// Tells frames of one name apart.
    pub serial: u32,
}

/// What a flight asks for.
#[derive(Debug)]
pub enum Load {
    /// Commands for the log.
    Commands(Group),
    /// First attempts to reserve by buyers who may have reached their limit, or under ids that may be known: refused by
    /// the ledger as it stands if it refuses them, and commands for the log if not.
    Suspects(Group),
    /// Read reservations.
    Reservations(Vec<ReservationId>),
    /// Read products.
    Products(Vec<ProductId>),
    /// Read a page of products.
    Page {
        /// The smallest id wanted.
        from: ProductId,
        /// At most this many.
        limit: usize,
    },
}

/// What a flight brings back: as many as it has lines; a page, as many as it found.
#[derive(Debug)]
pub enum Answers {
    /// One for each line.
    Plain(Vec<Answer>),
    /// One for each line.
    Reservations(Vec<ReservationReply>),
    /// One for each line, or one for each product of a page.
    Products(Vec<ProductReply>),
}

impl Default for Answers {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Flight {
    /// Where it came from.
    pub origin: Origin,
    /// What it asks.
    pub load: Load,
    /// For each command, its line in the frame.
    pub lines: Vec<u16>,
    /// For each command, whether it carries its units as tokens taken from `gate`. Empty where none does.
    pub tokened: Vec<bool>,
    /// The gate those tokens were taken from, and may be returned to.
    pub gate: Option<Arc<Gate>>,
    /// Lines that were answered on the way; they are not among `lines` any more. They come back with the rest,
    /// since a box that left once must come back once.
    pub told: Vec<(u16, Answer)>,
    /// What came of it.
    pub answers: Answers,
}

impl Flight {
    /// Items it asks for.
    pub fn len(&self) -> usize {
        match &self.load {
            Load::Commands(group) | Load::Suspects(group) => group.len(),
            Load::Reservations(ids) => ids.len(),
            Load::Products(ids) => ids.len(),
            Load::Page { .. } => 1,
        }
    }

    /// Items that it left with: those it asks for, and those answered on the way.
    pub fn requests(&self) -> usize {
        self.len() + self.told.len()
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers every line alike: nothing was done, or nobody knows.
    pub fn answer_all(&mut self, answer: Answer) {
        self.answers = Answers::Plain(vec![answer; self.len()]);
    }

    /// Gives all its tokens back to the gate they came from. Without effect on a gate of another term: the tokens
    /// belong to that object alone.
    pub fn refund(&mut self, stripe: usize) {
        let Some(gate) = self.gate.take() else { return };
        if let Load::Commands(Group::Reserve(items)) | Load::Suspects(Group::Reserve(items)) = &self.load {
            for (item, _) in items.iter().zip(&self.tokened).filter(|(_, tokened)| **tokened) {
                if let Some(lane) = gate.lane(ProductId(item.product)) {
                    lane.tokens.give(stripe, u64::from(item.quantity));
                }
            }
        }
        self.tokened.clear();
    }
}
