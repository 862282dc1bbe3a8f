//! The thread for snapshot files: saves the node's own, reads them for peers, keeps what peers send. And for digests of the
//! whole state, which replicas compare.
//!
//! All of it may take long, and nobody waits for it but the replica's queue. Orders are carried out one after the other,
//! as they come: what the replica says of one file depends on what it said of another before.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use sluice_core::ledger::image::Image;
use sluice_core::replica::disk::SnapshotMeta;
use sluice_core::replica::peer::Chunk;
use sluice_core::replica::{CHUNK_LEN, ChunkRead, STEPS_MAX};

use super::recovery;
use super::shared::{Part, Report, Shared, give_up};
use crate::failpoint::{self, Point};
use crate::snapshot::{Received, SnapshotStore};

/// Parts of files that may be under way. More are dropped: whoever needs them asks again.
pub(super) const PARTS_MAX: usize = 16;

/// Orders that may wait: those parts, one snapshot, one digest, and what the log's resets entail. So the replica never waits.
pub(super) const ORDERS_MAX: usize = PARTS_MAX + 2 + 2 * STEPS_MAX;

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Save the node's own.
    Save(SnapshotMeta, Image),
    /// Take the digest of the state behind an index.
    Digest(u64, Image),
    /// Read a part for a peer.
    Read(ChunkRead),
    /// Write a part that a peer has sent.
    Write(Chunk),
    /// The log is being reset to the received snapshot of this index.
    Pin(u64),
    /// The log was reset to it, durably.
    Promote(u64),
}

/// The files, and what loading one takes.
pub(super) struct Files {
    pub(super) store: SnapshotStore,
    pub(super) records_expected: usize,
    pub(super) seed: u64,
}

/// Carries out orders until the replica lets go of its end.
pub(super) fn run(shared: &Shared, mut files: Files, orders: &Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Save(meta, image) => save(shared, &mut files.store, &meta, image),
            Order::Digest(index, image) => shared.report(Report::Digest(index, image.digest())),
            Order::Read(wanted) => shared.report(Report::Part(files.read(wanted))),
            Order::Write(chunk) => shared.report(Report::Part(files.write(&chunk))),
            Order::Pin(index) => files.store.pin(index),
            Order::Promote(index) => {
                if let Err(error) = files.store.promote(index) {
                    give_up(
                        shared,
                        &format!("the snapshot that the log goes on from cannot be kept: {error}"),
                    );
                }
                shared.metrics.snapshot_index.set(index);
                tracing::info!(index, "a snapshot from a peer is in use");
            }
        }
    }
}

fn save(shared: &Shared, store: &mut SnapshotStore, meta: &SnapshotMeta, image: Image) {
    let start = Instant::now();
    // Behind the snapshot the log may go, from which they could be made again.
    shared.events.sync_upto(image.sequence());
    let saved = store.save(meta, image.sections(), |_| {});
    match &saved {
        Ok(bytes) => {
            let metrics = &shared.metrics;
            metrics.snapshots.increment();
            metrics.snapshot_bytes.add(*bytes);
            metrics.snapshot_duration.record(start.elapsed());
            metrics.snapshot_index.set(meta.index);
            tracing::info!(
                index = meta.index,
                bytes,
                ms = start.elapsed().as_millis() as u64,
                "snapshot saved"
            );
        }
        // The log is whole without it, so serving goes on; the log only cannot be shortened.
        Err(error) => {
            tracing::error!(%error, "a snapshot could not be saved; the log stays as long as it is");
        }
    }
    failpoint::reach(Point::SnapshotSaved);
    shared.report(Report::Snapshot(saved.is_ok()));
}

impl Files {
    fn read(&mut self, wanted: ChunkRead) -> Part {
        let read = self.store.read_chunk(wanted.index, wanted.offset, CHUNK_LEN);
        if let Err(error) = &read {
            tracing::warn!(%error, to = wanted.to, "a snapshot cannot be sent");
        }
        Part::Read(wanted, read.ok().map(Box::new))
    }

    fn write(&mut self, chunk: &Chunk) -> Part {
        let received = match self.store.receive(chunk) {
            Ok(Received::Partial(have)) => return Part::Stored(chunk.image, have),
            Ok(Received::Whole(_, snapshot)) => recovery::load(&snapshot, self.records_expected, self.seed),
            Err(error) => {
                // Not answered: the leader asks again, and gives up after a while.
                tracing::error!(%error, "a snapshot from a peer cannot be kept");
                return Part::Failed;
            }
        };
        match received {
            Ok(ledger) => Part::Received(chunk.image, Box::new((chunk.meta.clone(), ledger))),
            Err(error) => {
                tracing::error!(%error, "a snapshot from a peer is no image of a ledger");
                self.store.discard(&chunk.image);
                Part::Stored(chunk.image, 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::ledger::Ledger;
    use sluice_core::ledger::effect::Ignore;
    use sluice_core::ledger::settings::Settings;
    use sluice_protocol::ids::ClusterId;

    use super::*;

    fn files(dir: &tempfile::TempDir) -> Files {
        let store = SnapshotStore::open(dir.path(), ClusterId(7)).unwrap();
        Files { store, records_expected: 100, seed: 1 }
    }

    /// Sends the snapshot at `index` from one node to another. What became of the last part.
    fn send(from: &mut Files, to: &mut Files, index: u64) -> Part {
        let mut wanted = ChunkRead { to: 2, index, offset: 0 };
        loop {
            let Part::Read(read, Some(part)) = from.read(wanted) else { panic!("{wanted:?} is kept") };
            let (image, meta, bytes) = *part;
            assert_eq!((read, bytes.is_empty()), (wanted, false));
            match to.write(&Chunk { image, meta, offset: wanted.offset, bytes }) {
                Part::Stored(stored, have) if have > wanted.offset => {
                    assert_eq!(stored, image);
                    wanted.offset = have;
                }
                last => return last,
            }
        }
    }

    #[test]
    fn a_ledger_travels_and_what_is_none_begins_again() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut from, mut to] = dirs.each_ref().map(files);
        let mut ledger = Ledger::new(Settings::default(), 3);
        ledger.apply(40, 2, &[], &mut Ignore).unwrap();
        let meta = SnapshotMeta { index: 40, term: 2, ..SnapshotMeta::default() };
        from.store.save(&meta, ledger.freeze().sections(), |_| {}).unwrap();
        let Part::Received(image, loaded) = send(&mut from, &mut to, 40) else { panic!("it is whole") };
        assert_eq!((image.index, loaded.0, loaded.1.index()), (40, meta.clone(), 40));
        // Its file says another index than the ledger in it.
        let meta = SnapshotMeta { index: 41, ..meta };
        from.store.save(&meta, ledger.freeze().sections(), |_| {}).unwrap();
        assert!(matches!(send(&mut from, &mut to, 41), Part::Stored(image, 0) if image.index == 41));
        // And one that is not there is not sent.
        let wanted = ChunkRead { to: 2, index: 42, offset: 0 };
        assert!(matches!(from.read(wanted), Part::Read(read, None) if read == wanted));
    }
}
