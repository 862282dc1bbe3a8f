//! A disk, with the contract of the real store (docs/STORAGE.md) and every fault it must survive.
//!
//! - `frame`: a step of the log as bytes
//! - `log`: segments of frames, the fence, and how they are read back
//! - `image`: a snapshot's file
//! - `events`: the files of events
//!
//! What was written and not synced may vanish in any part when the process dies. What was synced is found again, or the
//! disk is refused: damage, a missing middle, a log that ends before the fence. Deliberately not here: how long
//! anything takes; the world decides that.

mod events;
mod frame;
mod image;
mod log;

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_core::replica::disk::{Append, HardState, LogEntry, SnapshotMeta};
use sluice_core::replica::peer::{Chunk, ImageId};
use sluice_core::replica::{CHUNK_LEN, Recovered};
use thiserror::Error;

pub use self::events::EventFiles;
pub use self::image::SnapshotFile;
use self::log::Log;
use crate::random::Random;

/// Snapshots that are kept.
const SNAPSHOTS_KEPT: usize = 2;

/// Why a disk is refused. Nothing on it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A frame is not what was written.
    #[error("the log is damaged")]
    Damaged,
    /// Frames are missing although later ones are there.
    #[error("a part of the log is missing")]
    Missing,
    /// The log ends before what was acknowledged.
    #[error("the end of the log is lost")]
    Short,
    /// No snapshot can be loaded to which the log reaches back.
    #[error("no snapshot can be used")]
    Snapshot,
}

/// Where a bit flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the log.
    Log,
    /// In the newest snapshot.
    Snapshot,
    /// In both of them.
    BothSnapshots,
    /// In one slot of the fence.
    Fence,
}

/// What a process starts with.
#[derive(Debug)]
pub struct Found {
    /// How often the disk was opened, this time included.
    pub boot: u64,
    /// All that a replica needs.
    pub recovered: Recovered,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    /// Drawn when it was made.
    pub incarnation: u64,
    boot: u64,
    log: Log,
    snapshots: BTreeMap<u64, SnapshotFile>,
    /// A file that a peer sends: its name, and what has been written of it. Never synced.
    receiving: Option<(ImageId, Vec<u8>)>,
    /// Received files that are whole and synced, by index and term. One of them may take the place of all others.
    received: BTreeMap<(u64, u64), SnapshotFile>,
    /// The files of events.
    pub events: EventFiles,
    /// Somebody has taken from it what was synced, by rot, a lie or another copy: it may be refused.
    pub is_harmed: bool,
}

impl SimDisk {
    /// A new disk: nothing but a first snapshot.
    pub fn new(incarnation: u64, genesis: SnapshotFile) -> Self {
        Self {
            incarnation,
            boot: 0,
            log: Log::default(),
            snapshots: BTreeMap::from([(genesis.id.index, genesis)]),
            receiving: None,
            received: BTreeMap::new(),
            events: EventFiles::default(),
            is_harmed: false,
        }
    }

    /// Writes a step behind the log. It is not synced.
    pub fn write(&mut self, step: &Append) {
        self.log.write(step);
    }

    /// Syncs the log. A received snapshot that the log was reset to takes the place of all others.
    pub fn sync(&mut self, step: &Append, now_us: u64) {
        self.log.sync(now_us);
        if let Some((index, term)) = step.reset {
            self.adopt(index, term);
        }
    }

    fn adopt(&mut self, index: u64, term: u64) {
        if let Some(file) = self.received.remove(&(index, term)) {
            self.snapshots = BTreeMap::from([(index, file)]);
            self.received.retain(|(later, _), _| *later > index);
        }
    }

    /// The process has ended in order: everything was synced.
    pub fn close(&mut self, now_us: u64) {
        self.log.settle(now_us);
    }

    /// The process or the machine has died. Whether anything that was written is lost.
    pub fn crash(&mut self, now_us: u64, random: &mut Random) -> bool {
        self.log.settle(now_us);
        self.receiving = None;
        // Of events nobody is told what was lost: the log makes them again.
        self.events.crash(random);
        self.log.crash(random)
    }

    /// A snapshot was written aside, synced and renamed; all but the newest two go.
    pub fn save(&mut self, file: SnapshotFile) {
        self.snapshots.insert(file.id.index, file);
        while self.snapshots.len() > SNAPSHOTS_KEPT {
            self.snapshots.pop_first();
        }
    }

    /// A part of a snapshot's file.
    pub fn read_chunk(&self, index: u64, offset: u64) -> Option<(ImageId, SnapshotMeta, Bytes)> {
        let file = self.snapshots.get(&index)?;
        let from = usize::try_from(offset).ok().filter(|from| *from < file.bytes.len())?;
        let to = (from + CHUNK_LEN).min(file.bytes.len());
        Some((file.id, file.meta.clone(), Bytes::copy_from_slice(&file.bytes[from..to])))
    }

    /// Writes a part of a file that a peer sends. Returns how much of it is there from its start.
    pub fn write_chunk(&mut self, chunk: &Chunk) -> u64 {
        if self.receiving.as_ref().is_none_or(|(id, _)| *id != chunk.image) {
            self.receiving = Some((chunk.image, Vec::new()));
        }
        let (_, bytes) = self.receiving.as_mut().expect("it was just made");
        if chunk.offset == bytes.len() as u64 && chunk.offset + chunk.bytes.len() as u64 <= chunk.image.len {
            bytes.extend_from_slice(&chunk.bytes);
        }
        bytes.len() as u64
    }

    /// The file that has come is whole: it is checked and synced. `None` if it is not what was sent; then it is gone.
    pub fn receive(&mut self, image: ImageId) -> Option<SnapshotFile> {
        let (id, bytes) = self.receiving.take_if(|(id, _)| *id == image)?;
        let file = SnapshotFile::received(id, bytes)?;
        self.received.insert((image.index, image.term), file.clone());
        Some(file)
    }

    /// Opens the disk: everything is checked, the boot counter rises, a torn end is cut.
    ///
    /// # Errors
    /// [`Refusal`] if what was synced is not all there.
    pub fn open(&mut self, seed: u64) -> Result<Found, Refusal> {
        let kept = self.log.open()?;
        self.receiving = None;
        let (reset_index, reset_term) = kept.reset;
        self.adopt(reset_index, reset_term);
        self.received.clear();
        let first = kept.entries.first().map_or(u64::MAX, |entry| entry.index);
        // An older snapshot serves if the log reaches back to it; without a log there is nothing to reach.
        let reaches = |index: u64| first == u64::MAX || index + 1 >= first;
        let usable = self.snapshots.iter().rev().filter(|(index, _)| **index >= reset_index);
        let loaded = usable
            .filter(|(index, _)| reaches(**index))
            .find_map(|(_, file)| file.load(seed))
            .ok_or(Refusal::Snapshot)?;
        let (snapshot, ledger) = loaded;
        let last = kept.entries.last().map_or(reset_index, |entry| entry.index);
        if last < snapshot.index {
            return Err(Refusal::Short);
        }
        let kept_by = self.snapshots.keys().filter(|index| **index < snapshot.index && reaches(**index));
        let older_snapshot = kept_by.max().copied().unwrap_or(snapshot.index);
        self.boot += 1;
        self.events.open(ledger.sequence());
        let recovered = Recovered {
            snapshot,
            older_snapshot,
            ledger,
            hard_state: kept.hard_state,
            entries: kept.entries,
            log_base: reset_index,
        };
        Ok(Found { boot: self.boot, recovered })
    }

    /// What the log holds, as it would be read now.
    pub fn log(&self) -> Option<(HardState, Vec<LogEntry>)> {
        let kept = self.log.clone().open().ok()?;
        Some((kept.hard_state, kept.entries))
    }

    /// How often it was opened.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Raft's hard state and the last index, as far as they are synced.
    pub fn synced(&self) -> (HardState, u64) {
        self.log.synced()
    }

    /// The newest snapshot's index.
    pub fn newest_snapshot(&self) -> u64 {
        self.snapshots.keys().next_back().copied().unwrap_or(0)
    }

    /// From now on syncs say that they are done, and do nothing; or they are honest again.
    pub fn lie(&mut self, lying: bool) {
        self.is_harmed |= lying;
        self.log.lie(lying);
    }

    /// Flips a bit. Whether it hit anything.
    pub fn rot(&mut self, place: Place, random: &mut Random) -> bool {
        // One slot of the fence stands in for the other, and the older snapshot for the newer.
        let spare =
            self.snapshots.len() == SNAPSHOTS_KEPT && self.snapshots.values().all(SnapshotFile::is_intact);
        self.is_harmed |= match place {
            Place::Log | Place::BothSnapshots => true,
            Place::Snapshot => !spare,
            Place::Fence => false,
        };
        match place {
            Place::Log => self.log.rot(random),
            Place::Fence => {
                self.is_harmed |= !self.log.rot_fence(random);
                true
            }
            Place::Snapshot | Place::BothSnapshots => {
                let many = if place == Place::Snapshot { 1 } else { SNAPSHOTS_KEPT };
                for file in self.snapshots.values_mut().rev().take(many) {
                    let at = random.below(file.bytes.len() as u64) as usize;
                    file.flip(at, random.below(8) as u32);
                }
                true
            }
        }
    }
}
