//! A row of the table of orders, and the table's shape.
//!
//! Deliberately not here: how events become rows ([`super::fold`]).

use std::fmt;

use sluice_client::{ProductId, ReservationId, UserId};
use tokio_postgres::Row;

use crate::shape::Shape;
use crate::values::{Number, TimeMs, Uuid, sequence};

/// The table of orders. A row changes once or twice: with room beside it no index has to.
pub(crate) const ORDERS: Shape = Shape {
    columns: &[
        ("reservation", "uuid"),
        ("product", "numeric(20,0)"),
        ("user_id", "numeric(20,0)"),
        ("quantity", "numeric(20,0)"),
        ("state", "text"),
        ("reason", "bigint"),
        ("deadline", "timestamp with time zone"),
        ("sequence", "bigint"),
        ("reserved_at", "timestamp with time zone"),
        ("updated_at", "timestamp with time zone"),
    ],
    definition: "(
  reservation uuid PRIMARY KEY,
  product numeric(20) NOT NULL,
  user_id numeric(20) NOT NULL,
  quantity numeric(20) NOT NULL,
  state text NOT NULL CHECK (state IN ('held', 'sold', 'cancelled', 'expired')),
  reason bigint,
  deadline timestamptz,
  sequence bigint NOT NULL,
  reserved_at timestamptz,
  updated_at timestamptz NOT NULL
) WITH (fillfactor = 75)",
};

/// The columns in the order in which they are written and read.
pub(crate) const COLUMNS: &str = "reservation, product, user_id, quantity, state, reason, deadline, sequence, \
                                  reserved_at, updated_at";

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Units are held for it.
    Held,
    /// They are sold.
    Sold,
    /// It was given back.
    Cancelled,
    /// Its time was over.
    Expired,
}

impl OrderState {
    const ALL: [Self; 4] = [Self::Held, Self::Sold, Self::Cancelled, Self::Expired];

    /// As it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Sold => "sold",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The reservation.
    pub reservation: ReservationId,
    /// Of which product.
    pub product: ProductId,
    /// For whom.
    pub user: UserId,
    /// How many units.
    pub quantity: u64,
    /// What has become of it.
    pub state: OrderState,
    /// The shop's own code, if it was cancelled.
    pub reason: Option<u64>,
    /// When its hold ends, ledger milliseconds; `None` if the group began after it was reserved.
    pub deadline_ms: Option<u64>,
    /// The last event that shaped it.
    pub sequence: u64,
    /// When it was reserved, ledger milliseconds; `None` as with the deadline.
    pub reserved_ms: Option<u64>,
    /// When that last event happened, ledger milliseconds.
    pub updated_ms: u64,
}

impl Order {
    /// Reads a row of [`COLUMNS`].
    ///
    /// # Errors
    /// Somebody else has written something into it.
    pub(crate) fn read(row: &Row) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let state: &str = row.try_get(4)?;
        let reason = row.try_get::<_, Option<i64>>(5)?.map(sequence).transpose()?;
        Ok(Self {
            reservation: ReservationId(row.try_get::<_, Uuid>(0)?.0),
            product: ProductId(row.try_get::<_, Number>(1)?.0),
            user: UserId(row.try_get::<_, Number>(2)?.0),
            quantity: row.try_get::<_, Number>(3)?.0,
            state: OrderState::read(state).ok_or_else(|| format!("{state:?} is no state of an order"))?,
            reason,
            deadline_ms: row.try_get::<_, Option<TimeMs>>(6)?.map(|time| time.0),
            sequence: sequence(row.try_get(7)?)?,
            reserved_ms: row.try_get::<_, Option<TimeMs>>(8)?.map(|time| time.0),
            updated_ms: row.try_get::<_, TimeMs>(9)?.0,
        })
    }
}
