//! What queries return behind an answer: a reservation, a product.
//!
//! Re-exported by [`crate::response`], where readers look for them. Deliberately not here: answers.

use zerocopy::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{ProductId, ReservationId, UserId};
use crate::request::Terms;
use crate::response::Answer;

/// A reservation as a query returns it, behind its [`Answer`]: 64 bytes. All zero if it was not found.
///
/// ```text
///  0 16 id
/// 16  8 product
/// 24  8 user
/// 32  4 quantity
/// 36  4 reason       of its cancellation
/// 40  8 sequence     of the event that made it what it is
/// 48  8 deadline_ms  while held; otherwise 0
/// 56  8 ended_ms     when it was confirmed, cancelled, expired, refused or fenced; 0 while held
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReservationRecord {
    id: U128,
    product: U64,
    user: U64,
    quantity: U32,
    reason: U32,
    sequence: U64,
    deadline_ms: U64,
    ended_ms: U64,
}

/// Bytes of one item in the reply to a reservation query.
pub const RESERVATION_REPLY_LEN: usize = size_of::<Answer>() + size_of::<ReservationRecord>();

/// What a [`ReservationRecord`] says, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReservationView {
    /// Its id.
    pub id: ReservationId,
    /// What was taken.
    pub product: ProductId,
    /// For whom.
    pub user: UserId,
    /// How many units.
    pub quantity: u32,
    /// Why it was cancelled: the shop's own code.
    pub reason: u32,
    /// The sequence of the event that made it what it is.
    pub sequence: u64,
    /// When the hold ends, ledger milliseconds; 0 if not held.
    pub deadline_ms: u64,
    /// When it stopped being held, ledger milliseconds; 0 while held.
    pub ended_ms: u64,
}

impl From<ReservationView> for ReservationRecord {
    fn from(view: ReservationView) -> Self {
        Self {
            id: U128::new(view.id.0),
            product: U64::new(view.product.0),
            user: U64::new(view.user.0),
            quantity: U32::new(view.quantity),
            reason: U32::new(view.reason),
            sequence: U64::new(view.sequence),
            deadline_ms: U64::new(view.deadline_ms),
            ended_ms: U64::new(view.ended_ms),
        }
    }
}

impl From<ReservationRecord> for ReservationView {
    fn from(record: ReservationRecord) -> Self {
        Self {
            id: ReservationId(record.id.get()),
            product: ProductId(record.product.get()),
            user: UserId(record.user.get()),
            quantity: record.quantity.get(),
            reason: record.reason.get(),
            sequence: record.sequence.get(),
            deadline_ms: record.deadline_ms.get(),
            ended_ms: record.ended_ms.get(),
        }
    }
}

/// A product as a query or a page returns it, behind its [`Answer`]: 80 bytes. All zero if it was not found.
/// At every index `stock = free + held + sold`.
///
/// ```text
///  0  8 product
///  8  8 stock
/// 16  8 free
/// 24  8 held
/// 32  8 sold
/// 40  8 opens_ms
/// 48  8 closes_ms
/// 56  4 per_user_limit
/// 60  4 hold_ms
/// 64  4 flags              bit 0: unlimited; bit 2: sealed
/// 68  4 reserved           zero
/// 72  8 earliest_return_ms when the first hold could end; 0 = nothing is held
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProductRecord {
    product: U64,
    stock: U64,
    free: U64,
    held: U64,
    sold: U64,
    opens_ms: U64,
    closes_ms: U64,
    per_user_limit: U32,
    hold_ms: U32,
    flags: U32,
    reserved: [u8; 4],
    earliest_return_ms: U64,
}

const UNLIMITED: u32 = 1;
const SEALED: u32 = 4;

/// What a [`ProductRecord`] says, as plain numbers. Of an unlimited product, `stock` and `free` are 0 and
/// `held` and `sold` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductView {
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
    /// Stock will never be added.
    pub sealed: bool,
    /// When the first hold could end, ledger milliseconds; 0 = nothing is held.
    pub earliest_return_ms: u64,
}

impl From<ProductView> for ProductRecord {
    fn from(view: ProductView) -> Self {
        let unlimited = if view.terms.unlimited { UNLIMITED } else { 0 };
        let sealed = if view.sealed { SEALED } else { 0 };
        Self {
            product: U64::new(view.product.0),
            stock: U64::new(view.stock),
            free: U64::new(view.free),
            held: U64::new(view.held),
            sold: U64::new(view.sold),
            opens_ms: U64::new(view.terms.opens_ms),
            closes_ms: U64::new(view.terms.closes_ms),
            per_user_limit: U32::new(view.terms.per_user_limit),
            hold_ms: U32::new(view.terms.hold_ms),
            flags: U32::new(unlimited | sealed),
            reserved: [0; 4],
            earliest_return_ms: U64::new(view.earliest_return_ms),
        }
    }
}

impl From<ProductRecord> for ProductView {
    fn from(record: ProductRecord) -> Self {
        Self {
            product: ProductId(record.product.get()),
            stock: record.stock.get(),
            free: record.free.get(),
            held: record.held.get(),
            sold: record.sold.get(),
            terms: Terms {
                opens_ms: record.opens_ms.get(),
                closes_ms: record.closes_ms.get(),
                per_user_limit: record.per_user_limit.get(),
                hold_ms: record.hold_ms.get(),
                unlimited: record.flags.get() & UNLIMITED != 0,
            },
            sealed: record.flags.get() & SEALED != 0,
            earliest_return_ms: record.earliest_return_ms.get(),
        }
    }
}

/// One item of the reply to a reservation query: 112 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReservationReply {
    /// Found (`Done`, with its state) or not, and when that held.
    pub answer: Answer,
    /// The reservation.
    pub record: ReservationRecord,
}

/// One item of the reply to a product query or of a page of products: 128 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProductReply {
    /// Found (`Done`) or not, and when that held.
    pub answer: Answer,
    /// The product.
    pub record: ProductRecord,
}

impl From<(Answer, Option<ReservationView>)> for ReservationReply {
    fn from((answer, view): (Answer, Option<ReservationView>)) -> Self {
        let record = view.map_or_else(ReservationRecord::new_zeroed, ReservationRecord::from);
        Self { answer, record }
    }
}

impl From<(Answer, Option<ProductView>)> for ProductReply {
    fn from((answer, view): (Answer, Option<ProductView>)) -> Self {
        let record = view.map_or_else(ProductRecord::new_zeroed, ProductRecord::from);
        Self { answer, record }
    }
}

const _: () = assert!(size_of::<ReservationRecord>() == 64);
const _: () = assert!(size_of::<ProductRecord>() == 80);
