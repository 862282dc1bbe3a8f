//! The part of the raft log that raft may still ask for, in memory; raft's `Storage`.
//!
//! Entries enter when raft hands them out to be written, before the disk has them: raft keeps its own account of what
//! is persisted. Relies on the caller to compact behind snapshots. Hundreds of thousands of entries may be kept, so they
//! lie in pieces, and are forgotten a few with each append: neither growing nor a snapshot costs a long step.
//! Deliberately not here: the disk.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::prelude::{Entry, EntryType, HardState as RaftHardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::disk::{EntryKind, HardState, LogEntry, Members, SnapshotMeta};

/// Entries of one piece.
const PIECE: usize = 512;

/// Entries that one call forgets.
const FORGET_MAX: usize = 64;

/// A row of entries that grows without copying them.
#[derive(Debug, Default)]
struct Pieces {
    /// All but the last are full.
    pieces: VecDeque<Vec<Entry>>,
    /// Places at the front of the first piece whose entries were popped.
    popped: usize,
    len: usize,
}

impl Pieces {
    fn push(&mut self, entry: Entry) {
        if self.pieces.back().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push_back(Vec::with_capacity(PIECE));
        }
        self.pieces.back_mut().expect("it was just made").push(entry);
        self.len += 1;
    }

    fn get(&self, at: usize) -> Option<&Entry> {
        let at = at + self.popped;
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    fn pop_front(&mut self) -> Option<Entry> {
        let entry = std::mem::take(self.pieces.front_mut()?.get_mut(self.popped)?);
        self.popped += 1;
        self.len -= 1;
        if self.popped == PIECE {
            self.pieces.pop_front();
            self.popped = 0;
        }
        Some(entry)
    }

    fn truncate(&mut self, len: usize) {
        while self.len > len {
            let last = self.pieces.back_mut().expect("what is counted is there");
            last.pop();
            self.len -= 1;
            if last.is_empty() {
                self.pieces.pop_back();
            }
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct LogCache {
    entries: Pieces,
    /// Index and term of the entry just before the first one kept.
    floor: (u64, u64),
    /// Entries up to this index may be forgotten.
    compact_to: u64,
    hard_state: HardState,
    members: Members,
    /// The newest durable snapshot.
    snapshot: SnapshotMeta,
    /// A follower needs a newer one than there is.
    is_snapshot_wanted: Cell<bool>,
}

impl LogCache {
    /// The log as it was recovered: `entries` follow the snapshot without a gap.
    pub(super) fn new(meta: &SnapshotMeta, hard_state: HardState, entries: Vec<LogEntry>) -> Self {
        let mut log = Self {
            entries: Pieces::default(),
            floor: (meta.index, meta.term),
            compact_to: meta.index,
            hard_state,
            members: meta.members.clone(),
            snapshot: meta.clone(),
            is_snapshot_wanted: Cell::new(false),
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
        assert!(keep <= self.entries.len as u64, "the log has no gap");
        self.entries.truncate(keep as usize);
        for entry in entries {
            self.entries.push(entry.clone());
        }
        self.forget();
    }

    /// Lets entries up to `index`, which are in a durable snapshot, be forgotten: a few now, a few with each append.
    pub(super) fn compact(&mut self, index: u64) {
        assert!(index <= self.last(), "a snapshot is not ahead of the log");
        self.compact_to = self.compact_to.max(index);
        self.forget();
    }

    /// A snapshot is durable: followers may be sent it.
    pub(super) fn offer(&mut self, snapshot: SnapshotMeta) {
        self.snapshot = snapshot;
    }

    /// Begins anew behind a snapshot that came from the leader.
    pub(super) fn reset(&mut self, snapshot: &SnapshotMeta) {
        self.entries = Pieces::default();
        self.floor = (snapshot.index, snapshot.term);
        self.compact_to = snapshot.index;
        self.snapshot = snapshot.clone();
    }

    /// Whether a follower has needed a newer snapshot since this was last asked.
    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.is_snapshot_wanted.take()
    }

    fn forget(&mut self) {
        for _ in 0..FORGET_MAX {
            if self.floor.0 >= self.compact_to {
                return;
            }
            let entry = self.entries.pop_front().expect("a snapshot is not ahead of the log");
            self.floor = (entry.index, entry.term);
        }
    }

    fn last(&self) -> u64 {
        self.floor.0 + self.entries.len as u64
    }
}

impl Storage for LogCache {
    fn initial_state(&self) -> Result<RaftState> {
        let mut hard_state = RaftHardState::default();
        hard_state.set_term(self.hard_state.term);
        hard_state.set_vote(self.hard_state.vote);
        // The commit index may have been written ahead of nothing: entries and it share a durable step.
        hard_state.set_commit(self.hard_state.commit.clamp(self.floor.0, self.last()));
        Ok(RaftState { hard_state, conf_state: self.members.to_conf_state() })
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
        let max = max_size.into();
        // No more than fits is looked at: whoever lacks a gigabyte is sent it in thousands of messages.
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for at in from..to {
            if max.is_some_and(|max| bytes > max) {
                break;
            }
            let entry = self.entries.get(at).expect("what is below the last is there");
            bytes += entry.data.len() as u64;
            entries.push(entry.clone());
        }
        raft::util::limit_size(&mut entries, max);
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

    /// Only its name: the data travels by itself (`transfer`).
    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let newest = &self.snapshot;
        // One without the follower among its members would be refused there.
        let serves = newest.index >= request_index.max(1) && newest.members.contains(to);
        if !serves || newest.index < self.floor.0 {
            self.is_snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        (meta.index, meta.term) = (newest.index, newest.term);
        meta.set_conf_state(newest.members.to_conf_state());
        Ok(snapshot)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: u64) -> LogCache {
        let meta = SnapshotMeta { index: 0, term: 0, members: Members::default() };
        let mut log = LogCache::new(&meta, HardState::default(), Vec::new());
        log.append(&(1..=entries).map(|index| entry(index, 1)).collect::<Vec<_>>());
        log
    }

    fn entry(index: u64, term: u64) -> Entry {
        let mut entry = Entry::default();
        entry.set_index(index);
        entry.set_term(term);
        entry
    }

    /// What raft may ask, at every index of a log in several pieces, while it is forgotten and written again.
    #[test]
    fn a_log_in_pieces_is_a_log() {
        let pieces = 3 * PIECE as u64 + 5;
        let mut log = log(pieces);
        log.compact(PIECE as u64 + 100);
        assert_eq!(log.first_index().unwrap(), FORGET_MAX as u64 + 1, "a few now");
        let mut last = pieces;
        for _ in 0..PIECE {
            last += 1;
            log.append(&[entry(last, 2)]);
        }
        assert_eq!(log.first_index().unwrap(), PIECE as u64 + 101, "all of them in the end, and no more");
        assert_eq!(log.last_index().unwrap(), last);
        // A new leader replaces the end, across a piece's edge.
        let replaced = 2 * PIECE as u64;
        log.append(&[entry(replaced, 3)]);
        assert_eq!(log.last_index().unwrap(), replaced);
        for index in PIECE as u64 + 101..=replaced {
            assert_eq!(log.term(index).unwrap(), if index == replaced { 3 } else { 1 });
            let entries = log.entries(index, index + 1, None, GetEntriesContext::empty(false)).unwrap();
            assert_eq!(entries[0].index, index);
        }
        assert_eq!(log.term(PIECE as u64 + 100).unwrap(), 1, "the one just before the first");
        assert!(log.term(PIECE as u64 + 99).is_err() && log.term(replaced + 1).is_err());
        // All of it replaced, then all of it forgotten.
        log.append(&[entry(PIECE as u64 + 101, 4)]);
        log.compact(PIECE as u64 + 101);
        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (614, 613));
        log.append(&[entry(614, 5)]);
        assert_eq!(log.term(614).unwrap(), 5);
    }
}
