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
use crate::kind::Kind;
use crate::limits::BUDGET_MS_MAX;

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 32;

/// `SLC1`, read as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SLC1");

const CHECKSUM_OFFSET: usize = 28;

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
