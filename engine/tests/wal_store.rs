//! The log store keeps its contract: what was appended is what is found, after a clean stop and after a kill.
//!
//! A kill is played by copying the files at the moment when an append has returned and opening the copy: no later
//! write, and no clean-up on drop, reaches it. Damage to the files is in `wal_damage`, limits in `wal_limits`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry};
use sluice_engine::wal::fence::Fence;
use sluice_engine::wal::{
    Backend, ENTRY_DATA_MAX, FENCE_LAG_MAX, LogStore, MemoryDisk, Options, Recovered, STEP_REMOVES_MAX,
    SledStore, StoreError,
};
use tempfile::TempDir;
use wal_support::{append, close, copy_dir, entries, entry, fresh, open};

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What a kill at this moment leaves, opened.
fn after_kill(data_dir: &Path) -> Recovered {
    let copy = temp();
    copy_dir(data_dir, copy.path());
    let (store, recovered) = open(copy.path()).unwrap();
    close(store);
    recovered
}

fn only_compact(to: u64) -> Append {
    Append { compact_to: to, ..Append::default() }
}

#[test]
fn what_was_appended_is_found_after_a_kill_and_after_a_clean_stop() {
    for backend in Backend::ALL {
        let dir = temp();
        let mut store = fresh(dir.path(), backend);
        let mut all = vec![entry(1, 1, 0), entry(2, 1, ENTRY_DATA_MAX), entry(3, 2, 17)];
        all[1].kind = EntryKind::Membership;
        let done = store.append(&append(all.clone(), 2, 1)).unwrap();
        assert_eq!((done.first_index, done.last_index), (1, 3));
        assert!(done.bytes > ENTRY_DATA_MAX as u64 && done.disk_bytes > ENTRY_DATA_MAX as u64);

        let expected = Recovered {
            hard_state: HardState { term: 2, vote: 1, commit: 1 },
            entries: all,
            first_index: 1,
            compact_to: 0,
            log_base: 0,
        };
        assert_eq!(after_kill(dir.path()), expected);
        close(store);
        let (store, recovered) = open(dir.path()).unwrap();
        assert_eq!(recovered, expected);
        close(store);
    }
}

#[test]
fn a_vote_without_entries_survives() {
    for backend in Backend::ALL {
        let dir = temp();
        let mut store = fresh(dir.path(), backend);
        store.append(&append(entries(1, 3, 1, 10), 1, 2)).unwrap();
        let vote = HardState { term: 9, vote: 4, commit: 2 };
        store.append(&Append { hard_state: Some(vote), ..Append::default() }).unwrap();
        let found = after_kill(dir.path());
        assert_eq!((found.hard_state, found.entries.len()), (vote, 3));

        // Entries written later carry the state onwards; the record of its own is now the older one.
        store.append(&append(entries(4, 4, 9, 10), 10, 3)).unwrap();
        assert_eq!(after_kill(dir.path()).hard_state, HardState { term: 10, vote: 1, commit: 3 });
    }
}

#[test]
fn a_conflicting_suffix_is_replaced_whole() {
    for (kept, old_end, new_end) in
        [(4, 10, 5), (4, 10, 10), (4, 10, 30), (0, 10, 1), (4, 200, 5), (4, 200, 90)]
    {
        for backend in Backend::ALL {
            let dir = temp();
            let mut store = fresh(dir.path(), backend);
            store.append(&append(entries(1, old_end, 1, 100), 1, kept)).unwrap();
            let done = store.append(&append(entries(kept + 1, new_end, 2, 50), 2, kept)).unwrap();
            assert_eq!((done.first_index, done.last_index), (1, new_end));
            let mut expected = entries(1, kept, 1, 100);
            expected.extend(entries(kept + 1, new_end, 2, 50));
            assert_eq!(after_kill(dir.path()).entries, expected, "kept {kept}, {old_end} to {new_end}");
            close(store);
            assert_eq!(open(dir.path()).unwrap().1.entries, expected);
        }
    }
}

#[test]
fn the_front_goes_a_few_entries_at_a_time() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Sled);
    store.append(&append(entries(1, 100, 1, 10), 1, 100)).unwrap();
    let mut first = 1;
    for index in 101..=110 {
        let mut step = append(entries(index, index, 1, 10), 1, 100);
        step.compact_to = 90;
        let done = store.append(&step).unwrap();
        assert!(done.first_index <= first + STEP_REMOVES_MAX as u64, "{first} to {}", done.first_index);
        first = done.first_index;
        let found = after_kill(dir.path());
        assert_eq!(found.first_index, first);
        assert_eq!(found.compact_to, 90);
        assert_eq!(found.entries, entries(first, index, 1, 10));
    }
    assert_eq!(first, 91);
}

#[test]
fn a_log_that_a_snapshot_covers_whole_goes_on_behind_it() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Sled);
    store.append(&append(entries(1, 10, 1, 10), 1, 10)).unwrap();
    let done = store.append(&only_compact(10)).unwrap();
    assert_eq!((done.first_index, done.last_index), (11, 10));
    assert_eq!(after_kill(dir.path()).first_index, 11);
    store.append(&append(entries(11, 12, 1, 10), 1, 10)).unwrap();
    let found = after_kill(dir.path());
    assert_eq!((found.first_index, found.entries), (11, entries(11, 12, 1, 10)));
}

#[test]
fn a_snapshot_from_the_leader_may_reach_further_than_the_log() {
    for backend in Backend::ALL {
        let dir = temp();
        let mut store = fresh(dir.path(), backend);
        store.append(&append(entries(1, 50, 1, 10), 1, 10)).unwrap();
        let done = store.append(&only_compact(1000)).unwrap();
        assert_eq!((done.first_index, done.last_index), (1001, 1000));
        let found = after_kill(dir.path());
        assert_eq!((found.first_index, found.entries.len(), found.compact_to), (1001, 0, 1000));
        for index in 1001..=1005 {
            store.append(&append(entries(index, index, 3, 10), 3, 1000)).unwrap();
            let found = after_kill(dir.path());
            assert_eq!((found.first_index, found.entries), (1001, entries(1001, index, 3, 10)));
        }
    }
}

/// An append that begins with a received snapshot of term 2, and has entries of term 3 behind it.
fn reset(index: u64, last: u64) -> Append {
    let reset = Some((index, 2));
    Append { reset, compact_to: index, ..append(entries(index + 1, last, 3, 30), 3, index) }
}

/// Whether the log ended before the snapshot, at it, or behind it, with more or less than one step removes.
#[test]
fn a_received_snapshot_stands_for_everything() {
    for (old_end, index, last) in [
        (10, 1000, 1000),
        (10, 1000, 1002),
        (50, 50, 50),
        (50, 50, 52),
        (50, 45, 45),
        (50, 45, 48),
        (50, 45, 90),
        (200, 45, 45),
        (200, 45, 48),
        (200, 45, 210),
        (0, 45, 47),
    ] {
        let what = format!("{old_end} entries, reset to {index}, up to {last}");
        let old = append(entries(1, old_end, 1, 100), 1, old_end.min(40));
        let expected = Recovered {
            hard_state: HardState { term: 3, vote: 1, commit: index },
            entries: entries(index + 1, last, 3, 30),
            first_index: index + 1,
            compact_to: index,
            log_base: index,
        };
        let disk = MemoryDisk::default();
        disk.open().0.append(&old).unwrap();
        disk.open().0.append(&reset(index, last)).unwrap();
        assert_eq!(disk.open().1, expected, "{what}");
        for backend in Backend::ALL {
            let dir = temp();
            let mut store = fresh(dir.path(), backend);
            store.append(&old).unwrap();
            store.settle().unwrap();
            let done = store.append(&reset(index, last)).unwrap();
            assert_eq!((done.first_index, done.last_index), (index + 1, last), "{what}");
            assert_eq!(after_kill(dir.path()), expected, "{what}");
            close(store);
            let (mut store, found) = open(dir.path()).unwrap();
            assert_eq!(found, expected, "{what}");
            // And so it stays while the log goes on and its old front is removed.
            let mut all = expected.entries.clone();
            for next in last + 1..=last + 20 {
                all.push(entry(next, 3, 10));
                store.append(&append(vec![entry(next, 3, 10)], 3, index)).unwrap();
            }
            assert_eq!(after_kill(dir.path()).entries, all, "{what}");
            // Even to the next reset.
            let more = last + 30;
            store.append(&reset(more, more)).unwrap();
            let found = after_kill(dir.path());
            assert_eq!((found.log_base, found.first_index, found.entries.len()), (more, more + 1, 0));
        }
    }
}

#[test]
fn what_breaks_rafts_rules_is_refused_loudly() {
    let base = |backend| {
        let dir = temp();
        let mut store = fresh(dir.path(), backend);
        store.append(&append(entries(1, 5, 3, 10), 3, 4)).unwrap();
        (dir, store)
    };
    let two_apart = vec![entry(6, 3, 1), entry(8, 3, 1)];
    let terms_fall = vec![entry(6, 3, 1), entry(7, 2, 1)];
    let steps = [
        ("a gap", append(entries(7, 7, 3, 1), 3, 4)),
        ("a gap within", append(two_apart, 3, 4)),
        ("terms fall", append(terms_fall, 3, 4)),
        ("committed entries replaced", append(entries(4, 4, 4, 1), 4, 4)),
        ("an entry of a later term", append(entries(6, 6, 4, 1), 3, 4)),
        ("too large", append(entries(6, 6, 3, ENTRY_DATA_MAX + 1), 3, 4)),
        ("the term falls", append(vec![], 2, 4)),
        ("commit behind the end", append(vec![], 3, 6)),
        ("committed entries reset", Append { reset: Some((3, 3)), ..append(vec![], 3, 3) }),
        ("a gap behind a reset", Append { reset: Some((9, 3)), ..append(entries(11, 11, 3, 1), 3, 9) }),
        ("what a snapshot stands for", Append { reset: Some((9, 3)), ..append(entries(9, 9, 3, 1), 3, 9) }),
        ("compacted behind a reset", Append { reset: Some((9, 3)), compact_to: 10, ..append(vec![], 3, 9) }),
        ("a snapshot of a later term", Append { reset: Some((9, 4)), ..append(vec![], 3, 9) }),
        (
            "a second vote",
            Append { hard_state: Some(HardState { term: 3, vote: 2, commit: 4 }), ..Append::default() },
        ),
    ];
    for (what, step) in steps {
        for backend in Backend::ALL {
            let (_dir, mut store) = base(backend);
            assert!(catch_unwind(AssertUnwindSafe(|| store.append(&step))).is_err(), "{what}");
        }
    }
}

#[test]
fn the_fence_lags_by_no_more_than_its_limit() {
    for backend in Backend::ALL {
        let dir = temp();
        close(fresh(dir.path(), backend));
        let ms = Arc::new(AtomicU64::new(0));
        let (clock_ms, base) = (Arc::clone(&ms), Instant::now());
        let options = Options {
            clock: Box::new(move || base + Duration::from_millis(clock_ms.load(Ordering::Relaxed))),
            ..Options::default()
        };
        let (mut store, _) = Backend::open(dir.path(), options).unwrap();
        let fenced = || Fence::open(&dir.path().join("wal.fence")).unwrap().unwrap().mark().index;
        let limit_ms = u64::try_from(FENCE_LAG_MAX.as_millis()).unwrap();

        store.append(&append(entries(1, 1, 1, 10), 1, 0)).unwrap();
        assert_eq!(fenced(), 0);
        ms.store(limit_ms - 1, Ordering::Relaxed);
        store.append(&append(entries(2, 2, 1, 10), 1, 0)).unwrap();
        assert_eq!(fenced(), 0);
        ms.store(limit_ms, Ordering::Relaxed);
        store.append(&append(entries(3, 3, 1, 10), 1, 0)).unwrap();
        assert_eq!(fenced(), 3);
        store.append(&append(entries(4, 4, 1, 10), 1, 0)).unwrap();
        assert_eq!(fenced(), 3);
        store.settle().unwrap();
        assert_eq!(fenced(), 4);
        // Before sled replaces a suffix the fence is drawn back, at once. In segments nothing is replaced.
        store.append(&append(entries(2, 2, 2, 10), 2, 0)).unwrap();
        assert_eq!(fenced(), if backend == Backend::Sled { 1 } else { 4 });
        store.append(&append(entries(3, 9, 2, 10), 2, 0)).unwrap();
        store.settle().unwrap();
        assert_eq!(fenced(), 9);
        // And before it removes what lies behind a received snapshot.
        let reset = Append { reset: Some((5, 3)), ..append(vec![], 3, 5) };
        store.append(&reset).unwrap();
        assert_eq!(fenced(), if backend == Backend::Sled { 5 } else { 9 });
        close(store);
        assert_eq!(fenced(), 5);
    }
}

#[test]
fn no_blob_file_ever() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Sled);
    let mut next = 1;
    for _ in 0..12 {
        let mut step = append(entries(next, next + 23, 1, ENTRY_DATA_MAX), 1, next - 1);
        step.compact_to = next.saturating_sub(10);
        next += 24;
        store.append(&step).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("wal/blobs")).unwrap().count(), 0);
    }
    close(store);
    let (_, found) = open(dir.path()).unwrap();
    assert_eq!(found.entries, entries(found.first_index, next - 1, 1, ENTRY_DATA_MAX));
}

#[test]
fn a_store_that_is_open_is_not_opened_again() {
    for backend in Backend::ALL {
        let dir = temp();
        let store = fresh(dir.path(), backend);
        assert!(matches!(open(dir.path()), Err(StoreError::Locked { .. })));
        close(store);
        close(open(dir.path()).unwrap().0);
    }
}

#[test]
fn an_interrupted_creation_is_completed() {
    let whole = temp();
    SledStore::create(whole.path()).unwrap();
    // Before anything; fence aside; fence in place; sled aside, half and whole; all in place.
    let stages: [&[(&str, &str)]; 5] = [
        &[],
        &[("wal.fence", "wal.fence.tmp")],
        &[("wal.fence", "wal.fence")],
        &[("wal.fence", "wal.fence"), ("wal/conf", "wal.tmp/conf")],
        &[("wal.fence", "wal.fence"), ("wal/conf", "wal.tmp/conf"), ("wal/db", "wal.tmp/db")],
    ];
    for stage in stages {
        let dir = temp();
        for (from, to) in stage {
            let to = dir.path().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(whole.path().join(from), to).unwrap();
        }
        close(fresh(dir.path(), Backend::Sled));
    }
    // Creating twice is completing what is complete; creating over a log in use is refused.
    let mut store = fresh(whole.path(), Backend::Sled);
    store.append(&append(entries(1, 1, 1, 10), 1, 0)).unwrap();
    close(store);
    assert!(matches!(SledStore::create(whole.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn the_store_in_memory_keeps_the_same_contract_and_fails_when_told() {
    let disk = MemoryDisk::default();
    let (mut store, _) = disk.open();
    store.append(&append(entries(1, 10, 1, 10), 1, 3)).unwrap();
    store.append(&append(entries(5, 6, 2, 10), 2, 3)).unwrap();
    disk.fail_after(1);
    store.append(&only_compact(2)).unwrap();
    assert!(matches!(store.append(&only_compact(3)), Err(StoreError::DiskFull { .. })));
    assert!(matches!(store.append(&only_compact(3)), Err(StoreError::Poisoned { .. })));
    let (_, found) = disk.open();
    let expected: Vec<LogEntry> = [entries(3, 4, 1, 10), entries(5, 6, 2, 10)].concat();
    assert_eq!((found.entries, found.first_index, found.compact_to), (expected, 3, 2));
}
