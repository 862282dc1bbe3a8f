//! The order of all events, rebuilt from the answers, and what was true between them.
//!
//! Sequences are dense and every event of a sale has an id of ours, so the answers and the final states give the
//! whole history: who took units when, and when they were sold or given back. Two things follow that no single
//! answer shows: units taken never exceeded the stock, nor a user's limit, at *any* moment; and the figures of each
//! refusal were the truth at its index.
//!
//! Some events are not known: the expiry of a hold that was paid late, the beginning of one whose answer was lost. So
//! what was taken is kept as a range, from the least to the most; a finding is made only where even the benefit of
//! the doubt does not help.

use std::collections::{BTreeMap, HashMap};

use sluice_client::{ProductId, ReservationId, State, Status, UserId};

use super::fetch::{Books, Found};
use super::judge::{Findings, about, hold_of, statements_of};
use super::said::Said;
use super::{Account, Ask, Purpose, Statement, Ticket};

/// What was taken, sold and in stock at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level {
    /// Units held and sold, at least.
    least: i64,
    /// Units held and sold, at most.
    most: i64,
    sold: i64,
    stock: i64,
}

impl Level {
    fn plus(self, other: Self) -> Self {
        Self {
            least: self.least + other.least,
            most: self.most + other.most,
            sold: self.sold + other.sold,
            stock: self.stock + other.stock,
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
struct Event {
    sequence: u64,
    /// Its log index, if an answer told.
    index: Option<u64>,
    ticket: Ticket,
    change: Level,
}

/// A product, or one user's part of it, over time.
#[derive(Clone, Debug, Default)]
struct Track {
    before: Level,
    /// For each event that touched it, its position in the history and the level after it.
    after: Vec<(usize, Level)>,
}

impl Track {
    fn level(&self) -> Level {
        self.after.last().map_or(self.before, |(_, level)| *level)
    }

    fn levels(&self) -> impl Iterator<Item = Level> + '_ {
        std::iter::once(self.before).chain(self.after.iter().map(|(_, level)| *level))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    events: Vec<Event>,
    /// For each event, the lowest and the highest log index it can have.
    bounds: Vec<(u64, u64)>,
    shelves: BTreeMap<ProductId, Track>,
    users: HashMap<(ProductId, UserId), Track>,
}

impl History {
    /// The history of an account whose statements are sorted by ticket.
    pub(super) fn new(account: &Account, books: &Books) -> Self {
        let mut shelves: BTreeMap<ProductId, Track> = BTreeMap::new();
        for (product, promise) in &account.products {
            let stock = i64::try_from(promise.stock).expect("stock is below 2⁴⁰");
            shelves.entry(*product).or_default().before.stock = stock;
        }
        let mut users: HashMap<(ProductId, UserId), Track> = HashMap::new();
        let mut events = Vec::new();
        for (at, (ask, found)) in account.asks.iter().zip(&books.found).enumerate() {
            let (ticket, Some(found)) = (Ticket(at as u32), found.as_deref()) else { continue };
            let said = statements_of(&account.statements, ticket);
            let before = events_of(ticket, ask, said, found, &mut events);
            if before != Level::default() {
                let shelf = shelves.entry(ask.product).or_default();
                shelf.before = shelf.before.plus(before);
                let user = users.entry((ask.product, ask.user)).or_default();
                user.before = user.before.plus(before);
            }
        }
        events.sort_by_key(|event| event.sequence);
        for (position, event) in events.iter().enumerate() {
            let ask = account.asked(event.ticket);
            let shelf = shelves.entry(ask.product).or_default();
            shelf.after.push((position, shelf.level().plus(event.change)));
            if ask.purpose == Purpose::Reserve {
                let user = users.entry((ask.product, ask.user)).or_default();
                user.after.push((position, user.level().plus(event.change)));
            }
        }
        Self { bounds: bounds(&events), events, shelves, users }
    }

    /// The most units beyond the stock that were taken at any moment.
    pub(super) fn oversold(&self, product: ProductId) -> u64 {
        let levels = self.shelves.get(&product).into_iter().flat_map(Track::levels);
        levels.map(|level| level.least - level.stock).max().unwrap_or(0).max(0) as u64
    }

    /// Judges what only the order of events shows.
    pub(super) fn judge(&self, account: &Account, findings: &mut Findings) {
        self.judge_order(account, findings);
        for product in self.shelves.keys() {
            let oversold = self.oversold(*product);
            if oversold > 0 {
                findings.add(ReservationId(0), "more units were taken at a time than there were", || {
                    format!("{}: {oversold} too many", about(*product))
                });
            }
        }
        for ((product, user), track) in &self.users {
            let limit = account.products.get(product).map_or(0, |promise| i64::from(promise.per_user_limit));
            let most = track.levels().map(|level| level.least).max().unwrap_or(0);
            if limit != 0 && most > limit {
                findings.add(ReservationId(0), "a user had more units at a time than the limit", || {
                    format!("{}, user {user}: {most} of {limit}", about(*product))
                });
            }
        }
        for one in &account.statements {
            self.judge_refusal(&account.asked(one.ticket), one, findings);
        }
    }

    /// Sequences are given once, and rise with the log.
    fn judge_order(&self, account: &Account, findings: &mut Findings) {
        for pair in self.events.windows(2) {
            if pair[0].sequence == pair[1].sequence {
                findings.add(account.asked(pair[1].ticket).id, "two events have one sequence", || {
                    format!("sequence {} also of {}", pair[1].sequence, account.asked(pair[0].ticket).id)
                });
            }
        }
        let mut told = self.events.iter().filter_map(|event| event.index.map(|index| (event, index)));
        let Some(mut before) = told.next() else { return };
        for now in told {
            if now.1 < before.1 {
                findings.add(
                    account.asked(now.0.ticket).id,
                    "a later sequence has an earlier log index",
                    || {
                        format!(
                            "sequence {} at index {}, sequence {} at index {}",
                            before.0.sequence, before.1, now.0.sequence, now.1
                        )
                    },
                );
            }
            before = now;
        }
    }

    /// The figures of a refusal were true at some moment of its index.
    fn judge_refusal(&self, ask: &Ask, one: &Statement, findings: &mut Findings) {
        let Said::Refused { status, figures: Some(figures) } = one.said else { return };
        findings.refusals += 1;
        let nobody = Track::default();
        let (track, what): (_, &'static str) = match status {
            Status::LimitReached => {
                let user = self.users.get(&(ask.product, ask.user));
                (user.unwrap_or(&nobody), "its user never had the units it was refused for")
            }
            _ => (
                self.shelves.get(&ask.product).unwrap_or(&nobody),
                "it was refused with figures that were never true at that index",
            ),
        };
        let is_true = |level: Level| match status {
            Status::LimitReached => (level.least..=level.most).contains(&(figures.1 as i64)),
            _ => {
                let (free, held) = (figures.0 as i64, figures.1 as i64);
                let taken = level.stock - free;
                (level.least..=level.most).contains(&taken) && held == taken - level.sold
            }
        };
        if !self.during(track, one.at.index).any(is_true) {
            findings.add(ask.id, what, || {
                let levels: Vec<Level> = self.during(track, one.at.index).take(4).collect();
                format!("{one:?}\n    possible were {levels:?}")
            });
        }
    }

    /// The levels that a track can have had while the entry at `index` was applied or was the last one, the latest
    /// first.
    fn during<'a>(&'a self, track: &'a Track, index: u64) -> impl Iterator<Item = Level> + 'a {
        // A level holds from its own event on, up to the next one.
        let begun = track.after.partition_point(|(position, _)| self.bounds[*position].0 <= index);
        let over = track.after.partition_point(|(position, _)| self.bounds[*position].1 < index);
        (over..=begun).rev().map(|at| match at {
            0 => track.before,
            at => track.after[at - 1].1,
        })
    }
}

/// What an id did, in the order of the sequences. Returns what it may have taken before its first known event.
fn events_of(ticket: Ticket, ask: &Ask, said: &[Statement], found: &Found, events: &mut Vec<Event>) -> Level {
    let units = i64::from(ask.quantity);
    let known = |least: i64, most: i64, sold: i64| Level { least, most, sold, stock: 0 };
    let mut happened = |sequence: u64, index: Option<u64>, change: Level| {
        events.push(Event { sequence, index, ticket, change });
    };
    let ended_at = said.iter().find_map(|one| match one.said {
        Said::Confirmed { first: true, .. }
        | Said::Cancelled { first: true, .. }
        | Said::Applied { first: true, .. } => Some(one.at.index),
        _ => None,
    });
    let begun_at = said.iter().find_map(|one| match one.said {
        Said::Held { first: true, .. } => Some(one.at.index),
        _ => None,
    });
    match (ask.purpose, found.state) {
        (Purpose::Restock, State::Applied) => {
            happened(found.sequence, ended_at, Level { stock: units, ..Level::default() });
            return Level::default();
        }
        (Purpose::WriteOff, State::Applied) => {
            happened(found.sequence, ended_at, Level { stock: -units, ..Level::default() });
            return Level::default();
        }
        (_, State::Held | State::Confirmed | State::Cancelled | State::Expired) => {}
        _ => return Level::default(),
    }
    let hold =
        hold_of(said).or_else(|| (found.state == State::Held).then_some((found.sequence, found.deadline_ms)));
    let before = if hold.is_none() { known(0, units, 0) } else { Level::default() };
    // From its deadline on a hold may have expired, and its units may have been anybody's, until it was paid late.
    let retaken = hold.is_some_and(|(_, deadline_ms)| found.ended_ms >= deadline_ms);
    let (sequence, ended) = (found.sequence, ended_at);
    match (found.state, hold) {
        (State::Confirmed, Some((begun, _))) if retaken => {
            happened(begun, begun_at, known(0, units, 0));
            happened(sequence, ended, known(units, 0, units));
        }
        (State::Confirmed, Some((begun, _))) => {
            happened(begun, begun_at, known(units, units, 0));
            happened(sequence, ended, known(0, 0, units));
        }
        (State::Confirmed, None) => happened(sequence, ended, known(units, 0, units)),
        (State::Cancelled | State::Expired, Some((begun, _))) if sequence == 0 => {
            happened(begun, begun_at, known(0, units, 0));
        }
        (State::Cancelled | State::Expired, Some((begun, _))) => {
            happened(begun, begun_at, known(units, units, 0));
            happened(sequence, ended, known(-units, -units, 0));
        }
        (State::Cancelled | State::Expired, None) if sequence == 0 => {}
        (State::Cancelled | State::Expired, None) => happened(sequence, ended, known(0, -units, 0)),
        (_, Some((begun, _))) => happened(begun, begun_at, known(units, units, 0)),
        (_, None) => {}
    }
    before
}

/// The log indexes that each event can have, from those of its neighbours that were told.
fn bounds(events: &[Event]) -> Vec<(u64, u64)> {
    let mut bounds = vec![(0, u64::MAX); events.len()];
    let mut low = 0;
    for (event, bound) in events.iter().zip(&mut bounds) {
        low = event.index.unwrap_or(low).max(low);
        bound.0 = low;
    }
    let mut high = u64::MAX;
    for (event, bound) in events.iter().zip(&mut bounds).rev() {
        high = event.index.unwrap_or(high).min(high);
        bound.1 = high;
    }
    bounds
}
