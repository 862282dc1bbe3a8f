//! What the ledger answers without the log: queries, and first attempts that it may refuse.
//!
//! Rule N holds for all of them: an answer rests on applied state, and, where the cluster has other voters, on a read
//! round that was started after the request arrived. Deliberately not here: the rounds' messages, which are raft's;
//! and reads on a node that does not lead (`asks`).

use std::collections::VecDeque;
use std::sync::Arc;

use raft::StateRole;

use sluice_protocol::consumed::{DeadReply, GroupReply, MemberReply};
use sluice_protocol::group::GroupName;
use sluice_protocol::response::{ProductReply, RefusedField, ReservationReply};
use sluice_protocol::{Answer, Kind, NodeId, ProductId, ReservationId, Status, limits};

use super::ready::round_context;
use super::{Actions, Lead, Replica};
use crate::flight::{Answers, Flight, Load};
use crate::ledger::Ledger;
use crate::ledger::ahead::AHEAD;
use crate::ledger::command::{Group, Reserve};
use crate::time::Moment;

/// A flight that waits for a read round.
#[derive(Debug)]
pub(super) struct Read {
    /// That round, if this node leads when it starts.
    round: u64,
    /// The tick it came in.
    pub(super) since: u64,
    pub(super) flight: Box<Flight>,
}

/// All of them, in the order of their rounds, which is the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<Read>,
    ticks: u64,
}

impl Reads {
    /// Adds a flight that may be answered once `round` is confirmed.
    pub(super) fn push(&mut self, round: u64, flight: Box<Flight>) {
        self.waiting.push_back(Read { round, since: self.ticks, flight });
    }

    /// The next flight whose round is confirmed. Rounds are asked for in order.
    pub(super) fn pop(&mut self, confirmed: u64) -> Option<Box<Flight>> {
        self.waiting.pop_front_if(|read| read.round <= confirmed).map(|read| read.flight)
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> Vec<Read> {
        self.waiting.drain(..).collect()
    }

    /// Takes what came in this tick or before.
    pub(super) fn take_overdue(&mut self, until: u64) -> Vec<Read> {
        let count = self.waiting.partition_point(|read| read.since <= until);
        self.waiting.drain(..count).collect()
    }

    /// Takes what only a leader may look at.
    pub(super) fn take_suspects(&mut self) -> Vec<Box<Flight>> {
        let is_suspect = |read: &Read| matches!(read.flight.load, Load::Suspects(_));
        if !self.waiting.iter().any(is_suspect) {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (suspects, rest) = waiting.into_iter().partition::<Vec<Read>, _>(is_suspect);
        self.waiting = rest.into();
        suspects.into_iter().map(|read| read.flight).collect()
    }

    /// Puts back what was taken before anything that waits here had come.
    pub(super) fn put_back(&mut self, reads: Vec<Read>) {
        reads.into_iter().rev().for_each(|read| self.waiting.push_front(read));
    }

    /// One tick. Which one.
    pub(super) fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Answers a query from the ledger as it stands.
pub(super) fn answer(ledger: &Ledger, flight: &mut Flight) {
    let at = ledger.at();
    flight.answers = match &flight.load {
        Load::Reservations(ids) => {
            Answers::Reservations(ids.iter().map(|id| reservation(ledger, *id)).collect())
        }
        Load::Products(ids) => {
            let found = ids.iter().map(|id| match ledger.product(*id) {
                Some(view) => (Answer::done(at, 0), Some(view)).into(),
                None => (Answer::plain(at, Status::UnknownProduct), None).into(),
            });
            Answers::Products(found.collect())
        }
        Load::Page { limit, .. } if !(1..=limits::ITEMS_MAX).contains(limit) => {
            let (got, high) = (*limit as u64, limits::ITEMS_MAX as u64);
            Answers::Plain(vec![Answer::invalid(at, RefusedField::Limit, got, 1, high)])
        }
        Load::Page { from, limit } => {
            let page = ledger.products_from(*from).take(*limit);
            Answers::Products(
                page.map(|view| ProductReply::from((Answer::done(at, 0), Some(view)))).collect(),
            )
        }
        Load::Groups(name) => groups(ledger, *name),
        Load::Members(name) => members(ledger, *name),
        Load::Letters { group, from, limit } => letters(ledger, *group, *from, *limit),
        Load::Commands(_) | Load::Suspects(_) => unreachable!("commands are not reads"),
    };
}

fn groups(ledger: &Ledger, name: GroupName) -> Answers {
    let (at, last) = (ledger.at(), ledger.sequence());
    let found = ledger.groups().iter().filter(|group| name == GroupName::NONE || group.name() == name);
    let found: Vec<GroupReply> =
        found.map(|group| GroupReply::from((Answer::done(at, last), Some(group.view())))).collect();
    if found.is_empty() && name != GroupName::NONE {
        return Answers::plain(Kind::ListGroups, vec![Answer::plain(at, Status::UnknownGroup)]);
    }
    Answers::Groups(found)
}

fn members(ledger: &Ledger, name: GroupName) -> Answers {
    let answer = Answer::done(ledger.at(), ledger.sequence());
    let Some(group) = ledger.groups().by_name(name) else {
        return Answers::plain(Kind::ListMembers, vec![Answer::plain(ledger.at(), Status::UnknownGroup)]);
    };
    let told = group
        .members()
        .map(|member| MemberReply::new(answer, member.member, member.lanes, member.since, member.cursor));
    Answers::Members(told.collect())
}

fn letters(ledger: &Ledger, group: u32, from: u64, limit: usize) -> Answers {
    let at = ledger.at();
    let refused = |answer| Answers::plain(Kind::ListDead, vec![answer]);
    if !(1..=limits::DEAD_PAGE_MAX).contains(&limit) {
        let high = limits::DEAD_PAGE_MAX as u64;
        return refused(Answer::invalid(at, RefusedField::Limit, limit as u64, 1, high));
    }
    let Some(group) = ledger.groups().get(group) else {
        return refused(Answer::plain(at, Status::UnknownGroup));
    };
    let page = group.letters_from(from).take(limit).map(|letter| {
        let event = letter.event.delivered(letter.attempts, letter.redrive != 0);
        DeadReply::new(Answer::done(at, 0), event, letter.died_ms, letter.cause, letter.redrive)
    });
    Answers::Letters(page.collect())
}

fn reservation(ledger: &Ledger, id: ReservationId) -> ReservationReply {
    match ledger.reservation(id) {
        Some((state, view)) => (Answer::found(ledger.at(), state), Some(view)).into(),
        None => (Answer::plain(ledger.at(), Status::UnknownReservation), None).into(),
    }
}

/// Refuses what the ledger as it stands refuses. The rest stays on the flight, as commands for the log; if there is
/// none, the flight is answered. `wall_ms` is the clock, which may be ahead of the ledger.
fn sift(ledger: &Ledger, flight: &mut Flight, wall_ms: u64) {
    let Load::Suspects(Group::Reserve(items)) = &flight.load else {
        unreachable!("only reserves are suspected");
    };
    let (mut kept, mut lines) = (Vec::new(), Vec::new());
    for (number, (item, line)) in items.iter().zip(&flight.lines).enumerate() {
        if number % AHEAD == 0 {
            ledger.await_reserves(items[number..].iter().take(AHEAD).copied());
        }
        match refusal(ledger, item, wall_ms) {
            Some(answer) => flight.told.push((*line, answer)),
            None => {
                kept.push(*item);
                lines.push(*line);
            }
        }
    }
    flight.load = Load::Commands(Group::Reserve(kept));
    flight.lines = lines;
}

/// Why the ledger as it stands refuses a first attempt; `None` if it may not, or the log is to tell.
///
/// An id that has an outcome goes to the log, which tells it; so does a request for a product with holds that are over
/// but not swept, since what they hold no longer counts.
fn refusal(ledger: &Ledger, item: &Reserve, wall_ms: u64) -> Option<Answer> {
    let (at, product) = (ledger.at(), ProductId(item.product));
    if ledger.reservation(item.id.into()).is_some() {
        return None;
    }
    let Some(standing) = ledger.standing(product) else {
        return Some(Answer::plain(at, Status::UnknownProduct));
    };
    if let Some(answer) = standing.shut(at, wall_ms) {
        return Some(answer);
    }
    if at.time_ms < standing.opens_ms || !standing.is_settled_at(at.time_ms) {
        return None;
    }
    let (units, limit) = (u64::from(item.quantity), standing.per_user_limit);
    let has = ledger.user_units(product, item.user.into());
    if limit != 0 && has + units > u64::from(limit) {
        return Some(Answer::limit_reached(at, limit, has));
    }
    (!standing.suffices(units)).then(|| standing.shortage(at))
}

impl Replica {
    pub(super) fn start_round(&mut self, actions: &mut Actions) {
        if self.node.raft.state != StateRole::Leader || !self.node.raft.commit_to_current_term() {
            return;
        }
        if let Some(number) = self.publisher.board().rounds.start() {
            actions.rounds.start(number);
            self.node.read_index(round_context(
                NodeId(self.config.identity.node),
                self.node.raft.term,
                number,
            ));
        }
    }

    pub(super) fn answer_reads(&mut self, now: Moment, actions: &mut Actions) {
        match self.lead {
            Lead::Open(_) => {}
            // Not yet: they wait for the gate.
            Lead::Elected | Lead::CatchingUp => return,
            Lead::No => return self.answer_by_asking(actions),
            Lead::Stopping => {
                let answer = self.publisher.board().shut();
                for mut flight in self.drain_reads() {
                    flight.answer_all(answer);
                    actions.settled.push(flight);
                }
                return;
            }
        }
        let confirmed = self.publisher.board().rounds.confirmed();
        while let Some(mut flight) = self.reads.pop(confirmed) {
            if !matches!(flight.load, Load::Suspects(_)) {
                answer(&self.ledger, &mut flight);
                actions.settled.push(flight);
                continue;
            }
            sift(&self.ledger, &mut flight, now.wall_ms);
            if flight.is_empty() {
                actions.settled.push(flight);
            } else {
                self.take_tokens(&mut flight);
                self.waiting.push(flight);
            }
        }
    }

    /// Buyers who may buy after all get their units set aside now, as far as there are any.
    fn take_tokens(&self, flight: &mut Flight) {
        let (Lead::Open(gate), Load::Commands(group)) = (&self.lead, &flight.load) else { return };
        let Group::Reserve(items) = group else { return };
        flight.tokened = items
            .iter()
            .map(|item| {
                let lane = gate.lane(item.product.into());
                lane.is_some_and(|lane| lane.tokens.take(0, item.quantity))
            })
            .collect();
        flight.gate = Some(Arc::clone(gate));
    }
}
