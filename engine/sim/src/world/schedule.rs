//! Virtual time: what will happen, in the order of its time, and of its being ordered where times are equal.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Slot<E> {
    at_us: u64,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Slot<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Slot<E> {}

impl<E> PartialOrd for Slot<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Slot<E> {
    /// The earliest is the greatest, as the heap gives out its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    heap: BinaryHeap<Slot<E>>,
    sequence: u64,
    now_us: u64,
}

impl<E> Schedule<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now_us: 0 }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Orders an event. What should have been already happens now.
    pub(crate) fn at(&mut self, at_us: u64, event: E) {
        self.sequence += 1;
        self.heap.push(Slot { at_us: at_us.max(self.now_us), sequence: self.sequence, event });
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now_us + delay_us, event);
    }

    /// The next event, if there is one not later than `until_us`. Time moves to it, or to there.
    pub(crate) fn next(&mut self, until_us: u64) -> Option<E> {
        if self.heap.peek().is_none_or(|slot| slot.at_us > until_us) {
            self.now_us = until_us;
            return None;
        }
        let slot = self.heap.pop().expect("it was just looked at");
        self.now_us = slot.at_us;
        Some(slot.event)
    }
}
