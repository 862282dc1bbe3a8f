//! Put, restock, write off, seal.

use sluice_core::ledger::command::{ChangeStock, Put};
use sluice_core::ledger::settings::SWEEP_RETRY_MS;
use sluice_protocol::event::EventKind;
use sluice_protocol::request::Terms;
use sluice_protocol::response::RefusedField;
use sluice_protocol::{Answer, State as Standing, Status, limits};

use super::state::{Kind, Product, Record};
use super::turn::{Swept, Turn};

/// Of changes of terms.
const NOBODY: (u128, u64) = (0, 0);

impl Turn<'_> {
    /// Creates a product or changes its terms.
    pub fn put(&mut self, put: &Put) -> Answer {
        if let Some(answer) = self.wrong_terms(put) {
            return answer;
        }
        let terms = Terms {
            opens_ms: put.opens_ms,
            closes_ms: put.closes_ms,
            per_user_limit: put.per_user_limit,
            hold_ms: put.hold_ms,
            unlimited: put.unlimited,
        };
        let Some(product) = self.state.products.get_mut(&put.product) else {
            let Some(stock) = put.stock else { return Answer::plain(self.at, Status::UnknownProduct) };
            let place = self.state.products.len();
            let product =
                Product { created_with: stock, stock, held: 0, sold: 0, terms, sealed: false, place };
            self.state.products.insert(put.product, product);
            self.changed.products.insert(put.product);
            let mut sequence = self.event(EventKind::TermsChanged, put.product, NOBODY, (0, 0));
            if stock != 0 {
                sequence = self.event(EventKind::Restocked, put.product, NOBODY, (stock, 0));
            }
            return Answer::done(self.at, sequence);
        };
        if put.stock.is_some_and(|stock| stock != product.created_with) {
            return Answer::stock_differs(self.at, product.created_with);
        }
        if product.terms.unlimited != put.unlimited {
            let (wanted, is) = (u64::from(put.unlimited), u64::from(product.terms.unlimited));
            return Answer::invalid(self.at, RefusedField::Unlimited, wanted, is, is);
        }
        if product.terms == terms {
            return Answer::done(self.at, 0);
        }
        product.terms = terms;
        self.changed.products.insert(put.product);
        let sequence = self.event(EventKind::TermsChanged, put.product, NOBODY, (0, 0));
        Answer::done(self.at, sequence)
    }

    /// What is wrong with a put, whatever the state.
    fn wrong_terms(&self, put: &Put) -> Option<Answer> {
        if let Some(answer) = self.malformed(1, put.product, 1) {
            return Some(answer);
        }
        let wrong = |field, value, low, high| Some(Answer::invalid(self.at, field, value, low, high));
        let hold_ms = u64::from(put.hold_ms);
        let hold_ms_max = u64::from(limits::HOLD_MS_MAX);
        if hold_ms == 0 || hold_ms > hold_ms_max {
            return wrong(RefusedField::HoldMs, hold_ms, 1, hold_ms_max);
        }
        if put.closes_ms != 0 && put.closes_ms <= put.opens_ms {
            return wrong(RefusedField::ClosesMs, put.closes_ms, put.opens_ms.saturating_add(1), u64::MAX);
        }
        match put.stock {
            Some(stock) if put.unlimited && stock != 0 => wrong(RefusedField::Unlimited, stock, 0, 0),
            Some(stock) if stock > limits::STOCK_MAX => {
                wrong(RefusedField::Stock, stock, 0, limits::STOCK_MAX)
            }
            _ => None,
        }
    }

    /// What comes before any change of stock: the answer that settles it, or the product and a record to be filled.
    fn change(&mut self, kind: Kind, item: &ChangeStock) -> Result<(Product, Record), Answer> {
        if let Some(answer) = self.malformed(item.id, item.product, item.quantity) {
            return Err(answer);
        }
        if self.state.records.contains_key(&item.id) {
            return Err(self.outcome_of(item.id, kind, (item.product, 0, item.quantity)));
        }
        if !self.has_room(false) {
            return Err(self.full());
        }
        let record = self.record(kind, item.product, 0, item.quantity);
        let Some(product) = self.state.products.get(&item.product).copied() else {
            let answer = Answer::plain(self.at, Status::UnknownProduct);
            return Err(self.refuse(item.id, record, answer));
        };
        if product.terms.unlimited {
            let units = u64::from(item.quantity);
            return Err(Answer::invalid(self.at, RefusedField::Unlimited, units, 0, 0));
        }
        Ok((product, record))
    }

    fn apply_change(&mut self, id: u128, mut record: Record, stock: u64) -> Answer {
        let product = record.product;
        record.state = Standing::Applied;
        let kind = if record.kind == Kind::Restock { EventKind::Restocked } else { EventKind::WrittenOff };
        record.sequence = self.event(kind, product, (id, 0), (u64::from(record.quantity), 0));
        self.state.products.get_mut(&product).expect("it was just seen").stock = stock;
        self.changed.products.insert(product);
        self.remember(id, record);
        Answer::done(self.at, record.sequence)
    }

    /// Adds stock.
    pub fn restock(&mut self, item: &ChangeStock) -> Answer {
        let (product, record) = match self.change(Kind::Restock, item) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if product.sealed {
            let answer = Answer::plain(self.at, Status::Sealed);
            return self.refuse(item.id, record, answer);
        }
        let stock = product.stock + u64::from(item.quantity);
        if stock > limits::STOCK_MAX {
            return Answer::invalid(self.at, RefusedField::Stock, stock, 0, limits::STOCK_MAX);
        }
        self.apply_change(item.id, record, stock)
    }

    /// Removes free stock.
    pub fn write_off(&mut self, item: &ChangeStock) -> Answer {
        let (_, record) = match self.change(Kind::WriteOff, item) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let units = u64::from(item.quantity);
        match self.sweep(item.product, |turn| turn.state.products[&item.product].suffices(units)) {
            Swept::Enough => {
                let stock = self.state.products[&item.product].stock - units;
                self.apply_change(item.id, record, stock)
            }
            Swept::TooLittle => {
                let found = self.state.products[&item.product];
                let earliest_ms = self.state.earliest_ms(item.product);
                let answer = Answer::insufficient(self.at, found.free(), found.held, earliest_ms);
                self.refuse(item.id, record, answer)
            }
            Swept::Exhausted => Answer::busy(SWEEP_RETRY_MS),
        }
    }

    /// Promises that stock will never be added.
    pub fn seal(&mut self, product: u64) -> Answer {
        if let Some(answer) = self.malformed(1, product, 1) {
            return answer;
        }
        let Some(found) = self.state.products.get_mut(&product) else {
            return Answer::plain(self.at, Status::UnknownProduct);
        };
        if found.sealed {
            return Answer::done(self.at, 0);
        }
        found.sealed = true;
        self.changed.products.insert(product);
        let sequence = self.event(EventKind::Sealed, product, NOBODY, (0, 0));
        Answer::done(self.at, sequence)
    }
}
