//! What must be found, given what was asked and what was answered.
//!
//! Of every id it keeps the states in which it may be found: an answer leaves one, a request that has no answer yet
//! adds those that it may lead to. Together the ids must account for every unit. Deliberately not here: how it is
//! looked up (see `judge`).

use std::collections::BTreeMap;

use sluice_protocol::request::PutProductItem;
use sluice_protocol::response::{ProductView, ReservationView};
use sluice_protocol::{Answer, ProductId, ReservationId, State, Status};

use super::wire::{Asked, Said};

/// What an id was first used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Reserve { product: u64, user: u64, quantity: u32 },
    Restock { product: u64, quantity: u32 },
    WriteOff { product: u64, quantity: u32 },
}

/// A set of states in which an id may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct May(u16);

impl May {
    /// Not found at all.
    const ABSENT: Self = Self(1);

    fn be(state: State) -> Self {
        Self(1 << state as u16)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn is_certain(self) -> bool {
        self.0.count_ones() == 1
    }
}

#[derive(Clone, Debug)]
struct Order {
    what: What,
    may: May,
}

/// A product, and the hold time of its terms, which this test raises with every put.
#[derive(Clone, Debug, Default)]
struct Sale {
    stock: u64,
    /// The put that came last of those that were answered: the sequence it heard, and its hold time.
    answered: Option<(u64, u32)>,
    /// Hold times of puts that are not answered.
    puts_open: Vec<u32>,
    hold_ms_max: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    orders: BTreeMap<u128, Order>,
    sales: BTreeMap<u64, Sale>,
    /// Answers heard so far.
    pub answers: u64,
}

/// What a recovered server says it has.
#[derive(Default)]
pub struct Found {
    pub reservations: BTreeMap<u128, (State, ReservationView)>,
    pub products: BTreeMap<u64, ProductView>,
}

impl Oracle {
    pub fn hear(&mut self, said: &Said) {
        match said {
            Said::Asked(items) => items.iter().for_each(|asked| self.asked(asked)),
            Said::Answered(items) => {
                for (asked, answer) in items {
                    self.answers += 1;
                    self.answered(asked, answer);
                }
            }
        }
    }

    fn asked(&mut self, asked: &Asked) {
        match asked {
            Asked::Reserve(item) => {
                let (product, user) = (item.product().0, item.user().0);
                let what = What::Reserve { product, user, quantity: item.quantity() };
                self.open(item.id(), what, State::Held);
            }
            Asked::Restock(item) => {
                let what = What::Restock { product: item.product().0, quantity: item.quantity() };
                self.open(item.id(), what, State::Applied);
            }
            Asked::WriteOff(item) => {
                let what = What::WriteOff { product: item.product().0, quantity: item.quantity() };
                self.open(item.id(), what, State::Applied);
            }
            Asked::Confirm(item) => self.widen(item.id(), State::Confirmed),
            Asked::Cancel(item) => self.widen(item.id(), State::Cancelled),
            Asked::Resolve(item) => {
                let order = self.orders.get_mut(&item.id().0).expect("only what was asked for is resolved");
                if order.may.has(May::ABSENT) {
                    order.may = order.may.or(May::be(State::Fenced));
                }
            }
            Asked::Put(item) => {
                let sale = self.sales.entry(item.product().0).or_default();
                sale.stock = item.stock().unwrap_or(sale.stock);
                sale.hold_ms_max = sale.hold_ms_max.max(item.terms().hold_ms);
                sale.puts_open.push(item.terms().hold_ms);
            }
            Asked::Query(_) | Asked::Other => {}
        }
    }

    fn open(&mut self, id: ReservationId, what: What, to: State) {
        let order = self.orders.entry(id.0).or_insert(Order { what, may: May::ABSENT });
        assert_eq!(order.what, what, "an id is used for one thing");
        if order.may.has(May::ABSENT) {
            order.may = order.may.or(May::be(to)).or(May::be(State::Refused));
        }
    }

    fn widen(&mut self, id: ReservationId, to: State) {
        let order = self.orders.get_mut(&id.0).expect("only what was reserved is confirmed or cancelled");
        if order.may.has(May::be(State::Held)) {
            order.may = order.may.or(May::be(to));
        }
    }

    fn answered(&mut self, asked: &Asked, answer: &Answer) {
        let status = answer.status().expect("a status that this version knows");
        let (id, is_read) = match asked {
            Asked::Reserve(item) => (item.id(), false),
            Asked::Restock(item) | Asked::WriteOff(item) => (item.id(), false),
            Asked::Confirm(item) | Asked::Cancel(item) | Asked::Resolve(item) => (item.id(), false),
            Asked::Query(item) => (item.id(), true),
            Asked::Put(item) => return self.put_answered(item, answer),
            Asked::Other => return,
        };
        let order = self.orders.get_mut(&id.0).expect("what is answered was asked");
        let now = match status {
            Status::Reserved | Status::Confirmed | Status::Cancelled | Status::Already => {
                May::be(answer.state())
            }
            Status::Done if is_read => May::be(answer.state()),
            Status::Done => May::be(State::Applied),
            Status::UnknownReservation => May::ABSENT,
            // They claim nothing.
            Status::Busy | Status::NotLeader | Status::Unknown | Status::Full => order.may,
            Status::Fenced => May::be(State::Fenced),
            _ => May::ABSENT.or(May::be(State::Refused)),
        };
        assert!(order.may.has(now), "{id:?} is {answer:?}, and was {order:?}");
        order.may = now;
    }

    /// Answers come in any order; the sequences in them say which put was the last.
    fn put_answered(&mut self, item: &PutProductItem, answer: &Answer) {
        let sale = self.sales.get_mut(&item.product().0).expect("what is answered was asked");
        let hold_ms = item.terms().hold_ms;
        if let Some(at) = sale.puts_open.iter().position(|open| *open == hold_ms) {
            sale.puts_open.swap_remove(at);
        }
        if answer.status() == Some(Status::Done) {
            sale.answered = sale.answered.max(Some((answer.sequence(), hold_ms)));
        }
    }

    /// Whether an id is certainly in this state.
    pub fn says(&self, id: ReservationId, state: State) -> bool {
        self.orders.get(&id.0).is_some_and(|order| order.may == May::be(state))
    }

    /// The ids that were ever asked for.
    pub fn ids(&self) -> impl Iterator<Item = ReservationId> {
        self.orders.keys().map(|id| ReservationId(*id))
    }

    /// The ids whose outcome nobody has heard.
    pub fn open_ids(&self) -> impl Iterator<Item = ReservationId> {
        self.orders.iter().filter(|(_, order)| !order.may.is_certain()).map(|(id, _)| ReservationId(*id))
    }

    pub fn products(&self) -> impl Iterator<Item = ProductId> {
        self.sales.keys().map(|product| ProductId(*product))
    }

    /// The highest hold time that was ever put.
    pub fn hold_ms_max(&self) -> u32 {
        self.sales.values().map(|sale| sale.hold_ms_max).max().unwrap_or(0)
    }

    /// The newest ids that have one outcome for good, and which.
    pub fn settled(&self, most: usize) -> Vec<(ReservationId, What, State)> {
        let states = [State::Held, State::Confirmed, State::Cancelled, State::Applied];
        let settled = self.orders.iter().rev().filter_map(|(id, order)| {
            let state = states.into_iter().find(|state| order.may == May::be(*state))?;
            Some((ReservationId(*id), order.what, state))
        });
        settled.take(most).collect()
    }

    /// Compares. What is wrong, if anything.
    pub fn check(&self, found: &Found) -> Result<(), String> {
        for (id, order) in &self.orders {
            check_order(*id, order, found.reservations.get(id))?;
        }
        for (id, sale) in &self.sales {
            match found.products.get(id) {
                Some(view) => self.check_product(*id, sale, view, found)?,
                None if sale.answered.is_some() => {
                    return Err(format!("lost: product {id} was acknowledged"));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn check_product(&self, id: u64, sale: &Sale, view: &ProductView, found: &Found) -> Result<(), String> {
        let (mut stock, mut held, mut sold) = (sale.stock, 0, 0);
        for (order, (state, _)) in &found.reservations {
            match (self.orders[order].what, state) {
                (What::Reserve { product, quantity, .. }, State::Held) if product == id => {
                    held += u64::from(quantity);
                }
                (What::Reserve { product, quantity, .. }, State::Confirmed) if product == id => {
                    sold += u64::from(quantity);
                }
                (What::Restock { product, quantity }, State::Applied) if product == id => {
                    stock += u64::from(quantity);
                }
                (What::WriteOff { product, quantity }, State::Applied) if product == id => {
                    stock = stock.wrapping_sub(u64::from(quantity));
                }
                _ => {}
            }
        }
        if view.free + view.held + view.sold != view.stock {
            return Err(format!("wrong: product {id}: {view:?} does not add up"));
        }
        if (view.stock, view.held, view.sold) != (stock, held, sold) {
            return Err(format!(
                "wrong: product {id}: its ids say stock {stock}, held {held}, sold {sold}: {view:?}"
            ));
        }
        let hold_ms = view.terms.hold_ms;
        if sale.answered.is_none_or(|(_, last)| last != hold_ms) && !sale.puts_open.contains(&hold_ms) {
            let last = sale.answered;
            return Err(format!("lost: product {id} has terms of {hold_ms} ms; answered last was {last:?}"));
        }
        Ok(())
    }
}

fn check_order(id: u128, order: &Order, found: Option<&(State, ReservationView)>) -> Result<(), String> {
    let Some((state, view)) = found else {
        let allowed = order.may.has(May::ABSENT);
        return if allowed { Ok(()) } else { Err(format!("lost: {id:x} is unknown: {order:?}")) };
    };
    if !order.may.has(May::be(*state)) {
        return Err(format!("wrong: {id:x} is {state:?}: {order:?}"));
    }
    let as_asked = match order.what {
        What::Reserve { product, user, quantity } => (product, user, quantity),
        What::Restock { product, quantity } | What::WriteOff { product, quantity } => (product, 0, quantity),
    };
    if (view.product.0, view.user.0, view.quantity) != as_asked {
        return Err(format!("wrong: {id:x} is {view:?}: {order:?}"));
    }
    Ok(())
}
