//! The atomics of the gate. Under `--cfg loom` they are loom's, so that the very code that sells also runs
//! through every interleaving loom can think of (`tests/gate_loom.rs`).
//!
//! Deliberately not here: anything that waits. Nothing in the gate takes a lock.

#[cfg(loom)]
pub(super) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};
