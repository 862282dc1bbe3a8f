//! The judges of Sluice: what clients sent and heard, and what nodes wrote, held against a naive model and against one
//! checker for each invariant.
//!
//! - [`history`]: what clients sent and heard
//! - [`consume`]: what is asked of consumer groups
//! - [`model`]: the service, naively
//! - [`checkers`]: the invariants, one file each, for a run that is watched while it happens
//! - [`recorded`]: those of them that need no inside knowledge, for a run that is over: of real processes
//!
//! Deliberately not here: runs. The simulator makes them, and so do the engine's tests with real clusters.

pub mod checkers;
pub mod consume;
pub mod history;
pub mod model;
pub mod recorded;
