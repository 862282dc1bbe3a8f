//! Where connections wait for their next request to be taken, when there is no room for all.
//!
//! Self-clocked fair queueing (Golestani, 1994): whoever joins gets a place behind the one that is being served, by as much as
//! the request asks for and as the connection has in flight already. So a buyer with one request passes those who send
//! thousands; those who send thousands get as many items in turn as anybody; and whoever waits is served after a bounded
//! number of others, since each of them moves the clock on. A connection has one place at a time, and the places of
//! connections are as many as there are connections: the line needs no bound of its own.
//!
//! Deliberately not here: whether there is room.

use std::collections::BTreeMap;

use crate::session::Demand;

/// What a request costs beside its items, in items: a frame, a flight, a reply.
const FRAME_COST: u64 = 16;

/// A place in the line; the lowest is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    at: u64,
    connection: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Line {
    waiting: BTreeMap<Place, Demand>,
    /// The place served last.
    clock: u64,
}

impl Line {
    /// A connection joins with its next request. `in_flight` are the items it waits for already.
    pub fn join(&mut self, connection: u64, in_flight: usize, demand: Demand) -> Place {
        let at = self.clock + FRAME_COST + (in_flight + demand.items) as u64;
        let place = Place { at, connection };
        let before = self.waiting.insert(place, demand);
        assert!(before.is_none(), "a connection waits with one request at a time");
        place
    }

    /// A connection gives its place up.
    pub fn leave(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// Who is served next: the connection, and what it asks for.
    pub fn first(&self) -> Option<(u64, Demand)> {
        self.waiting.first_key_value().map(|(place, demand)| (place.connection, *demand))
    }

    /// Serves the first.
    pub fn serve(&mut self) {
        let (place, _) = self.waiting.pop_first().expect("somebody waits to be served");
        self.clock = place.at;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    const BIG: Demand = Demand { items: 1024, reply_bytes: 0 };
    const SMALL: Demand = Demand { items: 1, reply_bytes: 0 };

    fn all_join(line: &mut Line, names: RangeInclusive<u64>, in_flight: usize, demand: Demand) {
        for name in names {
            line.join(name, in_flight, demand);
        }
    }

    /// Serves one, who joins again with the same.
    fn turn(line: &mut Line) -> u64 {
        let (connection, demand) = line.first().expect("somebody waits");
        line.serve();
        line.join(connection, 0, demand);
        connection
    }

    #[test]
    fn one_request_passes_those_who_send_thousands() {
        let mut line = Line::default();
        all_join(&mut line, 1..=100, 16_384, BIG);
        all_join(&mut line, 101..=150, 0, BIG);
        line.join(200, 0, SMALL);
        assert_eq!(line.first(), Some((200, SMALL)));
        line.serve();
        assert_eq!(line.first(), Some((101, BIG)), "then who has nothing in flight");
    }

    #[test]
    fn those_who_ask_for_much_and_for_little_get_the_same_in_the_long_run() {
        let mut line = Line::default();
        line.join(1, 0, BIG);
        line.join(2, 0, SMALL);
        let (mut big, mut small) = (0_u64, 0_u64);
        while big < 100 {
            if turn(&mut line) == 1 { big += 1 } else { small += 1 }
        }
        let (by_big, by_small) = (big * (1024 + FRAME_COST), small * (1 + FRAME_COST));
        assert!(by_big.abs_diff(by_small) <= 2 * (1024 + FRAME_COST), "{by_big} and {by_small}");
    }

    #[test]
    fn a_crowd_of_small_ones_keeps_nobody_waiting_for_ever_even_if_each_is_new() {
        let mut line = Line::default();
        line.join(0, 10_000, BIG);
        all_join(&mut line, 1..=1000, 0, SMALL);
        let rounds = (1024 + 10_000 + FRAME_COST) / (1 + FRAME_COST) + 1;
        let mut served = 0;
        for name in 1001.. {
            let (connection, _) = line.first().expect("somebody waits");
            line.serve();
            served += 1;
            if connection == 0 {
                break;
            }
            line.join(name, 0, SMALL);
            assert!(served <= 1000 * rounds, "{served} were served first");
        }
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut line = Line::default();
        let place = line.join(1, 0, SMALL);
        line.join(2, 0, BIG);
        line.leave(place);
        assert_eq!((line.first(), line.len()), (Some((2, BIG)), 1));
    }
}
