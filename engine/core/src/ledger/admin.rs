//! Put, restock, write off, seal: what a shop does to its products.
//!
//! A put names its product, so it is idempotent by itself; a change of stock names an id, like a reservation,
//! so that a retry cannot count twice.
//!
//! Deliberately not here: counters (`product`), ids that have an outcome (`reservation`).

use sluice_protocol::limits::{HOLD_MS_MAX, STOCK_MAX};
use sluice_protocol::request::Terms;
use sluice_protocol::{Answer, ProductId, RefusedField, ReservationId, State, Status, UserId};

use super::command::{ArchivedChangeStock, ArchivedPut};
use super::effect::{Change, Effects};
use super::expiry::Due;
use super::product::Product;
use super::records::{Kind, Payload, Record};
use super::settings::{PRODUCTS_MAX, SWEEP_RETRY_MS};
use super::turn::Turn;
use crate::fault::{self, Mutant};

/// Events of products involve no user.
const NOBODY: UserId = UserId(0);

/// Events of puts and seals have no id.
const NO_ID: ReservationId = ReservationId(0);

impl<E: Effects> Turn<'_, E> {
    pub(super) fn put(&mut self, put: &ArchivedPut) -> Answer {
        let id = put.product.to_native();
        let stock = put.stock.as_ref().map(|stock| stock.to_native());
        let terms = Terms {
            opens_ms: put.opens_ms.to_native(),
            closes_ms: put.closes_ms.to_native(),
            per_user_limit: put.per_user_limit.to_native(),
            hold_ms: put.hold_ms.to_native(),
            unlimited: put.unlimited,
        };
        if id == 0 {
            return self.invalid_product();
        }
        if let Some((field, value, low, high)) = out_of_range(stock.unwrap_or(0), &terms) {
            return Answer::invalid(self.at, field, value, low, high);
        }
        match (self.ledger.products.find(id), stock) {
            (Some(slot), stock) => self.change_terms(slot, stock, terms),
            (None, Some(stock)) => self.create(id, stock, terms),
            (None, None) => Answer::plain(self.at, Status::UnknownProduct),
        }
    }

    fn create(&mut self, id: u64, stock: u64, terms: Terms) -> Answer {
        if self.ledger.products.len() as usize == PRODUCTS_MAX {
            return self.full();
        }
        let product = Product::new(id, stock, terms);
        let slot = self.ledger.products.insert(product);
        self.ledger.agenda.add_windows(slot, self.ledger.products.get(slot));
        let mut sequence = self.event(Change::TermsChanged, ProductId(id), NOBODY, 0, NO_ID);
        if stock > 0 {
            sequence = self.event(Change::Restocked, ProductId(id), NOBODY, stock, NO_ID);
        }
        Answer::done(self.at, sequence)
    }

    fn change_terms(&mut self, slot: u32, stock: Option<u64>, terms: Terms) -> Answer {
        let product = self.ledger.products.get(slot);
        if stock.is_some_and(|stock| stock != product.stock_at_creation) {
            return Answer::stock_differs(self.at, product.stock_at_creation);
        }
        let was = product.terms();
        if terms.unlimited != was.unlimited {
            let (asked, only) = (u64::from(terms.unlimited), u64::from(was.unlimited));
            return Answer::invalid(self.at, RefusedField::Unlimited, asked, only, only);
        }
        if terms == was {
            return Answer::done(self.at, 0);
        }
        if !product.holds.has_room_for(terms.hold_ms) {
            return self.full();
        }
        self.ledger.agenda.remove_windows(slot, product);
        let product = self.ledger.products.get_mut(slot);
        product.set_terms(terms);
        self.ledger.agenda.add_windows(slot, product);
        let id = ProductId(product.id);
        let sequence = self.event(Change::TermsChanged, id, NOBODY, 0, NO_ID);
        Answer::done(self.at, sequence)
    }

    pub(super) fn restock(&mut self, item: &ArchivedChangeStock) -> Answer {
        let ask = payload(Kind::Restock, item);
        let slot = match self.product_to_change(&ask) {
            Ok(slot) => slot,
            Err(answer) => return answer,
        };
        let product = self.ledger.products.get(slot);
        if product.sealed {
            return self.refuse(&ask, Answer::plain(self.at, Status::Sealed));
        }
        let stock = product.stock() + u64::from(ask.quantity);
        if stock > STOCK_MAX {
            return Answer::invalid(self.at, RefusedField::Stock, stock, 0, STOCK_MAX);
        }
        self.ledger.products.get_mut(slot).restock(ask.quantity);
        self.effects.credit(ProductId(ask.product), i64::from(ask.quantity));
        self.stock_changed(&ask, slot, Change::Restocked)
    }

    pub(super) fn write_off(&mut self, item: &ArchivedChangeStock) -> Answer {
        let ask = payload(Kind::WriteOff, item);
        let slot = match self.product_to_change(&ask) {
            Ok(slot) => slot,
            Err(answer) => return answer,
        };
        match self.make_free(slot, ask.quantity, &mut 0) {
            Ok(()) => {}
            Err(Due::TooMany) => return Answer::busy(SWEEP_RETRY_MS),
            Err(_) => {
                let product = self.ledger.products.get(slot);
                let (free, held, due_ms) = (product.free(), product.held(), product.holds.due_ms());
                return self.refuse(&ask, Answer::insufficient(self.at, free, held, due_ms));
            }
        }
        self.ledger.products.get_mut(slot).write_off(ask.quantity);
        self.stock_changed(&ask, slot, Change::WrittenOff)
    }

    pub(super) fn seal(&mut self, id: u64) -> Answer {
        if id == 0 {
            return self.invalid_product();
        }
        let Some(slot) = self.ledger.products.find(id) else {
            return Answer::plain(self.at, Status::UnknownProduct);
        };
        if self.ledger.products.get(slot).sealed {
            return Answer::done(self.at, 0);
        }
        self.ledger.products.get_mut(slot).sealed = true;
        let sequence = self.event(Change::Sealed, ProductId(id), NOBODY, 0, NO_ID);
        Answer::done(self.at, sequence)
    }

    /// The product whose stock may be changed under an id that was not used, or the answer that says no.
    fn product_to_change(&mut self, ask: &Payload) -> Result<u32, Answer> {
        if let Some(answer) = self.before_deciding(ask) {
            return Err(answer);
        }
        let Some(slot) = self.ledger.products.find(ask.product) else {
            return Err(self.refuse(ask, Answer::plain(self.at, Status::UnknownProduct)));
        };
        if self.ledger.products.get(slot).is_unlimited() {
            let quantity = u64::from(ask.quantity);
            return Err(Answer::invalid(self.at, RefusedField::Unlimited, quantity, 0, 0));
        }
        Ok(slot)
    }

    /// Tells and remembers a change of stock that was made.
    fn stock_changed(&mut self, ask: &Payload, slot: u32, change: Change) -> Answer {
        let (product, id) = (ProductId(ask.product), ReservationId(ask.id));
        let sequence = self.event(change, product, NOBODY, u64::from(ask.quantity), id);
        if !fault::is_on(Mutant::RestockForgotten) {
            self.remember_ended(Record::new(ask, State::Applied, slot, sequence, self.at.time_ms));
        }
        Answer::done(self.at, sequence)
    }
}

fn payload(kind: Kind, item: &ArchivedChangeStock) -> Payload {
    Payload {
        kind,
        id: item.id.to_native(),
        product: item.product.to_native(),
        user: 0,
        quantity: item.quantity.to_native(),
    }
}

/// The first field of a put that is out of its range: which, its value, lowest and highest allowed.
pub(super) fn out_of_range(stock: u64, terms: &Terms) -> Option<(RefusedField, u64, u64, u64)> {
    let hold_ms = u64::from(terms.hold_ms);
    if hold_ms == 0 || terms.hold_ms > HOLD_MS_MAX {
        return Some((RefusedField::HoldMs, hold_ms, 1, u64::from(HOLD_MS_MAX)));
    }
    if terms.closes_ms != 0 && terms.closes_ms <= terms.opens_ms {
        return Some((RefusedField::ClosesMs, terms.closes_ms, terms.opens_ms.saturating_add(1), u64::MAX));
    }
    if terms.unlimited && stock != 0 {
        return Some((RefusedField::Unlimited, stock, 0, 0));
    }
    (stock > STOCK_MAX).then_some((RefusedField::Stock, stock, 0, STOCK_MAX))
}
