//! Frames to bytes and back: what a net thread and a client pay for each, alone and filled.
//!
//! Deliberately not here: sockets.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_protocol::header::seal;
use sluice_protocol::request::{self, ReserveItem};
use sluice_protocol::response::{self, At};
use sluice_protocol::{
    Answer, FrameHeader, HEADER_LEN, Kind, PROTOCOL_VERSION, ProductId, ReservationId, UserId,
};
use zerocopy::IntoBytes;

/// Items in a frame: one call alone, and a full frame.
const FRAMES: [u64; 2] = [1, 1024];

fn reserves(count: u64) -> Vec<ReserveItem> {
    let item = |n: u64| ReserveItem::new(ReservationId(u128::from(n) + 1), ProductId(7), UserId(n), 1);
    (0..count).map(item).collect()
}

fn answers(count: u64) -> Vec<Answer> {
    (0..count).map(|n| Answer::reserved(At { index: 9, time_ms: 1_700_000_000_000 }, n, 900_000)).collect()
}

fn encode(out: &mut Vec<u8>, kind: Kind, body: &[u8], count: u64) {
    out.clear();
    out.resize(HEADER_LEN, 0);
    out.extend_from_slice(body);
    seal(out, kind, PROTOCOL_VERSION, count as u16, 0, 42);
}

fn checked(frame: &[u8]) -> &[u8] {
    let header = FrameHeader::parse(frame).expect("the header is sound").expect("the header is whole");
    header.check_body(frame).expect("the frame is sound");
    &frame[HEADER_LEN..]
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for count in FRAMES {
        group.throughput(Throughput::Elements(count));
        let (items, replies) = (reserves(count), answers(count));
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("encode reserves", count), |bench| {
            bench.iter(|| encode(&mut out, Kind::Reserve, black_box(&items).as_bytes(), count));
        });
        encode(&mut out, Kind::Reserve, items.as_bytes(), count);
        group.bench_function(BenchmarkId::new("decode reserves", count), |bench| {
            bench.iter(|| {
                let items = request::items::<ReserveItem>(checked(black_box(&out))).expect("items are sound");
                items.iter().map(|item| u64::from(item.quantity()) ^ item.user().0).sum::<u64>()
            });
        });
        group.bench_function(BenchmarkId::new("encode answers", count), |bench| {
            bench.iter(|| encode(&mut out, Kind::ReserveReply, black_box(&replies).as_bytes(), count));
        });
        encode(&mut out, Kind::ReserveReply, replies.as_bytes(), count);
        group.bench_function(BenchmarkId::new("decode answers", count), |bench| {
            bench.iter(|| {
                let answers = response::items::<Answer>(checked(black_box(&out))).expect("answers are sound");
                answers.iter().map(Answer::sequence).sum::<u64>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
