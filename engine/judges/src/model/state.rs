//! What the model remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sluice_core::ledger::settings::Settings;
use sluice_protocol::request::Terms;
use sluice_protocol::response::{ProductView, ReservationView};
use sluice_protocol::{ProductId, ReservationId, State as Standing, Status, UserId};

use super::groups::Group;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// What a put must name again.
    pub created_with: u64,
    /// All units put in, less those written off; 0 if unlimited.
    pub stock: u64,
    /// Units of holds that no sweep has ended.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
    /// The terms of its sale.
    pub terms: Terms,
    /// Stock will never be added.
    pub sealed: bool,
    /// How many products were made before it: the order of what is due at the same time.
    pub place: usize,
}

impl Product {
    /// Units that can be reserved; 0 if unlimited.
    ///
    /// # Panics
    /// If more is taken than there is: the model itself would be wrong.
    pub fn free(&self) -> u64 {
        if self.terms.unlimited {
            return 0;
        }
        self.stock.checked_sub(self.held + self.sold).expect("the model never takes what is not there")
    }

    /// Whether so many units can be reserved.
    pub fn suffices(&self, units: u64) -> bool {
        self.terms.unlimited || self.free() >= units
    }
}

impl Hash for Product {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Terms { opens_ms, closes_ms, per_user_limit, hold_ms, unlimited } = self.terms;
        (opens_ms, closes_ms, per_user_limit, hold_ms, unlimited).hash(hasher);
        (self.created_with, self.stock, self.held, self.sold, self.sealed).hash(hasher);
    }
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Units for a user.
    Reservation,
    /// Stock that came.
    Restock,
    /// Stock that went.
    WriteOff,
    /// Nothing: it was killed before it was used.
    Nothing,
}

/// What became of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What it names.
    pub kind: Kind,
    /// Of which product.
    pub product: u64,
    /// For whom; 0 for changes of stock.
    pub user: u64,
    /// How many.
    pub quantity: u32,
    /// Where it stands. A hold that is due is still `Held` until it is swept.
    pub state: Standing,
    /// Of its cancellation.
    pub reason: u32,
    /// Of the event that made it what it is.
    pub sequence: u64,
    /// Of its hold, also once that has ended.
    pub deadline_ms: u64,
    /// When it became what it is, unless held.
    pub ended_ms: u64,
    /// Of an expired one: it can never be confirmed any more.
    pub settled: bool,
    /// What a refused one was refused with.
    pub refused_with: Option<Status>,
    /// Its place in the line of those that will be forgotten; 0 = in none.
    pub place: u64,
    /// Orders what is due at the same time: how long it was to be held, then which record was made first.
    pub order: (u32, u64),
}

impl Record {
    /// Whether the hold is over, swept or not.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.state == Standing::Held && self.deadline_ms <= now_ms
    }

    /// Whether it never took anything.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, Standing::Fenced | Standing::Refused)
    }

    /// What a read of it shows at a time, and how it stands then.
    pub fn view(&self, id: u128, now_ms: u64) -> (Standing, ReservationView) {
        let due = self.is_due(now_ms);
        let held = self.state == Standing::Held && !due;
        let view = ReservationView {
            id: ReservationId(id),
            product: ProductId(self.product),
            user: UserId(self.user),
            quantity: self.quantity,
            reason: self.reason,
            sequence: if due { 0 } else { self.sequence },
            deadline_ms: if held { self.deadline_ms } else { 0 },
            ended_ms: match (held, due) {
                (true, _) => 0,
                (_, true) => self.deadline_ms,
                _ => self.ended_ms,
            },
        };
        (if due { Standing::Expired } else { self.state }, view)
    }
}

/// The whole service at one index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Records there may be, and of those that took nothing.
    pub(super) records_max: usize,
    pub(super) dead_max: usize,
    pub(super) retention_ms: u64,
    /// Ledger time.
    pub(super) now_ms: u64,
    /// Events so far.
    pub(super) sequence: u64,
    /// Whether events are numbered. A search for an order of calls does not know what happened between them.
    pub(super) numbered: bool,
    pub(super) made: u64,
    pub(super) dead: usize,
    pub(super) products: BTreeMap<u64, Product>,
    pub(super) records: BTreeMap<u128, Record>,
    /// Units by product and user, held and confirmed together; none of 0.
    pub(super) units: BTreeMap<(u64, u64), u64>,
    /// Holds that no sweep has ended: product, deadline, order, id.
    pub(super) holds: BTreeSet<(u64, u64, (u32, u64), u128)>,
    /// The same by deadline, place of the product, order, id.
    pub(super) agenda: BTreeSet<(u64, usize, (u32, u64), u128)>,
    /// Places in the line of what will be forgotten: since when it is over, and the id. Strictly in the order in which
    /// outcomes ended, so one that waits keeps those behind it.
    pub(super) line: BTreeMap<u64, (u64, u128)>,
    pub(super) places: u64,
    /// Consumer groups by number, and the last number that was given.
    pub(super) groups: Groups,
    pub(super) last_group: u32,
}

/// Consumer groups by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups(BTreeMap<u32, Arc<Group>>);

impl Hash for Groups {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.len().hash(hasher);
    }
}

impl Deref for Groups {
    type Target = BTreeMap<u32, Arc<Group>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Groups {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl State {
    /// Nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            records_max: settings.records_max as usize,
            dead_max: settings.dead_max() as usize,
            retention_ms: settings.retention_ms,
            now_ms: 0,
            sequence: 0,
            numbered: true,
            made: 0,
            dead: 0,
            products: BTreeMap::new(),
            records: BTreeMap::new(),
            units: BTreeMap::new(),
            holds: BTreeSet::new(),
            agenda: BTreeSet::new(),
            line: BTreeMap::new(),
            places: 0,
            groups: Groups::default(),
            last_group: 0,
        }
    }

    /// The same, without numbers for events: two orders of the same calls may end in the same state.
    pub fn unnumbered(settings: Settings) -> Self {
        Self { numbered: false, ..Self::new(settings) }
    }

    /// Puts an id that is over into the line of those that will be forgotten.
    pub(super) fn join_line(&mut self, since_ms: u64, id: u128) -> u64 {
        if !self.numbered {
            return 0;
        }
        self.places += 1;
        self.line.insert(self.places, (since_ms, id));
        self.places
    }

    /// Ledger time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The number of the last event.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Every product.
    pub fn products(&self) -> &BTreeMap<u64, Product> {
        &self.products
    }

    /// Every id that has an outcome.
    pub fn records(&self) -> &BTreeMap<u128, Record> {
        &self.records
    }

    /// Every user who has units of a product.
    pub fn units(&self) -> &BTreeMap<(u64, u64), u64> {
        &self.units
    }

    /// When the first hold of a product ends; 0 = none.
    pub fn earliest_ms(&self, product: u64) -> u64 {
        let first = (product, 0, (0, 0), 0);
        let last = (product, u64::MAX, (u32::MAX, u64::MAX), u128::MAX);
        self.holds.range(first..=last).next().map_or(0, |(_, deadline_ms, ..)| *deadline_ms)
    }

    /// What a read of a product shows.
    pub fn product_view(&self, product: u64) -> Option<ProductView> {
        let found = self.products.get(&product)?;
        Some(view(product, found, self.earliest_ms(product)))
    }
}

/// What a read of a product shows.
pub(super) fn view(id: u64, product: &Product, earliest_return_ms: u64) -> ProductView {
    ProductView {
        product: ProductId(id),
        stock: product.stock,
        free: product.free(),
        held: product.held,
        sold: product.sold,
        terms: product.terms,
        sealed: product.sealed,
        earliest_return_ms,
    }
}
