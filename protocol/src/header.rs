//! The 32 bytes in front of every frame, and every check that comes before a body is believed.
//!
//! ```text
//! offset size field
//!      0    4 magic        "SLC1"
//!      4    4 length       bytes of body behind the header
//!      8    1 kind         see `Kind`
//!      9    1 version      agreed protocol version; 0 in hello, welcome and fault
//!     10    2 count        items in the body
//!     12    4 budget_ms    requests: how long the server may try; 0 = the server's default. Replies: 0
//!     16    8 correlation  chosen by the client, returned in the reply
//!     24    4 reserved     zero
//!     28    4 checksum     CRC-32 (IEEE) of bytes 0..28 and the body
//! ```
//!
//! The order of checks is: magic, reserved, kind, length limit (now the body may be awaited), checksum,
//! count, length against count, budget. Deliberately not here: what the items mean; whether the version is
//! the agreed one and whether this kind may come now, which only the connection knows.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;
use crate::handshake::{FAULT_BODY_MAX, HELLO_BODY_MAX, WELCOME_BODY_MAX};
use crate::limits::{BUDGET_MS_MAX, ITEMS_MAX, REPLY_BODY_MAX, REQUEST_BODY_MAX};
use crate::request::{IdItem, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem};
use crate::response::{Answer, PRODUCT_REPLY_LEN, RESERVATION_REPLY_LEN};

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 32;

/// `SLC1`, read as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SLC1");

const CHECKSUM_OFFSET: usize = 28;

/// What a frame is. A reply's kind is its request's with the top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Client: first frame of a connection.
    Hello = 0x01,
    /// Client: asks for nothing but a pong.
    Ping = 0x02,
    /// Client: take units.
    Reserve = 0x10,
    /// Client: a held reservation was paid.
    Confirm = 0x11,
    /// Client: give a reservation back, or make sure that it never happens.
    Cancel = 0x12,
    /// Client: tell the outcome of an id, or kill it.
    Resolve = 0x13,
    /// Client: read a reservation.
    QueryReservation = 0x14,
    /// Client: read a product.
    QueryProduct = 0x15,
    /// Client: create a product or change its terms.
    PutProduct = 0x20,
    /// Client: add stock.
    Restock = 0x21,
    /// Client: remove free stock.
    WriteOff = 0x22,
    /// Client: promise that no stock will ever be added.
    Seal = 0x23,
    /// Client: read products in the order of their ids, a page at a time.
    ListProducts = 0x24,
    /// Server: first frame of a connection.
    Welcome = 0x81,
    /// Server: answers a ping.
    Pong = 0x82,
    /// Server: answers [`Kind::Reserve`].
    ReserveReply = 0x90,
    /// Server: answers [`Kind::Confirm`].
    ConfirmReply = 0x91,
    /// Server: answers [`Kind::Cancel`].
    CancelReply = 0x92,
    /// Server: answers [`Kind::Resolve`].
    ResolveReply = 0x93,
    /// Server: answers [`Kind::QueryReservation`].
    QueryReservationReply = 0x94,
    /// Server: answers [`Kind::QueryProduct`].
    QueryProductReply = 0x95,
    /// Server: answers [`Kind::PutProduct`].
    PutProductReply = 0xA0,
    /// Server: answers [`Kind::Restock`].
    RestockReply = 0xA1,
    /// Server: answers [`Kind::WriteOff`].
    WriteOffReply = 0xA2,
    /// Server: answers [`Kind::Seal`].
    SealReply = 0xA3,
    /// Server: answers [`Kind::ListProducts`].
    ListProductsReply = 0xA4,
    /// Server: why it closes the connection. The last frame.
    Fault = 0xFF,
}

impl Kind {
    /// Every kind, requests first.
    pub const ALL: [Self; 27] = [
        Self::Hello,
        Self::Ping,
        Self::Reserve,
        Self::Confirm,
        Self::Cancel,
        Self::Resolve,
        Self::QueryReservation,
        Self::QueryProduct,
        Self::PutProduct,
        Self::Restock,
        Self::WriteOff,
        Self::Seal,
        Self::ListProducts,
        Self::Welcome,
        Self::Pong,
        Self::ReserveReply,
        Self::ConfirmReply,
        Self::CancelReply,
        Self::ResolveReply,
        Self::QueryReservationReply,
        Self::QueryProductReply,
        Self::PutProductReply,
        Self::RestockReply,
        Self::WriteOffReply,
        Self::SealReply,
        Self::ListProductsReply,
        Self::Fault,
    ];

    /// The kind of a byte.
    ///
    /// # Errors
    /// [`DecodeError::BadKind`] if no kind has this number.
    pub fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(DecodeError::BadKind { got: byte })
    }

    /// Whether clients send it.
    pub fn is_request(self) -> bool {
        (self as u8) & 0x80 == 0
    }

    /// The kind of the reply to a request; a reply's own kind is returned unchanged.
    pub fn reply(self) -> Self {
        match self {
            Self::Hello | Self::Welcome => Self::Welcome,
            Self::Ping | Self::Pong => Self::Pong,
            Self::Reserve | Self::ReserveReply => Self::ReserveReply,
            Self::Confirm | Self::ConfirmReply => Self::ConfirmReply,
            Self::Cancel | Self::CancelReply => Self::CancelReply,
            Self::Resolve | Self::ResolveReply => Self::ResolveReply,
            Self::QueryReservation | Self::QueryReservationReply => Self::QueryReservationReply,
            Self::QueryProduct | Self::QueryProductReply => Self::QueryProductReply,
            Self::PutProduct | Self::PutProductReply => Self::PutProductReply,
            Self::Restock | Self::RestockReply => Self::RestockReply,
            Self::WriteOff | Self::WriteOffReply => Self::WriteOffReply,
            Self::Seal | Self::SealReply => Self::SealReply,
            Self::ListProducts | Self::ListProductsReply => Self::ListProductsReply,
            Self::Fault => Self::Fault,
        }
    }

    /// Bytes of one item, or `None` for the kinds whose body is not a row of items.
    pub fn item_len(self) -> Option<usize> {
        match self {
            Self::Hello | Self::Ping | Self::Welcome | Self::Pong | Self::Fault => None,
            Self::Reserve => Some(size_of::<ReserveItem>()),
            Self::Confirm | Self::Cancel | Self::Resolve | Self::QueryReservation => {
                Some(size_of::<IdItem>())
            }
            Self::QueryProduct | Self::Seal => Some(size_of::<ProductItem>()),
            Self::PutProduct => Some(size_of::<PutProductItem>()),
            Self::Restock | Self::WriteOff => Some(size_of::<StockItem>()),
            Self::ListProducts => Some(size_of::<ListItem>()),
            Self::QueryReservationReply => Some(RESERVATION_REPLY_LEN),
            Self::QueryProductReply | Self::ListProductsReply => Some(PRODUCT_REPLY_LEN),
            Self::ReserveReply
            | Self::ConfirmReply
            | Self::CancelReply
            | Self::ResolveReply
            | Self::PutProductReply
            | Self::RestockReply
            | Self::WriteOffReply
            | Self::SealReply => Some(size_of::<Answer>()),
        }
    }

    /// The longest body a frame of this kind may have, bytes.
    pub fn body_max(self) -> usize {
        match self {
            Self::Ping | Self::Pong => 0,
            // Strangers may send hellos: they are held to what a hello can be.
            Self::Hello => HELLO_BODY_MAX,
            Self::Welcome => WELCOME_BODY_MAX,
            Self::Fault => FAULT_BODY_MAX,
            _ if self.is_request() => REQUEST_BODY_MAX,
            _ => REPLY_BODY_MAX,
        }
    }

    /// How many items a frame of this kind may hold.
    pub fn count_range(self) -> (usize, usize) {
        match self {
            Self::Hello | Self::Ping | Self::Welcome | Self::Pong | Self::Fault => (0, 0),
            Self::ListProducts => (1, 1),
            Self::ListProductsReply => (0, ITEMS_MAX),
            _ => (1, ITEMS_MAX),
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    length: U32,
    kind: u8,
    version: u8,
    count: U16,
    budget_ms: U32,
    correlation: U64,
    reserved: U32,
    checksum: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// A header whose own fields are sound. Whether the body matches is for [`FrameHeader::check_body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: Kind,
    /// The protocol version; 0 in hello, welcome and fault.
    pub version: u8,
    /// Items in the body.
    pub count: u16,
    /// How long the server may try, milliseconds; 0 = its default.
    pub budget_ms: u32,
    /// Chosen by the client; a reply carries its request's.
    pub correlation: u64,
    /// Bytes of body.
    pub length: u32,
    checksum: u32,
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`; `None` if fewer than [`HEADER_LEN`] bytes are there yet.
    ///
    /// # Errors
    /// Whatever is wrong with the header alone: magic, kind, reserved bytes, length beyond the kind's limit.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else {
            return Ok(None);
        };
        if raw.magic.get() != MAGIC {
            return Err(DecodeError::BadMagic { got: raw.magic.get() });
        }
        if let Some(at) = raw.reserved.as_bytes().iter().position(|byte| *byte != 0) {
            return Err(DecodeError::ReservedNotZero { offset: 24 + at as u32 });
        }
        let kind = Kind::from_byte(raw.kind)?;
        if raw.length.get() as usize > kind.body_max() {
            return Err(DecodeError::BodyTooLong { got: raw.length.get(), limit: kind.body_max() as u32 });
        }
        Ok(Some(Self {
            kind,
            version: raw.version,
            count: raw.count.get(),
            budget_ms: raw.budget_ms.get(),
            correlation: raw.correlation.get(),
            length: raw.length.get(),
            checksum: raw.checksum.get(),
        }))
    }

    /// Checks a whole frame, header and body together, against this header.
    ///
    /// # Errors
    /// Checksum, then count, then the body's length against the count, then the budget.
    ///
    /// # Panics
    /// If `frame` is not exactly this header and its body: the caller cuts it by [`FrameHeader::frame_len`].
    pub fn check_body(&self, frame: &[u8]) -> Result<(), DecodeError> {
        assert_eq!(frame.len(), self.frame_len(), "the caller cuts the frame by its header");
        let computed = checksum(&frame[..CHECKSUM_OFFSET], &frame[HEADER_LEN..]);
        if computed != self.checksum {
            return Err(DecodeError::BadChecksum { got: self.checksum, computed });
        }
        let (low, high) = self.kind.count_range();
        if (self.count as usize) < low || self.count as usize > high {
            return Err(DecodeError::BadCount { got: u32::from(self.count), limit: high as u32 });
        }
        if let Some(item_len) = self.kind.item_len() {
            let expected = (item_len * self.count as usize) as u32;
            if expected != self.length {
                return Err(DecodeError::BadLength { got: self.length, expected });
            }
        }
        if self.budget_ms > BUDGET_MS_MAX {
            return Err(DecodeError::BudgetTooLong { got: self.budget_ms, limit: BUDGET_MS_MAX });
        }
        Ok(())
    }

    /// Header and body together, bytes.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + self.length as usize
    }
}

/// The CRC-32 of a frame: its header up to the checksum, then its body.
fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// Turns the bytes `frame[HEADER_LEN..]`, already in place, into a frame by writing the header before them.
///
/// `version` is the agreed one, or 0 for hello, welcome and fault.
///
/// # Panics
/// If `frame` is shorter than a header, or its body longer than the kind allows: the encoder's own bug.
pub fn seal(frame: &mut [u8], kind: Kind, version: u8, count: u16, budget_ms: u32, correlation: u64) {
    let length = frame.len().checked_sub(HEADER_LEN).expect("room for the header was left");
    assert!(length <= kind.body_max(), "{kind:?}: a body of {length} bytes");
    let (head, body) = frame.split_at_mut(HEADER_LEN);
    let raw = RawHeader {
        magic: U32::new(MAGIC),
        length: U32::new(length as u32),
        kind: kind as u8,
        version,
        count: U16::new(count),
        budget_ms: U32::new(budget_ms),
        correlation: U64::new(correlation),
        reserved: U32::ZERO,
        checksum: U32::ZERO,
    };
    head.copy_from_slice(raw.as_bytes());
    let checksum = checksum(&head[..CHECKSUM_OFFSET], body);
    head[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
}
