//! The model's half of what a shop does to its products: put, restock, write off, seal.

use sluice_core::ledger::command::{ChangeStock, Put};
use sluice_core::ledger::effect::Change;
use sluice_protocol::limits::{HOLD_MS_MAX, STOCK_MAX};
use sluice_protocol::request::Terms;
use sluice_protocol::{Answer, RefusedField, State, Status};

use super::{Kind, Model, Product};

impl Model {
    pub(super) fn put(&mut self, item: &Put) -> Answer {
        let terms = Terms {
            opens_ms: item.opens_ms,
            closes_ms: item.closes_ms,
            per_user_limit: item.per_user_limit,
            hold_ms: item.hold_ms,
            unlimited: item.unlimited,
        };
        if item.product == 0 {
            return self.invalid(RefusedField::Product, 0, 1, u64::MAX);
        }
        if item.hold_ms == 0 || item.hold_ms > HOLD_MS_MAX {
            return self.invalid(RefusedField::HoldMs, u64::from(item.hold_ms), 1, u64::from(HOLD_MS_MAX));
        }
        if item.closes_ms != 0 && item.closes_ms <= item.opens_ms {
            return self.invalid(RefusedField::ClosesMs, item.closes_ms, item.opens_ms + 1, u64::MAX);
        }
        let stock = item.stock.unwrap_or(0);
        if item.unlimited && stock > 0 {
            return self.invalid(RefusedField::Unlimited, stock, 0, 0);
        }
        if stock > STOCK_MAX {
            return self.invalid(RefusedField::Stock, stock, 0, STOCK_MAX);
        }
        if let Some(product) = self.products.get(&item.product).copied() {
            if item.stock.is_some() && item.stock != Some(product.stock_at_creation) {
                return Answer::stock_differs(self.at, product.stock_at_creation);
            }
            if item.unlimited != product.terms.unlimited {
                let only = u64::from(product.terms.unlimited);
                return self.invalid(RefusedField::Unlimited, u64::from(item.unlimited), only, only);
            }
            if terms == product.terms {
                return Answer::done(self.at, 0);
            }
            self.products.insert(item.product, Product { terms, ..product });
        } else {
            if item.stock.is_none() {
                return Answer::plain(self.at, Status::UnknownProduct);
            }
            let order = self.products.len();
            let product = Product { order, stock, stock_at_creation: stock, terms, sealed: false };
            self.products.insert(item.product, product);
            if stock > 0 {
                self.event(Change::TermsChanged, item.product, 0, 0, 0);
                let sequence = self.event_of(Change::Restocked, item.product, 0, stock, 0);
                return Answer::done(self.at, sequence);
            }
        }
        let sequence = self.event(Change::TermsChanged, item.product, 0, 0, 0);
        Answer::done(self.at, sequence)
    }

    pub(super) fn change_stock(&mut self, kind: Kind, item: &ChangeStock) -> Answer {
        let asked = (kind, item.product, 0, item.quantity);
        if let Some(answer) = self.known_or_invalid(item.id, asked) {
            return answer;
        }
        let quantity = u64::from(item.quantity);
        let Some(product) = self.products.get(&item.product).copied() else {
            return self.refuse(item.id, asked, Answer::plain(self.at, Status::UnknownProduct));
        };
        if product.terms.unlimited {
            return self.invalid(RefusedField::Unlimited, quantity, 0, 0);
        }
        let change = if kind == Kind::Restock {
            if product.sealed {
                return self.refuse(item.id, asked, Answer::plain(self.at, Status::Sealed));
            }
            if product.stock + quantity > STOCK_MAX {
                return self.invalid(RefusedField::Stock, product.stock + quantity, 0, STOCK_MAX);
            }
            self.products.get_mut(&item.product).unwrap().stock += quantity;
            self.told.credits.push((item.product, quantity as i64));
            Change::Restocked
        } else {
            while self.free(item.product) < quantity {
                let Some(id) = self.next_due(Some(item.product)) else {
                    let (free, held) = (self.free(item.product), self.units(item.product, State::Held));
                    let refusal = Answer::insufficient(self.at, free, held, self.earliest(item.product));
                    return self.refuse(item.id, asked, refusal);
                };
                self.expire(id);
            }
            self.products.get_mut(&item.product).unwrap().stock -= quantity;
            Change::WrittenOff
        };
        let sequence = self.event(change, item.product, 0, item.quantity, item.id);
        self.end(item.id, asked, State::Applied, Status::Done, sequence);
        Answer::done(self.at, sequence)
    }

    pub(super) fn seal(&mut self, id: u64) -> Answer {
        if id == 0 {
            return self.invalid(RefusedField::Product, 0, 1, u64::MAX);
        }
        let Some(product) = self.products.get_mut(&id) else {
            return Answer::plain(self.at, Status::UnknownProduct);
        };
        if std::mem::replace(&mut product.sealed, true) {
            return Answer::done(self.at, 0);
        }
        let sequence = self.event(Change::Sealed, id, 0, 0, 0);
        Answer::done(self.at, sequence)
    }
}
