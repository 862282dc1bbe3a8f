//! The bytes of one record: what is stored under one key.
//!
//! Every record carries, beside its entry, the state of the store as of the step that wrote it: hard state, end of
//! the log, compaction point, step number. So a step costs no record of its own for them, and the newest record of
//! all is the state. Only a step without entries writes a [`RecordKind::State`] record, under [`STATE_KEY`].
//!
//! Relies on nothing but bytes. Deliberately not here: which records a step consists of (see `plan`).

use bytes::Bytes;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ENTRY_DATA_MAX;

/// The newest format that this build reads. It has the base of a log that was reset between header and data.
pub const FORMAT: u8 = 2;

/// The format of a log that was never reset: older builds read it, so it is written for as long as that is so.
const FORMAT_WITHOUT_BASE: u8 = 1;

/// Bytes in front of an entry's data.
pub const HEADER_LEN: usize = size_of::<Header>();

/// No log is so long: whoever goes on counting from here does not come to the end of the numbers.
pub(super) const COUNT_MAX: u64 = u64::MAX / 2;

/// The key of the record that stands for a step without entries. Raft's indexes begin at 1.
pub const STATE_KEY: [u8; 8] = [0; 8];

/// The version, the kind and the reserved bytes are covered by the checksum; the checksum itself is not.
const CRC_AT: usize = 4;
const CRC_END: usize = CRC_AT + 4;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Header {
    version: u8,
    kind: u8,
    reserved: U16,
    crc: U32,
    index: U64,
    term: U64,
    state: StateBytes,
}

const _: () = assert!(HEADER_LEN == 72);

/// A [`State`] as it is stored, here and in the frames of a log in segments.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct StateBytes {
    step: U64,
    end_index: U64,
    compact_to: U64,
    hard_term: U64,
    hard_vote: U64,
    hard_commit: U64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An entry of the log.
    Entry(EntryKind),
    /// The state alone. Its index is the end of the log, its term 0.
    State,
}

/// The number that stands for [`RecordKind::State`]; entries use raft's small numbers.
const STATE: u8 = 0xff;

/// The state of a store as of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// Steps written since creation. Rises by one with each.
    pub step: u64,
    /// The last index of the log.
    pub end_index: u64,
    /// Entries up to this index are in a durable snapshot.
    pub compact_to: u64,
    /// Raft's hard state.
    pub hard: HardState,
    /// The index of the received snapshot that the log was last reset to; 0 = never. Whatever is stored up to here is
    /// of a log that is not this one.
    pub base: u64,
}

impl From<&State> for StateBytes {
    fn from(state: &State) -> Self {
        Self {
            step: U64::new(state.step),
            end_index: U64::new(state.end_index),
            compact_to: U64::new(state.compact_to),
            hard_term: U64::new(state.hard.term),
            hard_vote: U64::new(state.hard.vote),
            hard_commit: U64::new(state.hard.commit),
        }
    }
}

impl From<&StateBytes> for State {
    fn from(bytes: &StateBytes) -> Self {
        Self {
            step: bytes.step.get(),
            end_index: bytes.end_index.get(),
            compact_to: bytes.compact_to.get(),
            hard: HardState {
                term: bytes.hard_term.get(),
                vote: bytes.hard_vote.get(),
                commit: bytes.hard_commit.get(),
            },
            // Stands elsewhere, if there is one.
            base: 0,
        }
    }
}

impl State {
    /// Whether some step could have left such a state.
    pub(super) fn could_be_left(&self) -> bool {
        let counts = [self.end_index, self.step, self.hard.term];
        self.step != 0
            && self.base <= self.compact_to
            && self.compact_to <= self.end_index
            && self.hard.commit <= self.end_index
            && counts.iter().all(|count| *count <= COUNT_MAX)
    }

    /// The format in which it is written.
    pub(super) fn format(&self) -> u8 {
        if self.base == 0 { FORMAT_WITHOUT_BASE } else { FORMAT }
    }

    /// Bytes between a header and what follows it.
    pub(super) fn base_len(&self) -> usize {
        if self.base == 0 { 0 } else { size_of::<U64>() }
    }

    /// Writes the base behind a header, if there is one.
    pub(super) fn put_base(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base.to_le_bytes()[..self.base_len()]);
    }

    /// Takes the base off what stands behind a header. What follows it; `None` unless it is what this format is for.
    pub(super) fn take_base<'a>(&mut self, format: u8, behind: &'a [u8]) -> Option<&'a [u8]> {
        let len = if format == FORMAT { size_of::<U64>() } else { 0 };
        let (base, rest) = behind.split_at_checked(len)?;
        self.base = base.first_chunk().map_or(0, |base| u64::from_le_bytes(*base));
        (self.format() == format).then_some(rest)
    }
}

/// One record, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The entry's data; empty for [`RecordKind::State`].
    pub data: Bytes,
    /// The state as of the step that wrote it.
    pub state: State,
    /// The checksum over all of it.
    pub crc: u32,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a later version.
    Newer(u8),
    /// Not what was written.
    Damaged(&'static str),
}

/// The key of an entry: big-endian, so that sled's order is the log's.
pub fn key(index: u64) -> [u8; 8] {
    debug_assert_ne!(index, 0, "raft's indexes begin at 1");
    index.to_be_bytes()
}

/// The record of an entry, and its checksum.
pub fn encode_entry(entry: &LogEntry, state: &State) -> (Vec<u8>, u32) {
    encode(entry.kind as u8, entry.index, entry.term, &entry.data, state)
}

/// The record of a step without entries.
pub fn encode_state(state: &State) -> Vec<u8> {
    encode(STATE, state.end_index, 0, &[], state).0
}

fn encode(kind: u8, index: u64, term: u64, data: &[u8], state: &State) -> (Vec<u8>, u32) {
    let header = Header {
        version: state.format(),
        kind,
        reserved: U16::ZERO,
        crc: U32::ZERO,
        index: U64::new(index),
        term: U64::new(term),
        state: state.into(),
    };
    let mut bytes = Vec::with_capacity(HEADER_LEN + state.base_len() + data.len());
    bytes.extend_from_slice(header.as_bytes());
    state.put_base(&mut bytes);
    bytes.extend_from_slice(data);
    let crc = checksum(&bytes);
    bytes[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
    (bytes, crc)
}

/// Reads a record and checks everything that can be checked without its neighbours.
///
/// # Errors
/// [`RecordError`] if the bytes are of a later version or not what was written.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let Ok((header, behind)) = Header::read_from_prefix(bytes) else {
        return Err(RecordError::Damaged("shorter than its header"));
    };
    // The version comes first: a later format may have its checksum elsewhere.
    if header.version > FORMAT {
        return Err(RecordError::Newer(header.version));
    }
    let crc = checksum(bytes);
    if crc != header.crc.get() {
        return Err(RecordError::Damaged("its checksum does not match"));
    }
    let kind = match header.kind {
        k if k == EntryKind::Normal as u8 => RecordKind::Entry(EntryKind::Normal),
        k if k == EntryKind::Membership as u8 => RecordKind::Entry(EntryKind::Membership),
        STATE => RecordKind::State,
        _ => return Err(RecordError::Damaged("its kind is unknown")),
    };
    let mut state = State::from(&header.state);
    let (Some(data), U16::ZERO) = (state.take_base(header.version, behind), header.reserved) else {
        return Err(RecordError::Damaged("its version or a reserved byte is wrong"));
    };
    if !could_be_written(&header, &state, kind, data) {
        return Err(RecordError::Damaged("its numbers contradict each other"));
    }
    Ok(Record {
        kind,
        index: header.index.get(),
        term: header.term.get(),
        data: Bytes::copy_from_slice(data),
        state,
        crc,
    })
}

/// Whether a step could have written such a record, whatever stood in the store before.
fn could_be_written(header: &Header, state: &State, kind: RecordKind, data: &[u8]) -> bool {
    let (index, term) = (header.index.get(), header.term.get());
    let is_of_its_kind = match kind {
        RecordKind::State => index == state.end_index && term == 0 && data.is_empty(),
        RecordKind::Entry(_) => {
            index > state.base
                && index <= state.end_index
                && term <= state.hard.term
                && data.len() <= ENTRY_DATA_MAX
        }
    };
    is_of_its_kind && state.could_be_left()
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..CRC_AT]);
    hasher.update(&record[CRC_END..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let hard = HardState { term: 5, vote: 2, commit: 9 };
        State { step: 7, end_index: 12, compact_to: 3, hard, base: 0 }
    }

    fn reset() -> State {
        State { base: 2, ..state() }
    }

    fn entry() -> LogEntry {
        LogEntry { index: 11, term: 4, kind: EntryKind::Membership, data: Bytes::from_static(b"abc") }
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let (bytes, crc) = encode_entry(&entry(), &state());
        let mut expected = vec![1, 1, 0, 0];
        expected.extend_from_slice(&crc.to_le_bytes());
        for number in [11_u64, 4, 7, 12, 3, 5, 2, 9] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.extend_from_slice(b"abc");
        assert_eq!(bytes, expected);

        let (bytes, crc) = encode_entry(&entry(), &reset());
        expected.splice(..8, [[2, 1, 0, 0], crc.to_le_bytes()].concat());
        expected.splice(72..72, 2_u64.to_le_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        for state in [state(), reset()] {
            let (bytes, crc) = encode_entry(&entry(), &state);
            let record = decode(&bytes).unwrap();
            assert_eq!(record.kind, RecordKind::Entry(EntryKind::Membership));
            assert_eq!((record.index, record.term, record.crc), (11, 4, crc));
            assert_eq!((record.data.as_ref(), record.state), (b"abc".as_slice(), state));

            let record = decode(&encode_state(&state)).unwrap();
            assert_eq!((record.kind, record.index, record.term), (RecordKind::State, 12, 0));
            assert_eq!(record.state, state);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for (bytes, _) in [encode_entry(&entry(), &state()), encode_entry(&entry(), &reset())] {
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(decode(&flipped).is_err(), "byte {at} bit {bit}");
                }
                assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    /// A checksum keeps accidents out; these would have been written so.
    #[test]
    fn numbers_that_no_step_writes_are_refused() {
        let refused = |record: Vec<u8>| {
            assert_eq!(decode(&record), Err(RecordError::Damaged("its numbers contradict each other")));
        };
        let entry = entry();
        let with = |change: fn(&mut State)| {
            let mut state = state();
            change(&mut state);
            state
        };
        refused(encode(STATE, 12, 0, b"data", &state()).0);
        refused(encode(STATE, 12, 4, b"", &state()).0);
        refused(encode(STATE, 11, 0, b"", &state()).0);
        refused(encode_entry(&LogEntry { index: 0, ..entry.clone() }, &state()).0);
        refused(encode_entry(&LogEntry { index: 13, ..entry.clone() }, &state()).0);
        refused(encode_entry(&LogEntry { term: 6, ..entry.clone() }, &state()).0);
        let data = Bytes::from(vec![0; ENTRY_DATA_MAX + 1]);
        refused(encode_entry(&LogEntry { data, ..entry.clone() }, &state()).0);
        for state in [
            with(|state| state.step = 0),
            with(|state| state.step = u64::MAX),
            with(|state| state.end_index = u64::MAX),
            with(|state| state.compact_to = 13),
            with(|state| state.hard.commit = 13),
            with(|state| state.hard.term = u64::MAX),
            with(|state| state.base = 4),
        ] {
            refused(encode_entry(&entry, &state).0);
            refused(encode_state(&state));
        }
        // Below the base there is nothing of this log.
        refused(encode_entry(&LogEntry { index: 2, ..entry.clone() }, &reset()).0);
        // And a base of 0 is not written.
        let mut bytes = encode_entry(&LogEntry { data: Bytes::from_static(&[0; 8]), ..entry }, &state()).0;
        bytes[0] = FORMAT;
        let crc = checksum(&bytes).to_le_bytes();
        bytes[CRC_AT..CRC_END].copy_from_slice(&crc);
        assert_eq!(decode(&bytes), Err(RecordError::Damaged("its version or a reserved byte is wrong")));
    }

    #[test]
    fn a_later_format_is_called_that() {
        let (mut bytes, _) = encode_entry(&entry(), &state());
        bytes[0] = FORMAT + 1;
        assert_eq!(decode(&bytes), Err(RecordError::Newer(FORMAT + 1)));
    }
}
