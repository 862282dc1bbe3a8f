//! What Sluice must hold whatever bytes, commands or files it is given, as one function a target.
//!
//! Each target is `fn target(data: &[u8])` and panics when something does not hold. libFuzzer calls it through
//! `fuzz_targets/`; `cargo test` calls it with every input that was kept (`tests`). `targets.txt` is the list of all;
//! README.md says how to run them.
//!
//! The targets: [`frame`], [`session`], [`ledger`], [`entry`], [`snapshot`], [`wal`], [`segments`], [`peer`], and [`canary`], which must fail.
//! Their tools: [`naive`] (the protocol read plainly from its page), [`watch`] (a ledger under observation), [`books`]
//! (what its observer believes), [`script`] (commands from bytes), [`heap`] (bytes allocated).
//!
//! Deliberately not here: scenarios. What ought to happen in a particular case stands in the packages' own tests.

pub mod books;
pub mod canary;
mod consumers;
pub mod entry;
pub mod frame;
pub mod heap;
pub mod ledger;
pub mod naive;
pub mod peer;
pub mod script;
pub mod segments;
pub mod session;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod wal;
pub mod watch;

/// A target's body: it panics when something does not hold.
pub type Body = fn(&[u8]);

/// The bodies by name. A test compares them with `targets.txt`.
pub const BODIES: [(&str, Body); 9] = [
    ("frame", frame::target),
    ("session", session::target),
    ("ledger", ledger::target),
    ("entry", entry::target),
    ("snapshot", snapshot::target),
    ("wal", wal::target),
    ("segments", segments::target),
    ("peer", peer::target),
    ("canary", canary::target),
];
