//! How many events a group takes before one, and how fast it takes them.
//!
//! What counts is what the group wants and has not acknowledged, lane by lane: neither the length of a queue, nor the
//! distance between two sequences. Deliberately not here: whose event it is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_protocol::event::{EventKind, LANES, lane_of};

use super::Tail;
use super::census::PAGE;
use crate::ledger::groups::Group;

/// Of a new rate, the part that counts at once; the rest is what it was before.
const SMOOTHING: f64 = 0.2;

/// How long a rate is measured at least, milliseconds.
const MEASURE_MS: u64 = 500;

/// How many events a group takes before the one of this sequence: exact where memory has what is ahead, otherwise estimated
/// from the numbers of its pages.
pub(crate) fn place(tail: &Tail, group: &Group, sequence: u64) -> u64 {
    let low = group.min_cursor() + 1;
    if low >= sequence {
        return 0;
    }
    let census = &tail.census;
    let Some((first, behind)) = census.pages_within(low, sequence) else {
        return one_by_one(tail, group, low, sequence);
    };
    let mut ahead = one_by_one(tail, group, low, first) + one_by_one(tail, group, behind, sequence);
    let kinds = match group.terms().kinds {
        0 => EventKind::all(),
        kinds => kinds,
    };
    let wanted = wanted_lanes(group);
    for lane in (0..LANES).filter(|lane| wanted & 1 << lane != 0) {
        let next = (group.cursor(lane) + 1).clamp(first, behind);
        let page = next / PAGE * PAGE;
        let done = census.sum(page, page + PAGE, lane, kinds) * (next - page) / PAGE;
        ahead += census.sum(page, behind, lane, kinds).saturating_sub(done);
    }
    let dead = group.letters_from(first).take_while(|letter| letter.event.sequence() < behind);
    let open = dead.filter(|letter| letter.event.sequence() > group.cursor(lane_of(letter.event.product())));
    ahead.saturating_sub(open.count() as u64)
}

/// Counts one by one, if memory has them; otherwise each is taken to be wanted.
fn one_by_one(tail: &Tail, group: &Group, from: u64, to: u64) -> u64 {
    if from >= to {
        return 0;
    }
    let Some(blocks) = tail.from(from, to - from) else { return to - from };
    let events = blocks.iter().flat_map(|block| block.from(from));
    events.take_while(|event| event.sequence() < to).filter(|event| group.awaits(event)).count() as u64
}

/// Lanes that hold what a group wants, and perhaps other products too.
fn wanted_lanes(group: &Group) -> u64 {
    let products = group.terms().products;
    let lanes = products.iter().filter(|product| product.0 != 0).map(|product| 1 << lane_of(*product));
    match lanes.fold(0, |mask, lane: u64| mask | lane) {
        0 => u64::MAX,
        lanes => lanes,
    }
}

/// How fast each group's cursor moves, as the leader sees it. Written by the replica thread.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    groups: ArcSwap<Vec<Rate>>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    group: u32,
    since_ms: u64,
    cursor: u64,
    /// Sequences a second; `None`: not measured yet.
    smoothed: Option<f64>,
}

impl Rates {
    /// Where each group stands now: its number, and its cursor.
    pub(crate) fn sample(&self, groups: impl Iterator<Item = (u32, u64)>, now_ms: u64) {
        let before = self.groups.load();
        let measure = |(group, cursor)| match before.iter().find(|rate| rate.group == group) {
            Some(rate) => rate.measured(cursor, now_ms),
            None => Rate { group, since_ms: now_ms, cursor, smoothed: None },
        };
        let now = groups.map(measure).collect();
        self.groups.store(Arc::new(now));
    }

    /// Sequences a second, in thousandths; 0 = none, or not known.
    pub(crate) fn milli(&self, group: u32) -> u64 {
        let rates = self.groups.load();
        let rate = rates.iter().find(|rate| rate.group == group).and_then(|rate| rate.smoothed);
        rate.map_or(0, |rate| (rate * 1000.0) as u64)
    }

    /// How long until a group is so many sequences further, milliseconds; 0 = not known.
    pub(crate) fn eta_ms(&self, group: u32, distance: u64) -> u64 {
        match self.milli(group) {
            0 => 0,
            milli => (u128::from(distance) * 1_000_000 / u128::from(milli)).try_into().unwrap_or(u64::MAX),
        }
    }

    /// A leadership begins: what was measured is old.
    pub(crate) fn forget(&self) {
        self.groups.store(Arc::default());
    }
}

impl Rate {
    fn measured(self, cursor: u64, now_ms: u64) -> Self {
        let took_ms = now_ms.saturating_sub(self.since_ms);
        if took_ms < MEASURE_MS {
            return self;
        }
        let measured = cursor.saturating_sub(self.cursor) as f64 * 1000.0 / took_ms as f64;
        let smoothed = self.smoothed.map_or(measured, |old| old + SMOOTHING * (measured - old));
        Self { since_ms: now_ms, cursor, smoothed: Some(smoothed), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_smoothed_and_an_eta_follows_from_it() {
        let rates = Rates::default();
        rates.sample([(1, 1_000)].into_iter(), 0);
        assert_eq!((rates.milli(1), rates.eta_ms(1, 500)), (0, 0));
        rates.sample([(1, 2_000)].into_iter(), 1_000);
        assert_eq!((rates.milli(1), rates.eta_ms(1, 500)), (1_000_000, 500));
        rates.sample([(1, 2_000)].into_iter(), 1_100);
        assert_eq!(rates.milli(1), 1_000_000, "too soon to tell");
        rates.sample([(1, 2_000)].into_iter(), 2_000);
        assert_eq!(rates.milli(1), 800_000);
        rates.forget();
        assert_eq!(rates.milli(1), 0);
    }
}
