//! One entry's turn: its commands in order, each answered once, and then what time brings.
//!
//! Deliberately not here: what the commands do, which is told in `reservation`, `admin` and `groups`.

use sluice_protocol::response::At;
use sluice_protocol::{Answer, ProductId, RefusedField, ReservationId, UserId};

use super::Ledger;
use super::ahead::AHEAD;
use super::command::{ArchivedBatch, ArchivedGroup};
use super::effect::{Change, Effects, Event};
use super::settings::{COMMANDS_SWEEP_MAX, FULL_RETRY_MS};

/// The ledger while it applies one entry, and whoever watches.
pub(super) struct Turn<'a, E> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) effects: &'a mut E,
    /// The entry's index, and the time at which all of it happens.
    pub(super) at: At,
    /// Holds that its commands may still expire.
    pub(super) sweeps_left: usize,
}

impl<'a, E: Effects> Turn<'a, E> {
    pub(super) fn new(ledger: &'a mut Ledger, effects: &'a mut E) -> Self {
        let at = ledger.at();
        Self { ledger, effects, at, sweeps_left: COMMANDS_SWEEP_MAX }
    }

    /// Carries out the commands, then the sweeps. Returns how many commands there were.
    pub(super) fn run(mut self, batch: &ArchivedBatch) -> u32 {
        let commands = batch.groups.iter().map(|group| self.group(group)).sum();
        self.sweep();
        self.forget();
        commands
    }

    fn group(&mut self, group: &ArchivedGroup) -> u32 {
        match group {
            ArchivedGroup::Reserve(items) => {
                self.each(items, Self::await_reserves, |turn, item| turn.reserve(item))
            }
            ArchivedGroup::Confirm(ids) => {
                self.each(ids, Self::await_ids, |turn, id| turn.confirm(id.to_native()))
            }
            ArchivedGroup::Cancel(items) => self.each(items, Self::await_cancels, |turn, item| {
                turn.cancel(item.id.to_native(), item.reason.to_native())
            }),
            ArchivedGroup::Resolve(ids) => {
                self.each(ids, Self::await_ids, |turn, id| turn.resolve(id.to_native()))
            }
            ArchivedGroup::Put(items) => self.each(items, |_, _| (), Self::put),
            ArchivedGroup::Restock(items) => self.each(items, |_, _| (), Self::restock),
            ArchivedGroup::WriteOff(items) => self.each(items, |_, _| (), Self::write_off),
            ArchivedGroup::Seal(products) => {
                self.each(products, |_, _| (), |turn, id| turn.seal(id.to_native()))
            }
            ArchivedGroup::Consume(items) => self.each(items, |_, _| (), Self::consume),
        }
    }

    /// One answer for each item, in their order. Memory that a few of them will need is awaited for all of them at
    /// once, before the first is decided.
    #[inline]
    fn each<T>(
        &mut self,
        items: &[T],
        mut wait: impl FnMut(&mut Self, &[T]),
        mut decide: impl FnMut(&mut Self, &T) -> Answer,
    ) -> u32 {
        for few in items.chunks(AHEAD) {
            wait(self, few);
            for item in few {
                let answer = decide(self, item);
                self.effects.answer(answer);
            }
        }
        items.len() as u32
    }

    /// Tells a change and returns its sequence.
    pub(super) fn event(
        &mut self,
        change: Change,
        product: ProductId,
        user: UserId,
        quantity: u64,
        id: ReservationId,
    ) -> u64 {
        let sequence = self.ledger.sequence.checked_add(1).expect("sequences outlast every log");
        self.ledger.sequence = sequence;
        let At { index, time_ms } = self.at;
        self.effects.event(Event { sequence, index, time_ms, change, product, user, quantity, id });
        sequence
    }

    /// Whether another id can be remembered.
    pub(super) fn has_room(&self) -> bool {
        self.ledger.records.len() < self.ledger.settings.records_max
    }

    /// Whether another id can be remembered that took nothing.
    pub(super) fn has_room_for_dead(&self) -> bool {
        self.has_room() && self.ledger.records.dead() < self.ledger.settings.dead_max()
    }

    /// No table has room for it, until older outcomes are forgotten.
    pub(super) fn full(&self) -> Answer {
        Answer::full(self.at, FULL_RETRY_MS)
    }

    pub(super) fn invalid_id(&self) -> Answer {
        Answer::invalid(self.at, RefusedField::Reservation, 0, 1, u64::MAX)
    }

    pub(super) fn invalid_product(&self) -> Answer {
        Answer::invalid(self.at, RefusedField::Product, 0, 1, u64::MAX)
    }
}
