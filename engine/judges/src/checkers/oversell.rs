//! Invariant 2: never one too many, whatever the log holds. Looked at from three sides that do not trust each other: the
//! counters of a ledger, its reservations one by one, and what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::Ledger;
use sluice_protocol::response::ProductView;
use sluice_protocol::{ProductId, State, Status};

use super::Violation;
use super::setup::violation;
use crate::history::{Ask, Call, Reply, reserves};

/// What clients know of a product.
#[derive(Debug, Default)]
struct Known {
    /// The most that it may have had.
    stock_max: u64,
    /// Units of reservations of which somebody heard that they are sold.
    sold: u64,
    /// Nobody can say how much that would be too many.
    boundless: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oversell {
    /// Products and reservations looked at.
    pub checks: u64,
}

impl Oversell {
    /// A product as a node's ledger shows it behind an entry.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn look(&mut self, node: u64, index: u64, view: &ProductView) -> Result<(), Violation> {
        self.checks += 1;
        let taken = view.held.checked_add(view.sold);
        if view.terms.unlimited || taken.is_some_and(|taken| taken <= view.stock) {
            return Ok(());
        }
        violation!("oversell", "node {node}, index {index}: more is held and sold than there is: {view:?}")
    }

    /// Counts the reservations of a ledger one by one.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn recount(&mut self, node: u64, ledger: &Ledger) -> Result<(), Violation> {
        let mut ids = Vec::new();
        ledger.each_known(|id| ids.push(id));
        let mut counted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (state, view) in ids.into_iter().filter_map(|id| ledger.reservation(id)) {
            self.checks += 1;
            let (held, sold) = counted.entry(view.product.0).or_default();
            match state {
                State::Held => *held += u64::from(view.quantity),
                State::Confirmed => *sold += u64::from(view.quantity),
                _ => {}
            }
        }
        for view in ledger.products_from(ProductId(0)) {
            let (held, sold) = counted.remove(&view.product.0).unwrap_or_default();
            // What is due and not swept still counts as held.
            if sold != view.sold || held > view.held {
                return violation!(
                    "oversell",
                    "node {node}, index {}: reservations hold {held} and bought {sold} of {view:?}",
                    ledger.index()
                );
            }
        }
        Ok(())
    }

    /// Counts what clients were told is sold against what they can have put in.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn told(&mut self, calls: &[Call]) -> Result<(), Violation> {
        let bought = bought(calls);
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        let mut counted = BTreeSet::new();
        for call in calls {
            let status = call.heard.as_ref().and_then(|(_, reply)| reply.answer()).and_then(|a| a.status());
            match &call.ask {
                Ask::Put(item) => {
                    let product = known.entry(item.product().0).or_default();
                    product.stock_max = product.stock_max.max(item.stock().unwrap_or(0));
                    product.boundless |= item.terms().unlimited;
                }
                // One that was refused added nothing; any other may have, with whichever payload counted.
                Ask::Restock(item)
                    if !is_refusal(status)
                        && counted.insert((item.id(), item.product(), item.quantity())) =>
                {
                    known.entry(item.product().0).or_default().stock_max += u64::from(item.quantity());
                }
                _ => {}
            }
        }
        let items = reserves(calls);
        for item in bought.iter().filter_map(|id| items.get(id)) {
            known.entry(item.product().0).or_default().sold += u64::from(item.quantity());
        }
        for (product, known) in known {
            self.checks += 1;
            if !known.boundless && known.sold > known.stock_max {
                return violation!(
                    "oversell",
                    "clients heard of {} units of product {product} sold, and put in {} at most",
                    known.sold,
                    known.stock_max
                );
            }
        }
        Ok(())
    }
}

fn is_refusal(status: Option<Status>) -> bool {
    status.is_some_and(|status| (16..48).contains(&(status as u8)))
}

/// Ids of which somebody heard that they are confirmed.
fn bought(calls: &[Call]) -> BTreeSet<u128> {
    let confirmed = calls.iter().filter(|call| {
        let Some((_, reply)) = &call.heard else { return false };
        match reply {
            Reply::Plain(answer) => answer.state() == State::Confirmed,
            Reply::Reservation(reply) => reply.answer.state() == State::Confirmed,
            _ => false,
        }
    });
    confirmed.filter_map(|call| call.ask.id()).collect()
}
