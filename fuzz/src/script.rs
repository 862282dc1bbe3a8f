//! Commands from the fuzzer's bytes: few ids, products and users, so that they meet; numbers at the edges of their ranges.
//!
//! Deliberately not here: what should come of them.

use arbitrary::Arbitrary;
use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_core::ledger::settings::{ADVANCE_MS_MAX, Settings};
use sluice_protocol::limits::{HOLD_MS_MAX, QUANTITY_MAX, STOCK_MAX};

/// When the first entry of a script is stamped.
pub const BEGIN_MS: u64 = 1_000_000;

/// What a ledger was agreed to be like.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Bounds {
    records: u8,
    retention: u8,
}

impl Bounds {
    /// As a ledger takes them.
    pub fn settings(self) -> Settings {
        let retention_ms = match self.retention {
            255 => u64::MAX,
            254 => 0,
            small => u64::from(small) * 16,
        };
        Settings { records_max: u32::from(self.records), retention_ms }
    }
}

/// One entry, or something that happens between entries.
#[derive(Debug, Arbitrary)]
pub enum Step {
    /// An entry.
    Entry {
        /// How its stamp differs from the last one's.
        stamp: Stamp,
        /// Its commands.
        orders: Vec<Order>,
    },
    /// An entry that was committed under another term.
    Foreign(Vec<Order>),
    /// The no-op of a new leader.
    NoOp,
    /// An image is begun; it is written when the next one is, or at the end.
    Freeze,
    /// An image is written and loaded at once.
    Reload,
}

/// A stamp, by the one before it.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Stamp {
    /// As before.
    Same,
    /// Later.
    Later(u8),
    /// Much later.
    MuchLater(u16),
    /// A clock that was set back.
    Earlier(u8),
    /// Just as far as an entry may move time.
    Leap,
    /// Any.
    Mad(u64),
}

impl Stamp {
    /// The stamp behind `last_ms`.
    pub fn behind(self, last_ms: u64) -> u64 {
        match self {
            Self::Same => last_ms,
            Self::Later(by) => last_ms.saturating_add(by.into()),
            Self::MuchLater(by) => last_ms.saturating_add(u64::from(by) * 64),
            Self::Earlier(by) => last_ms.saturating_sub(by.into()),
            Self::Leap => last_ms.saturating_add(ADVANCE_MS_MAX),
            Self::Mad(stamp_ms) => stamp_ms,
        }
    }
}

/// Commands of one kind.
#[derive(Debug, Arbitrary)]
pub enum Order {
    /// Take units.
    Reserve(Vec<(u8, u8, u8, u8)>),
    /// Pay.
    Confirm(Vec<u8>),
    /// Give back.
    Cancel(Vec<(u8, u8)>),
    /// Tell or kill.
    Resolve(Vec<u8>),
    /// Create, or change terms.
    Put(Vec<Terms>),
    /// Add stock.
    Restock(Vec<(u8, u8, u8)>),
    /// Remove stock.
    WriteOff(Vec<(u8, u8, u8)>),
    /// No more stock.
    Seal(Vec<u8>),
}

/// A put.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Terms {
    product: u8,
    stock: Option<u8>,
    opens: u8,
    closes: u8,
    limit: u8,
    hold: u8,
    unlimited: bool,
}

impl Order {
    /// As an entry has it.
    pub fn group(&self) -> Group {
        match self {
            Self::Reserve(items) => Group::Reserve(items.iter().map(reserve).collect()),
            Self::Confirm(ids) => Group::Confirm(ids.iter().map(|by| id(*by)).collect()),
            Self::Cancel(items) => {
                let cancel = |(by, reason): &(u8, u8)| Cancel { id: id(*by), reason: u32::from(*reason) };
                Group::Cancel(items.iter().map(cancel).collect())
            }
            Self::Resolve(ids) => Group::Resolve(ids.iter().map(|by| id(*by)).collect()),
            Self::Put(items) => Group::Put(items.iter().map(put).collect()),
            Self::Restock(items) => Group::Restock(items.iter().map(change).collect()),
            Self::WriteOff(items) => Group::WriteOff(items.iter().map(change).collect()),
            Self::Seal(products) => Group::Seal(products.iter().map(|by| product(*by)).collect()),
        }
    }
}

fn reserve((by, of, user, units): &(u8, u8, u8, u8)) -> Reserve {
    Reserve { id: id(*by), product: product(*of), user: u64::from(*user % 4), quantity: quantity(*units) }
}

fn change((by, of, units): &(u8, u8, u8)) -> ChangeStock {
    ChangeStock { id: id(*by), product: product(*of), quantity: quantity(*units) }
}

fn put(terms: &Terms) -> Put {
    Put {
        product: product(terms.product),
        stock: terms.stock.map(stock),
        opens_ms: time(terms.opens),
        closes_ms: time(terms.closes),
        per_user_limit: match terms.limit {
            255 => u32::MAX,
            limit => u32::from(limit % 8),
        },
        hold_ms: hold(terms.hold),
        unlimited: terms.unlimited,
    }
}

/// Ids: zero, the largest, and a few dozen others.
fn id(by: u8) -> u128 {
    match by {
        255 => u128::MAX,
        by => u128::from(by % 64),
    }
}

fn product(by: u8) -> u64 {
    match by {
        255 => u64::MAX,
        by => u64::from(by % 5),
    }
}

fn quantity(by: u8) -> u32 {
    match by {
        250 => QUANTITY_MAX,
        251 => QUANTITY_MAX + 1,
        252.. => u32::MAX,
        by => u32::from(by % 8),
    }
}

fn stock(by: u8) -> u64 {
    match by {
        252 => STOCK_MAX,
        253 => STOCK_MAX + 1,
        254 => STOCK_MAX - u64::from(QUANTITY_MAX),
        255 => u64::MAX,
        by => u64::from(by),
    }
}

/// Holds: few of them at the edges, the others short, of more lengths than a product may have at a time.
fn hold(by: u8) -> u32 {
    match by {
        251 => HOLD_MS_MAX,
        252 => HOLD_MS_MAX + 1,
        253.. => u32::MAX,
        by => u32::from(by) * 8,
    }
}

/// When a sale opens or closes: never, or about when the script plays.
fn time(by: u8) -> u64 {
    match by {
        0 => 0,
        255 => u64::MAX,
        by => BEGIN_MS + u64::from(by) * 16,
    }
}
