//! The shell around `sluice-core`: configuration, command line, sockets, disk, and the ops port.
//!
//! The map:
//! - [`ops`]: metrics and health
//!
//! Deliberately not here: decisions. Whoever decides lives in `sluice-core`, without sockets, files or clocks.

pub mod ops;
