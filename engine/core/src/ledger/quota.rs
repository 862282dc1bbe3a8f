//! Quotas: how many units of a product a user has, held and confirmed together.
//!
//! Counted for every product, limited or not, because a limit may be set later. Not part of an image: the
//! records say the same, and the table is built again from them.
//!
//! Deliberately not here: the limits, which belong to the products.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::settings::PRODUCTS_MAX;

/// Bits of a packed count; the rest is the product's slot. Sixteen bytes for an entry, not twenty-four.
const UNITS_BITS: u32 = 44;

/// Units of one product that one user can have. Beyond any stock; only an unlimited product could get there.
const UNITS_MAX: u64 = (1 << UNITS_BITS) - 1;

const _: () = assert!(PRODUCTS_MAX as u64 <= 1 << (u64::BITS - UNITS_BITS));
const _: () = assert!(sluice_protocol::limits::STOCK_MAX <= UNITS_MAX);
const _: () = assert!(size_of::<Quota>() == 16);

/// One user's units of one product.
#[derive(Clone, Copy)]
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
        self.user == user && self.product() == product
    }
}

/// The user's count would exceed what an entry can hold; nothing was counted.
pub(super) struct TooMany;

/// All quotas.
pub(super) struct Quotas {
    table: HashTable<Quota>,
    hasher: FixedState,
}

impl Quotas {
    pub(super) fn with_capacity(capacity: usize, seed: u64) -> Self {
        Self { table: HashTable::with_capacity(capacity), hasher: FixedState::with_seed(seed) }
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.table.allocation_size() as u64
    }

    #[inline]
    pub(super) fn units(&self, user: u64, product: u32) -> u64 {
        let hash = self.hasher.hash_one((user, product));
        self.table.find(hash, |quota| quota.is_of(user, product)).map_or(0, Quota::units)
    }

    /// Counts units for a user; true if these are the first.
    #[inline]
    pub(super) fn add(&mut self, user: u64, product: u32, units: u32) -> Result<bool, TooMany> {
        let Self { table, hasher } = self;
        let entry = table.entry(
            hasher.hash_one((user, product)),
            |quota| quota.is_of(user, product),
            |quota| hasher.hash_one((quota.user, quota.product())),
        );
        match entry {
            Entry::Vacant(entry) => {
                entry.insert(Quota::new(user, product, u64::from(units)));
                Ok(true)
            }
            Entry::Occupied(mut entry) => {
                let sum = entry.get().units() + u64::from(units);
                if sum > UNITS_MAX {
                    return Err(TooMany);
                }
                entry.get_mut().packed += u64::from(units);
                Ok(false)
            }
        }
    }

    /// Gives units back; true if these were the last.
    #[inline]
    pub(super) fn sub(&mut self, user: u64, product: u32, units: u32) -> bool {
        let hash = self.hasher.hash_one((user, product));
        let mut entry = self
            .table
            .find_entry(hash, |quota| quota.is_of(user, product))
            .unwrap_or_else(|_| unreachable!("units that are given back were counted"));
        let left =
            entry.get().units().checked_sub(u64::from(units)).expect("no more is given back than counted");
        if left == 0 {
            entry.remove();
        } else {
            *entry.get_mut() = Quota::new(user, product, left);
        }
        left == 0
    }

    /// Every user, product slot and count, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32, u64)> {
        self.table.iter().map(|quota| (quota.user, quota.product(), quota.units()))
    }
}
