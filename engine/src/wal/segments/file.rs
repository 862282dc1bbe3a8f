//! One segment: a file of fixed length that is all zero before frames are put into it.
//!
//! Its first page says which segment of which log it is. The zeros are really written, not just reserved: a sync of a
//! frame then has no metadata to write, and a sector that a power cut lost is known by being zero.
//!
//! Deliberately not here: frames.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::fdatasync;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::StoreError;
use super::frame::PAGE_LEN;
use crate::failpoint::{self, Point};
use crate::files::sync_dir;

/// The format this build writes.
pub(super) const FORMAT: u16 = 1;

/// Bytes of the first segment; each one is twice as long as the one before, up to [`LEN_MAX`]. A server that is just
/// tried needs little room, and a busy one few files.
const LEN_MIN: u64 = 4 << 20;

/// Bytes of the longest segments.
const LEN_MAX: u64 = 64 << 20;

/// Zeros written between two syncs while a segment is made: one sync of all of it would hold up the log's.
const ZEROS_LEN: usize = 1 << 20;

const MAGIC: [u8; 6] = *b"SLSEGM";
const EXTENSION: &str = "segment";
const ASIDE: &str = "tmp";

/// Everything before the checksum is covered by it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Header {
    magic: [u8; 6],
    version: U16,
    number: U64,
    salt: U64,
    len: U64,
    crc: U32,
}

const HEADER_LEN: usize = size_of::<Header>();
const CRC_AT: usize = HEADER_LEN - 4;

const _: () = assert!(HEADER_LEN == 36 && LEN_MIN.is_multiple_of(ZEROS_LEN as u64));

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// Bytes, the first page included.
    pub(super) len: u64,
}

/// How long the segment of a number is.
pub(super) fn len_of(number: u64) -> u64 {
    let doublings = u32::try_from(number - 1).unwrap_or(u32::MAX).min(LEN_MAX.ilog2() - LEN_MIN.ilog2());
    LEN_MIN << doublings
}

/// Makes a segment without frames. Durable on return, its name included; a crash on the way leaves a file aside.
pub(super) fn make(dir: &Path, number: u64, salt: u64) -> Result<Segment, StoreError> {
    let path = path_of(dir, number);
    let aside = path.with_extension(ASIDE);
    let io = |e| StoreError::io(&aside, "making room for the log", e);
    let len = len_of(number);
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&aside).map_err(io)?;
    let mut bytes = vec![0; ZEROS_LEN];
    bytes[..HEADER_LEN].copy_from_slice(header(number, salt, len).as_bytes());
    for at in (0..len).step_by(ZEROS_LEN) {
        file.write_all_at(&bytes, at).map_err(io)?;
        fdatasync(&file).map_err(|e| io(e.into()))?;
        bytes[..HEADER_LEN].fill(0);
    }
    failpoint::check(Point::SegmentRename).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&aside, &path).map_err(io)?;
    failpoint::check(Point::SegmentRenamed).and_then(|()| sync_dir(dir)).map_err(io)?;
    Ok(Segment { file, path, number, len })
}

/// The segments in a directory, by number. What a crash left half made is removed: nothing was ever in it.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let io = |e| StoreError::io(dir, "listing the log", e);
    let mut numbers = Vec::new();
    for item in fs::read_dir(dir).map_err(io)? {
        let path = item.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == ASIDE) {
            fs::remove_file(&path).map_err(io)?;
            continue;
        }
        let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
        match number.filter(|number| path_of(dir, *number) == path) {
            Some(number) => numbers.push(number),
            None => return Err(StoreError::damaged(&path, "it is not a segment of the log")),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens a segment and reads all of it. The salt is the log's if it is known already.
pub(super) fn read(
    dir: &Path,
    number: u64,
    salt: Option<u64>,
) -> Result<(Segment, Vec<u8>, u64), StoreError> {
    let path = path_of(dir, number);
    let io = |e| StoreError::io(&path, "reading the log", e);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    // The length is checked before anything is allocated for it.
    if !(LEN_MIN..=LEN_MAX).contains(&len) {
        return Err(StoreError::damaged(&path, format!("it has {len} bytes, which no segment has")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let (found, _) = Header::read_from_prefix(&bytes).expect("a segment is longer than its header");
    if found.magic == MAGIC && found.version.get() > FORMAT && is_whole(&found) {
        return Err(StoreError::NewerFormat {
            file: path,
            found: found.version.get().to_string(),
            supported: FORMAT.to_string(),
        });
    }
    let salt = salt.unwrap_or(found.salt.get());
    let is_blank = super::frame::is_blank(&bytes[HEADER_LEN..PAGE_LEN]);
    if found.as_bytes() != header(number, salt, len).as_bytes() || !is_blank {
        return Err(StoreError::damaged(&path, "its first page is not what was written"));
    }
    Ok((Segment { file, path, number, len }, bytes, salt))
}

/// Zeros part of a segment again: what a torn frame left there. Durable on return.
pub(super) fn blank(segment: &Segment, at: u64, len: usize) -> Result<(), StoreError> {
    segment
        .file
        .write_all_at(&vec![0; len], at)
        .and_then(|()| fdatasync(&segment.file).map_err(io::Error::from))
        .map_err(|e| StoreError::io(&segment.path, "clearing what a crash left half written", e))
}

/// Removes a segment for which a snapshot stands. Durable on return; that there is none is no error.
pub(super) fn remove(dir: &Path, number: u64) -> Result<(), StoreError> {
    let path = path_of(dir, number);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => sync_dir(dir),
    }
    .map_err(|e| StoreError::io(&path, "removing a segment that a snapshot stands for", e))
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

fn header(number: u64, salt: u64, len: u64) -> Header {
    let mut header = Header {
        magic: MAGIC,
        version: U16::new(FORMAT),
        number: U64::new(number),
        salt: U64::new(salt),
        len: U64::new(len),
        crc: U32::ZERO,
    };
    header.crc = crc_of(&header);
    header
}

fn is_whole(header: &Header) -> bool {
    header.crc == crc_of(header)
}

fn crc_of(header: &Header) -> U32 {
    U32::new(crc32fast::hash(&header.as_bytes()[..CRC_AT]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_is_the_documented_one() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), 1, 0x5a17).unwrap();
        assert_eq!(made.path.file_name().unwrap(), "0000000000000001.segment");
        let mut expected = b"SLSEGM\x01\0".to_vec();
        for number in [1_u64, 0x5a17, 4 << 20] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
        expected.resize(4 << 20, 0);
        let (_, bytes, salt) = read(dir.path(), 1, None).unwrap();
        assert!(bytes == expected && salt == 0x5a17);
    }

    #[test]
    fn segments_double_until_they_are_long() {
        let mib = |number| len_of(number) >> 20;
        assert_eq!([1, 2, 3, 4, 5, 6, u64::MAX].map(mib), [4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn every_damage_to_the_first_page_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), 1, 7).unwrap();
        let (_, bytes, _) = read(dir.path(), 1, None).unwrap();
        for at in (0..HEADER_LEN + 8).chain([PAGE_LEN - 1]) {
            made.file.write_all_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
            assert!(read(dir.path(), 1, None).is_err(), "byte {at}");
            made.file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        assert!(read(dir.path(), 1, Some(8)).is_err(), "of another log");
        fs::rename(&made.path, path_of(dir.path(), 2)).unwrap();
        assert!(read(dir.path(), 2, None).is_err(), "under another's name");
    }

    #[test]
    fn what_is_half_made_goes_and_what_is_foreign_stays() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 1, 7).unwrap();
        fs::write(dir.path().join("0000000000000002.tmp"), b"half").unwrap();
        assert_eq!(list(dir.path()).unwrap(), [1]);
        assert!(!dir.path().join("0000000000000002.tmp").exists());
        fs::write(dir.path().join("1.segment"), b"").unwrap();
        assert!(matches!(list(dir.path()), Err(StoreError::Damaged { .. })));
        assert!(dir.path().join("1.segment").exists());
    }
}
