//! The second half of the story: an order system reads the sale's events as a consumer group, fails at one of them, and goes.
//!
//! Deliberately not here: the sale, and what holds of every frame; see `golden.rs`.

use sluice_protocol::Kind;
use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, GroupView, MemberReply};
use sluice_protocol::event::{EventKind, EventRecord, EventView};
use sluice_protocol::group::{GroupItem, GroupName, GroupTerms, JoinItem, PutGroupItem};
use sluice_protocol::limits::GROUP_PRODUCTS_MAX;
use sluice_protocol::request;
use sluice_protocol::response::{self, Answer, At, Status};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{PROTOCOL_VERSION, ProductId, ReservationId, UserId};
use zerocopy::{FromBytes, IntoBytes};

use super::{ANNA, ANNAS, CLEO, CLEOS, NOON, SHOES, at, body_of, frame, row};

const GROUP: u32 = 1;
const MEMBER: u64 = 0x9d2c_5681_f3a0_b7e4;
const EPOCH: u64 = 1;
const ALL_LANES: u64 = u64::MAX;
/// The consumer's own code: what it could not reach.
const CAUSE: u32 = 7;
const DELAY_MS: u32 = 500;

fn orders() -> GroupName {
    GroupName::new("orders").expect("it is a name")
}

/// When the failed delivery was tried again.
fn later(index: u64) -> At {
    At { index, time_ms: NOON + u64::from(DELAY_MS) + index }
}

fn group_terms() -> GroupTerms {
    let mut products = [ProductId(0); GROUP_PRODUCTS_MAX];
    products[0] = SHOES;
    let kinds = [EventKind::Reserved, EventKind::Confirmed, EventKind::Cancelled];
    GroupTerms {
        kinds: kinds.into_iter().fold(0, |mask, kind| mask | kind.bit()),
        products,
        attempts_max: 2,
        retry_ms: 1_000,
        retry_ms_max: 60_000,
        session_ms: 10_000,
        cancel_dead: Some(99),
        backlog_max: 1_000_000,
        required_lag_max: 5_000,
    }
}

fn event(sequence: u64, kind: EventKind, user: UserId, quantity: u64, id: ReservationId) -> EventView {
    let At { index, time_ms } = at(sequence);
    EventView { sequence, index, time_ms, kind, product: SHOES, user, quantity, id, detail: 0 }
}

fn annas_event() -> EventView {
    event(5, EventKind::Confirmed, ANNA, 1, ANNAS)
}

fn cleos_event() -> EventView {
    EventView { detail: 17, ..event(6, EventKind::Cancelled, CLEO, 2, CLEOS) }
}

fn seat() -> SeatItem {
    SeatItem::new(GROUP, MEMBER)
}

fn head(at: At, redriven: u64) -> DeliveryHead {
    DeliveryHead::new(Answer::delivery(at, 9, 9, 1), EPOCH, ALL_LANES, redriven)
}

fn delivery(correlation: u64, head: DeliveryHead, events: &[EventRecord]) -> Vec<u8> {
    let body = [head.as_bytes(), events.as_bytes()].concat();
    frame(Kind::FetchReply, PROTOCOL_VERSION, 1 + events.len() as u16, 0, correlation, &body)
}

fn nak() -> NakItem {
    NakItem::new(seat(), EPOCH, cleos_event().into(), CAUSE).after(DELAY_MS)
}

fn group_view() -> GroupView {
    GroupView {
        group: GROUP,
        name: orders(),
        terms: group_terms(),
        cursor: 5,
        epoch: EPOCH,
        members: 1,
        dead: 1,
        failed: 2,
        oldest_ms: NOON + 6,
        rate_milli: 2_000,
    }
}

fn dead_letter() -> DeadReply {
    let event = EventRecord::from(cleos_event()).delivered(2, false);
    DeadReply::new(Answer::done(later(15), 0), event, later(15).time_ms, CAUSE, 0)
}

fn member_reply() -> MemberReply {
    MemberReply::new(Answer::done(later(15), 9), MEMBER, ALL_LANES, EPOCH, 5)
}

/// Makes a group, joins it, reads, acknowledges one event, fails at the next, and puts everything away.
pub(super) fn story() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames = reading();
    frames.extend(keeping());
    frames
}

fn reading() -> Vec<(&'static str, Vec<u8>)> {
    let fetch = FetchItem::new(seat(), EPOCH).at_most(100).waiting(5_000);
    let events: [EventRecord; 2] = [annas_event().into(), cleos_event().into()];
    vec![
        ("put-group", row(Kind::PutGroup, 14, &[PutGroupItem::new(orders(), 4, &group_terms())])),
        ("put-group-reply", row(Kind::PutGroupReply, 14, &[Answer::grouped(at(11), GROUP, 4, 0)])),
        ("query-stream", row(Kind::QueryStream, 15, &[StreamItem::new(NOON + 5)])),
        ("query-stream-reply", row(Kind::QueryStreamReply, 15, &[Answer::delivery(at(11), 1, 9, 5)])),
        ("join", row(Kind::Join, 16, &[JoinItem::new(orders(), MEMBER)])),
        ("join-reply", row(Kind::JoinReply, 16, &[Answer::grouped(at(12), GROUP, EPOCH, ALL_LANES)])),
        ("query-place", row(Kind::QueryPlace, 17, &[LetterItem::place(GROUP, 6, SHOES)])),
        ("query-place-reply", row(Kind::QueryPlaceReply, 17, &[Answer::position(at(12), 1, 0, 4)])),
        ("fetch", row(Kind::Fetch, 18, &[fetch])),
        ("fetch-reply", delivery(18, head(at(12), 0), &events)),
        ("ack", row(Kind::Ack, 19, &[AckItem::new(seat(), EPOCH, ALL_LANES, 5)])),
        ("ack-reply", row(Kind::AckReply, 19, &[Answer::done(at(13), 0)])),
        ("nak", row(Kind::Nak, 20, &[nak()])),
        ("nak-reply", row(Kind::NakReply, 20, &[retried()])),
        ("nak-again", row(Kind::Nak, 21, &[nak()])),
        ("nak-again-reply", row(Kind::NakReply, 21, &[Answer::parked(later(15), 2)])),
    ]
}

fn retried() -> Answer {
    Answer::retried(at(14), 1, at(14).time_ms + u64::from(DELAY_MS))
}

fn keeping() -> Vec<(&'static str, Vec<u8>)> {
    let fetch = FetchItem::new(seat(), EPOCH).after(9, 0).at_most(100).waiting(5_000);
    let redriven = EventRecord::from(cleos_event()).delivered(2, true);
    let group_reply = GroupReply::from((Answer::done(later(15), 9), Some(group_view())));
    let done = |index| Answer::done(later(index), 0);
    vec![
        ("list-dead", row(Kind::ListDead, 22, &[LetterItem::page(GROUP, 0, 100)])),
        ("list-dead-reply", row(Kind::ListDeadReply, 22, &[dead_letter()])),
        ("list-groups", row(Kind::ListGroups, 23, &[GroupItem::new(GroupName::NONE)])),
        ("list-groups-reply", row(Kind::ListGroupsReply, 23, &[group_reply])),
        ("list-members", row(Kind::ListMembers, 24, &[GroupItem::new(orders())])),
        ("list-members-reply", row(Kind::ListMembersReply, 24, &[member_reply()])),
        ("redrive", row(Kind::Redrive, 25, &[LetterItem::new(GROUP, 6)])),
        ("redrive-reply", row(Kind::RedriveReply, 25, &[done(16)])),
        ("fetch-redriven", row(Kind::Fetch, 26, &[fetch])),
        ("fetch-redriven-reply", delivery(26, head(later(16), 1), &[redriven])),
        ("drop-dead", row(Kind::DropDead, 27, &[LetterItem::new(GROUP, 6)])),
        ("drop-dead-reply", row(Kind::DropDeadReply, 27, &[done(17)])),
        ("seek-group", row(Kind::SeekGroup, 28, &[JoinItem::new(orders(), 4)])),
        ("seek-group-reply", row(Kind::SeekGroupReply, 28, &[Answer::grouped(later(18), GROUP, 4, 0)])),
        ("leave", row(Kind::Leave, 29, &[seat()])),
        ("leave-reply", row(Kind::LeaveReply, 29, &[done(19)])),
        ("remove-group", row(Kind::RemoveGroup, 30, &[GroupItem::new(orders())])),
        ("remove-group-reply", row(Kind::RemoveGroupReply, 30, &[done(20)])),
    ]
}

/// As in `golden.rs`.
pub(super) const GOLDEN: &[(&str, &str)] = &[
    (
        "put-group",
        "534c4331a800000030010100000000000e0000000000000000000000a357dc4f6f726465727300000000000000000000\
         0000000000000000000000000000000004000000000000000e000000010000006300000002000000e803000060ea0000\
         102700000000000040420f000000000088130000000000002a0000000000000000000000000000000000000000000000\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         0000000000000000",
    ),
    (
        "put-group-reply",
        "534c433130000000b0010100000000000e00000000000000000000009e50c38207000000000000000b00000000000000\
         0bae7acaa1010000010000000000000004000000000000000000000000000000",
    ),
    (
        "query-stream",
        "534c43311000000035010100000000000f0000000000000000000000110c54b305ae7acaa10100000000000000000000",
    ),
    (
        "query-stream-reply",
        "534c433130000000b5010100000000000f0000000000000000000000c76c002307000000000000000b00000000000000\
         0bae7acaa1010000010000000000000009000000000000000500000000000000",
    ),
    (
        "join",
        "534c4331300000003601010000000000100000000000000000000000a0c1c21b6f726465727300000000000000000000\
         00000000000000000000000000000000e4b7a0f381562c9d0000000000000000",
    ),
    (
        "join-reply",
        "534c433130000000b60101000000000010000000000000000000000055acd85307000000000000000c00000000000000\
         0cae7acaa101000001000000000000000100000000000000ffffffffffffffff",
    ),
    (
        "query-place",
        "534c4331180000003e010100000000001100000000000000000000007194864601000000000000000600000000000000\
         2a00000000000000",
    ),
    (
        "query-place-reply",
        "534c433130000000be010100000000001100000000000000000000005670416807000000000000000c00000000000000\
         0cae7acaa1010000010000000000000000000000000000000400000000000000",
    ),
    (
        "fetch",
        "534c4331300000003801010000000000120000000000000000000000a394b8f50100000000000000e4b7a0f381562c9d\
         0000000000000000000000000000000064000000881300000100000000000000",
    ),
    (
        "fetch-reply",
        "534c4331f0000000b801030000000000120000000000000000000000f98fa26507000000000000000c00000000000000\
         0cae7acaa10100000900000000000000090000000000000001000000000000000100000000000000ffffffffffffffff\
         000000000000000000000000000000000500000000000000050000000000000005ae7acaa1010000a100000000000080\
         00700000000099012a00000000000000070000000000000001000000000000000000000000000000020000007cc5e80e\
         0600000000000000060000000000000006ae7acaa1010000c30000000000008000700000000099012a00000000000000\
         0900000000000000020000000000000011000000000000000300000032ff2846",
    ),
    (
        "ack",
        "534c43313000000039010100000000001300000000000000000000005571c40d0100000000000000e4b7a0f381562c9d\
         0100000000000000ffffffffffffffff05000000000000000000000000000000",
    ),
    (
        "ack-reply",
        "534c433130000000b9010100000000001300000000000000000000009659a79d07000000000000000d00000000000000\
         0dae7acaa1010000000000000000000000000000000000000000000000000000",
    ),
    (
        "nak",
        "534c4331800000003a010100000000001400000000000000000000000fb38e4b0100000000000000e4b7a0f381562c9d\
         0100000000000000f4010000070000000000000000000000000000000000000006000000000000000600000000000000\
         06ae7acaa1010000c30000000000008000700000000099012a0000000000000009000000000000000200000000000000\
         11000000000000000300000032ff2846",
    ),
    (
        "nak-reply",
        "534c433130000000ba010100000000001400000000000000000000007467737107000000000000000e00000000000000\
         0eae7acaa1010000010000000000000002b07acaa10100000000000000000000",
    ),
    (
        "nak-again",
        "534c4331800000003a01010000000000150000000000000000000000d6b756260100000000000000e4b7a0f381562c9d\
         0100000000000000f4010000070000000000000000000000000000000000000006000000000000000600000000000000\
         06ae7acaa1010000c30000000000008000700000000099012a0000000000000009000000000000000200000000000000\
         11000000000000000300000032ff2846",
    ),
    (
        "nak-again-reply",
        "534c433130000000ba01010000000000150000000000000000000000714ef92e08000000000000000f00000000000000\
         03b07acaa1010000020000000000000000000000000000000000000000000000",
    ),
    (
        "list-dead",
        "534c4331180000003b01010000000000160000000000000000000000cc6270c201000000640000000000000000000000\
         0000000000000000",
    ),
    (
        "list-dead-reply",
        "534c433198000000bb01010000000000160000000000000000000000a43c341e07000000000000000f00000000000000\
         03b07acaa101000000000000000000000000000000000000000000000000000006000000000000000600000000000000\
         06ae7acaa1010000c30000000000008000700000000099012a0000000000000009000000000000000200000000000000\
         11000000000000000302000032ff284603b07acaa101000007000000000000000000000000000000",
    ),
    (
        "list-groups",
        "534c4331200000003201010000000000170000000000000000000000f788913100000000000000000000000000000000\
         00000000000000000000000000000000",
    ),
    (
        "list-groups-reply",
        "534c433110010000b2010100000000001700000000000000000000008709e85e07000000000000000f00000000000000\
         03b07acaa10100000900000000000000000000000000000000000000000000006f726465727300000000000000000000\
         0000000000000000000000000000000005000000000000000e000000010000006300000002000000e803000060ea0000\
         102700000000000040420f000000000088130000000000002a0000000000000000000000000000000000000000000000\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         0000000000000000010000000100000001000000000000000100000000000000020000000000000006ae7acaa1010000\
         d0070000000000000000000000000000",
    ),
    (
        "list-members",
        "534c4331200000003301010000000000180000000000000000000000040f3ac76f726465727300000000000000000000\
         00000000000000000000000000000000",
    ),
    (
        "list-members-reply",
        "534c433150000000b3010100000000001800000000000000000000002ed068b707000000000000000f00000000000000\
         03b07acaa1010000090000000000000000000000000000000000000000000000e4b7a0f381562c9dffffffffffffffff\
         01000000000000000500000000000000",
    ),
    (
        "redrive",
        "534c4331180000003c01010000000000190000000000000000000000052bc00a01000000000000000600000000000000\
         0000000000000000",
    ),
    (
        "redrive-reply",
        "534c433130000000bc01010000000000190000000000000000000000060c6c4507000000000000001000000000000000\
         04b07acaa1010000000000000000000000000000000000000000000000000000",
    ),
    (
        "fetch-redriven",
        "534c43313000000038010100000000001a000000000000000000000060ce5f070100000000000000e4b7a0f381562c9d\
         0900000000000000000000000000000064000000881300000100000000000000",
    ),
    (
        "fetch-redriven-reply",
        "534c4331a0000000b8010200000000001a000000000000000000000019d3961707000000000000001000000000000000\
         04b07acaa10100000900000000000000090000000000000001000000000000000100000000000000ffffffffffffffff\
         010000000000000000000000000000000600000000000000060000000000000006ae7acaa1010000c300000000000080\
         00700000000099012a000000000000000900000000000000020000000000000011000000000000000302010032ff2846",
    ),
    (
        "drop-dead",
        "534c4331180000003d010100000000001b00000000000000000000000cbc78d101000000000000000600000000000000\
         0000000000000000",
    ),
    (
        "drop-dead-reply",
        "534c433130000000bd010100000000001b00000000000000000000009618193007000000000000001100000000000000\
         05b07acaa1010000000000000000000000000000000000000000000000000000",
    ),
    (
        "seek-group",
        "534c43313000000034010100000000001c0000000000000000000000dc42303c6f726465727300000000000000000000\
         0000000000000000000000000000000004000000000000000000000000000000",
    ),
    (
        "seek-group-reply",
        "534c433130000000b4010100000000001c0000000000000000000000df7f346507000000000000001200000000000000\
         06b07acaa1010000010000000000000004000000000000000000000000000000",
    ),
    (
        "leave",
        "534c43311000000037010100000000001d000000000000000000000069e856e60100000000000000e4b7a0f381562c9d",
    ),
    (
        "leave-reply",
        "534c433130000000b7010100000000001d00000000000000000000007be72b0b07000000000000001300000000000000\
         07b07acaa1010000000000000000000000000000000000000000000000000000",
    ),
    (
        "remove-group",
        "534c43312000000031010100000000001e0000000000000000000000526653e86f726465727300000000000000000000\
         00000000000000000000000000000000",
    ),
    (
        "remove-group-reply",
        "534c433130000000b1010100000000001e0000000000000000000000b0f16eab07000000000000001400000000000000\
         08b07acaa1010000000000000000000000000000000000000000000000000000",
    ),
];

fn one<T: request::Item + Copy>(name: &str) -> T {
    request::items::<T>(&body_of(name)).expect(name)[0]
}

#[test]
fn what_consumers_ask_decodes_to_its_values() {
    let item: PutGroupItem = one("put-group");
    assert_eq!((item.name(), item.after(), item.terms()), (orders(), 4, group_terms()));
    assert_eq!(one::<StreamItem>("query-stream").time_ms(), NOON + 5);
    let item: JoinItem = one("join");
    assert_eq!((item.name(), item.number()), (orders(), MEMBER));
    let item: LetterItem = one("query-place");
    assert_eq!((item.group(), item.limit(), item.sequence(), item.product()), (GROUP, 0, 6, SHOES));

    let item: FetchItem = one("fetch-redriven");
    assert_eq!((item.seat, item.looked_through(), item.after_redriven()), (seat(), 9, 0));
    assert_eq!((item.events_max(), item.wait_ms(), item.epoch()), (100, 5_000, EPOCH));
    let item: AckItem = one("ack");
    assert_eq!((item.seat, item.epoch(), item.lanes(), item.upto()), (seat(), EPOCH, ALL_LANES, 5));
    let item: NakItem = one("nak");
    assert_eq!((item.seat, item.epoch(), item.delay_ms(), item.cause()), (seat(), EPOCH, DELAY_MS, CAUSE));
    assert_eq!((item.is_for_good(), item.event.view()), (false, Some(cleos_event())));

    let item: LetterItem = one("list-dead");
    assert_eq!((item.group(), item.limit(), item.sequence(), item.product().0), (GROUP, 100, 0, 0));
    assert_eq!(one::<GroupItem>("list-groups").name(), GroupName::NONE);
    let item: SeatItem = one("leave");
    assert_eq!((item.group(), item.member()), (GROUP, MEMBER));
}

#[test]
fn what_consumers_hear_decodes_to_its_values() {
    let body = body_of("fetch-reply");
    let (told, events) = DeliveryHead::read_from_prefix(&body).unwrap();
    assert_eq!((told.answer.at(), told.answer.numbers()), (at(12), [9, 9, 1]));
    assert_eq!((told.epoch(), told.lanes(), told.redriven()), (EPOCH, ALL_LANES, 0));
    let events = response::items::<EventRecord>(events).unwrap();
    let views: Vec<_> = events.iter().map(EventRecord::view).collect();
    assert_eq!(views, [Some(annas_event()), Some(cleos_event())]);

    let body = body_of("fetch-redriven-reply");
    let (told, events) = DeliveryHead::read_from_prefix(&body).unwrap();
    let again = response::items::<EventRecord>(events).unwrap()[0];
    assert_eq!((told.redriven(), again.attempts(), again.is_redriven()), (1, 2, true));
    assert_eq!(again.view(), Some(cleos_event()), "its checksum does not cover what is told of deliveries");

    let answer = response::items::<Answer>(&body_of("nak-again-reply")).unwrap()[0];
    assert_eq!((answer.status(), answer.numbers()), (Some(Status::Parked), [2, 0, 0]));
    let letter = response::items::<DeadReply>(&body_of("list-dead-reply")).unwrap()[0];
    assert_eq!((letter.event.view(), letter.event.attempts()), (Some(cleos_event()), 2));
    assert_eq!((letter.died_ms(), letter.cause(), letter.redrive()), (later(15).time_ms, CAUSE, 0));
    let group = response::items::<GroupReply>(&body_of("list-groups-reply")).unwrap()[0];
    assert_eq!(GroupView::from(group.record), group_view());
    let member = response::items::<MemberReply>(&body_of("list-members-reply")).unwrap()[0];
    assert_eq!((member.member(), member.lanes()), (MEMBER, ALL_LANES));
    assert_eq!((member.epoch(), member.cursor()), (EPOCH, 5));
}
