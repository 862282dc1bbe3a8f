//! The shell around `sluice-core`: configuration, command line, sockets, disk, and the ops port.
//!
//! The map:
//! - [`config`]: what a node may be told, parsed into something that can only be valid
//! - [`ops`]: metrics and health
//!
//! Deliberately not here: decisions. Whoever decides lives in `sluice-core`, without sockets, files or clocks.

pub mod config;
pub mod ops;
