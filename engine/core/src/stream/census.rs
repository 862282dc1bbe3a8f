//! How many events of each lane and kind there are between any two sequences, without looking at them.
//!
//! Counted by pages of neighbouring sequences: a few bytes for each hundred events, however far a group lags. Written by the
//! replica thread, read by others meanwhile. Deliberately not here: single events, which `tail` has, and products, of which
//! there are too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use sluice_protocol::event::{EventKind, EventRecord, LANES, lane_of};

/// Sequences of a page. The counters of a page hold as many.
pub(super) const PAGE: u64 = 4096;

/// Columns of a page: kinds are numbered from 1 on.
const KINDS: usize = EventKind::ALL.len();

/// Pages kept: of sixteen million events, in at most as many quarters of a byte.
const PAGES_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Census {
    /// By the page's number, in a ring.
    pages: Box<[ArcSwapOption<Page>]>,
    /// Every event from this sequence on was counted.
    since: AtomicU64,
}

#[derive(Debug)]
struct Page {
    /// Its sequences divided by [`PAGE`].
    number: u64,
    counts: Box<[AtomicU16]>,
}

impl Default for Census {
    fn default() -> Self {
        Self { pages: (0..PAGES_MAX).map(|_| ArcSwapOption::empty()).collect(), since: AtomicU64::new(1) }
    }
}

impl Census {
    /// Replica thread: counts events that follow upon those counted last.
    pub(super) fn count(&self, events: &[EventRecord]) {
        for page in events.chunk_by(|one, next| one.sequence() / PAGE == next.sequence() / PAGE) {
            let number = page[0].sequence() / PAGE;
            let slot = &self.pages[(number % PAGES_MAX as u64) as usize];
            let mut current = slot.load_full();
            if current.as_ref().is_none_or(|page| page.number != number) {
                let counts = (0..LANES as usize * KINDS).map(|_| AtomicU16::new(0)).collect();
                current = Some(Arc::new(Page { number, counts }));
                slot.store(current.clone());
            }
            let current = current.expect("it was just made");
            for event in page {
                let kind = event.kind_bit().trailing_zeros() as usize - 1;
                let count = &current.counts[lane_of(event.product()) as usize * KINDS + kind];
                count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        }
    }

    /// Replica thread: begins anew.
    pub(super) fn clear(&self, since: u64) {
        self.pages.iter().for_each(|page| page.store(None));
        self.since.store(since, Ordering::Release);
    }

    /// Whole pages between two sequences that were counted from their beginning on: where the first begins, and where the
    /// one behind the last does. `None`: there are none.
    pub(super) fn pages_within(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let behind = to / PAGE;
        let kept = behind.saturating_sub(PAGES_MAX as u64 - 1);
        let counted = match self.since.load(Ordering::Acquire) {
            // The first event there is has sequence 1.
            1 => 0,
            since => since.div_ceil(PAGE),
        };
        let first = (from / PAGE + u64::from(from % PAGE > 1)).max(counted).max(kept);
        (first < behind).then_some((first * PAGE, behind * PAGE))
    }

    /// Events of some kinds in a lane, in whole pages from the one that begins at `from` up to the one that begins at `to`.
    pub(super) fn sum(&self, from: u64, to: u64, lane: u32, kinds: u32) -> u64 {
        let row = lane as usize * KINDS;
        let kinds: Vec<usize> = (0..KINDS).filter(|kind| kinds & 2 << kind != 0).collect();
        let of_page = |number: u64| {
            let page = self.pages[(number % PAGES_MAX as u64) as usize].load();
            let page = page.as_ref().filter(|page| page.number == number);
            let count = |page: &Arc<Page>, kind: &usize| page.counts[row + kind].load(Ordering::Relaxed);
            page.map_or(0, |page| kinds.iter().map(|kind| u64::from(count(page, kind))).sum::<u64>())
        };
        (from / PAGE..to / PAGE).map(of_page).sum()
    }
}
