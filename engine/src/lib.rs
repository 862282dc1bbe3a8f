//! The shell around `sluice-core`: configuration, command line, sockets, disk, and the ops port.
//!
//! The map:
//! - [`command`] the command line, one file a subcommand
//! - [`config`] what a node may be told, parsed into something that can only be valid
//! - [`node`] threads and queues; the only place where the paths come together
//! - [`net`] sockets of clients, [`peers`] those of other nodes and of operators; [`descriptors`] how many there may be
//! - [`wal`], [`snapshot`], [`stream`], [`datadir`] what is on disk
//! - [`ops`] metrics, health, and the port that shows them
//! - [`books`] what was sold as of any sequence, for auditors
//! - [`clock`] the only reader of time
//! - [`testing`] a real server inside a test; [`child`] one in a process of its own, to be killed
//! - [`failpoint`] where tests make it fail; empty in every build for users
//! - [`audit`] every answer of a sale held against the engine's books
//!
//! Deliberately not here: decisions. Whoever decides lives in `sluice-core`, without sockets, files or clocks.

pub mod audit;
pub mod books;
pub mod child;
pub mod clock;
pub mod command;
pub mod config;
pub mod datadir;
pub mod descriptors;
pub mod failpoint;
mod files;
pub mod net;
pub mod node;
pub mod ops;
pub mod peers;
pub mod snapshot;
pub mod stream;
pub mod testing;
pub mod wal;
