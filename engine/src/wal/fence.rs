//! The fence: what was acknowledged, written outside sled.
//!
//! sled cuts its log silently at a record that fails its checksum. So a small file of its own says how far the log
//! went: a log that ends before its fence has lost something. The fence is written after the log is durable, never
//! before, and may lag; it is drawn back before the log itself is cut.
//!
//! Two slots of 4 KiB are written in turn, so a crash while writing one leaves the other. Deliberately not here: when
//! to write (see `sled`) and the comparison with the log (see `scan`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::fdatasync;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::StoreError;
use super::record::COUNT_MAX;
use crate::failpoint::{self, Point};
use crate::files::sync_dir;

/// The format this build writes.
pub const FORMAT: u16 = 1;

/// Bytes of one slot: the unit in which disks write.
pub const SLOT_LEN: usize = 4096;

const SLOTS: u64 = 2;
const MAGIC: [u8; 6] = *b"SLFENC";

/// Everything before the checksum is covered by it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Slot {
    magic: [u8; 6],
    version: U16,
    counter: U64,
    step: U64,
    index: U64,
    term: U64,
    compact_to: U64,
    entry_crc: U32,
    crc: U32,
}

const USED_LEN: usize = size_of::<Slot>();
const CRC_AT: usize = USED_LEN - 4;

const _: () = assert!(USED_LEN == 56);

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mark {
    /// The number of the last step that was acknowledged.
    pub step: u64,
    /// The last index of the log. 0 = none.
    pub index: u64,
    /// That entry's term; 0 if the entry is not stored because a snapshot stands for it.
    pub term: u64,
    /// That entry's checksum, if it is stored.
    pub entry_crc: u32,
    /// Everything up to this index is in a durable snapshot.
    pub compact_to: u64,
}

/// The open fence file.
#[derive(Debug)]
pub struct Fence {
    file: File,
    path: PathBuf,
    counter: u64,
    mark: Mark,
}

impl Fence {
    /// Makes a fence that acknowledges nothing. Durable on return, the directory included.
    ///
    /// # Errors
    /// [`StoreError`] of the file system.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let io = |e| StoreError::io(path, "creating the fence", e);
        let aside = path.with_extension("fence.tmp");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&aside).map_err(io)?;
        let mut fence = Self { file, path: path.to_path_buf(), counter: 0, mark: Mark::default() };
        fence.draw_back(Mark::default())?;
        failpoint::check(Point::CreateFence).map_err(io)?;
        std::fs::rename(&aside, path).map_err(io)?;
        failpoint::check(Point::CreateFenceRenamed).map_err(io)?;
        sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(io)?;
        Ok(fence)
    }

    /// Reads the newer of the two slots that is whole. `None` if there is no such file.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if neither slot is whole; [`StoreError::NewerFormat`]; those of the file system.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let io = |e| StoreError::io(path, "reading the fence", e);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let mut newest: Option<(u64, Mark)> = None;
        for number in 0..SLOTS {
            let mut bytes = [0; SLOT_LEN];
            match file.read_exact_at(&mut bytes, number * SLOT_LEN as u64) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(e) => return Err(io(e)),
            }
            let found = decode(&bytes).map_err(|version| StoreError::NewerFormat {
                file: path.to_path_buf(),
                found: version.to_string(),
                supported: FORMAT.to_string(),
            })?;
            newest = newest.into_iter().chain(found).max_by_key(|(counter, _)| *counter);
        }
        let Some((counter, mark)) = newest else {
            return Err(StoreError::damaged(path, "neither of its two slots is whole"));
        };
        Ok(Some(Self { file, path: path.to_path_buf(), counter, mark }))
    }

    /// What it says was acknowledged.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Moves the fence forward. Durable on return.
    ///
    /// # Errors
    /// [`StoreError`] of the file system.
    pub fn advance(&mut self, mark: Mark) -> Result<(), StoreError> {
        assert!(mark.step >= self.mark.step, "a fence moves forward");
        self.write(mark)
    }

    /// Moves the fence back, before the log is cut behind it. Both slots are rewritten, so that no older slot claims
    /// what is about to go.
    ///
    /// # Errors
    /// [`StoreError`] of the file system.
    pub fn draw_back(&mut self, mark: Mark) -> Result<(), StoreError> {
        for _ in 0..SLOTS {
            self.write(mark)?;
        }
        Ok(())
    }

    fn write(&mut self, mark: Mark) -> Result<(), StoreError> {
        let counter = self.counter + 1;
        let bytes = encode(counter, &mark);
        let at = (counter % SLOTS) * SLOT_LEN as u64;
        self.write_slot(&bytes, at).map_err(|e| StoreError::io(&self.path, "writing the fence", e))?;
        failpoint::reach(Point::FenceSynced);
        self.counter = counter;
        self.mark = mark;
        Ok(())
    }

    fn write_slot(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        failpoint::check(Point::FenceWrite)?;
        failpoint::reach_with(Point::FenceHalf, || {
            // The process ends here, whatever the file takes.
            let _: io::Result<()> = self.file.write_all_at(&bytes[..USED_LEN / 2], at);
        });
        self.file.write_all_at(bytes, at)?;
        failpoint::check(Point::FenceSync)?;
        Ok(fdatasync(&self.file)?)
    }
}

/// The bytes of a slot.
#[doc(hidden)]
pub fn encode(counter: u64, mark: &Mark) -> [u8; SLOT_LEN] {
    let mut slot = Slot {
        magic: MAGIC,
        version: U16::new(FORMAT),
        counter: U64::new(counter),
        step: U64::new(mark.step),
        index: U64::new(mark.index),
        term: U64::new(mark.term),
        compact_to: U64::new(mark.compact_to),
        entry_crc: U32::new(mark.entry_crc),
        crc: U32::ZERO,
    };
    slot.crc = U32::new(crc32fast::hash(&slot.as_bytes()[..CRC_AT]));
    let mut bytes = [0; SLOT_LEN];
    bytes[..USED_LEN].copy_from_slice(slot.as_bytes());
    bytes
}

/// A slot's counter and mark; `None` if it is not whole.
///
/// # Errors
/// The version, if that is a later one and the slot is whole.
#[doc(hidden)]
pub fn decode(bytes: &[u8; SLOT_LEN]) -> Result<Option<(u64, Mark)>, u16> {
    let (slot, _) = Slot::read_from_prefix(bytes).expect("a slot is longer than what is used of it");
    if slot.magic != MAGIC
        || slot.counter.get() > COUNT_MAX
        || slot.crc.get() != crc32fast::hash(&bytes[..CRC_AT])
    {
        return Ok(None);
    }
    if slot.version.get() != FORMAT {
        return Err(slot.version.get());
    }
    let mark = Mark {
        step: slot.step.get(),
        index: slot.index.get(),
        term: slot.term.get(),
        entry_crc: slot.entry_crc.get(),
        compact_to: slot.compact_to.get(),
    };
    Ok(Some((slot.counter.get(), mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(step: u64) -> Mark {
        Mark { step, index: step * 2, term: 3, entry_crc: 4, compact_to: 1 }
    }

    fn damage_slot(path: &Path, slot: u64) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[0xee], slot * SLOT_LEN as u64 + 20).unwrap();
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let bytes = encode(9, &Mark { step: 8, index: 7, term: 6, entry_crc: 5, compact_to: 4 });
        let mut expected = b"SLFENC\x01\x00".to_vec();
        for number in [9_u64, 8, 7, 6, 4] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.extend_from_slice(&5_u32.to_le_bytes());
        expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
        expected.resize(SLOT_LEN, 0);
        assert_eq!(bytes.as_slice(), expected);
    }

    #[test]
    fn one_slot_may_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal.fence");
        let mut fence = Fence::create(&path).unwrap();
        fence.advance(mark(1)).unwrap();
        fence.advance(mark(2)).unwrap();
        assert_eq!(Fence::open(&path).unwrap().unwrap().mark(), mark(2));
        damage_slot(&path, fence.counter % SLOTS);
        assert_eq!(Fence::open(&path).unwrap().unwrap().mark(), mark(1));
        damage_slot(&path, (fence.counter + 1) % SLOTS);
        assert!(matches!(Fence::open(&path), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_counter_at_the_end_of_its_numbers_is_not_counted_on_from() {
        assert_eq!(decode(&encode(COUNT_MAX, &mark(1))), Ok(Some((COUNT_MAX, mark(1)))));
        assert_eq!(decode(&encode(u64::MAX, &mark(1))), Ok(None));
    }

    #[test]
    fn no_slot_claims_what_was_drawn_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal.fence");
        let mut fence = Fence::create(&path).unwrap();
        fence.advance(mark(5)).unwrap();
        fence.draw_back(mark(2)).unwrap();
        damage_slot(&path, fence.counter % SLOTS);
        assert_eq!(Fence::open(&path).unwrap().unwrap().mark(), mark(2));
    }

    #[test]
    fn a_later_format_is_called_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal.fence");
        Fence::create(&path).unwrap();
        let mut bytes = encode(100, &mark(1));
        bytes[6] = 2;
        let crc = crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes();
        bytes[CRC_AT..USED_LEN].copy_from_slice(&crc);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Fence::open(&path), Err(StoreError::NewerFormat { .. })));
    }
}
