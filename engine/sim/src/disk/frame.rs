//! A step of the log as bytes: a frame of whole sectors, which checks itself.
//!
//! ```text
//!  0 4 magic "SIMF"        20 4 blank sectors     56 8 hard vote
//!  4 4 header's checksum   24 8 step              64 8 hard commit
//!  8 4 body's checksum     32 8 end index         72 8 reset index
//! 12 4 length              40 8 compact to        80 8 reset term
//! 16 4 entries             48 8 hard term         88 8 first index
//! ```
//!
//! The blank sectors tell a frame that was never written completely from one that was damaged: the space before it is
//! written is blank, and a sector is written whole or not at all. The idea is the store's own (docs/STORAGE.md); the
//! bytes are not, since what is simulated is its contract.

use bytes::Bytes;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry};

/// Bytes that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

const HEADER_LEN: usize = 96;
const ENTRY_LEN: usize = 13;
const MAGIC: u32 = u32::from_le_bytes(*b"SIMF");

/// What every frame says of the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) step: u64,
    pub(super) end_index: u64,
    pub(super) compact_to: u64,
    pub(super) hard_state: HardState,
    /// Index and term of the received snapshot that the log follows; zeros if it begins at nothing.
    pub(super) reset: (u64, u64),
}

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) state: State,
    pub(super) entries: Vec<LogEntry>,
    pub(super) crc: u32,
    /// In bytes, with its padding.
    pub(super) len: usize,
}

/// What stands where a frame should.
#[derive(Debug)]
pub(super) enum Found {
    Whole(Frame),
    /// Nothing was ever written here, or not the first sector.
    Blank,
    /// More of it is blank than there should be.
    Torn,
    /// Not what was written.
    Damaged,
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn blank_sectors(bytes: &[u8]) -> u32 {
    bytes.chunks(SECTOR).filter(|sector| is_blank(sector)).count() as u32
}

/// Writes a frame behind `out`. Returns its checksum.
pub(super) fn write(out: &mut Vec<u8>, state: &State, entries: &[LogEntry]) -> u32 {
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    for entry in entries {
        out.extend_from_slice(&entry.term.to_le_bytes());
        out.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
        out.push(entry.kind as u8);
        out.extend_from_slice(&entry.data);
    }
    let len = out.len() - start;
    out.resize(start + len.next_multiple_of(SECTOR), 0);
    // The header is never blank, so its own sector may be counted before it is filled in.
    out[start] = 1;
    let blanks = blank_sectors(&out[start..]);
    let body_crc = crc32fast::hash(&out[start + HEADER_LEN..start + len]);
    let HardState { term, vote, commit } = state.hard_state;
    let first_index = entries.first().map_or(0, |entry| entry.index);
    let numbers = [
        state.step,
        state.end_index,
        state.compact_to,
        term,
        vote,
        commit,
        state.reset.0,
        state.reset.1,
        first_index,
    ];
    let header = &mut out[start..start + HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    for (at, number) in [body_crc, len as u32, entries.len() as u32, blanks].into_iter().enumerate() {
        header[8 + 4 * at..12 + 4 * at].copy_from_slice(&number.to_le_bytes());
    }
    for (at, number) in numbers.into_iter().enumerate() {
        header[24 + 8 * at..32 + 8 * at].copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32fast::hash(&header[8..]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Whether a frame's header stands at the beginning of these bytes.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_LEN
        && u32_at(bytes, 0) == MAGIC
        && crc32fast::hash(&bytes[8..HEADER_LEN]) == u32_at(bytes, 4)
}

/// Reads what stands at the beginning of these bytes.
pub(super) fn read(bytes: &[u8]) -> Found {
    if is_blank(&bytes[..bytes.len().min(SECTOR)]) {
        return Found::Blank;
    }
    if !is_header(bytes) {
        return Found::Damaged;
    }
    let len = u32_at(bytes, 12) as usize;
    let padded = len.next_multiple_of(SECTOR);
    if len < HEADER_LEN || padded > bytes.len() {
        return Found::Damaged;
    }
    if crc32fast::hash(&bytes[HEADER_LEN..len]) != u32_at(bytes, 8) {
        let torn = blank_sectors(&bytes[..padded]) > u32_at(bytes, 20);
        return if torn { Found::Torn } else { Found::Damaged };
    }
    let state = State {
        step: u64_at(bytes, 24),
        end_index: u64_at(bytes, 32),
        compact_to: u64_at(bytes, 40),
        hard_state: HardState { term: u64_at(bytes, 48), vote: u64_at(bytes, 56), commit: u64_at(bytes, 64) },
        reset: (u64_at(bytes, 72), u64_at(bytes, 80)),
    };
    let entries = read_entries(&bytes[HEADER_LEN..len], u64_at(bytes, 88), u32_at(bytes, 16));
    Found::Whole(Frame { state, entries, crc: u32_at(bytes, 4), len: padded })
}

fn read_entries(mut body: &[u8], first_index: u64, count: u32) -> Vec<LogEntry> {
    (0..u64::from(count))
        .map(|number| {
            let len = u32_at(body, 8) as usize;
            let kind = if body[12] == 0 { EntryKind::Normal } else { EntryKind::Membership };
            let data = Bytes::copy_from_slice(&body[ENTRY_LEN..ENTRY_LEN + len]);
            let entry = LogEntry { index: first_index + number, term: u64_at(body, 0), kind, data };
            body = &body[ENTRY_LEN + len..];
            entry
        })
        .collect()
}
