//! The threads of the event stream: what is handed over is written in order, a snapshot waits for what it contains, reads
//! come back, and what is asked beyond the queue's length is told so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod events_support;

use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;

use events_support::*;
use sluice_core::stream::{Block, Tail};
use sluice_engine::ops::Metrics;
use sluice_engine::stream::reads::{self, Ask, WAITING_MAX};
use sluice_engine::stream::thread::{self as events_thread, Events};
use sluice_engine::stream::{Missing, ReadError};

fn block(range: Range<u64>) -> Arc<Block> {
    Arc::new(Block::new(events(range)))
}

/// Runs the writer's thread beside a test.
fn beside(data: &std::path::Path, metrics: &Metrics, test: impl FnOnce(&Events)) {
    let (handle, mut writer) = events_thread::queue(open(data, 0).unwrap());
    thread::scope(|scope| {
        let thread = scope.spawn(|| writer.run(metrics, &Tail::default()).unwrap());
        let ends = Ends(&handle);
        test(&handle);
        drop(ends);
        thread.join().unwrap();
    });
}

/// Ends the thread, also if the test fails.
struct Ends<'a>(&'a Events);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn what_is_handed_over_is_written_in_order_and_a_snapshot_waits_for_it() {
    let (data, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    beside(data.path(), &metrics, |handle| {
        handle.sync_upto(0);
        for first in (1..1001).step_by(10) {
            handle.push(block(first..first + 10));
        }
        handle.sync_upto(1000);
        assert_eq!((handle.written(), handle.queued_bytes()), (1000, 0));
        handle.reset(2000);
        handle.push(block(2001..2002));
    });
    let found: Vec<u64> = segments(data.path()).into_iter().map(|(first, _)| first).collect();
    assert_eq!(found.last(), Some(&2001), "behind the gap another file begins");
    let store = open(data.path(), 2001).unwrap();
    assert_eq!(store.missing(), [Missing { from: 1001, to: 2000 }]);
    assert_eq!(store.reader().read(1, 2000).unwrap(), events(1..1001));
    assert_eq!((metrics.event_bytes.get(), metrics.event_last.get()), (1001 * 80, 2001));
    assert_eq!((metrics.event_first.get(), metrics.events_missing.get()), (1, 1000));
    assert!(metrics.event_fsync_duration.read().count() > 0);
}

#[test]
fn what_nobody_needs_is_dropped_once_it_is_too_much() {
    let (data, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    beside(data.path(), &metrics, |handle| {
        handle.survey(u64::MAX, 0);
        // It is looked for what may go when a segment was full, not at each.
        for first in (1..).step_by(50) {
            handle.push(block(first..first + 50));
            handle.sync_upto(first + 49);
            if metrics.event_first.get() > 1 {
                break;
            }
        }
    });
    // What came while that was told may have begun another segment.
    assert!(metrics.event_disk_bytes.get() <= RETAIN_BYTES + 2 * 4096);
    assert_eq!(metrics.events_missing.get(), 0);
}

#[test]
fn reads_come_back_and_a_full_queue_is_told() {
    let (data, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let mut store = open(data.path(), 0).unwrap();
    append(&mut store, 120);
    let (asks, asked) = reads::queue();
    let (heard, answers) = mpsc::channel();
    let read = |from, max| {
        let heard = heard.clone();
        Ask::Read { from, max, reply: Box::new(move |read| heard.send(read).unwrap()) }
    };
    // Nobody reads yet.
    for from in 1..=WAITING_MAX as u64 {
        asks.ask(read(from, 2)).unwrap();
    }
    assert!(matches!(asks.ask(read(77, 2)), Err(Ask::Read { from: 77, .. })));
    let reader = store.reader();
    thread::scope(|scope| {
        let metrics = &metrics;
        scope.spawn(move || reads::run(reader, &asked, metrics));
        for from in 1..=WAITING_MAX as u64 {
            let read = answers.recv().unwrap().unwrap();
            assert_eq!(read, events(from..(from + 2).min(121).max(from)));
        }
        let (found, time) = mpsc::channel();
        let reply = Box::new(move |at: Result<u64, ReadError>| found.send(at.unwrap()).unwrap());
        asks.ask(Ask::FindTime { time_ms: time_ms(60), reply }).unwrap();
        assert_eq!(time.recv().unwrap(), 60);
        store.reset(200).unwrap();
        asks.ask(read(121, 2)).unwrap();
        assert!(matches!(answers.recv().unwrap(), Err(ReadError::Missing(Missing { from: 121, to: 200 }))));
        asks.stop();
    });
    assert_eq!((metrics.event_reads.get(), metrics.event_reads_failed.get()), (WAITING_MAX as u64 + 2, 0));
}

/// Not a test: what writing and reading cost here.
#[test]
#[ignore = "prints figures"]
fn figures() {
    const EVENTS: u64 = 4_000_000;
    const BLOCK: u64 = 1000;
    let data = tempfile::tempdir().unwrap();
    let keep = sluice_engine::stream::Options { retain_bytes: 1 << 40, ..options() };
    let mut store = sluice_engine::stream::Store::open(data.path(), CLUSTER, 0, keep).unwrap();
    let blocks: Vec<_> =
        (1..=EVENTS).step_by(BLOCK as usize).map(|first| events(first..first + BLOCK)).collect();
    let begun = std::time::Instant::now();
    for some in blocks.chunks(8) {
        store.append(some).unwrap();
    }
    let wrote = begun.elapsed();
    store.sync().unwrap();
    eprintln!("written: {:.1} M/s, with syncs {:.1} M/s", rate(EVENTS, wrote), rate(EVENTS, begun.elapsed()));
    for (_, path) in segments(data.path()) {
        let file = std::fs::File::open(path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    for how in ["cold", "warm"] {
        let (mut reader, mut next, begun) = (store.reader(), 1, std::time::Instant::now());
        while next <= EVENTS {
            next += reader.read(next, 1024).unwrap().len() as u64;
        }
        eprintln!("read {how}, 1,024 at a time: {:.1} M/s", rate(EVENTS, begun.elapsed()));
    }
}

fn rate(events: u64, span: std::time::Duration) -> f64 {
    events as f64 / span.as_secs_f64() / 1e6
}
