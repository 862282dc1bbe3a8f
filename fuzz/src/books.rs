//! What somebody believes of a ledger who hears only what applying its entries tells: units, users, ids, tokens.
//!
//! Kept plainly, in maps, from events alone. [`Books::agree_with`] compares it with what the ledger says of itself.
//! Deliberately not here: what any command should do.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::{Change, Event};
use sluice_protocol::response::{ProductView, ReservationView};
use sluice_protocol::{ProductId, ReservationId, State};

#[path = "../../engine/core/tests/ledger_support/told.rs"]
mod told;

pub use told::Told;

/// Units of one product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Units {
    stock: i128,
    free: i128,
    held: i128,
    sold: i128,
    /// What a gate would count from answers and credits.
    tokens: i128,
    unlimited: bool,
}

/// A reservation, as its events tell it.
#[derive(Clone, Copy, Debug)]
struct Taken {
    product: u64,
    user: u64,
    quantity: u64,
    state: State,
    /// Somebody was told that it has expired for good.
    settled: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Books {
    sequence: u64,
    products: BTreeMap<u64, Units>,
    taken: BTreeMap<u128, Taken>,
    /// What ids that took nothing read as.
    other: BTreeMap<u128, (State, ReservationView)>,
    users: BTreeMap<(u64, u64), u64>,
    buyers: BTreeSet<(u64, u64)>,
    known: BTreeSet<u128>,
}

impl Books {
    /// The books of a ledger as it stands: believed from here on.
    pub fn of(ledger: &Ledger) -> Self {
        let mut books = Self { sequence: ledger.sequence(), ..Self::default() };
        for view in ledger.products_from(ProductId(0)) {
            let units = Units {
                stock: view.stock.into(),
                free: view.free.into(),
                tokens: view.free.into(),
                unlimited: view.terms.unlimited,
                ..Units::default()
            };
            books.products.insert(view.product.0, units);
        }
        ledger.each_known(|id| {
            let (state, view) = ledger.reservation(id).expect("a known id can be read");
            books.known.insert(id.0);
            // A hold that is due and was not swept yet reads as expired without a sequence.
            let is_unswept = state == State::Expired && view.sequence == 0;
            let state = if is_unswept { State::Held } else { state };
            if !matches!(state, State::Held | State::Confirmed | State::Cancelled | State::Expired) {
                return;
            }
            let (product, user, quantity) = (view.product.0, view.user.0, u64::from(view.quantity));
            books.taken.insert(id.0, Taken { product, user, quantity, state, settled: false });
            let units = books.products.get_mut(&product).expect("what was taken is of a product");
            match state {
                State::Held => units.held += i128::from(quantity),
                State::Confirmed => units.sold += i128::from(quantity),
                _ => return,
            }
            *books.users.entry((product, user)).or_default() += quantity;
            books.buyers.insert((product, user));
        });
        books
    }

    /// Somebody was told of this id that its hold is over for good.
    pub fn settle(&mut self, id: u128) {
        if let Some(taken) = self.taken.get_mut(&id) {
            taken.settled = true;
        }
    }

    /// Believes what an entry told.
    pub fn listen(&mut self, ledger: &Ledger, told: &Told) {
        for event in &told.events {
            assert_eq!(event.sequence, self.sequence + 1, "sequences are dense");
            assert_eq!((event.index, event.time_ms), (ledger.index(), ledger.now_ms()));
            self.sequence = event.sequence;
            self.event(ledger, event);
        }
        for &(product, user, has) in &told.buyers {
            let key = (product, user);
            let changed = if has { self.buyers.insert(key) } else { self.buyers.remove(&key) };
            assert!(changed, "user {user} of product {product} was told twice: {has}");
        }
        for &(product, units) in &told.credits {
            assert_ne!(units, 0);
            self.units(product).tokens += i128::from(units);
        }
        for &(id, is) in &told.known {
            let changed = if is { self.known.insert(id) } else { self.known.remove(&id) };
            assert!(changed, "id {id} was told twice: {is}");
            if !is {
                self.other.remove(&id);
                let taken = self.taken.remove(&id).map(|taken| taken.state);
                assert!(!matches!(taken, Some(State::Held | State::Confirmed)), "units were forgotten");
            }
        }
    }

    fn units(&mut self, product: u64) -> &mut Units {
        self.products.get_mut(&product).expect("a change concerns a product")
    }

    fn event(&mut self, ledger: &Ledger, event: &Event) {
        let (product, quantity) = (event.product.0, i128::from(event.quantity));
        let key = (product, event.user.0);
        match event.change {
            Change::TermsChanged => {
                let unlimited = ledger.product(event.product).is_some_and(|view| view.terms.unlimited);
                self.products.entry(product).or_insert(Units { unlimited, ..Units::default() });
            }
            Change::Sealed => assert!(self.products.contains_key(&product)),
            Change::Restocked | Change::WrittenOff => {
                let sign = if event.change == Change::Restocked { 1 } else { -1 };
                let units = self.units(product);
                assert!(!units.unlimited);
                units.stock += sign * quantity;
                units.free += sign * quantity;
                // A restock is credited; a write-off and the stock at creation are known from the answer.
                if sign < 0 || event.id.0 == 0 {
                    units.tokens += sign * quantity;
                }
            }
            Change::Reserved { .. } => {
                self.shift(product, [-quantity, quantity, 0]);
                let units = self.units(product);
                if !units.unlimited {
                    units.tokens -= quantity;
                }
                let (user, state) = (event.user.0, State::Held);
                let taken = Taken { product, user, quantity: event.quantity, state, settled: false };
                assert!(self.taken.insert(event.id.0, taken).is_none(), "an id took units twice");
                *self.users.entry(key).or_default() += event.quantity;
            }
            Change::Confirmed | Change::Cancelled { .. } | Change::Expired => self.moved(event),
        }
    }

    /// A reservation's state changed.
    fn moved(&mut self, event: &Event) {
        let (product, quantity) = (event.product.0, i128::from(event.quantity));
        let key = (product, event.user.0);
        let taken = self.taken.get_mut(&event.id.0).expect("what changes its state was reserved");
        assert_eq!((taken.product, taken.user, taken.quantity), (product, event.user.0, event.quantity));
        let from = taken.state;
        taken.state = match event.change {
            Change::Confirmed => State::Confirmed,
            Change::Expired => State::Expired,
            _ => State::Cancelled,
        };
        let settled = taken.settled;
        match (from, event.change) {
            (State::Held, Change::Confirmed) => self.shift(product, [0, -quantity, quantity]),
            (State::Expired, Change::Confirmed) => {
                assert!(!settled, "a reservation was confirmed that had been told to be over");
                self.shift(product, [-quantity, 0, quantity]);
                *self.users.entry(key).or_default() += event.quantity;
            }
            (State::Held, Change::Cancelled { .. } | Change::Expired) => {
                self.shift(product, [quantity, -quantity, 0]);
                let has = self.users.get_mut(&key).expect("whoever gives back has units");
                *has = has.checked_sub(event.quantity).expect("nobody gives back more than there was");
                if *has == 0 {
                    self.users.remove(&key);
                }
            }
            (from, change) => panic!("{from:?} became {change:?}"),
        }
    }

    /// Moves units between free, held and sold.
    fn shift(&mut self, product: u64, [free, held, sold]: [i128; 3]) {
        let units = self.units(product);
        units.held += held;
        units.sold += sold;
        if !units.unlimited {
            units.free += free;
        }
    }

    /// What the ledger says of itself agrees with what it told.
    pub fn agree_with(&mut self, ledger: &Ledger) {
        assert_eq!(ledger.sequence(), self.sequence);
        let mut products = 0;
        let mut last = None;
        for view in ledger.products_from(ProductId(0)) {
            assert!(last < Some(view.product), "products come in the order of their ids");
            last = Some(view.product);
            products += 1;
            self.agree_of_product(&view);
        }
        assert_eq!(products, self.products.len());

        let mut users = BTreeMap::new();
        ledger.each_buyer(|product, user, units| {
            assert_eq!(users.insert((product.0, user.0), units), None);
            assert_eq!(ledger.user_units(product, user), units);
        });
        assert_eq!(users, self.users, "units by user");
        assert!(self.users.keys().eq(&self.buyers), "buyers told");

        let mut known = BTreeSet::new();
        ledger.each_known(|id| assert!(known.insert(id.0)));
        assert_eq!(known, self.known, "ids told and ids remembered");
        for id in known {
            self.agree_of_id(ledger, id);
        }
    }

    fn agree_of_product(&self, view: &ProductView) {
        let units = self.products[&view.product.0];
        assert_eq!(units.unlimited, view.terms.unlimited);
        let says = [view.stock, view.free, view.held, view.sold].map(i128::from);
        assert_eq!(says, [units.stock, units.free, units.held, units.sold], "{view:?}");
        if units.unlimited {
            assert_eq!((view.stock, view.free), (0, 0));
        } else {
            assert_eq!(units.free + units.held + units.sold, units.stock);
        }
        assert_eq!(units.tokens, units.free, "credits and answers give the free units");
        assert_eq!(view.held == 0, view.earliest_return_ms == 0, "{view:?}");
    }

    /// An id reads as what became of it, and goes on doing so.
    fn agree_of_id(&mut self, ledger: &Ledger, id: u128) {
        let (state, view) = ledger.reservation(ReservationId(id)).expect("a known id can be read");
        let Some(taken) = self.taken.get(&id) else {
            assert!(matches!(state, State::Fenced | State::Refused | State::Applied), "{state:?} of {id}");
            let before = *self.other.entry(id).or_insert((state, view));
            assert_eq!(before, (state, view), "an id has one outcome");
            return;
        };
        assert_eq!(
            (view.product.0, view.user.0, u64::from(view.quantity)),
            (taken.product, taken.user, taken.quantity)
        );
        let is_unswept = state == State::Expired && view.sequence == 0;
        assert_eq!(if is_unswept { State::Held } else { state }, taken.state, "{view:?}");
    }
}
