//! What the tests of the log share: making entries, opening stores, copying directories as a crash would.
//!
//! Deliberately not here: assertions about any one rule.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;
use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry};
use sluice_engine::wal::{Backend, LogStore, MemoryDisk, Options, Recovered, StoreError};

/// What a child process says after each append that returned, before the append's number.
pub(crate) const ACKNOWLEDGED: &str = "acknowledged ";

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
    Append { hard_state: Some(HardState { term, vote: 1, commit }), entries, ..Append::default() }
}

/// Opens whatever is there with the default options.
pub(crate) fn open(data_dir: &Path) -> Result<(Box<dyn LogStore>, Recovered), StoreError> {
    Backend::open(data_dir, Options::default())
}

/// Creates and opens an empty store.
pub(crate) fn fresh(data_dir: &Path, backend: Backend) -> Box<dyn LogStore> {
    backend.create(data_dir).unwrap();
    let (store, recovered) = open(data_dir).unwrap();
    assert_eq!(recovered, Recovered { first_index: 1, ..Recovered::default() });
    store
}

/// Copies the files as they are at this moment: what a process that is killed now leaves behind.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    // The thread that makes room may rename or remove a file meanwhile. A crash knows no meanwhile: then once more.
    while let Err(error) = try_copy_dir(from, to) {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        fs::remove_dir_all(to).unwrap();
    }
}

fn try_copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}

/// Closes a store of any kind.
pub(crate) fn close(store: Box<dyn LogStore>) {
    store.close().unwrap();
}

/// The `number`th append, from 0, of a fixed sequence: growth, conflicts and compaction. Each is one atomic step.
pub(crate) fn workload(number: u64, len_max: u64) -> Append {
    // Each append adds three entries; each seventh begins a new term and first takes two of the old ones back.
    let terms = number / 7;
    let keep = 3 * number - 2 * terms;
    let len = usize::try_from(number * 7919 % len_max).unwrap();
    let mut step = append(entries(keep + 1, keep + 3, 1 + terms, len), 1 + terms, keep.saturating_sub(5));
    step.compact_to = keep.saturating_sub(40);
    step
}

/// What the first `count` appends leave.
pub(crate) fn after(count: u64, len_max: u64) -> Recovered {
    let disk = MemoryDisk::default();
    let (mut store, _) = disk.open();
    for number in 0..count {
        store.append(&workload(number, len_max)).unwrap();
    }
    disk.open().1
}

/// The same log, whatever of its removed front is still there.
pub(crate) fn same(found: &Recovered, model: &Recovered) -> bool {
    let front = usize::try_from(model.first_index.saturating_sub(found.first_index)).unwrap();
    found.hard_state == model.hard_state
        && found.compact_to == model.compact_to
        && found.first_index <= model.first_index
        && found.entries.get(front..) == Some(model.entries.as_slice())
}

/// Writes a line to whoever started this process.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}
