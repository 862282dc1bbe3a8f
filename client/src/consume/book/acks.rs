//! Up to where each lane is done, told in few words.
//!
//! Lanes that stand at one place share an item, and lanes that stand close together share the lower place: each item
//! costs the group's log as much as a reservation does, and how far an acknowledgement lags matters only to whoever
//! takes over after a crash. Those who wait for it are told exactly.

use sluice_protocol::Status;
use sluice_protocol::response::Answer;
use sluice_protocol::seat::AckItem;

use super::{Book, LANE_COUNT};
use crate::consume::sheet::Slot;

/// Items for lanes at a time, while nobody waits for them.
const ITEMS_USUAL: usize = 8;

/// Dead letters that are told to be done at a time.
const LETTERS_MAX: usize = 256;

impl Book {
    /// Whether anything was acknowledged since acknowledgements were last gathered, and whether it is much.
    pub(crate) fn has_acks(&self) -> (bool, bool) {
        let count = self.unsent + self.tally.look();
        (count > 0, self.tally.are_many(count))
    }

    /// What can be acknowledged now: the items to send.
    pub(crate) fn acks(&mut self) -> Vec<AckItem> {
        self.collect();
        self.unsent = 0;
        if self.is_stale {
            return Vec::new();
        }
        let mut places: Vec<(u64, usize)> = Vec::new();
        for (nth, lane) in self.lanes.iter().enumerate().filter(|(nth, _)| self.seat.lanes & (1 << nth) != 0)
        {
            let upto = lane.position(self.looked);
            if upto > lane.confirmed {
                places.push((upto, nth));
            }
        }
        let items_max = if self.flushing > 0 || self.is_closing { LANE_COUNT } else { ITEMS_USUAL };
        let seat = self.seat_item();
        let mut items: Vec<AckItem> = gather(places, items_max)
            .into_iter()
            .map(|(lanes, upto)| (self.behind(lanes, upto), upto))
            .filter(|(lanes, _)| *lanes != 0)
            .map(|(lanes, upto)| AckItem::new(seat, self.seat.epoch, lanes, upto))
            .collect();
        let done = self.redriven.iter().filter(|open| open.is(Slot::Done)).take(LETTERS_MAX);
        items.extend(done.map(|open| AckItem::new(seat, self.seat.epoch, 0, open.sequence())));
        items
    }

    /// Those lanes that the server does not know to be done up to there.
    fn behind(&self, lanes: u64, upto: u64) -> u64 {
        (0..LANE_COUNT)
            .filter(|nth| lanes & (1 << nth) != 0 && self.lanes[*nth].confirmed < upto)
            .fold(0, |mask, nth| mask | 1 << nth)
    }

    /// The server has answered an item. `false`: it does not count, and is sent again, once it is known whose the lanes are.
    pub(crate) fn acked(&mut self, item: &AckItem, answer: &Answer) -> bool {
        match answer.status() {
            Some(Status::Done | Status::UnknownDead) => {
                self.confirmed(item);
                return true;
            }
            Some(Status::NotMember) => self.is_stale = true,
            _ => {}
        }
        false
    }

    fn confirmed(&mut self, item: &AckItem) {
        if item.lanes() == 0 {
            let done = |open: &super::Open| open.sequence() == item.upto() && open.is(Slot::Done);
            let before = self.redriven.len();
            self.redriven.retain(|open| !done(open));
            if self.redriven.len() < before {
                self.open -= before - self.redriven.len();
                self.redriven_gone.push((item.upto(), self.fetches));
            }
        } else if item.epoch() == self.seat.epoch {
            for nth in (0..LANE_COUNT).filter(|nth| item.lanes() & self.seat.lanes & (1 << nth) != 0) {
                let lane = &mut self.lanes[nth];
                lane.confirmed = lane.confirmed.max(item.upto());
            }
        }
        self.tally.progress.notify_waiters();
    }

    /// Whether the server knows of all that it can be told. What is done behind something that is not, it can not.
    pub(crate) fn is_flushed(&mut self) -> bool {
        self.collect();
        !self.lanes.iter().any(super::Lane::is_owed) && !self.redriven.iter().any(|open| open.is(Slot::Done))
    }

    /// Whether acknowledgements were lost with their lanes since this was last asked.
    pub(crate) fn has_lost_acks(&mut self) -> bool {
        std::mem::take(&mut self.lost_acks)
    }
}

/// Joins lanes into at most so many groups: it is cut where places lie farthest apart, and each group takes its lowest.
fn gather(mut places: Vec<(u64, usize)>, items_max: usize) -> Vec<(u64, u64)> {
    places.sort_unstable();
    let mut cuts: Vec<usize> = (1..places.len()).filter(|at| places[*at].0 != places[at - 1].0).collect();
    if cuts.len() >= items_max {
        cuts.sort_unstable_by_key(|at| std::cmp::Reverse(places[*at].0 - places[at - 1].0));
        cuts.truncate(items_max - 1);
        cuts.sort_unstable();
    }
    let mut groups = Vec::with_capacity(cuts.len() + 1);
    let mut rest = &places[..];
    for cut in cuts.into_iter().rev() {
        let (before, group) = rest.split_at(cut);
        groups.push(group);
        rest = before;
    }
    groups.push(rest);
    let lanes = |group: &[(u64, usize)]| group.iter().fold(0, |mask, (_, nth)| mask | 1 << nth);
    groups.into_iter().filter_map(|group| Some((lanes(group), group.first()?.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_at_one_place_share_an_item() {
        assert_eq!(gather(vec![(7, 3), (9, 1), (7, 0)], 8), [(0b10, 9), (0b1001, 7)]);
        assert_eq!(gather(Vec::new(), 8), []);
    }

    #[test]
    fn lanes_that_lie_close_share_the_lower_place() {
        let places = vec![(10, 0), (11, 1), (500, 2), (502, 3), (900, 4)];
        assert_eq!(gather(places.clone(), 3), [(0b1_0000, 900), (0b1100, 500), (0b11, 10)]);
        assert_eq!(gather(places, 1), [(0b1_1111, 10)]);
    }
}
