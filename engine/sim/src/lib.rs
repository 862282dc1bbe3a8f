//! Sluice's simulator: whole clusters of the real core on one thread, under virtual time, with a network and disks that
//! fail in every way they may, and judges that know every answer ever given. One seed decides everything.
//!
//! - [`history`]: what clients sent and heard
//! - [`model`]: the service, naively
//! - [`checkers`]: the invariants, one file each

pub mod checkers;
pub mod history;
pub mod model;
