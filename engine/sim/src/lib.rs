//! Sluice's simulator: whole clusters of the real core on one thread, under virtual time, with a network and disks that
//! fail in every way they may, and judges that know every answer ever given. One seed decides everything.
//!
//! - [`random`]: the only source of chance
//! - [`clock`], [`net`], [`disk`]: what a node has around it
//! - [`plan`], [`nemesis`]: what a run is, and what goes wrong in it
//! - `workload`: clients
//! - [`world`]: all of it together, event by event
//! - [`history`]: what clients sent and heard
//! - [`model`]: the service, naively
//! - [`checkers`]: the invariants, one file each
//! - [`coverage`], [`trace`]: what a run has been through
//! - [`campaign`], [`shrink`]: many runs, and the shortest of one that fails

pub mod campaign;
pub mod checkers;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod history;
pub mod model;
pub mod nemesis;
pub mod net;
pub mod panics;
pub mod plan;
pub mod random;
pub mod shrink;
pub mod trace;
mod workload;
pub mod world;
