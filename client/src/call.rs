//! One call on its way through a connection: what it asks, by when, and who waits; and what comes back.
//!
//! A call is a single item or a row of items of one kind (a batch). Deliberately not here: what the answers
//! mean, and what is done when one is lost.

use std::time::Duration;

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, MemberReply};
use sluice_protocol::event::EventRecord;
use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::request::{IdItem, Item, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem};
use sluice_protocol::response::{ProductReply, ReservationReply};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{Answer, Kind};
use tokio::time::Instant;

use crate::waiter::Promise;

/// A call in the queue of a connection.
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) asked: Asked,
    /// When its caller gives up.
    pub(crate) deadline: Instant,
    pub(crate) promise: Promise,
}

/// What is asked: the bytes of the request, typed.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Nothing,
    Reserve(ReserveItem),
    Id(IdItem),
    Product(ProductItem),
    Put(PutProductItem),
    Stock(StockItem),
    List(ListItem),
    Reserves(Vec<ReserveItem>),
    Ids(Vec<IdItem>),
    PutGroup(Box<PutGroupItem>),
    Group(GroupItem),
    Join(JoinItem),
    Seat(SeatItem),
    Fetch(FetchItem),
    Acks(Vec<AckItem>),
    Naks(Vec<NakItem>),
    Letter(LetterItem),
    Stream(StreamItem),
}

impl Asked {
    /// How many items of a frame it takes.
    pub(crate) fn items(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Reserves(row) => row.len(),
            Self::Ids(row) => row.len(),
            Self::Acks(row) => row.len(),
            Self::Naks(row) => row.len(),
            Self::Reserve(_)
            | Self::Id(_)
            | Self::Product(_)
            | Self::Put(_)
            | Self::Stock(_)
            | Self::List(_)
            | Self::PutGroup(_)
            | Self::Group(_)
            | Self::Join(_)
            | Self::Seat(_)
            | Self::Fetch(_)
            | Self::Letter(_)
            | Self::Stream(_) => 1,
        }
    }

    /// Whether it is answered by a row, even if by a row of one.
    pub(crate) fn is_row(&self) -> bool {
        matches!(self, Self::Reserves(_) | Self::Ids(_) | Self::Acks(_) | Self::Naks(_))
    }

    /// How long its answer may rightly be waited for, beyond the time that it takes to give it.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Fetch(item) => Duration::from_millis(u64::from(item.wait_ms())),
            _ => Duration::ZERO,
        }
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Reserve(item) => write(out, item),
            Self::Id(item) => write(out, item),
            Self::Product(item) => write(out, item),
            Self::Put(item) => write(out, item),
            Self::Stock(item) => write(out, item),
            Self::List(item) => write(out, item),
            Self::Reserves(row) => row.iter().for_each(|item| write(out, item)),
            Self::Ids(row) => row.iter().for_each(|item| write(out, item)),
            Self::PutGroup(item) => write(out, &**item),
            Self::Group(item) => write(out, item),
            Self::Join(item) => write(out, item),
            Self::Seat(item) => write(out, item),
            Self::Fetch(item) => write(out, item),
            Self::Acks(row) => row.iter().for_each(|item| write(out, item)),
            Self::Naks(row) => row.iter().for_each(|item| write(out, item)),
            Self::Letter(item) => write(out, item),
            Self::Stream(item) => write(out, item),
        }
    }
}

fn write<T: Item>(out: &mut Vec<u8>, item: &T) {
    out.extend_from_slice(item.as_bytes());
}

/// What came back for a call: its shape follows from the kind and from being a row or not.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// To a ping: how long it took from writing to reading.
    Pong(Duration),
    /// To one item that is answered by an answer alone.
    Answer(Answer),
    /// To a row of them, in its order.
    Answers(Vec<Answer>),
    /// To a reservation query.
    Reservation(ReservationReply),
    /// To a product query.
    Product(ProductReply),
    /// To a page of products.
    Page(Vec<ProductReply>),
    /// To a list of groups.
    Groups(Vec<GroupReply>),
    /// To a list of members.
    Members(Vec<MemberReply>),
    /// To a page of dead letters.
    Letters(Vec<DeadReply>),
    /// To a fetch.
    Delivery(Box<DeliveryHead>, Vec<EventRecord>),
}

impl Reply {
    /// The answer that decides whether to try again; `None` where there is nothing to decide.
    pub(crate) fn answer(&self) -> Option<Answer> {
        match self {
            Self::Answer(answer) => Some(*answer),
            Self::Reservation(reply) => Some(reply.answer),
            Self::Product(reply) => Some(reply.answer),
            Self::Page(page) => page.first().map(|reply| reply.answer),
            Self::Groups(rows) => rows.first().map(|reply| reply.answer),
            Self::Members(rows) => rows.first().map(|reply| reply.answer),
            Self::Letters(rows) => rows.first().map(|reply| reply.answer),
            Self::Delivery(head, _) => Some(head.answer),
            Self::Pong(_) | Self::Answers(_) => None,
        }
    }
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It never left this process and never will.
    Unsent,
    /// It was written, and what became of it is not known.
    InDoubt,
    /// It never left this process, and no server will talk to this client: waiting cannot help.
    Hopeless,
    /// It never left this process: the connection's task is gone, with its runtime.
    Closed,
}
