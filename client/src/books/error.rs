//! What does not add up in books, and what to do about it.

use std::io;

use sluice_protocol::{ProductId, ReservationId};
use thiserror::Error;

/// Why there are no books.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BooksError {
    /// Events were given in another order than they happened, or one was left out.
    #[error("event {got} came where event {expected} was to come")]
    NotNext {
        /// The sequence that follows.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// An event cannot follow those before it.
    #[error("event {sequence} contradicts what happened to {id} before: ask another node, and report this")]
    Contradicts {
        /// Its sequence.
        sequence: u64,
        /// Its reservation.
        id: ReservationId,
    },
    /// The state does not have what the events after it begin with.
    #[error("the state contradicts the events after it about {id}: ask another node, and report this")]
    Torn {
        /// The reservation.
        id: ReservationId,
    },
    /// The units of a product are not those of its reservations.
    #[error(
        "product {product} does not have the units of its reservations: ask another node, and report this"
    )]
    Unbalanced {
        /// The product.
        product: ProductId,
    },
    /// A stream of books was cut off, or is none.
    #[error("the books that were read are not what was sent: {0}; ask again")]
    Damaged(&'static str),
    /// They could not be read.
    #[error("the books could not be read: {0}; ask again")]
    Io(#[from] io::Error),
}
