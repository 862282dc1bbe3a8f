//! What the tests of the log share: making entries, opening stores, copying directories as a crash would.
//!
//! Deliberately not here: assertions about any one rule.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry};
use sluice_engine::wal::{LogStore, Options, Recovered, SledStore, StoreError};

/// An entry whose bytes depend on all that identifies it, so that a wrong one cannot pass for the right one.
pub(crate) fn entry(index: u64, term: u64, len: usize) -> LogEntry {
    let mut word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ term;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        data.extend_from_slice(&(word >> 7).to_le_bytes());
    }
    data.truncate(len);
    LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::from(data) }
}

/// Entries `first..=last` of one term and one length.
pub(crate) fn entries(first: u64, last: u64, term: u64, len: usize) -> Vec<LogEntry> {
    (first..=last).map(|index| entry(index, term, len)).collect()
}

/// An append with entries and a hard state.
pub(crate) fn append(entries: Vec<LogEntry>, term: u64, commit: u64) -> Append {
    Append { hard_state: Some(HardState { term, vote: 1, commit }), entries, compact_to: 0 }
}

/// Opens with the default options.
pub(crate) fn open(data_dir: &Path) -> Result<(Box<SledStore>, Recovered), StoreError> {
    SledStore::open(data_dir, Options::default()).map(|(store, recovered)| (Box::new(store), recovered))
}

/// Creates and opens an empty store.
pub(crate) fn fresh(data_dir: &Path) -> Box<SledStore> {
    SledStore::create(data_dir).unwrap();
    let (store, recovered) = open(data_dir).unwrap();
    assert_eq!(recovered, Recovered { first_index: 1, ..Recovered::default() });
    store
}

/// Copies the files as they are at this moment: what a process that is killed now leaves behind.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

/// Closes a boxed store of any kind.
pub(crate) fn close(store: Box<impl LogStore + 'static>) {
    let store: Box<dyn LogStore> = store;
    store.close().unwrap();
}
