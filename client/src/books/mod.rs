//! The books of a server as of one sequence: every product's units, and every reservation that stands behind them.
//!
//! For auditors. A server tells its books on its ops port (docs/OPERATIONS.md, "Reconciliation"); this is how they are
//! made, checked and read. Which events have happened decides all that counts in them, so two servers that have the same
//! sequence have the same books.
//!
//! - [`Entry`]: one reservation, and its share of a hash that does not depend on order
//! - [`Changes`]: what events have changed since a state, folded
//! - [`Merge`]: a state and the changes since, brought together; [`Sums`]: what comes of it, product by product
//! - [`bytes`]: the stream in which books travel
//! - [`BooksError`]: what does not add up
//!
//! Deliberately not here: where states and events come from, and comparing books with anybody else's.

pub mod bytes;
mod changes;
mod entry;
mod error;
mod merge;
#[cfg(test)]
mod tests;

pub use changes::{Change, Changes};
pub use entry::Entry;
pub use error::BooksError;
pub use merge::{Merge, ProductSums, Sums};
