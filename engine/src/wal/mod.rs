//! The write-ahead log: what a node has promised to remember, and its hard state.
//!
//! [`LogStore`] is the whole interface; [`Backend`] chooses between [`SledStore`] and [`SegmentStore`];
//! [`MemoryStore`] is for tests. The order in which to read the first: [`record`] (the bytes of one record) → `plan`
//! (one append cut into small atomic steps) → `sled` (steps made durable) → [`fence`] (what was acknowledged, outside
//! the log) → `scan` (what is checked at open) → [`guard`] (how a panic or hang in there becomes a refusal). The other
//! is in [`segments`]. docs/STORAGE.md gives every byte and the reason for every rule.
//!
//! Deliberately not here: threads and queues (one thread owns a store), raft, snapshots.

mod backend;
mod error;
pub mod fence;
pub mod guard;
mod keeper;
mod memory;
mod plan;
pub mod record;
mod scan;
pub mod segments;
mod sled;

use std::time::{Duration, Instant};

use sluice_core::replica::disk::{Append, HardState, LogEntry};

pub use backend::Backend;
pub use error::StoreError;
pub use memory::{MemoryDisk, MemoryStore};
pub use plan::{STEP_BYTES_MAX, STEP_RECORDS_MAX, STEP_REMOVES_MAX};
pub use segments::SegmentStore;
pub use sled::SledStore;

/// Bytes in the data of one entry. sled keeps up to 20 items in a leaf, and a leaf above a quarter of a segment would
/// go to a file of its own that is never synced.
pub const ENTRY_DATA_MAX: usize = 64 * 1024;

/// How far the fence may lag behind what was acknowledged.
pub const FENCE_LAG_MAX: Duration = Duration::from_millis(100);

/// Where raft's log and hard state are kept.
///
/// The caller's duties: one thread owns the store; after any error it stops using it (every further call fails) and
/// ends the process; it calls [`settle`](LogStore::settle) when nothing was appended for [`FENCE_LAG_MAX`].
pub trait LogStore: Send {
    /// Stores one step. When this returns, it is durable: fdatasync has returned.
    ///
    /// A large step may be cut into several durable ones. A crash between them leaves a state that raft could have
    /// reached by itself: the term and the vote are in the first, the commit index never exceeds what is stored, and
    /// an old suffix is gone before anything replaces it. A reset happens in one of them: before it the old log is
    /// found, of which the end may be missing as far as the snapshot reaches, and from it on nothing of the old log.
    ///
    /// # Errors
    /// [`StoreError`]; the store is poisoned by it. A failed sync is never tried again: the kernel may have dropped
    /// the pages that it could not write.
    ///
    /// # Panics
    /// If the step breaks raft's own rules: entries that are not contiguous, leave a gap, replace what is committed,
    /// or exceed [`ENTRY_DATA_MAX`]; a term that falls; a second vote in one term; a reset to what lies before the
    /// commit index.
    fn append(&mut self, step: &Append) -> Result<Appended, StoreError>;

    /// Brings the fence up to what was acknowledged, if it lags.
    ///
    /// # Errors
    /// As [`append`](LogStore::append).
    fn settle(&mut self) -> Result<(), StoreError>;

    /// Writes and syncs the fence and lets go of the files.
    ///
    /// # Errors
    /// As [`append`](LogStore::append).
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Appended {
    /// Bytes of the records written, headers included, before sled's own overhead.
    pub bytes: u64,
    /// Time spent in fdatasync.
    pub fsync: Duration,
    /// The first index of the log now; `last_index + 1` if it has no entries.
    pub first_index: u64,
    /// The last index of the log now; the snapshot's if it has no entries.
    pub last_index: u64,
    /// Bytes that the log's data file occupies on disk.
    pub disk_bytes: u64,
}

/// What was found at open: everything that was ever acknowledged and is not in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Raft's hard state.
    pub hard_state: HardState,
    /// Contiguous, from `first_index`. The front may reach back behind `compact_to`: it is removed a few entries at a
    /// time.
    pub entries: Vec<LogEntry>,
    /// The index of the first entry; if there are none, the one that comes next.
    pub first_index: u64,
    /// Everything up to here is in a durable snapshot. 0 = nothing.
    pub compact_to: u64,
    /// The index of the received snapshot that the log was last reset to; 0 = never. All entries lie behind it.
    pub log_base: u64,
}

/// What is checked of all records at open, without files: keys with their records, in the order of the keys, against the
/// fence. Returns what a store would start with, and the fence that describes it. For fuzzing.
///
/// # Errors
/// Why they are refused, for people.
#[doc(hidden)]
pub fn check(
    records: &[(Vec<u8>, Vec<u8>)],
    fence: &fence::Mark,
) -> Result<(Recovered, fence::Mark), String> {
    let records = records.iter().map(|(key, value)| Ok((key, value)));
    let sound = scan::scan(records, fence).map_err(|refusal| format!("{refusal:?}"))?;
    Ok((sound.recovered, sound.mark))
}

/// Monotonic time; a test owns its own.
pub type Clock = Box<dyn Fn() -> Instant + Send>;

/// How to open a store.
pub struct Options {
    /// How long checking everything may take before the files are called damaged: sled can loop for ever on them.
    pub open_timeout: Duration,
    /// For the fence's lag and the figures in [`Appended`].
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self { open_timeout: Duration::from_secs(120), clock: Box::new(Instant::now) }
    }
}
