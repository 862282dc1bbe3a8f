//! Any sequence of appends, conflicts, votes, compactions, resets, kills and clean stops leaves what a plain vector says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use proptest::prelude::*;
use sluice_core::replica::disk::{Append, HardState, LogEntry};
use sluice_engine::wal::{Backend, LogStore, MemoryDisk};
use wal_support::{close, copy_dir, entry, fresh, open};

#[derive(Clone, Debug)]
enum Op {
    /// So many new entries of such a length.
    Extend {
        count: u64,
        len: usize,
    },
    /// Uncommitted entries from the end are replaced in a new term.
    Conflict {
        back: u64,
        count: u64,
        len: usize,
    },
    Vote,
    /// This share of what may be compacted is.
    Compact {
        percent: u64,
    },
    /// A snapshot overtakes the log.
    Install {
        ahead: u64,
    },
    /// A snapshot from the leader takes the log's place, so far before or behind its end, with entries that follow it.
    Reset {
        back: u64,
        ahead: u64,
        count: u64,
        len: usize,
    },
    Kill,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![Just(0_usize), 1..300_usize, Just(65_536_usize)];
    prop_oneof![
        6 => (1..20_u64, len()).prop_map(|(count, len)| Op::Extend { count, len }),
        2 => (1..60_u64, 1..20_u64, len()).prop_map(|(back, count, len)| Op::Conflict { back, count, len }),
        1 => Just(Op::Vote),
        3 => (0..=100_u64).prop_map(|percent| Op::Compact { percent }),
        1 => (0..50_u64).prop_map(|ahead| Op::Install { ahead }),
        2 => (0..60_u64, 0..60_u64, 0..40_u64, len())
            .prop_map(|(back, ahead, count, len)| Op::Reset { back, ahead, count, len }),
        2 => Just(Op::Kill),
        1 => Just(Op::Restart),
    ]
}

/// The plain vector. `entries[i]` has index `base + i + 1`; `base` moves only when a snapshot is installed.
#[derive(Default)]
struct Model {
    base: u64,
    log_base: u64,
    entries: Vec<LogEntry>,
    hard: HardState,
    compact_to: u64,
}

impl Model {
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn step(&mut self, op: &Op) -> Option<Append> {
        let mut step = Append::default();
        match *op {
            Op::Extend { count, len } => step.entries = self.extend(count, len),
            Op::Conflict { back, count, len } => {
                let keep = self.end().saturating_sub(back).max(self.hard.commit).max(self.compact_to);
                self.entries.truncate(usize::try_from(keep - self.base).unwrap());
                self.hard = HardState { term: self.hard.term + 1, vote: 2, ..self.hard };
                step.entries = self.extend(count, len);
            }
            Op::Vote => self.hard = HardState { term: self.hard.term + 1, vote: 7, ..self.hard },
            Op::Compact { percent } => {
                self.compact_to += (self.hard.commit.max(self.compact_to) - self.compact_to) * percent / 100;
                step.compact_to = self.compact_to;
            }
            Op::Install { ahead } => {
                self.base = self.end() + ahead;
                self.entries.clear();
                self.compact_to = self.base;
                self.hard.commit = self.base;
                step.compact_to = self.base;
            }
            Op::Reset { back, ahead, count, len } => {
                let fixed = self.hard.commit.max(self.compact_to).max(1);
                let index = (self.end() + ahead).saturating_sub(back).max(fixed);
                let term = self.hard.term + 1;
                self.entries.clear();
                (self.base, self.log_base, self.compact_to) = (index, index, index);
                self.hard = HardState { term, vote: 3, commit: index };
                step.entries = self.extend(count, len);
                (step.reset, step.compact_to) = (Some((index, term)), index);
            }
            Op::Kill | Op::Restart => return None,
        }
        step.hard_state = Some(self.hard);
        Some(step)
    }

    fn extend(&mut self, count: u64, len: usize) -> Vec<LogEntry> {
        let from = self.end();
        self.hard.term = self.hard.term.max(1);
        let new: Vec<_> = (from + 1..=from + count).map(|i| entry(i, self.hard.term, len)).collect();
        self.entries.extend_from_slice(&new);
        // Two thirds of what is new commits; the rest may still meet a conflict.
        self.hard.commit = self.hard.commit.max(from + count * 2 / 3);
        new
    }

    fn check(&self, data_dir: &std::path::Path) -> Box<dyn LogStore> {
        let (store, found) = open(data_dir).unwrap();
        assert_eq!(found.hard_state, self.hard);
        assert_eq!((found.compact_to, found.log_base), (self.compact_to, self.log_base));
        assert!(found.first_index > self.log_base, "nothing of the log that was before a reset is left");
        assert!(found.first_index <= self.compact_to + 1, "nothing beyond the snapshot may go");
        assert_eq!(found.first_index + found.entries.len() as u64, self.end() + 1);
        // The front may reach back behind an installed snapshot only if the log did, without a gap.
        let known: Vec<_> = found.entries.iter().filter(|e| e.index > self.base).cloned().collect();
        let skip = usize::try_from(found.first_index.saturating_sub(self.base + 1)).unwrap();
        assert_eq!(known, self.entries[skip..]);
        store
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_the_vector_says(
        backend in prop::sample::select(Backend::ALL.to_vec()),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut store = fresh(dir.path(), backend);
        let disk = MemoryDisk::default();
        let (mut memory, _) = disk.open();
        let mut model = Model::default();
        for op in ops.iter().chain([&Op::Kill, &Op::Restart]) {
            match model.step(op) {
                Some(step) => {
                    let done = store.append(&step).unwrap();
                    prop_assert_eq!(done.last_index, model.end());
                    memory.append(&step).unwrap();
                }
                None if matches!(op, Op::Kill) => {
                    let copy = tempfile::tempdir().unwrap();
                    copy_dir(dir.path(), copy.path());
                    drop(store);
                    dir = copy;
                    store = model.check(dir.path());
                }
                None => {
                    close(store);
                    store = model.check(dir.path());
                }
            }
            let (_, found) = disk.open();
            prop_assert_eq!((found.hard_state, found.log_base), (model.hard, model.log_base));
            prop_assert_eq!(found.first_index + found.entries.len() as u64, model.end() + 1);
        }
    }
}
