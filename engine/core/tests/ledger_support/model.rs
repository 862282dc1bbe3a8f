//! The ledger once more, as naive as it can be: maps, and sums over all of them. Written from the rules, and it
//! shares no code with the ledger. Where it and the ledger differ, one of them is wrong.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use sluice_core::ledger::command::{Batch, Cancel, Group, Reserve};
use sluice_core::ledger::effect::{Change, Event};
use sluice_core::ledger::settings::{ADVANCE_MS_MAX, FORGET_MAX, FULL_RETRY_MS, SWEEP_MAX, Settings};
use sluice_protocol::limits::QUANTITY_MAX;
use sluice_protocol::request::Terms;
use sluice_protocol::response::{At, ProductView, ReservationView};
use sluice_protocol::{Answer, ProductId, RefusedField, ReservationId, State, Status, UserId};

use crate::ledger_support::Told;

#[path = "model_admin.rs"]
mod admin;
#[path = "model_groups.rs"]
mod groups;
#[path = "model_read.rs"]
mod read;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fence,
    Reserve,
    Restock,
    WriteOff,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    kind: Kind,
    product: u64,
    user: u64,
    quantity: u32,
    state: State,
    refused: Status,
    sequence: u64,
    reserved_at_sequence: u64,
    hold_ms: u32,
    /// Deadline while held and once expired; otherwise when it ended.
    time_ms: u64,
    reason: u32,
    settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    /// How many products were created before it.
    order: usize,
    stock: u64,
    stock_at_creation: u64,
    terms: Terms,
    sealed: bool,
}

pub(crate) struct Model {
    settings: Settings,
    at: At,
    sequence: u64,
    products: BTreeMap<u64, Product>,
    outcomes: BTreeMap<u128, Outcome>,
    /// Ids that ended, the first ended first.
    ended: Vec<u128>,
    told: Told,
    /// Consumer groups, in the order of their numbers.
    groups: Vec<groups::Consumers>,
    /// The last number of a group that was given.
    last_group: u32,
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            at: At::default(),
            sequence: 0,
            products: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            ended: Vec::new(),
            told: Told::default(),
            groups: Vec::new(),
            last_group: 0,
        }
    }

    pub(crate) fn apply(&mut self, index: u64, term: u64, batch: &Batch) -> Told {
        self.at.index = index;
        if batch.proposer_term != term {
            return Told::default();
        }
        let now = self.at.time_ms;
        self.at.time_ms =
            if now == 0 { batch.stamp_ms } else { now.max(batch.stamp_ms.min(now + ADVANCE_MS_MAX)) };
        for group in &batch.groups {
            let answers: Vec<Answer> = match group {
                Group::Reserve(items) => items.iter().map(|item| self.reserve(item)).collect(),
                Group::Confirm(ids) => ids.iter().map(|id| self.confirm(*id)).collect(),
                Group::Cancel(items) => items.iter().map(|item| self.cancel(item)).collect(),
                Group::Resolve(ids) => ids.iter().map(|id| self.resolve(*id)).collect(),
                Group::Put(items) => items.iter().map(|item| self.put(item)).collect(),
                Group::Restock(items) => {
                    items.iter().map(|item| self.change_stock(Kind::Restock, item)).collect()
                }
                Group::WriteOff(items) => {
                    items.iter().map(|item| self.change_stock(Kind::WriteOff, item)).collect()
                }
                Group::Seal(products) => products.iter().map(|product| self.seal(*product)).collect(),
                Group::Consume(items) => items.iter().map(|item| self.consume(item)).collect(),
            };
            self.told.answers.extend(answers);
        }
        for _ in 0..SWEEP_MAX {
            let Some(id) = self.next_due(None) else { break };
            self.expire(id);
        }
        for _ in 0..FORGET_MAX {
            let Some(id) = self.ended.first().copied() else { break };
            if self.outcomes[&id].time_ms + self.settings.retention_ms > self.at.time_ms {
                break;
            }
            self.ended.remove(0);
            self.outcomes.remove(&id);
            self.told.known.push((id, false));
        }
        std::mem::take(&mut self.told)
    }

    // Commands.

    fn reserve(&mut self, item: &Reserve) -> Answer {
        let asked = (Kind::Reserve, item.product, item.user, item.quantity);
        if let Some(answer) = self.known_or_invalid(item.id, asked) {
            return answer;
        }
        let refusal = self.refusal(item);
        if let Some(answer) = refusal {
            return self.refuse(item.id, asked, answer);
        }
        let first = self.user_units(item.product, item.user) == 0;
        let hold_ms = self.products[&item.product].terms.hold_ms;
        let time_ms = self.at.time_ms + u64::from(hold_ms);
        let change = Change::Reserved { deadline_ms: time_ms };
        let sequence = self.event(change, item.product, item.user, item.quantity, item.id);
        let outcome = Outcome {
            kind: Kind::Reserve,
            product: item.product,
            user: item.user,
            quantity: item.quantity,
            state: State::Held,
            refused: Status::Done,
            sequence,
            reserved_at_sequence: sequence,
            hold_ms,
            time_ms,
            reason: 0,
            settled: false,
        };
        self.outcomes.insert(item.id, outcome);
        self.told.known.push((item.id, true));
        if first {
            self.told.buyers.push((item.product, item.user, true));
        }
        Answer::reserved(self.at, sequence, time_ms)
    }

    fn refusal(&mut self, item: &Reserve) -> Option<Answer> {
        let at = self.at;
        let Some(product) = self.products.get(&item.product).copied() else {
            return Some(Answer::plain(at, Status::UnknownProduct));
        };
        let terms = product.terms;
        if at.time_ms < terms.opens_ms {
            return Some(Answer::not_open(at, terms.opens_ms));
        }
        if terms.closes_ms != 0 && at.time_ms >= terms.closes_ms {
            return Some(Answer::closed(at, terms.closes_ms));
        }
        if let Some(answer) = self.queue(item.product) {
            return Some(answer);
        }
        self.shortage(item, terms)
    }

    /// Whether limit or stock keep the units from the user.
    fn shortage(&mut self, item: &Reserve, terms: Terms) -> Option<Answer> {
        let at = self.at;
        while !self.limit_allows(item.product, item.user, item.quantity) {
            let has = self.user_units(item.product, item.user);
            match self.next_due(Some(item.product)) {
                // Who has nothing gains nothing by a sweep.
                Some(id) if has > 0 => self.expire(id),
                _ => return Some(Answer::limit_reached(at, terms.per_user_limit, has)),
            }
        }
        while !terms.unlimited && self.free(item.product) < u64::from(item.quantity) {
            let Some(id) = self.next_due(Some(item.product)) else {
                let (free, held) = (self.free(item.product), self.units(item.product, State::Held));
                return Some(if self.products[&item.product].sealed && free + held == 0 {
                    Answer::sold_out(at)
                } else {
                    Answer::insufficient(at, free, held, self.earliest(item.product))
                });
            };
            self.expire(id);
        }
        None
    }

    fn limit_allows(&self, product: u64, user: u64, quantity: u32) -> bool {
        let limit = u64::from(self.products[&product].terms.per_user_limit);
        limit == 0 || self.user_units(product, user) + u64::from(quantity) <= limit
    }

    fn confirm(&mut self, id: u128) -> Answer {
        if id == 0 {
            return self.invalid(RefusedField::Reservation, 0, 1, u64::MAX);
        }
        let Some(outcome) = self.look_up(id) else {
            return Answer::plain(self.at, Status::UnknownReservation);
        };
        if matches!(outcome.kind, Kind::Restock | Kind::WriteOff) {
            return Answer::plain(self.at, Status::IdConflict);
        }
        match outcome.state {
            State::Held => self.sell(id, outcome),
            State::Expired => {
                let item =
                    Reserve { id, product: outcome.product, user: outcome.user, quantity: outcome.quantity };
                if outcome.settled || !self.can_retake(&item) {
                    self.outcomes.get_mut(&id).unwrap().settled = true;
                    return Answer::expired(self.at, outcome.sequence);
                }
                if self.user_units(item.product, item.user) == 0 {
                    self.told.buyers.push((item.product, item.user, true));
                }
                if !self.products[&item.product].terms.unlimited {
                    self.told.credits.push((item.product, -i64::from(item.quantity)));
                }
                self.ended.retain(|ended| *ended != id);
                self.sell(id, outcome)
            }
            _ => self.repeat(outcome),
        }
    }

    /// Neither a window nor a queue stop who was in time once; limit and stock do.
    fn can_retake(&mut self, item: &Reserve) -> bool {
        self.shortage(item, self.products[&item.product].terms).is_none()
    }

    fn sell(&mut self, id: u128, outcome: Outcome) -> Answer {
        let sequence = self.event(Change::Confirmed, outcome.product, outcome.user, outcome.quantity, id);
        let sold = Outcome { state: State::Confirmed, sequence, time_ms: self.at.time_ms, ..outcome };
        self.outcomes.insert(id, sold);
        Answer::confirmed(self.at, sequence)
    }

    fn cancel(&mut self, item: &Cancel) -> Answer {
        if item.id == 0 {
            return self.invalid(RefusedField::Reservation, 0, 1, u64::MAX);
        }
        let Some(outcome) = self.look_up(item.id) else { return self.kill(item.id) };
        if matches!(outcome.kind, Kind::Restock | Kind::WriteOff) {
            return Answer::plain(self.at, Status::IdConflict);
        }
        match outcome.state {
            State::Held => {
                let change = Change::Cancelled { reason: item.reason };
                let sequence = self.give_back(item.id, change, State::Cancelled, self.at.time_ms);
                self.outcomes.get_mut(&item.id).unwrap().reason = item.reason;
                Answer::cancelled(self.at, sequence)
            }
            State::Confirmed => Answer::already_confirmed(self.at, outcome.sequence),
            state => {
                self.outcomes.get_mut(&item.id).unwrap().settled |= state == State::Expired;
                self.repeat(outcome)
            }
        }
    }

    fn resolve(&mut self, id: u128) -> Answer {
        if id == 0 {
            return self.invalid(RefusedField::Reservation, 0, 1, u64::MAX);
        }
        match self.look_up(id) {
            Some(outcome) => self.repeat(outcome),
            None => self.kill(id),
        }
    }

    // What the commands share.

    fn known_or_invalid(&mut self, id: u128, asked: (Kind, u64, u64, u32)) -> Option<Answer> {
        let (_, product, _, quantity) = asked;
        if id == 0 {
            return Some(self.invalid(RefusedField::Reservation, 0, 1, u64::MAX));
        }
        if product == 0 {
            return Some(self.invalid(RefusedField::Product, 0, 1, u64::MAX));
        }
        if quantity == 0 || quantity > QUANTITY_MAX {
            let high = u64::from(QUANTITY_MAX);
            return Some(self.invalid(RefusedField::Quantity, u64::from(quantity), 1, high));
        }
        if let Some(known) = self.look_up(id) {
            let same = (known.kind, known.product, known.user, known.quantity) == asked;
            return Some(if same || known.state == State::Fenced {
                self.repeat(known)
            } else {
                Answer::plain(self.at, Status::IdConflict)
            });
        }
        self.is_full().then(|| Answer::full(self.at, FULL_RETRY_MS))
    }

    fn is_full(&self) -> bool {
        self.outcomes.len() >= self.settings.records_max as usize
    }

    fn look_up(&mut self, id: u128) -> Option<Outcome> {
        let outcome = self.outcomes.get(&id)?;
        if outcome.state == State::Held && outcome.time_ms <= self.at.time_ms {
            self.expire(id);
        }
        self.outcomes.get(&id).copied()
    }

    fn repeat(&self, outcome: Outcome) -> Answer {
        match outcome.state {
            State::Fenced => Answer::fenced(self.at),
            State::Refused => Answer::already_refused(self.at, outcome.refused),
            State::Held => Answer::already(self.at, State::Held, outcome.sequence, outcome.time_ms),
            state => Answer::already(self.at, state, outcome.sequence, 0),
        }
    }

    /// Ids that took nothing may fill half of the table.
    fn is_full_of_dead(&self) -> bool {
        let dead = |outcome: &&Outcome| matches!(outcome.state, State::Refused | State::Fenced);
        self.outcomes.values().filter(dead).count() * 2 >= self.settings.records_max as usize
    }

    fn refuse(&mut self, id: u128, asked: (Kind, u64, u64, u32), answer: Answer) -> Answer {
        if answer.status() == Some(Status::Queueing) {
            return answer;
        }
        if self.is_full_of_dead() {
            return Answer::full(self.at, FULL_RETRY_MS);
        }
        self.end(id, asked, State::Refused, answer.status().unwrap(), 0);
        answer
    }

    fn kill(&mut self, id: u128) -> Answer {
        if self.is_full() || self.is_full_of_dead() {
            return Answer::full(self.at, FULL_RETRY_MS);
        }
        self.end(id, (Kind::Fence, 0, 0, 0), State::Fenced, Status::Done, 0);
        Answer::fenced(self.at)
    }

    fn end(&mut self, id: u128, asked: (Kind, u64, u64, u32), state: State, refused: Status, sequence: u64) {
        let (kind, product, user, quantity) = asked;
        let outcome = Outcome {
            kind,
            product,
            user,
            quantity,
            state,
            refused,
            sequence,
            reserved_at_sequence: 0,
            hold_ms: 0,
            time_ms: self.at.time_ms,
            reason: 0,
            settled: false,
        };
        self.outcomes.insert(id, outcome);
        self.ended.push(id);
        self.told.known.push((id, true));
    }

    /// The hold that a sweep takes next: by deadline, then by product as created, then the shorter hold time,
    /// then as reserved.
    fn next_due(&self, product: Option<u64>) -> Option<u128> {
        let due = self.outcomes.iter().filter(|(_, outcome)| {
            outcome.state == State::Held
                && outcome.time_ms <= self.at.time_ms
                && product.is_none_or(|product| product == outcome.product)
        });
        let order = |outcome: &Outcome| {
            let product = self.products[&outcome.product].order;
            (outcome.time_ms, product, outcome.hold_ms, outcome.reserved_at_sequence)
        };
        due.min_by_key(|(_, outcome)| order(outcome)).map(|(id, _)| *id)
    }

    fn expire(&mut self, id: u128) {
        let deadline_ms = self.outcomes[&id].time_ms;
        self.give_back(id, Change::Expired, State::Expired, deadline_ms);
    }

    fn give_back(&mut self, id: u128, change: Change, state: State, ended_ms: u64) -> u64 {
        let outcome = self.outcomes[&id];
        let sequence = self.event(change, outcome.product, outcome.user, outcome.quantity, id);
        self.outcomes.insert(id, Outcome { state, sequence, time_ms: ended_ms, ..outcome });
        self.ended.push(id);
        if !self.products[&outcome.product].terms.unlimited {
            self.told.credits.push((outcome.product, i64::from(outcome.quantity)));
        }
        if self.user_units(outcome.product, outcome.user) == 0 {
            self.told.buyers.push((outcome.product, outcome.user, false));
        }
        sequence
    }

    fn event(&mut self, change: Change, product: u64, user: u64, quantity: u32, id: u128) -> u64 {
        self.event_of(change, product, user, u64::from(quantity), id)
    }

    fn event_of(&mut self, change: Change, product: u64, user: u64, quantity: u64, id: u128) -> u64 {
        self.sequence += 1;
        self.told.events.push(Event {
            sequence: self.sequence,
            index: self.at.index,
            time_ms: self.at.time_ms,
            change,
            product: ProductId(product),
            user: UserId(user),
            quantity,
            id: ReservationId(id),
        });
        self.sequence
    }

    fn invalid(&self, field: RefusedField, value: u64, low: u64, high: u64) -> Answer {
        Answer::invalid(self.at, field, value, low, high)
    }
}
