//! Which sequences are here. One writer changes it, any number of readers ask.
//!
//! A sequence that was made is in exactly one place: here; *dropped*, because retention has let go of it and of all before
//! it; or *missing*, because this node never had it or has lost it. Missing ones may be on other nodes.
//!
//! Deliberately not here: files.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::format::{HEADER_LEN, RECORD_LEN};

/// Sequences that are not here, and may be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// The events in one segment; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// The sequence behind the last.
    pub(super) next: u64,
}

impl Segment {
    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        HEADER_LEN + (self.next - self.first) * RECORD_LEN
    }
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here(Segment),
    Missing(Missing),
    Dropped {
        to: u64,
    },
    /// It is not written yet.
    Ahead,
}

/// What is kept, as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// In order, none overlaps another.
    pub(super) segments: Vec<Segment>,
    /// The last sequence that retention has dropped; 0 = none.
    pub(super) dropped: u64,
    /// The sequence of the next event to be written.
    pub(super) next: u64,
}

impl Kept {
    pub(super) fn place(&self, sequence: u64) -> Place {
        let behind = self.segments.partition_point(|segment| segment.first <= sequence);
        let before = behind.checked_sub(1).map(|at| self.segments[at]);
        if let Some(segment) = before.filter(|segment| sequence < segment.next) {
            return Place::Here(segment);
        }
        if sequence >= self.next {
            return Place::Ahead;
        }
        if sequence <= self.dropped {
            return Place::Dropped { to: self.dropped };
        }
        let from = before.map_or(1, |segment| segment.next).max(self.dropped + 1);
        let to = self.segments.get(behind).map_or(self.next, |segment| segment.first) - 1;
        Place::Missing(Missing { from, to })
    }

    /// The sequences that are missing, oldest first.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut from = self.dropped + 1;
        let ends = Segment { first: self.next, next: self.next };
        for segment in self.segments.iter().chain([&ends]) {
            if segment.first > from {
                missing.push(Missing { from, to: segment.first - 1 });
            }
            from = segment.next.max(from);
        }
        missing
    }

    /// The oldest event that is here, or the next.
    pub(super) fn first(&self) -> u64 {
        self.segments.first().map_or(self.next, |segment| segment.first)
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }
}

/// What is kept, for all threads.
#[derive(Debug)]
pub(super) struct Index {
    kept: Mutex<Kept>,
    /// The last sequence that was written, for those who only ask for that.
    last: AtomicU64,
}

impl Index {
    pub(super) fn new(kept: Kept) -> Self {
        Self { last: AtomicU64::new(kept.next - 1), kept: Mutex::new(kept) }
    }

    /// The sequence up to which events can be read, as far as they are here.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn place(&self, sequence: u64) -> Place {
        self.kept.lock().place(sequence)
    }

    pub(super) fn kept(&self) -> Kept {
        self.kept.lock().clone()
    }

    /// So many events more are in the segment that begins with `first`.
    pub(super) fn extend(&self, first: u64, count: u64) {
        let mut kept = self.kept.lock();
        let next = kept.next + count;
        match kept.segments.last_mut() {
            Some(segment) if segment.first == first => segment.next = next,
            _ => kept.segments.push(Segment { first, next }),
        }
        kept.next = next;
        self.last.store(next - 1, Ordering::Release);
    }

    /// The events before `next` that are not here are missing.
    pub(super) fn skip_to(&self, next: u64) {
        let mut kept = self.kept.lock();
        assert!(kept.next <= next, "sequences do not fall");
        kept.next = next;
        self.last.store(next - 1, Ordering::Release);
    }

    /// Events that were missing are in a segment of their own.
    pub(super) fn fill(&self, segment: Segment) {
        let mut kept = self.kept.lock();
        let at = kept.segments.partition_point(|other| other.first < segment.first);
        kept.segments.insert(at, segment);
    }

    /// Everything up to this sequence that is not here is gone for good.
    pub(super) fn give_up(&self, upto: u64) {
        let mut kept = self.kept.lock();
        kept.dropped = kept.dropped.max(upto);
    }

    /// Lets go of the oldest segment. Which it was.
    pub(super) fn drop_oldest(&self) -> Segment {
        let mut kept = self.kept.lock();
        let oldest = kept.segments.remove(0);
        kept.dropped = kept.dropped.max(oldest.next - 1);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_in_one_place() {
        let segment = |first, next| Segment { first, next };
        let kept =
            Kept { segments: vec![segment(10, 20), segment(20, 25), segment(40, 41)], dropped: 4, next: 50 };
        let missing = |from, to| Place::Missing(Missing { from, to });
        for (sequences, place) in [
            (0..=4, Place::Dropped { to: 4 }),
            (5..=9, missing(5, 9)),
            (10..=19, Place::Here(segment(10, 20))),
            (20..=24, Place::Here(segment(20, 25))),
            (25..=39, missing(25, 39)),
            (40..=40, Place::Here(segment(40, 41))),
            (41..=49, missing(41, 49)),
            (50..=60, Place::Ahead),
        ] {
            for sequence in sequences {
                assert_eq!(kept.place(sequence), place, "{sequence}");
            }
        }
        let gaps = [(5, 9), (25, 39), (41, 49)].map(|(from, to)| Missing { from, to });
        assert_eq!((kept.missing(), kept.first(), kept.bytes()), (gaps.to_vec(), 10, 3 * 80 + 16 * 80));
    }

    #[test]
    fn what_begins_empty_misses_what_came_before() {
        let kept = Kept { segments: Vec::new(), dropped: 0, next: 1 };
        assert_eq!((kept.missing(), kept.place(1), kept.first()), (Vec::new(), Place::Ahead, 1));
        let kept = Kept { next: 9, ..kept };
        assert_eq!(kept.missing(), [Missing { from: 1, to: 8 }]);
        let kept = Kept { dropped: 8, ..kept };
        assert_eq!(kept.missing(), []);
    }
}
