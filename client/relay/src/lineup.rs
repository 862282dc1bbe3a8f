//! What is to be published next: the events of a group as one dense line, whatever order they come in.
//!
//! What must hold: a message leaves only if everything before it has left. Deliberately not here: sockets, and what is done
//! about an event that does not come.

use sluice_client::EventView;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lineup {
    next: u64,
    /// Events that are kept no more, and whose turn has not come.
    gap: Option<(u64, u64)>,
}

/// What an event is, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next to publish.
    Next,
    /// It was published before.
    Known,
    /// This sequence is before it, and has not come.
    Behind(u64),
}

impl Lineup {
    /// Everything up to `after` is stored.
    pub(crate) fn new(after: u64) -> Self {
        Self { next: after + 1, gap: None }
    }

    /// The last sequence that was published.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Where an event belongs. One that is next has been published by now.
    pub(crate) fn place(&mut self, event: &EventView) -> Place {
        match event.sequence {
            known if known < self.next => Place::Known,
            next if next == self.next => {
                self.next += 1;
                Place::Next
            }
            _ => Place::Behind(self.next),
        }
    }

    /// These are kept no more. It may be told before all that is before them has come.
    pub(crate) fn miss(&mut self, from: u64, to: u64) {
        let (first, last) = self.gap.unwrap_or((from, to));
        self.gap = Some((first.min(from), last.max(to)));
    }

    /// The gap, its first and last sequence, if it is next. It has been published by now.
    pub(crate) fn gap(&mut self) -> Option<(u64, u64)> {
        let (_, to) = self.gap.take_if(|(from, _)| *from <= self.next)?;
        let from = self.next;
        (to >= from).then(|| {
            self.next = to + 1;
            (from, to)
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_client::{EventKind, ProductId, ReservationId, UserId};

    use super::*;

    fn event(sequence: u64) -> EventView {
        EventView {
            sequence,
            index: 0,
            time_ms: 0,
            kind: EventKind::Reserved,
            product: ProductId(1),
            user: UserId(1),
            quantity: 1,
            id: ReservationId(1),
            detail: 0,
        }
    }

    #[test]
    fn each_event_leaves_once_and_only_behind_its_predecessor() {
        let mut lineup = Lineup::new(4);
        let places: Vec<Place> =
            [3, 5, 5, 7, 6, 7].iter().map(|sequence| lineup.place(&event(*sequence))).collect();
        use Place::{Behind, Known, Next};
        assert_eq!(places, [Known, Next, Known, Behind(6), Next, Next]);
        assert_eq!(lineup.last(), 7);
    }

    #[test]
    fn a_gap_waits_for_what_is_before_it() {
        let mut lineup = Lineup::new(0);
        lineup.miss(3, 9);
        assert_eq!((lineup.gap(), lineup.place(&event(1)), lineup.gap()), (None, Place::Next, None));
        assert_eq!(lineup.place(&event(2)), Place::Next);
        assert_eq!(lineup.gap(), Some((3, 9)));
        assert_eq!((lineup.gap(), lineup.place(&event(10))), (None, Place::Next));
    }

    #[test]
    fn of_a_gap_only_what_was_never_published_is_told() {
        let mut lineup = Lineup::new(7);
        lineup.miss(1, 5);
        assert_eq!(lineup.gap(), None);
        lineup.miss(1, 8);
        lineup.miss(6, 9);
        assert_eq!(lineup.gap(), Some((8, 9)));
        assert_eq!(lineup.last(), 9);
    }
}
