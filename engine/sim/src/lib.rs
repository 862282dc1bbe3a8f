//! Sluice's simulator: whole clusters of the real core on one thread, under virtual time, with a network and disks that
//! fail in every way they may, and judges (`sluice-judges`) that are told every answer. One seed decides everything.
//!
//! - [`random`]: the only source of chance
//! - [`clock`], [`net`], [`disk`]: what a node has around it
//! - [`plan`], [`nemesis`]: what a run is, and what goes wrong in it
//! - `workload`: clients
//! - [`world`]: all of it together, event by event
//! - [`coverage`], [`trace`]: what a run has been through
//! - [`campaign`], [`shrink`]: many runs, and the shortest of one that fails

pub mod campaign;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod nemesis;
pub mod net;
pub mod panics;
pub mod plan;
pub mod random;
pub mod shrink;
pub mod trace;
mod workload;
pub mod world;
