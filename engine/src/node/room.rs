//! The room on the disk: below a minimum nothing is admitted, so that the log never meets the end of it. The same while a disk
//! cannot keep up with events, so that memory never meets its own.
//!
//! Looked at after each step of the log, and now and then: a fast log fills tens of megabytes between two looks at a
//! clock, and room comes back by other hands. Deliberately not here: what is refused meanwhile.

use std::path::PathBuf;

use super::shared::Shared;
use crate::datadir::free_bytes;

/// Bytes of events that may wait for their files.
const EVENTS_WAITING_MAX: u64 = 256 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// The data directory.
    pub(super) dir: PathBuf,
    /// Bytes below which nothing is admitted.
    pub(super) min: u64,
}

impl Room {
    /// Shuts or opens admission by what is free now. Any thread may call it.
    pub(super) fn look(&self, shared: &Shared) {
        let room = free_bytes(&self.dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "the room on the disk is not known");
            u64::MAX
        });
        shared.metrics.disk_free_bytes.set(room);
        let waiting = shared.events.queued_bytes();
        let admitting = room >= self.min && waiting < EVENTS_WAITING_MAX;
        if !shared.board.set_admitting(admitting) {
            return;
        }
        if admitting {
            tracing::info!(room, "there is room on the disk again: admitting");
        } else if room >= self.min {
            tracing::error!(
                waiting,
                "the disk does not keep up with events: nothing is admitted, reads go on"
            );
        } else {
            tracing::error!(
                room,
                min = self.min,
                "the disk is nearly full: nothing is admitted, reads go on"
            );
        }
    }
}
