//! What a comparison finds, and its sums.

use std::collections::BTreeMap;
use std::fmt;

use sluice_client::books::Entry;
use sluice_client::{ProductId, ReservationId, State};
use sluice_protocol::event::LANES;

use crate::books::{Missing, Undone};
use crate::orders::{Order, OrderState};

/// One order that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The table lacks it.
    Missing(Entry),
    /// The server does not have it.
    Extra(Order),
    /// Both have it, and not alike.
    Differs(Entry, Vec<Difference>),
}

/// A column that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub field: &'static str,
    /// What the server has.
    pub ours: String,
    /// What the table has.
    pub theirs: String,
}

impl Finding {
    /// Of which reservation.
    pub fn reservation(&self) -> ReservationId {
        match self {
            Self::Missing(entry) | Self::Differs(entry, _) => entry.id,
            Self::Extra(order) => order.reservation,
        }
    }

    /// What it is called: `missing`, `extra` or `differs`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Extra(_) => "extra",
            Self::Differs(..) => "differs",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {}", self.name(), self.reservation())?;
        match self {
            Self::Missing(entry) => {
                let state = state_of(entry);
                write!(
                    f,
                    "  {} of product {} for user {}, {state}",
                    entry.quantity, entry.product, entry.user
                )
            }
            Self::Extra(order) => {
                let Order { product, user, quantity, state, .. } = order;
                write!(f, "  {quantity} of product {product} for user {user}, {state}")
            }
            Self::Differs(_, differences) => {
                for (at, Difference { field, ours, theirs }) in differences.iter().enumerate() {
                    let before = if at == 0 { "  " } else { "; " };
                    write!(f, "{before}{field}: {ours} / {theirs}")?;
                }
                Ok(())
            }
        }
    }
}

/// A reservation's state as the table names it.
pub(super) fn state_of(entry: &Entry) -> OrderState {
    match entry.state {
        State::Held => OrderState::Held,
        State::Confirmed => OrderState::Sold,
        State::Cancelled => OrderState::Cancelled,
        _ => OrderState::Expired,
    }
}

/// A product's units on both sides, of the orders that were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProductReport {
    /// Held units: of the server.
    pub held: u128,
    /// Sold units: of the server.
    pub sold: u128,
    /// Held units: in the table.
    pub held_there: u128,
    /// Sold units: in the table.
    pub sold_there: u128,
}

impl ProductReport {
    /// Whether both sides are the same.
    pub fn is_equal(&self) -> bool {
        (self.held, self.sold) == (self.held_there, self.sold_there)
    }
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Orders that are the same.
    pub equal: u64,
    /// Orders that the table lacks.
    pub missing: u64,
    /// Orders that the server does not have.
    pub extra: u64,
    /// Orders that are not alike.
    pub differing: u64,
    /// Cancelled and expired rows that the server has forgotten: they have no units there, and nothing more can be said.
    pub forgotten: u64,
    /// Reservations that ended or stand since before the hand-off began, and that it was never given.
    pub before: u64,
    /// Units by product.
    pub products: BTreeMap<ProductId, ProductReport>,
    /// Where each lane of the table was.
    pub cursors: [u64; LANES as usize],
    /// Events that were passed over and have not taken effect there: their orders are among those that differ.
    pub undone: Vec<Undone>,
    /// Events that were never handed over: likewise.
    pub gaps: Vec<Missing>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            equal: 0,
            missing: 0,
            extra: 0,
            differing: 0,
            forgotten: 0,
            before: 0,
            products: BTreeMap::new(),
            cursors: [0; LANES as usize],
            undone: Vec::new(),
            gaps: Vec::new(),
        }
    }
}

impl Report {
    /// Whether every order is the same, and every product's units with them.
    pub fn is_equal(&self) -> bool {
        (self.missing, self.extra, self.differing) == (0, 0, 0)
            && self.products.values().all(ProductReport::is_equal)
    }
}
