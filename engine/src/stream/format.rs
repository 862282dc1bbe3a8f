//! The bytes of a segment: a header as long as an event, and events. So each event's place follows from its sequence.
//!
//! Deliberately not here: the bytes of an event (`sluice_protocol::event`).

use std::path::{Path, PathBuf};

use sluice_protocol::ids::ClusterId;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FORMAT;

/// Bytes of a header.
pub(super) const HEADER_LEN: u64 = size_of::<Header>() as u64;

/// Bytes of an event.
pub(super) const RECORD_LEN: u64 = sluice_protocol::event::EVENT_LEN as u64;

const MAGIC: [u8; 6] = *b"SLEVNT";
const EXTENSION: &str = "events";
const EXTENSION_DAMAGED: &str = "damaged";
const EXTENSION_ASIDE: &str = "filling";

/// Everything before the checksum is covered by it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 6],
    version: U16,
    cluster: U128,
    first: U64,
    reserved: [u8; 44],
    crc: U32,
}

const CRC_AT: usize = size_of::<Header>() - 4;

const _: () = assert!(HEADER_LEN == RECORD_LEN && CRC_AT == 76);

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is this segment's.
    Own,
    /// It is not what was written.
    Damaged,
    /// It is another cluster's.
    Foreign(ClusterId),
    /// A later version has written it.
    Newer(u16),
}

impl Header {
    pub(super) fn new(cluster: ClusterId, first: u64) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: U16::new(FORMAT),
            cluster: U128::new(cluster.0),
            first: U64::new(first),
            reserved: [0; 44],
            crc: U32::ZERO,
        };
        header.crc = header.computed();
        header
    }

    /// Holds a header against what the segment of this name must have.
    pub(super) fn check(&self, cluster: ClusterId, first: u64) -> Found {
        if self.magic != MAGIC || self.crc != self.computed() {
            return Found::Damaged;
        }
        if self.version.get() > FORMAT {
            return Found::Newer(self.version.get());
        }
        let found = ClusterId(self.cluster.get());
        if found != cluster {
            return Found::Foreign(found);
        }
        if self.as_bytes() == Self::new(cluster, first).as_bytes() { Found::Own } else { Found::Damaged }
    }

    fn computed(&self) -> U32 {
        U32::new(crc32fast::hash(&self.as_bytes()[..CRC_AT]))
    }
}

/// Where an event is in the segment that begins with `first`.
pub(super) fn place_of(first: u64, sequence: u64) -> u64 {
    HEADER_LEN + (sequence - first) * RECORD_LEN
}

/// The sequence behind the last whole event of a segment of so many bytes.
pub(super) fn next_of(first: u64, len: u64) -> u64 {
    first + len.saturating_sub(HEADER_LEN) / RECORD_LEN
}

/// The segment that begins with `first`.
pub(super) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}.{EXTENSION}"))
}

/// Where a segment is put of which the header is damaged.
pub(super) fn damaged_path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}.{EXTENSION_DAMAGED}"))
}

/// Where a segment is written before it is whole.
pub(super) fn aside_path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}.{EXTENSION_ASIDE}"))
}

/// Whether a file is one that was never whole.
pub(super) fn is_aside(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION_ASIDE)
}

/// The sequence with which the segment of this name begins; `None` if it is no segment.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    let first = u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?;
    (first > 0 && path_of(path.parent()?, first) == path).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_documented_one() {
        let mut expected = b"SLEVNT\x01\0".to_vec();
        expected.extend_from_slice(&0xc1_u128.to_le_bytes());
        expected.extend_from_slice(&7_u64.to_le_bytes());
        expected.resize(76, 0);
        expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
        assert_eq!(Header::new(ClusterId(0xc1), 7).as_bytes(), expected);
    }

    #[test]
    fn a_header_is_this_segments_or_it_is_known_whose() {
        let header = Header::new(ClusterId(1), 7);
        assert_eq!(header.check(ClusterId(1), 7), Found::Own);
        assert_eq!(header.check(ClusterId(1), 8), Found::Damaged, "under another's name");
        assert_eq!(header.check(ClusterId(2), 7), Found::Foreign(ClusterId(1)));
        let mut newer = header;
        newer.version = U16::new(2);
        assert_eq!(newer.check(ClusterId(1), 7), Found::Damaged, "its checksum does not fit");
        newer.crc = newer.computed();
        assert_eq!(newer.check(ClusterId(2), 9), Found::Newer(2));
        for at in 0..HEADER_LEN as usize {
            let mut bytes: [u8; HEADER_LEN as usize] = header.as_bytes().try_into().unwrap();
            bytes[at] ^= 1 << (at % 8);
            let changed = Header::read_from_bytes(&bytes).unwrap();
            assert_eq!(changed.check(ClusterId(1), 7), Found::Damaged, "byte {at}");
        }
    }

    #[test]
    fn a_name_says_where_a_segment_begins() {
        let dir = Path::new("events");
        assert_eq!(first_of(&path_of(dir, 0x1f)), Some(0x1f));
        for name in
            ["DROPPED", "1f.events", "0000000000000000.events", "000000000000001f.damaged", "x.events"]
        {
            assert_eq!(first_of(&dir.join(name)), None, "{name}");
        }
        assert_eq!((next_of(7, 0), next_of(7, 80), next_of(7, 239), next_of(7, 240)), (7, 7, 8, 9));
        assert_eq!((place_of(7, 7), place_of(7, 9)), (80, 240));
    }
}
