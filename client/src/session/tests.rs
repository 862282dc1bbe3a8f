//! The session against scripted bytes: every cut, every order, everything a server must not send.

use proptest::prelude::*;
use sluice_protocol::request::{IdItem, ListItem, ProductItem, ReserveItem, items};
use sluice_protocol::response::{Answer, At};
use sluice_protocol::{ClusterId, NodeId, ProductId, ReservationId, UserId};
use zerocopy::IntoBytes;

use super::*;
use crate::call::{Asked, Reply};
use crate::waiter::{self, Wait};

mod leading;
mod waiting;

const PATIENCE: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { items_max: 4, body_max: REQUEST_BODY_MAX, frames_in_flight_max: 3 };

fn welcome_frame(change: impl FnOnce(&mut Welcome<'_>)) -> Vec<u8> {
    let mut welcome = Welcome {
        version: PROTOCOL_VERSION,
        items_max: 100,
        body_max: 4096,
        frames_in_flight_max: 7,
        cluster: ClusterId(1),
        node: NodeId(1),
        leader: NodeId(1),
        leader_address: "",
        time_ms: 1,
    };
    change(&mut welcome);
    let mut frame = vec![0; HEADER_LEN];
    welcome.encode(&mut frame);
    seal(&mut frame, Kind::Welcome, 0, 0, 0, 0);
    frame
}

fn greeted(bytes: &[u8]) -> Result<Option<Greeting>, Trouble> {
    let mut inbound = BytesMut::from(bytes);
    Ok(Session::welcome(&mut inbound, PATIENCE)?.map(|(_, greeting)| greeting))
}

/// A session, the calls that wait for it, and what it wrote.
struct Table {
    session: Session,
    lanes: Lanes,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Self { session: Session::new(LIMITS, PATIENCE), lanes: Lanes::default(), now: Instant::now() }
    }

    fn call(&mut self, kind: Kind, asked: Asked) -> Wait {
        let (promise, wait) = waiter::pair();
        let deadline = self.now + Duration::from_millis(800);
        self.lanes.push(Call { kind, asked, deadline, promise });
        wait
    }

    fn reserve(&mut self, id: u128) -> Wait {
        self.call(Kind::Reserve, Asked::Reserve(reserve_item(id)))
    }

    /// The frames that the session writes now.
    fn pack(&mut self) -> Vec<(FrameHeader, Vec<u8>)> {
        let mut out = Vec::new();
        self.session.pack(&mut self.lanes, self.now, &mut out);
        let mut frames = Vec::new();
        while let Some(header) = FrameHeader::parse(&out).unwrap() {
            let behind = out.split_off(header.frame_len());
            header.check_body(&out).unwrap();
            frames.push((header, out.split_off(HEADER_LEN)));
            out = behind;
        }
        assert!(out.is_empty(), "whole frames only");
        frames
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.session.receive(&mut BytesMut::from(bytes), self.now)
    }
}

fn reserve_item(id: u128) -> ReserveItem {
    ReserveItem::new(ReservationId(id), ProductId(7), UserId(1), 1)
}

fn reply(kind: Kind, correlation: u64, items: &[impl IntoBytes + zerocopy::Immutable]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    items.iter().for_each(|item| frame.extend_from_slice(item.as_bytes()));
    seal(&mut frame, kind, PROTOCOL_VERSION, items.len() as u16, 0, correlation);
    frame
}

fn sequence(number: u64) -> Answer {
    Answer::reserved(At { index: 1, time_ms: 2 }, number, 3)
}

/// The sequence of the answer that came, if one came.
fn came(wait: Wait) -> Result<u64, Lost> {
    match wait.give_up() {
        Ok(Reply::Answer(answer)) => Ok(answer.sequence()),
        Ok(other) => panic!("an answer was expected, not {other:?}"),
        Err(lost) => Err(lost),
    }
}

fn protocol_error(result: Result<(), Trouble>) -> String {
    match result {
        Err(Trouble::Protocol(what)) => what,
        other => panic!("a protocol error was expected, not {other:?}"),
    }
}

#[test]
fn the_hello_is_a_hello() {
    let frame = hello("shop", b"secret");
    let header = FrameHeader::parse(&frame).unwrap().unwrap();
    header.check_body(&frame).unwrap();
    let hello = Hello::decode(&frame[HEADER_LEN..]).unwrap();
    assert_eq!((header.kind, header.version), (Kind::Hello, 0));
    assert_eq!((hello.version_min, hello.version_max), (1, 1));
    assert_eq!((hello.name, hello.credentials), ("shop", &b"secret"[..]));
}

#[test]
fn a_welcome_is_understood_once_it_is_whole() {
    let frame = welcome_frame(|_| {});
    for cut in 0..frame.len() {
        assert_eq!(greeted(&frame[..cut]), Ok(None), "cut at {cut}");
    }
    let limits = Limits { items_max: 100, body_max: 4096, frames_in_flight_max: 7 };
    let (cluster, node) = (ClusterId(1), NodeId(1));
    let greeting = Greeting { limits, cluster, node, leader: Some(node), leader_address: None };
    assert!(greeting.leads());
    assert_eq!(greeted(&frame), Ok(Some(greeting)));
}

#[test]
fn limits_beyond_the_protocols_are_cut_to_them() {
    let frame = welcome_frame(|welcome| {
        (welcome.items_max, welcome.body_max, welcome.frames_in_flight_max) = (u16::MAX, u32::MAX, u32::MAX);
    });
    let limits = greeted(&frame).unwrap().unwrap().limits;
    assert_eq!((limits.items_max, limits.body_max), (ITEMS_MAX, REQUEST_BODY_MAX));
    assert_eq!(limits.frames_in_flight_max, FRAMES_IN_FLIGHT_MAX);
}

#[test]
fn a_welcome_that_cannot_work_is_refused() {
    let refused = [
        welcome_frame(|welcome| welcome.version = 2),
        welcome_frame(|welcome| welcome.items_max = 0),
        welcome_frame(|welcome| welcome.body_max = 47),
        welcome_frame(|welcome| welcome.frames_in_flight_max = 0),
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        reply(Kind::ReserveReply, 1, &[sequence(1)]),
        hello("a server is no client", b""),
    ];
    for frame in refused {
        assert!(matches!(greeted(&frame), Err(Trouble::Handshake(_))), "{frame:x?}");
    }
}

#[test]
fn a_fault_instead_of_a_welcome_is_told() {
    let mut frame = vec![0; HEADER_LEN];
    Fault { code: 37, text: "full" }.encode(&mut frame);
    seal(&mut frame, Kind::Fault, 0, 0, 0, 0);
    assert_eq!(greeted(&frame), Err(Trouble::Fault { code: 37, text: "full".to_owned() }));
}

#[test]
fn calls_share_frames_of_their_kind() {
    let mut table = Table::new();
    let _waits: Vec<Wait> = (1..=6).map(|id| table.reserve(id)).collect();
    let _confirm = table.call(Kind::Confirm, Asked::Id(IdItem::new(ReservationId(9))));
    let frames = table.pack();
    let shape: Vec<_> = frames.iter().map(|(header, _)| (header.kind, header.count)).collect();
    assert_eq!(shape, [(Kind::Reserve, 4), (Kind::Confirm, 1), (Kind::Reserve, 2)]);
    let ids: Vec<u128> = items::<ReserveItem>(&frames[0].1).unwrap().iter().map(|item| item.id().0).collect();
    assert_eq!(ids, [1, 2, 3, 4], "in the order of the calls");
}

#[test]
fn the_server_gets_the_shortest_time_less_a_margin() {
    let mut table = Table::new();
    let _long = table.reserve(1);
    let (promise, _short) = waiter::pair();
    let deadline = table.now + Duration::from_millis(400);
    let asked = Asked::Reserve(reserve_item(2));
    table.lanes.push(Call { kind: Kind::Reserve, asked, deadline, promise });
    let frames = table.pack();
    assert_eq!((frames.len(), frames[0].0.budget_ms), (1, 350));
}

#[test]
fn budgets_are_never_zero_and_never_beyond_the_limit() {
    assert_eq!(budget_ms(Duration::from_micros(1)), 1);
    assert_eq!(budget_ms(Duration::from_millis(1)), 1);
    assert_eq!(budget_ms(Duration::MAX), BUDGET_MS_MAX - BUDGET_MS_MAX / BUDGET_MARGIN);
}

#[test]
fn no_more_frames_than_the_server_allows() {
    let mut table = Table::new();
    let _waits: Vec<Wait> = (1..=20).map(|id| table.reserve(id)).collect();
    let frames = table.pack();
    assert_eq!(frames.len(), 3);
    assert!(table.pack().is_empty());
    table.receive(&reply(Kind::ReserveReply, frames[1].0.correlation, &[sequence(1); 4])).unwrap();
    assert_eq!(table.pack().len(), 1, "one reply makes room for one frame");
}

#[test]
fn calls_given_up_or_out_of_time_are_never_written() {
    let mut table = Table::new();
    drop(table.reserve(1));
    let kept = table.reserve(2);
    let late = table.reserve(3);
    table.now += Duration::from_millis(800);
    let fresh = table.reserve(4);
    let frames = table.pack();
    assert_eq!((frames.len(), frames[0].0.count), (1, 1));
    assert_eq!(items::<ReserveItem>(&frames[0].1).unwrap()[0].id(), ReservationId(4));
    assert_eq!(
        (came(kept), came(late), came(fresh)),
        (Err(Lost::Unsent), Err(Lost::Unsent), Err(Lost::InDoubt))
    );
}

#[test]
fn replies_are_found_by_correlation_in_any_order() {
    let mut table = Table::new();
    let waits: Vec<Wait> = (1..=9).map(|id| table.reserve(id)).collect();
    let frames = table.pack();
    for (header, body) in frames.iter().rev() {
        let answers: Vec<Answer> =
            items::<ReserveItem>(body).unwrap().iter().map(|item| sequence(item.id().0 as u64)).collect();
        table.receive(&reply(Kind::ReserveReply, header.correlation, &answers)).unwrap();
    }
    assert!(table.session.is_quiet());
    for (wait, id) in waits.into_iter().zip(1..) {
        assert_eq!(came(wait), Ok(id));
    }
}

#[test]
fn replies_cut_at_every_byte() {
    let whole = |table: &mut Table| {
        let frames = table.pack();
        let mut bytes = reply(Kind::ReserveReply, frames[0].0.correlation, &[sequence(5), sequence(6)]);
        bytes.extend(reply(Kind::Pong, frames[1].0.correlation, &[0_u8; 0]));
        bytes
    };
    let len = {
        let mut table = Table::new();
        let _waits = (table.reserve(1), table.reserve(2), table.call(Kind::Ping, Asked::Nothing));
        table.lanes.next_kind();
        whole(&mut table).len()
    };
    for cut in 0..=len {
        let mut table = Table::new();
        let (first, second) = (table.reserve(1), table.reserve(2));
        let ping = table.call(Kind::Ping, Asked::Nothing);
        table.lanes.next_kind();
        let bytes = whole(&mut table);
        let mut inbound = BytesMut::from(&bytes[..cut]);
        table.session.receive(&mut inbound, table.now).unwrap();
        inbound.extend_from_slice(&bytes[cut..]);
        table.session.receive(&mut inbound, table.now).unwrap();
        assert!(inbound.is_empty());
        assert_eq!((came(first), came(second)), (Ok(5), Ok(6)), "cut at {cut}");
        assert!(matches!(ping.give_up(), Ok(Reply::Pong(_))));
    }
}

#[test]
fn rows_come_back_as_rows_and_share_frames() {
    let mut table = Table::new();
    let single = table.reserve(1);
    let row = table.call(Kind::Reserve, Asked::Reserves(vec![reserve_item(2), reserve_item(3)]));
    let frames = table.pack();
    assert_eq!(frames[0].0.count, 3);
    table
        .receive(&reply(
            Kind::ReserveReply,
            frames[0].0.correlation,
            &[sequence(1), sequence(2), sequence(3)],
        ))
        .unwrap();
    assert_eq!(came(single), Ok(1));
    match row.give_up() {
        Ok(Reply::Answers(answers)) => {
            assert_eq!(answers.iter().map(Answer::sequence).collect::<Vec<_>>(), [2, 3]);
        }
        other => panic!("a row was expected, not {other:?}"),
    }
}

#[test]
fn a_row_that_fits_no_frame_is_given_back_and_one_that_fits_the_next_waits() {
    let mut table = Table::new();
    let too_long = table.call(Kind::Confirm, Asked::Ids(vec![IdItem::new(ReservationId(1)); 5]));
    let _two = table.call(Kind::Confirm, Asked::Ids(vec![IdItem::new(ReservationId(1)); 2]));
    let _three = table.call(Kind::Confirm, Asked::Ids(vec![IdItem::new(ReservationId(1)); 3]));
    let counts: Vec<u16> = table.pack().iter().map(|(header, _)| header.count).collect();
    assert_eq!(counts, [2, 3]);
    assert!(matches!(too_long.give_up(), Err(Lost::Unsent)));
}

#[test]
fn pages_may_have_any_length_and_travel_alone() {
    let mut table = Table::new();
    let list = ListItem::new(ProductId(0), 10);
    let first = table.call(Kind::ListProducts, Asked::List(list));
    let _second = table.call(Kind::ListProducts, Asked::List(list));
    let frames = table.pack();
    assert_eq!(frames.len(), 2);
    table.receive(&reply(Kind::ListProductsReply, frames[0].0.correlation, &[0_u8; 0])).unwrap();
    assert!(matches!(first.give_up(), Ok(Reply::Page(page)) if page.is_empty()));
}

#[test]
fn what_a_server_must_not_send() {
    let correlation = {
        let mut table = Table::new();
        let _wait = table.reserve(1);
        table.pack()[0].0.correlation
    };
    let mut other_version = reply(Kind::ReserveReply, correlation, &[sequence(1)]);
    seal(&mut other_version, Kind::ReserveReply, 2, 1, 0, correlation);
    let mut flipped = reply(Kind::ReserveReply, correlation, &[sequence(1)]);
    flipped[HEADER_LEN + 9] ^= 1;
    let mut short = reply(Kind::ReserveReply, correlation, &[sequence(1)]);
    short.pop();
    seal(&mut short, Kind::ReserveReply, PROTOCOL_VERSION, 1, 0, correlation);
    let rows = [
        ("nothing asked", reply(Kind::ReserveReply, correlation + (1 << ENTRY_BITS), &[sequence(1)])),
        ("nothing asked", reply(Kind::ReserveReply, correlation + 1, &[sequence(1)])),
        ("nothing asked", reply(Kind::ReserveReply, 0, &[sequence(1)])),
        ("was answered by", reply(Kind::ConfirmReply, correlation, &[sequence(1)])),
        ("were answered by 2", reply(Kind::ReserveReply, correlation, &[sequence(1); 2])),
        ("kind 0x10 is unknown here", reply(Kind::Reserve, correlation, &[reserve_item(1)])),
        ("was answered by", welcome_frame(|_| {})),
        ("version 2", other_version),
        ("checksum", flipped),
        ("does not hold", short),
        ("magic", vec![0; HEADER_LEN]),
    ];
    for (expected, bytes) in rows {
        let mut table = Table::new();
        let wait = table.reserve(1);
        table.pack();
        let what = match table.receive(&bytes) {
            Err(Trouble::Protocol(what)) => what,
            other => panic!("{expected}: a protocol error was expected, not {other:?}"),
        };
        // A welcome in mid-conversation carries version 0, which is noticed first.
        assert!(what.contains(expected) || what.contains("version 0"), "{what:?} instead of {expected:?}");
        drop(table);
        assert_eq!(came(wait), Err(Lost::InDoubt), "{expected}");
    }
}

#[test]
fn a_reply_comes_once() {
    let mut table = Table::new();
    let _wait = table.reserve(1);
    let correlation = table.pack()[0].0.correlation;
    let bytes = reply(Kind::ReserveReply, correlation, &[sequence(1)]);
    table.receive(&bytes).unwrap();
    assert!(protocol_error(table.receive(&bytes)).contains("nothing asked"));
    let _next = table.reserve(2);
    assert_ne!(table.pack()[0].0.correlation, correlation, "an entry is used again, a correlation never");
    assert!(protocol_error(table.receive(&bytes)).contains("nothing asked"));
}

#[test]
fn a_flood_of_one_kind_does_not_starve_another() {
    let mut table = Table::new();
    let _flood: Vec<Wait> = (1..=100).map(|id| table.reserve(id)).collect();
    let _query = table.call(Kind::QueryProduct, Asked::Product(ProductItem::new(ProductId(1))));
    let kinds: Vec<Kind> = table.pack().iter().map(|(header, _)| header.kind).collect();
    assert_eq!(kinds, [Kind::Reserve, Kind::QueryProduct, Kind::Reserve]);
}

#[test]
fn a_reply_is_overdue_after_budget_and_patience_and_not_before() {
    let mut table = Table::new();
    assert_eq!(table.session.alarm_at(), None, "an idle session needs no timer");
    let _wait = table.reserve(1);
    let correlation = table.pack()[0].0.correlation;
    let due = table.now + Duration::from_millis(700) + PATIENCE;
    assert_eq!(table.session.alarm_at(), Some(due));
    assert!(!table.session.is_overdue(due - Duration::from_millis(1)));
    assert!(table.session.is_overdue(due));
    table.receive(&reply(Kind::ReserveReply, correlation, &[sequence(1)])).unwrap();
    assert_eq!(table.session.alarm_at(), None);
    assert!(!table.session.is_overdue(due));
}

#[test]
fn the_end_of_a_session_leaves_written_calls_in_doubt_and_the_others_alone() {
    let mut table = Table::new();
    let waits: Vec<Wait> = (1..=13).map(|id| table.reserve(id)).collect();
    table.pack();
    table.session = Session::new(LIMITS, PATIENCE);
    assert_eq!(table.lanes.len(), 1);
    let fates: Vec<_> = waits.into_iter().map(came).collect();
    assert!(fates[..12].iter().all(|fate| *fate == Err(Lost::InDoubt)));
    assert_eq!(fates[12], Err(Lost::Unsent), "given up while it waited for the next session");
}

/// A frame whose checksum holds and whose everything else is arbitrary.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = proptest::sample::select(Kind::ALL.to_vec());
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    (kind, body, 0..3_u8, 0..6_u16, any::<u32>(), 0..4_u64, 0..4_u64).prop_map(
        |(kind, body, version, count, budget_ms, written, entry)| {
            let mut frame = vec![0; HEADER_LEN];
            frame.extend_from_slice(&body[..body.len().min(kind.body_max())]);
            seal(&mut frame, kind, version, count, budget_ms, (written << ENTRY_BITS) | entry);
            frame
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_a_session_panic(
        frames in proptest::collection::vec(any_frame(), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut table = Table::new();
        let waits: Vec<Wait> = (1..=6).map(|id| table.reserve(id)).collect();
        let ping = table.call(Kind::Ping, Asked::Nothing);
        table.pack();
        for frame in &frames {
            let _ = Session::welcome(&mut BytesMut::from(&frame[..]), PATIENCE);
        }
        let mut bytes = frames.concat();
        bytes.extend(noise);
        let _ = table.receive(&bytes);
        drop(table);
        let doubted = |fate: &Result<Reply, Lost>| matches!(fate, Err(Lost::InDoubt));
        for fate in waits.into_iter().map(Wait::give_up) {
            prop_assert!(doubted(&fate) || matches!(fate, Ok(Reply::Answer(_))), "{fate:?}");
        }
        let fate = ping.give_up();
        prop_assert!(doubted(&fate) || matches!(fate, Ok(Reply::Pong(_))), "{fate:?}");
    }
}
