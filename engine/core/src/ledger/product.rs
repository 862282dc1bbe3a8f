//! Products: terms, and the four counters that must always agree.
//!
//! Every change of a counter goes through [`Product::shift`], which asserts `free + held + sold = stock`
//! afterwards. That assertion is the promise of this whole system, so it is never compiled out.
//!
//! Deliberately not here: who may change what, and when; and the table of who has how many.

use std::collections::BTreeMap;

use rkyv::{Archive, Deserialize, Serialize};
use sluice_protocol::ProductId;
use sluice_protocol::request::Terms;
use sluice_protocol::response::ProductView;

use super::Standing;
use super::chunked::{Chunked, NONE};
use super::expiry::Holds;
use super::table::{Entry, Hasher, Table, place};

/// Rows of one chunk: what a write after a freeze may have to copy.
#[cfg(not(fuzzing))]
pub(super) const PRODUCTS_PER_CHUNK: usize = 64;

/// See `RECORDS_PER_CHUNK`.
#[cfg(fuzzing)]
pub(super) const PRODUCTS_PER_CHUNK: usize = 2;

/// Shards of the table of ids, as a power of two: of a million products some 2,000 are moved at a time.
const SHARD_BITS: u32 = 9;

/// One product.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub(super) struct Product {
    pub(super) id: u64,
    stock: u64,
    free: u64,
    held: u64,
    sold: u64,
    pub(super) stock_at_creation: u64,
    opens_ms: u64,
    closes_ms: u64,
    per_user_limit: u32,
    hold_ms: u32,
    unlimited: bool,
    pub(super) sealed: bool,
    /// Its held reservations by hold time.
    pub(super) holds: Holds,
}

/// A movement of units between the counters of one product.
#[derive(Clone, Copy, Default)]
struct Shift {
    free: i64,
    held: i64,
    sold: i64,
    stock: i64,
}

impl Product {
    /// A product as it is created.
    pub(super) fn new(id: u64, stock: u64, terms: Terms) -> Self {
        let mut product = Self {
            id,
            stock,
            free: stock,
            stock_at_creation: stock,
            unlimited: terms.unlimited,
            ..Self::default()
        };
        product.set_terms(terms);
        product.assert_balance();
        product
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            opens_ms: self.opens_ms,
            closes_ms: self.closes_ms,
            per_user_limit: self.per_user_limit,
            hold_ms: self.hold_ms,
            unlimited: self.unlimited,
        }
    }

    /// Changes the terms. Whether a product is unlimited never changes.
    pub(super) fn set_terms(&mut self, terms: Terms) {
        assert_eq!(
            self.unlimited, terms.unlimited,
            "an unlimited product stays one, and no other becomes one"
        );
        self.opens_ms = terms.opens_ms;
        self.closes_ms = terms.closes_ms;
        self.per_user_limit = terms.per_user_limit;
        self.hold_ms = terms.hold_ms;
    }

    pub(super) fn stock(&self) -> u64 {
        self.stock
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn sold(&self) -> u64 {
        self.sold
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// Whether so many units can be taken.
    #[inline]
    pub(super) fn has_free(&self, units: u32) -> bool {
        self.unlimited || self.free >= u64::from(units)
    }

    /// Whether a user who has `has` units may have so many more.
    #[inline]
    pub(super) fn allows(&self, has: u64, more: u32) -> bool {
        self.per_user_limit == 0 || has + u64::from(more) <= u64::from(self.per_user_limit)
    }

    /// Whether users' counts matter to anybody.
    pub(super) fn is_limited_per_user(&self) -> bool {
        self.per_user_limit != 0
    }

    /// free → held.
    #[inline]
    pub(super) fn hold(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { free: -units, held: units, ..Shift::default() });
    }

    /// held → free.
    pub(super) fn release(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { free: units, held: -units, ..Shift::default() });
    }

    /// held → sold.
    pub(super) fn sell(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { held: -units, sold: units, ..Shift::default() });
    }

    /// free → sold: a hold that had expired, and was paid after all.
    pub(super) fn sell_free(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { free: -units, sold: units, ..Shift::default() });
    }

    /// Stock and free grow.
    pub(super) fn restock(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { free: units, stock: units, ..Shift::default() });
    }

    /// Stock and free shrink.
    pub(super) fn write_off(&mut self, units: u32) {
        let units = i64::from(units);
        self.shift(Shift { free: -units, stock: -units, ..Shift::default() });
    }

    /// Moves units. An unlimited product has no stock to take from or give back to.
    #[inline]
    fn shift(&mut self, by: Shift) {
        let moved = |counter: u64, by: i64| {
            counter.checked_add_signed(by).expect("units are only taken from where they were seen to be")
        };
        self.held = moved(self.held, by.held);
        self.sold = moved(self.sold, by.sold);
        if !self.unlimited {
            self.free = moved(self.free, by.free);
            self.stock = moved(self.stock, by.stock);
        }
        self.assert_balance();
    }

    #[inline]
    fn assert_balance(&self) {
        assert!(self.is_balanced(), "free + held + sold = stock was broken: {self:?}");
    }

    /// Whether `free + held + sold = stock`; of an unlimited product, whether it has neither stock nor free.
    pub(super) fn is_balanced(&self) -> bool {
        if self.unlimited {
            return self.stock == 0 && self.free == 0;
        }
        let taken = self.held.checked_add(self.sold);
        taken.and_then(|taken| taken.checked_add(self.free)) == Some(self.stock)
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            product: ProductId(self.id),
            free: self.free,
            held: self.held,
            earliest_return_ms: self.holds.due_ms(),
            opens_ms: self.opens_ms,
            closes_ms: self.closes_ms,
            per_user_limit: self.per_user_limit,
            unlimited: self.unlimited,
            sealed: self.sealed,
        }
    }

    pub(super) fn view(&self) -> ProductView {
        ProductView {
            product: ProductId(self.id),
            stock: self.stock,
            free: self.free,
            held: self.held,
            sold: self.sold,
            terms: self.terms(),
            sealed: self.sealed,
            earliest_return_ms: self.holds.due_ms(),
        }
    }
}

/// Where a product is.
#[derive(Clone, Copy)]
struct Known {
    id: u64,
    slot: u32,
}

impl Default for Known {
    fn default() -> Self {
        Self { id: 0, slot: NONE }
    }
}

impl Entry for Known {
    #[inline]
    fn is_free(&self) -> bool {
        self.slot == NONE
    }

    fn place(&self, hasher: &Hasher) -> u32 {
        place(hasher.hash(self.id))
    }
}

/// All products: by slot (the order of their creation), by id, and in the order of ids.
pub(super) struct Products {
    pub(super) rows: Chunked<Product, PRODUCTS_PER_CHUNK>,
    ids: Table<Known, 4>,
    ordered: BTreeMap<u64, u32>,
    /// Slots whose standing may have changed since it was last asked for, each once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
}

impl Products {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rows: Chunked::new(),
            ids: Table::with_capacity(SHARD_BITS, 0, seed),
            ordered: BTreeMap::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.rows.len()
    }

    /// Bytes of the rows and of the tables beside them, roughly: a B-tree does not tell.
    pub(super) fn bytes(&self) -> u64 {
        let ordered = self.ordered.len() * size_of::<(u64, u32)>();
        self.rows.bytes() + self.ids.bytes() + ordered as u64
    }

    /// Entries of the table of ids that its growth has moved.
    pub(super) fn moved(&self) -> u64 {
        self.ids.moved()
    }

    #[inline]
    pub(super) fn find(&self, id: u64) -> Option<u32> {
        self.ids.find(self.ids.hash(id), |known| known.id == id, |_| true).map(|known| known.slot)
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Product {
        self.rows.get(slot)
    }

    /// The product, to be changed: its standing counts as changed.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Product {
        self.mark(slot);
        self.rows.get_mut(slot)
    }

    /// Adds a product whose id was not found.
    pub(super) fn insert(&mut self, product: Product) -> u32 {
        let id = product.id;
        let slot = self.rows.push(product);
        self.ids.insert(self.ids.hash(id), Known { id, slot });
        self.ordered.insert(id, slot);
        self.is_changed.push(false);
        self.mark(slot);
        slot
    }

    /// Products whose ids are at least `id`, in the order of ids.
    pub(super) fn from(&self, id: u64) -> impl Iterator<Item = &Product> {
        self.ordered.range(id..).map(|(_, slot)| self.rows.get(*slot))
    }

    /// Hands out the products that were changed since the last call.
    pub(super) fn drain_changed(&mut self, mut f: impl FnMut(&Product)) {
        for slot in self.changed.drain(..) {
            self.is_changed[slot as usize] = false;
            f(self.rows.get(slot));
        }
    }

    #[inline]
    fn mark(&mut self, slot: u32) {
        let is_changed = &mut self.is_changed[slot as usize];
        if !*is_changed {
            *is_changed = true;
            self.changed.push(slot);
        }
    }
}
