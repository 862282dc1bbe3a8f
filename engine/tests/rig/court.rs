//! The simulator's judges for a cluster of real processes: what clients said and heard is taken from the taps, what nodes
//! wrote from their directories whenever one does not run.
//!
//! Nodes let go of the front of their logs, so they are looked at each time they are killed or stopped; the pieces overlap.
//! What is read is a copy: nothing here may repair what a node is to recover from. Deliberately not here: the judges.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use sluice_engine::child::cluster::{Door, LocalCluster};
use sluice_engine::child::free_address;
use sluice_engine::snapshot::Snapshot;
use sluice_engine::wal::{Backend, Options};
use sluice_judges::recorded::{Evidence, FoundLog, Image, Verdict};

use super::taps::Taps;
use super::{copy_dir, snapshots_in};

/// Where copies are read: their syncs cost nothing there.
const COPIES: &str = "/dev/shm";

/// What of a data directory is no part of the log.
const NOT_THE_LOG: [&str; 2] = ["snapshots", "LOCK"];

/// See the module.
pub struct Court {
    pub taps: Taps,
    logs: Vec<FoundLog>,
    /// What is in entries that were found: the same bytes are kept once.
    known: HashMap<(u64, u64), Bytes>,
}

impl Court {
    /// For so many nodes that will be there.
    pub fn open(nodes: u64) -> Self {
        Self { taps: Taps::open(nodes), logs: Vec::new(), known: HashMap::new() }
    }

    /// The doors of nodes, these or others, that tell clients to come to the taps.
    pub fn doors(&self, doors: &[Door]) -> Vec<Door> {
        let door = |(nth, tap)| match doors.get(nth) {
            Some(door) => Door { clients: Some(tap), ..*door },
            None => {
                let peers = free_address().unwrap();
                Door { listen: peers, advertise: peers, clients: Some(tap) }
            }
        };
        self.taps.addresses.iter().copied().enumerate().map(door).collect()
    }

    /// Reads the log of a node that does not run. `last`: it stopped cleanly, and for good.
    pub fn look_at(&mut self, node: u64, data: &Path, last: bool) {
        let copies = tempfile::tempdir_in(COPIES).unwrap();
        for item in fs::read_dir(data).unwrap() {
            let item = item.unwrap();
            let name = item.file_name().into_string().unwrap();
            let target = copies.path().join(&name);
            if NOT_THE_LOG.contains(&name.as_str()) {
                continue;
            }
            if item.file_type().unwrap().is_dir() {
                copy_dir(&item.path(), &target);
            } else {
                fs::copy(item.path(), target).unwrap();
            }
        }
        let opened = Backend::open(copies.path(), Options::default());
        let (_, found) = opened.unwrap_or_else(|error| panic!("the log of node {node}: {error}"));
        let snapshots = snapshots_in(data);
        let applied = snapshots.iter().copied().max().unwrap_or(0);
        // Logs are cut when nodes join, which is before the first client comes. One such snapshot is enough.
        let is_wanted = found.first_index > 1 && self.logs.iter().all(|log| log.void.is_none());
        let images = snapshots.iter().filter(|_| is_wanted).map(|index| image(node, data, *index));
        let void = images.filter_map(|image| image.void()).max_by_key(|void| void.index);
        let (hard_state, mut entries) = (found.hard_state, found.entries);
        for entry in &mut entries {
            let known = self.known.entry((entry.index, entry.term)).or_insert_with(|| entry.data.clone());
            if *known == entry.data {
                entry.data = known.clone();
            }
        }
        self.logs.push(FoundLog { node, hard_state, applied, void, entries, last });
    }

    /// All that is known when the nodes have stopped for good.
    pub fn evidence(mut self, cluster: &LocalCluster) -> Evidence {
        let mut images = Vec::new();
        for node in cluster.ids() {
            let data = &cluster.node(node).launch().data;
            self.look_at(node, data, true);
            images.extend(snapshots_in(data).into_iter().map(|index| image(node, data, index)));
        }
        Evidence { events: self.taps.events(), logs: self.logs, images }
    }
}

/// A node's snapshot.
fn image(node: u64, data: &Path, index: u64) -> Image {
    let file = data.join("snapshots").join(format!("snapshot-{index:016x}.sluice"));
    let (_, snapshot) = Snapshot::read(fs::read(file).unwrap()).expect("a snapshot is whole");
    Image { node, index, sections: snapshot.sections().map(<[u8]>::to_vec).collect() }
}

/// Judges a run, and fails with what was found.
pub fn accuse(evidence: &Evidence, words: impl Fn() -> String) -> Verdict {
    let verdict = evidence.judge().unwrap_or_else(|what| panic!("cannot be judged: {what}\n{}", words()));
    let found: Vec<String> = verdict.violations.iter().map(|found| format!("judges: {found}")).collect();
    assert!(found.is_empty(), "{}\n{}", found.join("\n"), words());
    assert!(verdict.tally.checks["linearizability"] > 0, "nobody was heard");
    verdict
}

/// The same of a run in which every judge must have had something to look at.
pub fn judge(evidence: &Evidence, words: impl Fn() -> String) -> Verdict {
    let verdict = accuse(evidence, words);
    let idle = verdict.idle();
    assert!(idle.is_empty(), "{idle:?} had nothing to judge: {:?}", verdict.tally);
    verdict
}
