//! What reads return: products and reservations as the ledger had them, and a pager over all products.
//!
//! A read is as of `at`; it says nothing about what follows. Deliberately not here: the reading.

use sluice_protocol::request::Terms;
use sluice_protocol::response::{At, ProductReply, ProductView, ReservationReply, ReservationView};
use sluice_protocol::{ProductId, ReservationId, State, Status, UserId};

use crate::client::Client;
use crate::error::Error;

mod groups;

pub use groups::{DeadLetter, Group, Member, Position, StreamBounds};

/// A product, as of `at`. Of a limited one, `stock = free + held + sold`; of an unlimited one, `stock` and
/// `free` are 0 and the others count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Product {
    /// Its id.
    pub product: ProductId,
    /// All units ever put in, less those written off.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units held by reservations that are not confirmed yet.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
    /// The terms of its sale.
    pub terms: Terms,
    /// Whether stock can never be added.
    pub sealed: bool,
    /// When the first hold could end, ledger milliseconds; 0 = nothing is held.
    pub earliest_return_ms: u64,
    /// When this held.
    pub at: At,
}

impl Product {
    /// `None` if there is no such product.
    pub(crate) fn read(reply: &ProductReply) -> Option<Self> {
        if reply.answer.status() != Some(Status::Done) {
            return None;
        }
        let ProductView { product, stock, free, held, sold, terms, sealed, earliest_return_ms } =
            reply.record.into();
        let at = reply.answer.at();
        Some(Self { product, stock, free, held, sold, terms, sealed, earliest_return_ms, at })
    }
}

/// A reservation, as of `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Where it stands.
    pub state: State,
    /// What was asked for.
    pub product: ProductId,
    /// For whom.
    pub user: UserId,
    /// How many units.
    pub quantity: u32,
    /// Why it was cancelled: the shop's own code.
    pub reason: u32,
    /// The sequence number of the event that made it what it is.
    pub sequence: u64,
    /// When the hold ends, ledger milliseconds; 0 if not held.
    pub deadline_ms: u64,
    /// When it stopped being held, ledger milliseconds; 0 while held.
    pub ended_ms: u64,
    /// When this held.
    pub at: At,
}

impl Reservation {
    /// `None` if no reservation has the id.
    pub(crate) fn read(reply: &ReservationReply) -> Option<Self> {
        if reply.answer.status() != Some(Status::Done) {
            return None;
        }
        let ReservationView { id, product, user, quantity, reason, sequence, deadline_ms, ended_ms } =
            reply.record.into();
        let (state, at) = (reply.answer.state(), reply.answer.at());
        Some(Self { id, state, product, user, quantity, reason, sequence, deadline_ms, ended_ms, at })
    }
}

/// All products in the order of their ids, read a page at a time. See [`Client::products`].
#[derive(Debug)]
pub struct Products {
    client: Client,
    /// The first id of the next page; `None` after the last.
    from: Option<ProductId>,
    page: std::vec::IntoIter<Product>,
}

impl Products {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, from: Some(ProductId(0)), page: Vec::new().into_iter() }
    }

    /// The next product; `None` after the last. Each page is as of its own point of the log.
    ///
    /// # Errors
    /// As every read. After an error the next call goes on where this one stopped.
    pub async fn next(&mut self) -> Result<Option<Product>, Error> {
        loop {
            if let Some(product) = self.page.next() {
                return Ok(Some(product));
            }
            let Some(from) = self.from else { return Ok(None) };
            let page = self.client.list_products(from, Client::PAGE_MAX).await?;
            self.from = page.last().and_then(|last| last.product.0.checked_add(1)).map(ProductId);
            self.page = page.into_iter();
        }
    }

    /// All that follow.
    ///
    /// # Errors
    /// As every read.
    pub async fn all(mut self) -> Result<Vec<Product>, Error> {
        let mut products = Vec::new();
        while let Some(product) = self.next().await? {
            products.push(product);
        }
        Ok(products)
    }
}
