//! What is asked of consumer groups, as the log holds it.
//!
//! Items of all these kinds share one [`super::Group`], and most are a few bytes long while a put or an event is not. So
//! the long ones stand behind a pointer, and each takes the bytes of its own kind: the largest frame there may be fits
//! into an entry.
//!
//! Deliberately not here: what the commands do (`groups`).

use rkyv::{Archive, Deserialize, Serialize};
use sluice_protocol::ProductId;
use sluice_protocol::event::EVENT_LEN;
use sluice_protocol::group::{GroupItem, GroupTerms, JoinItem, PutGroupItem};
use sluice_protocol::limits::{GROUP_NAME_MAX, GROUP_PRODUCTS_MAX};
use sluice_protocol::seat::{AckItem, LetterItem, NakItem, SeatItem};
use zerocopy::IntoBytes;

/// One thing that is asked of a group.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Consume {
    /// Create a group or change its terms.
    Put(Box<PutGroup>),
    /// Remove a group; the number means nothing.
    Remove(Box<Named>),
    /// Move a group's cursor: the number is the last sequence that it does not want.
    Seek(Box<Named>),
    /// Take a seat: the number is the member's.
    Join(Box<Named>),
    /// Give a seat back: the number is the member's.
    Leave(Numbered),
    /// Acknowledge events.
    Ack(Box<Ack>),
    /// A delivery failed.
    Nak(Box<Nak>),
    /// Deliver a dead letter again: the number is its sequence.
    Redrive(Numbered),
    /// Forget a dead letter: the number is its sequence.
    Drop(Numbered),
}

/// A group by its name, and a number.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The group's name, zeros behind it.
    pub name: [u8; GROUP_NAME_MAX],
    /// What it is, the command says.
    pub number: u64,
}

/// A group by its number, and a number.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The group.
    pub group: u32,
    /// What it is, the command says.
    pub number: u64,
}

/// Create a group or change its terms.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutGroup {
    /// The group's name, zeros behind it.
    pub name: [u8; GROUP_NAME_MAX],
    /// At creation: the last sequence that it does not want.
    pub after: u64,
    /// How it reads.
    pub terms: LoggedTerms,
}

/// [`GroupTerms`] as entries and images hold them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedTerms {
    /// See [`GroupTerms`].
    pub kinds: u32,
    /// See [`GroupTerms`].
    pub products: [u64; GROUP_PRODUCTS_MAX],
    /// See [`GroupTerms`].
    pub attempts_max: u32,
    /// See [`GroupTerms`].
    pub retry_ms: u32,
    /// See [`GroupTerms`].
    pub retry_ms_max: u32,
    /// See [`GroupTerms`].
    pub session_ms: u32,
    /// Whether dead letters cancel what they tell of.
    pub cancels_dead: bool,
    /// The reason that they give; 0 if they do not.
    pub cancel_reason: u32,
    /// See [`GroupTerms`].
    pub backlog_max: u64,
    /// See [`GroupTerms`].
    pub required_lag_max: u64,
}

/// Acknowledge events.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The group's number.
    pub group: u32,
    /// The member's number.
    pub member: u64,
    /// As of when the member knows its lanes.
    pub epoch: u64,
    /// Mask of lanes; 0: the redriven dead letter of the sequence.
    pub lanes: u64,
    /// Sequence.
    pub upto: u64,
}

/// A delivery failed.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nak {
    /// The group's number.
    pub group: u32,
    /// The member's number.
    pub member: u64,
    /// As of when the member knows its lanes.
    pub epoch: u64,
    /// Milliseconds until it is tried again; 0 = as the terms say.
    pub delay_ms: u32,
    /// The consumer's own code.
    pub cause: u32,
    /// It is never tried again.
    pub for_good: bool,
    /// The event, as it was delivered.
    pub event: [u8; EVENT_LEN],
}

impl Consume {
    /// A put.
    pub fn put(item: &PutGroupItem) -> Self {
        let (name, after, terms) = (item.name().bytes(), item.after(), LoggedTerms::from(&item.terms()));
        Self::Put(Box::new(PutGroup { name, after, terms }))
    }

    /// A removal.
    pub fn remove(item: &GroupItem) -> Self {
        Self::Remove(Box::new(Named { name: item.name().bytes(), number: 0 }))
    }

    /// A seek.
    pub fn seek(item: &JoinItem) -> Self {
        Self::Seek(Box::new(Named { name: item.name().bytes(), number: item.number() }))
    }

    /// A join.
    pub fn join(item: &JoinItem) -> Self {
        Self::Join(Box::new(Named { name: item.name().bytes(), number: item.number() }))
    }

    /// A redrive.
    pub fn redrive(item: &LetterItem) -> Self {
        Self::Redrive(Numbered { group: item.group(), number: item.sequence() })
    }

    /// A drop.
    pub fn drop(item: &LetterItem) -> Self {
        Self::Drop(Numbered { group: item.group(), number: item.sequence() })
    }

    /// Bytes it takes in an encoded entry.
    pub fn encoded_len(&self) -> usize {
        let behind = match self {
            Self::Put(_) => size_of::<ArchivedPutGroup>(),
            Self::Remove(_) | Self::Seek(_) | Self::Join(_) => size_of::<ArchivedNamed>(),
            Self::Ack(_) => size_of::<ArchivedAck>(),
            Self::Nak(_) => size_of::<ArchivedNak>(),
            Self::Leave(_) | Self::Redrive(_) | Self::Drop(_) => 0,
        };
        size_of::<ArchivedConsume>() + behind
    }
}

impl From<&SeatItem> for Consume {
    /// A leave.
    fn from(item: &SeatItem) -> Self {
        Self::Leave(Numbered { group: item.group(), number: item.member() })
    }
}

impl From<&AckItem> for Consume {
    fn from(item: &AckItem) -> Self {
        Self::Ack(Box::new(Ack {
            group: item.seat.group(),
            member: item.seat.member(),
            epoch: item.epoch(),
            lanes: item.lanes(),
            upto: item.upto(),
        }))
    }
}

impl From<&NakItem> for Consume {
    fn from(item: &NakItem) -> Self {
        let mut event = [0; EVENT_LEN];
        event.copy_from_slice(item.event.as_bytes());
        Self::Nak(Box::new(Nak {
            group: item.seat.group(),
            member: item.seat.member(),
            epoch: item.epoch(),
            delay_ms: item.delay_ms(),
            cause: item.cause(),
            for_good: item.is_for_good(),
            event,
        }))
    }
}

impl From<&GroupTerms> for LoggedTerms {
    fn from(terms: &GroupTerms) -> Self {
        Self {
            kinds: terms.kinds,
            products: terms.products.map(|product| product.0),
            attempts_max: terms.attempts_max,
            retry_ms: terms.retry_ms,
            retry_ms_max: terms.retry_ms_max,
            session_ms: terms.session_ms,
            cancels_dead: terms.cancel_dead.is_some(),
            cancel_reason: terms.cancel_dead.unwrap_or(0),
            backlog_max: terms.backlog_max,
            required_lag_max: terms.required_lag_max,
        }
    }
}

impl From<&ArchivedLoggedTerms> for GroupTerms {
    fn from(terms: &ArchivedLoggedTerms) -> Self {
        Self {
            kinds: terms.kinds.to_native(),
            products: std::array::from_fn(|at| ProductId(terms.products[at].to_native())),
            attempts_max: terms.attempts_max.to_native(),
            retry_ms: terms.retry_ms.to_native(),
            retry_ms_max: terms.retry_ms_max.to_native(),
            session_ms: terms.session_ms.to_native(),
            cancel_dead: terms.cancels_dead.then_some(terms.cancel_reason.to_native()),
            backlog_max: terms.backlog_max.to_native(),
            required_lag_max: terms.required_lag_max.to_native(),
        }
    }
}
