//! Snapshot files: what was saved is loaded, a crash at any point leaves a usable one, damage is never loaded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_engine::snapshot::{KEPT, SnapshotError, SnapshotStore};
use sluice_protocol::ids::ClusterId;
use tempfile::TempDir;
use wal_support::copy_dir;

const CLUSTER: ClusterId = ClusterId(0xfeed_0000_0000_0000_0000_0000_0000_0001);

/// Of a cluster in the middle of a change, with all that can be known of its members.
fn meta(index: u64) -> SnapshotMeta {
    let members = Members {
        voters: vec![1, 2, 4],
        learners: vec![9],
        outgoing: vec![1, 2, 3],
        learners_next: vec![3],
        auto_leave: true,
        incarnations: vec![(1, 0xabcd), (4, u64::MAX)],
        removed: vec![5, 6],
    };
    SnapshotMeta { index, term: index / 10, members }
}

/// As a file of format 1 was written: index 5, term 2, voters 1 to 3, learner 9; sections `01 02 03`, none, `04`.
const FORMAT_1: [&str; 5] = [
    "534c55494345534e01000000000000000100000000000000000000000000edfe",
    "0500000000000000020000000000000003000000010000000100000000000000",
    "020000000000000003000000000000000900000000000000c535731e03000000",
    "7ef292f001020300000000f7df88a90100000081d1f2f204ffffffff00000000",
    "030000000000000094000000000000005c1a2c20",
];

/// As a file of format 2 is written: the same, and everything else that [`meta`] says.
const FORMAT_2: [&str; 8] = [
    "534c55494345534e02000000000000000100000000000000000000000000edfe",
    "0500000000000000020000000000000003000000010000000300000001000000",
    "0200000002000000010000000000000001000000000000000200000000000000",
    "0400000000000000090000000000000001000000000000000200000000000000",
    "0300000000000000030000000000000005000000000000000600000000000000",
    "0100000000000000cdab0000000000000400000000000000ffffffffffffffff",
    "50bdcb0d030000007ef292f001020300000000f7df88a90100000081d1f2f204",
    "ffffffff000000000300000000000000fc0000000000000052a12223",
];

fn unhex(lines: &[&str]) -> Vec<u8> {
    let hex = lines.concat();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn sections(index: u64) -> Vec<Vec<u8>> {
    let byte = u8::try_from(index % 251).unwrap();
    vec![vec![byte; 1000], vec![], vec![byte ^ 0xff; 77], vec![byte; 20_000]]
}

fn open(dir: &Path) -> SnapshotStore {
    SnapshotStore::open(dir, CLUSTER).unwrap()
}

fn save(store: &mut SnapshotStore, index: u64) -> u64 {
    store.save(&meta(index), sections(index).into_iter(), |_| {}).unwrap()
}

fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("snapshots/snapshot-{index:016x}.sluice"))
}

/// Loads for a log that begins at `first_log_index`; the index of what was loaded, checked whole.
fn load(store: &SnapshotStore, first_log_index: u64) -> Result<Option<u64>, SnapshotError> {
    let Some(found) = store.load_latest(first_log_index)? else { return Ok(None) };
    let index = found.meta.index;
    assert_eq!(found.meta, meta(index));
    let got: Vec<Vec<u8>> = found.sections().map(<[u8]>::to_vec).collect();
    assert_eq!(got, sections(index));
    Ok(Some(index))
}

/// Snapshots at 100, 200 and 300, of which two are kept.
fn three() -> (TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for index in [100, 200, 300] {
        save(&mut store, index);
    }
    (dir, store)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_was_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(load(&store, 1).unwrap(), None);
    let mut heard = Vec::new();
    let len = store.save(&meta(5), sections(5).into_iter(), |written| heard.push(written)).unwrap();
    assert_eq!(fs::metadata(path(dir.path(), 5)).unwrap().len(), len);
    assert_eq!(heard.len(), sections(5).len());
    assert!(heard.windows(2).all(|pair| pair[0] < pair[1]) && heard[3] < len, "{heard:?} of {len}");
    assert_eq!(load(&open(dir.path()), 1).unwrap(), Some(5));
    // One without sections, larger than the first, and the same index once more.
    store.save(&meta(6), std::iter::empty(), |_| {}).unwrap();
    assert_eq!(store.load(6).unwrap().sections().count(), 0);
    save(&mut store, 6);
    assert_eq!(load(&open(dir.path()), 7).unwrap(), Some(6));
}

#[test]
fn the_bytes_are_the_documented_ones() {
    let (dir, small) = (tempfile::tempdir().unwrap(), [vec![1, 2, 3], vec![], vec![4]]);
    let mut store = open(dir.path());
    fs::write(path(dir.path(), 5), unhex(&FORMAT_1)).unwrap();
    let old = open(dir.path()).load(5).unwrap();
    let members = Members { voters: vec![1, 2, 3], learners: vec![9], ..Members::default() };
    assert_eq!(old.meta, SnapshotMeta { index: 5, term: 2, members });
    assert!(old.sections().eq(small.iter().map(Vec::as_slice)));
    // Written again it is of the newer format.
    let meta = SnapshotMeta { term: 2, ..meta(5) };
    store.save(&meta, small.clone().into_iter(), |_| {}).unwrap();
    assert_eq!(fs::read(path(dir.path(), 5)).unwrap(), unhex(&FORMAT_2));
    assert_eq!(store.load(5).unwrap().meta, meta);
}

#[test]
fn the_last_two_are_kept() {
    let (dir, store) = three();
    assert_eq!(store.kept(), [200, 300]);
    assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), KEPT);
    assert_eq!(open(dir.path()).kept(), [200, 300]);
}

#[test]
fn a_crash_while_saving_leaves_the_earlier_ones() {
    let (dir, _) = three();
    let next = fs::read(path(dir.path(), 300)).unwrap();
    for written in [0, 1, 50, next.len() / 2, next.len()] {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let aside = copy.path().join("snapshots/snapshot-0000000000000190.sluice.tmp");
        fs::write(&aside, &next[..written]).unwrap();
        let mut store = open(copy.path());
        assert!(!aside.exists(), "what an interrupted save left is removed");
        assert_eq!(load(&store, 201).unwrap(), Some(300));
        save(&mut store, 400);
        assert_eq!(store.kept(), [300, 400]);
    }
    // Renamed, and the oldest not yet deleted: all three are there, and the next save tidies up.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let (older, mut other) = (tempfile::tempdir().unwrap(), 0);
    other += save(&mut open(older.path()), 100);
    assert!(other > 0);
    fs::copy(path(older.path(), 100), path(copy.path(), 100)).unwrap();
    let mut store = open(copy.path());
    assert_eq!(store.kept(), [100, 200, 300]);
    assert_eq!(load(&store, 201).unwrap(), Some(300));
    save(&mut store, 400);
    assert_eq!(store.kept(), [300, 400]);
    assert_eq!(fs::read_dir(copy.path().join("snapshots")).unwrap().count(), KEPT);
}

#[test]
fn a_failed_save_changes_nothing() {
    let (dir, mut store) = three();
    // A directory where the file should go: the rename fails, as does the creation of the file itself next.
    for blocked in ["snapshot-0000000000000190.sluice", "snapshot-0000000000000190.sluice.tmp"] {
        let blocked = dir.path().join("snapshots").join(blocked);
        fs::create_dir(&blocked).unwrap();
        fs::write(blocked.join("x"), b"").unwrap();
        let result = store.save(&meta(400), sections(400).into_iter(), |_| {});
        assert!(matches!(result, Err(SnapshotError::Io { .. })), "{result:?}");
        fs::remove_dir_all(&blocked).unwrap();
        assert_eq!(store.kept(), [200, 300]);
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), KEPT);
        assert_eq!(load(&store, 201).unwrap(), Some(300));
    }
    save(&mut store, 400);
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let small = vec![vec![1, 2, 3], vec![], vec![4]];
    let len = store.save(&meta(9), small.into_iter(), |_| {}).unwrap();
    let file = path(dir.path(), 9);
    for at in 0..usize::try_from(len).unwrap() {
        flip(&file, at);
        let error = store.load(9).expect_err("a flipped bit was read");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        flip(&file, at);
    }
    store.load(9).unwrap();
    let bytes = fs::read(&file).unwrap();
    for cut in 0..bytes.len() {
        fs::write(&file, &bytes[..cut]).unwrap();
        assert!(matches!(store.load(9), Err(SnapshotError::Damaged { .. })), "cut to {cut}");
    }
    fs::write(&file, [bytes.as_slice(), b"x"].concat()).unwrap();
    assert!(matches!(store.load(9), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn the_older_one_serves_only_if_the_log_reaches_back_to_it() {
    let (dir, store) = three();
    flip(&path(dir.path(), 300), 1234);
    assert_eq!(load(&store, 150).unwrap(), Some(200));
    assert_eq!(load(&store, 201).unwrap(), Some(200));
    let error = load(&store, 202).unwrap_err();
    assert!(matches!(error, SnapshotError::NoneUsable { first_log_index: 202, .. }));
    assert!(error.to_string().contains("restore the whole data directory"), "{error}");
    flip(&path(dir.path(), 200), 1234);
    assert!(matches!(load(&store, 1), Err(SnapshotError::NoneUsable { .. })), "a log alone is not enough");
}

#[test]
fn a_snapshot_that_is_missing_is_missed() {
    let (dir, _) = three();
    for index in [200, 300] {
        fs::remove_file(path(dir.path(), index)).unwrap();
    }
    let store = open(dir.path());
    assert!(matches!(load(&store, 201), Err(SnapshotError::NoneUsable { .. })));
    assert_eq!(load(&store, 1).unwrap(), None);
}

#[test]
fn what_belongs_elsewhere_is_refused() {
    let (dir, store) = three();
    let other = SnapshotStore::open(dir.path(), ClusterId(7)).unwrap();
    assert!(matches!(other.load_latest(1), Err(SnapshotError::WrongCluster { .. })));
    fs::copy(path(dir.path(), 200), path(dir.path(), 300)).unwrap();
    assert!(matches!(store.load(300), Err(SnapshotError::Damaged { .. })), "a file under another's name");
    // The version is the 16-bit number behind the magic.
    flip_version(&path(dir.path(), 300));
    assert!(matches!(store.load_latest(1), Err(SnapshotError::NewerFormat { found: 3, .. })));
}

fn flip_version(file: &Path) {
    use std::os::unix::fs::FileExt;
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&3_u16.to_le_bytes(), 8).unwrap();
}
