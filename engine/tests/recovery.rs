//! A node starts only from files that belong together.
//!
//! Deliberately not here: files that are damaged each by itself (`wal_damage`, `wal_snapshot`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_engine::config::{Config, ConfigArgs};
use sluice_engine::datadir::DataDir;
use sluice_engine::node::Node;
use sluice_engine::snapshot::SnapshotStore;

/// The node would go on with entry 2 of a ledger that has not seen entry 1.
#[test]
fn a_snapshot_of_another_index_than_its_ledger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ConfigArgs::default()
        .with("node.data", data.display())
        .with("node.listen", "127.0.0.1:0")
        .with("ops.listen", "127.0.0.1:0")
        .with("log.disk_free_min", "0");
    let config = Config::load(&args).unwrap();
    Node::start(&config).unwrap().stop();

    let cluster = DataDir::open(&data).unwrap().identity().unwrap().cluster;
    let members = Members { voters: vec![1], ..Members::default() };
    let meta = SnapshotMeta { index: 1, term: 1, members };
    let empty = Ledger::new(Settings::default(), 0).freeze();
    SnapshotStore::open(&data, cluster).unwrap().save(&meta, empty.sections(), |_| {}).unwrap();

    let error = Node::start(&config).err().unwrap().to_string();
    assert!(error.contains("its file is of another index than its ledger"), "{error}");
}
