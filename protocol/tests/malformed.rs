//! Bytes that are wrong: each must be refused with the error that says how, in the documented order, without
//! a panic.
//!
//! Relies on: [`seal`] to make frames that are sound but for one thing. Deliberately not here: what a
//! connection refuses although the bytes are sound (order of frames, versions); right bytes, see `golden.rs`; the items of
//! consumers, see `malformed/stream.rs`.

use proptest::prelude::*;
use sluice_protocol::Kind;
use sluice_protocol::handshake::{FAULT_BODY_MAX, Fault, HELLO_BODY_MAX, Hello, WELCOME_BODY_MAX, Welcome};
use sluice_protocol::header::{FrameHeader, HEADER_LEN, MAGIC, seal};
use sluice_protocol::limits::{
    BUDGET_MS_MAX, CLIENT_NAME_MAX, CREDENTIALS_MAX, FAULT_TEXT_MAX, ITEMS_MAX, REPLY_BODY_MAX,
    REQUEST_BODY_MAX,
};
use sluice_protocol::request::{
    self, IdItem, Item, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem,
};
use sluice_protocol::response::{self, Answer, ProductReply, ReservationReply};
use sluice_protocol::{DecodeError, FaultCode, ReservationId, Status};

#[path = "malformed/stream.rs"]
mod stream;

const LENGTH_AT: usize = 4;
const KIND_AT: usize = 8;
const COUNT_AT: usize = 10;
const RESERVED_AT: usize = 24;
const CHECKSUM_AT: usize = 28;

/// A sound frame of `count` items of zeros.
fn sound(kind: Kind, count: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN + kind.item_len().unwrap_or(0) * count];
    seal(&mut frame, kind, 1, count as u16, 0, 7);
    frame
}

/// A frame that lies about its count or budget, but has a checksum that matches.
fn sealed(kind: Kind, count: u16, budget_ms: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    seal(&mut frame, kind, 1, count, budget_ms, 7);
    frame
}

/// Everything a decoder checks before it looks at items.
fn check(bytes: &[u8]) -> Result<Option<FrameHeader>, DecodeError> {
    let Some(header) = FrameHeader::parse(bytes)? else { return Ok(None) };
    let Some(frame) = bytes.get(..header.frame_len()) else { return Ok(None) };
    header.check_body(frame)?;
    Ok(Some(header))
}

/// Reads the body as the frame's kind says. Client and server between them do the same.
fn read(kind: Kind, body: &[u8]) -> Result<(), DecodeError> {
    match kind {
        Kind::Hello => Hello::decode(body).map(drop),
        Kind::Welcome => Welcome::decode(body).map(drop),
        Kind::Fault => Fault::decode(body).map(drop),
        Kind::Ping | Kind::Pong => Ok(()),
        Kind::Reserve => request::items::<ReserveItem>(body).map(drop),
        Kind::Confirm | Kind::Cancel | Kind::Resolve | Kind::QueryReservation => {
            request::items::<IdItem>(body).map(drop)
        }
        Kind::QueryProduct | Kind::Seal => request::items::<ProductItem>(body).map(drop),
        Kind::PutProduct => request::items::<PutProductItem>(body).map(drop),
        Kind::Restock | Kind::WriteOff => request::items::<StockItem>(body).map(drop),
        Kind::ListProducts => request::items::<ListItem>(body).map(drop),
        Kind::QueryReservationReply => {
            response::items::<ReservationReply>(body).expect("the length was checked");
            Ok(())
        }
        Kind::QueryProductReply | Kind::ListProductsReply => {
            response::items::<ProductReply>(body).expect("the length was checked");
            Ok(())
        }
        _ => stream::read(kind, body),
    }
}

#[test]
fn every_bit_of_the_magic_counts() {
    for bit in 0..32 {
        let mut frame = sound(Kind::Reserve, 1);
        frame[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(check(&frame), Err(DecodeError::BadMagic { got: MAGIC ^ (1 << bit) }));
    }
}

#[test]
fn every_reserved_byte_of_the_header_must_be_zero() {
    for at in RESERVED_AT..CHECKSUM_AT {
        let mut frame = sound(Kind::Reserve, 1);
        frame[at] = 1;
        assert_eq!(check(&frame), Err(DecodeError::ReservedNotZero { offset: at as u32 }));
    }
}

#[test]
fn every_byte_names_its_kind_or_none() {
    for byte in 0..=u8::MAX {
        let mut frame = sound(Kind::Ping, 0);
        frame[KIND_AT] = byte;
        match Kind::ALL.into_iter().find(|kind| *kind as u8 == byte) {
            Some(kind) => assert_eq!(FrameHeader::parse(&frame).unwrap().unwrap().kind, kind),
            None => assert_eq!(check(&frame), Err(DecodeError::BadKind { got: byte })),
        }
    }
}

#[test]
fn a_length_beyond_its_kinds_limit_is_refused_before_the_body_comes() {
    for kind in Kind::ALL {
        let limit = match kind {
            Kind::Ping | Kind::Pong => 0,
            Kind::Hello => HELLO_BODY_MAX,
            Kind::Welcome => WELCOME_BODY_MAX,
            Kind::Fault => FAULT_BODY_MAX,
            kind if kind.is_request() => REQUEST_BODY_MAX,
            _ => REPLY_BODY_MAX,
        } as u32;
        let mut header = sound(kind, 0);
        for length in [limit + 1, u32::MAX] {
            header[LENGTH_AT..KIND_AT].copy_from_slice(&length.to_le_bytes());
            assert_eq!(check(&header), Err(DecodeError::BodyTooLong { got: length, limit }), "{kind:?}");
        }
        header[LENGTH_AT..KIND_AT].copy_from_slice(&limit.to_le_bytes());
        let header = FrameHeader::parse(&header).unwrap().unwrap();
        assert_eq!(header.frame_len(), HEADER_LEN + limit as usize, "{kind:?}");
    }
}

#[test]
fn every_flipped_bit_that_passes_the_header_fails_the_checksum() {
    let frame = sealed(Kind::Cancel, 2, 9, &[0; 48]);
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match check(&damaged) {
            Err(DecodeError::BadChecksum { .. }) => {}
            // The header alone gives it away, or the length makes the decoder wait for more.
            Err(
                DecodeError::BadMagic { .. }
                | DecodeError::ReservedNotZero { .. }
                | DecodeError::BadKind { .. }
                | DecodeError::BodyTooLong { .. },
            )
            | Ok(None) => assert!(bit / 8 < CHECKSUM_AT, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn counts_outside_their_range_are_refused() {
    for kind in Kind::ALL {
        let (low, high) = kind.count_range();
        let outside = [low.checked_sub(1), Some(high + 1), Some(usize::from(u16::MAX))];
        for count in outside.into_iter().flatten() {
            let got = count as u32;
            let frame = sealed(kind, count as u16, 0, &[]);
            assert_eq!(check(&frame), Err(DecodeError::BadCount { got, limit: high as u32 }), "{kind:?}");
        }
        for count in [low, high] {
            assert!(check(&sound(kind, count)).unwrap().is_some(), "{kind:?} of {count}");
        }
    }
}

#[test]
fn a_body_must_hold_exactly_its_items() {
    for kind in Kind::ALL {
        let Some(item_len) = kind.item_len() else { continue };
        for length in [0, 1, item_len - 1, item_len + 1, 2 * item_len] {
            let frame = sealed(kind, 1, 0, &vec![0; length]);
            let expected = DecodeError::BadLength { got: length as u32, expected: item_len as u32 };
            assert_eq!(check(&frame), Err(expected), "{kind:?} of {length} bytes");
        }
    }
}

#[test]
fn budgets_beyond_the_limit_are_refused() {
    for (budget_ms, sound) in
        [(0, true), (BUDGET_MS_MAX, true), (BUDGET_MS_MAX + 1, false), (u32::MAX, false)]
    {
        let result = check(&sealed(Kind::Confirm, 1, budget_ms, &[0; 24]));
        let refused = DecodeError::BudgetTooLong { got: budget_ms, limit: BUDGET_MS_MAX };
        assert_eq!(
            result.map(|header| header.unwrap().budget_ms),
            if sound { Ok(budget_ms) } else { Err(refused) }
        );
    }
}

/// Everything wrong at once; then one thing after the other is put right, from the first check to the last.
#[test]
fn checks_come_in_the_documented_order() {
    let mut frame = sealed(Kind::Confirm, 0, u32::MAX, &[0; 23]);
    frame[0] = b'X';
    frame[RESERVED_AT] = 1;
    frame[KIND_AT] = 0x7f;
    frame[LENGTH_AT..KIND_AT].copy_from_slice(&u32::MAX.to_le_bytes());
    frame[CHECKSUM_AT] ^= 1;

    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BadMagic);
    frame[0] = b'S';
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::ReservedNotZero);
    frame[RESERVED_AT] = 0;
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BadKind);
    frame[KIND_AT] = Kind::Confirm as u8;
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BodyTooLong);
    frame[LENGTH_AT..KIND_AT].copy_from_slice(&23_u32.to_le_bytes());
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BadChecksum);
    seal(&mut frame, Kind::Confirm, 1, 0, u32::MAX, 7);
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BadCount);
    seal(&mut frame, Kind::Confirm, 1, 1, u32::MAX, 7);
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BadLength);
    let mut frame = sealed(Kind::Confirm, 1, u32::MAX, &[0; 24]);
    assert_eq!(check(&frame).unwrap_err().code(), FaultCode::BudgetTooLong);
    seal(&mut frame, Kind::Confirm, 1, 1, BUDGET_MS_MAX, 7);
    assert_eq!(check(&frame).unwrap().unwrap().frame_len(), frame.len());
}

#[test]
fn a_frame_split_at_any_byte_is_awaited() {
    let frame = sealed(Kind::Reserve, 3, 0, &[0; 120]);
    for arrived in 0..frame.len() {
        assert_eq!(check(&frame[..arrived]), Ok(None), "{arrived} bytes");
    }
    let mut two = frame.clone();
    two.extend_from_slice(&sound(Kind::Ping, 0));
    assert_eq!(check(&two).unwrap().unwrap().frame_len(), frame.len(), "what follows does not matter");
    assert_eq!(check(&two[frame.len()..]).unwrap().unwrap().kind, Kind::Ping);
}

/// A row that ends within an item is refused, wherever it ends.
fn refuses_what_is_cut<T: Item>() {
    let len = size_of::<T>();
    let row = vec![0; 2 * len];
    for cut in (1..2 * len).filter(|cut| cut % len != 0) {
        let expected = DecodeError::BadLength { got: cut as u32, expected: (cut / len * len) as u32 };
        assert_eq!(request::items::<T>(&row[..cut]).err(), Some(expected));
    }
    assert_eq!(request::items::<T>(&row).map(<[T]>::len), Ok(2));
}

#[test]
fn truncated_rows_are_refused() {
    refuses_what_is_cut::<ReserveItem>();
    refuses_what_is_cut::<IdItem>();
    refuses_what_is_cut::<ProductItem>();
    refuses_what_is_cut::<PutProductItem>();
    refuses_what_is_cut::<StockItem>();
    refuses_what_is_cut::<ListItem>();
    assert!(response::items::<Answer>(&[0; 47]).is_none());
    assert!(response::items::<ReservationReply>(&[0; 113]).is_none());
    assert!(response::items::<ProductReply>(&[0; 127]).is_none());
}

#[test]
fn every_reserved_byte_of_every_item_must_be_zero() {
    fn refuses<T: Item>(reserved: std::ops::Range<usize>) {
        let len = size_of::<T>();
        for at in 0..len {
            // In the second of two items: the offset is counted from the item.
            let mut row = vec![0; 2 * len];
            row[len + at] = 0x80;
            let expected =
                reserved.contains(&at).then_some(DecodeError::ReservedNotZero { offset: at as u32 });
            assert_eq!(request::items::<T>(&row).err(), expected, "byte {at}");
        }
    }
    refuses::<ReserveItem>(37..40);
    refuses::<IdItem>(20..24);
    refuses::<ProductItem>(8..8);
    refuses::<StockItem>(29..32);
    refuses::<ListItem>(12..16);
}

#[test]
fn unknown_flags_of_a_put_are_reserved() {
    for bit in 0..32 {
        let mut row = [0; 48];
        row[40 + bit / 8] = 1 << (bit % 8);
        let expected = (bit > 1).then_some(DecodeError::ReservedNotZero { offset: 40 });
        assert_eq!(request::items::<PutProductItem>(&row).err(), expected, "flag bit {bit}");
    }
    for at in 44..48 {
        let mut row = [0; 48];
        row[at] = 1;
        let expected = DecodeError::ReservedNotZero { offset: at as u32 };
        assert_eq!(request::items::<PutProductItem>(&row).err(), Some(expected));
    }
}

#[test]
fn hellos_hold_what_they_announce() {
    let mut body = Vec::new();
    Hello { version_min: 1, version_max: 3, name: "shop", credentials: b"key" }.encode(&mut body);
    for cut in 0..body.len() {
        let expected = if cut < 8 { 8 } else { body.len() as u32 };
        assert_eq!(Hello::decode(&body[..cut]), Err(DecodeError::BadLength { got: cut as u32, expected }));
    }
    for (at, value, error) in [
        (3, 1, DecodeError::ReservedNotZero { offset: 3 }),
        (6, 1, DecodeError::ReservedNotZero { offset: 6 }),
        (7, 1, DecodeError::ReservedNotZero { offset: 6 }),
        (2, 5, DecodeError::BadLength { got: 15, expected: 16 }),
        (2, 65, DecodeError::BadLength { got: 65, expected: CLIENT_NAME_MAX as u32 }),
        (5, 0x20, DecodeError::BadLength { got: 0x2003, expected: CREDENTIALS_MAX as u32 }),
        (8, 0xff, DecodeError::BadText),
    ] {
        let mut wrong = body.clone();
        wrong[at] = value;
        assert_eq!(Hello::decode(&wrong), Err(error), "byte {at} = {value}");
    }
    body.push(0);
    assert_eq!(Hello::decode(&body), Err(DecodeError::BadLength { got: 16, expected: 15 }));
}

#[test]
fn welcomes_hold_what_they_announce() {
    let mut body = vec![0; 56];
    body[1] = 4;
    body.extend_from_slice(b"a:74");
    assert_eq!(Welcome::decode(&body).unwrap().leader_address, "a:74");
    for cut in 0..body.len() {
        let expected = if cut < 56 { 56 } else { 60 };
        assert_eq!(Welcome::decode(&body[..cut]), Err(DecodeError::BadLength { got: cut as u32, expected }));
    }
    for at in 12..16 {
        let mut wrong = body.clone();
        wrong[at] = 1;
        assert_eq!(Welcome::decode(&wrong), Err(DecodeError::ReservedNotZero { offset: 12 }));
    }
    body[59] = 0xc3;
    assert_eq!(Welcome::decode(&body), Err(DecodeError::BadText));
}

#[test]
fn faults_hold_what_they_announce() {
    let mut body = Vec::new();
    Fault { code: 999, text: "why" }.encode(&mut body);
    assert_eq!(Fault::decode(&body), Ok(Fault { code: 999, text: "why" }), "codes of later versions pass");
    for cut in 0..body.len() {
        let expected = if cut < 8 { 8 } else { 11 };
        assert_eq!(Fault::decode(&body[..cut]), Err(DecodeError::BadLength { got: cut as u32, expected }));
    }
    for at in 4..8 {
        let mut wrong = body.clone();
        wrong[at] = 1;
        assert_eq!(Fault::decode(&wrong), Err(DecodeError::ReservedNotZero { offset: 4 }));
    }
    let mut long = body.clone();
    long[2..4].copy_from_slice(&513_u16.to_le_bytes());
    assert_eq!(
        Fault::decode(&long),
        Err(DecodeError::BadLength { got: 513, expected: FAULT_TEXT_MAX as u32 })
    );
    body[8] = 0xff;
    assert_eq!(Fault::decode(&body), Err(DecodeError::BadText));
}

#[test]
fn a_long_fault_is_cut_between_characters() {
    let mut body = Vec::new();
    Fault { code: 1, text: &"é".repeat(300) }.encode(&mut body);
    assert!(body.len() <= FAULT_BODY_MAX);
    assert_eq!(Fault::decode(&body).unwrap().text, "é".repeat(FAULT_TEXT_MAX / 2));
    body.clear();
    Fault { code: 1, text: &format!("x{}", "é".repeat(300)) }.encode(&mut body);
    assert_eq!(Fault::decode(&body).unwrap().text.len(), FAULT_TEXT_MAX - 1);
}

#[test]
fn statuses_of_later_versions_are_kept_as_numbers() {
    let mut body = [0; 48];
    body[0] = 99;
    body[1] = 99;
    let answer = response::items::<Answer>(&body).unwrap()[0];
    assert_eq!((answer.status(), answer.status_byte()), (None, 99));
    assert_eq!(answer.state(), response::State::None);
    assert_eq!(Status::from_byte(0), None, "zeroed memory is no status");
}

#[test]
fn ids_are_read_as_people_write_them() {
    let id = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00a1);
    for (text, read) in [
        ("01990000-0000-7000-8000-0000000000a1", id),
        ("019900000000700080000000000000A1", id),
        ("a1", ReservationId(0xa1)),
    ] {
        assert_eq!(text.parse(), Ok(read), "{text:?}");
    }
    for text in ["", "-", " 1", "+1", "-+1", "0x1", "g", &"0".repeat(33), &"f".repeat(33)] {
        assert!(text.parse::<ReservationId>().is_err(), "{text:?}");
    }
    assert_eq!(id.to_string(), "019900000000700080000000000000a1");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = check(&bytes);
        for kind in Kind::ALL {
            let whole = bytes.len() - bytes.len() % kind.item_len().unwrap_or(1);
            let _ = read(kind, &bytes[..whole]);
        }
    }

    #[test]
    fn arbitrary_bodies_under_a_sound_header_never_panic(
        kind in proptest::sample::select(Kind::ALL.to_vec()),
        body in proptest::collection::vec(any::<u8>(), 0..2048),
        lie in any::<u16>(),
    ) {
        let body = &body[..body.len().min(kind.body_max())];
        let honest = body.len() / kind.item_len().unwrap_or(usize::MAX);
        for count in [honest as u16, lie] {
            let frame = sealed(kind, count, 0, body);
            if check(&frame).is_ok() {
                let _ = read(kind, body);
            }
        }
    }

    #[test]
    fn frames_keep_their_header(
        kind in proptest::sample::select(Kind::ALL.to_vec()),
        version in any::<u8>(),
        budget_ms in 0..=BUDGET_MS_MAX,
        correlation in any::<u64>(),
        count in 0..=ITEMS_MAX,
    ) {
        let (low, high) = kind.count_range();
        let count = count.clamp(low, high);
        let mut frame = sound(kind, count);
        seal(&mut frame, kind, version, count as u16, budget_ms, correlation);
        let header = check(&frame).unwrap().unwrap();
        prop_assert_eq!(
            (header.kind, header.version, usize::from(header.count), header.budget_ms, header.correlation),
            (kind, version, count, budget_ms, correlation)
        );
        prop_assert_eq!(frame[COUNT_AT], count as u8);
    }

    #[test]
    fn hellos_round_trip(
        version_min in any::<u8>(),
        version_max in any::<u8>(),
        name in "\\PC{0,16}",
        credentials in proptest::collection::vec(any::<u8>(), 0..CREDENTIALS_MAX),
    ) {
        let hello = Hello { version_min, version_max, name: &name, credentials: &credentials };
        let mut body = Vec::new();
        hello.encode(&mut body);
        prop_assert!(body.len() <= HELLO_BODY_MAX);
        prop_assert_eq!(Hello::decode(&body), Ok(hello));
    }

    #[test]
    fn faults_round_trip(code in any::<u16>(), text in "\\PC{0,64}") {
        let fault = Fault { code, text: &text };
        let mut body = Vec::new();
        fault.encode(&mut body);
        prop_assert_eq!(Fault::decode(&body), Ok(fault));
    }

    #[test]
    fn reservation_ids_round_trip_through_text(number in any::<u128>()) {
        let id = ReservationId(number);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }
}
