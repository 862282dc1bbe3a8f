//! What reads of the stream of events return: its bounds, groups, their members, their dead letters, places in line.
//!
//! Deliberately not here: events as consumers get them ([`crate::consume`]).

use std::time::Duration;

use sluice_protocol::Status;
use sluice_protocol::consumed::{DeadReply, GroupReply, GroupView, MemberReply};
use sluice_protocol::event::EventView;
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::response::{Answer, At};

use crate::outcome::eta;

/// The stream of events, as of `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamBounds {
    /// The first sequence that is kept.
    pub first: u64,
    /// The last that there is.
    pub last: u64,
    /// When this held.
    pub at: At,
}

impl StreamBounds {
    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let [first, last, _] = done(answer)?.numbers();
        Some(Self { first, last, at: answer.at() })
    }
}

/// A consumer group, as of `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its number: never used again, also if its name is.
    pub number: u32,
    /// Its name.
    pub name: GroupName,
    /// How it reads.
    pub terms: GroupTerms,
    /// Everything up to this sequence is acknowledged.
    pub cursor: u64,
    /// Rises with each change of who has which products.
    pub epoch: u64,
    /// Members with a seat.
    pub members: u32,
    /// Dead letters.
    pub dead: u32,
    /// Deliveries that failed since the group was made.
    pub failed: u64,
    /// Ledger time of the oldest event that is not acknowledged, milliseconds; 0 = there is none, or it is not known.
    pub oldest_ms: u64,
    /// Sequences acknowledged a second, smoothed, in thousandths.
    pub rate_milli: u64,
    /// When this held.
    pub at: At,
}

impl Group {
    /// `None` if there is no such group.
    pub(crate) fn read(reply: &GroupReply) -> Option<Self> {
        done(&reply.answer)?;
        let GroupView { group, name, terms, cursor, epoch, members, dead, failed, oldest_ms, rate_milli } =
            reply.record.into();
        let (number, at) = (group, reply.answer.at());
        Some(Self { number, name, terms, cursor, epoch, members, dead, failed, oldest_ms, rate_milli, at })
    }
}

/// A member of a consumer group, as of `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its number, which it drew itself.
    pub member: u64,
    /// Its lanes, one bit each.
    pub lanes: u64,
    /// Since which epoch it has a seat.
    pub epoch: u64,
    /// Everything up to this sequence is acknowledged in its lanes.
    pub cursor: u64,
    /// When this held.
    pub at: At,
}

impl Member {
    pub(crate) fn read(reply: &MemberReply) -> Option<Self> {
        let at = done(&reply.answer)?.at();
        let (member, lanes) = (reply.member(), reply.lanes());
        Some(Self { member, lanes, epoch: reply.epoch(), cursor: reply.cursor(), at })
    }
}

/// An event whose delivery failed too often, or that a consumer gave up, as of `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The event's sequence: with it the letter is redriven or dropped.
    pub sequence: u64,
    /// The event; `None` if its bytes are damaged, or of a kind that this version does not know.
    pub event: Option<EventView>,
    /// Deliveries that failed; 255 = so many or more.
    pub attempts: u8,
    /// When it was given up, ledger milliseconds.
    pub died_ms: u64,
    /// The consumer's own code for why.
    pub cause: u32,
    /// Whether it is being delivered again.
    pub is_redriven: bool,
    /// When this held.
    pub at: At,
}

impl DeadLetter {
    pub(crate) fn read(reply: &DeadReply) -> Option<Self> {
        let at = done(&reply.answer)?.at();
        Some(Self {
            sequence: reply.event.sequence(),
            event: reply.event.view(),
            attempts: reply.event.attempts(),
            died_ms: reply.died_ms(),
            cause: reply.cause(),
            is_redriven: reply.redrive() != 0,
            at,
        })
    }
}

/// How far a group is from an event, as of `at`: "you are number 58, in about two minutes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// Events that the group takes before this one; 0: it is next, or done.
    pub ahead: u64,
    /// How long until its turn at the group's present rate, if that is known.
    pub eta: Option<Duration>,
    /// Everything up to this sequence is acknowledged in the event's lane.
    pub cursor: u64,
    /// When this held.
    pub at: At,
}

impl Position {
    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let [ahead, eta_ms, cursor] = done(answer)?.numbers();
        Some(Self { ahead, eta: eta(eta_ms), cursor, at: answer.at() })
    }
}

fn done(answer: &Answer) -> Option<&Answer> {
    (answer.status() == Some(Status::Done)).then_some(answer)
}
