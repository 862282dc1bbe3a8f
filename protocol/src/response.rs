//! What clients hear: the one list of statuses, the answer that carries them, and the records that queries
//! return.
//!
//! Every item of a request gets exactly one [`Answer`]: its status, the log index and ledger time it holds
//! at, and three numbers whose meaning the status decides. Read them through the constructors' twins
//! ([`Answer::deadline_ms`], [`Answer::free`], …), which know the meaning.

use zerocopy::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{ProductId, ReservationId, UserId};
use crate::request::Terms;

macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value of a byte, if it names one.
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

byte_enum! {
    /// What became of one item. The numbers are the wire's; the letters a, b, c are the answer's three numbers.
    Status {
        /// Units were taken and are durable. a = sequence of the event, b = deadline of the hold (ms).
        Reserved = 1,
        /// The reservation is confirmed for good. a = sequence of its confirmation.
        Confirmed = 2,
        /// The reservation is cancelled; its units are free again. a = sequence of its cancellation.
        Cancelled = 3,
        /// The hold ended before it was confirmed, and its units could not be taken again. a = sequence of its
        /// expiry.
        Expired = 4,
        /// The id had an outcome before this request: `state` says which. a = sequence of the event that made it,
        /// b = deadline if held. If the state is `Refused`, aux = the status it was refused with.
        Already = 5,
        /// The id has no outcome, and from now on cannot get one: answers a resolve or a cancel of an id that the
        /// ledger had not seen, and every later attempt to use it.
        Fenced = 6,
        /// An administrative change was made, or a read succeeded. a = sequence of the event, 0 if nothing changed.
        Done = 7,

        /// Fewer free units than asked for. a = free, b = held, c = earliest time at which a hold could end (ms,
        /// 0 = none held). Never rests on a reservation that could still vanish.
        Insufficient = 16,
        /// No units are free or held, and the product is sealed: final, for good.
        SoldOut = 17,
        /// The user would exceed the per-user limit. a = limit, b = units the user has.
        LimitReached = 18,
        /// The sale has not opened. a = opens at (ms), b = opens in (ms) from the answer's ledger time.
        NotOpen = 19,
        /// The sale has closed. a = closed at (ms).
        Closed = 20,
        /// No such product.
        UnknownProduct = 21,
        /// The id is in use with another payload (product, user, quantity or kind of request).
        IdConflict = 22,
        /// No reservation has this id.
        UnknownReservation = 23,
        /// The product is sealed: its stock can never grow again.
        Sealed = 24,
        /// The product exists with another stock at creation; a put never changes stock. a = its stock at creation.
        StockDiffers = 25,
        /// The reservation is confirmed and cannot be cancelled. a = sequence of its confirmation.
        AlreadyConfirmed = 26,
        /// A field is out of its range: aux = which ([`RefusedField`]), a = the value, b = lowest, c = highest allowed.
        Invalid = 27,
        /// A table of the ledger is as full as its settings allow: aux = retry after (ms).
        Full = 28,

        /// Nothing was done and nothing is claimed: try again. aux = retry after (ms).
        Busy = 48,
        /// This node does not lead; nothing was done. a = the leader's node id, 0 = not known.
        NotLeader = 49,
        /// The outcome is not known here: resolve the id before anything else.
        Unknown = 50,
    }
}

impl Status {
    /// Whether the item is certain to have changed nothing and may be sent again as it is.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::NotLeader | Self::Full)
    }
}

byte_enum! {
    /// Where a reservation stands.
    State {
        /// No state goes with this answer.
        None = 0,
        /// Units are taken until the deadline.
        Held = 1,
        /// Units are sold.
        Confirmed = 2,
        /// Units were given back by the client.
        Cancelled = 3,
        /// Units were given back at the deadline.
        Expired = 4,
        /// The id was killed before it took anything.
        Fenced = 5,
        /// The log refused it: it took nothing.
        Refused = 6,
        /// The id named a restock or a write-off, which was done.
        Applied = 7,
    }
}

byte_enum! {
    /// Which field an [`Status::Invalid`] means.
    RefusedField {
        /// Units asked for.
        Quantity = 1,
        /// Stock at creation, or stock as it would become.
        Stock = 2,
        /// How long holds last.
        HoldMs = 3,
        /// When the sale closes: not after it opens.
        ClosesMs = 4,
        /// The product's id: 0 is not one.
        Product = 5,
        /// The reservation's id: 0 is not one.
        Reservation = 6,
        /// The limit of a page.
        Limit = 7,
        /// The product is unlimited: it has no stock to put, add or remove.
        Unlimited = 8,
    }
}

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
pub use crate::limits::PRODUCT_REPLY_LEN;

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

const _: () = assert!(size_of::<Answer>() == 48);
const _: () = assert!(size_of::<ReservationRecord>() == 64);
const _: () = assert!(size_of::<ProductRecord>() == 80);

/// Reads the body of a reply frame as a row of items, without a copy: [`Answer`], [`ReservationReply`] or
/// [`ProductReply`], as the frame's kind says. `None` if the body is not a whole number of them.
pub fn items<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Option<&[T]> {
    <[T]>::ref_from_bytes(body).ok()
}
