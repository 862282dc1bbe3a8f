//! The node's own snapshots: when one is due, and what follows when it is saved. Deliberately not here: those that
//! travel (`transfer`), and files.

use super::{Actions, Replica};
use crate::ledger::Image;

/// Of the log's growth that makes a snapshot due, the part after which one that could not be saved is tried again.
const RETRY_PART: u64 = 16;

impl Replica {
    /// The snapshot that was asked for last is durable.
    pub fn snapshot_saved(&mut self) {
        let (meta, bytes) = self.saving.take().expect("a snapshot was asked for");
        self.snapshot_at_bytes = self.config.snapshot_every_bytes;
        // One from the leader may have come in between.
        if meta.index <= self.snapshots[0] {
            return;
        }
        self.snapshots = [meta.index, self.snapshots[0]];
        self.log_bytes -= bytes;
        // A follower that is a little behind is served from memory, not by a snapshot.
        let alone = self.members.is_alone(self.config.identity.node);
        self.node.mut_store().compact(self.snapshots[usize::from(!alone)]);
        self.node.mut_store().offer(meta);
    }

    /// The snapshot that was asked for last could not be saved: the log stays as it is. Another will be tried when
    /// the log has grown some more, since what failed just now would fail again.
    pub fn snapshot_failed(&mut self) {
        self.saving = None;
        let more = self.config.snapshot_every_bytes / RETRY_PART;
        self.snapshot_at_bytes = self.log_bytes.saturating_add(more.max(1));
    }

    /// The state as of the last entry that is applied here, for somebody who looks at all of it. Costs what a snapshot costs
    /// without the disk.
    pub fn freeze(&mut self) -> Image {
        self.ledger.freeze()
    }

    /// Asks for a snapshot now, whatever the log's size.
    pub fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// Takes a snapshot if one is due.
    pub(super) fn freeze_if_due(&mut self, actions: &mut Actions) {
        let due = self.snapshot_wanted || self.log_bytes >= self.snapshot_at_bytes;
        let index = self.ledger.index();
        // Of a snapshot that is being installed there is one already, of what follows it none can be needed yet.
        if !due || self.saving.is_some() || index == self.snapshots[0] || self.installing.is_some() {
            self.snapshot_wanted &= index != self.snapshots[0];
            return;
        }
        let meta = self.snapshot_meta(index);
        self.snapshot_wanted = false;
        self.saving = Some((meta.clone(), self.log_bytes));
        actions.snapshot = Some((meta, self.ledger.freeze()));
    }
}
