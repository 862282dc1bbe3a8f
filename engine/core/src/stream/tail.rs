//! The newest events, in memory: written by the replica thread, read by net threads, and neither waits for the other.
//!
//! A ring of blocks, each behind a pointer that is swapped. What the files do not have yet is never let go; beyond that a
//! bound holds, oldest first. A reader that finds another block than it looked for was overtaken: what it wants is in files
//! by then. Deliberately not here: files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use sluice_protocol::event::EventRecord;

use super::Block;
use super::census::Census;

/// Bytes of events kept in memory that the files have too.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// Blocks in the ring.
const BLOCKS_MAX: usize = 1 << 15;

/// Blocks taken in one look, at most: with few events in each there could be thousands.
const TAKEN_MAX: u64 = 4096;

/// Which events there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest that is kept, in memory or in files; one above `last` if there is none.
    pub first: u64,
    /// The newest; 0 = there was none ever.
    pub last: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Tail {
    ring: Box<[ArcSwapOption<Block>]>,
    /// The number of the oldest block, and of the next. Written by the replica thread.
    front: AtomicU64,
    back: AtomicU64,
    /// Bytes of all blocks.
    bytes: AtomicUsize,
    last: AtomicU64,
    /// The oldest that the files keep.
    first: AtomicU64,
    /// The files can be read up to here.
    written: AtomicU64,
    pub(super) census: Census,
    bytes_max: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self::new(TAIL_BYTES_MAX, BLOCKS_MAX)
    }
}

impl Tail {
    /// A tail that keeps so many bytes of events that are in files too, in so many blocks.
    pub fn new(bytes_max: usize, blocks_max: usize) -> Self {
        Self {
            ring: (0..blocks_max).map(|_| ArcSwapOption::empty()).collect(),
            front: AtomicU64::new(0),
            back: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            first: AtomicU64::new(1),
            written: AtomicU64::new(0),
            census: Census::default(),
            bytes_max,
        }
    }

    /// Replica thread: the next events.
    pub(crate) fn push(&self, block: Arc<Block>) {
        assert_eq!(block.first(), self.last() + 1, "events are dense");
        let last = block.last();
        self.census.count(block.events());
        let bytes = self.bytes.load(Ordering::Relaxed) + block.bytes();
        self.bytes.store(bytes, Ordering::Relaxed);
        self.trim();
        let back = self.back.load(Ordering::Relaxed);
        if back - self.front.load(Ordering::Relaxed) < self.ring.len() as u64 {
            self.slot(back).store(Some(block));
            self.back.store(back + 1, Ordering::Release);
        } else {
            // No file has any of them: the newest two become one.
            let newest = self.slot(back - 1).load_full().expect("the ring is full");
            self.slot(back - 1).store(Some(Arc::new(newest.and(&block))));
        }
        self.last.store(last, Ordering::Release);
    }

    /// Replica thread: the next event has this sequence; what was before it, this node does not know. What the files keep,
    /// and what is nowhere any more, they tell alone: until they have, nobody may hear that something is lost.
    pub(crate) fn reset(&self, next: u64) {
        let (front, back) = (self.front.load(Ordering::Relaxed), self.back.load(Ordering::Relaxed));
        self.front.store(back, Ordering::Release);
        (front..back).for_each(|number| self.slot(number).store(None));
        self.bytes.store(0, Ordering::Relaxed);
        self.census.clear(next);
        self.written.store(next - 1, Ordering::Release);
        self.last.store(next - 1, Ordering::Release);
    }

    /// Lets go of what the files have and the bounds leave no room for.
    fn trim(&self) {
        let written = self.written.load(Ordering::Acquire);
        let mut bytes = self.bytes.load(Ordering::Relaxed);
        let (mut front, back) = (self.front.load(Ordering::Relaxed), self.back.load(Ordering::Relaxed));
        while bytes > self.bytes_max || back - front >= self.ring.len() as u64 {
            let oldest = (front < back).then(|| self.slot(front).load_full()).flatten();
            let Some(oldest) = oldest.filter(|block| block.last() <= written) else { break };
            bytes -= oldest.bytes();
            self.front.store(front + 1, Ordering::Release);
            self.slot(front).store(None);
            front += 1;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The shell: files can be read up to this sequence.
    pub fn written(&self, upto: u64) {
        self.written.fetch_max(upto, Ordering::Release);
    }

    /// The shell: the oldest event that the files keep.
    pub fn keep_from(&self, first: u64) {
        self.first.store(first, Ordering::Release);
    }

    /// Which events there are, here and in the shell's files.
    pub fn bounds(&self) -> Bounds {
        Bounds { first: self.first.load(Ordering::Acquire), last: self.last() }
    }

    /// The newest event; 0 = there was none ever.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Blocks from the one that holds `sequence` on, with so many events or a little more. `None`: that event is not in
    /// memory any more. Empty: it has not happened yet.
    pub(crate) fn from(&self, sequence: u64, events: u64) -> Option<Vec<Arc<Block>>> {
        if sequence > self.last() {
            return Some(Vec::new());
        }
        let (number, back) = self.search(|block| block.last() < sequence);
        let oldest =
            self.block(number).filter(|block| block.first() <= sequence && sequence <= block.last())?;
        let (mut taken, mut next) = (oldest.last() + 1 - sequence, oldest.last() + 1);
        let mut blocks = vec![oldest];
        for number in number + 1..back.min(number + TAKEN_MAX) {
            let follows = self.block(number).filter(|block| taken < events && block.first() == next);
            let Some(block) = follows else { break };
            (taken, next) = (taken + block.events().len() as u64, block.last() + 1);
            blocks.push(block);
        }
        Some(blocks)
    }

    /// The sequence of the first event at or after a ledger time, if memory is enough to tell.
    pub(crate) fn find(&self, time_ms: u64) -> Option<u64> {
        let is_before = |event: &EventRecord| event.time_ms() < time_ms;
        let ends_before = |block: &Block| block.events().last().is_some_and(is_before);
        let (number, back) = self.search(ends_before);
        let found = if number < back { Some(self.block(number)?) } else { None };
        if let Some(block) = found.as_ref().filter(|block| is_before(&block.events()[0])) {
            return Some(block.first() + block.events().partition_point(is_before) as u64);
        }
        // Only if the one before it ends before that time, nothing older is meant.
        let before = self.block(number.checked_sub(1)?).filter(|block| ends_before(block))?;
        let next = before.last() + 1;
        found.is_none_or(|block| block.first() == next).then_some(next)
    }

    /// The number of the first block of which this is not true, if it is true of all before; and the number behind the last.
    fn search(&self, is_before: impl Fn(&Block) -> bool) -> (u64, u64) {
        let back = self.back.load(Ordering::Acquire);
        let (mut low, mut high) = (self.front.load(Ordering::Acquire).min(back), back);
        while low < high {
            let middle = low + (high - low) / 2;
            // One that is gone was older than all that are there.
            match self.slot(middle).load().as_ref() {
                Some(block) if !is_before(block) => high = middle,
                _ => low = middle + 1,
            }
        }
        (low, back)
    }

    fn block(&self, number: u64) -> Option<Arc<Block>> {
        self.slot(number).load_full()
    }

    fn slot(&self, number: u64) -> &ArcSwapOption<Block> {
        &self.ring[(number % self.ring.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::event::{EVENT_LEN, EventKind, EventRecord, EventView};
    use sluice_protocol::{ProductId, ReservationId, UserId};

    use super::*;

    fn block(first: u64, len: u64) -> Arc<Block> {
        let event = |sequence| {
            EventRecord::from(EventView {
                sequence,
                index: sequence,
                time_ms: 10 * sequence,
                kind: EventKind::Reserved,
                product: ProductId(1),
                user: UserId(1),
                quantity: 1,
                id: ReservationId(u128::from(sequence)),
                detail: 0,
            })
        };
        Arc::new(Block::new((first..first + len).map(event).collect()))
    }

    fn sequences(blocks: &[Arc<Block>], from: u64) -> Vec<u64> {
        blocks.iter().flat_map(|block| block.from(from)).map(EventRecord::sequence).collect()
    }

    #[test]
    fn what_files_do_not_have_stays_in_memory() {
        let tail = Tail::new(4 * EVENT_LEN, 8);
        for first in [1, 4, 7] {
            tail.push(block(first, 3));
        }
        assert_eq!(sequences(&tail.from(2, 100).unwrap(), 2), [2, 3, 4, 5, 6, 7, 8, 9]);
        tail.written(5);
        tail.push(block(10, 1));
        assert_eq!(tail.from(3, 1), None, "its file has it");
        assert_eq!(sequences(&tail.from(4, 1).unwrap(), 4), [4, 5, 6]);
        tail.written(10);
        tail.push(block(11, 1));
        assert_eq!(tail.from(6, 1), None);
        assert_eq!(sequences(&tail.from(10, 5).unwrap(), 10), [10, 11]);
        assert_eq!(tail.from(12, 5), Some(Vec::new()), "it has not happened");
        assert_eq!(tail.bounds(), Bounds { first: 1, last: 11 });
    }

    #[test]
    fn a_ring_that_is_full_of_what_no_file_has_loses_nothing() {
        let tail = Tail::new(usize::MAX, 2);
        for first in 1..=9 {
            tail.push(block(first, 1));
        }
        assert_eq!(sequences(&tail.from(1, 100).unwrap(), 1), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        tail.written(9);
        tail.push(block(10, 1));
        assert_eq!(sequences(&tail.from(2, 100).unwrap(), 2), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(tail.from(1, 1), None);
    }

    #[test]
    fn after_a_snapshot_nothing_older_is_known() {
        let tail = Tail::default();
        tail.push(block(1, 3));
        tail.reset(10);
        assert_eq!(tail.bounds(), Bounds { first: 1, last: 9 }, "files may have them, here or elsewhere");
        assert_eq!(tail.from(9, 1), None);
        tail.push(block(10, 2));
        assert_eq!(sequences(&tail.from(10, 1).unwrap(), 10), [10, 11]);
    }

    #[test]
    fn a_time_is_found_where_memory_reaches() {
        let tail = Tail::default();
        assert_eq!(tail.find(5), None);
        tail.push(block(1, 3));
        tail.push(block(4, 3));
        assert_eq!(tail.find(10), None, "there may be one before");
        assert_eq!(tail.find(11), Some(2));
        assert_eq!(tail.find(40), Some(4));
        assert_eq!(tail.find(41), Some(5));
        assert_eq!(tail.find(61), Some(7));
    }
}
