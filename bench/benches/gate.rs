//! Taking a token and giving it back: alone, and against another thread on the same product.
//!
//! Deliberately not here: the doubt path, which begins where tokens end.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_core::gate::Tokens;

/// Stripes, as with two net threads.
const STRIPES: usize = 2;

/// Tokens of the product: it never runs out.
const PLENTY: u64 = 1 << 40;

/// A product of which so few are left that each thread must reach into the other's stripe now and then.
const FEW: u64 = 3;

fn rounds(tokens: &Tokens, stripe: usize, count: u64) {
    for _ in 0..count {
        if black_box(tokens.take(stripe, 1)) {
            tokens.give(stripe, 1);
        }
    }
}

/// Time of `count` rounds on stripe 0 while another thread does the same on stripe `other`.
fn against(tokens: &Tokens, other: usize, count: u64) -> Duration {
    let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            while !stop.load(Ordering::Relaxed) {
                rounds(tokens, other, 64);
            }
        });
        start.wait();
        let began = Instant::now();
        rounds(tokens, 0, count);
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        took
    })
}

fn gate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    let tokens = Tokens::new(STRIPES, Some(PLENTY));
    group.bench_function("take and give, one thread", |bench| {
        bench.iter_custom(|count| {
            let began = Instant::now();
            rounds(&tokens, 0, count);
            began.elapsed()
        });
    });
    group.bench_function("take and give, two threads, stripes of their own", |bench| {
        bench.iter_custom(|count| against(&tokens, 1, count));
    });
    group.bench_function("take and give, two threads, one stripe", |bench| {
        bench.iter_custom(|count| against(&tokens, 0, count));
    });
    let few = Tokens::new(STRIPES, Some(FEW));
    group.bench_function("take and give, two threads, the last units", |bench| {
        bench.iter_custom(|count| against(&few, 1, count));
    });
    let none = Tokens::new(STRIPES, Some(0));
    group.bench_function("take in vain", |bench| bench.iter(|| black_box(none.take(0, 1))));
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
