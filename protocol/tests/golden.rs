//! The wire, byte by byte: one short sale, and an order system that reads of it (`golden/stream.rs`), with at least one
//! frame of every kind.
//!
//! Each frame stands here three times: as values, as hexadecimal digits, and in `docs/PROTOCOL.md` in a block
//! that opens with the fence word `hex` and the frame's name. All three must agree, so neither the code nor
//! the page can drift. Deliberately not here: bytes that are wrong; see `malformed.rs`.

use sluice_protocol::Kind;
use sluice_protocol::handshake::{Fault, Hello, Welcome};
use sluice_protocol::header::{FrameHeader, HEADER_LEN, seal};
use sluice_protocol::request::{
    self, IdItem, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms,
};
use sluice_protocol::response::{
    self, Answer, At, ProductRecord, ProductReply, ProductView, ReservationReply, ReservationView, State,
    Status,
};
use sluice_protocol::{ClusterId, FaultCode, NodeId, PROTOCOL_VERSION, ProductId, ReservationId, UserId};
use zerocopy::{Immutable, IntoBytes};

mod page;
#[path = "golden/stream.rs"]
mod stream;

const SHOES: ProductId = ProductId(42);
const ANNA: UserId = UserId(7);
const BEN: UserId = UserId(8);
const CLEO: UserId = UserId(9);
const ANNAS: ReservationId = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00a1);
const BENS: ReservationId = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00b2);
const CLEOS: ReservationId = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00c3);
const DELIVERY: ReservationId = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00d4);
const DAMAGE: ReservationId = ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00e5);

/// 2026-11-11 12:00:00 UTC.
const NOON: u64 = 1_794_398_400_000;
const HOLD_MS: u32 = 900_000;
const DEADLINE: u64 = NOON + 3 + HOLD_MS as u64;
const RESERVE_BUDGET_MS: u32 = 2_000;

fn at(index: u64) -> At {
    At { index, time_ms: NOON + index }
}

fn terms() -> Terms {
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 3, hold_ms: HOLD_MS, unlimited: false }
}

fn shoes(stock: u64, free: u64, sealed: bool) -> ProductView {
    let sold = stock - free;
    ProductView { product: SHOES, stock, free, held: 0, sold, terms: terms(), sealed, earliest_return_ms: 0 }
}

fn annas() -> ReservationView {
    ReservationView {
        id: ANNAS,
        product: SHOES,
        user: ANNA,
        quantity: 1,
        reason: 0,
        sequence: 5,
        deadline_ms: 0,
        ended_ms: NOON + 5,
    }
}

fn again(mut item: ReserveItem) -> ReserveItem {
    item.attempt = 1;
    item
}

fn frame(kind: Kind, version: u8, count: u16, budget_ms: u32, correlation: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    seal(&mut frame, kind, version, count, budget_ms, correlation);
    frame
}

fn row<T: IntoBytes + Immutable>(kind: Kind, correlation: u64, items: &[T]) -> Vec<u8> {
    frame(kind, PROTOCOL_VERSION, items.len() as u16, 0, correlation, items.as_bytes())
}

/// Connects, puts a product on sale, sells one unit, gives two back, reads, changes stock, closes; and what an order
/// system has of it.
fn story() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames = greetings();
    frames.extend(sale());
    frames.extend(stock_keeping());
    frames.extend(stream::story());
    frames
}

fn hello() -> Hello<'static> {
    Hello { version_min: 1, version_max: 1, name: "shop", credentials: b"" }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        version: 1,
        items_max: 1024,
        body_max: 65_536,
        frames_in_flight_max: 256,
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        node: NodeId(1),
        leader: NodeId(1),
        leader_address: "",
        time_ms: NOON,
    }
}

fn fault() -> Fault<'static> {
    Fault { code: FaultCode::IdleTimeout as u16, text: "idle" }
}

fn greetings() -> Vec<(&'static str, Vec<u8>)> {
    let (mut hello_body, mut welcome_body, mut fault_body) = (Vec::new(), Vec::new(), Vec::new());
    hello().encode(&mut hello_body);
    welcome().encode(&mut welcome_body);
    fault().encode(&mut fault_body);
    vec![
        ("hello", frame(Kind::Hello, 0, 0, 0, 0, &hello_body)),
        ("welcome", frame(Kind::Welcome, 0, 0, 0, 0, &welcome_body)),
        ("ping", frame(Kind::Ping, PROTOCOL_VERSION, 0, 0, 1, &[])),
        ("pong", frame(Kind::Pong, PROTOCOL_VERSION, 0, 0, 1, &[])),
        ("fault", frame(Kind::Fault, 0, 0, 0, 0, &fault_body)),
    ]
}

fn sale() -> Vec<(&'static str, Vec<u8>)> {
    let wanted = [
        ReserveItem::new(ANNAS, SHOES, ANNA, 1),
        ReserveItem::new(BENS, SHOES, BEN, 3),
        ReserveItem::new(CLEOS, SHOES, CLEO, 2),
    ];
    let heard = [
        Answer::reserved(at(3), 3, DEADLINE),
        Answer::insufficient(at(3), 0, 3, DEADLINE),
        Answer::reserved(at(3), 4, DEADLINE),
    ];
    vec![
        ("put-product", row(Kind::PutProduct, 2, &[PutProductItem::new(SHOES, Some(3), terms())])),
        ("put-product-reply", row(Kind::PutProductReply, 2, &[Answer::done(at(2), 2)])),
        (
            "reserve",
            frame(Kind::Reserve, PROTOCOL_VERSION, 3, RESERVE_BUDGET_MS, 3, wanted.as_slice().as_bytes()),
        ),
        ("reserve-reply", row(Kind::ReserveReply, 3, &heard)),
        ("reserve-again", row(Kind::Reserve, 4, &[again(wanted[0])])),
        ("reserve-again-reply", row(Kind::ReserveReply, 4, &[already_held()])),
        ("confirm", row(Kind::Confirm, 5, &[IdItem::new(ANNAS)])),
        ("confirm-reply", row(Kind::ConfirmReply, 5, &[Answer::confirmed(at(5), 5)])),
        ("cancel", row(Kind::Cancel, 6, &[IdItem::with_reason(CLEOS, 17)])),
        ("cancel-reply", row(Kind::CancelReply, 6, &[Answer::cancelled(at(6), 6)])),
        ("resolve", row(Kind::Resolve, 7, &[IdItem::new(BENS)])),
        ("resolve-reply", row(Kind::ResolveReply, 7, &[Answer::fenced(at(7))])),
        ("query-reservation", row(Kind::QueryReservation, 8, &[IdItem::new(ANNAS)])),
        ("query-reservation-reply", row(Kind::QueryReservationReply, 8, &[read_reservation()])),
        ("query-product", row(Kind::QueryProduct, 9, &[ProductItem::new(SHOES)])),
        ("query-product-reply", row(Kind::QueryProductReply, 9, &[read_product(at(7), shoes(3, 2, false))])),
    ]
}

fn already_held() -> Answer {
    Answer::already(at(4), State::Held, 3, DEADLINE)
}

fn read_reservation() -> ReservationReply {
    ReservationReply { answer: Answer::found(at(7), State::Confirmed), record: annas().into() }
}

fn read_product(at: At, view: ProductView) -> ProductReply {
    ProductReply { answer: Answer::done(at, 0), record: view.into() }
}

fn stock_keeping() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("restock", row(Kind::Restock, 10, &[StockItem::new(DELIVERY, SHOES, 5)])),
        ("restock-reply", row(Kind::RestockReply, 10, &[Answer::done(at(8), 7)])),
        ("write-off", row(Kind::WriteOff, 11, &[StockItem::new(DAMAGE, SHOES, 7)])),
        ("write-off-reply", row(Kind::WriteOffReply, 11, &[Answer::done(at(9), 8)])),
        ("seal", row(Kind::Seal, 12, &[ProductItem::new(SHOES)])),
        ("seal-reply", row(Kind::SealReply, 12, &[Answer::done(at(10), 9)])),
        ("list-products", row(Kind::ListProducts, 13, &[ListItem::new(ProductId(0), 100)])),
        ("list-products-reply", row(Kind::ListProductsReply, 13, &[read_product(at(10), shoes(1, 0, true))])),
    ]
}

/// What the frames of the story have been since version 1 of the protocol was written down.
const GOLDEN: &[(&str, &str)] = &[
    ("hello", "534c43310c00000001000000000000000000000000000000000000003b375dd3010104000000000073686f70"),
    (
        "welcome",
        "534c433138000000810000000000000000000000000000000000000001f1399801000004000001000001000000000000\
         ffeeddccbbaa998877665544332211000100000000000000010000000000000000ae7acaa1010000",
    ),
    ("ping", "534c433100000000020100000000000001000000000000000000000058395808"),
    ("pong", "534c43310000000082010000000000000100000000000000000000007479a963"),
    ("fault", "534c43310c000000ff0000000000000000000000000000000000000018e111f0240004000000000069646c65"),
    (
        "put-product",
        "534c4331300000002001010000000000020000000000000000000000cef514562a000000000000000300000000000000\
         0000000000000000000000000000000003000000a0bb0d000000000000000000",
    ),
    (
        "put-product-reply",
        "534c433130000000a0010100000000000200000000000000000000009157fc5107000000000000000200000000000000\
         02ae7acaa1010000020000000000000000000000000000000000000000000000",
    ),
    (
        "reserve",
        "534c43317800000010010300d00700000300000000000000000000004b9a9615a1000000000000800070000000009901\
         2a0000000000000007000000000000000100000000000000b20000000000008000700000000099012a00000000000000\
         08000000000000000300000000000000c30000000000008000700000000099012a000000000000000900000000000000\
         0200000000000000",
    ),
    (
        "reserve-reply",
        "534c4331900000009001030000000000030000000000000000000000bc7f7cbd01010000000000000300000000000000\
         03ae7acaa10100000300000000000000a36988caa1010000000000000000000010000000000000000300000000000000\
         03ae7acaa101000000000000000000000300000000000000a36988caa101000001010000000000000300000000000000\
         03ae7acaa10100000400000000000000a36988caa10100000000000000000000",
    ),
    (
        "reserve-again",
        "534c43312800000010010100000000000400000000000000000000008d0c1871a1000000000000800070000000009901\
         2a0000000000000007000000000000000100000001000000",
    ),
    (
        "reserve-again-reply",
        "534c4331300000009001010000000000040000000000000000000000456e421a05010000000000000400000000000000\
         04ae7acaa10100000300000000000000a36988caa10100000000000000000000",
    ),
    (
        "confirm",
        "534c43311800000011010100000000000500000000000000000000000c677298a1000000000000800070000000009901\
         0000000000000000",
    ),
    (
        "confirm-reply",
        "534c4331300000009101010000000000050000000000000000000000e05298b302020000000000000500000000000000\
         05ae7acaa1010000050000000000000000000000000000000000000000000000",
    ),
    (
        "cancel",
        "534c433118000000120101000000000006000000000000000000000021adca33c3000000000000800070000000009901\
         1100000000000000",
    ),
    (
        "cancel-reply",
        "534c4331300000009201010000000000060000000000000000000000f099ae7703030000000000000600000000000000\
         06ae7acaa1010000060000000000000000000000000000000000000000000000",
    ),
    (
        "resolve",
        "534c4331180000001301010000000000070000000000000000000000b66ec71ab2000000000000800070000000009901\
         0000000000000000",
    ),
    (
        "resolve-reply",
        "534c43313000000093010100000000000700000000000000000000005328f25106050000000000000700000000000000\
         07ae7acaa1010000000000000000000000000000000000000000000000000000",
    ),
    (
        "query-reservation",
        "534c4331180000001401010000000000080000000000000000000000ca837ac7a1000000000000800070000000009901\
         0000000000000000",
    ),
    (
        "query-reservation-reply",
        "534c433170000000940101000000000008000000000000000000000077932e7f07020000000000000700000000000000\
         07ae7acaa1010000000000000000000000000000000000000000000000000000a1000000000000800070000000009901\
         2a00000000000000070000000000000001000000000000000500000000000000000000000000000005ae7acaa1010000",
    ),
    ("query-product", "534c4331080000001501010000000000090000000000000000000000ac0e85e02a00000000000000"),
    (
        "query-product-reply",
        "534c4331800000009501010000000000090000000000000000000000791363f107000000000000000700000000000000\
         07ae7acaa10100000000000000000000000000000000000000000000000000002a000000000000000300000000000000\
         0200000000000000000000000000000001000000000000000000000000000000000000000000000003000000a0bb0d00\
         00000000000000000000000000000000",
    ),
    (
        "restock",
        "534c43312000000021010100000000000a0000000000000000000000577f1d6ad4000000000000800070000000009901\
         2a000000000000000500000000000000",
    ),
    (
        "restock-reply",
        "534c433130000000a1010100000000000a000000000000000000000087c5911807000000000000000800000000000000\
         08ae7acaa1010000070000000000000000000000000000000000000000000000",
    ),
    (
        "write-off",
        "534c43312000000022010100000000000b0000000000000000000000cef2746ee5000000000000800070000000009901\
         2a000000000000000700000000000000",
    ),
    (
        "write-off-reply",
        "534c433130000000a2010100000000000b00000000000000000000004a7f8fc007000000000000000900000000000000\
         09ae7acaa1010000080000000000000000000000000000000000000000000000",
    ),
    ("seal", "534c43310800000023010100000000000c00000000000000000000008da253e32a00000000000000"),
    (
        "seal-reply",
        "534c433130000000a3010100000000000c000000000000000000000016999dde07000000000000000a00000000000000\
         0aae7acaa1010000090000000000000000000000000000000000000000000000",
    ),
    (
        "list-products",
        "534c43311000000024010100000000000d00000000000000000000001679fafc00000000000000006400000000000000",
    ),
    (
        "list-products-reply",
        "534c433180000000a4010100000000000d00000000000000000000005d6894f107000000000000000a00000000000000\
         0aae7acaa10100000000000000000000000000000000000000000000000000002a000000000000000100000000000000\
         0000000000000000000000000000000001000000000000000000000000000000000000000000000003000000a0bb0d00\
         04000000000000000000000000000000",
    ),
];

/// Names and digits of all golden frames.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    GOLDEN.iter().chain(stream::GOLDEN).copied()
}

fn golden(name: &str) -> Vec<u8> {
    let (_, digits) = all().find(|(golden, _)| *golden == name).unwrap_or_else(|| panic!("no frame {name}"));
    page::bytes_of(digits)
}

fn body_of(name: &str) -> Vec<u8> {
    golden(name)[HEADER_LEN..].to_vec()
}

#[test]
fn values_encode_to_the_golden_bytes() {
    let names: Vec<_> = story().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, all().map(|(name, _)| name).collect::<Vec<_>>());
    for (name, bytes) in story() {
        assert_eq!(page::digits_of(&bytes), page::digits_of(&golden(name)), "{name}");
    }
}

#[test]
fn the_page_shows_the_golden_bytes() {
    let mut shown = page::frames();
    for (name, _) in all() {
        let bytes =
            shown.remove(name).unwrap_or_else(|| panic!("docs/PROTOCOL.md has no block `hex {name}`"));
        assert_eq!(page::digits_of(&bytes), page::digits_of(&golden(name)), "block `hex {name}` of the page");
    }
    assert!(shown.is_empty(), "blocks of the page without a golden frame: {:?}", shown.keys());
}

#[test]
fn every_kind_has_a_golden_frame() {
    for kind in Kind::ALL {
        assert!(all().any(|(name, _)| golden(name)[8] == kind as u8), "no golden frame of kind {kind:?}");
    }
}

#[test]
fn golden_frames_pass_every_check() {
    for (name, _) in all() {
        let frame = golden(name);
        let header = FrameHeader::parse(&frame).expect(name).expect(name);
        assert_eq!(header.frame_len(), frame.len(), "{name}");
        header.check_body(&frame).expect(name);
        let handshake = matches!(header.kind, Kind::Hello | Kind::Welcome | Kind::Fault);
        assert_eq!(header.version, if handshake { 0 } else { PROTOCOL_VERSION }, "{name}");
    }
}

#[test]
fn a_reply_carries_its_requests_correlation_and_count() {
    for (name, _) in all() {
        let Some(request_name) = name.strip_suffix("-reply") else { continue };
        let request = FrameHeader::parse(&golden(request_name)).unwrap().unwrap();
        let reply = FrameHeader::parse(&golden(name)).unwrap().unwrap();
        assert_eq!(reply.kind, request.kind.reply(), "{name}");
        assert_eq!(reply.correlation, request.correlation, "{name}");
        // A delivery has as many rows as there were events, and its head.
        assert!(reply.count == request.count || reply.kind == Kind::FetchReply, "{name}");
        assert_eq!(reply.budget_ms, 0, "{name}");
    }
}

#[test]
fn greetings_decode_to_their_values() {
    assert_eq!(Hello::decode(&body_of("hello")), Ok(hello()));
    assert_eq!(Welcome::decode(&body_of("welcome")), Ok(welcome()));
    assert_eq!(Fault::decode(&body_of("fault")), Ok(fault()));
}

#[test]
fn requests_decode_to_their_values() {
    let header = FrameHeader::parse(&golden("reserve")).unwrap().unwrap();
    assert_eq!((header.budget_ms, header.correlation, header.count), (RESERVE_BUDGET_MS, 3, 3));

    let body = body_of("reserve");
    let items = request::items::<ReserveItem>(&body).unwrap();
    let read: Vec<_> =
        items.iter().map(|item| (item.id(), item.product(), item.user(), item.quantity())).collect();
    assert_eq!(read, [(ANNAS, SHOES, ANNA, 1), (BENS, SHOES, BEN, 3), (CLEOS, SHOES, CLEO, 2)]);
    assert!(items.iter().all(|item| item.attempt == 0));
    assert_eq!(request::items::<ReserveItem>(&body_of("reserve-again")).unwrap()[0].attempt, 1);

    let body = body_of("cancel");
    let item = request::items::<IdItem>(&body).unwrap()[0];
    assert_eq!((item.id(), item.reason()), (CLEOS, 17));

    let body = body_of("put-product");
    let item = request::items::<PutProductItem>(&body).unwrap()[0];
    assert_eq!((item.product(), item.stock(), item.terms()), (SHOES, Some(3), terms()));

    let body = body_of("restock");
    let item = request::items::<StockItem>(&body).unwrap()[0];
    assert_eq!((item.id(), item.product(), item.quantity(), item.attempt), (DELIVERY, SHOES, 5, 0));

    let body = body_of("seal");
    assert_eq!(request::items::<ProductItem>(&body).unwrap()[0].product(), SHOES);

    let body = body_of("list-products");
    let item = request::items::<ListItem>(&body).unwrap()[0];
    assert_eq!((item.from(), item.limit()), (ProductId(0), 100));
}

#[test]
fn replies_decode_to_their_values() {
    let body = body_of("reserve-reply");
    let [annas_answer, bens_answer, cleos_answer] = response::items::<Answer>(&body).unwrap() else {
        panic!("three answers")
    };
    assert_eq!((annas_answer.status(), annas_answer.state()), (Some(Status::Reserved), State::Held));
    assert_eq!((annas_answer.sequence(), annas_answer.deadline_ms()), (3, DEADLINE));
    assert_eq!(annas_answer.at(), at(3));
    assert_eq!((bens_answer.status(), bens_answer.state()), (Some(Status::Insufficient), State::None));
    assert_eq!((bens_answer.free(), bens_answer.held(), bens_answer.earliest_return_ms()), (0, 3, DEADLINE));
    assert_eq!(cleos_answer.sequence(), 4);

    let body = body_of("reserve-again-reply");
    assert_eq!(response::items::<Answer>(&body).unwrap(), [already_held()]);

    let body = body_of("query-reservation-reply");
    let reply = response::items::<ReservationReply>(&body).unwrap()[0];
    assert_eq!((reply.answer.status(), reply.answer.state()), (Some(Status::Done), State::Confirmed));
    assert_eq!(ReservationView::from(reply.record), annas());

    let body = body_of("list-products-reply");
    let reply = response::items::<ProductReply>(&body).unwrap()[0];
    assert_eq!(reply.answer.at(), at(10));
    assert_eq!(ProductView::from(reply.record), shoes(1, 0, true));
    assert_eq!(ProductRecord::from(shoes(1, 0, true)), reply.record);
}
