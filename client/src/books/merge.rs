//! A state and the changes since, brought together reservation by reservation, and what they add up to.
//!
//! The state is passed through once, in any order, and never held: what takes memory is the changes and a line for each
//! product. Units are counted from the reservations, and the counters that the state has itself must agree with them.
//!
//! Deliberately not here: where the entries go.

use std::collections::HashMap;

use sluice_protocol::{ProductId, State};

use super::entry::mix;
use super::{BooksError, Changes, Entry};

/// A product's units. `stock = free + held + sold`, except that a product without limit has stock and free 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProductSums {
    /// Which.
    pub product: ProductId,
    /// All units ever put in, less those written off.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units of held reservations.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
    /// The sum of the shares of its held and confirmed reservations: [`Entry::share`].
    pub hash: u128,
}

impl ProductSums {
    /// Its share of the hash of all books.
    fn share(&self) -> u128 {
        let of_units = mix(&[self.product.0, self.stock, self.free, self.held, self.sold]);
        of_units.wrapping_add(self.hash)
    }
}

/// What books add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Held and confirmed reservations.
    pub live: u64,
    /// The products, by their ids.
    pub products: Vec<ProductSums>,
}

impl Sums {
    /// One number of all that counts: products, their units, and their held and confirmed reservations.
    pub fn hash(&self) -> u128 {
        self.products.iter().fold(0, |hash, product| hash.wrapping_add(product.share()))
    }
}

/// Units as they are counted.
#[derive(Debug, Default)]
struct Line {
    is_known: bool,
    stock: i128,
    held: u64,
    sold: u64,
    hash: u128,
    /// What the state says is held and sold, less what its reservations say: 0 in the end.
    held_open: i128,
    sold_open: i128,
}

/// See the module.
#[derive(Debug)]
pub struct Merge {
    changes: Changes,
    lines: HashMap<ProductId, Line>,
    live: u64,
}

impl Merge {
    /// Begins with what has changed since the state that is about to come.
    pub fn new(changes: Changes) -> Self {
        Self { changes, lines: HashMap::new(), live: 0 }
    }

    /// The state has this product, and says that so many of its units are held and sold.
    pub fn product(&mut self, product: ProductId, stock: u64, held: u64, sold: u64) {
        let line = self.lines.entry(product).or_default();
        line.is_known = true;
        line.stock += i128::from(stock);
        line.held_open += i128::from(held);
        line.sold_open += i128::from(sold);
    }

    /// The state has this reservation. What has become of it since.
    ///
    /// # Errors
    /// [`BooksError::Torn`] if that cannot have become of it.
    pub fn entry(&mut self, entry: Entry) -> Result<Entry, BooksError> {
        let line = self.lines.entry(entry.product).or_default();
        match entry.state {
            State::Held => line.held_open -= i128::from(entry.quantity),
            State::Confirmed => line.sold_open -= i128::from(entry.quantity),
            _ => {}
        }
        let now = match self.changes.get_mut(entry.id) {
            None => entry,
            Some(change) if change.follows(&entry) && !change.seen => {
                change.seen = true;
                change.now
            }
            Some(_) => return Err(BooksError::Torn { id: entry.id }),
        };
        self.count(&now);
        Ok(now)
    }

    /// Takes the reservations that the state did not have, and the sums of all.
    ///
    /// # Errors
    /// [`BooksError::Torn`] if the state should have had one of them; [`BooksError::Unbalanced`].
    pub fn finish(mut self, mut each: impl FnMut(Entry)) -> Result<Sums, BooksError> {
        let (touched, stock) = std::mem::take(&mut self.changes).into_parts();
        for change in touched.filter(|change| !change.seen) {
            if !change.may_be_new() {
                return Err(BooksError::Torn { id: change.now.id });
            }
            self.count(&change.now);
            each(change.now);
        }
        for (product, units) in stock {
            let line = self.lines.entry(product).or_default();
            line.is_known = true;
            line.stock += units;
        }
        let sums = self
            .lines
            .into_iter()
            .map(|(product, line)| line.sums(product).ok_or(BooksError::Unbalanced { product }));
        let mut products = sums.collect::<Result<Vec<_>, _>>()?;
        products.sort_unstable_by_key(|sums| sums.product);
        Ok(Sums { live: self.live, products })
    }

    fn count(&mut self, entry: &Entry) {
        let line = self.lines.entry(entry.product).or_default();
        match entry.state {
            State::Held => line.held += u64::from(entry.quantity),
            State::Confirmed => line.sold += u64::from(entry.quantity),
            _ => {}
        }
        line.hash = line.hash.wrapping_add(entry.share());
        self.live += u64::from(entry.is_live());
    }
}

impl Line {
    /// A product with reservations and without stock is one without limit: it stays that, and none other becomes one.
    fn sums(&self, product: ProductId) -> Option<ProductSums> {
        let stock = u64::try_from(self.stock).ok()?;
        let taken = self.held.checked_add(self.sold)?;
        let free = if stock == 0 { 0 } else { stock.checked_sub(taken)? };
        let is_balanced = self.is_known && (self.held_open, self.sold_open) == (0, 0);
        let (held, sold, hash) = (self.held, self.sold, self.hash);
        is_balanced.then_some(ProductSums { product, stock, free, held, sold, hash })
    }
}
