//! Damaged files: either everything that was acknowledged is found, or the store refuses, names the file and says what
//! to do. Never silently less.
//!
//! The image that is damaged has been opened several times, so that sled's own snapshot file is part of it, and its
//! fence is up to date: what the fence lags behind is not promised against damage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_engine::wal::{Backend, Options, Recovered, SledStore, StoreError};
use tempfile::TempDir;
use wal_support::{append, close, copy_dir, entries, fresh, open};

/// Long enough for any of these small logs; short enough to see a hang.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

struct Image {
    dir: TempDir,
    expected: Recovered,
}

#[derive(Default, Debug)]
struct Tally {
    found: usize,
    refused: usize,
}

/// A log with entries of many sizes, a removed front, a replaced suffix and a vote.
fn image() -> Image {
    let dir = tempfile::tempdir().unwrap();
    let mut store = fresh(dir.path(), Backend::Sled);
    let mut end = 0;
    for round in 1..=4 {
        for len in [0, 30, 700, 9000] {
            store.append(&append(entries(end + 1, end + 5, round, len), round, end)).unwrap();
            end += 5;
        }
        let mut step = append(entries(end - 2, end + 1, round + 1, 50), round + 1, end - 5);
        step.compact_to = end / 3;
        store.append(&step).unwrap();
        end += 1;
        close(store);
        store = open(dir.path()).unwrap().0;
    }
    store.append(&append(entries(end + 1, end + 3, 6, 400), 6, end)).unwrap();
    store.append(&append(vec![], 7, end)).unwrap();
    close(store);
    let (store, expected) = open(dir.path()).unwrap();
    assert_eq!(expected.hard_state.term, 7);
    close(store);
    Image { dir, expected }
}

impl Image {
    /// Applies `harm` to a copy and judges what opening it gives.
    fn judge(&self, what: &str, tally: &mut Tally, harm: impl FnOnce(&Path)) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), copy.path());
        harm(copy.path());
        let options = Options { open_timeout: OPEN_TIMEOUT, ..Options::default() };
        match SledStore::open(copy.path(), options) {
            Ok((store, found)) => {
                assert_eq!(found, self.expected, "{what}: accepted, and something is missing");
                close(Box::new(store));
                tally.found += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(copy.path().to_str().unwrap()), "{what}: names no file: {text}");
                match error {
                    StoreError::Damaged { advice, .. } | StoreError::Lost { advice, .. } => {
                        assert!(advice.contains("restore the whole data directory"), "{what}: {text}");
                    }
                    StoreError::NewerFormat { .. } => {}
                    other => panic!("{what}: refused as {other:?}"),
                }
                tally.refused += 1;
            }
        }
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    fn sled_snapshot(&self) -> String {
        let names = fs::read_dir(self.dir.path().join("wal")).unwrap();
        let name =
            names.map(|n| n.unwrap().file_name().into_string().unwrap()).find(|n| n.starts_with("snap."));
        format!("wal/{}", name.expect("sled has written a snapshot by now"))
    }
}

fn flip(path: &Path, at: u64, bit: u32) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

/// Where the last byte lies that is not part of the padding.
fn used_len(bytes: &[u8]) -> usize {
    let padding = *bytes.last().unwrap();
    bytes.iter().rposition(|b| *b != padding).unwrap() + 1
}

#[test]
fn a_flipped_bit_in_the_data_file() {
    let image = image();
    let used = used_len(&image.file("wal/db"));
    let mut tally = Tally::default();
    // Every byte of the segment's header and of the first messages; then a grid over the rest, denser at the end,
    // where sled takes damage for a torn write and cuts.
    let mut places: Vec<usize> = (0..48).collect();
    places.extend((48..used).step_by(used / 90));
    places.extend((used - 1500..used + 40).step_by(19));
    for at in places {
        let bit = u32::try_from(at % 8).unwrap();
        image.judge(&format!("db byte {at} bit {bit}"), &mut tally, |dir| {
            flip(&dir.join("wal/db"), at as u64, bit);
        });
    }
    assert!(tally.found > 0 && tally.refused > 0, "the places are badly chosen: {tally:?}");
}

#[test]
fn a_data_file_that_was_cut() {
    let image = image();
    let bytes = image.file("wal/db");
    let used = used_len(&bytes);
    let mut tally = Tally::default();
    let mut lengths: Vec<usize> = vec![0, 1, 19, 20, 21, 4096, used - 1, used, used + 1, bytes.len() - 1];
    lengths.extend((0..used).step_by(used / 60));
    lengths.extend((used - 600..used).step_by(23));
    for len in lengths {
        image.judge(&format!("db cut to {len}"), &mut tally, |dir| {
            OpenOptions::new().write(true).open(dir.join("wal/db")).unwrap().set_len(len as u64).unwrap();
        });
    }
    assert!(tally.refused > 0, "the places are badly chosen: {tally:?}");
}

#[test]
fn a_torn_tail_that_was_zeroed_or_overwritten() {
    let image = image();
    let used = used_len(&image.file("wal/db"));
    let mut tally = Tally::default();
    for at in (used - 6000..used).step_by(151) {
        for fill in [0x00, 0xff] {
            image.judge(&format!("db from {at} on {fill:#x}"), &mut tally, |dir| {
                let file = OpenOptions::new().write(true).open(dir.join("wal/db")).unwrap();
                file.write_all_at(&vec![fill; used - at], at as u64).unwrap();
            });
        }
    }
    assert!(tally.refused > 0, "the places are badly chosen: {tally:?}");
}

#[test]
fn a_flipped_bit_in_the_small_files() {
    let image = image();
    for name in ["wal/conf".to_owned(), image.sled_snapshot()] {
        let len = image.file(&name).len();
        let mut tally = Tally::default();
        for at in (0..len).step_by((len / 60).max(1)) {
            image.judge(&format!("{name} byte {at}"), &mut tally, |dir| flip(&dir.join(&name), at as u64, 3));
        }
        // Sled's snapshot has a few bytes that nobody reads; its settings have none.
        assert!(tally.refused > tally.found * 10, "{name}: {tally:?}");
    }
}

#[test]
fn the_fence_bears_one_damaged_slot_and_not_two() {
    let image = image();
    let (mut one, mut two) = (Tally::default(), Tally::default());
    for at in 0..56 {
        image.judge(&format!("fence byte {at}"), &mut one, |dir| flip(&dir.join("wal.fence"), at, 1));
        let other = 4096 + at;
        image.judge(&format!("fence byte {other}"), &mut one, |dir| flip(&dir.join("wal.fence"), other, 1));
        image.judge(&format!("fence bytes {at}, {other}"), &mut two, |dir| {
            flip(&dir.join("wal.fence"), at, 1);
            flip(&dir.join("wal.fence"), other, 1);
        });
    }
    assert_eq!((one.refused, two.found), (0, 0));
}

#[test]
fn files_that_are_missing_or_older() {
    let image = image();
    let mut tally = Tally::default();
    for name in ["wal.fence", "wal/db", "wal/conf"] {
        image.judge(&format!("without {name}"), &mut tally, |dir| fs::remove_file(dir.join(name)).unwrap());
        image.judge(&format!("empty {name}"), &mut tally, |dir| fs::write(dir.join(name), b"").unwrap());
    }
    image.judge("without the log", &mut tally, |dir| fs::remove_dir_all(dir.join("wal")).unwrap());
    image.judge("with a blob file", &mut tally, |dir| fs::write(dir.join("wal/blobs/77"), b"x").unwrap());
    let empty = tempfile::tempdir().unwrap();
    SledStore::create(empty.path()).unwrap();
    image.judge("with an empty log", &mut tally, |dir| {
        fs::remove_dir_all(dir.join("wal")).unwrap();
        copy_dir(&empty.path().join("wal"), &dir.join("wal"));
    });
    assert_eq!(tally.found, 0);
}

#[test]
fn what_sled_left_unfinished_does_not_keep_it_from_opening() {
    let image = image();
    let mut tally = Tally::default();
    let unfinished: PathBuf = "wal/snap.FFFFFFFFFFFFFFFF.generating".into();
    image.judge("unfinished snapshot", &mut tally, |dir| fs::write(dir.join(&unfinished), b"half").unwrap());
    image.judge("without sled's snapshot", &mut tally, |dir| {
        fs::remove_file(dir.join(image.sled_snapshot())).unwrap();
    });
    assert_eq!(tally.refused, 0);
}

/// An older copy of the log beside a newer fence: what a restore of half a directory gives.
#[test]
fn an_older_log_under_a_newer_fence_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = fresh(dir.path(), Backend::Sled);
    store.append(&append(entries(1, 20, 1, 100), 1, 5)).unwrap();
    store.settle().unwrap();
    let old = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), old.path());
    // One vote later, or the same indexes with other entries: nothing that the length would show.
    for step in [append(vec![], 2, 5), append(entries(20, 20, 2, 100), 2, 5)] {
        store.append(&step).unwrap();
        store.settle().unwrap();
        let mixed = tempfile::tempdir().unwrap();
        copy_dir(&old.path().join("wal"), &mixed.path().join("wal"));
        fs::copy(dir.path().join("wal.fence"), mixed.path().join("wal.fence")).unwrap();
        assert!(matches!(open(mixed.path()), Err(StoreError::Lost { .. })));
    }
}
