//! What takes or changes units, each named by an id, so that sending it again cannot do it twice.
//!
//! The id's history decides how a server may treat a request: an id that was never sent before (*fresh*) may
//! be refused without a log entry; any other is decided in the log. So whoever gives an id also says which.
//! Deliberately not here: what comes of it (see [`crate::outcome`]).

use sluice_protocol::request::{ReserveItem, StockItem};
use sluice_protocol::{Kind, ProductId, ReservationId, UserId};

use crate::call::Asked;
use crate::ids::fresh_id;

/// A request to take units of a product for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an order does nothing until it is given to a client"]
pub struct Reserve {
    id: ReservationId,
    fresh: bool,
    product: ProductId,
    user: UserId,
    quantity: u32,
}

impl Reserve {
    /// Under a new id of this process.
    pub fn new(product: impl Into<ProductId>, user: impl Into<UserId>, quantity: u32) -> Self {
        Self { id: fresh_id(), fresh: true, product: product.into(), user: user.into(), quantity }
    }

    /// Under this id, which may have been sent before, by whomever. Right for an id that is kept with the order
    /// in a database: the outcome is the first one's, however often it is sent.
    pub fn id(mut self, id: ReservationId) -> Self {
        (self.id, self.fresh) = (id, false);
        self
    }

    /// Under this id, which was certainly never sent before. Refusals are cheaper to the server than with
    /// [`Reserve::id`]. If it *was* sent before, two requests under one id could hear different refusals.
    pub fn fresh_id(mut self, id: ReservationId) -> Self {
        (self.id, self.fresh) = (id, true);
        self
    }

    /// The id it is sent under.
    pub fn reservation(&self) -> ReservationId {
        self.id
    }

    /// What to take.
    pub fn product(&self) -> ProductId {
        self.product
    }

    /// For whom.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// How many units.
    pub fn quantity(&self) -> u32 {
        self.quantity
    }

    /// Its bytes for one attempt.
    pub(crate) fn item(&self, attempt: u8) -> ReserveItem {
        let mut item = ReserveItem::new(self.id, self.product, self.user, self.quantity);
        item.attempt = attempt;
        item
    }
}

/// A request to add stock, or to remove free stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a change does nothing until it is given to a client"]
pub struct StockChange {
    id: ReservationId,
    fresh: bool,
    product: ProductId,
    quantity: u32,
}

impl StockChange {
    /// Under a new id of this process.
    pub fn new(product: impl Into<ProductId>, quantity: u32) -> Self {
        Self { id: fresh_id(), fresh: true, product: product.into(), quantity }
    }

    /// Under this id, which may have been sent before: see [`Reserve::id`].
    pub fn id(mut self, id: ReservationId) -> Self {
        (self.id, self.fresh) = (id, false);
        self
    }

    /// Under this id, which was certainly never sent before: see [`Reserve::fresh_id`].
    pub fn fresh_id(mut self, id: ReservationId) -> Self {
        (self.id, self.fresh) = (id, true);
        self
    }

    /// The id it is sent under.
    pub fn change(&self) -> ReservationId {
        self.id
    }

    /// Which product.
    pub fn product(&self) -> ProductId {
        self.product
    }

    /// How many units.
    pub fn quantity(&self) -> u32 {
        self.quantity
    }
}

/// What the client needs to know of anything that is named by an id, to bring it to an end.
pub(crate) trait Order {
    fn id(&self) -> ReservationId;

    /// Whether the id was never sent before the first attempt of this call.
    fn is_fresh(&self) -> bool;

    fn kind(&self) -> Kind;

    fn asked(&self, attempt: u8) -> Asked;
}

impl Order for Reserve {
    fn id(&self) -> ReservationId {
        self.id
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn kind(&self) -> Kind {
        Kind::Reserve
    }

    fn asked(&self, attempt: u8) -> Asked {
        Asked::Reserve(self.item(attempt))
    }
}

/// A change of stock in one direction.
pub(crate) struct Directed {
    pub(crate) kind: Kind,
    pub(crate) change: StockChange,
}

impl Order for Directed {
    fn id(&self) -> ReservationId {
        self.change.id
    }

    fn is_fresh(&self) -> bool {
        self.change.fresh
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn asked(&self, attempt: u8) -> Asked {
        let mut item = StockItem::new(self.change.id, self.change.product, self.change.quantity);
        item.attempt = attempt;
        Asked::Stock(item)
    }
}
