//! The log's segments: frames one behind the other, what of them is synced, and how they are read back.

use std::collections::VecDeque;

use sluice_core::replica::disk::{Append, HardState, LogEntry};

use super::Refusal;
use super::frame::{self, Found, SECTOR, State};
use crate::random::Random;

/// Bytes after which the next segment is begun: small, so that the front of a log goes.
const SEGMENT_LEN: usize = 16 * 1024;

#[derive(Clone, Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// The highest index ever written into it: it may go once that is compacted.
    last_index: u64,
}

/// A stretch of bytes that was written and is not synced.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// The segment's number since the log was made, and the place in it.
    segment: u64,
    at: usize,
    len: usize,
}

/// What was acknowledged, told outside the log: two slots written in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Slot {
    step: u64,
    crc: u32,
    rotten: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    segments: VecDeque<Segment>,
    /// The number of the first of them.
    first: u64,
    unsynced: Vec<Write>,
    state: State,
    /// As it was at the last sync that was not a lie.
    synced: State,
    last_crc: u32,
    fence: [Slot; 2],
    fence_at_us: u64,
    /// A sync says that it is done, and is not.
    lying: bool,
}

/// What was read back.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<LogEntry>,
    /// Index and term of the received snapshot that the log follows.
    pub(super) reset: (u64, u64),
    pub(super) compact_to: u64,
}

/// How far behind the log the fence may be.
const FENCE_LAG_US: u64 = 100_000;

impl Log {
    /// Writes a step. It is not synced yet.
    pub(super) fn write(&mut self, step: &Append) {
        let state = &mut self.state;
        state.step += 1;
        if let Some((index, term)) = step.reset {
            state.reset = (index, term);
            state.end_index = index;
        }
        state.compact_to = state.compact_to.max(step.compact_to);
        if let Some(last) = step.entries.last() {
            state.end_index = last.index;
        }
        if let Some(hard_state) = step.hard_state {
            let commit = hard_state.commit.min(state.end_index);
            state.hard_state = HardState { commit, ..hard_state };
        }
        let state = *state;
        if self.segments.back().is_none_or(|last| last.bytes.len() >= SEGMENT_LEN) {
            self.segments.push_back(Segment::default());
        }
        let number = self.first + self.segments.len() as u64 - 1;
        let segment = self.segments.back_mut().expect("it was just made");
        let at = segment.bytes.len();
        self.last_crc = frame::write(&mut segment.bytes, &state, &step.entries);
        segment.last_index = segment.last_index.max(state.end_index);
        self.unsynced.push(Write { segment: number, at, len: segment.bytes.len() - at });
    }

    /// Syncs what was written. A lie does nothing, and says so too.
    pub(super) fn sync(&mut self, now_us: u64) {
        if self.lying {
            return;
        }
        self.unsynced.clear();
        self.synced = self.state;
        if now_us >= self.fence_at_us + FENCE_LAG_US {
            self.fence_at(now_us);
        }
        while self.segments.len() > 1 && self.segments[0].last_index <= self.state.compact_to {
            self.segments.pop_front();
            self.first += 1;
        }
    }

    /// Moves the fence to the end of the log, of which all is synced.
    fn fence_at(&mut self, now_us: u64) {
        let oldest = usize::from(self.fence[0].step > self.fence[1].step);
        self.fence[oldest] = Slot { step: self.state.step, crc: self.last_crc, rotten: false };
        self.fence_at_us = now_us;
    }

    pub(super) fn lie(&mut self, lying: bool) {
        self.lying = lying;
    }

    /// The log has been idle, or is closed: the fence is moved to its end.
    pub(super) fn settle(&mut self, now_us: u64) {
        if self.unsynced.is_empty() && now_us >= self.fence_at_us + FENCE_LAG_US {
            self.fence_at(now_us);
        }
    }

    /// What was not synced is lost, in part: all of it, nothing, its end, or any sectors. Whether anything was.
    pub(super) fn crash(&mut self, random: &mut Random) -> bool {
        let mode = random.below(4);
        let mut lost = false;
        let torn_at = random.below(self.unsynced.len() as u64 + 1) as usize;
        for (number, write) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            let Some(place) = write.segment.checked_sub(self.first) else { continue };
            let bytes = &mut self.segments[place as usize].bytes[write.at..write.at + write.len];
            let sectors = bytes.len() / SECTOR;
            let prefix = match number.cmp(&torn_at) {
                std::cmp::Ordering::Less => sectors,
                std::cmp::Ordering::Equal => random.below(sectors as u64 + 1) as usize,
                std::cmp::Ordering::Greater => 0,
            };
            for (at, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                let kept = match mode {
                    0 => false,
                    1 => true,
                    2 => at < prefix,
                    _ => random.chance(1, 2),
                };
                if !kept {
                    sector.fill(0);
                    lost = true;
                }
            }
        }
        lost
    }

    /// Flips a bit of a frame. Whether there is one.
    pub(super) fn rot(&mut self, random: &mut Random) -> bool {
        let total: usize = self.segments.iter().map(|segment| segment.bytes.len()).sum();
        let mut at = random.below(total as u64) as usize;
        for segment in &mut self.segments {
            if at < segment.bytes.len() {
                segment.bytes[at] ^= 1 << random.below(8);
                return true;
            }
            at -= segment.bytes.len();
        }
        false
    }

    /// Damages one slot of the fence. Whether the other one is whole.
    pub(super) fn rot_fence(&mut self, random: &mut Random) -> bool {
        let at = random.below(2) as usize;
        self.fence[at].rotten = true;
        !self.fence[1 - at].rotten
    }

    /// Raft's hard state and the last index, as a crash would leave them.
    pub(super) fn synced(&self) -> (HardState, u64) {
        (self.synced.hard_state, self.synced.end_index)
    }

    /// Reads everything back, and cuts off what is provably incomplete.
    pub(super) fn open(&mut self) -> Result<Kept, Refusal> {
        self.unsynced.clear();
        let (kept, end) = self.replay()?;
        if let Some((segment, at)) = end {
            self.segments.truncate(segment + 1);
            self.segments[segment].bytes.truncate(at);
        }
        self.fence = [Slot { step: self.state.step, crc: self.last_crc, rotten: false }; 2];
        Ok(kept)
    }

    /// Everything that is whole, and where that ends if something incomplete follows.
    fn replay(&mut self) -> Result<(Kept, Option<(usize, usize)>), Refusal> {
        let fence = self.fence.iter().filter(|slot| !slot.rotten).max_by_key(|slot| slot.step).copied();
        let fence = fence.unwrap_or_default();
        let mut kept = Kept::default();
        let (mut state, mut last_crc, mut end) = (State::default(), 0, None);
        let mut begun = false;
        for (number, segment) in self.segments.iter().enumerate() {
            let mut at = 0;
            while at < segment.bytes.len() && end.is_none() {
                match frame::read(&segment.bytes[at..]) {
                    Found::Whole(frame) => {
                        if begun && frame.state.step != state.step + 1 {
                            return Err(Refusal::Missing);
                        }
                        if frame.state.step == fence.step && frame.crc != fence.crc {
                            return Err(Refusal::Damaged);
                        }
                        begun = true;
                        at += frame.len;
                        (state, last_crc) = (frame.state, frame.crc);
                        kept.take(frame);
                    }
                    Found::Damaged => return Err(Refusal::Damaged),
                    Found::Blank | Found::Torn => end = Some((number, at)),
                }
            }
        }
        if let Some((number, at)) = end
            && self.goes_on_behind(number, at)
        {
            return Err(Refusal::Missing);
        }
        if state.step < fence.step {
            return Err(Refusal::Short);
        }
        (self.state, self.synced, self.last_crc) = (state, state, last_crc);
        kept.hard_state = state.hard_state;
        kept.compact_to = state.compact_to;
        Ok((kept, end))
    }

    /// Whether a frame follows the place at which none stands.
    fn goes_on_behind(&self, segment: usize, at: usize) -> bool {
        self.segments.iter().enumerate().skip(segment).any(|(number, later)| {
            let from = if number == segment { at + SECTOR } else { 0 };
            (from..later.bytes.len()).step_by(SECTOR).any(|place| frame::is_header(&later.bytes[place..]))
        })
    }
}

impl Kept {
    fn take(&mut self, frame: frame::Frame) {
        if frame.state.reset != self.reset {
            self.reset = frame.state.reset;
            self.entries.clear();
        }
        if let Some(first) = frame.entries.first() {
            // Only the end is ever replaced.
            while self.entries.last().is_some_and(|last| last.index >= first.index) {
                self.entries.pop();
            }
            self.entries.extend(frame.entries);
        }
    }
}
