//! The one list of statuses, of states of a reservation, and of fields that can be out of their range.
//!
//! Re-exported by [`crate::response`], where readers look for them. Deliberately not here: the numbers that go with them.

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
pub(crate) use byte_enum;

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
        /// A delivery failed once too often: the event is a dead letter of its group. a = deliveries that failed.
        Parked = 8,

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
        /// No consumer group has this name or number.
        UnknownGroup = 29,
        /// The member is not in the group, or the lanes it speaks of are another's by now. a = the group's epoch, b = the
        /// lanes that are the member's.
        NotMember = 30,
        /// Events that were asked for are kept no more. a = the first sequence that is.
        Gap = 31,
        /// The group has no such dead letter.
        UnknownDead = 32,

        /// Nothing was done and nothing is claimed: try again. aux = retry after (ms).
        Busy = 48,
        /// This node does not lead; nothing was done. a = the leader's node id, 0 = not known.
        NotLeader = 49,
        /// The outcome is not known here: resolve the id before anything else.
        Unknown = 50,
        /// The order system is too far behind to take more: nothing was done, come back. a = the place in line that the
        /// reservation would have, b = how long until it would be taken up (ms, 0 = not known).
        Queueing = 51,
    }
}

impl Status {
    /// Whether the item is certain to have changed nothing and may be sent again as it is.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::NotLeader | Self::Full | Self::Queueing)
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
        /// The name of a group: 1 to 32 of a–z, 0–9, `-`, `_` and `.`, then zeros.
        GroupName = 9,
        /// The number of a member: 0 is not one.
        Member = 10,
        /// A sequence: beyond the last event.
        Sequence = 11,
        /// How long a member may be silent.
        SessionMs = 12,
        /// Kinds of events: some that there are not.
        EventKinds = 13,
        /// How long until a failed delivery is tried again.
        RetryMs = 14,
        /// An event whose bytes are not what a replica made.
        Event = 15,
        /// The number of events wanted.
        EventsMax = 16,
        /// How long an answer may wait for news.
        WaitMs = 17,
    }
}
