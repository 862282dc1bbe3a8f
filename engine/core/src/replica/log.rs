//! The part of the raft log that raft may still ask for, in memory; raft's `Storage`.
//!
//! Entries enter when raft hands them out to be written, before the disk has them: raft keeps its own account of what
//! is persisted. Relies on the caller to compact behind snapshots. Deliberately not here: the disk.

use std::collections::VecDeque;

use raft::prelude::{ConfState, Entry, EntryType, HardState as RaftHardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::disk::{EntryKind, HardState, LogEntry, Members, SnapshotMeta};

/// See the module.
#[derive(Debug)]
pub(super) struct LogCache {
    entries: VecDeque<Entry>,
    /// Index and term of the entry just before the first one kept.
    floor: (u64, u64),
    hard_state: HardState,
    members: Members,
}

impl LogCache {
    /// The log as it was recovered: `entries` follow the snapshot without a gap.
    pub(super) fn new(meta: &SnapshotMeta, hard_state: HardState, entries: Vec<LogEntry>) -> Self {
        let mut log = Self {
            entries: VecDeque::with_capacity(entries.len()),
            floor: (meta.index, meta.term),
            hard_state,
            members: meta.members.clone(),
        };
        let entries: Vec<Entry> = entries.into_iter().map(to_raft).collect();
        log.append(&entries);
        log
    }

    /// Adds entries, replacing whatever stood at the first one's index and behind.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep =
            first.index.checked_sub(self.floor.0 + 1).expect("nothing behind a snapshot is written again");
        assert!(keep <= self.entries.len() as u64, "the log has no gap");
        self.entries.truncate(keep as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to `index`, which are in a durable snapshot.
    pub(super) fn compact(&mut self, index: u64) {
        while self.floor.0 < index {
            let entry = self.entries.pop_front().expect("a snapshot is not ahead of the log");
            self.floor = (entry.index, entry.term);
        }
    }

    fn last(&self) -> u64 {
        self.floor.0 + self.entries.len() as u64
    }
}

impl Storage for LogCache {
    fn initial_state(&self) -> Result<RaftState> {
        let mut hard_state = RaftHardState::default();
        hard_state.set_term(self.hard_state.term);
        hard_state.set_vote(self.hard_state.vote);
        // The commit index may have been written ahead of nothing: entries and it share a durable step.
        hard_state.set_commit(self.hard_state.commit.clamp(self.floor.0, self.last()));
        let mut conf_state = ConfState::default();
        conf_state.set_voters(self.members.voters.clone());
        conf_state.set_learners(self.members.learners.clone());
        Ok(RaftState { hard_state, conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.floor.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "raft asks only for what it was told is there");
        let from = (low - self.floor.0 - 1) as usize;
        let to = (high - self.floor.0 - 1) as usize;
        let mut entries: Vec<Entry> = self.entries.range(from..to).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.floor.0 {
            return Ok(self.floor.1);
        }
        let Some(at) = index.checked_sub(self.floor.0 + 1) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        self.entries.get(at as usize).map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.floor.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _: u64, _: u64) -> Result<Snapshot> {
        // Only a leader with followers that have fallen behind asks.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// An entry as raft holds it.
fn to_raft(entry: LogEntry) -> Entry {
    let mut raft = Entry::default();
    raft.set_index(entry.index);
    raft.set_term(entry.term);
    raft.set_entry_type(match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::Membership => EntryType::EntryConfChangeV2,
    });
    raft.data = entry.data;
    raft
}

/// An entry as the disk holds it. The bytes are shared, not copied.
pub(super) fn to_disk(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
        },
        data: entry.data.clone(),
    }
}
