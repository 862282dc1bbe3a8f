//! What may be read of a ledger between entries.
//!
//! Reading changes nothing, so it cannot sweep. Reservations read as expired from their deadline on all the
//! same. Counters do not: while [`Ledger::backlog`] is true, units of holds that are due still count as held,
//! for the product and for its users, and no refusal may rest on them. [`Standing::is_settled_at`] tells it of
//! one product.
//!
//! Deliberately not here: the bytes (`image`).

use sluice_protocol::response::{At, ProductView, ReservationView};
use sluice_protocol::{Answer, ProductId, ReservationId, State, UserId};

use super::Ledger;
use super::records::Record;

/// A product as those see it who answer from committed state: plain numbers, to be published after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which product.
    pub product: ProductId,
    /// Units that can be reserved; always 0 if unlimited.
    pub free: u64,
    /// Units held, those included whose deadline came and that no sweep has reached.
    pub held: u64,
    /// The earliest deadline of a hold, ledger milliseconds; 0 = nothing is held.
    pub earliest_return_ms: u64,
    /// See [`sluice_protocol::request::Terms`].
    pub opens_ms: u64,
    /// See [`sluice_protocol::request::Terms`].
    pub closes_ms: u64,
    /// See [`sluice_protocol::request::Terms`].
    pub per_user_limit: u32,
    /// There is no stock to run out of.
    pub unlimited: bool,
    /// Stock will never be added.
    pub sealed: bool,
}

impl Standing {
    /// Whether no hold is due at this ledger time, so that `free` is all that can be reserved. If not, a
    /// refusal for want of units or because of a limit must go through the log, which sweeps first.
    pub fn is_settled_at(&self, now_ms: u64) -> bool {
        self.earliest_return_ms == 0 || self.earliest_return_ms > now_ms
    }

    /// What a first attempt hears outside the sale's window. Nothing while only the ledger's clock says that it has not
    /// opened: the entry that it would go into is stamped by the wall's.
    pub fn shut(&self, at: At, wall_ms: u64) -> Option<Answer> {
        if at.time_ms < self.opens_ms && wall_ms < self.opens_ms {
            return Some(Answer::not_open(at, self.opens_ms));
        }
        (self.closes_ms != 0 && at.time_ms >= self.closes_ms).then(|| Answer::closed(at, self.closes_ms))
    }

    /// Whether so many units can be reserved.
    pub fn suffices(&self, units: u64) -> bool {
        self.unlimited || self.free >= units
    }

    /// What somebody hears for whom it does not suffice. Only of a product that is settled at `at`.
    pub fn shortage(&self, at: At) -> Answer {
        if self.sealed && self.free == 0 && self.held == 0 {
            return Answer::sold_out(at);
        }
        Answer::insufficient(at, self.free, self.held, self.earliest_return_ms)
    }
}

/// Sums over a ledger, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Products.
    pub products: u64,
    /// Units of all products but unlimited ones; so are the next three: `stock = free + held + sold`.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units held.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
    /// Ids that have an outcome.
    pub records: u64,
    /// Those of them that are reservations held or confirmed.
    pub live: u64,
    /// What the tables take.
    pub memory: Memory,
}

/// Bytes that the tables of a ledger take, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Memory {
    /// Rows of records.
    pub records: u64,
    /// The table from ids to records.
    pub ids: u64,
    /// The table of users' units.
    pub quotas: u64,
    /// Products and their tables.
    pub products: u64,
}

impl Memory {
    /// All tables together.
    pub fn sum(&self) -> u64 {
        self.records + self.ids + self.quotas + self.products
    }
}

impl Ledger {
    /// One product.
    pub fn product(&self, product: ProductId) -> Option<ProductView> {
        self.products.find(product.0).map(|slot| self.products.get(slot).view())
    }

    /// The products whose ids are at least `from`, in the order of their ids.
    pub fn products_from(&self, from: ProductId) -> impl Iterator<Item = ProductView> {
        self.products.from(from.0).map(|product| product.view())
    }

    /// What became of an id. A hold whose deadline has come reads as expired, with sequence 0 until its expiry
    /// is told. The id of a restock or a write-off is found too, with user 0.
    pub fn reservation(&self, id: ReservationId) -> Option<(State, ReservationView)> {
        let record = self.records.get(self.records.find(id.0)?);
        let state = record.state();
        if record.is_held_at(self.now_ms) {
            return Some((state, ReservationView { deadline_ms: record.time_ms, ..self.view(record) }));
        }
        let ended = ReservationView { ended_ms: record.time_ms, ..self.view(record) };
        Some(match state {
            State::Held => (State::Expired, ReservationView { sequence: 0, ..ended }),
            state => (state, ended),
        })
    }

    /// A record's fields but for its times.
    fn view(&self, record: &Record) -> ReservationView {
        let (product, sequence) = match record.state() {
            State::Refused => (record.sequence, 0),
            State::Fenced => (0, 0),
            _ => (self.products.get(record.product).id, record.sequence),
        };
        ReservationView {
            id: ReservationId(record.id),
            product: ProductId(product),
            user: UserId(record.user),
            quantity: record.quantity,
            reason: record.reason,
            sequence,
            deadline_ms: 0,
            ended_ms: 0,
        }
    }

    /// Units of the product that the user has, held and confirmed together.
    pub fn user_units(&self, product: ProductId, user: UserId) -> u64 {
        self.products.find(product.0).map_or(0, |slot| self.quotas.units(user.0, slot))
    }

    /// How a product stands.
    pub fn standing(&self, product: ProductId) -> Option<Standing> {
        self.products.find(product.0).map(|slot| self.products.get(slot).standing())
    }

    /// Hands out, once, every product whose standing may have changed since the last call; after a load, all.
    pub fn changed(&mut self, mut f: impl FnMut(Standing)) {
        self.products.drain_changed(|product| f(product.standing()));
    }

    /// When time alone changes something next, ledger milliseconds: a hold ends (the time may have come
    /// already, see [`Ledger::backlog`]), a sale opens or closes. `None`: never.
    pub fn pulse_due_ms(&self) -> Option<u64> {
        let hold = self.agenda.first_due().map(|(due_ms, _)| due_ms);
        let window = self.agenda.next_window_ms(self.now_ms);
        hold.into_iter().chain(window).min()
    }

    /// Whether holds remain whose deadline has come: another pulse is wanted at once.
    pub fn backlog(&self) -> bool {
        self.agenda.first_due().is_some_and(|(due_ms, _)| due_ms <= self.now_ms)
    }

    /// Sums over all products and tables. Visits every product: not for every entry.
    pub fn totals(&self) -> Totals {
        let records = u64::from(self.records.len());
        let mut totals = Totals {
            products: u64::from(self.products.len()),
            records,
            live: records - u64::from(self.records.ends.ended_len),
            memory: Memory {
                records: self.records.rows.bytes(),
                ids: self.records.table_bytes(),
                quotas: self.quotas.table_bytes(),
                products: self.products.bytes(),
            },
            ..Totals::default()
        };
        for product in self.products.rows.iter().filter(|product| !product.is_unlimited()) {
            totals.stock = totals.stock.saturating_add(product.stock());
            totals.free = totals.free.saturating_add(product.free());
            totals.held = totals.held.saturating_add(product.held());
            totals.sold = totals.sold.saturating_add(product.sold());
        }
        totals
    }

    /// Entries that the hash tables have moved because they grew, since this ledger was made. How much of it one apply
    /// adds is bounded; the tests say by what.
    pub fn moved(&self) -> u64 {
        self.records.moved() + self.quotas.moved() + self.products.moved()
    }

    /// Every user who has units of a product, and how many; in no order.
    pub fn each_buyer(&self, mut f: impl FnMut(ProductId, UserId, u64)) {
        for (user, product, units) in self.quotas.iter() {
            f(ProductId(self.products.get(product).id), UserId(user), units);
        }
    }

    /// Every id that has an outcome.
    pub fn each_known(&self, mut f: impl FnMut(ReservationId)) {
        for record in self.records.rows.iter().filter(|record| !record.is(State::None)) {
            f(ReservationId(record.id));
        }
    }
}
