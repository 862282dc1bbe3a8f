//! Reads a log back: frame after frame, from the first segment that is left to the first place where nothing is.
//!
//! Frames are written one at a time, each synced before the next. So only the last can be incomplete, and it was not
//! acknowledged. Whatever cannot be explained by that is damage, and refused.
//!
//! Deliberately not here: files. Segments come as bytes, the refusal leaves as a value.

use sluice_core::fault::Mutant;
use sluice_core::replica::disk::LogEntry;

use super::super::Recovered;
use super::super::fence::Mark;
use super::super::record::State;
use super::super::scan::Refusal;
use super::FRAME_LEN_MAX;
use super::frame::{self, Found, Frame, PAGE_LEN, Place};
use crate::failpoint;

/// What is known of a segment that holds frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) number: u64,
    /// The first and the last index of its entries, if it has any.
    pub(super) indexes: Option<(u64, u64)>,
}

impl Held {
    /// Takes note of entries that were put into the segment.
    pub(super) fn note(&mut self, entries: &[LogEntry]) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let (from, to) = self.indexes.unwrap_or((first.index, last.index));
            self.indexes = Some((from.min(first.index), to.max(last.index)));
        }
    }

    /// The log was reset: what is in the segment is not part of it.
    pub(super) fn forget(&mut self) {
        self.indexes = None;
    }
}

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Replay {
    salt: u64,
    fence: Mark,
    /// The fence's step was found, or lies before the first frame that is left.
    fenced: bool,
    state: State,
    last_crc: u32,
    entries: Vec<LogEntry>,
    /// While no entries were found: the index at which those end that went with the segments before. [`Replay::finish`]
    /// asks whether a snapshot stands for them.
    gone_to: Option<u64>,
    held: Vec<Held>,
    /// Where the next frame goes, in which segment.
    end: Option<(u64, usize)>,
    /// Bytes at the end that a torn frame has left.
    torn_len: usize,
}

/// What a sound log holds.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) state: State,
    pub(super) last_crc: u32,
    pub(super) recovered: Recovered,
    pub(super) held: Vec<Held>,
    /// The segment that takes the next frame, and where.
    pub(super) end: (u64, usize),
    pub(super) torn_len: usize,
}

impl Replay {
    pub(super) fn new(salt: u64, fence: Mark) -> Self {
        let fence = if failpoint::is_on(Mutant::FenceNotChecked) { Mark::default() } else { fence };
        Self {
            salt,
            fence,
            fenced: fence.step == 0,
            state: State::default(),
            last_crc: 0,
            entries: Vec::new(),
            gone_to: None,
            held: Vec::new(),
            end: None,
            torn_len: 0,
        }
    }

    /// Reads the next segment.
    ///
    /// # Errors
    /// [`Refusal`] if anything in it is not what was written.
    pub(super) fn read(&mut self, number: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = PAGE_LEN;
        let mut held = Held { number, indexes: None };
        let torn_len = loop {
            if at >= bytes.len() {
                break 0;
            }
            match frame::decode(&bytes[at..], &self.place(number, at)) {
                Found::Whole(frame) => {
                    if frame.state.base > self.state.base {
                        self.held.iter_mut().chain([&mut held]).for_each(Held::forget);
                        self.entries.clear();
                    }
                    held.note(&frame.entries);
                    at += frame.padded_len;
                    self.take(frame)?;
                }
                Found::Torn | Found::Blank => break torn_len(&bytes[at..], &self.place(number, at))?,
                Found::Damaged(what) => return damaged(format!("byte {at}: {what}")),
                Found::Newer(version) => return Err(Refusal::Newer(version)),
            }
        };
        let is_empty = at == PAGE_LEN;
        if is_empty && torn_len == 0 && self.end.is_some() {
            // Made ready, not used.
            return Ok(());
        }
        if let Some((ended, _)) = self.end
            && (self.torn_len > 0 || ended + 1 != number)
        {
            return lost(format!("the log goes on behind its end in segment {ended}"));
        }
        self.held.push(held);
        self.end = Some((number, at));
        self.torn_len = torn_len;
        Ok(())
    }

    /// The whole log, when all segments were read.
    ///
    /// # Errors
    /// [`Refusal`] unless everything that was acknowledged is there.
    pub(super) fn finish(self) -> Result<Sound, Refusal> {
        let Self { state, fence, .. } = self;
        if state.step < fence.step {
            return lost(format!(
                "the newest step found is {}, but step {} was acknowledged",
                state.step, fence.step
            ));
        }
        if !self.fenced {
            return lost(format!("step {} is not the one that was acknowledged", fence.step));
        }
        let first_index = self.entries.first().map_or(state.end_index + 1, |entry| entry.index);
        if first_index > state.compact_to + 1 {
            return damaged(format!(
                "entry {} is missing, and no snapshot stands for it (compacted up to {})",
                first_index - 1,
                state.compact_to
            ));
        }
        let recovered = Recovered {
            hard_state: state.hard,
            entries: self.entries,
            first_index,
            compact_to: state.compact_to,
            log_base: state.base,
        };
        let end = self.end.ok_or_else(|| Refusal::Lost("there is no segment".to_owned()))?;
        let (last_crc, held, torn_len) = (self.last_crc, self.held, self.torn_len);
        Ok(Sound { state, last_crc, recovered, held, end, torn_len })
    }

    fn place(&self, segment: u64, at: usize) -> Place {
        Place { salt: self.salt, segment, at: at as u64, previous: self.previous() }
    }

    /// What the next frame says of the one before it. What the first frame that is left says cannot be known.
    fn previous(&self) -> Option<u32> {
        (self.state.step > 0).then_some(self.last_crc)
    }

    fn take(&mut self, frame: Frame) -> Result<(), Refusal> {
        let Frame { state, entries, crc, .. } = frame;
        let first = self.state.step == 0;
        if !first && state.step != self.state.step + 1 {
            return damaged(format!("step {} follows step {}", state.step, self.state.step));
        }
        let (older, newer) = (&self.state, &state);
        if newer.compact_to < older.compact_to || newer.hard.term < older.hard.term || newer.base < older.base
        {
            return damaged(format!("step {} takes back what an earlier one had settled", state.step));
        }
        if self.fence.step == state.step {
            self.fenced = self.fence.entry_crc == crc;
        } else if first && self.fence.step < state.step {
            self.fenced = true;
        }
        if !entries.is_empty() {
            self.gone_to = None;
        } else if first && state.step > 1 {
            self.gone_to = Some(state.end_index);
        }
        if let (Some(new), Some(old)) = (entries.first(), self.entries.first()) {
            let keep = new.index.saturating_sub(old.index);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        if !entries.is_empty() && self.entries.last().is_some_and(|last| last.index < state.compact_to) {
            // They follow a snapshot that reached beyond the log.
            self.entries.clear();
        }
        for entry in entries {
            match self.entries.last() {
                Some(last) if entry.index != last.index + 1 => {
                    return damaged(format!("entry {} follows entry {}", entry.index, last.index));
                }
                Some(last) if entry.term < last.term => {
                    return damaged(format!("the term falls at entry {}", entry.index));
                }
                _ => self.entries.push(entry),
            }
        }
        let ends_at = self.entries.last().map(|last| last.index).or(self.gone_to);
        if ends_at != Some(state.end_index) {
            // A snapshot that reaches beyond the log stands for all of it.
            if state.end_index != state.compact_to {
                return damaged(format!("step {} says that the log ends at {}", state.step, state.end_index));
            }
            self.entries.clear();
            self.gone_to = None;
        }
        self.state = state;
        self.last_crc = crc;
        Ok(())
    }
}

/// How much of `bytes`, which begin where no whole frame does, a frame that was being written may have touched.
///
/// # Errors
/// [`Refusal`] if there is more than one incomplete frame accounts for.
fn torn_len(bytes: &[u8], place: &Place) -> Result<usize, Refusal> {
    let reach = bytes.len().min(FRAME_LEN_MAX);
    let touched = (0..reach)
        .step_by(PAGE_LEN)
        .rev()
        .find(|at| !frame::is_blank(&bytes[*at..bytes.len().min(at + PAGE_LEN)]))
        .map_or(0, |at| at + PAGE_LEN);
    if !frame::is_blank(&bytes[reach..]) {
        return lost(format!("byte {}: no whole frame, but something is written behind it", place.at));
    }
    // A frame of its own further on was written after the one that is missing here had been acknowledged.
    for at in (PAGE_LEN..touched).step_by(PAGE_LEN) {
        let further = Place { at: place.at + at as u64, ..*place };
        if let Some(step) = frame::peek_step(&bytes[at..], &further) {
            return lost(format!("byte {}: the frame before step {step} is missing", place.at));
        }
    }
    Ok(touched)
}

fn damaged<T>(what: String) -> Result<T, Refusal> {
    Err(Refusal::Damaged(what))
}

fn lost<T>(what: String) -> Result<T, Refusal> {
    Err(Refusal::Lost(what))
}
