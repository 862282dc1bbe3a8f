//! The gate: admits a reservation to the log, or doubts. It never says no.
//!
//! A gate belongs to one term of one leader. It is built from the ledger when the leader's own first entry has
//! been applied, shared by all net threads, and thrown away when the term ends; tokens and refunds of one term
//! never reach the gate of another, because they travel with the [`Lane`] they came from. It holds as many
//! [`Tokens`] per product as the ledger has units that are not already on their way into the log. That spares
//! the log the reservations that would be refused; the ledger never relies on it.
//!
//! Beside the tokens: [`Notice`] and [`AppliedCell`], what the replica publishes of committed state, and
//! [`Filters`], the approximate sets of who has what. All of it is lock-free and without `unsafe`, and runs
//! under loom (`tests/gate_loom.rs`).
//!
//! Deliberately not here: the doubt path, saying no, parking (the desk); when a gate opens and shuts (the board).

pub mod filter;
pub mod filters;
pub mod notice;
pub mod seqlock;
pub mod stripe;
mod sync;

use std::fmt;
use std::sync::Arc;

use foldhash::fast::FixedState;
use papaya::{HashMap, HashMapRef, LocalGuard};
use sluice_protocol::ProductId;

pub use filter::Filter;
pub use filters::Filters;
pub use notice::{Applied, AppliedCell, Notice, Posted};
pub use stripe::Tokens;

/// The hasher needs no secret: products are created by the shop, not by its customers.
type Products = HashMap<ProductId, Arc<Lane>, FixedState>;

/// The gate of one term.
pub struct Gate {
    term: u64,
    stripes: usize,
    products: Products,
}

/// One product at the gate.
#[derive(Debug)]
pub struct Lane {
    /// What is publicly known of the product. Shared with the replica and with the gates of other terms.
    pub notice: Arc<Notice>,
    /// The tokens of this term.
    pub tokens: Tokens,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("term", &self.term).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate without products. `stripes`: net threads, rounded up to a power of two.
    pub fn new(term: u64, stripes: usize) -> Self {
        Self { term, stripes: stripes.next_power_of_two(), products: Products::default() }
    }

    /// The term it admits for.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Adds a product with `available` units (`None`: unlimited). Replica thread only.
    ///
    /// # Panics
    /// If the product is already there: its tokens in flight would be forgotten, and sold again.
    pub fn add(&self, product: ProductId, notice: Arc<Notice>, available: Option<u64>) {
        let lane = Arc::new(Lane { notice, tokens: Tokens::new(self.stripes, available) });
        let added = self.products.pin().try_insert(product, lane).is_ok();
        assert!(added, "product {product} was added to the gate of term {} twice", self.term);
    }

    /// The product's lane, to keep. For a look that ends with the frame take [`Gate::lanes`].
    pub fn lane(&self, product: ProductId) -> Option<Arc<Lane>> {
        self.products.pin().get(&product).cloned()
    }

    /// Access to lanes for as long as one frame takes: looking one up writes to no shared memory, whereas
    /// every [`Gate::lane`] of a hot product fights over its reference count. Do not keep it: while it lives,
    /// memory of the table cannot be freed.
    pub fn lanes(&self) -> Lanes<'_> {
        Lanes(self.products.pin())
    }
}

/// See [`Gate::lanes`].
pub struct Lanes<'g>(HashMapRef<'g, ProductId, Arc<Lane>, FixedState, LocalGuard<'g>>);

impl Lanes<'_> {
    /// The product's lane.
    pub fn get(&self, product: ProductId) -> Option<&Lane> {
        self.0.get(&product).map(Arc::as_ref)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn notice() -> Arc<Notice> {
        Arc::new(Notice::new(Posted::default()))
    }

    #[test]
    fn a_lane_is_one_and_the_same_however_it_is_reached() {
        let gate = Gate::new(7, 3);
        gate.add(ProductId(1), notice(), Some(5));
        let kept = gate.lane(ProductId(1)).unwrap();
        assert!(gate.lanes().get(ProductId(1)).unwrap().tokens.take(2, 5));
        assert_eq!(kept.tokens.free(), 0);
        assert!(gate.lane(ProductId(2)).is_none());
        assert!(gate.lanes().get(ProductId(2)).is_none());
        assert_eq!(gate.term(), 7);
    }

    #[test]
    fn a_notice_outlives_the_gate_and_tokens_do_not() {
        let notice = notice();
        let old = Gate::new(1, 1);
        old.add(ProductId(1), Arc::clone(&notice), Some(1));
        let held = old.lane(ProductId(1)).unwrap();
        assert!(held.tokens.take(0, 1));
        let new = Gate::new(2, 1);
        new.add(ProductId(1), Arc::clone(&notice), Some(0));
        held.tokens.give(0, 1);
        assert!(!new.lane(ProductId(1)).unwrap().tokens.take(0, 1), "a refund reached another term");
        notice.publish(Posted { index: 3, ..Posted::default() });
        assert_eq!(held.notice.read().index, 3);
        assert_eq!(new.lane(ProductId(1)).unwrap().notice.read().index, 3);
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_product_is_added_once() {
        let gate = Gate::new(1, 1);
        gate.add(ProductId(1), notice(), Some(1));
        gate.add(ProductId(1), notice(), Some(1));
    }
}
