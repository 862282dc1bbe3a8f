//! What the members of a consumer group ask: events, and what becomes of them; and what others ask about the stream.
//!
//! Deliberately not here: groups themselves (`group`), and what comes back (`consumed`).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;
use crate::event::EventRecord;
use crate::ids::ProductId;
use crate::limits::EVENTS_MAX;
use crate::request::{Item, all_zero};

/// A member's seat: 16 bytes, with which its requests begin. Alone, it asks to leave.
///
/// ```text
///  0  4 group      the number that the answer to the join told
///  4  4 reserved   zero
///  8  8 member
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SeatItem {
    group: U32,
    reserved: [u8; 4],
    member: U64,
}

impl SeatItem {
    /// The seat of a member.
    pub fn new(group: u32, member: u64) -> Self {
        Self { group: U32::new(group), reserved: [0; 4], member: U64::new(member) }
    }

    /// The group's number.
    pub fn group(&self) -> u32 {
        self.group.get()
    }

    /// The member's number.
    pub fn member(&self) -> u64 {
        self.member.get()
    }
}

impl Item for SeatItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 4)
    }
}

/// Fetch events: 48 bytes. With group 0 and member 0 all events there are, for whoever only looks.
///
/// ```text
///  0 16 seat
/// 16  8 after           the last sequence that was looked through; 0 = begin where the group stands
/// 24  8 after_redriven  the last redrive that was delivered; 0 = none
/// 32  4 events_max      events wanted: 1 to EVENTS_MAX
/// 36  4 wait_ms         if there are none: how long to wait for one
/// 40  8 epoch           of the group as the member knows it: if it is another, that is answered at once
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FetchItem {
    /// Who fetches.
    pub seat: SeatItem,
    after: U64,
    after_redriven: U64,
    events_max: U32,
    wait_ms: U32,
    epoch: U64,
}

impl FetchItem {
    /// Whatever follows, at once, as much as there may be in one delivery.
    pub fn new(seat: SeatItem, epoch: u64) -> Self {
        Self {
            seat,
            after: U64::ZERO,
            after_redriven: U64::ZERO,
            events_max: U32::new(EVENTS_MAX as u32),
            wait_ms: U32::ZERO,
            epoch: U64::new(epoch),
        }
    }

    /// What follows upon the last sequence that was looked through, and upon the last redrive that was delivered.
    pub fn after(mut self, after: u64, after_redriven: u64) -> Self {
        (self.after, self.after_redriven) = (U64::new(after), U64::new(after_redriven));
        self
    }

    /// At most so many events.
    pub fn at_most(mut self, events_max: u32) -> Self {
        self.events_max = U32::new(events_max);
        self
    }

    /// If there are none, news may be waited for.
    pub fn waiting(mut self, wait_ms: u32) -> Self {
        self.wait_ms = U32::new(wait_ms);
        self
    }

    /// The last sequence that was looked through.
    pub fn looked_through(&self) -> u64 {
        self.after.get()
    }

    /// The last redrive that was delivered.
    pub fn after_redriven(&self) -> u64 {
        self.after_redriven.get()
    }

    /// Events wanted, at most.
    pub fn events_max(&self) -> u32 {
        self.events_max.get()
    }

    /// How long to wait for one, milliseconds.
    pub fn wait_ms(&self) -> u32 {
        self.wait_ms.get()
    }

    /// The group's epoch as the member knows it.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }
}

impl Item for FetchItem {
    fn check(&self) -> Result<(), DecodeError> {
        self.seat.check()
    }
}

/// Acknowledge events: 48 bytes. Everything up to a sequence, in some of the member's lanes; or, with no lanes, the one
/// redriven dead letter that has this sequence.
///
/// ```text
///  0 16 seat
/// 16  8 epoch      the group's epoch as of which the member knows its lanes
/// 24  8 lanes      mask; 0 = a redriven dead letter
/// 32  8 upto       sequence
/// 40  8 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AckItem {
    /// Who acknowledges.
    pub seat: SeatItem,
    epoch: U64,
    lanes: U64,
    upto: U64,
    reserved: [u8; 8],
}

impl AckItem {
    /// See the type.
    pub fn new(seat: SeatItem, epoch: u64, lanes: u64, upto: u64) -> Self {
        Self { seat, epoch: U64::new(epoch), lanes: U64::new(lanes), upto: U64::new(upto), reserved: [0; 8] }
    }

    /// As of when the member knows its lanes.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Which lanes.
    pub fn lanes(&self) -> u64 {
        self.lanes.get()
    }

    /// Up to which sequence.
    pub fn upto(&self) -> u64 {
        self.upto.get()
    }
}

impl Item for AckItem {
    fn check(&self) -> Result<(), DecodeError> {
        self.seat.check()?;
        all_zero(&self.reserved, 40)
    }
}

/// Flag bit of [`NakItem`]: the event is a dead letter at once.
const DEAD_NOW: u32 = 1;

/// Tell that a delivery failed: 128 bytes.
///
/// ```text
///  0 16 seat
/// 16  8 epoch      as in an acknowledgement
/// 24  4 delay_ms   until it is tried again; 0 = as the group's terms say
/// 28  4 cause      the consumer's own code, kept with a dead letter
/// 32  4 flags      bit 0: give up at once; others zero
/// 36 12 reserved   zero
/// 48 80 event      as it was delivered
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NakItem {
    /// Whose delivery failed.
    pub seat: SeatItem,
    epoch: U64,
    delay_ms: U32,
    cause: U32,
    flags: U32,
    reserved: [u8; 12],
    /// The event.
    pub event: EventRecord,
}

impl NakItem {
    /// The group's terms say when it is tried again, and how often.
    pub fn new(seat: SeatItem, epoch: u64, event: EventRecord, cause: u32) -> Self {
        Self {
            seat,
            epoch: U64::new(epoch),
            delay_ms: U32::ZERO,
            cause: U32::new(cause),
            flags: U32::ZERO,
            reserved: [0; 12],
            event,
        }
    }

    /// The same, tried again after `delay_ms`; 0 = as the group's terms say.
    pub fn after(mut self, delay_ms: u32) -> Self {
        self.delay_ms = U32::new(delay_ms);
        self
    }

    /// The same, never tried again.
    pub fn for_good(mut self) -> Self {
        self.flags = U32::new(DEAD_NOW);
        self
    }

    /// As of when the member knows its lanes.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// When it is tried again, milliseconds; 0 = as the group's terms say.
    pub fn delay_ms(&self) -> u32 {
        self.delay_ms.get()
    }

    /// The consumer's own code.
    pub fn cause(&self) -> u32 {
        self.cause.get()
    }

    /// Whether it is a dead letter at once.
    pub fn is_for_good(&self) -> bool {
        self.flags.get() & DEAD_NOW != 0
    }
}

impl Item for NakItem {
    fn check(&self) -> Result<(), DecodeError> {
        self.seat.check()?;
        if self.flags.get() & !DEAD_NOW != 0 {
            return Err(DecodeError::ReservedNotZero { offset: 32 });
        }
        all_zero(&self.reserved, 36)
    }
}

/// Redrive or drop one dead letter, list them, or ask for a place in line: 24 bytes.
///
/// ```text
///  0  4 group      its number
///  4  4 limit      list: at most this many, 1 to DEAD_PAGE_MAX; otherwise zero
///  8  8 sequence   of the dead letter; list: the smallest wanted; place: of the reservation's event
/// 16  8 product    place: the reservation's; otherwise zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LetterItem {
    group: U32,
    limit: U32,
    sequence: U64,
    product: U64,
}

impl LetterItem {
    /// One dead letter.
    pub fn new(group: u32, sequence: u64) -> Self {
        Self { group: U32::new(group), limit: U32::ZERO, sequence: U64::new(sequence), product: U64::ZERO }
    }

    /// A page of at most `limit` dead letters from `sequence` on.
    pub fn page(group: u32, sequence: u64, limit: u32) -> Self {
        Self { limit: U32::new(limit), ..Self::new(group, sequence) }
    }

    /// The place in line of the event that has this sequence.
    pub fn place(group: u32, sequence: u64, product: ProductId) -> Self {
        Self { product: U64::new(product.0), ..Self::new(group, sequence) }
    }

    /// The group's number.
    pub fn group(&self) -> u32 {
        self.group.get()
    }

    /// At most this many.
    pub fn limit(&self) -> u32 {
        self.limit.get()
    }

    /// Which sequence.
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Which product.
    pub fn product(&self) -> ProductId {
        ProductId(self.product.get())
    }
}

impl Item for LetterItem {
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Ask for the stream's bounds, and which event was the first at or after a time: 16 bytes.
///
/// ```text
///  0  8 time_ms    ledger time; 0 = only the bounds
///  8  8 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StreamItem {
    time_ms: U64,
    reserved: [u8; 8],
}

impl StreamItem {
    /// `time_ms` is a ledger time, or 0.
    pub fn new(time_ms: u64) -> Self {
        Self { time_ms: U64::new(time_ms), reserved: [0; 8] }
    }

    /// Ledger time, milliseconds since 1970; 0 = only the bounds.
    pub fn time_ms(&self) -> u64 {
        self.time_ms.get()
    }
}

impl Item for StreamItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 8)
    }
}

const _: () = assert!(size_of::<NakItem>() == 128);
