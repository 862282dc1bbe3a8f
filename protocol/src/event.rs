//! A committed change of stock or terms as consumers see it: 80 bytes, the same on every replica, on disk and on the wire.
//!
//! Each event carries a checksum that the replica made when it applied the change, so whoever handles it last can tell that
//! it is what the ledger said. Deliberately not here: who may read which events (`group`).

use zerocopy::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{ProductId, ReservationId, UserId};
use crate::status::byte_enum;

/// Bytes of an event.
pub const EVENT_LEN: usize = size_of::<EventRecord>();

/// Lanes of a group. Events of one product are in one lane, and a lane belongs to one member at a time.
pub const LANES: u32 = u64::BITS;

byte_enum! {
    /// What an event tells.
    EventKind {
        /// free → held.
        Reserved = 1,
        /// held → sold; after an expiry free → sold.
        Confirmed = 2,
        /// held → free: a client, or a group's policy, gave it back.
        Cancelled = 3,
        /// held → free at the deadline.
        Expired = 4,
        /// Stock and free grew. Also a product's creation with stock.
        Restocked = 5,
        /// Stock and free shrank.
        WrittenOff = 6,
        /// The product was created, or its terms changed.
        TermsChanged = 7,
        /// The product was sealed.
        Sealed = 8,
    }
}

impl EventKind {
    /// Its bit in a mask of kinds.
    pub fn bit(self) -> u32 {
        1 << self as u8
    }

    /// The mask of every kind that there is.
    pub fn all() -> u32 {
        Self::ALL.iter().fold(0, |mask, kind| mask | kind.bit())
    }
}

/// The lane of a product's events: the top six bits of its id times an odd number.
pub fn lane_of(product: ProductId) -> u32 {
    (product.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - LANES.ilog2())) as u32
}

/// What an event says, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView {
    /// Dense: 1, 2, 3, … over the life of the cluster.
    pub sequence: u64,
    /// The log index that made it.
    pub index: u64,
    /// Ledger time, milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// Which product.
    pub product: ProductId,
    /// Which user; 0 where none is involved.
    pub user: UserId,
    /// How many units; 0 for changes of terms.
    pub quantity: u64,
    /// Which reservation, restock or write-off; 0 for puts and seals.
    pub id: ReservationId,
    /// Reserved: when the hold ends, ledger milliseconds. Cancelled: the reason. Otherwise 0.
    pub detail: u64,
}

/// An event's bytes.
///
/// ```text
///  0  8 sequence
///  8  8 index
/// 16  8 time_ms
/// 24 16 id
/// 40  8 product
/// 48  8 user
/// 56  8 quantity
/// 64  8 detail      reserved: deadline_ms; cancelled: reason; otherwise zero
/// 72  1 kind
/// 73  1 attempts    deliveries to this group that failed, 255 = so many or more; 0 on disk
/// 74  1 flags       bit 0: a dead letter that is delivered again; 0 on disk
/// 75  1 reserved    zero
/// 76  4 checksum    CRC-32 (IEEE) of bytes 0 to 72
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EventRecord {
    sequence: U64,
    index: U64,
    time_ms: U64,
    id: U128,
    product: U64,
    user: U64,
    quantity: U64,
    detail: U64,
    kind: u8,
    attempts: u8,
    flags: u8,
    reserved: u8,
    checksum: U32,
}

/// Flag bit of [`EventRecord`]: it was a dead letter, and is delivered again out of order.
const REDRIVEN: u8 = 1;

/// Bytes that the checksum covers.
const CHECKED_LEN: usize = 73;

const _: () = assert!(size_of::<EventRecord>() == 80);

impl From<EventView> for EventRecord {
    fn from(view: EventView) -> Self {
        let mut record = Self {
            sequence: U64::new(view.sequence),
            index: U64::new(view.index),
            time_ms: U64::new(view.time_ms),
            id: U128::new(view.id.0),
            product: U64::new(view.product.0),
            user: U64::new(view.user.0),
            quantity: U64::new(view.quantity),
            detail: U64::new(view.detail),
            kind: view.kind as u8,
            attempts: 0,
            flags: 0,
            reserved: 0,
            checksum: U32::ZERO,
        };
        record.checksum = U32::new(record.computed());
        record
    }
}

impl EventRecord {
    /// What it says; `None` if its bytes are not what a replica made, or of a kind that this version does not know.
    pub fn view(&self) -> Option<EventView> {
        self.is_intact().then_some(EventView {
            sequence: self.sequence(),
            index: self.index.get(),
            time_ms: self.time_ms.get(),
            kind: EventKind::from_byte(self.kind)?,
            product: self.product(),
            user: UserId(self.user.get()),
            quantity: self.quantity.get(),
            id: ReservationId(self.id.get()),
            detail: self.detail.get(),
        })
    }

    /// Whether its checksum is right.
    pub fn is_intact(&self) -> bool {
        self.checksum.get() == self.computed()
    }

    fn computed(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..CHECKED_LEN])
    }

    /// Dense: 1, 2, 3, …
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Ledger time, milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time_ms.get()
    }

    /// Which product.
    #[inline]
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }

    /// The bit of its kind in a mask of kinds; 0 if there is no such kind.
    #[inline]
    pub fn kind_bit(&self) -> u32 {
        EventKind::from_byte(self.kind).map_or(0, EventKind::bit)
    }

    /// Deliveries to this group that failed, as far as they are counted.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// Whether it was a dead letter, and is delivered again out of order.
    pub fn is_redriven(&self) -> bool {
        self.flags & REDRIVEN != 0
    }

    /// The same for a consumer, with what is known of earlier deliveries.
    pub fn delivered(mut self, attempts: u32, redriven: bool) -> Self {
        self.attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
        self.flags = if redriven { REDRIVEN } else { 0 };
        self
    }

    /// The same as it is on disk.
    pub fn stored(self) -> Self {
        self.delivered(0, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> EventView {
        EventView {
            sequence: 7,
            index: 9,
            time_ms: 1_000,
            kind: EventKind::Cancelled,
            product: ProductId(42),
            user: UserId(3),
            quantity: 2,
            id: ReservationId(0xa1),
            detail: 5,
        }
    }

    #[test]
    fn an_event_survives_its_bytes_and_any_changed_bit_of_it_is_noticed() {
        let record = EventRecord::from(view());
        assert_eq!(record.view(), Some(view()));
        assert_eq!(record.delivered(300, true).view(), Some(view()));
        for bit in (0..CHECKED_LEN * 8).chain(76 * 8..80 * 8) {
            let mut bytes: [u8; EVENT_LEN] = record.as_bytes().try_into().expect("its length");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = EventRecord::read_from_bytes(&bytes).expect("its length");
            assert_eq!(changed.view(), None, "bit {bit}");
        }
    }

    #[test]
    fn products_in_a_row_are_spread_over_all_lanes() {
        let mut seen = 0_u64;
        for product in 1..=512 {
            seen |= 1 << lane_of(ProductId(product));
        }
        assert_eq!(seen, u64::MAX);
    }
}
