//! A node starts only from files that belong together.
//!
//! Deliberately not here: files that are damaged each by itself (`wal_damage`, `wal_snapshot`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::path::Path;

use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{Append, HardState, Members, SnapshotMeta};
use sluice_core::replica::peer::Chunk;
use sluice_engine::config::{Config, ConfigArgs};
use sluice_engine::datadir::DataDir;
use sluice_engine::node::Node;
use sluice_engine::snapshot::{Received, SnapshotStore};
use sluice_engine::wal::{Backend, Options};

fn config(data: &Path, backend: Backend) -> Config {
    let args = ConfigArgs::default()
        .with("node.data", data.display())
        .with("node.listen", "127.0.0.1:0")
        .with("ops.listen", "127.0.0.1:0")
        .with("log.backend", backend.name())
        .with("log.disk_free_min", "0");
    Config::load(&args).unwrap()
}

fn alone() -> Members {
    Members { voters: vec![1], ..Members::default() }
}

/// The node would go on with entry 2 of a ledger that has not seen entry 1.
#[test]
fn a_snapshot_of_another_index_than_its_ledger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = config(&data, Backend::DEFAULT);
    Node::start(&config).unwrap().stop();

    let cluster = DataDir::open(&data).unwrap().identity().unwrap().cluster;
    let meta = SnapshotMeta { index: 1, term: 1, members: alone() };
    let empty = Ledger::new(Settings::default(), 0).freeze();
    SnapshotStore::open(&data, cluster).unwrap().save(&meta, empty.sections(), |_| {}).unwrap();

    let error = Node::start(&config).err().unwrap().to_string();
    assert!(error.contains("its file is of another index than its ledger"), "{error}");
}

/// A follower that was killed between the log's reset and the snapshot's promotion goes on from the snapshot; without
/// the file it refuses, and says what to do.
#[test]
fn a_log_that_was_reset_goes_on_from_the_snapshot_that_was_received() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let config = config(&data, backend);
        Node::start(&config).unwrap().stop();
        let cluster = DataDir::open(&data).unwrap().identity().unwrap().cluster;

        let mut ledger = Ledger::new(Settings::default(), 0);
        ledger.apply(500, 7, &[], &mut Ignore).unwrap();
        let meta = SnapshotMeta { index: 500, term: 7, members: alone() };
        let other = tempfile::tempdir().unwrap();
        let mut sender = SnapshotStore::open(other.path(), cluster).unwrap();
        sender.save(&meta, ledger.freeze().sections(), |_| {}).unwrap();
        let (image, meta, bytes) = sender.read_chunk(500, 0, 1 << 20).unwrap();
        let mut receiver = SnapshotStore::open(&data, cluster).unwrap();
        let whole = receiver.receive(&Chunk { image, meta, offset: 0, bytes }).unwrap();
        assert!(matches!(whole, Received::Whole(..)));
        let (mut log, found) = Backend::open(&data, Options::default()).unwrap();
        assert!(found.hard_state.term < 7 && found.hard_state.commit < 500);
        let hard_state = Some(HardState { term: 7, vote: 0, commit: 500 });
        log.append(&Append { hard_state, reset: Some((500, 7)), compact_to: 500, ..Append::default() })
            .unwrap();
        log.close().unwrap();

        // A copy of it has lost the file.
        let lost = dir.path().join("lost");
        wal_support::copy_dir(&data, &lost);
        let received = std::fs::read_dir(lost.join("snapshots")).unwrap().map(|item| item.unwrap());
        let received = received.filter(|item| item.file_name().to_str().unwrap().starts_with("received-"));
        received.for_each(|item| std::fs::remove_file(item.path()).unwrap());
        let error = Node::start(&self::config(&lost, backend)).err().unwrap().to_string();
        assert!(error.contains("a peer sent, at entry 500") && error.contains("restore"), "{error}");

        // The first start promotes it, and what follows is written behind it.
        for _ in 0..3 {
            Node::start(&config).unwrap().stop();
        }
        let (log, found) = Backend::open(&data, Options::default()).unwrap();
        assert_eq!(found.log_base, 500);
        assert!(found.first_index > 500 && !found.entries.is_empty(), "{found:?}");
        log.close().unwrap();
        let kept = SnapshotStore::open(&data, cluster).unwrap().kept().to_vec();
        assert!(!kept.is_empty() && kept[0] >= 500, "{kept:?}");
        assert_eq!(DataDir::open(&data).unwrap().boot(), 6);
    }
}
