//! The log in segment files: what a crash may leave of the last frame, what damage looks like, how segments come and go.
//!
//! What both stores promise is in `wal_store`, `wal_model` and `wal_process`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sluice_core::replica::disk::Append;
use sluice_engine::wal::segments::frame::{PAGE_LEN, SECTOR_LEN};
use sluice_engine::wal::{Backend, ENTRY_DATA_MAX, LogStore, Recovered, SegmentStore, StoreError};
use tempfile::TempDir;
use wal_support::{append, close, copy_dir, entries, entry, fresh, open, same};

/// Bytes of the first segment.
const FIRST_LEN: usize = 4 << 20;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("segments/{number:016x}.segment"))
}

/// The numbers of the segments there are.
fn segments(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir.join("segments")).unwrap().map(|item| item.unwrap().path());
    let mut numbers: Vec<_> = names
        .filter(|path| path.extension().unwrap() == "segment")
        .map(|path| u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// A copy of the directory as it is now, without waiting for the next segment.
fn copied(dir: &Path) -> TempDir {
    let copy = temp();
    copy_dir(dir, copy.path());
    copy
}

/// A log of a few frames that was stopped as by a kill, with its fence as old as can be: the last appends are all
/// behind it. What the log holds before and after the last frame, and where that lies.
struct Tail {
    dir: TempDir,
    before: Recovered,
    after: Recovered,
    frame: std::ops::Range<usize>,
}

fn tail(last: &Append) -> Tail {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    store.append(&append(entries(1, 3, 1, 100), 1, 2)).unwrap();
    store.append(&append(entries(4, 5, 2, 3000), 2, 4)).unwrap();
    // The spare is there before the copy is made.
    close(store);
    let (mut store, before) = open(dir.path()).unwrap();
    let from = used_len(dir.path());
    store.append(last).unwrap();
    let copy = copied(dir.path());
    let frame = from..used_len(dir.path());
    drop(store);
    let (_, after) = open(dir.path()).unwrap();
    Tail { dir: copy, before, after, frame }
}

/// Up to where pages of the first segment are written.
fn used_len(dir: &Path) -> usize {
    let bytes = fs::read(segment(dir, 1)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(PAGE_LEN)
}

impl Tail {
    /// The log with some bytes of its first segment changed.
    fn changed(&self, change: impl FnOnce(&mut [u8])) -> TempDir {
        let copy = copied(self.dir.path());
        let mut bytes = fs::read(segment(copy.path(), 1)).unwrap();
        change(&mut bytes);
        fs::write(segment(copy.path(), 1), bytes).unwrap();
        copy
    }
}

fn is_refused(dir: &Path, what: &str) {
    match open(dir) {
        Err(StoreError::Damaged { advice, .. } | StoreError::Lost { advice, .. }) => {
            assert!(advice.contains("restore the whole data directory"), "{what}");
        }
        Err(StoreError::NewerFormat { .. }) => {}
        Err(other) => panic!("{what}: refused as {other:?}"),
        Ok(_) => panic!("{what}: accepted"),
    }
}

#[test]
fn of_the_last_frame_any_sectors_may_be_missing() {
    let tail = tail(&append(entries(6, 7, 2, 2000), 2, 5));
    let sectors = tail.frame.len() / SECTOR_LEN;
    assert_eq!(sectors, 16);
    // Every single sector, every single other, and every prefix and suffix.
    let mut cases: Vec<u32> = vec![0, (1 << sectors) - 1];
    for n in 0..sectors {
        cases.extend([1 << n, (1 << n) - 1, !(1 << n) & 0xffff, !((1 << n) - 1) & 0xffff]);
    }
    // The entries end within the tenth sector; what is behind is padding, of which nothing may be missing either.
    for missing in cases {
        let copy = tail.changed(|bytes| {
            for n in (0..sectors).filter(|n| missing & 1 << n != 0) {
                bytes[tail.frame.clone()][n * SECTOR_LEN..][..SECTOR_LEN].fill(0);
            }
        });
        let (mut store, found) = open(copy.path()).unwrap_or_else(|e| panic!("{missing:b}: {e}"));
        let expected = if missing == 0 { &tail.after } else { &tail.before };
        assert_eq!(found, *expected, "{missing:b}");
        // The log goes on, and the remains are not found again.
        let next = found.entries.last().unwrap().index + 1;
        store.append(&append(entries(next, next, 3, 50), 3, 5)).unwrap();
        close(store);
        let (store, found) = open(copy.path()).unwrap();
        assert_eq!(found.entries.last().unwrap(), &entry(next, 3, 50), "{missing:b}");
        close(store);
    }
}

#[test]
fn a_bit_that_flips_anywhere_in_what_is_written_is_refused() {
    let tail = tail(&append(entries(6, 7, 2, 2000), 2, 5));
    for at in (0..PAGE_LEN + 300).chain(PAGE_LEN + 300..tail.frame.end).step_by(37) {
        let copy = tail.changed(|bytes| bytes[at] ^= 1 << (at % 8));
        is_refused(copy.path(), &format!("byte {at}"));
    }
    // Where nothing was written nothing can be lost, unless it cannot be explained by a write that was cut short.
    let behind = tail.changed(|bytes| bytes[FIRST_LEN - 1] = 1);
    is_refused(behind.path(), "the end of the segment");
    let next = tail.changed(|bytes| bytes[tail.frame.end + 9] = 1);
    is_refused(next.path(), "where the next frame's header would be");
    let near = tail.changed(|bytes| bytes[tail.frame.end + SECTOR_LEN] = 1);
    assert_eq!(open(near.path()).unwrap().1, tail.after);
}

#[test]
fn a_frame_that_is_missing_before_another_is_a_loss() {
    let tail = tail(&append(entries(6, 7, 2, 2000), 2, 5));
    let second = PAGE_LEN * 2..tail.frame.start;
    for part in [second.clone(), second.start..second.start + SECTOR_LEN, second.end - SECTOR_LEN..second.end]
    {
        let copy = tail.changed(|bytes| bytes[part.clone()].fill(0));
        is_refused(copy.path(), &format!("{part:?}"));
    }
    // A write that the disk put elsewhere, too.
    for to in [tail.frame.start, tail.frame.end] {
        let twice = tail.changed(|bytes| bytes.copy_within(PAGE_LEN..PAGE_LEN * 2, to));
        is_refused(twice.path(), "a frame where it does not belong");
    }
}

#[test]
fn what_the_fence_has_seen_is_not_cut_off() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    store.append(&append(entries(1, 3, 1, 100), 1, 2)).unwrap();
    let before = used_len(dir.path());
    store.append(&append(entries(4, 4, 1, 100), 1, 2)).unwrap();
    close(store);
    let file = OpenOptions::new().write(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all_at(&[0; PAGE_LEN], before as u64).unwrap();
    is_refused(dir.path(), "the last frame is gone, and it was acknowledged");
}

/// Appends of about a megabyte until there are `count` segments with frames in them; the last index.
fn fill(store: &mut dyn LogStore, dir: &Path, from: u64, count: u64) -> u64 {
    let mut next = from;
    while *segments(dir).last().unwrap() <= count {
        store.append(&append(entries(next, next + 14, 1, ENTRY_DATA_MAX), 1, next)).unwrap();
        next += 15;
    }
    next - 1
}

#[test]
fn segments_come_and_go() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    let end = fill(&mut *store, dir.path(), 1, 3);
    let copy = copied(dir.path());
    let (reopened, found) = open(copy.path()).unwrap();
    assert_eq!((found.first_index, found.entries.len() as u64), (1, end));
    close(reopened);
    let disk = |store: &mut dyn LogStore, to| {
        let done = store.append(&Append { compact_to: to, ..Append::default() }).unwrap();
        (done.first_index, done.disk_bytes >> 20)
    };
    let (first, mib) = disk(&mut *store, 1);
    assert_eq!(first, 1);
    // Once a snapshot stands for all but the last of them, only the segment with that one stays.
    let (first_later, mib_later) = disk(&mut *store, end - 1);
    assert!(first_later > 1 && mib_later < mib, "{first_later} {mib_later} of {mib}");
    close(store);
    let left = segments(dir.path());
    assert!(left[0] > 1 && left.len() <= 3, "{left:?}");
    let (mut store, found) = open(dir.path()).unwrap();
    assert_eq!((found.first_index, found.compact_to), (first_later, end - 1));
    assert_eq!(found.entries, entries(first_later, end, 1, ENTRY_DATA_MAX));
    // And it goes on where it was, with the spare it had.
    let end = fill(&mut *store, dir.path(), end + 1, left.last().unwrap() + 1);
    close(store);
    assert_eq!(open(dir.path()).unwrap().1.entries.last().unwrap().index, end);
}

/// A log whose second segment begins with votes that came without entries, and goes on with one entry. Returns the last
/// entry of the first segment.
fn second_segment_begins_with_votes(store: &mut dyn LogStore, dir: &Path) -> u64 {
    let mut last = 0;
    for len in [60_000, 100] {
        // Until no frame of so many bytes fits.
        while used_len(dir) + (len + SECTOR_LEN).next_multiple_of(PAGE_LEN) <= FIRST_LEN {
            last += 1;
            store.append(&append(entries(last, last, 1, len), 1, last)).unwrap();
        }
    }
    for term in 2..5 {
        store.append(&append(Vec::new(), term, last)).unwrap();
    }
    store.append(&append(entries(last + 1, last + 1, 4, 100), 4, last)).unwrap();
    last
}

#[test]
fn a_log_whose_first_segment_left_begins_with_steps_without_entries_is_found() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    let last = second_segment_begins_with_votes(&mut *store, dir.path());
    store.append(&Append { compact_to: last, ..Append::default() }).unwrap();
    close(store);
    assert_eq!(segments(dir.path())[0], 2, "a snapshot stands for all that is in the first");
    let (store, found) = open(dir.path()).unwrap();
    assert_eq!((found.first_index, found.compact_to), (last + 1, last));
    assert_eq!(found.entries, entries(last + 1, last + 1, 4, 100));
    close(store);
}

#[test]
fn a_first_segment_that_no_snapshot_stands_for_is_missed_also_if_the_next_begins_without_entries() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    let last = second_segment_begins_with_votes(&mut *store, dir.path());
    store.append(&Append { compact_to: last - 1, ..Append::default() }).unwrap();
    close(store);
    assert_eq!(segments(dir.path())[0], 1);
    fs::remove_file(segment(dir.path(), 1)).unwrap();
    is_refused(dir.path(), "an entry is missing");
}

#[test]
fn a_segment_that_is_missing_is_a_loss() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    fill(&mut *store, dir.path(), 1, 3);
    close(store);
    let numbers = segments(dir.path());
    let spare = *numbers.last().unwrap();
    for number in numbers {
        let copy = copied(dir.path());
        fs::remove_file(segment(copy.path(), number)).unwrap();
        if number == spare {
            close(open(copy.path()).unwrap().0);
        } else {
            is_refused(copy.path(), &format!("segment {number}"));
        }
    }
    let copy = copied(dir.path());
    fs::remove_dir_all(copy.path().join("segments")).unwrap();
    is_refused(copy.path(), "all of them");
    // Another log's segment, of the same number.
    let other = temp();
    let mut store = fresh(other.path(), Backend::Segments);
    fill(&mut *store, other.path(), 1, 3);
    close(store);
    let copy = copied(dir.path());
    fs::copy(segment(other.path(), 2), segment(copy.path(), 2)).unwrap();
    is_refused(copy.path(), "another log's segment");
}

#[test]
fn a_large_append_is_several_frames_and_a_crash_between_them_leaves_its_beginning() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    store.append(&append(entries(1, 60, 1, 100), 1, 10)).unwrap();
    close(store);
    let (mut store, _) = open(dir.path()).unwrap();
    let fence = fs::read(dir.path().join("wal.fence")).unwrap();
    let from = used_len(dir.path());
    // Replaces most of the log, in three frames.
    store.append(&append(entries(11, 50, 2, ENTRY_DATA_MAX), 2, 50)).unwrap();
    drop(store);
    // The second frame begins where the first one's entries end: each is filled as far as whole entries go.
    let per_frame = ((1 << 20) - 104) / (ENTRY_DATA_MAX + 16);
    let first_len = (104 + per_frame * (ENTRY_DATA_MAX + 16)).next_multiple_of(PAGE_LEN);
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(bytes[from + first_len..][..4], *b"SLFR");
    let mut cut = bytes.clone();
    cut[from + first_len..].fill(0);
    fs::write(segment(dir.path(), 1), cut).unwrap();
    fs::write(dir.path().join("wal.fence"), fence).unwrap();
    let (store, found) = open(dir.path()).unwrap();
    let end = 10 + per_frame as u64;
    assert_eq!(found.entries, [entries(1, 10, 1, 100), entries(11, end, 2, ENTRY_DATA_MAX)].concat());
    assert_eq!((found.hard_state.term, found.hard_state.commit), (2, end));
    close(store);
}

#[test]
fn entries_that_follow_a_snapshot_in_the_same_append_are_found() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    store.append(&append(entries(1, 50, 1, 10), 1, 10)).unwrap();
    let mut step = append(entries(1001, 1002, 3, 10), 3, 1000);
    step.compact_to = 1000;
    let done = store.append(&step).unwrap();
    assert_eq!((done.first_index, done.last_index), (1001, 1002));
    close(store);
    let (_, found) = open(dir.path()).unwrap();
    assert_eq!((found.first_index, found.entries), (1001, entries(1001, 1002, 3, 10)));
}

/// The reset is one frame: whatever of it is missing, the old log is found as it was, and else nothing of that.
#[test]
fn a_reset_that_is_cut_short_leaves_the_old_log() {
    for last in [4, 7] {
        let step = Append { reset: Some((4, 3)), ..append(entries(5, last, 3, 400), 3, 4) };
        let tail = tail(&step);
        assert_eq!((tail.before.log_base, tail.before.first_index), (0, 1));
        assert_eq!((tail.after.log_base, tail.after.first_index), (4, 5));
        assert_eq!(tail.after.entries, entries(5, last, 3, 400));
        for sector in 0..tail.frame.len() / SECTOR_LEN {
            let copy =
                tail.changed(|bytes| bytes[tail.frame.clone()][sector * SECTOR_LEN..][..SECTOR_LEN].fill(0));
            assert_eq!(open(copy.path()).unwrap().1, tail.before, "sector {sector}");
        }
        assert_eq!(open(tail.dir.path()).unwrap().1, tail.after);
    }
}

#[test]
fn a_reset_in_several_frames_leaves_the_beginning_of_what_follows() {
    let step = Append { reset: Some((4, 3)), ..append(entries(5, 40, 3, ENTRY_DATA_MAX), 3, 40) };
    let tail = tail(&step);
    let per_frame = ((1 << 20) - 112) / (ENTRY_DATA_MAX + 16);
    let first_len = (112 + per_frame * (ENTRY_DATA_MAX + 16)).next_multiple_of(PAGE_LEN);
    let copy = tail.changed(|bytes| bytes[tail.frame.start + first_len..].fill(0));
    let (store, found) = open(copy.path()).unwrap();
    let end = 4 + per_frame as u64;
    assert_eq!((found.log_base, found.hard_state.commit), (4, end));
    assert_eq!(found.entries, entries(5, end, 3, ENTRY_DATA_MAX));
    close(store);
}

#[test]
fn segments_of_a_log_that_was_reset_go_at_once() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    let end = fill(&mut *store, dir.path(), 1, 3);
    // Raft knew nothing of it to be committed behind the last append's beginning.
    let index = end - 14;
    store.append(&Append { reset: Some((index, 2)), ..append(vec![], 2, index) }).unwrap();
    let killed = copied(dir.path());
    close(store);
    assert!(segments(dir.path()).len() <= 2, "the one in use, and a spare: {:?}", segments(dir.path()));
    for path in [dir.path(), killed.path()] {
        let (mut store, found) = open(path).unwrap();
        assert_eq!((found.log_base, found.first_index, found.entries.len()), (index, index + 1, 0));
        let done = store.append(&append(entries(index + 1, index + 1, 2, 10), 2, index)).unwrap();
        assert_eq!((done.first_index, done.last_index), (index + 1, index + 1));
        close(store);
        assert!(segments(path).len() <= 2, "{:?}", segments(path));
        assert_eq!(open(path).unwrap().1.entries, entries(index + 1, index + 1, 2, 10));
    }
}

#[test]
fn an_interrupted_creation_is_completed_and_keeps_its_kind() {
    let whole = temp();
    SegmentStore::create(whole.path()).unwrap();
    let name = segment(whole.path(), 1);
    let file = name.file_name().unwrap().to_str().unwrap();
    let stages: [&[(&str, String)]; 4] = [
        &[("wal.fence", "wal.fence.tmp".to_owned())],
        &[("wal.fence", "wal.fence".to_owned())],
        &[("wal.fence", "wal.fence".to_owned()), (file, format!("segments.tmp/{file}"))],
        &[("wal.fence", "wal.fence".to_owned()), (file, "segments.tmp/0000000000000001.tmp".to_owned())],
    ];
    for stage in stages {
        let dir = temp();
        for (from, to) in stage {
            let to = dir.path().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let from = if *from == file { name.clone() } else { whole.path().join(from) };
            fs::copy(from, to).unwrap();
        }
        close(fresh(dir.path(), Backend::Segments));
    }
    // Half made as one kind, and asked for as the other.
    Backend::Sled.create(whole.path()).unwrap();
    assert_eq!(Backend::of(whole.path()).unwrap(), Some(Backend::Segments));
    let mut store = fresh(whole.path(), Backend::Segments);
    store.append(&append(entries(1, 1, 1, 10), 1, 0)).unwrap();
    close(store);
    assert!(matches!(SegmentStore::create(whole.path()), Err(StoreError::Damaged { .. })));
    // Two logs are one too many.
    fs::create_dir(whole.path().join("wal")).unwrap();
    is_refused(whole.path(), "two logs");
}

#[test]
fn a_clean_stop_leaves_what_a_kill_leaves() {
    let dir = temp();
    let mut store = fresh(dir.path(), Backend::Segments);
    for number in 0..60 {
        store.append(&wal_support::workload(number, 5000)).unwrap();
    }
    let killed = copied(dir.path());
    close(store);
    for path in [dir.path(), killed.path()] {
        let (store, found) = open(path).unwrap();
        assert!(same(&found, &wal_support::after(60, 5000)));
        close(store);
    }
}
