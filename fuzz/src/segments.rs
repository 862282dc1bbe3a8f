//! The log in segments from any bytes: a frame that is accepted encodes to the same bytes, and a log that was written by
//! the rules of docs/STORAGE.md and then damaged is refused, or found as it was after some step that the fence allows.
//!
//! The first byte chooses: a frame as it is, one with its checksums mended, or a log. Deliberately not here: files.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry};
use sluice_engine::wal::fence::Mark;
use sluice_engine::wal::record::State;
use sluice_engine::wal::segments::check;
use sluice_engine::wal::segments::frame::{self, Found, HEADER_LEN, PAGE_LEN, Place, SECTOR_LEN};
use sluice_engine::wal::{ENTRY_DATA_MAX, Recovered};

use crate::heap;

const SALT: u64 = 0x5eed;
const PLACE: Place = Place { salt: SALT, segment: 1, at: PAGE_LEN as u64, previous: None };

/// Where a frame's checksums stand, and what the second one covers is told.
const CRC_AT: usize = 8;
const BODY_CRC_AT: usize = 12;
const LEN_AT: usize = 16;

/// Pages of a segment here, its first one included. Real ones are longer.
const PAGES: usize = 12;

/// See the module.
pub fn target(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    match mode % 3 {
        0 => one_frame(&pages(bytes)),
        1 => one_frame(&mended(pages(bytes))),
        _ => {
            if let Ok(plan) = Plan::arbitrary(&mut Unstructured::new(bytes)) {
                log(&plan);
            }
        }
    }
}

/// Whole pages, padded as a frame is.
fn pages(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(1).next_multiple_of(PAGE_LEN), 0xa5);
    bytes
}

/// The frame with checksums that hold, as far as it is one.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = u32::from_le_bytes([bytes[LEN_AT], bytes[LEN_AT + 1], bytes[LEN_AT + 2], bytes[LEN_AT + 3]]);
    if let Some(body) = bytes.get(HEADER_LEN..len as usize) {
        let crc = crc32fast::hash(body).to_le_bytes();
        bytes[BODY_CRC_AT..BODY_CRC_AT + 4].copy_from_slice(&crc);
    }
    let covered = [&SALT.to_le_bytes()[..], &bytes[..CRC_AT], &bytes[BODY_CRC_AT..HEADER_LEN]].concat();
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
    bytes
}

fn one_frame(bytes: &[u8]) {
    let (found, taken) = heap::taken(|| frame::decode(bytes, &PLACE));
    // The entries' data is copied once; each entry needs its place in a list beside it, and sixteen bytes made it.
    assert!(taken <= 16 * bytes.len() as u64 + 1024, "{taken} bytes for a frame of {}", bytes.len());
    let Found::Whole(found) = found else { return };
    assert!(found.entries.iter().all(|entry| entry.data.len() <= ENTRY_DATA_MAX));
    assert!(found.state.hard.commit <= found.state.end_index);
    // What a frame says of its predecessor is not kept, and nothing was asked of it here.
    let previous = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
    let mut again = Vec::new();
    let place = Place { previous: Some(previous), ..PLACE };
    assert_eq!(frame::encode(&mut again, &place, &found.entries, &found.state), found.crc);
    assert_eq!(again.len(), found.padded_len);
    assert_eq!(again, bytes[..again.len()], "what decodes encodes to the same bytes");
}

/// How a log came about, and what befell it.
#[derive(Debug, Arbitrary)]
struct Plan {
    steps: Vec<Step>,
    flaws: Vec<Flaw>,
    /// The fence was written behind this step.
    fenced: u8,
}

/// One append.
#[derive(Debug, Arbitrary)]
struct Step {
    /// Entries behind the end, or over a suffix.
    back: u8,
    count: u8,
    later_term: bool,
    len: u16,
    /// More is committed.
    commit: u8,
    /// A snapshot stands for more, perhaps for more than there is.
    compact: u8,
    leaps: bool,
    /// A snapshot from the leader takes the log's place first, so far before its end.
    reset: Option<u8>,
}

/// What befalls a log.
#[derive(Debug, Arbitrary)]
enum Flaw {
    /// A sector was never written.
    Blank { segment: u8, sector: u8 },
    /// A bit pattern goes over a byte.
    Bits { segment: u8, at: u16, by: u8 },
    /// A page lies where another belongs.
    Moved { segment: u8, from: u8, to: u8 },
    /// Nothing behind this page was ever written.
    Short { segment: u8, page: u8 },
    /// The last segment is gone.
    Gone,
}

/// A log written plainly, and what it held after each step.
struct Plain {
    segments: Vec<Vec<u8>>,
    at: usize,
    previous: u32,
    entries: Vec<LogEntry>,
    state: State,
    /// After each step, with the fence that describes it.
    history: Vec<(Recovered, Mark)>,
}

impl Plain {
    fn new() -> Self {
        let none = (Recovered { first_index: 1, ..Recovered::default() }, Mark::default());
        Self {
            segments: vec![vec![0; PAGES * PAGE_LEN]],
            at: PAGE_LEN,
            previous: 0,
            entries: Vec::new(),
            state: State::default(),
            history: vec![none],
        }
    }

    fn step(&mut self, step: &Step) {
        let state = &mut self.state;
        if let Some(back) = step.reset {
            let fixed = state.hard.commit.max(state.compact_to).max(1);
            let base = state.end_index.saturating_sub(u64::from(back % 4)).max(fixed);
            (state.base, state.compact_to, state.end_index) = (base, base, base);
            state.hard.commit = base;
            self.entries.clear();
        }
        let more = u64::from(step.compact % 4);
        let leaps = step.leaps && step.reset.is_none();
        let to = if leaps { state.end_index + more } else { state.compact_to + more };
        let to = if leaps { to } else { to.min(state.hard.commit) }.max(state.compact_to);
        if to > state.end_index {
            (state.end_index, state.hard.commit) = (to, to);
            self.entries.clear();
        }
        state.compact_to = to;
        let fixed = state.hard.commit.max(state.compact_to);
        let keep = state.end_index.saturating_sub(u64::from(step.back % 4)).max(fixed);
        state.hard.term += u64::from(step.later_term || state.hard.term == 0);
        let term = state.hard.term;
        let data = Bytes::from(vec![(step.len % 3) as u8; usize::from(step.len % 6000)]);
        let new: Vec<LogEntry> = (keep + 1..=keep + u64::from(step.count % 5))
            .map(|index| LogEntry { index, term, kind: EntryKind::Normal, data: data.clone() })
            .collect();
        if let (Some(first), Some(last)) = (new.first(), new.last()) {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(&new);
            state.end_index = last.index;
        }
        let commit = (state.hard.commit + u64::from(step.commit % 4)).min(state.end_index);
        state.hard = HardState { commit, ..state.hard };
        state.step += 1;
        self.write(&new);
    }

    fn write(&mut self, new: &[LogEntry]) {
        let len = frame::padded_len(new, &self.state);
        if self.at + len > PAGES * PAGE_LEN {
            self.segments.push(vec![0; PAGES * PAGE_LEN]);
            self.at = PAGE_LEN;
        }
        let place = Place {
            salt: SALT,
            segment: self.segments.len() as u64,
            at: self.at as u64,
            previous: Some(self.previous),
        };
        let mut bytes = Vec::new();
        self.previous = frame::encode(&mut bytes, &place, new, &self.state);
        let segment = self.segments.last_mut().expect("there is one from the start");
        segment[self.at..self.at + len].copy_from_slice(&bytes);
        self.at += len;
        let state = self.state;
        let recovered = Recovered {
            hard_state: state.hard,
            entries: self.entries.clone(),
            first_index: self.entries.first().map_or(state.end_index + 1, |entry| entry.index),
            compact_to: state.compact_to,
            log_base: state.base,
        };
        let mark = Mark {
            step: state.step,
            index: state.end_index,
            term: self.entries.last().map_or(0, |entry| entry.term),
            entry_crc: self.previous,
            compact_to: state.compact_to,
        };
        self.history.push((recovered, mark));
    }
}

fn log(plan: &Plan) {
    let mut plain = Plain::new();
    for step in plan.steps.iter().take(24) {
        plain.step(step);
        let (found, mark) =
            check(SALT, &plain.segments, &Mark::default()).expect("what was written is accepted");
        let (expected, described) = plain.history.last().expect("a step was taken");
        assert_eq!(&found, expected);
        assert_eq!(&mark, described);
    }
    let fenced = usize::from(plan.fenced) % plain.history.len();
    let fence = plain.history[fenced].1;
    let mut segments = plain.segments.clone();
    plan.flaws.iter().take(4).for_each(|flaw| damage(&mut segments, flaw));
    // Whatever was damaged: it is as it was after some step, and not before the fence's.
    if let Ok((found, mark)) = check(SALT, &segments, &fence) {
        let step = mark.step as usize;
        assert!(step >= fenced, "step {fenced} was acknowledged, and {step} is the last that was found");
        let (expected, described) = &plain.history[step];
        assert_eq!((found.hard_state, found.compact_to), (expected.hard_state, expected.compact_to));
        assert_eq!(found.log_base, expected.log_base);
        // Of the front, which a snapshot stands for, less may be left, and of the last entry then not even the term.
        assert_eq!(mark, Mark { term: mark.term, ..*described });
        assert!(mark.term == described.term || found.entries.is_empty());
        assert!((expected.first_index..=found.compact_to + 1).contains(&found.first_index));
        let gone = (found.first_index - expected.first_index) as usize;
        assert_eq!(found.entries, expected.entries[gone..]);
    }
}

fn damage(segments: &mut Vec<Vec<u8>>, flaw: &Flaw) {
    let count = segments.len();
    let pick = |segment: u8| usize::from(segment) % count;
    // A segment's first page is the file's business.
    let page = |page: u8| (1 + usize::from(page) % (PAGES - 1)) * PAGE_LEN;
    match *flaw {
        Flaw::Blank { segment, sector } => {
            let sectors = (PAGES - 1) * PAGE_LEN / SECTOR_LEN;
            let at = PAGE_LEN + usize::from(sector) % sectors * SECTOR_LEN;
            segments[pick(segment)][at..at + SECTOR_LEN].fill(0);
        }
        Flaw::Bits { segment, at, by } => {
            let at = PAGE_LEN + usize::from(at) % ((PAGES - 1) * PAGE_LEN);
            segments[pick(segment)][at] ^= by;
        }
        Flaw::Moved { segment, from, to } => {
            let from = page(from);
            segments[pick(segment)].copy_within(from..from + PAGE_LEN, page(to));
        }
        Flaw::Short { segment, page: behind } => segments[pick(segment)][page(behind)..].fill(0),
        Flaw::Gone => {
            if count > 1 {
                segments.pop();
            }
        }
    }
}
