//! What clients ask, item by item. Each item is a fixed row of bytes that can be read where it lies.
//!
//! A request frame's body is `count` items of one of these, and nothing else. Deliberately not here: whether
//! a request makes sense; that is answered item by item, by status.

use zerocopy::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;
use crate::ids::{ProductId, ReservationId, UserId};

/// A row of bytes that stands in a request frame.
pub trait Item: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Copy {
    /// Checks what the layout alone cannot: reserved bytes.
    ///
    /// # Errors
    /// [`DecodeError::ReservedNotZero`] with the offset within the item.
    fn check(&self) -> Result<(), DecodeError>;
}

/// Reads a body as a row of items, without a copy.
///
/// # Errors
/// [`DecodeError::BadLength`] if the body is not a whole number of items; whatever [`Item::check`] finds.
pub fn items<T: Item>(body: &[u8]) -> Result<&[T], DecodeError> {
    let items = <[T]>::ref_from_bytes(body).map_err(|_| DecodeError::BadLength {
        got: body.len() as u32,
        expected: (body.len() / size_of::<T>() * size_of::<T>()) as u32,
    })?;
    for item in items {
        item.check()?;
    }
    Ok(items)
}

pub(crate) fn all_zero(bytes: &[u8], offset: u32) -> Result<(), DecodeError> {
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(DecodeError::ReservedNotZero { offset: offset + at as u32 }),
    }
}

/// Take units of a product for a user: 40 bytes.
///
/// ```text
///  0 16 id         chosen by the client, never reused
/// 16  8 product
/// 24  8 user
/// 32  4 quantity   1 to QUANTITY_MAX
/// 36  1 attempt    0 the first time this id is ever sent; rising afterwards
/// 37  3 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReserveItem {
    id: U128,
    product: U64,
    user: U64,
    quantity: U32,
    /// 0 the first time this id is ever sent; anything else afterwards. A request with attempt ≥ 1 is always
    /// decided in the log, so that the id keeps one outcome while an earlier attempt may still be on its way.
    pub attempt: u8,
    reserved: [u8; 3],
}

impl ReserveItem {
    /// A first attempt.
    pub fn new(id: ReservationId, product: ProductId, user: UserId, quantity: u32) -> Self {
        Self {
            id: U128::new(id.0),
            product: U64::new(product.0),
            user: U64::new(user.0),
            quantity: U32::new(quantity),
            attempt: 0,
            reserved: [0; 3],
        }
    }

    /// The name of this attempt to take units.
    pub fn id(&self) -> ReservationId {
        ReservationId(self.id.get())
    }

    /// What to take.
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }

    /// For whom.
    pub fn user(&self) -> UserId {
        UserId(self.user.get())
    }

    /// How many units.
    pub fn quantity(&self) -> u32 {
        self.quantity.get()
    }
}

impl Item for ReserveItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 37)
    }
}

/// Confirm, cancel, resolve or query one reservation: 24 bytes.
///
/// ```text
///  0 16 id
/// 16  4 reason     cancel: the shop's own code, kept and streamed; otherwise zero
/// 20  4 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IdItem {
    id: U128,
    reason: U32,
    reserved: [u8; 4],
}

impl IdItem {
    /// An item without a reason.
    pub fn new(id: ReservationId) -> Self {
        Self::with_reason(id, 0)
    }

    /// An item with the shop's own code for why it cancels.
    pub fn with_reason(id: ReservationId, reason: u32) -> Self {
        Self { id: U128::new(id.0), reason: U32::new(reason), reserved: [0; 4] }
    }

    /// Which reservation.
    pub fn id(&self) -> ReservationId {
        ReservationId(self.id.get())
    }

    /// Why it is cancelled: the shop's own code.
    pub fn reason(&self) -> u32 {
        self.reason.get()
    }
}

impl Item for IdItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 20)
    }
}

/// Query or seal one product: 8 bytes, the product's id.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProductItem {
    product: U64,
}

impl ProductItem {
    /// The item for one product.
    pub fn new(product: ProductId) -> Self {
        Self { product: U64::new(product.0) }
    }

    /// Which product.
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }
}

impl Item for ProductItem {
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// What a product's sale is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Reservations are refused before this ledger time, milliseconds since 1970; 0 = open from the start.
    pub opens_ms: u64,
    /// Reservations are refused from this ledger time on, milliseconds since 1970; 0 = never closes.
    pub closes_ms: u64,
    /// Units that one user may have at a time, held and confirmed together; 0 = no limit.
    pub per_user_limit: u32,
    /// How long an unconfirmed reservation is held, milliseconds; 1 to [`crate::limits::HOLD_MS_MAX`].
    pub hold_ms: u32,
    /// No stock to run out of: everything else still counts (limit, window, holds, events).
    pub unlimited: bool,
}

/// Create a product, or change the terms of one that exists: 48 bytes. Idempotent.
///
/// ```text
///  0  8 product
///  8  8 stock            units at creation; must be 0 with flag 0
/// 16  8 opens_ms         0 = open from the start
/// 24  8 closes_ms        0 = never closes
/// 32  4 per_user_limit   0 = no limit
/// 36  4 hold_ms
/// 40  4 flags            bit 0: unlimited; bit 1: keep stock (only change terms); others zero
/// 44  4 reserved         zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PutProductItem {
    product: U64,
    stock: U64,
    opens_ms: U64,
    closes_ms: U64,
    per_user_limit: U32,
    hold_ms: U32,
    flags: U32,
    reserved: [u8; 4],
}

/// Flag bit of [`PutProductItem`]: no stock to run out of.
pub const PUT_UNLIMITED: u32 = 1;
/// Flag bit of [`PutProductItem`]: the product must exist; its stock stays, only its terms change.
pub const PUT_KEEP_STOCK: u32 = 2;

impl PutProductItem {
    /// `stock` is the product's stock at creation, or `None` to change only the terms of one that exists.
    pub fn new(product: ProductId, stock: Option<u64>, terms: Terms) -> Self {
        let unlimited = if terms.unlimited { PUT_UNLIMITED } else { 0 };
        let keep = if stock.is_none() { PUT_KEEP_STOCK } else { 0 };
        Self {
            product: U64::new(product.0),
            stock: U64::new(stock.unwrap_or(0)),
            opens_ms: U64::new(terms.opens_ms),
            closes_ms: U64::new(terms.closes_ms),
            per_user_limit: U32::new(terms.per_user_limit),
            hold_ms: U32::new(terms.hold_ms),
            flags: U32::new(unlimited | keep),
            reserved: [0; 4],
        }
    }

    /// Which product.
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }

    /// Its stock at creation; `None` if only the terms of an existing product are to change.
    pub fn stock(&self) -> Option<u64> {
        (self.flags.get() & PUT_KEEP_STOCK == 0).then_some(self.stock.get())
    }

    /// The terms of its sale.
    pub fn terms(&self) -> Terms {
        Terms {
            opens_ms: self.opens_ms.get(),
            closes_ms: self.closes_ms.get(),
            per_user_limit: self.per_user_limit.get(),
            hold_ms: self.hold_ms.get(),
            unlimited: self.flags.get() & PUT_UNLIMITED != 0,
        }
    }
}

impl Item for PutProductItem {
    fn check(&self) -> Result<(), DecodeError> {
        if self.flags.get() & !(PUT_UNLIMITED | PUT_KEEP_STOCK) != 0 {
            return Err(DecodeError::ReservedNotZero { offset: 40 });
        }
        all_zero(&self.reserved, 44)
    }
}

/// Add stock, or remove free stock: 32 bytes. Named by an id, like a reservation, so that a retry cannot
/// count twice.
///
/// ```text
///  0 16 id
/// 16  8 product
/// 24  4 quantity   1 to QUANTITY_MAX
/// 28  1 attempt    0 the first time this id is ever sent; rising afterwards
/// 29  3 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StockItem {
    id: U128,
    product: U64,
    quantity: U32,
    /// 0 the first time this id is ever sent; anything else afterwards.
    pub attempt: u8,
    reserved: [u8; 3],
}

impl StockItem {
    /// A first attempt.
    pub fn new(id: ReservationId, product: ProductId, quantity: u32) -> Self {
        Self {
            id: U128::new(id.0),
            product: U64::new(product.0),
            quantity: U32::new(quantity),
            attempt: 0,
            reserved: [0; 3],
        }
    }

    /// The name of this change of stock.
    pub fn id(&self) -> ReservationId {
        ReservationId(self.id.get())
    }

    /// Which product.
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }

    /// How many units.
    pub fn quantity(&self) -> u32 {
        self.quantity.get()
    }
}

impl Item for StockItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 29)
    }
}

/// Read a page of products in the order of their ids: 16 bytes.
///
/// ```text
///  0  8 from       the first product id wanted; 0 for the first page, last id + 1 afterwards
///  8  4 limit      at most this many; 1 to ITEMS_MAX
/// 12  4 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ListItem {
    from: U64,
    limit: U32,
    reserved: [u8; 4],
}

impl ListItem {
    /// The page of at most `limit` products whose ids are at least `from`.
    pub fn new(from: ProductId, limit: u32) -> Self {
        Self { from: U64::new(from.0), limit: U32::new(limit), reserved: [0; 4] }
    }

    /// The smallest id wanted.
    pub fn from(&self) -> ProductId {
        ProductId(self.from.get())
    }

    /// At most this many.
    pub fn limit(&self) -> u32 {
        self.limit.get()
    }
}

impl Item for ListItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 12)
    }
}
