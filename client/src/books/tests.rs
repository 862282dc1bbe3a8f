//! Books of random histories, against a shop that keeps its own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_protocol::event::{EventKind, EventView};
use sluice_protocol::{ClusterId, NodeId, ProductId, ReservationId, State, UserId};

use super::bytes::{self, Heading, RECORD_LEN, Writer};
use super::{BooksError, Changes, Entry, Merge, ProductSums, Sums};

/// Product 3 is without limit.
const UNLIMITED: u64 = 3;

/// What the shop knows: stock by product, and every reservation that was ever made.
#[derive(Clone, Debug, Default)]
struct Shop {
    stock: BTreeMap<u64, u64>,
    orders: BTreeMap<u128, Entry>,
    events: Vec<EventView>,
}

impl Shop {
    fn units(&self, product: u64, state: State) -> u64 {
        let of = |entry: &&Entry| entry.product.0 == product && entry.state == state;
        self.orders.values().filter(of).map(|entry| u64::from(entry.quantity)).sum()
    }

    fn free(&self, product: u64) -> u64 {
        match product {
            UNLIMITED => 0,
            _ => {
                let taken = self.units(product, State::Held) + self.units(product, State::Confirmed);
                self.stock.get(&product).map_or(0, |stock| stock - taken)
            }
        }
    }

    fn suffices(&self, product: u64, quantity: u64) -> bool {
        product == UNLIMITED || self.free(product) >= quantity
    }

    /// Does what a pair of numbers asks for, if a ledger could.
    fn act(&mut self, what: u8, product: u64, quantity: u64, id: u128) {
        let known = self.orders.get(&id).copied();
        let of = |kind, product, user, quantity, detail| (kind, product, user, quantity, detail);
        let (kind, product, user, quantity, detail) = match (what % 8, known) {
            (0, _) if !self.stock.contains_key(&product) => of(EventKind::TermsChanged, product, 0, 0, 0),
            (0, _) if product != UNLIMITED => of(EventKind::Restocked, product, 0, quantity, 0),
            (1, _) if product != UNLIMITED && self.suffices(product, quantity) => {
                of(EventKind::WrittenOff, product, 0, quantity, 0)
            }
            (2..=4, known)
                if known.is_none_or(|entry| !entry.is_live())
                    && self.stock.contains_key(&product)
                    && self.suffices(product, quantity) =>
            {
                of(EventKind::Reserved, product, id as u64 + 7, quantity, 1_000 + quantity)
            }
            (what @ 5..=7, Some(entry)) if entry.state == State::Held => {
                let kinds = [EventKind::Confirmed, EventKind::Cancelled, EventKind::Expired];
                let reason = u64::from(what == 6) * quantity;
                let quantity = u64::from(entry.quantity);
                of(kinds[usize::from(what) - 5], entry.product.0, entry.user.0, quantity, reason)
            }
            (5, Some(entry))
                if entry.state == State::Expired
                    && self.suffices(entry.product.0, u64::from(entry.quantity)) =>
            {
                of(EventKind::Confirmed, entry.product.0, entry.user.0, u64::from(entry.quantity), 0)
            }
            _ => return,
        };
        if matches!(kind, EventKind::WrittenOff) && !self.stock.contains_key(&product) {
            return;
        }
        let sequence = self.events.len() as u64 + 1;
        let event = EventView {
            sequence,
            index: sequence * 2,
            time_ms: 500 + sequence,
            kind,
            product: ProductId(product),
            user: UserId(user),
            quantity,
            id: ReservationId(id),
            detail,
        };
        self.events.push(event);
        self.note(&event);
    }

    fn note(&mut self, event: &EventView) {
        let stock = self.stock.entry(event.product.0).or_default();
        let state = match event.kind {
            EventKind::Restocked => return *stock += event.quantity,
            EventKind::WrittenOff => return *stock -= event.quantity,
            EventKind::TermsChanged | EventKind::Sealed => return,
            EventKind::Reserved => State::Held,
            EventKind::Confirmed => State::Confirmed,
            EventKind::Cancelled => State::Cancelled,
            EventKind::Expired => State::Expired,
        };
        let detail = match state {
            State::Confirmed => event.time_ms,
            State::Expired => 0,
            _ => event.detail,
        };
        let (id, product, user) = (event.id, event.product, event.user);
        let (quantity, sequence) = (event.quantity as u32, event.sequence);
        self.orders.insert(id.0, Entry { id, product, user, quantity, state, sequence, detail });
    }

    /// Counted from scratch.
    fn sums(&self) -> Sums {
        let live = self.orders.values().filter(|entry| entry.is_live());
        let products = self.stock.iter().map(|(&product, &stock)| ProductSums {
            product: ProductId(product),
            stock,
            free: self.free(product),
            held: self.units(product, State::Held),
            sold: self.units(product, State::Confirmed),
            hash: live
                .clone()
                .filter(|entry| entry.product.0 == product)
                .fold(0, |hash, entry| hash.wrapping_add(entry.share())),
        });
        Sums { live: live.clone().count() as u64, products: products.collect() }
    }
}

/// What the state of one shop becomes through events. The entries by their ids, and the sums.
fn carried(base: &Shop, events: &[EventView]) -> Result<(BTreeMap<u128, Entry>, Sums), BooksError> {
    let mut changes = Changes::since(base.events.len() as u64);
    for event in events {
        changes.apply(event)?;
    }
    let mut merge = Merge::new(changes);
    for (&product, &stock) in &base.stock {
        let units = |state| base.units(product, state);
        merge.product(ProductId(product), stock, units(State::Held), units(State::Confirmed));
    }
    let mut entries = BTreeMap::new();
    for entry in base.orders.values() {
        let now = merge.entry(*entry)?;
        entries.insert(now.id.0, now);
    }
    let sums = merge.finish(|entry| assert_eq!(entries.insert(entry.id.0, entry), None))?;
    Ok((entries, sums))
}

type Acts = Vec<(u8, u64, u64, u128)>;

fn acts() -> impl Strategy<Value = Acts> {
    prop::collection::vec((0..8_u8, 1..4_u64, 1..4_u64, 1..12_u128), 1..200)
}

/// The shop after each of its events, and before the first.
fn shops(acts: &Acts) -> Vec<Shop> {
    let mut shops = vec![Shop::default()];
    for (what, product, quantity, id) in acts.iter().copied() {
        let mut next = shops.last().expect("there is one").clone();
        next.act(what, product, quantity, id);
        if next.events.len() == shops.len() {
            shops.push(next);
        }
    }
    shops
}

proptest! {
    #[test]
    fn books_carried_forward_from_any_state_are_those_that_are_counted_from_scratch(
        acts in acts(),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let shops = shops(&acts);
        let (one, other) = (cuts.0.index(shops.len()), cuts.1.index(shops.len()));
        let (from, to) = (one.min(other), one.max(other));
        let (entries, sums) = carried(&shops[from], &shops[to].events[from..]).unwrap();
        prop_assert_eq!(&entries, &shops[to].orders);
        prop_assert_eq!(sums, shops[to].sums());
    }

    #[test]
    fn an_event_that_is_left_out_or_comes_twice_is_noticed(
        acts in acts(),
        at in any::<prop::sample::Index>(),
    ) {
        let shops = shops(&acts);
        let mut events = shops.last().unwrap().events.clone();
        prop_assume!(events.len() > 1);
        let at = at.index(events.len() - 1);
        let event = events[at];
        events.insert(at, event);
        prop_assert!(matches!(carried(&shops[0], &events), Err(BooksError::NotNext { .. })), "twice");
        events.drain(at..at + 2);
        prop_assert!(matches!(carried(&shops[0], &events), Err(BooksError::NotNext { .. })), "left out");
    }

    #[test]
    fn books_survive_their_bytes_and_any_changed_or_lost_byte_is_noticed(
        acts in acts(),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let shops = shops(&acts);
        let shop = shops.last().unwrap();
        let heading = heading(shop);
        let written = write(&heading, shop);
        let mut entries = BTreeMap::new();
        let read = bytes::read(&written[..], |entry| { entries.insert(entry.id.0, entry); }).unwrap();
        prop_assert_eq!(&read, &(heading, shop.sums()));
        prop_assert_eq!(&entries, &shop.orders);

        let mut changed = written.clone();
        changed[at.index(written.len())] ^= 1_u8 << bit;
        prop_assert!(bytes::read(&changed[..], |_| {}).is_err(), "a changed bit");
        prop_assert!(bytes::read(&written[..at.index(written.len())], |_| {}).is_err(), "cut off");
        let longer = [&written[..], &[0]].concat();
        prop_assert!(bytes::read(&longer[..], |_| {}).is_err(), "longer");
    }
}

fn heading(shop: &Shop) -> Heading {
    let sequence = shop.events.len() as u64;
    let (index, time_ms) = shop.events.last().map_or((0, 0), |event| (event.index, event.time_ms));
    Heading { cluster: ClusterId(5), node: NodeId(2), sequence, index, time_ms }
}

fn write(heading: &Heading, shop: &Shop) -> Vec<u8> {
    let mut writer = Writer::new(heading);
    let mut written = writer.take();
    for entry in shop.orders.values() {
        writer.entry(entry);
        written.extend(writer.take());
    }
    written.extend(writer.finish(&shop.sums()));
    assert_eq!(written.len(), (2 + shop.orders.len() + shop.stock.len()) * RECORD_LEN);
    written
}

/// A product with ten units, of which reservation 1 holds two.
fn held() -> Shop {
    let mut shop = Shop::default();
    for (what, quantity) in [(0, 1), (0, 10), (2, 2)] {
        shop.act(what, 1, quantity, 1);
    }
    assert_eq!((shop.events.len(), shop.units(1, State::Held)), (3, 2));
    shop
}

#[test]
fn a_state_without_the_hold_that_an_event_ends_is_torn() {
    let mut shop = held();
    let base = shop.clone();
    shop.act(7, 1, 1, 1);
    let expired = &shop.events[3..];
    assert!(carried(&base, expired).is_ok());
    for lost in [
        Shop { orders: BTreeMap::new(), ..base.clone() },
        Shop { orders: [(1, Entry { state: State::Confirmed, ..base.orders[&1] })].into(), ..base.clone() },
        Shop { orders: [(1, Entry { user: UserId(0), ..base.orders[&1] })].into(), ..base.clone() },
    ] {
        assert!(matches!(carried(&lost, expired), Err(BooksError::Torn { .. })), "{lost:?}");
    }
}

#[test]
fn a_hold_that_ends_twice_contradicts_itself() {
    let mut shop = held();
    shop.act(6, 1, 1, 1);
    let mut again = *shop.events.last().unwrap();
    again.sequence += 1;
    shop.events.push(again);
    let refused = carried(&Shop::default(), &shop.events).unwrap_err();
    assert!(matches!(refused, BooksError::Contradicts { sequence: 5, id: ReservationId(1) }), "{refused}");
}

#[test]
fn counters_that_are_not_those_of_the_reservations_are_unbalanced() {
    for (held, stock) in [(3, 10), (1, 10), (2, 1)] {
        let mut merge = Merge::new(Changes::since(3));
        merge.product(ProductId(1), stock, held, 0);
        merge.entry(self::held().orders[&1]).unwrap();
        let refused = merge.finish(|_| {}).unwrap_err();
        assert!(matches!(refused, BooksError::Unbalanced { product: ProductId(1) }), "{held} of {stock}");
    }
}

#[test]
fn a_reservation_of_a_product_that_is_not_there_is_unbalanced() {
    let mut merge = Merge::new(Changes::since(3));
    merge.entry(held().orders[&1]).unwrap();
    assert!(matches!(merge.finish(|_| {}), Err(BooksError::Unbalanced { .. })));
}
