//! Reserve, confirm, cancel, resolve.

use sluice_core::ledger::command::Reserve;
use sluice_core::ledger::settings::{FULL_RETRY_MS, SWEEP_RETRY_MS};
use sluice_protocol::event::EventKind;
use sluice_protocol::{Answer, State as Standing, Status};

use super::state::{Kind, Record};
use super::turn::{Swept, Turn};

/// What stands in the way.
#[derive(Clone, Copy, Debug)]
enum Lack {
    /// The user's limit.
    Allowance,
    /// Stock.
    Units,
}

impl Turn<'_> {
    /// Takes units.
    pub fn reserve(&mut self, item: &Reserve) -> Answer {
        if let Some(answer) = self.malformed(item.id, item.product, item.quantity) {
            return answer;
        }
        if self.state.records.contains_key(&item.id) {
            return self.outcome_of(item.id, Kind::Reservation, (item.product, item.user, item.quantity));
        }
        if !self.has_room(false) {
            return self.full();
        }
        let refusal = match self.refusal(item) {
            Ok(refusal) => refusal,
            Err(busy) => return busy,
        };
        let mut record = self.record(Kind::Reservation, item.product, item.user, item.quantity);
        if let Some(answer) = refusal {
            return self.refuse(item.id, record, answer);
        }
        let hold_ms = self.state.products[&item.product].terms.hold_ms;
        record.state = Standing::Held;
        record.order.0 = hold_ms;
        record.deadline_ms = self.at.time_ms.saturating_add(u64::from(hold_ms));
        let numbers = (u64::from(item.quantity), record.deadline_ms);
        record.sequence = self.event(EventKind::Reserved, item.product, (item.id, item.user), numbers);
        self.take(item.product, item.user, u64::from(item.quantity));
        self.state.products.get_mut(&item.product).expect("it was just seen").held +=
            u64::from(item.quantity);
        self.remember(item.id, record);
        Answer::reserved(self.at, record.sequence, record.deadline_ms)
    }

    /// Why a reserve is refused, with all that is due swept first; the error is that it cannot be known yet, or
    /// that it has to wait.
    fn refusal(&mut self, item: &Reserve) -> Result<Option<Answer>, Answer> {
        let (at, units) = (self.at, u64::from(item.quantity));
        let Some(product) = self.state.products.get(&item.product).copied() else {
            return Ok(Some(Answer::plain(at, Status::UnknownProduct)));
        };
        if at.time_ms < product.terms.opens_ms {
            return Ok(Some(Answer::not_open(at, product.terms.opens_ms)));
        }
        if product.terms.closes_ms != 0 && at.time_ms >= product.terms.closes_ms {
            return Ok(Some(Answer::closed(at, product.terms.closes_ms)));
        }
        if let Some(place) = self.queue(item.product) {
            return Err(Answer::queueing(place, 0));
        }
        match self.lacking(item.product, item.user, units)? {
            None => Ok(None),
            Some(Lack::Allowance) => {
                let has = self.user_has(item.product, item.user);
                Ok(Some(Answer::limit_reached(at, product.terms.per_user_limit, has)))
            }
            Some(Lack::Units) => Ok(Some(self.shortage(item.product))),
        }
    }

    /// What keeps a user from units of a product once all that is due and could help is swept; the error is that it
    /// cannot be known yet.
    fn lacking(&mut self, product: u64, user: u64, units: u64) -> Result<Option<Lack>, Answer> {
        // Whoever has nothing gets nothing back by a sweep.
        let done = |turn: &Self| turn.allows(product, user, units) || turn.user_has(product, user) == 0;
        match self.sweep(product, done) {
            Swept::Enough if self.allows(product, user, units) => {}
            Swept::Enough | Swept::TooLittle => return Ok(Some(Lack::Allowance)),
            Swept::Exhausted => return Err(Answer::busy(SWEEP_RETRY_MS)),
        }
        match self.sweep(product, |turn| turn.state.products[&product].suffices(units)) {
            Swept::Enough => Ok(None),
            Swept::TooLittle => Ok(Some(Lack::Units)),
            Swept::Exhausted => Err(Answer::busy(SWEEP_RETRY_MS)),
        }
    }

    /// Whether the user may have so many units more.
    pub(super) fn allows(&self, product: u64, user: u64, units: u64) -> bool {
        let limit = u64::from(self.state.products[&product].terms.per_user_limit);
        limit == 0 || self.user_has(product, user) + units <= limit
    }

    /// What somebody hears for whom there is too little.
    pub(super) fn shortage(&self, product: u64) -> Answer {
        let found = &self.state.products[&product];
        if found.sealed && found.free() == 0 && found.held == 0 {
            return Answer::sold_out(self.at);
        }
        Answer::insufficient(self.at, found.free(), found.held, self.state.earliest_ms(product))
    }

    pub(super) fn full(&self) -> Answer {
        Answer::full(self.at, FULL_RETRY_MS)
    }

    /// Refuses for good, if that can be remembered.
    pub(super) fn refuse(&mut self, id: u128, mut record: Record, answer: Answer) -> Answer {
        if !self.has_room(true) {
            return self.full();
        }
        record.state = Standing::Refused;
        record.refused_with = answer.status();
        self.remember(id, record);
        answer
    }

    /// Whoever looks at an id finds its hold ended if it is due.
    fn expire_if_due(&mut self, id: u128) {
        if self.state.records[&id].is_due(self.at.time_ms) {
            self.expire(id);
        }
    }

    /// What a request hears whose id has an outcome.
    pub(super) fn outcome_of(&mut self, id: u128, kind: Kind, payload: (u64, u64, u32)) -> Answer {
        self.expire_if_due(id);
        let record = self.state.records[&id];
        if record.kind == Kind::Nothing {
            return Answer::fenced(self.at);
        }
        if record.kind != kind || (record.product, record.user, record.quantity) != payload {
            return Answer::plain(self.at, Status::IdConflict);
        }
        self.already(id)
    }

    /// Tells an outcome, with its expiry swept.
    fn already(&mut self, id: u128) -> Answer {
        self.expire_if_due(id);
        let record = &self.state.records[&id];
        match record.state {
            Standing::Fenced => Answer::fenced(self.at),
            Standing::Refused => {
                Answer::already_refused(self.at, record.refused_with.expect("a refused id has a reason"))
            }
            Standing::Held => Answer::already(self.at, Standing::Held, record.sequence, record.deadline_ms),
            state => Answer::already(self.at, state, record.sequence, 0),
        }
    }

    /// Sells what is held, or what can be taken again.
    pub fn confirm(&mut self, id: u128) -> Answer {
        if let Some(answer) = self.malformed(id, 1, 1) {
            return answer;
        }
        let Some(record) = self.state.records.get(&id).copied() else {
            return Answer::plain(self.at, Status::UnknownReservation);
        };
        if matches!(record.kind, Kind::Restock | Kind::WriteOff) {
            return Answer::plain(self.at, Status::IdConflict);
        }
        self.expire_if_due(id);
        match self.state.records[&id].state {
            Standing::Held => {
                let sequence = self.end_hold(id, Standing::Confirmed, self.at.time_ms);
                Answer::confirmed(self.at, sequence)
            }
            Standing::Expired => self.confirm_late(id),
            _ => self.already(id),
        }
    }

    fn confirm_late(&mut self, id: u128) -> Answer {
        let record = self.state.records[&id];
        let expired = Answer::expired(self.at, record.sequence);
        if record.settled {
            return expired;
        }
        let units = u64::from(record.quantity);
        let (product, user) = (record.product, record.user);
        match self.lacking(product, user, units) {
            Err(busy) => return busy,
            Ok(Some(_)) => {
                self.state.records.get_mut(&id).expect("it was just seen").settled = true;
                return expired;
            }
            Ok(None) => {}
        }
        let sequence = self.event(EventKind::Confirmed, product, (id, user), (units, 0));
        self.take(product, user, units);
        self.state.products.get_mut(&product).expect("its product is there").sold += units;
        self.state.line.remove(&record.place);
        let now_ms = self.at.time_ms;
        let record = self.state.records.get_mut(&id).expect("it was just seen");
        (record.state, record.sequence, record.ended_ms) = (Standing::Confirmed, sequence, now_ms);
        record.place = 0;
        self.changed.ids.insert(id);
        Answer::confirmed(self.at, sequence)
    }

    /// Gives back, or makes sure that it never happens.
    pub fn cancel(&mut self, id: u128, reason: u32) -> Answer {
        if let Some(answer) = self.malformed(id, 1, 1) {
            return answer;
        }
        let Some(record) = self.state.records.get(&id).copied() else {
            return self.fence(id);
        };
        if matches!(record.kind, Kind::Restock | Kind::WriteOff) {
            return Answer::plain(self.at, Status::IdConflict);
        }
        self.expire_if_due(id);
        let record = self.state.records.get_mut(&id).expect("it was just seen");
        match record.state {
            Standing::Held => {
                record.reason = reason;
                let sequence = self.end_hold(id, Standing::Cancelled, self.at.time_ms);
                Answer::cancelled(self.at, sequence)
            }
            Standing::Confirmed => Answer::already_confirmed(self.at, record.sequence),
            Standing::Expired => {
                record.settled = true;
                self.already(id)
            }
            _ => self.already(id),
        }
    }

    /// Tells or kills.
    pub fn resolve(&mut self, id: u128) -> Answer {
        if let Some(answer) = self.malformed(id, 1, 1) {
            return answer;
        }
        if self.state.records.contains_key(&id) { self.already(id) } else { self.fence(id) }
    }

    fn fence(&mut self, id: u128) -> Answer {
        if !self.has_room(true) {
            return self.full();
        }
        let mut record = self.record(Kind::Nothing, 0, 0, 0);
        record.state = Standing::Fenced;
        self.remember(id, record);
        Answer::fenced(self.at)
    }
}
