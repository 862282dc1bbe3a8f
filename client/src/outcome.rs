//! Final answers about reservations: what was decided, for good, and the point of the log it was decided at.
//!
//! Every outcome is a statement that will not be taken back, but one: [`ReserveOutcome::Queueing`] settles nothing. Each carries `at`, the log index and ledger time
//! at which it holds. One rule of reading: `repeated` means that an earlier request with the same id had done
//! it already; that may have been an earlier attempt of this very call, whose reply was lost.
//!
//! Outcomes of changes to products and to consumer groups are rooms of their own (`admin`, `groups`); what is no outcome is an [`crate::Error`].

use std::time::Duration;

use sluice_protocol::{Answer, RefusedField, ReservationId, State, Status};

pub use sluice_protocol::response::At;

mod admin;
mod groups;

pub use admin::{PutOutcome, SealOutcome, StockOutcome};
pub use groups::{GroupOutcome, LetterOutcome};

/// A field of a request is out of its range. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which field.
    pub field: RefusedField,
    /// What it was.
    pub value: u64,
    /// The lowest value allowed.
    pub low: u64,
    /// The highest.
    pub high: u64,
    /// When this held.
    pub at: At,
}

impl Invalid {
    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let (field, value, low, high) = answer.refused_field()?;
        Some(Self { field, value, low, high, at: answer.at() })
    }
}

/// What became of a request to take units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "only Reserved means that units were taken"]
pub enum ReserveOutcome {
    /// The units are this id's until the deadline. On disk, on a majority.
    Reserved {
        /// The id to confirm or cancel.
        id: ReservationId,
        /// The sequence number of the event. Earlier sequences were served earlier.
        sequence: u64,
        /// When the hold ends, ledger milliseconds.
        deadline_ms: u64,
        /// Whether an earlier request with this id took them.
        repeated: bool,
        /// When this held.
        at: At,
    },
    /// An earlier request with this id took the units, and they are no longer held: no new ones were taken.
    Already {
        /// What became of them.
        state: Ended,
        /// The sequence number of the event that ended the hold.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// An earlier request with this id was refused, for good. A new wish needs a new id.
    RefusedEarlier {
        /// How it was refused.
        with: Status,
        /// When this held.
        at: At,
    },
    /// Fewer units are free than asked for. Holds that end may free some.
    Insufficient {
        /// Free units.
        free: u64,
        /// Held units, which may come back.
        held: u64,
        /// The earliest time at which a hold could end, ledger milliseconds; 0 = nothing is held.
        earliest_return_ms: u64,
        /// When this held.
        at: At,
    },
    /// Nothing is left and nothing will ever come back.
    SoldOut {
        /// When this held.
        at: At,
    },
    /// The user would have more than the sale allows.
    LimitReached {
        /// Units allowed.
        limit: u64,
        /// Units the user has, held and confirmed.
        has: u64,
        /// When this held.
        at: At,
    },
    /// The sale has not opened.
    NotOpen {
        /// When it opens, ledger milliseconds.
        opens_ms: u64,
        /// How long that is from `at.time_ms`, milliseconds.
        opens_in_ms: u64,
        /// When this held.
        at: At,
    },
    /// The sale is over.
    Closed {
        /// When it closed, ledger milliseconds.
        closed_ms: u64,
        /// When this held.
        at: At,
    },
    /// No such product.
    UnknownProduct {
        /// When this held.
        at: At,
    },
    /// The id belongs to another request: another product, user, quantity, or a change of stock.
    IdConflict {
        /// When this held.
        at: At,
    },
    /// The id was cancelled or resolved before it took anything, and is dead.
    Fenced {
        /// When this held.
        at: At,
    },
    /// The order systems are too far behind to take more. Nothing was done and nothing is settled: the same id may be
    /// sent again, with [`crate::Reserve::id`], when its turn could have come. This client does not do that by itself, so that
    /// the shop can show the place in line instead of letting its visitor wait.
    Queueing {
        /// The id to send again.
        id: ReservationId,
        /// The place in line that it would have.
        place: u64,
        /// How long until its turn, if that is known.
        eta: Option<Duration>,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

/// How a reservation that held units ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its units are sold.
    Confirmed,
    /// It was given back.
    Cancelled,
    /// It was not confirmed in time.
    Expired,
}

impl Ended {
    fn read(state: State) -> Option<Self> {
        match state {
            State::Confirmed => Some(Self::Confirmed),
            State::Cancelled => Some(Self::Cancelled),
            State::Expired => Some(Self::Expired),
            State::None | State::Held | State::Fenced | State::Refused | State::Applied => None,
        }
    }
}

impl ReserveOutcome {
    /// Whether the units are held for this id now, or were when this was answered.
    pub fn is_reserved(&self) -> bool {
        matches!(self, Self::Reserved { .. })
    }

    /// When this held; of what settles nothing, zero.
    pub fn at(&self) -> At {
        match self {
            Self::Reserved { at, .. }
            | Self::Already { at, .. }
            | Self::RefusedEarlier { at, .. }
            | Self::Insufficient { at, .. }
            | Self::SoldOut { at }
            | Self::LimitReached { at, .. }
            | Self::NotOpen { at, .. }
            | Self::Closed { at, .. }
            | Self::UnknownProduct { at }
            | Self::IdConflict { at }
            | Self::Fenced { at } => *at,
            Self::Queueing { .. } => At::default(),
            Self::Invalid(invalid) => invalid.at,
        }
    }

    /// Reads the answer to a reserve or, equally, to a resolve of its id. `None`: it answers neither.
    pub(crate) fn read(id: ReservationId, answer: &Answer) -> Option<Self> {
        let (at, sequence, deadline_ms) = (answer.at(), answer.sequence(), answer.deadline_ms());
        Some(match answer.status()? {
            Status::Reserved => Self::Reserved { id, sequence, deadline_ms, repeated: false, at },
            Status::Already => match answer.state() {
                State::Held => Self::Reserved { id, sequence, deadline_ms, repeated: true, at },
                State::Refused => Self::RefusedEarlier { with: answer.refused_with()?, at },
                State::Fenced => Self::Fenced { at },
                state => Self::Already { state: Ended::read(state)?, sequence, at },
            },
            Status::Expired => Self::Already { state: Ended::Expired, sequence, at },
            Status::Insufficient => Self::Insufficient {
                free: answer.free(),
                held: answer.held(),
                earliest_return_ms: answer.earliest_return_ms(),
                at,
            },
            Status::SoldOut => Self::SoldOut { at },
            Status::LimitReached => Self::LimitReached { limit: answer.limit(), has: answer.user_has(), at },
            Status::NotOpen => {
                Self::NotOpen { opens_ms: answer.opens_ms(), opens_in_ms: answer.opens_in_ms(), at }
            }
            Status::Closed => Self::Closed { closed_ms: answer.closes_ms(), at },
            Status::UnknownProduct => Self::UnknownProduct { at },
            Status::IdConflict => Self::IdConflict { at },
            Status::Fenced => Self::Fenced { at },
            Status::Queueing => {
                let [place, eta_ms, _] = answer.numbers();
                Self::Queueing { id, place, eta: eta(eta_ms) }
            }
            Status::Invalid => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// How long something takes, where 0 says that it is not known.
pub(crate) fn eta(eta_ms: u64) -> Option<Duration> {
    (eta_ms != 0).then(|| Duration::from_millis(eta_ms))
}

/// What became of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "only Confirmed means that the units are sold"]
pub enum ConfirmOutcome {
    /// The units are sold, for good.
    Confirmed {
        /// The sequence number of the event.
        sequence: u64,
        /// Whether it was confirmed before.
        repeated: bool,
        /// When this held.
        at: At,
    },
    /// The hold had ended, and its units could not be taken again.
    Expired {
        /// The sequence number of its expiry.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// It was cancelled before.
    Cancelled {
        /// The sequence number of its cancellation.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// The reservation was refused: there is nothing to confirm.
    RefusedEarlier {
        /// How it was refused.
        with: Status,
        /// When this held.
        at: At,
    },
    /// The id is dead: it never took anything and never will.
    Fenced {
        /// When this held.
        at: At,
    },
    /// No reservation has this id.
    UnknownReservation {
        /// When this held.
        at: At,
    },
    /// The id names a change of stock.
    IdConflict {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl ConfirmOutcome {
    /// Whether the units are sold.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, Self::Confirmed { .. })
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let (at, sequence) = (answer.at(), answer.sequence());
        Some(match (answer.status()?, answer.state()) {
            (Status::Confirmed, _) => Self::Confirmed { sequence, repeated: false, at },
            (Status::Already, State::Confirmed) => Self::Confirmed { sequence, repeated: true, at },
            (Status::Expired, _) | (Status::Already, State::Expired) => Self::Expired { sequence, at },
            (Status::Already, State::Cancelled) => Self::Cancelled { sequence, at },
            (Status::Already, State::Refused) => Self::RefusedEarlier { with: answer.refused_with()?, at },
            (Status::Fenced, _) | (Status::Already, State::Fenced) => Self::Fenced { at },
            (Status::UnknownReservation, _) => Self::UnknownReservation { at },
            (Status::IdConflict, _) | (Status::Already, State::Applied) => Self::IdConflict { at },
            (Status::Invalid, _) => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The units are free again.
    Cancelled {
        /// The sequence number of the event.
        sequence: u64,
        /// Whether it was cancelled before.
        repeated: bool,
        /// When this held.
        at: At,
    },
    /// The hold had ended by itself: the units are free again.
    Expired {
        /// The sequence number of its expiry.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// The units are sold: nothing was cancelled.
    AlreadyConfirmed {
        /// The sequence number of its confirmation.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// The id had taken nothing, and never will: a reservation that is still on its way will be refused.
    Fenced {
        /// When this held.
        at: At,
    },
    /// The reservation was refused: there is nothing to cancel.
    RefusedEarlier {
        /// How it was refused.
        with: Status,
        /// When this held.
        at: At,
    },
    /// The id names a change of stock.
    IdConflict {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl CancelOutcome {
    /// Whether the id has no units now and never will have any.
    pub fn is_released(&self) -> bool {
        matches!(
            self,
            Self::Cancelled { .. } | Self::Expired { .. } | Self::Fenced { .. } | Self::RefusedEarlier { .. }
        )
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let (at, sequence) = (answer.at(), answer.sequence());
        Some(match (answer.status()?, answer.state()) {
            (Status::Cancelled, _) => Self::Cancelled { sequence, repeated: false, at },
            (Status::Already, State::Cancelled) => Self::Cancelled { sequence, repeated: true, at },
            (Status::Expired, _) | (Status::Already, State::Expired) => Self::Expired { sequence, at },
            (Status::AlreadyConfirmed, _) | (Status::Already, State::Confirmed) => {
                Self::AlreadyConfirmed { sequence, at }
            }
            (Status::Fenced, _) | (Status::Already, State::Fenced) => Self::Fenced { at },
            (Status::Already, State::Refused) => Self::RefusedEarlier { with: answer.refused_with()?, at },
            (Status::IdConflict, _) | (Status::Already, State::Applied) => Self::IdConflict { at },
            (Status::Invalid, _) => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// What an id came to. Whatever it is, it is known now: an id without an outcome got "never" by being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what became of the id is why it was resolved"]
pub enum Resolution {
    /// It holds units until the deadline.
    Held {
        /// The sequence number of the event.
        sequence: u64,
        /// When the hold ends, ledger milliseconds.
        deadline_ms: u64,
        /// When this held.
        at: At,
    },
    /// It held units, and no longer does.
    Ended {
        /// What became of them.
        state: Ended,
        /// The sequence number of the event that ended the hold.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// It was refused, and took nothing.
    Refused {
        /// How.
        with: Status,
        /// When this held.
        at: At,
    },
    /// It named a restock or a write-off, which was done.
    Applied {
        /// The sequence number of the event.
        sequence: u64,
        /// When this held.
        at: At,
    },
    /// It took nothing and never will: it is dead.
    Never {
        /// When this held.
        at: At,
    },
    /// It is no id.
    Invalid(Invalid),
}

impl Resolution {
    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let (at, sequence) = (answer.at(), answer.sequence());
        Some(match (answer.status()?, answer.state()) {
            (Status::Already, State::Held) => Self::Held { sequence, deadline_ms: answer.deadline_ms(), at },
            (Status::Already, State::Refused) => Self::Refused { with: answer.refused_with()?, at },
            (Status::Already, State::Applied) => Self::Applied { sequence, at },
            (Status::Fenced, _) | (Status::Already, State::Fenced) => Self::Never { at },
            (Status::Already, state) => Self::Ended { state: Ended::read(state)?, sequence, at },
            (Status::Invalid, _) => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}
