//! The books of this node as of any sequence that it can still have: what auditors ask for on the ops port.
//!
//! A state is read once, row by row, and carried forward by the events after it: [`sluice_client::books`]. So the answer is
//! exact at the very event, and the same on every node. The sale does not wait for it: the replica freezes its state in
//! microseconds, and copies what it changes while the state is being read.
//!
//! - `Teller`: finds a state and the events after it, and tells what comes of them
//! - `base`: the state now, a snapshot file, or nothing at all
//! - [`NoBooks`]: why not, and what to ask instead
//! - [`digest`]: the sums, for people and programs
//!
//! Deliberately not here: HTTP ([`crate::ops`]), and tables of others.

mod base;
pub mod digest;
mod refusal;
mod teller;

pub use refusal::NoBooks;
pub(crate) use teller::{Asked, Begun, Gone, Teller, Walked};
