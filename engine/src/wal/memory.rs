//! The log in memory, for tests: the same contract as the one on disk, and it can be told to fail.
//!
//! A [`MemoryDisk`] outlives the [`MemoryStore`]s opened on it, as a disk outlives processes. Deliberately not here:
//! the cutting into steps; an append is atomic.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use sluice_core::replica::disk::{Append, HardState, LogEntry};

use super::{Appended, LogStore, Recovered, StoreError};

/// What survives.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    hard_state: HardState,
    entries: Vec<LogEntry>,
    end_index: u64,
    compact_to: u64,
    log_base: u64,
    /// Appends that still succeed; `None` = all.
    appends_left: Option<u64>,
}

/// A log store on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    poisoned: bool,
}

impl MemoryDisk {
    /// Opens the store on this disk, with what was stored before.
    pub fn open(&self) -> (MemoryStore, Recovered) {
        let contents = self.0.lock();
        let first_index = contents.first_index();
        let recovered = Recovered {
            hard_state: contents.hard_state,
            entries: contents.entries.clone(),
            first_index,
            compact_to: contents.compact_to,
            log_base: contents.log_base,
        };
        (MemoryStore { disk: self.clone(), poisoned: false }, recovered)
    }

    /// Lets `appends` more succeed; then the disk is full.
    pub fn fail_after(&self, appends: u64) {
        self.0.lock().appends_left = Some(appends);
    }
}

impl Contents {
    fn first_index(&self) -> u64 {
        self.entries.first().map_or(self.end_index + 1, |e| e.index)
    }

    fn apply(&mut self, step: &Append) {
        if let Some((index, _)) = step.reset {
            let fixed = self.hard_state.commit.max(self.compact_to);
            assert!(index >= fixed, "a reset to {index} would take back what is committed");
            self.entries.clear();
            (self.log_base, self.end_index, self.compact_to) = (index, index, index);
        }
        self.compact_to = self.compact_to.max(step.compact_to);
        self.end_index = self.end_index.max(self.compact_to);
        if let Some(hard_state) = step.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "raft's term never falls");
            self.hard_state = hard_state;
        }
        if let (Some(first), Some(last)) = (step.entries.first(), step.entries.last()) {
            assert!(first.index <= self.end_index + 1, "entry {} leaves a gap", first.index);
            assert!(first.index > self.compact_to, "entry {} would replace a committed one", first.index);
            self.entries.retain(|e| e.index < first.index);
            self.entries.extend_from_slice(&step.entries);
            self.end_index = last.index;
        }
        let compact_to = self.compact_to;
        self.entries.retain(|e| e.index > compact_to);
    }
}

impl LogStore for MemoryStore {
    fn append(&mut self, step: &Append) -> Result<Appended, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned { cause: "the memory disk was told to fail".to_owned() });
        }
        let mut contents = self.disk.0.lock();
        match &mut contents.appends_left {
            Some(0) => {
                self.poisoned = true;
                return Err(StoreError::DiskFull { file: PathBuf::from("memory"), doing: "writing the log" });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        contents.apply(step);
        let bytes = step.entries.iter().map(|e| e.data.len() as u64).sum();
        let disk_bytes = contents.entries.iter().map(|e| e.data.len() as u64).sum();
        Ok(Appended {
            bytes,
            disk_bytes,
            first_index: contents.first_index(),
            last_index: contents.end_index,
            ..Appended::default()
        })
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}
