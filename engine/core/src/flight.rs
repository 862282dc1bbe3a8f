//! What travels between a net thread and the replica: the part of one frame that only the log, or the ledger
//! itself, can answer. It goes there and comes back as one box, so that a frame costs one message each way.
//!
//! Relies on: nothing. Deliberately not here: who decides to send one (the desk), who answers it (the replica).

use std::sync::Arc;

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, MemberReply};
use sluice_protocol::event::EventRecord;
use sluice_protocol::group::GroupName;
use sluice_protocol::response::{ProductReply, ReservationReply};
use sluice_protocol::{Answer, Kind, ProductId, ReservationId};
use zerocopy::{FromZeros, IntoBytes};

use crate::gate::Gate;
use crate::ledger::command::Group;

/// Where a flight came from. The replica carries it back untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The net thread.
    pub thread: u16,
    /// That thread's name for the frame. Names are used again.
    pub frame: u32,
    /// Tells frames of one name apart.
    pub serial: u32,
}

/// What a flight asks for.
#[derive(Debug)]
pub enum Load {
    /// Commands for the log.
    Commands(Group),
    /// First attempts to reserve by buyers who may have reached their limit, or under ids that may be known: refused by
    /// the ledger as it stands if it refuses them, and commands for the log if not.
    Suspects(Group),
    /// Read reservations.
    Reservations(Vec<ReservationId>),
    /// Read products.
    Products(Vec<ProductId>),
    /// Read a page of products.
    Page {
        /// The smallest id wanted.
        from: ProductId,
        /// At most this many.
        limit: usize,
    },
    /// Read one consumer group, or with no name all of them.
    Groups(GroupName),
    /// Read the members of a consumer group.
    Members(GroupName),
    /// Read a page of a group's dead letters.
    Letters {
        /// The group's number.
        group: u32,
        /// The smallest sequence wanted.
        from: u64,
        /// At most this many.
        limit: usize,
    },
}

/// What a flight brings back: as many as it has lines; a page, as many as it found.
#[derive(Debug)]
pub enum Answers {
    /// One for each line.
    Plain(Vec<Answer>),
    /// One for each line.
    Reservations(Vec<ReservationReply>),
    /// One for each line, or one for each product of a page.
    Products(Vec<ProductReply>),
    /// One for each group.
    Groups(Vec<GroupReply>),
    /// One for each member.
    Members(Vec<MemberReply>),
    /// One for each dead letter.
    Letters(Vec<DeadReply>),
    /// One for a fetch, and the events behind it.
    Delivery(DeliveryHead, Vec<EventRecord>),
}

impl Answers {
    /// Replies to a frame of this kind that say nothing but these answers: where a record would follow, it is zero.
    pub fn plain(kind: Kind, answers: Vec<Answer>) -> Self {
        let mut answers = answers.into_iter();
        match kind {
            Kind::QueryReservation => {
                Self::Reservations(answers.map(|answer| (answer, None).into()).collect())
            }
            Kind::QueryProduct | Kind::ListProducts => {
                Self::Products(answers.map(|answer| (answer, None).into()).collect())
            }
            Kind::ListGroups => Self::Groups(answers.map(|answer| (answer, None).into()).collect()),
            Kind::ListMembers => {
                Self::Members(answers.map(|answer| MemberReply::new(answer, 0, 0, 0, 0)).collect())
            }
            Kind::ListDead => {
                let none = EventRecord::new_zeroed();
                Self::Letters(answers.map(|answer| DeadReply::new(answer, none, 0, 0, 0)).collect())
            }
            Kind::Fetch => {
                let answer = answers.next().expect("a fetch is answered");
                Self::Delivery(DeliveryHead::new(answer, 0, 0, 0), Vec::new())
            }
            _ => Self::Plain(answers.collect()),
        }
    }

    /// Items of the reply.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(items) => items.len(),
            Self::Reservations(items) => items.len(),
            Self::Products(items) => items.len(),
            Self::Groups(items) => items.len(),
            Self::Members(items) => items.len(),
            Self::Letters(items) => items.len(),
            Self::Delivery(_, events) => 1 + events.len(),
        }
    }

    /// Whether there are none: an empty page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the body of the reply.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(items) => out.extend_from_slice(items.as_bytes()),
            Self::Reservations(items) => out.extend_from_slice(items.as_bytes()),
            Self::Products(items) => out.extend_from_slice(items.as_bytes()),
            Self::Groups(items) => out.extend_from_slice(items.as_bytes()),
            Self::Members(items) => out.extend_from_slice(items.as_bytes()),
            Self::Letters(items) => out.extend_from_slice(items.as_bytes()),
            Self::Delivery(head, events) => {
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(events.as_bytes());
            }
        }
    }

    /// Hands over every answer. Events are none.
    pub fn each(&self, mut told: impl FnMut(&[Answer])) {
        match self {
            Self::Plain(answers) => told(answers),
            Self::Reservations(items) => items.iter().for_each(|item| told(&[item.answer])),
            Self::Products(items) => items.iter().for_each(|item| told(&[item.answer])),
            Self::Groups(items) => items.iter().for_each(|item| told(&[item.answer])),
            Self::Members(items) => items.iter().for_each(|item| told(&[item.answer])),
            Self::Letters(items) => items.iter().for_each(|item| told(&[item.answer])),
            Self::Delivery(head, _) => told(&[head.answer]),
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Flight {
    /// Where it came from.
    pub origin: Origin,
    /// What it asks.
    pub load: Load,
    /// For each command, its line in the frame.
    pub lines: Vec<u16>,
    /// For each command, whether it carries its units as tokens taken from `gate`. Empty where none does.
    pub tokened: Vec<bool>,
    /// The gate those tokens were taken from, and may be returned to.
    pub gate: Option<Arc<Gate>>,
    /// Lines that were answered on the way; they are not among `lines` any more. They come back with the rest,
    /// since a box that left once must come back once.
    pub told: Vec<(u16, Answer)>,
    /// What came of it.
    pub answers: Answers,
}

impl Flight {
    /// Items it asks for.
    pub fn len(&self) -> usize {
        match &self.load {
            Load::Commands(group) | Load::Suspects(group) => group.len(),
            Load::Reservations(ids) => ids.len(),
            Load::Products(ids) => ids.len(),
            Load::Page { .. } | Load::Groups(_) | Load::Members(_) | Load::Letters { .. } => 1,
        }
    }

    /// Items that it left with: those it asks for, and those answered on the way.
    pub fn requests(&self) -> usize {
        self.len() + self.told.len()
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers every line alike: nothing was done, or nobody knows.
    pub fn answer_all(&mut self, answer: Answer) {
        self.answers = Answers::Plain(vec![answer; self.len()]);
    }

    /// Gives all its tokens back to the gate they came from. Without effect on a gate of another term: the tokens
    /// belong to that object alone.
    pub fn refund(&mut self, stripe: usize) {
        let Some(gate) = self.gate.take() else { return };
        if let Load::Commands(Group::Reserve(items)) | Load::Suspects(Group::Reserve(items)) = &self.load {
            for (item, _) in items.iter().zip(&self.tokened).filter(|(_, tokened)| **tokened) {
                if let Some(lane) = gate.lane(ProductId(item.product)) {
                    lane.tokens.give(stripe, u64::from(item.quantity));
                }
            }
        }
        self.tokened.clear();
    }
}
