//! What decides in Sluice.
//!
//! A request's way through this crate, which is also the order in which to read it:
//! [`session`] (bytes in, requests out, replies back) → [`desk`] (admits, doubts, answers no) with the
//! [`gate`] (lock-free tokens) and the [`board`] (what the replica has published) → a [`flight`] to the
//! [`replica`] (batches, raft) → the [`ledger`] (the state machine) → the flight comes back with its answers.
//!
//! What the ledger did is told by the [`stream`], to whoever consumes it.
//!
//! [`fault`] is for tests alone, and empty in every build for users.
//!
//! Deliberately not here: sockets, files, clocks, threads, random numbers. [`time`] and seeds enter as numbers,
//! bytes as slices; a test or a simulator owns them. `clippy.toml` beside `Cargo.toml` enforces it.

#![allow(
    clippy::vec_box,
    clippy::boxed_local,
    reason = "a flight passes through half a dozen queues between leaving a desk and coming back: as one word"
)]

pub mod board;
pub mod desk;
pub mod fault;
pub mod flight;
pub mod gate;
pub mod ledger;
pub mod replica;
pub mod session;
pub mod stream;
pub mod time;
