//! Quotas: how many units of a product a user has, held and confirmed together.
//!
//! Counted for every product, limited or not, because a limit may be set later. Not part of an image: the
//! records say the same, and the table is built again from them.
//!
//! Deliberately not here: the limits, which belong to the products.

use super::settings::PRODUCTS_MAX;
use super::table::{Entry, Hasher, Table, place};

/// Shards of the table, as a power of two: at ten million users some 2,500 are moved at a time.
const SHARD_BITS: u32 = 12;

/// Bits of a packed count; the rest is the product's slot. Sixteen bytes for an entry, not twenty-four.
const UNITS_BITS: u32 = 44;

/// Units of one product that one user can have. Beyond any stock; only an unlimited product could get there.
const UNITS_MAX: u64 = (1 << UNITS_BITS) - 1;

const _: () = assert!(PRODUCTS_MAX as u64 <= 1 << (u64::BITS - UNITS_BITS));
const _: () = assert!(sluice_protocol::limits::STOCK_MAX <= UNITS_MAX);
const _: () = assert!(size_of::<Quota>() == 16);

/// One user's units of one product. Nobody is counted who has none, so no units mark a free place.
#[derive(Clone, Copy, Default)]
struct Quota {
    user: u64,
    packed: u64,
}

impl Quota {
    fn new(user: u64, product: u32, units: u64) -> Self {
        Self { user, packed: u64::from(product) << UNITS_BITS | units }
    }

    fn product(&self) -> u32 {
        (self.packed >> UNITS_BITS) as u32
    }

    fn units(&self) -> u64 {
        self.packed & UNITS_MAX
    }

    fn is_of(&self, user: u64, product: u32) -> bool {
        (self.user == user) & (self.product() == product)
    }
}

impl Entry for Quota {
    #[inline]
    fn is_free(&self) -> bool {
        self.units() == 0
    }

    #[inline]
    fn place(&self, hasher: &Hasher) -> u32 {
        place(hasher.hash((self.user, self.product())))
    }
}

/// The user's count would exceed what an entry can hold; nothing was counted.
pub(super) struct TooMany;

/// All quotas.
pub(super) struct Quotas {
    table: Table<Quota, 4>,
}

impl Quotas {
    pub(super) fn with_capacity(capacity: usize, seed: u64) -> Self {
        Self { table: Table::with_capacity(SHARD_BITS, capacity, seed) }
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// Entries that the table's growth has moved.
    pub(super) fn moved(&self) -> u64 {
        self.table.moved()
    }

    #[inline]
    pub(super) fn hash(&self, user: u64, product: u32) -> u64 {
        self.table.hash((user, product))
    }

    /// See [`Table::touch`].
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> bool {
        self.table.touch(hash)
    }

    #[inline]
    pub(super) fn units(&self, user: u64, product: u32) -> u64 {
        let found = self.table.find(self.hash(user, product), |quota| quota.is_of(user, product), |_| true);
        found.map_or(0, Quota::units)
    }

    /// Counts units for a user, at least one; true if these are the first.
    #[inline]
    pub(super) fn add(&mut self, user: u64, product: u32, units: u32) -> Result<bool, TooMany> {
        assert!(units > 0, "nobody is counted who has nothing");
        let hash = self.hash(user, product);
        let Some(quota) = self.table.find_mut(hash, |quota| quota.is_of(user, product)) else {
            self.table.insert(hash, Quota::new(user, product, u64::from(units)));
            return Ok(true);
        };
        if quota.units() + u64::from(units) > UNITS_MAX {
            return Err(TooMany);
        }
        quota.packed += u64::from(units);
        Ok(false)
    }

    /// Gives units back; true if these were the last.
    #[inline]
    pub(super) fn sub(&mut self, user: u64, product: u32, units: u32) -> bool {
        let hash = self.hash(user, product);
        let is = |quota: &Quota| quota.is_of(user, product);
        let quota = self.table.find_mut(hash, is).expect("units that are given back were counted");
        let left = quota.units().checked_sub(u64::from(units)).expect("no more is given back than counted");
        if left == 0 {
            self.table.remove(hash, is);
        } else {
            *quota = Quota::new(user, product, left);
        }
        left == 0
    }

    /// Every user, product slot and count, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32, u64)> {
        self.table.iter().map(|quota| (quota.user, quota.product(), quota.units()))
    }
}
