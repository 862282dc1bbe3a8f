//! What clients hear: the answer that carries a status (`status.rs`). The records that queries return stand in
//! `record.rs`. Both are re-exported here.
//!
//! Every item of a request gets exactly one [`Answer`]: its status, the log index and ledger time it holds
//! at, and three numbers whose meaning the status decides. Read them through the constructors' twins
//! ([`Answer::deadline_ms`], [`Answer::free`], …), which know the meaning.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::limits::PRODUCT_REPLY_LEN;
pub use crate::record::{
    ProductRecord, ProductReply, ProductView, RESERVATION_REPLY_LEN, ReservationRecord, ReservationReply,
    ReservationView,
};
pub use crate::status::{RefusedField, State, Status};

/// The ledger index and time at which an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct At {
    /// Log index.
    pub index: u64,
    /// Ledger time, milliseconds since 1970.
    pub time_ms: u64,
}

/// The answer to one item: 48 bytes.
///
/// ```text
///  0  1 status
///  1  1 state      0 where none goes with the status
///  2  2 reserved   zero
///  4  4 aux        by status
///  8  8 index      log index the answer holds at; 0 if it claims nothing
/// 16  8 time_ms    ledger time the answer holds at
/// 24  8 a          by status
/// 32  8 b          by status
/// 40  8 c          by status
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    status: u8,
    state: u8,
    reserved: [u8; 2],
    aux: U32,
    index: U64,
    time_ms: U64,
    a: U64,
    b: U64,
    c: U64,
}

impl Answer {
    fn new(status: Status, at: At) -> Self {
        Self {
            status: status as u8,
            state: State::None as u8,
            reserved: [0; 2],
            aux: U32::ZERO,
            index: U64::new(at.index),
            time_ms: U64::new(at.time_ms),
            a: U64::ZERO,
            b: U64::ZERO,
            c: U64::ZERO,
        }
    }

    fn state_is(mut self, state: State) -> Self {
        self.state = state as u8;
        self
    }

    fn aux_is(mut self, aux: u32) -> Self {
        self.aux = U32::new(aux);
        self
    }

    fn abc(mut self, a: u64, b: u64, c: u64) -> Self {
        (self.a, self.b, self.c) = (U64::new(a), U64::new(b), U64::new(c));
        self
    }

    /// Units were taken, held until `deadline_ms`.
    pub fn reserved(at: At, sequence: u64, deadline_ms: u64) -> Self {
        Self::new(Status::Reserved, at).state_is(State::Held).abc(sequence, deadline_ms, 0)
    }

    /// A reservation was confirmed by this request.
    pub fn confirmed(at: At, sequence: u64) -> Self {
        Self::new(Status::Confirmed, at).state_is(State::Confirmed).abc(sequence, 0, 0)
    }

    /// A reservation was cancelled by this request.
    pub fn cancelled(at: At, sequence: u64) -> Self {
        Self::new(Status::Cancelled, at).state_is(State::Cancelled).abc(sequence, 0, 0)
    }

    /// The hold had ended, and its units are gone.
    pub fn expired(at: At, sequence: u64) -> Self {
        Self::new(Status::Expired, at).state_is(State::Expired).abc(sequence, 0, 0)
    }

    /// The id had this outcome before. `deadline_ms` is 0 unless it is held.
    pub fn already(at: At, state: State, sequence: u64, deadline_ms: u64) -> Self {
        Self::new(Status::Already, at).state_is(state).abc(sequence, deadline_ms, 0)
    }

    /// The id was refused with `status` before.
    pub fn already_refused(at: At, status: Status) -> Self {
        Self::new(Status::Already, at).state_is(State::Refused).aux_is(status as u32)
    }

    /// The id is dead.
    pub fn fenced(at: At) -> Self {
        Self::new(Status::Fenced, at).state_is(State::Fenced)
    }

    /// An administrative change was made (its event has `sequence`), or nothing needed changing (0).
    pub fn done(at: At, sequence: u64) -> Self {
        Self::new(Status::Done, at).abc(sequence, 0, 0)
    }

    /// A reservation was read and stands at `state`.
    pub fn found(at: At, state: State) -> Self {
        Self::new(Status::Done, at).state_is(state)
    }

    /// Too few units are free.
    pub fn insufficient(at: At, free: u64, held: u64, earliest_return_ms: u64) -> Self {
        Self::new(Status::Insufficient, at).abc(free, held, earliest_return_ms)
    }

    /// Nothing is left, and nothing will ever come back.
    pub fn sold_out(at: At) -> Self {
        Self::new(Status::SoldOut, at)
    }

    /// The user has `has` of at most `limit` units.
    pub fn limit_reached(at: At, limit: u32, has: u64) -> Self {
        Self::new(Status::LimitReached, at).abc(u64::from(limit), has, 0)
    }

    /// The sale opens later than the answer's ledger time.
    pub fn not_open(at: At, opens_ms: u64) -> Self {
        Self::new(Status::NotOpen, at).abc(opens_ms, opens_ms.saturating_sub(at.time_ms), 0)
    }

    /// The sale closed at `closes_ms`.
    pub fn closed(at: At, closes_ms: u64) -> Self {
        Self::new(Status::Closed, at).abc(closes_ms, 0, 0)
    }

    /// An answer that is only its status: unknown product, unknown reservation, id conflict, sealed.
    pub fn plain(at: At, status: Status) -> Self {
        Self::new(status, at)
    }

    /// The product was created with another stock.
    pub fn stock_differs(at: At, stock_at_creation: u64) -> Self {
        Self::new(Status::StockDiffers, at).abc(stock_at_creation, 0, 0)
    }

    /// A confirmed reservation cannot be cancelled.
    pub fn already_confirmed(at: At, sequence: u64) -> Self {
        Self::new(Status::AlreadyConfirmed, at).state_is(State::Confirmed).abc(sequence, 0, 0)
    }

    /// A field is out of its range.
    pub fn invalid(at: At, field: RefusedField, value: u64, low: u64, high: u64) -> Self {
        Self::new(Status::Invalid, at).aux_is(field as u32).abc(value, low, high)
    }

    /// A table is full.
    pub fn full(at: At, retry_after_ms: u32) -> Self {
        Self::new(Status::Full, at).aux_is(retry_after_ms)
    }

    /// A delivery failed for the last time.
    pub fn parked(at: At, attempts: u32) -> Self {
        Self::new(Status::Parked, at).abc(u64::from(attempts), 0, 0)
    }

    /// A group was created or changed, or joined: its number, its epoch or the first sequence not acknowledged, lanes.
    pub fn grouped(at: At, group: u32, b: u64, lanes: u64) -> Self {
        Self::new(Status::Done, at).abc(u64::from(group), b, lanes)
    }

    /// A delivery failed and will be tried again.
    pub fn retried(at: At, attempts: u32, retry_ms: u64) -> Self {
        Self::new(Status::Done, at).abc(u64::from(attempts), retry_ms, 0)
    }

    /// The member has no seat, or not these lanes.
    pub fn not_member(at: At, epoch: u64, lanes: u64) -> Self {
        Self::new(Status::NotMember, at).abc(epoch, lanes, 0)
    }

    /// What was asked for is kept no more.
    pub fn gap(at: At, first: u64) -> Self {
        Self::new(Status::Gap, at).abc(first, 0, 0)
    }

    /// Events up to `upto` were looked through; `last` is the newest there is, `first` the oldest that is kept.
    pub fn delivery(at: At, upto: u64, last: u64, first: u64) -> Self {
        Self::new(Status::Done, at).abc(upto, last, first)
    }

    /// A place in line: events ahead, milliseconds until its turn (0 = not known), the first sequence not acknowledged.
    pub fn position(at: At, ahead: u64, eta_ms: u64, cursor: u64) -> Self {
        Self::new(Status::Done, at).abc(ahead, eta_ms, cursor)
    }

    /// Nothing was done: the order system is behind.
    pub fn queueing(place: u64, eta_ms: u64) -> Self {
        Self::new(Status::Queueing, At::default()).abc(place, eta_ms, 0)
    }

    /// The three numbers, whose meaning the status decides.
    pub fn numbers(&self) -> [u64; 3] {
        [self.a.get(), self.b.get(), self.c.get()]
    }

    /// Nothing was done; nothing is claimed.
    pub fn busy(retry_after_ms: u32) -> Self {
        Self::new(Status::Busy, At::default()).aux_is(retry_after_ms)
    }

    /// Nothing was done; ask node `leader` (0 = not known).
    pub fn not_leader(leader: u64) -> Self {
        Self::new(Status::NotLeader, At::default()).abc(leader, 0, 0)
    }

    /// It may have been done, or may yet be.
    pub fn unknown() -> Self {
        Self::new(Status::Unknown, At::default())
    }

    /// The status, if this version knows it.
    pub fn status(&self) -> Option<Status> {
        Status::from_byte(self.status)
    }

    /// The state that goes with the status; [`State::None`] where none does or this version does not know it.
    pub fn state(&self) -> State {
        State::from_byte(self.state).unwrap_or(State::None)
    }

    /// The status number, known or not.
    pub fn status_byte(&self) -> u8 {
        self.status
    }

    /// The log index and ledger time the answer holds at.
    pub fn at(&self) -> At {
        At { index: self.index.get(), time_ms: self.time_ms.get() }
    }

    /// The dense sequence number of the event that made the outcome (reserved, confirmed, cancelled, expired,
    /// already, done, already confirmed).
    pub fn sequence(&self) -> u64 {
        self.a.get()
    }

    /// When the hold ends (reserved, already held), ledger milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        self.b.get()
    }

    /// Free units (insufficient).
    pub fn free(&self) -> u64 {
        self.a.get()
    }

    /// Held units (insufficient).
    pub fn held(&self) -> u64 {
        self.b.get()
    }

    /// When the first hold could end (insufficient), ledger milliseconds; 0 = nothing is held.
    pub fn earliest_return_ms(&self) -> u64 {
        self.c.get()
    }

    /// When the sale opens (not open), ledger milliseconds.
    pub fn opens_ms(&self) -> u64 {
        self.a.get()
    }

    /// How long until the sale opens (not open), milliseconds from the answer's ledger time.
    pub fn opens_in_ms(&self) -> u64 {
        self.b.get()
    }

    /// When the sale closed (closed), ledger milliseconds.
    pub fn closes_ms(&self) -> u64 {
        self.a.get()
    }

    /// The limit (limit reached).
    pub fn limit(&self) -> u64 {
        self.a.get()
    }

    /// What the user has (limit reached).
    pub fn user_has(&self) -> u64 {
        self.b.get()
    }

    /// The stock at creation (stock differs).
    pub fn stock_at_creation(&self) -> u64 {
        self.a.get()
    }

    /// The leader's node id (not leader); 0 = not known.
    pub fn leader(&self) -> u64 {
        self.a.get()
    }

    /// When to try again (busy, full), milliseconds.
    pub fn retry_after_ms(&self) -> u32 {
        self.aux.get()
    }

    /// What the id was refused with (already, state refused).
    pub fn refused_with(&self) -> Option<Status> {
        u8::try_from(self.aux.get()).ok().and_then(Status::from_byte)
    }

    /// The field, its value and the range allowed (invalid).
    pub fn refused_field(&self) -> Option<(RefusedField, u64, u64, u64)> {
        let field = u8::try_from(self.aux.get()).ok().and_then(RefusedField::from_byte)?;
        Some((field, self.a.get(), self.b.get(), self.c.get()))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status() {
            Some(status) => write!(f, "{status:?}")?,
            None => write!(f, "Status({})", self.status)?,
        }
        if self.state() != State::None {
            write!(f, "/{:?}", self.state())?;
        }
        let At { index, time_ms } = self.at();
        write!(f, "@{index}t{time_ms}(aux {} a {} b {} c {})", self.aux, self.a, self.b, self.c)
    }
}

const _: () = assert!(size_of::<Answer>() == 48);

/// Reads the body of a reply frame as a row of items, without a copy: [`Answer`], [`ReservationReply`] or
/// [`ProductReply`], as the frame's kind says. `None` if the body is not a whole number of them.
pub fn items<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Option<&[T]> {
    <[T]>::ref_from_bytes(body).ok()
}
