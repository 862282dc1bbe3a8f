//! How fast Sluice is, and how that compares.
//!
//! The map, from the wire upwards:
//! - [`workload`]: which requests are made, each a function of its number
//! - [`speech`]: what a system's wire looks like to a generator: Sluice's frames, Redis's commands
//! - [`line`](mod@line), [`driver`]: many connections on one thread, closed or open loop, without coordinated omission
//! - [`callers`]: the same workloads through the client crate
//! - [`server`]: servers of our own, started and stopped for a measurement; [`process`]: what they use
//! - [`measure`]: what a measurement says; [`machine`]: where it was made; [`chart`]: how it looks
//! - [`load`], [`restart`], [`idle`], [`failover`], [`catch_up`], [`stream`], [`postgres`], [`compare`]: the commands of the binary;
//!   [`given`]: what they have in common
//!
//! Stage benches (codec, gate, ledger, log) are in `benches/`. Deliberately not here: correctness. A figure of a
//! system that answers wrongly is worth nothing, and other tests see to that.

pub mod callers;
pub mod catch_up;
pub mod chart;
pub mod compare;
pub mod driver;
pub mod error;
pub mod failover;
pub mod given;
pub mod idle;
pub mod line;
pub mod load;
pub mod machine;
pub mod measure;
pub mod postgres;
pub mod process;
pub mod restart;
pub mod server;
pub mod speech;
pub mod stream;
pub mod workload;
