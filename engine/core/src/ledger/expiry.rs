//! When holds end: the FIFOs of deadlines, the agenda over all products, and the sweeps.
//!
//! Holds of one product under one hold time end in the order in which they began, because ledger time never
//! falls: a FIFO, no heap. A change of the hold time begins a second FIFO, and the first runs dry. The agenda
//! has exactly one key for every product that holds anything: its earliest deadline. So the next hold to end
//! is a pure function of the state, and a ledger that was loaded sweeps as the one that was saved.
//!
//! Expiry is by comparison with ledger time: a hold whose deadline has come *is* expired. A sweep only does
//! the bookkeeping, so its bound can be any number without changing what is true. A command is refused only when nothing
//! of its product is due any more. Where that takes more sweeping than an entry may do, it is told so and claims nothing.

use std::collections::BTreeSet;

use rkyv::{Archive, Deserialize, Serialize};
use sluice_protocol::{ProductId, ReservationId, State, UserId};

use super::ahead::AHEAD;
use super::chunked::NONE;
use super::effect::{Change, Effects};
use super::product::Product;
use super::records::Records;
use super::settings::{COMMAND_SWEEP_MIN, FORGET_MAX, SWEEP_MAX};
use super::turn::Turn;
use crate::fault::{self, Mutant};

/// Hold times of one product that may be in use at a time. Each change of a product's hold time adds one until
/// the holds under the old one have ended.
pub(super) const HOLD_TIMES_MAX: usize = 64;

/// The held reservations under one hold time, the first to end first.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fifo {
    pub(super) hold_ms: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The head's deadline, kept here so that the agenda never fetches a record to learn it.
    pub(super) due_ms: u64,
}

/// All held reservations of one product: FIFOs in the order of their hold times, none of them empty.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) fifos: Vec<Fifo>,
}

impl Holds {
    /// The earliest deadline; 0 if nothing is held.
    #[inline]
    pub(super) fn due_ms(&self) -> u64 {
        self.fifos.iter().map(|fifo| fifo.due_ms).min().unwrap_or(0)
    }

    /// Whether holds of this length fit into the FIFOs that there may be.
    pub(super) fn has_room_for(&self, hold_ms: u32) -> bool {
        self.fifos.len() < HOLD_TIMES_MAX || self.fifos.iter().any(|fifo| fifo.hold_ms == hold_ms)
    }

    /// Whether the FIFOs stand as [`Holds::push`] leaves them: by hold time, and not more than there may be.
    pub(super) fn is_in_order(&self) -> bool {
        self.fifos.len() <= HOLD_TIMES_MAX && self.fifos.is_sorted_by(|one, next| one.hold_ms < next.hold_ms)
    }

    /// The record that ends first; of several, the one under the shortest hold time.
    fn first(&self) -> Option<u32> {
        self.fifos.iter().min_by_key(|fifo| fifo.due_ms).map(|fifo| fifo.head)
    }

    /// Adds a record, whose deadline stands in it already.
    #[inline]
    pub(super) fn push(&mut self, records: &mut Records, hold_ms: u32, slot: u32) {
        let deadline_ms = records.get(slot).time_ms;
        match self.fifos.binary_search_by_key(&hold_ms, |fifo| fifo.hold_ms) {
            Ok(at) => {
                let fifo = &mut self.fifos[at];
                fifo.tail = records.append(fifo.tail, slot);
            }
            Err(at) => {
                records.append(NONE, slot);
                self.fifos.insert(at, Fifo { hold_ms, head: slot, tail: slot, due_ms: deadline_ms });
            }
        }
    }

    /// Removes a record, wherever it stands.
    #[inline]
    fn remove(&mut self, records: &mut Records, slot: u32) {
        let (prev, next) = records.unlink(slot);
        if prev != NONE && next != NONE {
            return;
        }
        let at = self.fifos.iter().position(|fifo| fifo.head == slot || fifo.tail == slot);
        let at = at.expect("a hold without a neighbour is an end of one of its product's FIFOs");
        let fifo = &mut self.fifos[at];
        match (prev, next) {
            (NONE, NONE) => {
                self.fifos.remove(at);
            }
            (NONE, next) => {
                fifo.head = next;
                fifo.due_ms = records.get(next).time_ms;
            }
            (prev, _) => fifo.tail = prev,
        }
    }
}

/// What time alone will change: the earliest deadline of each product, and the openings and closings of sales.
#[derive(Default)]
pub(super) struct Agenda {
    dues: BTreeSet<(u64, u32)>,
    windows: BTreeSet<(u64, u32)>,
}

impl Agenda {
    /// The earliest deadline and its product.
    pub(super) fn first_due(&self) -> Option<(u64, u32)> {
        self.dues.first().copied()
    }

    /// The next opening or closing behind `now`.
    pub(super) fn next_window_ms(&self, now_ms: u64) -> Option<u64> {
        let behind_now = (now_ms.checked_add(1)?, 0)..;
        self.windows.range(behind_now).next().map(|(time_ms, _)| *time_ms)
    }

    /// Replaces a product's earliest deadline; 0 stands for none.
    #[inline]
    pub(super) fn move_due(&mut self, product: u32, from_ms: u64, to_ms: u64) {
        if from_ms == to_ms {
            return;
        }
        if from_ms != 0 {
            self.dues.remove(&(from_ms, product));
        }
        if to_ms != 0 {
            self.dues.insert((to_ms, product));
        }
    }

    /// Notes when a sale opens and closes.
    pub(super) fn add_windows(&mut self, slot: u32, product: &Product) {
        let terms = product.terms();
        for time_ms in [terms.opens_ms, terms.closes_ms] {
            if time_ms != 0 {
                self.windows.insert((time_ms, slot));
            }
        }
    }

    /// Undoes [`Agenda::add_windows`].
    pub(super) fn remove_windows(&mut self, slot: u32, product: &Product) {
        let terms = product.terms();
        self.windows.remove(&(terms.opens_ms, slot));
        self.windows.remove(&(terms.closes_ms, slot));
    }
}

/// Removes a hold from its product's FIFOs and keeps the agenda exact.
#[inline]
pub(super) fn unhold(records: &mut Records, agenda: &mut Agenda, product: &mut Product, slot: u32) {
    let at = records.get(slot).product;
    let before = product.holds.due_ms();
    product.holds.remove(records, slot);
    agenda.move_due(at, before, product.holds.due_ms());
}

/// What a command found that wants a due hold of its product expired.
pub(super) enum Due {
    /// One was.
    Expired,
    /// None is due: what is free now is all there is.
    None,
    /// More are due than this entry may expire. Nothing may be refused, and the command must come again.
    TooMany,
}

impl<E: Effects> Turn<'_, E> {
    /// Expires a bounded number of holds that are due, in the order of (deadline, product).
    pub(super) fn sweep(&mut self) {
        let (mut last, mut awaited) = (NONE, 0);
        for _ in 0..SWEEP_MAX {
            let due = self.ledger.agenda.first_due().filter(|(due_ms, _)| *due_ms <= self.at.time_ms);
            let Some((_, product)) = due else { break };
            let first = self.first_hold_of(product);
            // A product that comes twice in a row will mostly come again.
            if product != last {
                (last, awaited) = (product, 0);
            } else if awaited == 0 {
                self.ledger.await_holds(first);
                awaited = AHEAD - 1;
            } else {
                awaited -= 1;
            }
            self.expire(first);
        }
    }

    /// Expires one due hold of a product, the first to end, for a command that has expired `swept` before.
    pub(super) fn expire_due_of(&mut self, product: u32, swept: &mut usize) -> Due {
        let due_ms = self.ledger.products.get(product).holds.due_ms();
        if due_ms == 0 || due_ms > self.at.time_ms {
            return Due::None;
        }
        if *swept >= COMMAND_SWEEP_MIN {
            let Some(left) = self.sweeps_left.checked_sub(1) else { return Due::TooMany };
            self.sweeps_left = left;
        }
        *swept += 1;
        self.expire(self.first_hold_of(product));
        Due::Expired
    }

    fn first_hold_of(&self, product: u32) -> u32 {
        let first = self.ledger.products.get(product).holds.first();
        first.expect("a product with a deadline on the agenda holds something")
    }

    /// Ends a hold at its deadline.
    pub(super) fn expire(&mut self, slot: u32) {
        // The time of an expired record stays its deadline: it ended then, whenever the sweep came by.
        let deadline_ms = self.ledger.records.get(slot).time_ms;
        self.release(slot, State::Expired, Change::Expired, deadline_ms);
    }

    /// Gives a hold's units back and puts its record among the ended ones. Returns the event's sequence.
    pub(super) fn release(&mut self, slot: u32, state: State, change: Change, ended_ms: u64) -> u64 {
        let record = *self.ledger.records.get(slot);
        let product = self.ledger.products.get_mut(record.product);
        let id = ProductId(product.id);
        unhold(&mut self.ledger.records, &mut self.ledger.agenda, product, slot);
        product.release(record.quantity);
        let credited = !product.is_unlimited();

        let user = UserId(record.user);
        if !fault::is_on(Mutant::LimitNotGivenBack)
            && self.ledger.quotas.sub(record.user, record.product, record.quantity)
        {
            self.effects.buyer(id, user, false);
        }
        let sequence = self.event(change, id, user, u64::from(record.quantity), ReservationId(record.id));
        if credited {
            self.effects.credit(id, i64::from(record.quantity));
        }
        let record = self.ledger.records.get_mut(slot);
        record.set_state(state);
        record.sequence = sequence;
        record.time_ms = ended_ms;
        self.ledger.records.end(slot);
        sequence
    }

    /// Forgets a bounded number of outcomes that ended long enough ago.
    pub(super) fn forget(&mut self) {
        let retention_ms = self.ledger.settings.retention_ms;
        for number in 0..FORGET_MAX {
            let first = self.ledger.records.ends.ended.head;
            if first == NONE {
                break;
            }
            // Whatever ended did so at a time that has been.
            let ended_ms = self.ledger.records.get(first).time_ms;
            if self.at.time_ms - ended_ms < retention_ms {
                break;
            }
            if number % AHEAD == 0 {
                self.ledger.await_ended(first);
            }
            let id = self.ledger.records.forget();
            self.effects.known(ReservationId(id), false);
        }
    }
}
