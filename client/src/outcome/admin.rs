//! Final answers about products: puts, changes of stock, seals.
//!
//! Read like those about reservations: see [`crate::outcome`].

use sluice_protocol::{Answer, ReservationId, State, Status};

use super::{At, Invalid};

/// What became of a put or a change of terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the product may differ from what was put"]
pub enum PutOutcome {
    /// The product is as it was put.
    Done {
        /// The sequence number of the event; 0 if nothing needed changing.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// The product exists, and was created with another stock. A put never changes stock: restock or write off.
    StockDiffers {
        /// Its stock at creation.
        stock_at_creation: u64,
        /// When this held.
        at: At,
    },
    /// The terms of a product were to change that does not exist.
    UnknownProduct {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl PutOutcome {
    /// Whether the product is as it was put.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let at = answer.at();
        Some(match answer.status()? {
            Status::Done => Self::Done { sequence: answer.sequence(), at },
            Status::StockDiffers => Self::StockDiffers { stock_at_creation: answer.stock_at_creation(), at },
            Status::UnknownProduct => Self::UnknownProduct { at },
            Status::Invalid => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// What became of a restock or a write-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "only Done means that the stock changed"]
pub enum StockOutcome {
    /// The stock changed, once.
    Done {
        /// The id of the change.
        id: ReservationId,
        /// The sequence number of the event.
        sequence: u64,
        /// Whether an earlier request with this id did it.
        repeated: bool,
        /// When this held.
        at: At,
    },
    /// Fewer units are free than were to be written off.
    Insufficient {
        /// Free units.
        free: u64,
        /// Held units, which may come back.
        held: u64,
        /// The earliest time at which a hold could end, ledger milliseconds; 0 = nothing is held.
        earliest_return_ms: u64,
        /// When this held.
        at: At,
    },
    /// The product is sealed: its stock never grows again.
    Sealed {
        /// When this held.
        at: At,
    },
    /// No such product.
    UnknownProduct {
        /// When this held.
        at: At,
    },
    /// An earlier request with this id was refused, for good. A new wish needs a new id.
    RefusedEarlier {
        /// How it was refused.
        with: Status,
        /// When this held.
        at: At,
    },
    /// The id belongs to another request.
    IdConflict {
        /// When this held.
        at: At,
    },
    /// The id was cancelled or resolved before it did anything, and is dead.
    Fenced {
        /// When this held.
        at: At,
    },
    /// A field is out of its range, or the product is unlimited and has no stock to change.
    Invalid(Invalid),
}

impl StockOutcome {
    /// Whether the stock changed.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    /// Reads the answer to a change of stock or, equally, to a resolve of its id.
    pub(crate) fn read(id: ReservationId, answer: &Answer) -> Option<Self> {
        let (at, sequence) = (answer.at(), answer.sequence());
        Some(match (answer.status()?, answer.state()) {
            (Status::Done, _) => Self::Done { id, sequence, repeated: false, at },
            (Status::Already, State::Applied) => Self::Done { id, sequence, repeated: true, at },
            (Status::Already, State::Refused) => Self::RefusedEarlier { with: answer.refused_with()?, at },
            (Status::Fenced, _) | (Status::Already, State::Fenced) => Self::Fenced { at },
            (Status::Insufficient, _) => Self::Insufficient {
                free: answer.free(),
                held: answer.held(),
                earliest_return_ms: answer.earliest_return_ms(),
                at,
            },
            (Status::Sealed, _) => Self::Sealed { at },
            (Status::UnknownProduct, _) => Self::UnknownProduct { at },
            (Status::IdConflict, _) => Self::IdConflict { at },
            (Status::Invalid, _) => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// What became of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "only Sealed means that the product is sealed"]
pub enum SealOutcome {
    /// The product's stock never grows again.
    Sealed {
        /// The sequence number of the event; 0 if it was sealed before.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// No such product.
    UnknownProduct {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl SealOutcome {
    /// Whether the product is sealed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed { .. })
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let at = answer.at();
        Some(match answer.status()? {
            Status::Done => Self::Sealed { sequence: answer.sequence(), at },
            Status::UnknownProduct => Self::UnknownProduct { at },
            Status::Invalid => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}
