//! Clients that do what nobody should, by the thousand, from one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use sluice_protocol::handshake::Fault;
use sluice_protocol::header::{FrameHeader, HEADER_LEN};
use sluice_protocol::limits::{ITEMS_MAX, REQUEST_BODY_MAX};
use sluice_protocol::request::ProductItem;
use sluice_protocol::{FaultCode, Kind, ProductId};
use zerocopy::IntoBytes;

use super::PRODUCT;
use crate::raw::{Raw, frame, hello, order, reserve};

/// Connections that are opened before their welcomes are read: fewer than wait to be accepted.
const GREETED_AT_ONCE: usize = 250;

/// So many clients that have been welcomed.
pub(crate) fn greeted(address: SocketAddr, count: usize) -> Vec<Raw> {
    let mut all: Vec<Raw> = Vec::with_capacity(count);
    while all.len() < count {
        let from = all.len();
        all.extend((from..count.min(from + GREETED_AT_ONCE)).map(|_| {
            let mut raw = Raw::connect(address);
            raw.send(&hello());
            raw
        }));
        for raw in &mut all[from..] {
            assert_eq!(raw.receive().0.kind, Kind::Welcome);
        }
    }
    all
}

/// So many that say nothing.
pub(crate) fn silent(address: SocketAddr, count: usize) -> Vec<Raw> {
    (0..count).map(|_| Raw::connect(address)).collect()
}

/// So many that will write no more before they have written anything.
pub(crate) fn half_open(address: SocketAddr, count: usize) -> Vec<Raw> {
    let all = silent(address, count);
    all.iter().for_each(|raw| raw.stream.shutdown(Shutdown::Write).unwrap());
    all
}

/// Comes, leaves a piece of a frame behind, and goes.
pub(crate) fn churn(address: SocketAddr, count: usize) {
    for raw in &mut greeted(address, count) {
        let piece = reserve(1, &[order(1, PRODUCT, 1, 1)]);
        raw.send(&piece[..piece.len() / 2]);
    }
}

/// One byte more of a frame from each; those that have been let go are dropped. The frame is a long one, so that it lasts.
pub(crate) fn drip(all: &mut Vec<Raw>, byte: usize) {
    let orders: Vec<_> = (0..ITEMS_MAX as u128).map(|id| order(id + 1, PRODUCT, 1, 1)).collect();
    let frame = reserve(1, &orders);
    all.retain_mut(|raw| raw.stream.write_all(&frame[byte..=byte]).is_ok());
}

/// Most of a largest frame, and never the rest.
pub(crate) fn withhold(all: &mut [Raw]) {
    let orders: Vec<_> = (0..ITEMS_MAX as u128).map(|id| order(id + 1, PRODUCT, 1, 1)).collect();
    let frame = reserve(1, &orders);
    for raw in all {
        push(&mut raw.stream, &frame[..frame.len() - 1]);
    }
}

/// A client that asks for the longest replies there are, as often as its socket takes it, and reads none.
pub(crate) struct Deaf {
    raw: Raw,
    question: Vec<u8>,
    /// How much of the question has been asked.
    at: usize,
}

/// So many of them. Their own system keeps little for them: what they do not read stays with the server.
pub(crate) fn deaf(address: SocketAddr, count: usize) -> Vec<Deaf> {
    let reads: Vec<ProductItem> = (0..ITEMS_MAX).map(|_| ProductItem::new(ProductId(PRODUCT))).collect();
    let question = frame(Kind::QueryProduct, reads.len(), 9, reads.as_bytes());
    let all = (0..count).map(|_| Deaf { raw: Raw::narrow(address), question: question.clone(), at: 0 });
    all.collect()
}

/// Each asks so many times more, unless its socket is full.
pub(crate) fn ask(all: &mut [Deaf], times: usize) {
    for deaf in all {
        for _ in 0..times {
            deaf.at += push(&mut deaf.raw.stream, &deaf.question[deaf.at..]);
            if deaf.at < deaf.question.len() {
                break;
            }
            deaf.at = 0;
        }
    }
}

/// Writes without waiting: how much was taken. A server that has let go is no mistake.
fn push(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    stream.write(bytes).unwrap_or_else(|error| {
        let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        assert!(gone || error.kind() == ErrorKind::WouldBlock, "{error}");
        0
    })
}

/// Bytes that are wrong in every way there is, each with the fault it must meet; `true`: behind a hello.
pub(crate) fn malformed() -> Vec<(bool, Vec<u8>, FaultCode)> {
    let good = reserve(1, &[order(1, PRODUCT, 1, 1)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    // A sound checksum over unsound fields.
    let sealed = |mut frame: Vec<u8>| {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&frame[..28]);
        sum.update(&frame[HEADER_LEN..]);
        let sum = sum.finalize().to_le_bytes();
        frame[28..HEADER_LEN].copy_from_slice(&sum);
        frame
    };
    let too_long = (REQUEST_BODY_MAX as u32 + 1).to_le_bytes();
    let mut bad_name = hello();
    bad_name[HEADER_LEN + 8] = 0xff;
    let mut stranger = hello();
    stranger[HEADER_LEN] = 9;
    stranger[HEADER_LEN + 1] = 9;
    vec![
        (true, with(0, b"GET "), FaultCode::BadMagic),
        (true, with(4, &too_long), FaultCode::BodyTooLong),
        (true, with(4, &u32::MAX.to_le_bytes()), FaultCode::BodyTooLong),
        (true, with(8, &[0x77]), FaultCode::BadKind),
        (true, with(8, &[Kind::ReserveReply as u8]), FaultCode::BadKind),
        (true, sealed(with(9, &[7])), FaultCode::BadVersion),
        (true, sealed(with(10, &0_u16.to_le_bytes())), FaultCode::BadCount),
        (true, sealed(with(10, &u16::MAX.to_le_bytes())), FaultCode::BadCount),
        (true, sealed(with(10, &2_u16.to_le_bytes())), FaultCode::BadLength),
        (true, sealed(with(12, &u32::MAX.to_le_bytes())), FaultCode::BudgetTooLong),
        (true, with(24, &[1]), FaultCode::ReservedNotZero),
        (true, with(28, &[0; 4]), FaultCode::BadChecksum),
        (true, with(HEADER_LEN, &[0xff]), FaultCode::BadChecksum),
        (true, sealed(with(HEADER_LEN + 37, &[1])), FaultCode::ReservedNotZero),
        (true, hello(), FaultCode::HelloRepeated),
        (false, good.clone(), FaultCode::HelloExpected),
        (
            false,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS".to_vec(),
            FaultCode::BadMagic,
        ),
        (false, sealed(bad_name), FaultCode::BadText),
        (false, sealed(stranger), FaultCode::NoCommonVersion),
    ]
}

/// Sends each client's bytes and reads its fault, which must be the right one, and the last.
pub(crate) fn offend(address: SocketAddr, count: usize) -> Vec<FaultCode> {
    let kinds = malformed();
    let mut told = Vec::with_capacity(count);
    for nth in 0..count {
        let (behind_hello, bytes, code) = &kinds[nth % kinds.len()];
        let mut raw = if *behind_hello { Raw::greeted(address) } else { Raw::connect(address) };
        raw.send(bytes);
        let (header, body) = raw.receive();
        assert_eq!(header.kind, Kind::Fault, "{code:?}");
        assert_eq!(Fault::decode(&body).unwrap().code, *code as u16, "{code:?}");
        assert_eq!(raw.stream.read(&mut [0; 1]).unwrap_or(0), 0, "a fault is the last frame");
        told.push(*code);
    }
    told
}

/// Reads what a client was told before it was let go: whether that was a fault of this code.
pub(crate) fn was_told(raw: &mut Raw, code: FaultCode) -> bool {
    let mut bytes = Vec::new();
    let _: std::io::Result<usize> = raw.stream.read_to_end(&mut bytes);
    let Ok(Some(header)) = FrameHeader::parse(&bytes) else { return false };
    header.kind == Kind::Fault
        && Fault::decode(&bytes[HEADER_LEN..]).is_ok_and(|fault| fault.code == code as u16)
}
