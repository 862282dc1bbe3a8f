//! Loss of power: a server's system calls are recorded, and disks rebuilt as they may be after any of them.
//!
//! The rooms, in the order of their use: `load` (real clients) → `trace` (what strace writes) → `record` (calls as
//! changes of a `tree`, and `wire`: what was said on the sockets) → `scene` (one recorded run) → `plan` (where it is
//! cut) → `disk` (what is left) → `judge` (the real server on it) → `oracle` (what must be found).

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

pub mod disk;
pub mod draw;
pub mod judge;
pub mod load;
pub mod oracle;
pub mod plan;
pub mod record;
pub mod scene;
pub mod trace;
pub mod tree;
pub mod wire;
