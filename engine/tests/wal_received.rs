//! Snapshots that travel: a kept file is read in parts, and parts become a file that the log can be reset to.
//!
//! A crash is played by opening a copy of the directory, or what a crash may have left of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs;
use std::path::{Path, PathBuf};

use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_core::replica::peer::{Chunk, ImageId};
use sluice_engine::snapshot::{Received, SnapshotError, SnapshotStore};
use sluice_protocol::ids::ClusterId;
use tempfile::TempDir;
use wal_support::copy_dir;

const CLUSTER: ClusterId = ClusterId(7);

/// Bytes of a part.
const PART_LEN: usize = 1000;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &Path) -> SnapshotStore {
    SnapshotStore::open(dir, CLUSTER).unwrap()
}

fn meta(index: u64) -> SnapshotMeta {
    let members = Members { voters: vec![1, 2], incarnations: vec![(2, 9)], ..Members::default() };
    SnapshotMeta { index, term: 3, members }
}

fn sections(index: u64) -> Vec<Vec<u8>> {
    vec![vec![u8::try_from(index).unwrap(); 5000], vec![7; 300]]
}

fn save(store: &mut SnapshotStore, index: u64) {
    store.save(&meta(index), sections(index).into_iter(), |_| {}).unwrap();
}

/// A sender with a snapshot at each of these.
fn sender(indexes: &[u64]) -> (TempDir, SnapshotStore) {
    let dir = temp();
    let mut store = open(dir.path());
    indexes.iter().for_each(|index| save(&mut store, *index));
    (dir, store)
}

/// A receiver that has its own snapshot at 10.
fn receiver() -> (TempDir, SnapshotStore) {
    sender(&[10])
}

/// The parts of a file, in order.
fn parts(index: u64) -> Vec<Chunk> {
    let (_dir, mut store) = sender(&[index]);
    let mut parts = Vec::new();
    let mut offset = 0;
    loop {
        let (image, meta, bytes) = store.read_chunk(index, offset, PART_LEN).unwrap();
        if bytes.is_empty() {
            assert_eq!(offset, image.len);
            return parts;
        }
        let next = offset + bytes.len() as u64;
        parts.push(Chunk { image, meta, offset, bytes });
        offset = next;
    }
}

/// What of a part is there, or `None` when the file is whole: then it has been checked that it is what was sent.
fn receive(store: &mut SnapshotStore, chunk: &Chunk) -> Option<u64> {
    match store.receive(chunk).unwrap() {
        Received::Partial(have) => Some(have),
        Received::Whole(image, snapshot) => {
            assert_eq!((image, &snapshot.meta), (chunk.image, &chunk.meta));
            assert!(snapshot.sections().eq(sections(image.index).iter().map(Vec::as_slice)));
            None
        }
    }
}

fn receive_all(store: &mut SnapshotStore, parts: &[Chunk]) {
    let (last, rest) = parts.split_last().unwrap();
    for chunk in rest {
        assert_eq!(receive(store, chunk), Some(chunk.offset + chunk.bytes.len() as u64));
    }
    assert_eq!(receive(store, last), None);
}

/// The files that were received and not promoted.
fn received(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir.join("snapshots")).unwrap().map(|item| item.unwrap().path());
    let mut names: Vec<_> =
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("received-")).collect();
    names.sort();
    names
}

fn kept_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("snapshots/snapshot-{index:016x}.sluice"))
}

fn copied(dir: &Path) -> TempDir {
    let copy = temp();
    copy_dir(dir, copy.path());
    copy
}

#[test]
fn a_kept_file_is_read_in_parts() {
    let (dir, mut store) = sender(&[10, 20]);
    let bytes = fs::read(kept_path(dir.path(), 20)).unwrap();
    let (image, found, part) = store.read_chunk(20, 5, 100).unwrap();
    assert_eq!((found, part.as_ref()), (meta(20), &bytes[5..105]));
    // The checksum that the file ends with: with it, every sound file has the same.
    let digest = crc32fast::hash(&bytes[..bytes.len() - 4]);
    assert_eq!(image, ImageId { index: 20, term: 3, len: bytes.len() as u64, digest });
    let whole = parts(20).iter().flat_map(|chunk| chunk.bytes.to_vec()).collect::<Vec<_>>();
    assert_eq!(whole, bytes);
    assert!(store.read_chunk(20, u64::MAX, 100).unwrap().2.is_empty());
    // Both that are kept, in turns, and none that is gone.
    assert_ne!(store.read_chunk(10, 0, 1).unwrap().0.digest, digest);
    save(&mut store, 30);
    assert_eq!(store.read_chunk(20, 0, 1).unwrap().0, image);
    assert!(matches!(store.read_chunk(10, 0, 1), Err(SnapshotError::Io { .. })));
    assert!(matches!(store.read_chunk(11, 0, 1), Err(SnapshotError::Io { .. })));
    // What is damaged is not sent.
    for at in [0, 8, 40, 60, 3000, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(kept_path(dir.path(), 20), damaged).unwrap();
        assert!(open(dir.path()).read_chunk(20, 0, 1).is_err(), "byte {at}");
    }
}

#[test]
fn what_was_sent_is_received_and_takes_its_place_when_the_log_is_reset() {
    let (dir, mut store) = receiver();
    let parts = parts(40);
    receive_all(&mut store, &parts);
    assert_eq!(store.kept(), [10], "the log still follows the old one");
    // Said again, as a leader does that has heard no answer.
    assert_eq!(receive(&mut store, &parts[0]), None);
    store.pin(40);
    store.promote(40).unwrap();
    assert_eq!((store.kept(), received(dir.path()).len()), ([40].as_slice(), 0));
    assert_eq!(store.load_latest(41).unwrap().unwrap().meta, meta(40));
    store.promote(40).unwrap();
    save(&mut store, 50);
    assert_eq!(open(dir.path()).kept(), [40, 50]);
    assert!(matches!(store.promote(60), Err(SnapshotError::Missing { index: 60, .. })));
}

#[test]
fn parts_may_be_lost_repeated_and_out_of_order() {
    let (_dir, mut store) = receiver();
    let parts = parts(40);
    assert_eq!(receive(&mut store, &parts[1]), Some(0), "not the beginning");
    assert_eq!(receive(&mut store, &parts[0]), Some(1000));
    assert_eq!(receive(&mut store, &parts[0]), Some(1000));
    assert_eq!(receive(&mut store, &parts[2]), Some(1000));
    assert_eq!(
        receive(&mut store, &Chunk { bytes: vec![0; 100_000].into(), ..parts[1].clone() }),
        Some(1000)
    );
    receive_all(&mut store, &parts[1..]);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (dir, mut store) = receiver();
    let parts = parts(40);
    for (at, chunk) in parts.iter().enumerate() {
        drop(store);
        store = open(dir.path());
        store.settle(0).unwrap();
        if at > 0 {
            assert_eq!(receive(&mut store, &parts[0]), Some(chunk.offset), "it says so when asked to begin");
        }
        let is_last = at + 1 == parts.len();
        let next = (!is_last).then(|| chunk.offset + chunk.bytes.len() as u64);
        assert_eq!(receive(&mut store, chunk), next);
    }
}

#[test]
fn another_file_starts_over() {
    let (dir, mut store) = receiver();
    let (old, new) = (parts(40), parts(60));
    receive(&mut store, &old[0]);
    receive(&mut store, &old[1]);
    assert_eq!(receive(&mut store, &new[0]), Some(1000));
    assert_eq!(received(dir.path()).len(), 1, "of the older one nothing is left");
    assert_eq!(receive(&mut store, &old[2]), Some(0));
    // The same index and term, written by another build.
    let image = ImageId { digest: 1, ..old[0].image };
    assert_eq!(receive(&mut store, &Chunk { image, ..old[2].clone() }), Some(0));
    receive_all(&mut store, &old);
    // One to which the log is being reset stays, whatever comes.
    store.pin(40);
    receive_all(&mut store, &new);
    store.promote(40).unwrap();
    assert_eq!((store.kept(), received(dir.path()).len()), ([40].as_slice(), 1));
    store.promote(60).unwrap();
    assert_eq!((store.kept(), received(dir.path()).len()), ([60].as_slice(), 0));
}

#[test]
fn what_arrives_damaged_begins_again() {
    let parts = parts(40);
    for (at, byte) in [(0, 0), (0, 60), (3, 500), (5, 299)] {
        let (dir, mut store) = receiver();
        for (number, chunk) in parts.iter().enumerate() {
            let mut bytes = chunk.bytes.to_vec();
            let byte = byte % bytes.len();
            bytes[byte] ^= u8::from(number == at);
            let last = receive(&mut store, &Chunk { bytes: bytes.into(), ..chunk.clone() });
            assert!(last.is_some(), "part {at}, byte {byte}");
        }
        assert_eq!(received(dir.path()).len(), 0);
        receive_all(&mut store, &parts);
    }
    // As is a file that was named wrongly, or whose members are not those that the peer told.
    let (_dir, mut store) = receiver();
    for wrong in [0, 1, 2] {
        for chunk in &parts {
            let mut chunk = chunk.clone();
            match wrong {
                0 => chunk.image.digest ^= 1,
                1 => (chunk.image.term, chunk.meta.term) = (4, 4),
                _ => chunk.meta.members.voters.push(3),
            }
            assert!(receive(&mut store, &chunk).is_some(), "{wrong}");
        }
    }
    receive_all(&mut store, &parts);
}

#[test]
fn what_belongs_elsewhere_is_refused() {
    let (dir, _) = receiver();
    let mut store = SnapshotStore::open(dir.path(), ClusterId(8)).unwrap();
    let parts = parts(40);
    let (last, rest) = parts.split_last().unwrap();
    for chunk in rest {
        assert!(matches!(store.receive(chunk), Ok(Received::Partial(_))));
    }
    assert!(matches!(store.receive(last), Err(SnapshotError::WrongCluster { .. })));
    assert_eq!(received(dir.path()).len(), 0);
}

/// Power is lost: of what was not synced any part may be missing, and the file may be as long as it would be.
#[test]
fn parts_that_a_crash_has_spoiled_are_sent_again() {
    let (dir, mut store) = receiver();
    let parts = parts(40);
    assert!(parts[..4].iter().all(|chunk| receive(&mut store, chunk).is_some()));
    for spoil in [0, 1, 2] {
        let copy = copied(dir.path());
        let file = &received(copy.path())[0];
        let mut bytes = fs::read(file).unwrap();
        match spoil {
            0 => bytes[1500..2500].fill(0),
            1 => bytes.truncate(1234),
            _ => bytes.resize(10_000, 0),
        }
        fs::write(file, &bytes).unwrap();
        let mut store = open(copy.path());
        store.settle(0).unwrap();
        let mut have = receive(&mut store, &parts[0]).unwrap();
        let mut sent = 0;
        let file: Vec<u8> = parts.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        loop {
            sent += 1;
            assert!(sent < 20, "it never ends");
            let from = usize::try_from(have).unwrap();
            let bytes = file[from..file.len().min(from + PART_LEN)].to_vec().into();
            match receive(&mut store, &Chunk { offset: have, bytes, ..parts[0].clone() }) {
                Some(more) => have = more,
                None => break,
            }
        }
    }
}

#[test]
fn a_crash_around_the_reset_leaves_a_snapshot_that_the_log_follows() {
    let (dir, mut store) = receiver();
    receive_all(&mut store, &parts(40));
    // Before the reset was durable: the old log and the old snapshot count.
    let before = copied(dir.path());
    let mut store_before = open(before.path());
    store_before.settle(0).unwrap();
    assert_eq!(store_before.load_latest(5).unwrap().unwrap().meta, meta(10));
    assert_eq!(receive(&mut store_before, &parts(40)[0]), None, "it need not be sent again");
    // After it: promoted at the start. So it is if another one was on its way by then.
    for other in [false, true] {
        let after = copied(dir.path());
        if other {
            let mut store = open(after.path());
            store.pin(40);
            receive(&mut store, &parts(60)[0]);
        }
        let mut store = open(after.path());
        store.settle(40).unwrap();
        assert_eq!((store.kept(), received(after.path()).len()), ([40].as_slice(), usize::from(other)));
        assert_eq!(store.load_latest(41).unwrap().unwrap().meta, meta(40));
        // Renamed, and the older one not yet deleted.
        fs::copy(kept_path(dir.path(), 10), kept_path(after.path(), 10)).unwrap();
        let mut store = open(after.path());
        store.settle(40).unwrap();
        assert_eq!(store.load_latest(41).unwrap().unwrap().meta, meta(40));
        // Snapshots of its own take over in time.
        [50, 60, 70].iter().for_each(|index| save(&mut store, *index));
        let mut store = open(after.path());
        store.settle(40).unwrap();
        assert_eq!((store.kept(), received(after.path()).len()), ([60, 70].as_slice(), 0));
    }
    // Neither here nor there, or only in part.
    let lost = copied(dir.path());
    let file = &received(lost.path())[0];
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
    for _ in 0..2 {
        let error = open(lost.path()).settle(40).unwrap_err();
        assert!(matches!(error, SnapshotError::Missing { index: 40, .. }), "{error}");
        assert!(error.to_string().contains("restore the whole data directory"), "{error}");
        let _ = fs::remove_file(file);
    }
}

#[test]
fn leftovers_go_when_the_directory_is_opened() {
    let (dir, mut store) = receiver();
    let parts = [parts(40), parts(60), parts(80)];
    for part in &parts {
        receive(&mut store, &part[0]);
        store.pin(part[0].image.index);
    }
    assert_eq!(received(dir.path()).len(), 3);
    drop(store);
    let mut store = open(dir.path());
    store.settle(0).unwrap();
    assert_eq!(received(dir.path()).len(), 1);
    assert_eq!(receive(&mut store, &parts[2][0]), Some(1000));
    // A file that has been overtaken.
    save(&mut store, 90);
    let mut store = open(dir.path());
    store.settle(0).unwrap();
    assert_eq!(received(dir.path()).len(), 0);
}
