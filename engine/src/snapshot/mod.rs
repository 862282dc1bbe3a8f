//! Snapshot files: an image of the ledger as of one log index, so that the log before it may go.
//!
//! A file is written aside, synced and renamed, so a name without `.tmp` is a whole file. The last two are kept: if
//! the newer is found damaged, the older serves, provided that the log still reaches back to it. docs/STORAGE.md has
//! the bytes.
//!
//! - `format`: the bytes of a file
//! - `received`: files that come from a peer, in parts
//! - `serve`: files that go to a peer, in parts
//! - `shelf`: files for auditors, who read beside the store
//! - `error`: why a file could not be written or read
//!
//! Relies on the caller holding the data directory's lock and on one save at a time. Deliberately not here: what is in
//! the sections, and when to take a snapshot.

mod error;
mod format;
mod received;
mod serve;
mod shelf;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluice_core::replica::disk::SnapshotMeta;
use sluice_core::replica::peer::{Chunk, ImageId};
use sluice_protocol::ids::ClusterId;

pub use error::SnapshotError;
pub use received::Received;
pub use shelf::Shelf;

use self::format::Parsed;
use self::received::Inbox;
use self::serve::Served;
use crate::failpoint::{self, Point};
use crate::files::{is_full, sync_dir};

/// The format this build writes. It reads format 1 as well, of which the members are voters and learners only.
pub const FORMAT: u16 = 2;

/// Snapshots that are kept.
pub const KEPT: usize = 2;

/// Bytes in one section.
pub const SECTION_LEN_MAX: usize = 256 << 20;

/// Voters, learners, or other members of one kind in one snapshot.
pub const MEMBERS_MAX: u32 = 1024;

/// Nodes in one snapshot that were members and never will be again.
pub const REMOVED_MAX: u32 = 65_536;

const DIR: &str = "snapshots";
const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".sluice";
const SUFFIX_ASIDE: &str = ".tmp";

/// The snapshots of one data directory.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    cluster: ClusterId,
    /// Indexes of the files, oldest first.
    kept: Vec<u64>,
    /// Those of them that were lately read for peers.
    served: Vec<Served>,
    inbox: Inbox,
}

/// A snapshot in memory; every byte of it has been checked.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is an image of.
    pub meta: SnapshotMeta,
    bytes: Vec<u8>,
    sections: Vec<Range<usize>>,
}

impl Snapshot {
    /// The snapshot that these bytes are, and its cluster. For fuzzing, which does not ask why not.
    #[doc(hidden)]
    pub fn read(bytes: Vec<u8>) -> Option<(ClusterId, Self)> {
        let Parsed { cluster, meta, sections, .. } = format::parse(&bytes).ok()?;
        Some((cluster, Self { meta, bytes, sections }))
    }

    /// The sections, in the order in which they were saved.
    pub fn sections(&self) -> impl Iterator<Item = &[u8]> {
        self.sections.iter().map(|range| &self.bytes[range.clone()])
    }
}

impl SnapshotStore {
    /// Opens the snapshots in `data_dir`; makes their directory if there is none. What an interrupted save left is
    /// removed.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(data_dir: &Path, cluster: ClusterId) -> Result<Self, SnapshotError> {
        let dir = data_dir.join(DIR);
        let kept = prepare(data_dir, &dir).map_err(|e| io_error(&dir, "opening", e))?;
        let inbox = Inbox::new(&dir, cluster);
        Ok(Self { dir, cluster, kept, served: Vec::new(), inbox })
    }

    /// Completes what a crash interrupted, given the index that the log was last reset to (0 = never): a received
    /// snapshot that the log goes on from takes its place. What else was received is removed unless it may still be
    /// of use.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`] if the log goes on from a snapshot that is not there; [`SnapshotError::Io`].
    pub fn settle(&mut self, log_base: u64) -> Result<(), SnapshotError> {
        if self.newest() < log_base {
            self.promote(log_base)?;
        }
        let newest = self.newest();
        self.inbox.forget(newest).map_err(|e| io_error(&self.dir, "removing what peers had sent", e))
    }

    /// Indexes of the snapshots there are, oldest first. The log may be compacted up to the first of them: then the
    /// older still serves if the newer is found damaged.
    pub fn kept(&self) -> &[u64] {
        &self.kept
    }

    /// Writes a snapshot; durable on return. Then all but the last [`KEPT`] are deleted. `progress` hears the bytes
    /// written so far, after each section. Returns the bytes of the file.
    ///
    /// # Errors
    /// [`SnapshotError::DiskFull`], [`SnapshotError::Io`]. The snapshots there were stay.
    ///
    /// # Panics
    /// If the snapshot is older than the last one, or a section exceeds [`SECTION_LEN_MAX`].
    pub fn save(
        &mut self,
        meta: &SnapshotMeta,
        sections: impl Iterator<Item = Vec<u8>>,
        progress: impl FnMut(u64),
    ) -> Result<u64, SnapshotError> {
        assert!(self.kept.last().is_none_or(|last| *last <= meta.index), "snapshots are taken in order");
        let path = self.path(meta.index);
        let mut aside = path.clone().into_os_string();
        aside.push(SUFFIX_ASIDE);
        let aside = PathBuf::from(aside);
        let written = format::write_file(&aside, self.cluster, meta, sections, progress)
            .and_then(|len| failpoint::check(Point::SnapshotRename).map(|()| len))
            .and_then(|len| fs::rename(&aside, &path).map(|()| len))
            .and_then(|len| failpoint::check(Point::SnapshotRenamed).map(|()| len))
            .and_then(|len| sync_dir(&self.dir).map(|()| len));
        match written {
            Ok(len) => {
                if self.kept.last() != Some(&meta.index) {
                    self.kept.push(meta.index);
                }
                failpoint::reach(Point::SnapshotDelete);
                self.remove_oldest(self.kept.len().saturating_sub(KEPT));
                Ok(len)
            }
            Err(error) => {
                // It is worth nothing and takes space that may be what was missing. If it stays, the next open removes it.
                let _ = fs::remove_file(&aside);
                Err(if is_full(&error) {
                    SnapshotError::DiskFull { file: aside }
                } else {
                    io_error(&aside, "writing", error)
                })
            }
        }
    }

    /// The newest snapshot that is whole and that the log continues: `first_log_index` is the first entry the log has.
    /// `None` if there is no snapshot and the log begins at 1. A damaged one is reported to the log of the process and
    /// passed over only if an older one can be used.
    ///
    /// # Errors
    /// [`SnapshotError`] if there is none that can be used.
    pub fn load_latest(&self, first_log_index: u64) -> Result<Option<Snapshot>, SnapshotError> {
        let mut refused = Vec::new();
        for index in self.kept.iter().rev() {
            if index + 1 < first_log_index {
                refused.push(format!("the snapshot at {index} ends before that"));
                continue;
            }
            match self.load(*index) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(error @ SnapshotError::Damaged { .. }) => {
                    tracing::error!(%error, "a snapshot cannot be used; trying the one before it");
                    refused.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() && first_log_index <= 1 {
            return Ok(None);
        }
        let found = if refused.is_empty() { "there is none".to_owned() } else { refused.join("; ") };
        Err(SnapshotError::NoneUsable { dir: self.dir.clone(), first_log_index, found })
    }

    /// Reads and checks one snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`] unless it is what was written, for this cluster.
    pub fn load(&self, index: u64) -> Result<Snapshot, SnapshotError> {
        let path = self.path(index);
        let (snapshot, _) = load_file(&path, self.cluster)?;
        if snapshot.meta.index != index {
            let what = format!("it says that it was taken at {}", snapshot.meta.index);
            return Err(SnapshotError::Damaged { file: path, what });
        }
        Ok(snapshot)
    }

    /// At most `len` bytes of a kept file, from `offset` on, for a peer; how the whole file is named, and what it is a
    /// snapshot of. The first call for a file reads and checks all of it.
    ///
    /// # Errors
    /// [`SnapshotError`] if it is not kept (any more), or not what was written.
    pub fn read_chunk(
        &mut self,
        index: u64,
        offset: u64,
        len: usize,
    ) -> Result<(ImageId, SnapshotMeta, Bytes), SnapshotError> {
        self.served.retain(|served| self.kept.contains(&served.image.index));
        let path = self.path(index);
        let at = self.served.iter().position(|served| served.image.index == index);
        let at = match at {
            Some(at) => at,
            None => {
                self.served.push(Served::open(&path, index, self.cluster)?);
                self.served.len() - 1
            }
        };
        let served = &self.served[at];
        let bytes = served.read(offset, len).map_err(|e| io_error(&path, "reading", e))?;
        Ok((served.image, served.meta.clone(), bytes))
    }

    /// Writes a part of a file that a peer sends. A part that does not follow what is there changes nothing, and one of
    /// another file begins that. A file that is whole, but not what the peer named, is removed and begun again.
    ///
    /// # Errors
    /// [`SnapshotError`] if the part could not be written, or the whole file is of another cluster or of a later format.
    /// It is removed then, and the next part begins it again.
    pub fn receive(&mut self, chunk: &Chunk) -> Result<Received, SnapshotError> {
        self.inbox.receive(chunk)
    }

    /// Removes a received file that is whole and still cannot be used.
    pub fn discard(&mut self, image: &ImageId) {
        self.inbox.discard(image);
    }

    /// The log is about to be reset to this received snapshot: it stays until it is promoted, whatever else arrives.
    pub fn pin(&mut self, index: u64) {
        self.inbox.pin(index);
    }

    /// The log is reset to this received snapshot, durably: the file takes its place among those that are kept. Those
    /// before it are deleted, since no log continues them. Durable on return.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`] if it is not there; [`SnapshotError::Io`]. Opening the directory again completes it.
    pub fn promote(&mut self, index: u64) -> Result<(), SnapshotError> {
        let path = self.path(index);
        let io = |e| io_error(&path, "keeping a received snapshot", e);
        match self.inbox.take(index).map_err(io)? {
            Some(received) => {
                fs::rename(received, &path).and_then(|()| sync_dir(&self.dir)).map_err(io)?;
                self.kept.retain(|kept| *kept != index);
                self.kept.push(index);
            }
            None if self.kept.contains(&index) => {}
            None => return Err(SnapshotError::Missing { dir: self.dir.clone(), index }),
        }
        let surplus = self.kept.iter().take_while(|kept| **kept < index).count();
        self.remove_oldest(surplus);
        self.inbox.forget(index).map_err(io)
    }

    fn newest(&self) -> u64 {
        self.kept.last().copied().unwrap_or(0)
    }

    fn path(&self, index: u64) -> PathBuf {
        path_in(&self.dir, index)
    }

    /// A file that cannot be deleted costs space and nothing else.
    fn remove_oldest(&mut self, surplus: usize) {
        for index in self.kept.drain(..surplus).collect::<Vec<_>>() {
            let path = self.path(index);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "an old snapshot could not be deleted");
            }
        }
    }
}

/// Makes the directory, removes what interrupted saves left, and lists the snapshots, oldest first.
fn prepare(data_dir: &Path, dir: &Path) -> io::Result<Vec<u64>> {
    if !dir.exists() {
        fs::create_dir(dir)?;
        failpoint::check(Point::CreateSnapshots)?;
        sync_dir(data_dir)?;
    }
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if rest.ends_with(SUFFIX_ASIDE) {
            fs::remove_file(item.path())?;
        } else {
            found.extend(name.to_str().and_then(whole_index));
        }
    }
    // A rename that was seen by nobody but the page cache must not be built upon.
    sync_dir(dir)?;
    found.sort_unstable();
    Ok(found)
}

/// The file of an index.
fn path_in(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{index:016x}{SUFFIX}"))
}

/// The index of a whole file, by its name.
fn whole_index(name: &str) -> Option<u64> {
    let hex = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    u64::from_str_radix(hex, 16).ok()
}

/// Reads and checks a file. The checksum of the whole of it, too.
fn load_file(path: &Path, expected: ClusterId) -> Result<(Snapshot, u32), SnapshotError> {
    let bytes = fs::read(path).map_err(|e| io_error(path, "reading", e))?;
    let Parsed { cluster, meta, sections, crc } = format::parse(&bytes).map_err(|bad| bad.of(path))?;
    if cluster != expected {
        return Err(SnapshotError::WrongCluster { file: path.to_owned(), found: cluster, expected });
    }
    Ok((Snapshot { meta, bytes, sections }, crc))
}

fn io_error(file: &Path, doing: &'static str, source: io::Error) -> SnapshotError {
    SnapshotError::Io { file: file.to_path_buf(), doing, source }
}
