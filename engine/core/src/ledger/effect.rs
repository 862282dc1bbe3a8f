//! What applying an entry gives back to whoever watches: answers, events, credits, and what the lock-free
//! filters should know.
//!
//! A replica that leads uses all of it, a follower hardly any, a test all of it again: so it is a trait, and
//! what nobody wants costs nothing.

use sluice_protocol::event::{EventKind, EventRecord, EventView};
use sluice_protocol::{Answer, ProductId, ReservationId, UserId};

/// Receives the effects of one entry, in the order of its commands.
pub trait Effects {
    /// The answer to the next command. Exactly one for each item of each group.
    fn answer(&mut self, answer: Answer);

    /// A committed change of stock or terms. Sequences are dense over the life of the cluster, starting at 1.
    fn event(&mut self, event: Event);

    /// Units of a product became available (positive) or stopped being so (negative) for any reason other than
    /// a reserve or a write-off command that was just answered with `Reserved` or `Done`.
    fn credit(&mut self, product: ProductId, units: i64);

    /// The user began (`true`) or ceased (`false`) to have units of the product.
    fn buyer(&mut self, product: ProductId, user: UserId, has: bool);

    /// The ledger began (`true`) or ceased (`false`) to remember an outcome for the id.
    fn known(&mut self, id: ReservationId, is: bool);

    /// [`Effects::buyer`] may soon be told of these. Means nothing: whoever keeps a large table may fetch its line.
    fn soon_buyer(&mut self, _: ProductId, _: UserId) {}

    /// The same of [`Effects::known`].
    fn soon_known(&mut self, _: ReservationId) {}
}

/// Watches nothing: replay, followers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore;

impl Effects for Ignore {
    fn answer(&mut self, _: Answer) {}
    fn event(&mut self, _: Event) {}
    fn credit(&mut self, _: ProductId, _: i64) {}
    fn buyer(&mut self, _: ProductId, _: UserId, _: bool) {}
    fn known(&mut self, _: ReservationId, _: bool) {}
}

/// A committed change, as order systems will see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Dense: 1, 2, 3, … over the life of the cluster.
    pub sequence: u64,
    /// The log index that made it.
    pub index: u64,
    /// Ledger time, milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub change: Change,
    /// Which product.
    pub product: ProductId,
    /// Which user; 0 where none is involved.
    pub user: UserId,
    /// How many units; 0 for changes of terms.
    pub quantity: u64,
    /// Which reservation, restock or write-off; 0 for puts and seals.
    pub id: ReservationId,
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// free → held.
    Reserved {
        /// When the hold ends, ledger milliseconds.
        deadline_ms: u64,
    },
    /// held → sold; after an expiry free → sold.
    Confirmed,
    /// held → free, with the shop's own code.
    Cancelled {
        /// The code.
        reason: u32,
    },
    /// held → free at the deadline.
    Expired,
    /// Stock and free grew. Also a product's creation with stock.
    Restocked,
    /// Stock and free shrank.
    WrittenOff,
    /// The product was created, or its terms changed.
    TermsChanged,
    /// The product was sealed.
    Sealed,
}

impl From<Event> for EventRecord {
    fn from(event: Event) -> Self {
        let (kind, detail) = match event.change {
            Change::Reserved { deadline_ms } => (EventKind::Reserved, deadline_ms),
            Change::Confirmed => (EventKind::Confirmed, 0),
            Change::Cancelled { reason } => (EventKind::Cancelled, u64::from(reason)),
            Change::Expired => (EventKind::Expired, 0),
            Change::Restocked => (EventKind::Restocked, 0),
            Change::WrittenOff => (EventKind::WrittenOff, 0),
            Change::TermsChanged => (EventKind::TermsChanged, 0),
            Change::Sealed => (EventKind::Sealed, 0),
        };
        Self::from(EventView {
            sequence: event.sequence,
            index: event.index,
            time_ms: event.time_ms,
            kind,
            product: event.product,
            user: event.user,
            quantity: event.quantity,
            id: event.id,
            detail,
        })
    }
}
