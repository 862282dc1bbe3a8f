//! The data directory: one holder, one identity, and a creation that a crash may cut anywhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs;
use std::path::Path;

use sluice_engine::datadir::{DataDir, DataDirError, Identity, free_bytes};
use sluice_engine::wal::{SledStore, StoreError};
use sluice_protocol::ids::{ClusterId, NodeId};
use wal_support::{append, close, entries, open};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
    node: NodeId(3),
    incarnation: 0xabcd,
};

/// The bytes that docs/STORAGE.md shows.
const GOLDEN: &str =
    "format=1\ncluster=0123456789abcdef0123456789abcdef\nnode=3\nincarnation=000000000000abcd\n";

fn sealed(path: &Path) {
    let mut dir = DataDir::open(path).unwrap();
    SledStore::create(path).unwrap();
    dir.seal(IDENTITY).unwrap();
}

#[test]
fn an_identity_is_written_once_and_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    {
        let mut dir = DataDir::open(&path).unwrap();
        assert_eq!(dir.identity(), None);
        SledStore::create(&path).unwrap();
        dir.seal(IDENTITY).unwrap();
        assert_eq!(dir.identity(), Some(IDENTITY));
    }
    assert_eq!(DataDir::open(&path).unwrap().identity(), Some(IDENTITY));
    let expected = format!("{GOLDEN}crc={:08x}\n", crc32fast::hash(GOLDEN.as_bytes()));
    assert_eq!(fs::read_to_string(path.join("IDENTITY")).unwrap(), expected);
    assert!(free_bytes(&path).unwrap() > 0);
}

#[test]
fn every_opening_is_counted_before_anything_else_is_done() {
    let temp = tempfile::tempdir().unwrap();
    let (path, file) = (temp.path(), temp.path().join("BOOT"));
    assert_eq!(DataDir::open(path).unwrap().boot(), 1);
    assert_eq!(DataDir::open(path).unwrap().boot(), 2);
    sealed(path);
    assert_eq!(DataDir::open(path).unwrap().boot(), 4);
    let body = "format=1\nboot=4\n";
    let whole = format!("{body}crc={:08x}\n", crc32fast::hash(body.as_bytes()));
    assert_eq!(fs::read_to_string(&file).unwrap(), whole);
    // One that is refused is not counted.
    let held = DataDir::open(path).unwrap();
    assert!(DataDir::open(path).is_err());
    drop(held);
    assert_eq!(DataDir::open(path).unwrap().boot(), 6);
    // A crash before the new count has its name leaves the old one.
    fs::write(path.join("BOOT.tmp"), b"form").unwrap();
    assert_eq!(DataDir::open(path).unwrap().boot(), 7);
    assert!(!path.join("BOOT.tmp").exists());
    for at in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(matches!(DataDir::open(path), Err(DataDirError::Damaged { .. })), "byte {at}");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(DataDir::open(path), Err(DataDirError::Damaged { .. })), "cut to {at}");
    }
    let newer = "format=2\nboot=many\n";
    fs::write(&file, format!("{newer}crc={:08x}\n", crc32fast::hash(newer.as_bytes()))).unwrap();
    assert!(matches!(DataDir::open(path), Err(DataDirError::NewerFormat { found: 2, .. })));
    // A directory of an older build has none.
    fs::remove_file(&file).unwrap();
    assert_eq!(DataDir::open(path).unwrap().boot(), 1);
}

#[test]
fn a_directory_is_held_until_it_is_let_go() {
    let temp = tempfile::tempdir().unwrap();
    let held = DataDir::open(temp.path()).unwrap();
    match DataDir::open(temp.path()) {
        Err(DataDirError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    drop(held);
    DataDir::open(temp.path()).unwrap();
}

#[test]
fn every_damaged_byte_of_the_identity_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    sealed(temp.path());
    let file = temp.path().join("IDENTITY");
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&file, &bytes).unwrap();
            let result = DataDir::open(temp.path());
            assert!(matches!(result, Err(DataDirError::Damaged { .. })), "byte {at} bit {bit}: {result:?}");
        }
        fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::Damaged { .. })), "cut to {at}");
    }
}

#[test]
fn a_later_format_is_called_that() {
    let temp = tempfile::tempdir().unwrap();
    sealed(temp.path());
    let body = "format=2\nshape=round\n";
    let text = format!("{body}crc={:08x}\n", crc32fast::hash(body.as_bytes()));
    fs::write(temp.path().join("IDENTITY"), text).unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::NewerFormat { found: 2, .. })));
}

#[test]
fn a_creation_that_was_cut_short_is_completed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path();
    // Nothing but the lock; then the log, too; then an identity that was not yet renamed.
    drop(DataDir::open(path).unwrap());
    assert_eq!(DataDir::open(path).unwrap().identity(), None);
    SledStore::create(path).unwrap();
    assert_eq!(DataDir::open(path).unwrap().identity(), None);
    fs::write(path.join("IDENTITY.tmp"), b"format").unwrap();
    sealed(path);
    assert_eq!(DataDir::open(path).unwrap().identity(), Some(IDENTITY));
    assert!(!path.join("IDENTITY.tmp").exists());
}

#[test]
fn a_lost_identity_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    sealed(temp.path());
    let (mut store, _) = open(temp.path()).unwrap();
    store.append(&append(entries(1, 1, 1, 10), 1, 0)).unwrap();
    close(store);
    fs::remove_file(temp.path().join("IDENTITY")).unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::Damaged { .. })));
}

#[test]
fn somebody_elses_directory_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("thesis.tex"), b"x").unwrap();
    match DataDir::open(temp.path()) {
        Err(DataDirError::Foreign { found, .. }) => assert_eq!(found, "thesis.tex"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "not even a lock is left there");
}

#[test]
fn a_lost_log_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    sealed(temp.path());
    fs::remove_dir_all(temp.path().join("wal")).unwrap();
    fs::remove_file(temp.path().join("wal.fence")).unwrap();
    assert!(matches!(open(temp.path()), Err(StoreError::Lost { .. })));
    assert!(matches!(SledStore::create(temp.path()), Err(StoreError::Lost { .. })));
}
