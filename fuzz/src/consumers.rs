//! Frames of consumers and their keepers, decoded and encoded again: a part of the target `frame`.

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupRecord, GroupReply, GroupView, MemberReply};
use sluice_protocol::event::{EVENT_LEN, EventRecord};
use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::response::Answer;
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{DecodeError, Kind};
use zerocopy::FromBytes;

use crate::frame::{each, look, reply_items};

/// Decodes a body, and encodes what it said.
pub(crate) fn again(kind: Kind, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    match kind {
        Kind::PutGroup => {
            each(body, |item: &PutGroupItem| PutGroupItem::new(item.name(), item.after(), &item.terms()))
        }
        Kind::RemoveGroup | Kind::ListGroups | Kind::ListMembers => {
            each(body, |item: &GroupItem| GroupItem::new(item.name()))
        }
        Kind::SeekGroup | Kind::Join => {
            each(body, |item: &JoinItem| JoinItem::new(item.name(), item.number()))
        }
        Kind::QueryStream => each(body, |item: &StreamItem| StreamItem::new(item.time_ms())),
        Kind::Leave => each(body, |item: &SeatItem| SeatItem::new(item.group(), item.member())),
        Kind::Fetch => each(body, fetch_again),
        Kind::Ack => {
            each(body, |item: &AckItem| AckItem::new(item.seat, item.epoch(), item.lanes(), item.upto()))
        }
        Kind::Nak => each(body, nak_again),
        Kind::ListDead | Kind::Redrive | Kind::DropDead | Kind::QueryPlace => {
            each(body, |item: &LetterItem| *item)
        }
        reply => {
            looked_at(reply, body);
            Ok(body.to_vec())
        }
    }
}

fn fetch_again(item: &FetchItem) -> FetchItem {
    FetchItem::new(item.seat, item.epoch())
        .after(item.looked_through(), item.after_redriven())
        .at_most(item.events_max())
        .waiting(item.wait_ms())
}

fn nak_again(item: &NakItem) -> NakItem {
    let again = NakItem::new(item.seat, item.epoch(), item.event, item.cause()).after(item.delay_ms());
    if item.is_for_good() { again.for_good() } else { again }
}

/// Reads all that a reply says. What comes of it is not looked at beyond that.
fn looked_at(kind: Kind, body: &[u8]) {
    match kind {
        Kind::ListGroupsReply => {
            for item in reply_items::<GroupReply>(body) {
                look(&item.answer);
                let view = GroupView::from(item.record);
                assert_eq!(GroupView::from(GroupRecord::from(view)), view);
            }
        }
        Kind::ListMembersReply => {
            for item in reply_items::<MemberReply>(body) {
                look(&item.answer);
            }
        }
        Kind::ListDeadReply => {
            for item in reply_items::<DeadReply>(body) {
                look(&item.answer);
                let _ = item.event.view();
            }
        }
        Kind::FetchReply => {
            let (head, rows) = DeliveryHead::read_from_prefix(body).expect("a reply has a head");
            look(&head.answer);
            for row in rows.chunks_exact(EVENT_LEN) {
                let event = EventRecord::read_from_bytes(row).expect("a row is as long as an event");
                let again = event.view().map(|view| EventRecord::from(view).stored());
                assert!(again.is_none_or(|again| again.view() == event.view()));
            }
        }
        _ => {
            for answer in reply_items::<Answer>(body) {
                look(answer);
            }
        }
    }
}
