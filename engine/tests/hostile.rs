//! A real server against clients that do not behave: raw sockets, no client crate.
//!
//! Every test ends with the server answering an honest client. Deliberately not here: crowds, which are in `flood`;
//! malformed frames, which the protocol's own tests feed to the decoder.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "raw/mod.rs"]
mod raw;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raw::{Raw, TERMS, frame, order, reserve};
use sluice_engine::testing::Server;
use sluice_protocol::handshake::Fault;
use sluice_protocol::header::HEADER_LEN;
use sluice_protocol::limits::{ITEMS_MAX, REQUEST_BODY_MAX};
use sluice_protocol::request::{ProductItem, Terms};
use sluice_protocol::response::items;
use sluice_protocol::{FaultCode, Kind, ProductId, Status};
use zerocopy::IntoBytes;

/// A server that serves, with these settings beside the defaults.
fn serve(settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(|config| {
        settings.iter().fold(config, |config, (key, value)| config.with(key, value))
    });
    assert!(server.node().health().wait_until_up());
    server
}

#[test]
fn a_connection_that_used_its_last_frame_is_read_again_when_there_is_room() {
    let server = serve(&[("limits.frames_in_flight_max", "4")]);
    let mut raw = Raw::greeted(server.address());
    raw.put(1, 1_000, TERMS);
    for round in 0..20_u64 {
        let all: Vec<u8> = (0..4)
            .flat_map(|at| {
                let name = round * 4 + at + 1;
                reserve(name, &[order(u128::from(name), 1, name, 1)])
            })
            .collect();
        raw.send(&all);
        for _ in 0..4 {
            assert_eq!(raw.answers().1[0].status(), Some(Status::Reserved), "round {round}");
        }
    }
}

#[test]
fn a_client_that_will_write_no_more_still_hears_its_answers() {
    let server = serve(&[("limits.frames_in_flight_max", "2")]);
    let mut raw = Raw::greeted(server.address());
    raw.put(1, 1_000, TERMS);
    let all: Vec<u8> =
        (1..=5).flat_map(|name| reserve(name, &[order(u128::from(name), 1, name, 1)])).collect();
    raw.send(&all);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    let mut told: Vec<u64> = (0..5).map(|_| raw.answers().0).collect();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3, 4, 5]);
    assert_eq!(raw.stream.read(&mut [0; 1]).unwrap(), 0, "and then the server lets go");
}

#[test]
fn a_frame_that_trickles_in_ends_the_connection() {
    let server = serve(&[("limits.frame_timeout", "200ms"), ("limits.handshake_timeout", "100ms")]);
    let mut raw = Raw::greeted(server.address());
    let whole = reserve(1, &[order(1, 1, 1, 1)]);
    let mut bytes = whole.iter().cycle();
    raw.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // One byte for every read that times out: each of them alone is a sign of life.
    let ended = (0..whole.len() - 1).any(|_| {
        let byte = bytes.next().unwrap();
        let written = raw.stream.write_all(&[*byte]);
        let mut fault = [0; HEADER_LEN];
        written.is_err() || raw.stream.read(&mut fault).is_ok()
    });
    assert!(ended, "a frame took as long as its client liked");
}

#[test]
fn a_frame_of_buyers_some_at_their_limit_and_some_not_is_answered() {
    let server = serve(&[]);
    let mut raw = Raw::greeted(server.address());
    raw.put(1, 100, Terms { per_user_limit: 2, ..TERMS });
    assert_eq!(raw.reserve(order(1, 1, 7, 2)), Status::Reserved);
    assert_eq!(raw.reserve(order(2, 1, 8, 1)), Status::Reserved);
    raw.send(&reserve(3, &[order(3, 1, 7, 1), order(4, 1, 8, 1)]));
    let told: Vec<_> = raw.answers().1.iter().map(|answer| answer.status().unwrap()).collect();
    assert_eq!(told, [Status::LimitReached, Status::Reserved]);
    assert_eq!(raw.reserve(order(5, 1, 9, 1)), Status::Reserved);
}

#[test]
fn the_smallest_queue_of_log_steps_that_may_be_set_is_enough() {
    const FRAMES: u64 = 400;
    let server = serve(&[("limits.appends_queue_max", "2")]);
    let mut raw = Raw::greeted(server.address());
    raw.put(1, 1 << 30, TERMS);
    let mut writer = raw.second();
    let writing = std::thread::spawn(move || {
        for name in 1..=FRAMES {
            let ids = (0..ITEMS_MAX as u128).map(|nth| u128::from(name) << 32 | nth);
            let orders: Vec<_> = ids.map(|id| order(id, 1, 7, 1)).collect();
            writer.send(&reserve(name, &orders));
        }
    });
    for _ in 0..FRAMES {
        assert!(raw.answers().1.iter().all(|answer| answer.status() == Some(Status::Reserved)));
    }
    writing.join().unwrap();
}

#[test]
fn whoever_writes_without_reading_harms_nobody_else() {
    let server = serve(&[]);
    let mut honest = Raw::greeted(server.address());
    honest.put(1, 10, TERMS);
    let reads: Vec<ProductItem> = (0..ITEMS_MAX).map(|_| ProductItem::new(ProductId(1))).collect();
    let question = frame(Kind::QueryProduct, reads.len(), 9, reads.as_bytes());
    let mut hostile: Vec<Raw> = (0..20).map(|_| Raw::greeted(server.address())).collect();
    for raw in &mut hostile {
        raw.stream.set_nonblocking(true).unwrap();
        // As much as both sides' buffers take.
        for _ in 0..2_000 {
            if raw.stream.write_all(&question).is_err() {
                break;
            }
        }
    }
    assert_eq!(honest.reserve(order(1, 1, 1, 1)), Status::Reserved);
    drop(hostile);
    assert_eq!(honest.reserve(order(2, 1, 1, 1)), Status::Reserved);
}

/// Sends full frames, as many as may be in flight, and reads their answers, until it is told to stop. None may be `Busy`.
fn hog(mut raw: Raw, name: u64, stop: &AtomicBool) {
    let mut writer = raw.second();
    std::thread::scope(|scope| {
        let sent = std::sync::mpsc::channel();
        scope.spawn(move || {
            for round in 0.. {
                let ids = (0..ITEMS_MAX as u128).map(|nth| u128::from(name) << 64 | round << 16 | nth);
                let orders: Vec<_> = ids.map(|id| order(id, 2, name, 1)).collect();
                writer.send(&reserve(1, &orders));
                sent.0.send(()).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        while sent.1.recv().is_ok() {
            for answer in raw.answers().1 {
                assert_eq!(answer.status(), Some(Status::Reserved), "hog {name}");
            }
        }
    });
}

#[test]
fn whoever_sends_full_frames_without_end_makes_nobody_hear_busy() {
    // Room for four full frames, and eight who send as many as they can.
    let server =
        serve(&[("limits.requests_in_flight_max", "4096"), ("limits.request_budget_default", "10s")]);
    let mut honest = Raw::greeted(server.address());
    honest.put(1, 1_000, TERMS);
    honest.put(2, 1 << 40, TERMS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in 1..=8 {
            let (raw, stop) = (Raw::greeted(server.address()), &stop);
            scope.spawn(move || hog(raw, name, stop));
        }
        for name in 1..=300 {
            let told = honest.reserve(order(name, 1, 1, 1));
            // Told before it is asserted: the others must end in any case.
            stop.fetch_or(name == 300 || told != Status::Reserved, Ordering::Relaxed);
            assert_eq!(told, Status::Reserved, "request {name}");
        }
    });
}

#[test]
fn replies_taken_a_few_bytes_at_a_time_end_the_connection() {
    const ROUNDS_MAX: u128 = 500_000;
    let server = serve(&[("limits.frame_timeout", "300ms")]);
    let mut honest = Raw::greeted(server.address());
    honest.put(1, 10, TERMS);
    // A small window, so that the server soon finds that nobody reads.
    let mut slow = Raw::narrow(server.address());
    let reads: Vec<ProductItem> = (0..ITEMS_MAX).map(|_| ProductItem::new(ProductId(1))).collect();
    let question = frame(Kind::QueryProduct, reads.len(), 9, reads.as_bytes());
    let mut writer = slow.second();
    // Ends when the server lets go.
    let writing = std::thread::spawn(move || while writer.stream.write_all(&question).is_ok() {});
    slow.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for round in 1.. {
        assert!(round < ROUNDS_MAX, "its replies took as long as it liked");
        if writing.is_finished() {
            break;
        }
        // The honest one's answers are the pace. A byte for each is never a good deal of bytes, however fast they are.
        honest.reserve(order(round, 1, 1, 1));
        let _: std::io::Result<usize> = slow.stream.read(&mut [0; 1]);
    }
    writing.join().unwrap();
}

#[test]
fn connections_lost_with_answers_pending_and_frames_begun_leave_nothing_behind() {
    let server = serve(&[]);
    let mut honest = Raw::greeted(server.address());
    honest.put(1, 10_000, TERMS);
    for name in 1..=200_u64 {
        let mut raw = Raw::greeted(server.address());
        raw.send(&reserve(1, &[order(u128::from(name), 1, name, 1)]));
        let next = reserve(2, &[order(u128::from(name) << 32, 1, name, 1)]);
        raw.send(&next[..next.len() / 2]);
        if name % 2 == 0 {
            raw.stream.shutdown(Shutdown::Both).unwrap();
        }
    }
    // Each was taken once, or never will be.
    for name in 1..=200_u64 {
        let mut again = order(u128::from(name), 1, name, 1);
        again.attempt = 1;
        let told = honest.reserve(again);
        assert!(matches!(told, Status::Already | Status::Reserved), "{told:?}");
    }
    let mut query = frame(Kind::QueryProduct, 1, 5, ProductItem::new(ProductId(1)).as_bytes());
    honest.send(&std::mem::take(&mut query));
    let (_, body) = honest.receive();
    let record = items::<sluice_protocol::response::ProductReply>(&body).unwrap()[0].record;
    let view = sluice_protocol::response::ProductView::from(record);
    assert_eq!((view.free, view.held), (9_800, 200));
}

#[test]
fn two_thousand_connections_are_served_and_let_go() {
    let server = serve(&[]);
    let mut honest = Raw::greeted(server.address());
    honest.put(1, 3_000, TERMS);
    let mut crowd: Vec<Raw> = (0..2_000).map(|_| Raw::greeted(server.address())).collect();
    for (user, raw) in (1_u64..).zip(&mut crowd) {
        raw.send(&reserve(user, &[order(u128::from(user), 1, user, 1)]));
    }
    for (user, raw) in (1_u64..).zip(&mut crowd) {
        let (correlation, answers) = raw.answers();
        assert_eq!((correlation, answers[0].status()), (user, Some(Status::Reserved)));
    }
    drop(crowd);
    assert_eq!(honest.reserve(order(5_000, 1, 1, 1)), Status::Reserved);
}

#[test]
fn a_body_announced_too_long_is_refused_before_it_comes() {
    let server = serve(&[]);
    let mut raw = Raw::greeted(server.address());
    let mut huge = reserve(1, &[order(1, 1, 1, 1)]);
    huge[4..8].copy_from_slice(&(REQUEST_BODY_MAX as u32 + 1).to_le_bytes());
    raw.send(&huge[..HEADER_LEN]);
    let (header, body) = raw.receive();
    assert_eq!(header.kind, Kind::Fault);
    assert_eq!(Fault::decode(&body).unwrap().code, FaultCode::BodyTooLong as u16);
    assert_eq!(raw.stream.read(&mut [0; 1]).unwrap(), 0);
}
