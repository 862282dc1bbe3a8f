//! Reserve, confirm, cancel, resolve: the states of a reservation and the ways between them.
//!
//! ```text
//!             reserve ─► held ─► confirmed          (for good)
//!                │        ├────► cancelled          (for good)
//!                │        └────► expired ─► confirmed, if paid late and the units are still there
//!                └─► refused                        (for good)
//! cancel or resolve of an unknown id ─► fenced      (for good)
//! ```
//!
//! An id has one outcome: who repeats a command hears it again, and who uses the id for something else hears
//! of a conflict. An expired hold that was told so to its payer, or that was cancelled, is *settled*: it can
//! never be confirmed, or the money that was sent back would have bought something.
//!
//! Deliberately not here: deadlines and sweeps (`expiry`), counters (`product`), how far consumers are behind (`groups`).

use sluice_protocol::limits::QUANTITY_MAX;
use sluice_protocol::{Answer, ProductId, RefusedField, ReservationId, State, Status, UserId};

use super::command::ArchivedReserve;
use super::effect::{Change, Effects};
use super::expiry::{self, Due};
use super::quota::TooMany;
use super::records::{Kind, Payload, Record};
use super::settings::SWEEP_RETRY_MS;
use super::turn::Turn;
use crate::fault::{self, Mutant};

impl<E: Effects> Turn<'_, E> {
    pub(super) fn reserve(&mut self, ask: &ArchivedReserve) -> Answer {
        let ask = Payload {
            kind: Kind::Reserve,
            id: ask.id.to_native(),
            product: ask.product.to_native(),
            user: ask.user.to_native(),
            quantity: ask.quantity.to_native(),
        };
        if let Some(answer) = self.before_deciding(&ask) {
            return answer;
        }
        match self.admit(&ask) {
            Ok(product) => self.take(&ask, product),
            Err(refusal) => self.refuse(&ask, refusal),
        }
    }

    pub(super) fn confirm(&mut self, id: u128) -> Answer {
        if id == 0 {
            return self.invalid_id();
        }
        let Some((slot, record)) = self.recall(id) else {
            return Answer::plain(self.at, Status::UnknownReservation);
        };
        match record.state() {
            _ if names_a_change_of_stock(&record) => Answer::plain(self.at, Status::IdConflict),
            State::Held => self.sell(slot, &record),
            State::Expired if record.settled == 0 => self.retake(slot, &record),
            State::Expired => Answer::expired(self.at, record.sequence),
            _ => self.outcome(&record),
        }
    }

    pub(super) fn cancel(&mut self, id: u128, reason: u32) -> Answer {
        if id == 0 {
            return self.invalid_id();
        }
        let Some((slot, record)) = self.recall(id) else {
            return self.fence(id);
        };
        match record.state() {
            _ if names_a_change_of_stock(&record) => Answer::plain(self.at, Status::IdConflict),
            State::Held => Answer::cancelled(self.at, self.give_back(slot, reason)),
            State::Confirmed => Answer::already_confirmed(self.at, record.sequence),
            State::Expired => {
                self.settle(slot);
                self.outcome(&record)
            }
            _ => self.outcome(&record),
        }
    }

    /// held → cancelled. Returns the event's sequence.
    pub(super) fn give_back(&mut self, slot: u32, reason: u32) -> u64 {
        let change = Change::Cancelled { reason };
        let sequence = self.release(slot, State::Cancelled, change, self.at.time_ms);
        self.ledger.records.get_mut(slot).reason = reason;
        sequence
    }

    pub(super) fn resolve(&mut self, id: u128) -> Answer {
        if id == 0 {
            return self.invalid_id();
        }
        match self.recall(id) {
            Some((_, record)) => self.outcome(&record),
            None => self.fence(id),
        }
    }

    /// Everything that is answered without looking at the product: payloads that make no sense, ids that have
    /// an outcome, and a full table.
    pub(super) fn before_deciding(&mut self, ask: &Payload) -> Option<Answer> {
        if ask.id == 0 {
            return Some(self.invalid_id());
        }
        if ask.product == 0 {
            return Some(self.invalid_product());
        }
        if ask.quantity == 0 || ask.quantity > QUANTITY_MAX {
            let (value, high) = (u64::from(ask.quantity), u64::from(QUANTITY_MAX));
            return Some(Answer::invalid(self.at, RefusedField::Quantity, value, 1, high));
        }
        if let Some((_, record)) = self.recall(ask.id) {
            let is_same = record.is(State::Fenced)
                || self.payload(&record) == *ask
                || fault::is_on(Mutant::ConflictUnnoticed);
            return Some(if is_same {
                self.outcome(&record)
            } else {
                Answer::plain(self.at, Status::IdConflict)
            });
        }
        (!self.has_room()).then(|| self.full())
    }

    /// Finds the product, or tells why nothing can be taken from it.
    fn admit(&mut self, ask: &Payload) -> Result<u32, Answer> {
        let Some(product) = self.ledger.products.find(ask.product) else {
            return Err(Answer::plain(self.at, Status::UnknownProduct));
        };
        let terms = self.ledger.products.get(product).terms();
        if self.at.time_ms < terms.opens_ms {
            return Err(Answer::not_open(self.at, terms.opens_ms));
        }
        if terms.closes_ms != 0 && self.at.time_ms >= terms.closes_ms {
            return Err(Answer::closed(self.at, terms.closes_ms));
        }
        if let Some(place) = self.ledger.groups.queue(ProductId(ask.product), self.ledger.sequence) {
            return Err(Answer::queueing(place, 0));
        }
        self.make_room(product, ask.user, ask.quantity)?;
        Ok(product)
    }

    /// Sees to it that the user may have the units and that they are free: what has expired of this product
    /// is swept first, as far as needed, so that a bounded sweep never sells too few.
    fn make_room(&mut self, product: u32, user: u64, quantity: u32) -> Result<(), Answer> {
        let mut swept = 0;
        if self.ledger.products.get(product).is_limited_per_user() {
            loop {
                let has = self.ledger.quotas.units(user, product);
                let row = self.ledger.products.get(product);
                if row.allows(has, quantity) {
                    break;
                }
                let limit = row.terms().per_user_limit;
                // Who has nothing gains nothing by a sweep.
                let due = if has == 0 { Due::None } else { self.expire_due_of(product, &mut swept) };
                match due {
                    Due::Expired => {}
                    Due::None => return Err(Answer::limit_reached(self.at, limit, has)),
                    Due::TooMany => return Err(Answer::busy(SWEEP_RETRY_MS)),
                }
            }
        }
        self.make_free(product, quantity, &mut swept).map_err(|due| match due {
            Due::TooMany => Answer::busy(SWEEP_RETRY_MS),
            _ => self.shortage(product),
        })
    }

    /// Sweeps until so many units are free, or tells why not.
    pub(super) fn make_free(&mut self, product: u32, quantity: u32, swept: &mut usize) -> Result<(), Due> {
        while !self.ledger.products.get(product).has_free(quantity) {
            if fault::is_on(Mutant::RefuseBeforeSweep) {
                return Err(Due::None);
            }
            match self.expire_due_of(product, swept) {
                Due::Expired => {}
                due => return Err(due),
            }
        }
        Ok(())
    }

    /// Too few units are free, and none of those held is due.
    fn shortage(&self, product: u32) -> Answer {
        let row = self.ledger.products.get(product);
        if row.sealed && row.free() == 0 && row.held() == 0 {
            return Answer::sold_out(self.at);
        }
        Answer::insufficient(self.at, row.free(), row.held(), row.holds.due_ms())
    }

    /// Takes the units: everything was checked.
    #[inline]
    fn take(&mut self, ask: &Payload, product: u32) -> Answer {
        let (id, user) = (ProductId(ask.product), UserId(ask.user));
        match self.ledger.quotas.add(ask.user, product, ask.quantity) {
            Ok(true) => self.effects.buyer(id, user, true),
            Ok(false) => {}
            Err(TooMany) => return self.full(),
        }
        let reservation = ReservationId(ask.id);
        let sequence = self.event(Change::Reserved, id, user, u64::from(ask.quantity), reservation);

        let row = self.ledger.products.get_mut(product);
        row.hold(ask.quantity);
        let hold_ms = row.terms().hold_ms;
        let deadline_ms = self.at.time_ms.saturating_add(u64::from(hold_ms));
        let record = Record::new(ask, State::Held, product, sequence, deadline_ms);
        let slot = self.ledger.records.insert(record);
        let before = row.holds.due_ms();
        row.holds.push(&mut self.ledger.records, hold_ms, slot);
        self.ledger.agenda.move_due(product, before, row.holds.due_ms());

        self.effects.known(reservation, true);
        Answer::reserved(self.at, sequence, deadline_ms)
    }

    /// Remembers a refusal, so that the id keeps it; `Full`, `Busy`, `Queueing` and `Invalid` promise nothing and are not
    /// kept.
    pub(super) fn refuse(&mut self, ask: &Payload, refusal: Answer) -> Answer {
        let Some(status) = refusal
            .status()
            .filter(|status| !matches!(status, Status::Full | Status::Busy | Status::Invalid))
            .filter(|status| *status != Status::Queueing || fault::is_on(Mutant::QueueingRemembered))
        else {
            return refusal;
        };
        // A refusal that cannot be remembered must not be said: the id could get another outcome.
        if !self.has_room_for_dead() {
            return self.full();
        }
        if !fault::is_on(Mutant::RefusalForgotten) {
            self.remember_ended(Record::refusal(ask, status, self.at.time_ms));
        }
        refusal
    }

    /// Adds a record that has ended as it begins.
    pub(super) fn remember_ended(&mut self, record: Record) {
        let slot = self.ledger.records.insert(record);
        self.ledger.records.end(slot);
        self.effects.known(ReservationId(record.id), true);
    }

    /// held → confirmed.
    fn sell(&mut self, slot: u32, record: &Record) -> Answer {
        let product = self.ledger.products.get_mut(record.product);
        let id = ProductId(product.id);
        if !fault::is_on(Mutant::ConfirmedExpires) {
            expiry::unhold(&mut self.ledger.records, &mut self.ledger.agenda, product, slot);
        }
        product.sell(record.quantity);
        self.confirmed(slot, record, id)
    }

    /// expired → confirmed, if the units are still there for this user; otherwise settled.
    fn retake(&mut self, slot: u32, record: &Record) -> Answer {
        let counted = match self.make_room(record.product, record.user, record.quantity) {
            Ok(()) => self.ledger.quotas.add(record.user, record.product, record.quantity).ok(),
            // Nothing is settled: the payer may come again.
            Err(answer) if answer.status() == Some(Status::Busy) => return answer,
            Err(_) => None,
        };
        let Some(is_first) = counted else {
            self.settle(slot);
            return Answer::expired(self.at, record.sequence);
        };
        let product = self.ledger.products.get_mut(record.product);
        product.sell_free(record.quantity);
        let (id, credited) = (ProductId(product.id), !product.is_unlimited());
        if is_first {
            self.effects.buyer(id, UserId(record.user), true);
        }
        if credited {
            self.effects.credit(id, -i64::from(record.quantity));
        }
        self.ledger.records.unend(slot);
        self.confirmed(slot, record, id)
    }

    fn confirmed(&mut self, slot: u32, record: &Record, product: ProductId) -> Answer {
        let (user, id) = (UserId(record.user), ReservationId(record.id));
        let sequence = self.event(Change::Confirmed, product, user, u64::from(record.quantity), id);
        let record = self.ledger.records.get_mut(slot);
        record.set_state(State::Confirmed);
        record.sequence = sequence;
        record.time_ms = self.at.time_ms;
        Answer::confirmed(self.at, sequence)
    }

    /// From now on the expired hold can never be taken again.
    fn settle(&mut self, slot: u32) {
        if self.ledger.records.get(slot).settled == 0 && !fault::is_on(Mutant::ExpiryNotSettled) {
            self.ledger.records.get_mut(slot).settled = 1;
        }
    }

    /// Kills an id that was never used.
    fn fence(&mut self, id: u128) -> Answer {
        if !self.has_room_for_dead() {
            return self.full();
        }
        if !fault::is_on(Mutant::NoTombstone) {
            self.remember_ended(Record::fence(id, self.at.time_ms));
        }
        Answer::fenced(self.at)
    }

    /// The record of an id, expired first if its deadline has come.
    fn recall(&mut self, id: u128) -> Option<(u32, Record)> {
        let slot = self.ledger.records.find(id)?;
        let record = *self.ledger.records.get(slot);
        let holds = record.is_held_at(self.at.time_ms) || fault::is_on(Mutant::HeldUntilSwept);
        if !record.is(State::Held) || holds {
            return Some((slot, record));
        }
        self.expire(slot);
        Some((slot, *self.ledger.records.get(slot)))
    }

    /// What is told to whoever asks for the outcome of an id again.
    fn outcome(&self, record: &Record) -> Answer {
        match record.state() {
            State::Fenced => Answer::fenced(self.at),
            State::Refused => Answer::already_refused(self.at, record.refused()),
            State::Held => Answer::already(self.at, State::Held, record.sequence, record.time_ms),
            state => Answer::already(self.at, state, record.sequence, 0),
        }
    }

    /// What the id of a record was used for.
    fn payload(&self, record: &Record) -> Payload {
        let product = match record.state() {
            State::Refused => record.sequence,
            _ => self.ledger.products.get(record.product).id,
        };
        Payload { kind: record.kind(), id: record.id, product, user: record.user, quantity: record.quantity }
    }
}

fn names_a_change_of_stock(record: &Record) -> bool {
    matches!(record.kind(), Kind::Restock | Kind::WriteOff)
}
