//! A node's answers about the stream of events and its one group, as frames.
//!
//! Deliberately not here: what is right ([`super::groups`]).
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each binary uses a part of it")]

use std::time::Duration;

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, MemberReply};
use sluice_protocol::event::EventRecord;
use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::request::{Item, items};
use sluice_protocol::seat::{FetchItem, LetterItem, SeatItem, StreamItem};
use sluice_protocol::{Answer, Kind, PROTOCOL_VERSION, RefusedField};
use zerocopy::IntoBytes;

use super::groups::Group;
use super::{AT, Act, Request, frame};

/// How long a fetch waits for news here, if it may wait: short, as what is asked meanwhile waits behind it.
pub const WAIT: Duration = Duration::from_millis(5);

/// Whether a request is about the stream or a group.
pub fn is_about_groups(kind: Kind) -> bool {
    (0x30..=0x3E).contains(&(kind as u8))
}

fn one<T: Item>(request: &Request) -> T {
    items::<T>(&request.body).unwrap()[0]
}

fn delivery(request: &Request, head: &DeliveryHead, events: &[EventRecord]) -> Act {
    let mut body = head.as_bytes().to_vec();
    events.iter().for_each(|event| body.extend_from_slice(event.as_bytes()));
    let correlation = request.header.correlation;
    Act::Write(frame(Kind::FetchReply, PROTOCOL_VERSION, 1 + events.len(), correlation, &body))
}

/// A reply that gives every item the same answer, in the shape of its kind.
pub fn refuse(request: &Request, answer: Answer) -> Act {
    match request.kind() {
        Kind::Fetch => delivery(request, &DeliveryHead::new(answer, 0, 0, 0), &[]),
        Kind::ListGroups => request.reply(&[GroupReply::from((answer, None))]),
        Kind::ListMembers => request.reply(&[MemberReply::new(answer, 0, 0, 0, 0)]),
        Kind::ListDead => {
            let nothing = <EventRecord as zerocopy::FromZeros>::new_zeroed();
            request.reply(&[DeadReply::new(answer, nothing, 0, 0, 0)])
        }
        _ => request.all(answer),
    }
}

/// What the leader answers.
pub fn answer(group: &mut Group, request: &Request) -> Act {
    let letter = || one::<LetterItem>(request);
    match request.kind() {
        Kind::Fetch => {
            let item: FetchItem = one(request);
            let (head, events) = group.fetch(&item);
            let reply = delivery(request, &head, &events);
            let waits = events.is_empty() && item.wait_ms() > 0 && head.epoch() == item.epoch();
            if waits { Act::Both(vec![Act::Pause(WAIT), reply]) } else { reply }
        }
        Kind::PutGroup => {
            let item: PutGroupItem = one(request);
            if item.terms().session_ms < 500 {
                let value = u64::from(item.terms().session_ms);
                let refused = Answer::invalid(AT, RefusedField::SessionMs, value, 500, 3_600_000);
                return request.reply(&[refused]);
            }
            request.reply(&[group.put(item.name(), item.after(), item.terms())])
        }
        Kind::RemoveGroup => {
            let found = group.find(one::<GroupItem>(request).name());
            let answer = found.map_or_else(|answer| answer, |()| group.remove());
            request.reply(&[answer])
        }
        Kind::ListGroups => request.reply(&group.list(one::<GroupItem>(request).name())),
        Kind::ListMembers => match group.find(one::<GroupItem>(request).name()) {
            Ok(()) => request.reply(&group.list_members()),
            Err(answer) => refuse(request, answer),
        },
        Kind::SeekGroup | Kind::Join => {
            let item: JoinItem = one(request);
            let answer = match group.find(item.name()) {
                Err(answer) => answer,
                Ok(()) if request.kind() == Kind::Join => group.join(item.number()),
                Ok(()) => group.seek(item.number()),
            };
            request.reply(&[answer])
        }
        Kind::QueryStream => request.reply(&[group.bounds(&one::<StreamItem>(request))]),
        Kind::Leave => request.reply(&[group.leave(one::<SeatItem>(request).member())]),
        Kind::Ack => {
            let answers: Vec<Answer> =
                items(&request.body).unwrap().iter().map(|item| group.ack(item)).collect();
            request.reply(&answers)
        }
        Kind::Nak => {
            let answers: Vec<Answer> =
                items(&request.body).unwrap().iter().map(|item| group.nak(item)).collect();
            request.reply(&answers)
        }
        Kind::ListDead => request.reply(&group.list_dead(&letter())),
        Kind::Redrive => request.reply(&[group.redrive(letter().sequence())]),
        Kind::DropDead => request.reply(&[group.drop_dead(letter().sequence())]),
        Kind::QueryPlace => request.reply(&[group.place(&letter())]),
        other => panic!("{other:?} is not about groups"),
    }
}
