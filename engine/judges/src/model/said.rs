//! What may be said of the state at an index, and what of the log.

use sluice_protocol::request::{ListItem, ReserveItem};
use sluice_protocol::response::{At, ProductReply, ProductView, RefusedField, ReservationReply};
use sluice_protocol::{Answer, Status, limits};

use super::timeline::{Said, Timeline};
use crate::history::{Ask, Reply};

impl Timeline {
    /// Whether a reply is what had to be said at the index that it names.
    ///
    /// # Errors
    /// A sentence, if it is not.
    pub fn judge(&self, ask: &Ask, reply: &Reply) -> Result<Said, String> {
        if let Reply::Page(page) = reply
            && page.first().is_none_or(|first| first.answer.status() == Some(Status::Done))
        {
            return self.judge_page(ask, page);
        }
        let answer = reply.answer().ok_or("a reply without an answer")?;
        if reply.claims_nothing() {
            return if answer.at() == At::default() {
                Ok(Said::Nothing)
            } else {
                Err(format!("{answer:?} claims nothing, and yet names an index"))
            };
        }
        self.dated(&answer)?;
        if self.is_in_the_log(ask, &answer) {
            return Ok(Said::InTheLog);
        }
        match (ask, reply) {
            (Ask::Reserve(item), Reply::Plain(_)) => self.refused(item, &answer)?,
            (Ask::QueryReservation(item), Reply::Reservation(reply)) => {
                self.expect(reply, &self.reservation_reply(item.id().0, answer.at()))?;
            }
            (Ask::QueryProduct(item), Reply::Product(reply)) => {
                self.expect(reply, &self.product_reply(item.product().0, answer.at()))?;
            }
            (Ask::List(item), _) if !is_allowed(item) => {
                self.expect(&answer, &wrong_limit(item, answer.at()))?;
            }
            _ => return Err(self.not_in_the_log(ask, &answer)),
        }
        Ok(Said::FromState)
    }

    /// Whether an answer's index is one that was committed, and its time that index's.
    fn dated(&self, answer: &Answer) -> Result<(), String> {
        let at = answer.at();
        if at.index > self.top() {
            return Err(format!(
                "{answer:?} rests on an index that nobody has applied: {} is the last",
                self.top()
            ));
        }
        if self.at(at.index) != at {
            return Err(format!("{answer:?} has the wrong time: {}", self.at(at.index).time_ms));
        }
        Ok(())
    }

    fn is_in_the_log(&self, ask: &Ask, answer: &Answer) -> bool {
        let (Some(command), Some(step)) = (ask.command(), self.step(answer.at().index)) else { return false };
        step.answers.iter().any(|(other, expected)| *other == command && expected == answer)
    }

    fn not_in_the_log(&self, ask: &Ask, answer: &Answer) -> String {
        let step = self.step(answer.at().index);
        let found: Vec<_> = step
            .iter()
            .flat_map(|step| &step.answers)
            .filter(|(command, _)| Some(*command) == ask.command())
            .map(|(_, answer)| answer)
            .collect();
        format!("{answer:?} to {ask:?}, but the entry at its index has to answer {found:?}")
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&self, got: &T, right: &T) -> Result<(), String> {
        if got == right { Ok(()) } else { Err(format!("{got:?}, and should have been {right:?}")) }
    }

    fn reservation_reply(&self, id: u128, at: At) -> ReservationReply {
        match self.record(id, at.index) {
            None => (Answer::plain(at, Status::UnknownReservation), None).into(),
            Some(record) => {
                let (state, view) = record.view(id, at.time_ms);
                (Answer::found(at, state), Some(view)).into()
            }
        }
    }

    fn product_reply(&self, product: u64, at: At) -> ProductReply {
        match self.product(product, at.index) {
            None => (Answer::plain(at, Status::UnknownProduct), None).into(),
            Some(view) => (Answer::done(at, 0), Some(*view)).into(),
        }
    }

    /// An empty page names no index, so nothing is known of it here.
    fn judge_page(&self, ask: &Ask, page: &[ProductReply]) -> Result<Said, String> {
        let Ask::List(item) = ask else { return Err(format!("a page in answer to {ask:?}")) };
        if !is_allowed(item) {
            return Err(format!("a page in answer to {ask:?}"));
        }
        let Some(first) = page.first() else { return Ok(Said::FromState) };
        self.dated(&first.answer)?;
        let at = first.answer.at();
        let right = self.products_from(item.from().0, at.index).take(item.limit() as usize);
        let right: Vec<_> =
            right.map(|view| ProductReply::from((Answer::done(at, 0), Some(*view)))).collect();
        self.expect(&page, &right.as_slice())?;
        Ok(Said::FromState)
    }

    /// Whether a reserve that is not in the log was refused for a reason that was true.
    fn refused(&self, item: &ReserveItem, answer: &Answer) -> Result<(), String> {
        let at = answer.at();
        if answer.status() == Some(Status::Invalid) {
            let high = u64::from(limits::QUANTITY_MAX);
            let quantity = u64::from(item.quantity());
            let right = match (item.id().0, item.product().0) {
                (0, _) => Answer::invalid(at, RefusedField::Reservation, 0, 1, u64::MAX),
                (_, 0) => Answer::invalid(at, RefusedField::Product, 0, 1, u64::MAX),
                _ => Answer::invalid(at, RefusedField::Quantity, quantity, 1, high),
            };
            let is_wrong = right.status() == Some(Status::Invalid)
                && (item.id().0 == 0 || item.product().0 == 0 || quantity == 0 || quantity > high);
            return if is_wrong && *answer == right {
                Ok(())
            } else {
                Err(format!("{answer:?} to {item:?}"))
            };
        }
        if item.attempt != 0 {
            return Err(self.not_in_the_log(&Ask::Reserve(*item), answer));
        }
        if let Some(record) = self.record(item.id().0, at.index) {
            return Err(format!("{answer:?} to an id that had an outcome at that index: {record:?}"));
        }
        let product = self.product(item.product().0, at.index);
        let has = self.units(item.product().0, item.user().0, at.index);
        match answer.status().and_then(|status| refusal(item, status, at, product, has)) {
            Some(right) => self.expect(answer, &right),
            None => Err(format!(
                "{answer:?} to {item:?}, whose user has {has}, was not true at its index: {product:?}"
            )),
        }
    }
}

/// The refusal of this status, with its numbers, if it is true of a product and of what the user has of it.
pub(crate) fn refusal(
    item: &ReserveItem,
    status: Status,
    at: At,
    product: Option<&ProductView>,
    has: u64,
) -> Option<Answer> {
    let Some(product) = product else {
        return (status == Status::UnknownProduct).then(|| Answer::plain(at, status));
    };
    let terms = product.terms;
    // What is due and not swept counts as free: nobody may be refused because of it.
    let settled = product.earliest_return_ms == 0 || product.earliest_return_ms > at.time_ms;
    let units = u64::from(item.quantity());
    let short = settled && !terms.unlimited && product.free < units;
    let is_gone = product.sealed && product.free + product.held == 0;
    match status {
        Status::NotOpen if at.time_ms < terms.opens_ms => Some(Answer::not_open(at, terms.opens_ms)),
        Status::Closed if terms.closes_ms != 0 && at.time_ms >= terms.closes_ms => {
            Some(Answer::closed(at, terms.closes_ms))
        }
        Status::LimitReached if settled && terms.per_user_limit != 0 => {
            let reached = has + units > u64::from(terms.per_user_limit);
            reached.then(|| Answer::limit_reached(at, terms.per_user_limit, has))
        }
        Status::SoldOut if short && is_gone => Some(Answer::sold_out(at)),
        Status::Insufficient if short && !is_gone => {
            Some(Answer::insufficient(at, product.free, product.held, product.earliest_return_ms))
        }
        _ => None,
    }
}

fn is_allowed(item: &ListItem) -> bool {
    (1..=limits::ITEMS_MAX).contains(&(item.limit() as usize))
}

fn wrong_limit(item: &ListItem, at: At) -> Answer {
    Answer::invalid(at, RefusedField::Limit, u64::from(item.limit()), 1, limits::ITEMS_MAX as u64)
}
