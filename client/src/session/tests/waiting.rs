//! Answers that may wait for news, and replies with as many rows as there are.

use sluice_protocol::consumed::{DeliveryHead, GroupReply};
use sluice_protocol::event::{EventKind, EventRecord, EventView};
use sluice_protocol::group::{GroupItem, GroupName};
use sluice_protocol::seat::{FetchItem, SeatItem};

use super::*;

const WAIT: Duration = Duration::from_millis(500);

fn fetch(table: &mut Table) -> Wait {
    let item = FetchItem::new(SeatItem::new(1, 2), 3).waiting(WAIT.as_millis() as u32);
    table.call(Kind::Fetch, Asked::Fetch(item))
}

fn record(sequence: u64) -> EventRecord {
    EventRecord::from(EventView {
        sequence,
        index: 1,
        time_ms: 2,
        kind: EventKind::Reserved,
        product: ProductId(7),
        user: UserId(1),
        quantity: 1,
        id: ReservationId(9),
        detail: 0,
    })
}

fn delivery(correlation: u64, sequences: std::ops::Range<u64>) -> Vec<u8> {
    let head = DeliveryHead::new(Answer::delivery(At::default(), sequences.end, 9, 1), 3, 4, 5);
    let mut body = head.as_bytes().to_vec();
    sequences.clone().for_each(|sequence| body.extend_from_slice(record(sequence).as_bytes()));
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(&body);
    let count = 1 + sequences.count() as u16;
    seal(&mut frame, Kind::FetchReply, PROTOCOL_VERSION, count, 0, correlation);
    frame
}

#[test]
fn a_delivery_has_a_head_and_any_number_of_events() {
    for sequences in [5..5, 5..8] {
        let mut table = Table::new();
        let wait = fetch(&mut table);
        let correlation = table.pack()[0].0.correlation;
        table.receive(&delivery(correlation, sequences.clone())).unwrap();
        let Ok(Reply::Delivery(head, events)) = wait.give_up() else { panic!("no delivery") };
        assert_eq!((head.epoch(), head.lanes(), head.redriven()), (3, 4, 5));
        assert!(events.iter().map(EventRecord::sequence).eq(sequences));
    }
}

#[test]
fn lists_may_be_empty() {
    let mut table = Table::new();
    let wait = table.call(Kind::ListGroups, Asked::Group(GroupItem::new(GroupName::NONE)));
    let correlation = table.pack()[0].0.correlation;
    let none: [GroupReply; 0] = [];
    table.receive(&reply(Kind::ListGroupsReply, correlation, &none)).unwrap();
    assert!(matches!(wait.give_up(), Ok(Reply::Groups(rows)) if rows.is_empty()));
}

#[test]
fn a_fetch_that_waits_is_no_silence_until_it_has_waited_enough() {
    let mut table = Table::new();
    let began = table.now;
    let _fetch = fetch(&mut table);
    table.pack();
    assert_eq!(table.session.silent_since(), Some(began + WAIT));
    table.now += Duration::from_millis(100);
    let (called, _wait) = (table.now, table.reserve(1));
    let reserve = table.pack()[0].0.correlation;
    assert_eq!(table.session.silent_since(), Some(called), "a reserve is answered at once");
    table.receive(&reply(Kind::ReserveReply, reserve, &[sequence(1)])).unwrap();
    assert_eq!(table.session.silent_since(), Some(began + WAIT), "only the fetch waits again");
}

#[test]
fn a_ping_looks_into_the_silence_of_a_fetch_and_does_not_move_it() {
    let mut table = Table::new();
    let began = table.now;
    let _fetch = fetch(&mut table);
    let fetched = table.pack()[0].0.correlation;
    table.now += WAIT + Duration::from_millis(50);
    let mut out = Vec::new();
    table.session.ping(table.now, &mut out);
    assert_eq!(table.session.silent_since(), Some(began + WAIT));
    table.receive(&delivery(fetched, 1..1)).unwrap();
    assert_eq!(table.session.silent_since(), Some(table.now), "the ping is unanswered");
    let ping = FrameHeader::parse(&out).unwrap().unwrap().correlation;
    table.receive(&reply(Kind::Pong, ping, &[0_u8; 0])).unwrap();
    assert_eq!(table.session.silent_since(), None);
}

#[test]
fn a_fetch_is_answered_by_a_node_that_does_not_lead() {
    let mut table = Table::new();
    let _fetch = fetch(&mut table);
    let correlation = table.pack()[0].0.correlation;
    let head = DeliveryHead::new(Answer::not_leader(3), 0, 0, 0);
    table.receive(&reply(Kind::FetchReply, correlation, &[head])).unwrap();
    assert_eq!(table.session.not_leader(), Some(Some(NodeId(3))));
}
