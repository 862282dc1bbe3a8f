//! What a replica starts from, and why it may refuse to.

use thiserror::Error;

use super::disk::{EntryKind, HardState, LogEntry, SnapshotMeta};
use crate::ledger::Ledger;
use crate::ledger::command::{Batch, EntryError};

/// What was recovered from the disk.
#[derive(Debug)]
pub struct Recovered {
    /// The snapshot the ledger was loaded from.
    pub snapshot: SnapshotMeta,
    /// The last index of the older snapshot that is kept, or of this one if there is no other: the log is kept from
    /// there on, so that either can be started from.
    pub older_snapshot: u64,
    /// The ledger as of that snapshot.
    pub ledger: Ledger,
    /// Raft's hard state.
    pub hard_state: HardState,
    /// The log; entries that the snapshot contains are ignored.
    pub entries: Vec<LogEntry>,
    /// The index of the received snapshot that the log was last reset to; 0 = never. The log may be empty behind it.
    pub log_base: u64,
}

/// Why a replica cannot start from what was recovered. Nothing has been changed.
#[derive(Debug, Error)]
pub enum StartError {
    /// Entries between snapshot and log are missing.
    #[error(
        "the snapshot ends at index {snapshot}, the log starts at {first}: entries between them are lost"
    )]
    Gap {
        /// The snapshot's last index.
        snapshot: u64,
        /// The log's first index.
        first: u64,
    },
    /// The log ends before the snapshot does.
    #[error("the snapshot ends at index {snapshot}, the log already at {last}: the end of the log is lost")]
    ShortLog {
        /// The snapshot's last index.
        snapshot: u64,
        /// The log's last index.
        last: u64,
    },
    /// An entry cannot be read.
    #[error("log entry {index}: {error}")]
    Entry {
        /// The entry's index.
        index: u64,
        /// What is wrong with it.
        error: EntryError,
    },
    /// Raft refused the state.
    #[error("raft refuses the recovered state: {0}")]
    Raft(#[from] raft::Error),
}

/// The entries behind the snapshot, if snapshot and log fit together and every entry can be read.
pub(super) fn fitting(
    snapshot: &SnapshotMeta,
    entries: Vec<LogEntry>,
    log_base: u64,
) -> Result<Vec<LogEntry>, StartError> {
    if let Some(first) = entries.first().filter(|first| first.index > snapshot.index + 1) {
        return Err(StartError::Gap { snapshot: snapshot.index, first: first.index });
    }
    // The log is kept from the older of two snapshots on, so it is never empty behind a newer one of its own.
    let last = entries.last().map_or(log_base, |last| last.index);
    if last < snapshot.index {
        return Err(StartError::ShortLog { snapshot: snapshot.index, last });
    }
    let entries: Vec<LogEntry> = entries.into_iter().filter(|entry| entry.index > snapshot.index).collect();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Normal && !entry.data.is_empty()) {
        Batch::access(&entry.data).map_err(|error| StartError::Entry { index: entry.index, error })?;
    }
    Ok(entries)
}
