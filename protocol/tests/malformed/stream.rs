//! Bytes that are wrong in what consumers ask: reserved bytes, flags, rows that end too soon; and any bytes at all.
//!
//! Deliberately not here: headers, counts and lengths, which `malformed.rs` tries of every kind; names and numbers that the
//! ledger refuses although the bytes are sound.

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, GroupView, MemberReply};
use sluice_protocol::event::{EventKind, EventRecord, lane_of};
use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::request::{self, Item};
use sluice_protocol::response::{self, Answer};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{DecodeError, Kind};
use zerocopy::FromBytes;

use super::refuses_what_is_cut;

/// Reads the body as consumers' kinds say, and all that can be asked of what was read; other kinds' replies are answers.
pub(super) fn read(kind: Kind, body: &[u8]) -> Result<(), DecodeError> {
    match kind {
        Kind::PutGroup => {
            let items = request::items::<PutGroupItem>(body)?;
            items
                .iter()
                .for_each(|item| drop((item.name().to_string(), item.name().is_sound(), item.terms())));
        }
        Kind::RemoveGroup | Kind::ListGroups | Kind::ListMembers => {
            let items = request::items::<GroupItem>(body)?;
            items.iter().for_each(|item| drop((item.name().to_string(), item.name().is_sound())));
        }
        Kind::SeekGroup | Kind::Join => drop(request::items::<JoinItem>(body)?),
        Kind::QueryStream => drop(request::items::<StreamItem>(body)?),
        Kind::Leave => drop(request::items::<SeatItem>(body)?),
        Kind::Fetch => drop(request::items::<FetchItem>(body)?),
        Kind::Ack => drop(request::items::<AckItem>(body)?),
        Kind::Nak => request::items::<NakItem>(body)?.iter().for_each(|item| look_at(&item.event)),
        Kind::ListDead | Kind::Redrive | Kind::DropDead | Kind::QueryPlace => {
            let items = request::items::<LetterItem>(body)?;
            assert!(items.iter().all(|item| lane_of(item.product()) < u64::BITS));
        }
        Kind::ListGroupsReply => {
            for item in of_checked_length::<GroupReply>(body) {
                assert!(GroupView::from(item.record).name.as_str().len() <= 32);
            }
        }
        Kind::ListMembersReply => drop(of_checked_length::<MemberReply>(body)),
        Kind::ListDeadReply => {
            of_checked_length::<DeadReply>(body).iter().for_each(|item| look_at(&item.event));
        }
        Kind::FetchReply => {
            // A count of none was refused with the header.
            let Ok((_, events)) = DeliveryHead::ref_from_prefix(body) else { return Ok(()) };
            of_checked_length::<EventRecord>(events).iter().for_each(look_at);
        }
        _ => drop(of_checked_length::<Answer>(body)),
    }
    Ok(())
}

fn of_checked_length<T>(body: &[u8]) -> &[T]
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    response::items(body).expect("the length was checked")
}

fn look_at(event: &EventRecord) {
    assert!(event.view().is_none() || event.is_intact());
    assert!(event.kind_bit() & !EventKind::all() == 0);
    assert_eq!(event.delivered(300, true).stored().view(), event.view());
}

#[test]
fn rows_of_consumers_that_are_cut_are_refused() {
    refuses_what_is_cut::<PutGroupItem>();
    refuses_what_is_cut::<GroupItem>();
    refuses_what_is_cut::<JoinItem>();
    refuses_what_is_cut::<SeatItem>();
    refuses_what_is_cut::<FetchItem>();
    refuses_what_is_cut::<AckItem>();
    refuses_what_is_cut::<NakItem>();
    refuses_what_is_cut::<LetterItem>();
    refuses_what_is_cut::<StreamItem>();
    assert!(response::items::<EventRecord>(&[0; 79]).is_none());
    assert!(response::items::<GroupReply>(&[0; 273]).is_none());
    assert!(response::items::<MemberReply>(&[0; 81]).is_none());
    assert!(response::items::<DeadReply>(&[0; 151]).is_none());
}

/// Tries every bit of an item, alone, in the second of two. Those in `reserved` must be refused with the first byte of
/// their field, all others taken.
fn refuses_only<T: Item>(reserved: impl Fn(usize, u32) -> Option<usize>) {
    let len = size_of::<T>();
    for (at, bit) in (0..len).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut row = vec![0; 2 * len];
        row[len + at] = 1 << bit;
        let expected = reserved(at, bit).map(|at| DecodeError::ReservedNotZero { offset: at as u32 });
        assert_eq!(request::items::<T>(&row).err(), expected, "byte {at}, bit {bit}");
    }
}

#[test]
fn every_reserved_bit_of_consumers_items_must_be_zero() {
    refuses_only::<GroupItem>(|_, _| None);
    refuses_only::<LetterItem>(|_, _| None);
    refuses_only::<SeatItem>(|at, _| (4..8).contains(&at).then_some(at));
    refuses_only::<FetchItem>(|at, _| (4..8).contains(&at).then_some(at));
    refuses_only::<JoinItem>(|at, _| (40..48).contains(&at).then_some(at));
    refuses_only::<StreamItem>(|at, _| (8..16).contains(&at).then_some(at));
    refuses_only::<AckItem>(|at, _| matches!(at, 4..8 | 40..48).then_some(at));
    refuses_only::<NakItem>(|at, bit| match at {
        32..36 => ((at, bit) != (32, 0)).then_some(32),
        4..8 | 36..48 => Some(at),
        _ => None,
    });
    refuses_only::<PutGroupItem>(|at, bit| match at {
        44..48 => ((at, bit) != (44, 0)).then_some(44),
        // Without the flag there is nothing to give a reason for.
        48..52 => Some(48),
        68..72 | 152..168 => Some(at),
        _ => None,
    });
}

#[test]
fn a_reason_goes_with_its_flag() {
    let mut row = [0; 168];
    (row[44], row[48], row[51]) = (1, 7, 1);
    let item = request::items::<PutGroupItem>(&row).unwrap()[0];
    assert_eq!(item.terms().cancel_dead, Some(0x0100_0007));
    row[44] = 0;
    let refused = request::items::<PutGroupItem>(&row).err();
    assert_eq!(refused, Some(DecodeError::ReservedNotZero { offset: 48 }));
}
