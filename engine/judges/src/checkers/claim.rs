//! What an answer says has become of an id, in one form for all the kinds of answers that say it.

use sluice_core::ledger::Ledger;
use sluice_protocol::response::At;
use sluice_protocol::{Answer, ReservationId, State, Status};

use crate::history::{Ask, Call, Reply};
use crate::model::Said;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When it holds.
    pub at: At,
    /// What the id has come to; `None`: nothing yet.
    pub state: State,
    /// The event that made it so; 0 = not told.
    pub sequence: u64,
    /// What it was refused with, if that is told.
    pub refused_with: Option<Status>,
    /// Of an expired one: that it can never be confirmed.
    pub settled: bool,
    /// While held; 0 = not told.
    pub deadline_ms: u64,
}

impl Claim {
    fn new(at: At, state: State) -> Self {
        Self { at, state, sequence: 0, refused_with: None, settled: false, deadline_ms: 0 }
    }

    /// What a reply says of the id that the call named, if anything.
    pub fn of(call: &Call, reply: &Reply, said: Said) -> Option<(u128, Self)> {
        let (id, answer) = (call.ask.id()?, reply.answer()?);
        let claim = Self::new(answer.at(), answer.state());
        let claim = match answer.status()? {
            Status::Reserved => {
                Self { sequence: answer.sequence(), deadline_ms: answer.deadline_ms(), ..claim }
            }
            Status::Expired => Self { sequence: answer.sequence(), settled: true, ..claim },
            Status::Already if answer.state() == State::Refused => {
                Self { refused_with: answer.refused_with(), ..claim }
            }
            Status::Already => Self {
                sequence: answer.sequence(),
                deadline_ms: answer.deadline_ms(),
                settled: answer.state() == State::Expired && matches!(call.ask, Ask::Cancel(_)),
                ..claim
            },
            Status::Confirmed | Status::Cancelled | Status::AlreadyConfirmed => {
                Self { sequence: answer.sequence(), ..claim }
            }
            Status::Fenced => claim,
            Status::Done => Self::of_done(call, reply, &answer, claim),
            Status::UnknownReservation => claim,
            status => return Self::of_refusal(call, status, said, claim).map(|claim| (id, claim)),
        };
        Some((id, claim))
    }

    fn of_done(call: &Call, reply: &Reply, answer: &Answer, claim: Self) -> Self {
        match (&call.ask, reply) {
            (Ask::Restock(_) | Ask::WriteOff(_), _) => {
                Self { state: State::Applied, sequence: answer.sequence(), ..claim }
            }
            (_, Reply::Reservation(reply)) => {
                let view = sluice_protocol::response::ReservationView::from(reply.record);
                Self { sequence: view.sequence, deadline_ms: view.deadline_ms, ..claim }
            }
            _ => claim,
        }
    }

    /// A refusal settles an id only if the log gave it.
    fn of_refusal(call: &Call, status: Status, said: Said, claim: Self) -> Option<Self> {
        let remembers = matches!(call.ask, Ask::Reserve(_) | Ask::Restock(_) | Ask::WriteOff(_));
        let forgets = matches!(status, Status::Invalid | Status::Full | Status::IdConflict);
        let settles = remembers && !forgets && said == Said::InTheLog;
        settles.then_some(Self { state: State::Refused, refused_with: Some(status), ..claim })
    }

    /// What a ledger says of an id.
    pub fn in_ledger(id: u128, ledger: &Ledger) -> Self {
        let at = ledger.at();
        match ledger.reservation(ReservationId(id)) {
            None => Self::new(at, State::None),
            Some((state, view)) => {
                Self { sequence: view.sequence, deadline_ms: view.deadline_ms, ..Self::new(at, state) }
            }
        }
    }

    /// Why `later` cannot be true of the same id if this is, `later` being of a higher index or of the same one.
    /// `forgotten`: an outcome that ended may have been forgotten in between, and the id used anew.
    pub fn excludes(&self, later: &Self, forgotten: bool) -> Option<&'static str> {
        use State::{Cancelled, Confirmed, Expired, Held, None as Nothing};
        if forgotten && self.state != Confirmed {
            return None;
        }
        match (self.state, later.state) {
            (Nothing, _) | (Held, Confirmed | Cancelled | Expired) => None,
            (Expired, Confirmed) if self.settled => Some("an expiry that was settled cannot be confirmed"),
            (Expired, Confirmed) => None,
            (before, after) if before != after => Some("an outcome changed that is final"),
            _ if self.sequence != 0 && later.sequence != 0 && self.sequence != later.sequence => {
                Some("it was made twice, by two events")
            }
            _ => match (self.refused_with, later.refused_with) {
                (Some(before), Some(after)) if before != after => Some("it was refused for two reasons"),
                _ => None,
            },
        }
    }
}
