//! Holds the tables of `docs/PROTOCOL.md` to the code: every number, every name, in order.
//!
//! Deliberately not here: the meaning of the rows, which people read.

use sluice_protocol::event::EventKind;
use sluice_protocol::handshake::{FAULT_BODY_MAX, HELLO_BODY_MAX, WELCOME_BODY_MAX};
use sluice_protocol::limits;
use sluice_protocol::{FaultCode, Kind, RefusedField, State, Status};

mod page;

/// The first two cells of each row: a number (decimal, or hexadecimal behind `0x`) and a name.
fn numbered(title: &str) -> Vec<(u64, String)> {
    page::table(title).into_iter().map(|row| (number(&row[0]), row[1].clone())).collect()
}

fn number(cell: &str) -> u64 {
    let digits = cell.replace(' ', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

fn named<T: std::fmt::Debug>(number: u64, value: T) -> (u64, String) {
    (number, format!("{value:?}"))
}

#[test]
fn every_kind_is_on_the_page() {
    let requests = Kind::ALL.into_iter().filter(|kind| kind.is_request());
    let expected: Vec<_> = requests.map(|kind| named(kind as u64, kind)).collect();
    assert_eq!(numbered("kind"), expected);
    for row in page::table("kind") {
        let request = Kind::from_byte(number(&row[0]) as u8).unwrap();
        let reply = Kind::from_byte(number(&row[2]) as u8).unwrap();
        assert_eq!(request.reply(), reply, "{row:?}");
        let item_len = |kind: Kind| kind.item_len().map_or("–".to_owned(), |bytes| bytes.to_string());
        assert_eq!((&row[3], &row[5]), (&item_len(request), &item_len(reply)), "{row:?}");
        let (low, high) = request.count_range();
        let counts = if low == high { low.to_string() } else { format!("{low} to {high}") };
        assert_eq!(row[4], counts, "{row:?}");
    }
}

#[test]
fn what_clients_ask_is_every_request_but_the_greeting() {
    let requests: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_request()).collect();
    assert_eq!((requests[0], &requests[1..]), (Kind::Hello, &Kind::CALLS[..]));
    let answered = requests.into_iter().filter(|kind| kind.item_len().is_some());
    assert_eq!(answered.collect::<Vec<_>>(), Kind::ANSWERED);
}

#[test]
fn every_status_is_on_the_page() {
    let expected: Vec<_> = Status::ALL.iter().map(|status| named(*status as u64, status)).collect();
    assert_eq!(numbered("status"), expected);
    for row in page::table("status") {
        let status = Status::from_byte(number(&row[0]) as u8).unwrap();
        assert_eq!(row.last().unwrap().starts_with("yes"), status.is_retryable(), "{row:?}");
    }
}

#[test]
fn every_state_is_on_the_page() {
    let expected: Vec<_> = State::ALL.iter().map(|state| named(*state as u64, state)).collect();
    assert_eq!(numbered("state"), expected);
}

#[test]
fn every_refused_field_is_on_the_page() {
    let expected: Vec<_> = RefusedField::ALL.iter().map(|field| named(*field as u64, field)).collect();
    assert_eq!(numbered("field"), expected);
}

#[test]
fn every_kind_of_event_is_on_the_page() {
    let expected: Vec<_> = EventKind::ALL.iter().map(|kind| named(*kind as u64, kind)).collect();
    assert_eq!(numbered("event"), expected);
}

#[test]
fn every_fault_is_on_the_page() {
    let expected: Vec<_> = FaultCode::ALL.iter().map(|code| named(*code as u64, code)).collect();
    assert_eq!(numbered("fault"), expected);
    for row in page::table("fault") {
        let code = FaultCode::from_number(number(&row[0]) as u16).unwrap();
        assert_eq!(row.last().unwrap().starts_with("yes"), code.is_retryable(), "{row:?}");
    }
}

#[test]
fn every_limit_is_on_the_page() {
    let expected = [
        ("ITEMS_MAX", limits::ITEMS_MAX as u64),
        ("REQUEST_BODY_MAX", limits::REQUEST_BODY_MAX as u64),
        ("REPLY_BODY_MAX", limits::REPLY_BODY_MAX as u64),
        ("HELLO_BODY_MAX", HELLO_BODY_MAX as u64),
        ("WELCOME_BODY_MAX", WELCOME_BODY_MAX as u64),
        ("FAULT_BODY_MAX", FAULT_BODY_MAX as u64),
        ("FRAMES_IN_FLIGHT_MAX", limits::FRAMES_IN_FLIGHT_MAX as u64),
        ("CLIENT_NAME_MAX", limits::CLIENT_NAME_MAX as u64),
        ("CREDENTIALS_MAX", limits::CREDENTIALS_MAX as u64),
        ("ADDRESS_MAX", limits::ADDRESS_MAX as u64),
        ("FAULT_TEXT_MAX", limits::FAULT_TEXT_MAX as u64),
        ("QUANTITY_MAX", u64::from(limits::QUANTITY_MAX)),
        ("STOCK_MAX", limits::STOCK_MAX),
        ("HOLD_MS_MAX", u64::from(limits::HOLD_MS_MAX)),
        ("BUDGET_MS_MAX", u64::from(limits::BUDGET_MS_MAX)),
        ("EVENTS_MAX", limits::EVENTS_MAX as u64),
        ("GROUP_NAME_MAX", limits::GROUP_NAME_MAX as u64),
        ("GROUP_PRODUCTS_MAX", limits::GROUP_PRODUCTS_MAX as u64),
        ("GROUPS_MAX", limits::GROUPS_MAX as u64),
        ("MEMBERS_MAX", limits::MEMBERS_MAX as u64),
        ("DEAD_PAGE_MAX", limits::DEAD_PAGE_MAX as u64),
        ("WAIT_MS_MAX", u64::from(limits::WAIT_MS_MAX)),
        ("SESSION_MS_MIN", u64::from(limits::SESSION_MS_MIN)),
        ("SESSION_MS_MAX", u64::from(limits::SESSION_MS_MAX)),
        ("RETRY_MS_MAX", u64::from(limits::RETRY_MS_MAX)),
    ];
    let shown: Vec<_> =
        page::table("limit").into_iter().map(|row| (row[0].clone(), number(&row[1]))).collect();
    assert_eq!(shown, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn the_checksum_vector_is_on_the_page() {
    let vector = format!("{:08x}", crc32fast::hash(b"123456789"));
    assert!(page::text().contains(&format!("`0x{vector}`")), "the CRC-32 of \"123456789\" is 0x{vector}");
}
