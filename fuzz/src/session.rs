//! A session fed a stream of bytes in any splits, against the plain reading of the whole stream: the same frames and the
//! same fault, each as soon as its bytes are there; replies in any order; nothing behind the fault.
//!
//! The input is a plan: pieces of a stream, which may be frames with something wrong or plain rubbish, where the stream
//! is cut, and which of the unanswered frames is answered when. Deliberately not here: what requests mean.

use arbitrary::{Arbitrary, Unstructured};
use sluice_core::flight::Answers;
use sluice_core::session::{Ask, Facts, Session, Step};
use sluice_protocol::header::{HEADER_LEN, seal};
use sluice_protocol::limits::REQUEST_BODY_MAX;
use sluice_protocol::{Answer, ClusterId, FaultCode, Kind, NodeId};
use zerocopy::IntoBytes;

use crate::naive::{self, Said};

/// The largest count of items that a plan asks for by name; larger ones come as rubbish.
const ITEMS_MAX: u8 = 5;

/// What happens on one connection.
#[derive(Debug, Arbitrary)]
struct Plan {
    frames_in_flight_max: u8,
    pieces: Vec<Piece>,
    cuts: Vec<u16>,
    /// Answer at once all that can be, or only when the session is full.
    eager: bool,
    picks: Vec<u8>,
    /// Ends the session from outside, at last.
    close: bool,
}

/// A part of the stream.
#[derive(Debug, Arbitrary)]
enum Piece {
    Hello,
    Ping(u64),
    Items {
        kind: u8,
        count: u8,
        fill: Vec<u8>,
        zero_reserved: bool,
        correlation: u64,
        budget_ms: u16,
    },
    AnyHello {
        body: Vec<u8>,
    },
    Frame {
        kind: u8,
        version: u8,
        count: u16,
        budget_ms: u32,
        correlation: u64,
        body: Vec<u8>,
    },
    /// A frame whose header announces more than it has, or is wrong at one place.
    Flawed {
        inner: Box<Piece>,
        at: u8,
        by: u8,
    },
    Rubbish(Vec<u8>),
}

/// See the module.
pub fn target(data: &[u8]) {
    let Ok(plan) = Plan::arbitrary(&mut Unstructured::new(data)) else { return };
    let stream: Vec<u8> = plan.pieces.iter().flat_map(bytes).collect();
    let expected = naive::stream(&stream);
    let mut wire = Wire::new(&plan, &expected);
    let mut cuts: Vec<usize> = plan.cuts.iter().map(|cut| usize::from(*cut) % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        wire.feed(&stream[from..cut]);
        wire.read(cut);
        from = cut;
    }
    wire.finish(plan.close);
}

fn sealed(kind: Kind, version: u8, count: u16, budget_ms: u32, correlation: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    seal(&mut frame, kind, version, count, budget_ms, correlation);
    frame
}

/// The bytes of a piece.
fn bytes(piece: &Piece) -> Vec<u8> {
    match piece {
        Piece::Hello => sealed(Kind::Hello, 0, 0, 0, 0, &[1, 1, 4, 0, 0, 0, 0, 0, b'f', b'u', b'z', b'z']),
        Piece::Ping(correlation) => sealed(Kind::Ping, 1, 0, 0, *correlation, &[]),
        Piece::Items { kind, count, fill, zero_reserved, correlation, budget_ms } => {
            let requests = naive::KINDS.iter().filter(|row| row.item != 0 && row.kind < 0x80);
            let rows: Vec<_> = requests.collect();
            let row = rows[usize::from(*kind) % rows.len()];
            let count = if row.count.1 == 1 { 1 } else { 1 + u16::from(*count % ITEMS_MAX) };
            let mut body: Vec<u8> = fill
                .iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(row.item * usize::from(count))
                .collect();
            for item in body.chunks_mut(row.item).filter(|_| *zero_reserved) {
                row.reserved.iter().for_each(|(from, to)| item[*from..*to].fill(0));
                if let Some((at, known)) = naive::flags(row.kind) {
                    item[at..at + 4].copy_from_slice(&[fill.len() as u8 & known as u8, 0, 0, 0]);
                    if row.kind == 0x30 && item[at] == 0 {
                        item[48..52].fill(0);
                    }
                }
            }
            let kind = Kind::from_byte(row.kind).expect("the page's kinds are the code's");
            sealed(kind, 1, count, u32::from(*budget_ms), *correlation, &body)
        }
        Piece::AnyHello { body } => sealed(Kind::Hello, 0, 0, 0, 0, &body[..body.len().min(4168)]),
        Piece::Frame { kind, version, count, budget_ms, correlation, body } => {
            let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
            let body = &body[..body.len().min(kind.body_max())];
            sealed(kind, *version, *count, *budget_ms, *correlation, body)
        }
        Piece::Flawed { inner, at, by } => {
            let mut bytes = bytes(inner);
            let len = bytes.len();
            if let Some(byte) = bytes.get_mut(usize::from(*at) % len.max(1)) {
                *byte ^= *by;
            }
            bytes
        }
        Piece::Rubbish(bytes) => bytes.clone(),
    }
}

/// A session, what was heard from it, and what it should have said by now.
struct Wire<'a> {
    session: Session,
    expected: &'a [(usize, Said)],
    heard: usize,
    eager: bool,
    picks: std::slice::Iter<'a, u8>,
    /// Kind and correlation of the frames that are not answered.
    open: Vec<(u8, u64, u16)>,
    /// Kind, correlation and count of the frames that should go out.
    sent: Vec<(u8, u64, u16)>,
    out: Vec<u8>,
}

impl<'a> Wire<'a> {
    fn new(plan: &'a Plan, expected: &'a [(usize, Said)]) -> Self {
        let frames_in_flight_max = 1 + usize::from(plan.frames_in_flight_max % 8);
        let facts = Facts { cluster: ClusterId(5), node: NodeId(1), frames_in_flight_max };
        let (session, picks) = (Session::new(facts), plan.picks.iter());
        let (open, sent, out) = (Vec::new(), Vec::new(), Vec::new());
        Self { session, expected, heard: 0, eager: plan.eager, picks, open, sent, out }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.session.read_buffer();
            let len = bytes.len().min(room.capacity() - room.len());
            assert!(len > 0, "a read buffer always has room");
            room.extend_from_slice(&bytes[..len]);
            assert!(room.capacity() <= 4 * (HEADER_LEN + REQUEST_BODY_MAX) + bytes.len());
            bytes = &bytes[len..];
        }
    }

    /// Takes what the session says of the stream's first `fed` bytes.
    fn read(&mut self, fed: usize) {
        loop {
            let said = match self.session.step() {
                Ok(Step::Starved) => break,
                Ok(Step::Full) => {
                    assert!(!self.open.is_empty());
                    if !self.eager && self.picks.len().is_multiple_of(2) {
                        self.picks.next();
                        self.check_known(fed, false);
                        return;
                    }
                    self.answer_one();
                    continue;
                }
                Ok(Step::Hello { name }) => Said::Hello(name),
                Ok(Step::Ping) => Said::Ping(self.pinged()),
                Ok(Step::Request { kind, correlation, budget_ms, ask }) => {
                    self.open.push((kind as u8, correlation, ask.len() as u16));
                    Said::Request { kind: kind as u8, correlation, budget_ms, body: body(&ask) }
                }
                Err(fault) => Said::Wrong(fault.code() as u16),
            };
            let (known_at, expected) =
                self.expected.get(self.heard).expect("nothing is heard that was not said");
            assert_eq!((&said, *known_at <= fed), (expected, true));
            self.heard += 1;
            match said {
                Said::Hello(_) => {
                    self.session.welcome(NodeId(1), "", 99);
                    self.sent.push((0x81, 0, 0));
                }
                Said::Wrong(_) => self.sent.push((0xff, 0, 0)),
                _ => {}
            }
            if self.eager {
                self.answer_one();
            }
        }
        self.check_known(fed, true);
    }

    /// All that can be known is known, unless the session is full.
    fn check_known(&self, fed: usize, all: bool) {
        let known = self.expected.iter().filter(|(at, _)| *at <= fed).count();
        assert!(if all { self.heard == known } else { self.heard <= known });
        assert_eq!(self.session.in_flight(), self.open.len());
    }

    /// A ping was answered on the spot; returns its correlation, which only the stream tells.
    fn pinged(&mut self) -> u64 {
        let correlation = match self.expected.get(self.heard) {
            Some((_, Said::Ping(correlation))) => *correlation,
            other => panic!("a ping was heard instead of {other:?}"),
        };
        self.sent.push((0x82, correlation, 0));
        correlation
    }

    /// Answers one of the frames that wait, if any does.
    fn answer_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let pick = usize::from(self.picks.next().copied().unwrap_or(0)) % self.open.len();
        let (kind, correlation, count) = self.open.swap_remove(pick);
        let ended = self.session.is_ended();
        let kind_of = Kind::from_byte(kind).expect("a request's kind");
        self.session.reply(
            kind_of,
            correlation,
            &Answers::plain(kind_of, vec![Answer::busy(1); usize::from(count)]),
        );
        if !ended {
            self.sent.push((kind | 0x80, correlation, count));
        }
        let some = self.session.outgoing().len().min(7 + pick);
        self.take(some);
    }

    /// The socket takes some bytes.
    fn take(&mut self, len: usize) {
        self.out.extend_from_slice(&self.session.outgoing()[..len]);
        self.session.wrote(len);
    }

    fn finish(mut self, close: bool) {
        // Whoever was left full goes on, and then hears all that was said.
        let all = self.expected.last().map_or(0, |(at, _)| *at);
        self.eager = true;
        while self.heard < self.expected.len() {
            self.answer_one();
            self.read(all);
        }
        while !self.open.is_empty() {
            self.answer_one();
        }
        let is_wrong = matches!(self.expected.last(), Some((_, Said::Wrong(_))));
        assert_eq!(self.session.is_ended(), is_wrong);
        if close {
            self.session.close(FaultCode::ShuttingDown);
            if !is_wrong {
                self.sent.push((0xff, 0, 0));
            }
        }
        let rest = self.session.outgoing().len();
        self.take(rest);
        check_out(&self.out, &self.sent);
    }
}

/// The items of a request, as they lie in the frame.
fn body(ask: &Ask<'_>) -> Vec<u8> {
    match ask {
        Ask::Reserve(items) => items.as_bytes(),
        Ask::Confirm(items) | Ask::Cancel(items) | Ask::Resolve(items) | Ask::Reservations(items) => {
            items.as_bytes()
        }
        Ask::Products(items) | Ask::Seal(items) => items.as_bytes(),
        Ask::Put(items) => items.as_bytes(),
        Ask::Restock(items) | Ask::WriteOff(items) => items.as_bytes(),
        Ask::Page(item) => item.as_bytes(),
        Ask::PutGroup(item) => item.as_bytes(),
        Ask::RemoveGroup(item) | Ask::Groups(item) | Ask::Members(item) => item.as_bytes(),
        Ask::SeekGroup(item) | Ask::Join(item) => item.as_bytes(),
        Ask::Leave(item) => item.as_bytes(),
        Ask::Fetch(item) => item.as_bytes(),
        Ask::Ack(items) => items.as_bytes(),
        Ask::Nak(items) => items.as_bytes(),
        Ask::Dead(item) => item.as_bytes(),
        Ask::Redrive(items) | Ask::DropDead(items) | Ask::Places(items) => items.as_bytes(),
        Ask::Stream(item) => item.as_bytes(),
    }
    .to_vec()
}

/// What went out is sound frames, exactly those that should have, the fault last.
fn check_out(mut bytes: &[u8], expected: &[(u8, u64, u16)]) {
    let mut sent = Vec::new();
    while let Some(head) = naive::head(bytes).expect("a sound header") {
        let (frame, rest) = bytes.split_at(naive::HEADER + head.length);
        assert_eq!(naive::whole(&head, frame), Ok(()));
        sent.push((head.row.kind, head.correlation, head.count));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "whole frames go out");
    assert_eq!(sent, expected);
    assert!(sent.iter().rev().skip(1).all(|(kind, ..)| *kind != 0xff), "a fault is the last frame");
}
