//! What an answer says about its id, whichever request it answers.
//!
//! The client's outcomes are many, one type for each request. What they claim about an id is little: here it is.
//! Deliberately not here: whether it is true.

use sluice_client::{
    At, CancelOutcome, ConfirmOutcome, Ended, ReserveOutcome, Resolution, Status, StockOutcome,
};

/// What was said about an id.
///
/// `first` is true if the request that was answered did it; otherwise it had been done before. An expiry is
/// `settled` if its units can never be confirmed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "sequence and deadline are those of the client's outcomes")]
pub enum Said {
    /// It holds units.
    Held { sequence: u64, deadline_ms: u64, first: bool },
    /// Its units are sold.
    Confirmed { sequence: u64, first: bool },
    /// Its units were given back.
    Cancelled { sequence: u64, first: bool },
    /// Its units were given back at the deadline.
    Expired { sequence: u64, settled: bool },
    /// It changed the stock.
    Applied { sequence: u64, first: bool },
    /// It took nothing. Figures go with what was just decided: of `Insufficient` and `SoldOut` the free and the held
    /// units, of `LimitReached` the limit and the user's units.
    Refused { status: Status, figures: Option<(u64, u64)> },
    /// It took nothing and never will.
    Dead,
    /// No final answer, but a promise that nothing was done.
    Nothing,
}

impl Said {
    /// Whether it claims that units were taken, or the stock was changed, at some time.
    pub fn claims_effect(self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Dead | Self::Nothing)
    }

    /// Whether the units are held, as far as is known.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Held { .. })
    }

    fn refused(status: Status) -> Self {
        Self::Refused { status, figures: None }
    }

    fn ended(state: Ended, sequence: u64, settled: bool) -> Self {
        match state {
            Ended::Confirmed => Self::Confirmed { sequence, first: false },
            Ended::Cancelled => Self::Cancelled { sequence, first: false },
            Ended::Expired => Self::Expired { sequence, settled },
        }
    }
}

/// Answers of kinds that no well-formed request gets are kept as refusals with [`Status::Invalid`]: the judge lets
/// none of them pass.
const ODD: Status = Status::Invalid;

impl From<&ReserveOutcome> for Said {
    fn from(outcome: &ReserveOutcome) -> Self {
        match *outcome {
            ReserveOutcome::Reserved { sequence, deadline_ms, repeated, .. } => {
                Self::Held { sequence, deadline_ms, first: !repeated }
            }
            ReserveOutcome::Already { state, sequence, .. } => Self::ended(state, sequence, false),
            ReserveOutcome::RefusedEarlier { with, .. } => Self::refused(with),
            ReserveOutcome::Insufficient { free, held, .. } => {
                Self::Refused { status: Status::Insufficient, figures: Some((free, held)) }
            }
            ReserveOutcome::SoldOut { .. } => {
                Self::Refused { status: Status::SoldOut, figures: Some((0, 0)) }
            }
            ReserveOutcome::LimitReached { limit, has, .. } => {
                Self::Refused { status: Status::LimitReached, figures: Some((limit, has)) }
            }
            ReserveOutcome::NotOpen { .. } => Self::refused(Status::NotOpen),
            ReserveOutcome::Closed { .. } => Self::refused(Status::Closed),
            ReserveOutcome::UnknownProduct { .. } => Self::refused(Status::UnknownProduct),
            ReserveOutcome::IdConflict { .. } => Self::refused(Status::IdConflict),
            ReserveOutcome::Fenced { .. } => Self::Dead,
            _ => Self::refused(ODD),
        }
    }
}

/// What a confirmation's outcome says, and when it held.
pub(super) fn of_confirm(outcome: &ConfirmOutcome) -> (Said, At) {
    match *outcome {
        ConfirmOutcome::Confirmed { sequence, repeated, at } => {
            (Said::Confirmed { sequence, first: !repeated }, at)
        }
        ConfirmOutcome::Expired { sequence, at } => (Said::Expired { sequence, settled: true }, at),
        ConfirmOutcome::Cancelled { sequence, at } => (Said::Cancelled { sequence, first: false }, at),
        ConfirmOutcome::RefusedEarlier { with, at } => (Said::refused(with), at),
        ConfirmOutcome::Fenced { at } => (Said::Dead, at),
        ConfirmOutcome::UnknownReservation { at } => (Said::refused(Status::UnknownReservation), at),
        _ => (Said::refused(ODD), At::default()),
    }
}

/// What a cancellation's outcome says, and when it held.
pub(super) fn of_cancel(outcome: &CancelOutcome) -> (Said, At) {
    match *outcome {
        CancelOutcome::Cancelled { sequence, repeated, at } => {
            (Said::Cancelled { sequence, first: !repeated }, at)
        }
        CancelOutcome::Expired { sequence, at } => (Said::Expired { sequence, settled: true }, at),
        CancelOutcome::AlreadyConfirmed { sequence, at } => (Said::Confirmed { sequence, first: false }, at),
        CancelOutcome::Fenced { at } => (Said::Dead, at),
        CancelOutcome::RefusedEarlier { with, at } => (Said::refused(with), at),
        _ => (Said::refused(ODD), At::default()),
    }
}

/// What a resolution says, and when it held.
pub(super) fn of_resolution(outcome: &Resolution) -> (Said, At) {
    match *outcome {
        Resolution::Held { sequence, deadline_ms, at } => {
            (Said::Held { sequence, deadline_ms, first: false }, at)
        }
        Resolution::Ended { state, sequence, at } => (Said::ended(state, sequence, false), at),
        Resolution::Refused { with, at } => (Said::refused(with), at),
        Resolution::Applied { sequence, at } => (Said::Applied { sequence, first: false }, at),
        Resolution::Never { at } => (Said::Dead, at),
        _ => (Said::refused(ODD), At::default()),
    }
}

/// What the outcome of a change of stock says, and when it held.
pub(super) fn of_stock(outcome: &StockOutcome) -> (Said, At) {
    match *outcome {
        StockOutcome::Done { sequence, repeated, at, .. } => {
            (Said::Applied { sequence, first: !repeated }, at)
        }
        StockOutcome::Insufficient { free, held, at, .. } => {
            (Said::Refused { status: Status::Insufficient, figures: Some((free, held)) }, at)
        }
        StockOutcome::Sealed { at } => (Said::refused(Status::Sealed), at),
        StockOutcome::RefusedEarlier { with, at } => (Said::refused(with), at),
        StockOutcome::Fenced { at } => (Said::Dead, at),
        _ => (Said::refused(ODD), At::default()),
    }
}
