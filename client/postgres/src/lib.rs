//! Hands the stream of events to PostgreSQL, exactly once in its effect: orders and cursor in one transaction.
//!
//! # The map
//! - [`orders`]: the ready-made effect, one row for each reservation
//! - [`books`]: what the database says as of one moment, for whoever audits it
//! - [`LedgerTables`]: the hand-off's own tables
//! - [`TableName`], [`ShapeError`]: how tables are called and made
//!
//! Inside: `values` (numbers as PostgreSQL keeps them), `shape` (tables), `ledger` (cursors and what was passed over).

pub mod books;
mod ledger;
pub mod orders;
mod shape;
mod values;

pub use ledger::LedgerTables;
pub use shape::{ShapeError, TableName};
