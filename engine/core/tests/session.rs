//! A connection without a socket: greetings, requests in any split, faults, bounds.

use bytes::BytesMut;
use sluice_core::flight::Answers;
use sluice_core::session::{Demand, Facts, Held, Session, Step};
use sluice_protocol::handshake::{Fault, Hello, Welcome};
use sluice_protocol::header::{self, FrameHeader, HEADER_LEN};
use sluice_protocol::limits::REQUEST_BODY_MAX;
use sluice_protocol::request::ReserveItem;
use sluice_protocol::{Answer, ClusterId, FaultCode, Kind, NodeId, PROTOCOL_VERSION};
use zerocopy::IntoBytes;

fn session(frames_in_flight_max: usize) -> Session {
    Session::new(Facts { cluster: ClusterId(5), node: NodeId(1), frames_in_flight_max })
}

fn frame(kind: Kind, version: u8, count: u16, correlation: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    header::seal(&mut frame, kind, version, count, 0, correlation);
    frame
}

fn hello() -> Vec<u8> {
    let mut body = Vec::new();
    Hello { version_min: 1, version_max: 1, name: "test", credentials: b"" }.encode(&mut body);
    frame(Kind::Hello, 0, 0, 0, &body)
}

fn reserve(correlation: u64, items: usize) -> Vec<u8> {
    let items: Vec<_> =
        (0..items).map(|at| ReserveItem::new((at as u128 + 1).into(), 1.into(), 2.into(), 3)).collect();
    frame(Kind::Reserve, PROTOCOL_VERSION, items.len() as u16, correlation, items.as_bytes())
}

/// What a session says of some bytes, one line a step.
fn steps(session: &mut Session, bytes: &[u8]) -> Vec<String> {
    session.read_buffer().extend_from_slice(bytes);
    let mut seen = Vec::new();
    loop {
        match session.step() {
            Ok(Step::Starved) => return seen,
            Ok(Step::Full) => {
                seen.push("full".into());
                return seen;
            }
            Ok(Step::Ping) => seen.push("ping".into()),
            Ok(Step::Hello { name }) => seen.push(format!("hello {name}")),
            Ok(Step::Request { kind, correlation, ask, .. }) => {
                seen.push(format!("{kind:?} #{correlation} of {}", ask.len()));
            }
            Err(fault) => {
                seen.push(format!("fault {:?}", fault.code()));
                return seen;
            }
        }
    }
}

/// The frames a session wants to send: their kinds, correlations and bodies.
fn sent(session: &mut Session) -> Vec<(Kind, u64, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut bytes = session.outgoing();
    let all = bytes.len();
    while let Some(header) = FrameHeader::parse(bytes).expect("a sound header") {
        let (frame, rest) = bytes.split_at(header.frame_len());
        header.check_body(frame).expect("a sound body");
        frames.push((header.kind, header.correlation, frame[HEADER_LEN..].to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    session.wrote(all);
    frames
}

#[test]
fn a_greeting_then_requests_then_replies_in_any_order() {
    let mut session = session(10);
    assert_eq!(steps(&mut session, &hello()), ["hello test"]);
    session.welcome(NodeId(1), "", 99);
    let frames = sent(&mut session);
    let welcome = Welcome::decode(&frames[0].2).unwrap();
    assert_eq!((frames[0].0, welcome.cluster, welcome.time_ms), (Kind::Welcome, ClusterId(5), 99));
    let bytes = [reserve(7, 2), frame(Kind::Ping, 1, 0, 8, b""), reserve(9, 1)].concat();
    assert_eq!(steps(&mut session, &bytes), ["Reserve #7 of 2", "ping", "Reserve #9 of 1"]);
    assert_eq!(session.in_flight(), 2);
    session.reply(Kind::Reserve, 9, &Answers::Plain(vec![Answer::busy(1)]));
    session.reply(Kind::Reserve, 7, &Answers::Plain(vec![Answer::busy(1); 2]));
    let kinds: Vec<_> =
        sent(&mut session).into_iter().map(|(kind, at, body)| (kind, at, body.len())).collect();
    assert_eq!(kinds, [(Kind::Pong, 8, 0), (Kind::ReserveReply, 9, 48), (Kind::ReserveReply, 7, 96)]);
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn bytes_split_anywhere_mean_the_same() {
    let bytes = [hello(), reserve(1, 3), frame(Kind::Ping, 1, 0, 2, b""), reserve(3, 1)].concat();
    let whole = steps(&mut session(10), &bytes);
    assert_eq!(whole.len(), 4);
    for cut in 0..bytes.len() {
        let mut session = session(10);
        let mut seen = steps(&mut session, &bytes[..cut]);
        seen.extend(steps(&mut session, &bytes[cut..]));
        assert_eq!(seen, whole, "cut at {cut}");
    }
    let mut session = session(10);
    let one_by_one: Vec<_> = bytes.chunks(1).flat_map(|byte| steps(&mut session, byte)).collect();
    assert_eq!(one_by_one, whole);
}

#[test]
fn a_full_session_reads_on_after_a_reply() {
    let mut session = session(2);
    let bytes = [hello(), reserve(1, 1), reserve(2, 1), reserve(3, 1)].concat();
    assert_eq!(steps(&mut session, &bytes), ["hello test", "Reserve #1 of 1", "Reserve #2 of 1", "full"]);
    assert!(session.has_buffered() && !session.has_partial_frame());
    session.reply(Kind::Reserve, 2, &Answers::Plain(vec![Answer::busy(1)]));
    assert_eq!(steps(&mut session, b""), ["Reserve #3 of 1", "full"]);
}

#[test]
fn what_is_out_of_order_or_not_the_protocol_ends_with_one_fault_frame() {
    let version_2 = {
        let mut body = Vec::new();
        Hello { version_min: 2, version_max: 9, name: "", credentials: b"" }.encode(&mut body);
        frame(Kind::Hello, 0, 0, 0, &body)
    };
    let mut garbled = reserve(1, 1);
    garbled[HEADER_LEN] ^= 1;
    let mut long = reserve(1, 1);
    long[4..8].copy_from_slice(&(REQUEST_BODY_MAX as u32 + 1).to_le_bytes());
    let old = {
        let item = ReserveItem::new(1.into(), 1.into(), 2.into(), 3);
        frame(Kind::Reserve, 7, 1, 0, item.as_bytes())
    };
    let reply = frame(Kind::Pong, 1, 0, 0, b"");
    let cases: &[(&[&[u8]], FaultCode)] = &[
        (&[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n........"], FaultCode::BadMagic),
        (&[&reserve(1, 1)], FaultCode::HelloExpected),
        (&[&hello(), &hello()], FaultCode::HelloRepeated),
        (&[&version_2], FaultCode::NoCommonVersion),
        (&[&hello(), &garbled], FaultCode::BadChecksum),
        (&[&hello(), &long[..HEADER_LEN]], FaultCode::BodyTooLong),
        (&[&hello(), &old], FaultCode::BadVersion),
        (&[&hello(), &reply], FaultCode::BadKind),
    ];
    for (bytes, code) in cases {
        let mut session = session(10);
        let seen = steps(&mut session, &bytes.concat());
        assert_eq!(seen.last().unwrap(), &format!("fault {code:?}"));
        assert!(session.is_ended());
        let frames = sent(&mut session);
        let (kind, _, body) = frames.last().unwrap();
        let fault = Fault::decode(body).unwrap();
        assert_eq!((*kind, fault.code), (Kind::Fault, *code as u16));
        assert!(!fault.text.is_empty());
        assert!(steps(&mut session, &hello()).is_empty(), "an ended session reads nothing");
        session.close(FaultCode::ShuttingDown);
        assert!(sent(&mut session).is_empty(), "one fault is the last frame");
    }
}

#[test]
fn a_client_that_drips_bytes_cannot_make_the_buffer_grow() {
    let mut session = session(10);
    assert_eq!(steps(&mut session, &hello()), ["hello test"]);
    let most = reserve(1, 1024);
    for _ in 0..100 {
        for chunk in most.chunks(1000) {
            let mut bytes = chunk;
            while let Some((byte, rest)) = bytes.split_first() {
                session.read_buffer().extend_from_slice(&[*byte]);
                bytes = rest;
            }
            assert!(session.read_buffer().capacity() <= 4 * (HEADER_LEN + REQUEST_BODY_MAX));
        }
        assert_eq!(steps(&mut session, b""), ["Reserve #1 of 1024"]);
        session.reply(Kind::Reserve, 1, &Answers::Plain(vec![Answer::busy(1); 1024]));
        sent(&mut session);
    }
}

#[test]
fn nothing_follows_a_fault() {
    let mut session = session(4);
    steps(&mut session, &hello());
    steps(&mut session, &reserve(1, 1));
    sent(&mut session);
    steps(&mut session, &frame(Kind::Reserve, PROTOCOL_VERSION, 2, 2, &[0; 40]));
    session.reply(Kind::Reserve, 1, &Answers::Plain(vec![Answer::unknown()]));
    let kinds: Vec<_> = sent(&mut session).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [Kind::Fault]);
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn a_session_that_waits_for_nothing_holds_nothing() {
    let (mut session, mut shared) = (session(10), BytesMut::new());
    let mut receive = |session: &mut Session, bytes: &[u8]| {
        shared.extend_from_slice(bytes);
        session.receive(&mut shared);
        let seen = steps(session, b"");
        session.give_back(&mut shared);
        assert!(shared.is_empty());
        seen
    };
    assert_eq!(receive(&mut session, &hello()), ["hello test"]);
    session.welcome(NodeId(1), "", 99);
    sent(&mut session);
    assert_eq!(session.held(), Held::default());
    let whole = reserve(1, 1024);
    let (first, rest) = whole.split_at(10_000);
    assert!(receive(&mut session, first).is_empty());
    assert_eq!(session.held(), Held { input: first.len(), replies: 0 }, "what has come, and no more");
    assert_eq!(receive(&mut session, rest), ["Reserve #1 of 1024"]);
    let owed = HEADER_LEN + 1024 * size_of::<Answer>();
    assert_eq!(
        session.held(),
        Held { input: 0, replies: owed },
        "room for the reply is counted before it comes"
    );
    session.reply(Kind::Reserve, 1, &Answers::Plain(vec![Answer::busy(1); 1024]));
    assert!((owed..=2 * owed).contains(&session.held().replies));
    sent(&mut session);
    assert_eq!(session.held(), Held::default());
}

#[test]
fn replies_that_never_run_out_do_not_pile_up_where_they_were() {
    let mut session = session(10);
    steps(&mut session, &hello());
    let reply = HEADER_LEN + 64 * size_of::<Answer>();
    // A client that is always one reply behind.
    for name in 0..1000 {
        steps(&mut session, &reserve(name, 64));
        session.reply(Kind::Reserve, name, &Answers::Plain(vec![Answer::busy(1); 64]));
        if name > 0 {
            session.wrote(reply);
        }
        assert_eq!(session.outgoing().len(), reply);
        assert!(session.held().replies <= 8 * reply, "{:?} after {name}", session.held());
    }
}

#[test]
fn what_a_request_would_take_on_is_told_before_it_is_taken() {
    let mut session = session(2);
    session.read_buffer().extend_from_slice(&reserve(1, 3));
    assert_eq!(session.demand(), None, "not before the hello");
    let mut session = self::session(2);
    steps(&mut session, &hello());
    let whole = reserve(1, 3);
    session.read_buffer().extend_from_slice(&whole[..whole.len() - 1]);
    assert_eq!(session.demand(), None, "not before it is whole");
    session.read_buffer().extend_from_slice(&whole[whole.len() - 1..]);
    let demand = Demand { items: 3, reply_bytes: HEADER_LEN + 3 * size_of::<Answer>() };
    assert_eq!((session.demand(), session.owed()), (Some(demand), Demand::default()));
    assert_eq!(steps(&mut session, b""), ["Reserve #1 of 3"]);
    assert_eq!((session.demand(), session.owed()), (None, demand));
    assert_eq!(steps(&mut session, &reserve(2, 1)), ["Reserve #2 of 1", "full"]);
    session.read_buffer().extend_from_slice(&reserve(3, 1));
    assert_eq!(session.demand(), None, "not while the session is full");
    session.reply(Kind::Reserve, 1, &Answers::Plain(vec![Answer::busy(1); 3]));
    session.reply(Kind::Reserve, 2, &Answers::Plain(vec![Answer::busy(1)]));
    assert_eq!(session.owed(), Demand::default());
}
