//! The bytes of one frame: an atomic step of the log, as it lies in a segment.
//!
//! A frame begins at a page and owns its pages alone: what was acknowledged is never written again, not even with the
//! same bytes. Until a frame is written its pages are zero. So a write that a power cut tore shows itself: some sector
//! is still zero where the frame has none, and that is told apart from a bit that flipped in a whole frame.
//!
//! Relies on nothing but bytes. Deliberately not here: what follows from a frame that is not whole (see `replay`).

use bytes::Bytes;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::ENTRY_DATA_MAX;
use super::super::record::{self, State, StateBytes};

/// The newest format that this build reads. It has the base of a log that was reset between header and entries; without
/// one the format is written that older builds read.
pub const FORMAT: u8 = record::FORMAT;

/// Frames begin at multiples of this: the unit in which the kernel writes.
pub const PAGE_LEN: usize = 4096;

/// The unit that a disk writes whole or not at all.
pub const SECTOR_LEN: usize = 512;

/// Bytes in front of the entries.
pub const HEADER_LEN: usize = size_of::<Header>();

const MAGIC: [u8; 4] = *b"SLFR";

/// Behind the entries, up to the end of the page: never zero, so that a sector of it that is missing shows.
const PADDING: u8 = 0xa5;

/// The header's checksum does not cover itself.
const CRC_AT: usize = 8;
const CRC_END: usize = CRC_AT + 4;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    reserved: [u8; 3],
    crc: U32,
    body_crc: U32,
    len: U32,
    entries: U32,
    blanks: U32,
    previous: U32,
    segment: U64,
    at: U64,
    first_index: U64,
    state: StateBytes,
}

const _: () = assert!(HEADER_LEN == 104 && HEADER_LEN < SECTOR_LEN);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct EntryHeader {
    term: U64,
    len: U32,
    kind: u8,
    reserved: [u8; 3],
}

const ENTRY_HEADER_LEN: usize = size_of::<EntryHeader>();

const _: () = assert!(ENTRY_HEADER_LEN == 16);

/// Where a frame belongs. A frame found anywhere else is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Drawn at random when the log was made: bytes that a client chose cannot pass for a frame.
    pub salt: u64,
    /// The segment's number.
    pub segment: u64,
    /// Bytes from the segment's beginning.
    pub at: u64,
    /// The checksum of the frame before this one, 0 for the first of a log; `None` if it is gone, and not compared.
    pub previous: Option<u32>,
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The state of the store as of this step.
    pub state: State,
    /// Contiguous; empty for a step that wrote none.
    pub entries: Vec<LogEntry>,
    /// Stands for the whole frame; the next one repeats it.
    pub crc: u32,
    /// Bytes it occupies, padding included.
    pub padded_len: usize,
}

/// What was found at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole frame.
    Whole(Frame),
    /// A frame that was never written completely: a sector of it is still blank.
    Torn,
    /// The first sector is blank: nothing was written here, or a frame of which the first sector is missing.
    Blank,
    /// Bytes that nobody wrote like this.
    Damaged(&'static str),
    /// A frame of a later version.
    Newer(u8),
}

/// Bytes that a frame of these entries will occupy in a log of this state, padding included.
pub fn padded_len(entries: &[LogEntry], state: &State) -> usize {
    let body: usize = entries.iter().map(|entry| ENTRY_HEADER_LEN + entry.data.len()).sum();
    (HEADER_LEN + state.base_len() + body).next_multiple_of(PAGE_LEN)
}

/// Writes a frame into `buffer`, over whatever it held. Returns the frame's checksum.
pub fn encode(buffer: &mut Vec<u8>, place: &Place, entries: &[LogEntry], state: &State) -> u32 {
    buffer.clear();
    buffer.resize(HEADER_LEN, 0);
    state.put_base(buffer);
    for entry in entries {
        let header = EntryHeader {
            term: U64::new(entry.term),
            len: U32::new(entry.data.len() as u32),
            kind: entry.kind as u8,
            reserved: [0; 3],
        };
        buffer.extend_from_slice(header.as_bytes());
        buffer.extend_from_slice(&entry.data);
    }
    let len = buffer.len();
    let body_crc = crc32fast::hash(&buffer[HEADER_LEN..]);
    buffer.resize(len.next_multiple_of(PAGE_LEN), PADDING);
    let mut header = Header {
        magic: MAGIC,
        version: state.format(),
        reserved: [0; 3],
        crc: U32::ZERO,
        body_crc: U32::new(body_crc),
        len: U32::new(len as u32),
        entries: U32::new(entries.len() as u32),
        // The header's own sector is never blank.
        blanks: U32::new(blanks(&buffer[SECTOR_LEN..])),
        previous: U32::new(place.previous.unwrap_or(0)),
        segment: U64::new(place.segment),
        at: U64::new(place.at),
        first_index: U64::new(entries.first().map_or(0, |entry| entry.index)),
        state: state.into(),
    };
    let crc = header_crc(&header, place.salt);
    header.crc = U32::new(crc);
    buffer[..HEADER_LEN].copy_from_slice(header.as_bytes());
    crc
}

/// Looks at what lies at a place. `bytes` begins there and goes on to the segment's end.
pub fn decode(bytes: &[u8], place: &Place) -> Found {
    let Some(first_sector) = bytes.get(..SECTOR_LEN) else {
        return Found::Damaged("a segment that ends within a page");
    };
    if is_blank(first_sector) {
        return Found::Blank;
    }
    let (header, _) = Header::read_from_prefix(bytes).expect("a sector holds a header");
    // The version comes before the checksum: a later format may have its checksum elsewhere.
    if header.magic == MAGIC && header.version > FORMAT {
        return Found::Newer(header.version);
    }
    let crc = header_crc(&header, place.salt);
    if header.magic != MAGIC || header.version == 0 || header.crc.get() != crc {
        return Found::Damaged("the header of a frame is not what was written");
    }
    if header.segment.get() != place.segment || header.at.get() != place.at {
        return Found::Damaged("a frame lies where another belongs");
    }
    let len = header.len.get() as usize;
    let padded_len = len.next_multiple_of(PAGE_LEN);
    let Some(padded) = bytes.get(..padded_len).filter(|_| len >= HEADER_LEN) else {
        return Found::Damaged("a frame reaches beyond its segment");
    };
    if header.reserved != [0; 3] || place.previous.is_some_and(|crc| crc != header.previous.get()) {
        return Found::Damaged("a frame does not follow the one before it");
    }
    if crc32fast::hash(&padded[HEADER_LEN..len]) != header.body_crc.get()
        || padded[len..].iter().any(|byte| *byte != PADDING)
    {
        return if blanks(&padded[SECTOR_LEN..]) > header.blanks.get() {
            Found::Torn
        } else {
            Found::Damaged("a frame is not what was written")
        };
    }
    if blanks(&padded[SECTOR_LEN..]) != header.blanks.get() {
        return Found::Damaged("a frame says wrongly how many of its sectors are blank");
    }
    let mut state = State::from(&header.state);
    let body = state.take_base(header.version, &padded[HEADER_LEN..len]);
    match body.and_then(|body| read_entries(body, &header)) {
        Some(entries) if could_be_written(&header, &state, &entries) => {
            Found::Whole(Frame { state, entries, crc, padded_len })
        }
        _ => Found::Damaged("the contents of a frame contradict each other"),
    }
}

/// Whether this build could have written such numbers.
fn could_be_written(header: &Header, state: &State, entries: &[LogEntry]) -> bool {
    let ends_there = match entries.last() {
        Some(last) => {
            header.first_index.get() > state.base
                && last.index == state.end_index
                && last.term <= state.hard.term
        }
        None => header.first_index == U64::ZERO,
    };
    ends_there
        && entries.iter().map(|entry| entry.term).is_sorted()
        && entries.iter().all(|entry| entry.data.len() <= ENTRY_DATA_MAX)
        && state.could_be_left()
}

/// The step of a frame that begins here, if the header of one does, whatever became of the rest.
pub fn peek_step(bytes: &[u8], place: &Place) -> Option<u64> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    let is_one = header.magic == MAGIC
        && header.segment.get() == place.segment
        && header.at.get() == place.at
        && header.crc.get() == header_crc(&header, place.salt);
    is_one.then(|| State::from(&header.state).step)
}

/// Whether nothing was ever written here.
pub fn is_blank(bytes: &[u8]) -> bool {
    // All bytes are equal to their neighbours, and the first is zero: one comparison at memory speed.
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

/// How many sectors are all zero.
fn blanks(bytes: &[u8]) -> u32 {
    bytes.chunks(SECTOR_LEN).filter(|sector| sector[0] == 0 && is_blank(sector)).count() as u32
}

fn header_crc(header: &Header, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&header.as_bytes()[..CRC_AT]);
    hasher.update(&header.as_bytes()[CRC_END..]);
    hasher.finalize()
}

fn read_entries(body: &[u8], header: &Header) -> Option<Vec<LogEntry>> {
    // One copy for all of them: they stay in memory together, until a snapshot stands for them.
    let body = Bytes::copy_from_slice(body);
    let (mut entries, mut at) = (Vec::new(), 0);
    for number in 0..u64::from(header.entries.get()) {
        let (entry, _) = EntryHeader::read_from_prefix(body.get(at..)?).ok()?;
        if entry.reserved != [0; 3] {
            return None;
        }
        let from = at + ENTRY_HEADER_LEN;
        at = from.checked_add(entry.len.get() as usize).filter(|end| *end <= body.len())?;
        let kind = match entry.kind {
            kind if kind == EntryKind::Normal as u8 => EntryKind::Normal,
            kind if kind == EntryKind::Membership as u8 => EntryKind::Membership,
            _ => return None,
        };
        let index = header.first_index.get().checked_add(number)?;
        entries.push(LogEntry { index, term: entry.term.get(), kind, data: body.slice(from..at) });
    }
    (at == body.len()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use sluice_core::replica::disk::HardState;

    use super::*;

    const PLACE: Place = Place { salt: 0x5a17, segment: 3, at: 8192, previous: Some(77) };

    fn state() -> State {
        let hard = HardState { term: 5, vote: 2, commit: 9 };
        State { step: 7, end_index: 12, compact_to: 3, hard, base: 0 }
    }

    fn reset() -> State {
        State { base: 2, ..state() }
    }

    fn entries(data: &[&[u8]]) -> Vec<LogEntry> {
        data.iter()
            .zip(11..)
            .map(|(data, index)| LogEntry {
                index,
                term: 4,
                kind: EntryKind::Membership,
                data: Bytes::copy_from_slice(data),
            })
            .collect()
    }

    fn frame(entries: &[LogEntry]) -> (Vec<u8>, u32) {
        frame_in(entries, &state())
    }

    fn frame_in(entries: &[LogEntry], state: &State) -> (Vec<u8>, u32) {
        let mut bytes = vec![9; 3];
        let crc = encode(&mut bytes, &PLACE, entries, state);
        assert_eq!(bytes.len(), padded_len(entries, state));
        (bytes, crc)
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let entry = [&4_u64.to_le_bytes()[..], &3_u32.to_le_bytes(), &[1, 0, 0, 0], b"abc"].concat();
        is_documented(&state(), b"SLFR\x01\0\0\0", &entry);
        is_documented(&reset(), b"SLFR\x02\0\0\0", &[&2_u64.to_le_bytes(), entry.as_slice()].concat());
    }

    fn is_documented(state: &State, begins: &[u8], body: &[u8]) {
        let (bytes, crc) = frame_in(&entries(&[b"abc"]), state);
        let mut expected = begins.to_vec();
        for number in [crc, crc32fast::hash(body), 104 + body.len() as u32, 1, 0, 77] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        for number in [3_u64, 8192, 11, 7, 12, 3, 5, 2, 9] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        let salted =
            [&0x5a17_u64.to_le_bytes()[..], &expected[..CRC_AT], &expected[CRC_END..HEADER_LEN]].concat();
        assert_eq!(crc, crc32fast::hash(&salted));
        expected.extend_from_slice(body);
        expected.resize(PAGE_LEN, PADDING);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        for data in [&[][..], &[b"".as_slice(), b"x"], &[&[0; 60_000], &[1; 65_536]]] {
            let entries = entries(data);
            let (mut bytes, crc) = frame_in(&entries, &reset());
            let padded_len = bytes.len();
            bytes.resize(padded_len + PAGE_LEN, 0);
            let expected = Frame { state: reset(), entries: entries.clone(), crc, padded_len };
            assert_eq!(decode(&bytes, &PLACE), Found::Whole(expected));
            let (mut bytes, crc) = frame(&entries);
            let padded_len = bytes.len();
            bytes.resize(padded_len + PAGE_LEN, 0);
            let expected = Frame { state: state(), entries, crc, padded_len };
            assert_eq!(decode(&bytes, &PLACE), Found::Whole(expected));
            assert_eq!(peek_step(&bytes, &PLACE), Some(7));
            for elsewhere in [
                Place { salt: 1, ..PLACE },
                Place { segment: 4, ..PLACE },
                Place { at: 4096, ..PLACE },
                Place { previous: Some(78), ..PLACE },
            ] {
                assert!(matches!(decode(&bytes, &elsewhere), Found::Damaged(_)), "{elsewhere:?}");
            }
        }
    }

    /// Any sectors that are missing make a frame torn; nothing makes it another one.
    #[test]
    fn sectors_that_are_missing_are_told_from_bits_that_flipped() {
        let mut middle = vec![7; 3000];
        // A sector that is rightly blank.
        middle[600..2000].fill(0);
        let (bytes, _) = frame(&entries(&[&middle, &[8; 2000]]));
        let blank = blanks(&bytes);
        assert!(blank > 0, "the example has a sector of zeros");
        let sectors = bytes.len() / SECTOR_LEN;
        for missing in 1_u32..1 << sectors {
            let mut torn = bytes.clone();
            for (number, sector) in torn.chunks_mut(SECTOR_LEN).enumerate() {
                if missing & 1 << number != 0 {
                    sector.fill(0);
                }
            }
            let expected = match (missing & 1, torn == bytes) {
                (1, _) => Found::Blank,
                (_, true) => continue,
                (_, false) => Found::Torn,
            };
            assert_eq!(decode(&torn, &PLACE), expected, "{missing:b}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let found = decode(&flipped, &PLACE);
            assert!(matches!(found, Found::Damaged(_) | Found::Newer(_)), "byte {at}: {found:?}");
        }
    }

    /// Under checksums that hold.
    #[test]
    fn what_no_store_writes_is_refused() {
        let entries = entries(&[b"abc", b"d"]);
        let mend = |bytes: &mut [u8]| {
            let len = HEADER_LEN + 2 * ENTRY_HEADER_LEN + 4;
            let body = crc32fast::hash(&bytes[HEADER_LEN..len]).to_le_bytes();
            bytes[CRC_END..CRC_END + 4].copy_from_slice(&body);
            let covered =
                [&PLACE.salt.to_le_bytes()[..], &bytes[..CRC_AT], &bytes[CRC_END..HEADER_LEN]].concat();
            bytes[CRC_AT..CRC_END].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
        };
        let (mut sound, _) = frame(&entries);
        mend(&mut sound);
        assert!(matches!(decode(&sound, &PLACE), Found::Whole(_)));
        // The count of blank sectors, a reserved byte of the header and of an entry, a commit index behind the end.
        for at in [24, 5, HEADER_LEN + 13, 96 + 7] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            mend(&mut bytes);
            assert!(matches!(decode(&bytes, &PLACE), Found::Damaged(_)), "byte {at}");
        }
        // Entries at the base or before it.
        let (bytes, _) = frame_in(&entries, &State { base: 11, compact_to: 11, ..state() });
        assert!(matches!(decode(&bytes, &PLACE), Found::Damaged(_)));
    }

    #[test]
    fn a_later_format_is_called_that() {
        let (mut bytes, _) = frame(&[]);
        bytes[4] = FORMAT + 1;
        assert_eq!(decode(&bytes, &PLACE), Found::Newer(FORMAT + 1));
    }
}
