//! One entry of the log: time moves, commands are carried out in order, what is due ends, what is old is forgotten.

use std::collections::BTreeSet;

use sluice_core::ledger::command::{Batch, EntryError};
use sluice_core::ledger::settings::{
    ADVANCE_MS_MAX, COMMAND_SWEEP_MIN, COMMANDS_SWEEP_MAX, FORGET_MAX, SWEEP_MAX,
};
use sluice_protocol::event::{EventKind, EventView};
use sluice_protocol::response::{At, RefusedField};
use sluice_protocol::{Answer, ProductId, ReservationId, State as Standing, UserId, limits};

use super::commands::commands;
use super::state::{Kind, Record, State};
use crate::history::Command;

/// What an entry changed, by name.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Products whose counters or terms may have changed.
    pub products: BTreeSet<u64>,
    /// Ids whose record may have changed or gone.
    pub ids: BTreeSet<u128>,
    /// Products and users whose units may have changed.
    pub users: BTreeSet<(u64, u64)>,
    /// Consumer groups that may have changed or gone.
    pub groups: BTreeSet<u32>,
    /// What happened, in order.
    pub events: Vec<EventView>,
}

/// A command and its answer.
pub type Told = (Command, Answer);

/// One entry at work.
#[derive(Debug)]
pub struct Turn<'a> {
    pub(super) state: &'a mut State,
    pub(super) changed: &'a mut Changed,
    /// The index and time of all its answers.
    pub(super) at: At,
    /// Holds that commands may still end, beside the few that each may in any case.
    sweeps_left: usize,
}

/// What stands in the way of a request while holds are swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// Nothing any more.
    Enough,
    /// All that is due was swept, and it is not enough.
    TooLittle,
    /// This entry may sweep no more.
    Exhausted,
}

impl<'a> Turn<'a> {
    /// Begins a turn at an index and the time that the state has come to.
    pub fn new(state: &'a mut State, changed: &'a mut Changed, index: u64) -> Self {
        let at = At { index, time_ms: state.now_ms };
        Self { state, changed, at, sweeps_left: COMMANDS_SWEEP_MAX }
    }

    /// Begins at any time, with all that is due by then ended: for orders of calls that no log has told.
    pub fn at_time(state: &'a mut State, changed: &'a mut Changed, time_ms: u64) -> Self {
        let mut turn = Self::new(state, changed, 0);
        turn.at.time_ms = time_ms;
        while let Some((deadline_ms, _, _, id)) = turn.state.agenda.first().copied()
            && deadline_ms <= time_ms
        {
            turn.expire(id);
        }
        turn
    }

    /// Moves time towards a stamp: never back, and by a minute at most, but for the very first.
    pub fn advance(state: &mut State, stamp_ms: u64) {
        let latest_ms =
            if state.now_ms == 0 { u64::MAX } else { state.now_ms.saturating_add(ADVANCE_MS_MAX) };
        state.now_ms = state.now_ms.max(stamp_ms.min(latest_ms));
    }

    /// Carries out an entry. `None` if it is void: proposed in another term than the one it was committed under.
    /// Otherwise each command with its answer.
    ///
    /// # Errors
    /// [`EntryError`] if the bytes are no batch.
    pub fn entry(
        state: &mut State,
        changed: &mut Changed,
        index: u64,
        term: u64,
        data: &[u8],
    ) -> Result<Option<Vec<Told>>, EntryError> {
        if data.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let batch = Batch::access(data)?;
        if batch.proposer_term.to_native() != term {
            return Ok(None);
        }
        Self::advance(state, batch.stamp_ms.to_native());
        let mut turn = Turn::new(state, changed, index);
        let answers = turn.carry_out_all(commands(batch));
        turn.end();
        Ok(Some(answers))
    }

    /// Ends what is due and forgets what is old.
    pub fn end(&mut self) {
        for _ in 0..SWEEP_MAX {
            let due = self.state.agenda.first().copied();
            let Some((.., id)) = due.filter(|(deadline_ms, ..)| *deadline_ms <= self.at.time_ms) else {
                break;
            };
            self.expire(id);
        }
        for _ in 0..FORGET_MAX {
            let old = self.state.line.first_key_value().map(|(place, old)| (*place, *old));
            let is_old = |since_ms: u64| since_ms.saturating_add(self.state.retention_ms) <= self.at.time_ms;
            let Some((place, (_, id))) = old.filter(|(_, (since_ms, _))| is_old(*since_ms)) else { break };
            self.state.line.remove(&place);
            let record = self.state.records.remove(&id).expect("what is over has a record");
            self.state.dead -= usize::from(record.is_dead());
            self.changed.ids.insert(id);
        }
    }

    /// Tells what happened to a product, of its own accord or by an id: a user's, or nobody's. The event's number.
    pub(super) fn event(
        &mut self,
        kind: EventKind,
        product: u64,
        by: (u128, u64),
        numbers: (u64, u64),
    ) -> u64 {
        if !self.state.numbered {
            return self.state.sequence;
        }
        self.state.sequence += 1;
        self.changed.events.push(EventView {
            sequence: self.state.sequence,
            index: self.at.index,
            time_ms: self.at.time_ms,
            kind,
            product: ProductId(product),
            user: UserId(by.1),
            quantity: numbers.0,
            id: ReservationId(by.0),
            detail: numbers.1,
        });
        self.state.sequence
    }

    /// Whether there is room for one more record; `dead`: for one that takes nothing.
    pub(super) fn has_room(&self, dead: bool) -> bool {
        self.state.records.len() < self.state.records_max && !(dead && self.state.dead >= self.state.dead_max)
    }

    /// A record without a fate.
    pub(super) fn record(&mut self, kind: Kind, product: u64, user: u64, quantity: u32) -> Record {
        self.state.made += u64::from(self.state.numbered);
        Record {
            kind,
            product,
            user,
            quantity,
            state: Standing::None,
            reason: 0,
            sequence: 0,
            deadline_ms: 0,
            ended_ms: self.at.time_ms,
            settled: false,
            refused_with: None,
            place: 0,
            order: (0, self.state.made),
        }
    }

    /// Remembers a new id.
    pub(super) fn remember(&mut self, id: u128, mut record: Record) {
        self.changed.ids.insert(id);
        if record.state == Standing::Held {
            self.hold(id, &record);
        } else {
            record.place = self.state.join_line(self.at.time_ms, id);
        }
        self.state.dead += usize::from(record.is_dead());
        let before = self.state.records.insert(id, record);
        assert!(before.is_none(), "an id is remembered once");
    }

    fn hold(&mut self, id: u128, record: &Record) {
        self.state.holds.insert((record.product, record.deadline_ms, record.order, id));
        self.state.agenda.insert((
            record.deadline_ms,
            self.state.products[&record.product].place,
            record.order,
            id,
        ));
    }

    /// Ends a hold: as what, and at which time.
    pub(super) fn end_hold(&mut self, id: u128, state: Standing, ended_ms: u64) -> u64 {
        let record = self.state.records[&id];
        let (kind, detail) = match state {
            Standing::Confirmed => (EventKind::Confirmed, 0),
            Standing::Cancelled => (EventKind::Cancelled, u64::from(record.reason)),
            _ => (EventKind::Expired, 0),
        };
        let numbers = (u64::from(record.quantity), detail);
        let sequence = self.event(kind, record.product, (id, record.user), numbers);
        let record = self.state.records.get_mut(&id).expect("it is held");
        assert_eq!(record.state, Standing::Held, "a hold ends once");
        self.state.holds.remove(&(record.product, record.deadline_ms, record.order, id));
        self.state.agenda.remove(&(
            record.deadline_ms,
            self.state.products[&record.product].place,
            record.order,
            id,
        ));
        (record.state, record.sequence, record.ended_ms) = (state, sequence, ended_ms);
        let (product, user, units) = (record.product, record.user, u64::from(record.quantity));
        let counters = self.state.products.get_mut(&product).expect("its product is there");
        counters.held -= units;
        if state == Standing::Confirmed {
            counters.sold += units;
        } else {
            self.give_back(product, user, units);
            let place = self.state.join_line(ended_ms, id);
            self.state.records.get_mut(&id).expect("it was held").place = place;
        }
        self.changed.ids.insert(id);
        self.changed.products.insert(product);
        sequence
    }

    pub(super) fn expire(&mut self, id: u128) -> u64 {
        let deadline_ms = self.state.records[&id].deadline_ms;
        self.end_hold(id, Standing::Expired, deadline_ms)
    }

    fn give_back(&mut self, product: u64, user: u64, units: u64) {
        let has = self.state.units.get_mut(&(product, user)).expect("who holds has units");
        *has -= units;
        if *has == 0 {
            self.state.units.remove(&(product, user));
        }
        self.changed.users.insert((product, user));
    }

    pub(super) fn take(&mut self, product: u64, user: u64, units: u64) {
        *self.state.units.entry((product, user)).or_default() += units;
        self.changed.users.insert((product, user));
        self.changed.products.insert(product);
    }

    pub(super) fn user_has(&self, product: u64, user: u64) -> u64 {
        self.state.units.get(&(product, user)).copied().unwrap_or(0)
    }

    /// Ends holds of a product that are due, the earliest first, until `enough` says so.
    pub(super) fn sweep(&mut self, product: u64, enough: impl Fn(&Self) -> bool) -> Swept {
        let mut own = COMMAND_SWEEP_MIN;
        while !enough(self) {
            let earliest_ms = self.state.earliest_ms(product);
            if earliest_ms == 0 || earliest_ms > self.at.time_ms {
                return Swept::TooLittle;
            }
            match (own, self.sweeps_left) {
                (0, 0) => return Swept::Exhausted,
                (0, _) => self.sweeps_left -= 1,
                _ => own -= 1,
            }
            let first = (product, 0, (0, 0), 0);
            let (.., id) = *self.state.holds.range(first..).next().expect("there is an earliest one");
            self.expire(id);
        }
        Swept::Enough
    }

    /// What is wrong with a request whatever the state.
    pub(super) fn malformed(&self, id: u128, product: u64, quantity: u32) -> Option<Answer> {
        let high = u64::from(limits::QUANTITY_MAX);
        let quantity = u64::from(quantity);
        match (id, product) {
            (0, _) => Some(Answer::invalid(self.at, RefusedField::Reservation, 0, 1, u64::MAX)),
            (_, 0) => Some(Answer::invalid(self.at, RefusedField::Product, 0, 1, u64::MAX)),
            _ if quantity == 0 || quantity > high => {
                Some(Answer::invalid(self.at, RefusedField::Quantity, quantity, 1, high))
            }
            _ => None,
        }
    }
}
