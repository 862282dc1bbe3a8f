//! The files of the event stream: what was written is read, what is damaged never is, and whatever is not there is known to
//! be missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod events_support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use events_support::*;
use sluice_engine::stream::{Missing, READ_MAX, ReadError, Store, StreamError};
use sluice_protocol::ClusterId;

/// A directory with so many events, and the store closed.
fn written(count: u64) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let mut store = open(data.path(), 0).unwrap();
    append(&mut store, count);
    store.sync().unwrap();
    data
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// What reading one event gives, in short.
fn read_one(store: &Store, sequence: u64) -> String {
    match store.reader().read(sequence, 1) {
        Ok(read) if read.is_empty() => "ahead".to_owned(),
        Ok(read) => {
            assert_eq!(read, [event(sequence)]);
            "here".to_owned()
        }
        Err(ReadError::Missing(Missing { from, to })) => format!("missing {from}-{to}"),
        Err(ReadError::Dropped { to }) => format!("dropped {to}"),
        Err(ReadError::Damaged { sequence, .. }) => format!("damaged {sequence}"),
        Err(error) => panic!("{error}"),
    }
}

fn missing(store: &Store) -> Vec<(u64, u64)> {
    store.missing().iter().map(|missing| (missing.from, missing.to)).collect()
}

#[test]
fn what_is_written_is_the_documented_bytes_and_is_read() {
    let data = tempfile::tempdir().unwrap();
    let mut store = open(data.path(), 0).unwrap();
    assert_eq!((store.last(), store.reader().read(1, 9).unwrap()), (0, Vec::new()));
    store.append(&[events(1..4), Vec::new(), events(4..60)]).unwrap();
    append(&mut store, 61);
    assert_eq!(store.take_work().writes, 2 + 2, "one for each segment that events went to");
    assert_eq!(store.reader().read(1, 1000).unwrap(), events(1..121));
    assert_eq!(store.reader().read(49, 3).unwrap(), events(49..52), "across two segments");
    assert_eq!(store.reader().read(121, 1).unwrap(), []);
    let firsts: Vec<_> = segments(data.path()).into_iter().map(|(first, _)| first).collect();
    assert_eq!(firsts, [1, 51, 101]);
    let written = files::read(data.path()).unwrap();
    assert!(written.into_iter().eq((1..121).map(|s| (s, zerocopy::transmute!(event(s))))));
}

#[test]
fn a_read_has_its_limit() {
    let data = tempfile::tempdir().unwrap();
    let many = 2 * READ_MAX as u64;
    let mut store = open(data.path(), 0).unwrap();
    append(&mut store, many);
    assert_eq!(store.reader().read(1, usize::MAX).unwrap(), events(1..READ_MAX as u64 + 1));
}

#[test]
#[should_panic(expected = "events are dense")]
fn events_that_do_not_follow_the_last_are_refused() {
    let data = written(5);
    let mut store = open(data.path(), 5).unwrap();
    let _ = store.append(&[events(7..9)]);
}

#[test]
fn what_the_log_makes_again_is_cut_off() {
    for upto in [0, 1, 49, 50, 51, 99, 100, 119, 120] {
        let data = written(120);
        let mut store = open(data.path(), upto).unwrap();
        assert_eq!((store.last(), missing(&store)), (upto, vec![]));
        assert_eq!(read_one(&store, upto + 1), "ahead", "{upto}");
        assert!(files::read(data.path()).unwrap().into_keys().eq(1..=upto), "{upto}");
        append(&mut store, 120);
        assert!(files::read(data.path()).unwrap().into_keys().eq(1..=upto + 120), "{upto}");
        assert_eq!(store.reader().read(1, 1000).unwrap(), events(1..upto + 121));
    }
}

#[test]
fn a_torn_end_is_no_event() {
    for torn in [1, 79, 80, 81, 159] {
        let data = written(10);
        let file = OpenOptions::new().write(true).open(segment(data.path(), 1)).unwrap();
        file.set_len(80 * 11 - torn).unwrap();
        let left = 10 - torn.div_ceil(80);
        let mut store = open(data.path(), 10).unwrap();
        assert_eq!(missing(&store), [(left + 1, 10)], "{torn}");
        append(&mut store, 5);
        assert_eq!(store.reader().read(11, 9).unwrap(), events(11..16));
        assert_eq!(read_one(&store, left), "here");
        assert_eq!(read_one(&store, 10), format!("missing {}-10", left + 1));
        // It stays so, and is no gap for ever if the log makes them again.
        drop(store);
        assert_eq!(missing(&open(data.path(), 15).unwrap()), [(left + 1, 10)]);
        let mut store = open(data.path(), left).unwrap();
        append(&mut store, 20);
        assert_eq!((missing(&store), store.last()), (vec![], left + 20));
    }
}

#[test]
fn every_changed_byte_of_an_event_is_noticed_and_the_others_are_read() {
    let data = written(70);
    for at in 80..160 {
        flip(&segment(data.path(), 1), at);
        let store = open(data.path(), 70).unwrap();
        assert_eq!(read_one(&store, 1), "damaged 1", "byte {at}");
        assert_eq!(store.reader().read(2, 100).unwrap(), events(2..71));
        flip(&segment(data.path(), 1), at);
    }
    flip(&segment(data.path(), 1), 80 * 30);
    let store = open(data.path(), 70).unwrap();
    assert_eq!(store.reader().read(20, 100).unwrap(), events(20..30), "up to the one that is damaged");
    assert_eq!(read_one(&store, 30), "damaged 30");
    assert_eq!(store.reader().find_time(time_ms(60)).unwrap(), 60);
    // An event that was written where another belongs.
    let file = OpenOptions::new().write(true).open(segment(data.path(), 1)).unwrap();
    file.write_all_at(zerocopy::IntoBytes::as_bytes(&event(40)), 80 * 41).unwrap();
    assert_eq!(read_one(&store, 41), "damaged 41");
}

#[test]
fn a_segment_without_a_sound_header_is_set_aside_and_its_events_are_missing() {
    for first in [1, 51, 101] {
        for at in [0, 7, 8, 30, 40, 79] {
            let data = written(120);
            flip(&segment(data.path(), first), at);
            let mut store = open(data.path(), 120).unwrap();
            assert_eq!(missing(&store), [(first, (first + 49).min(120))], "{first}, byte {at}");
            assert!(segment(data.path(), first).with_extension("damaged").exists());
            append(&mut store, 100);
            assert_eq!(store.reader().read(121, 200).unwrap(), events(121..221));
        }
    }
}

#[test]
fn files_that_are_gone_are_missing_events() {
    let data = written(220);
    for first in [1, 101] {
        fs::remove_file(segment(data.path(), first)).unwrap();
    }
    let store = open(data.path(), 220).unwrap();
    assert_eq!(missing(&store), [(1, 50), (101, 150)]);
    assert_eq!(read_one(&store, 7), "missing 1-50");
    assert_eq!(store.reader().read(90, 100).unwrap(), events(90..101), "up to the gap");
    assert_eq!(read_one(&store, 101), "missing 101-150");
    assert_eq!(read_one(&store, 151), "here");
    drop(store);
    fs::remove_dir_all(dir_of(data.path())).unwrap();
    let mut store = open(data.path(), 220).unwrap();
    assert_eq!(missing(&store), [(1, 220)]);
    append(&mut store, 1);
    assert_eq!(read_one(&store, 221), "here");
}

#[test]
fn another_clusters_files_and_a_later_versions_are_refused_as_they_are() {
    let data = written(120);
    let other = Store::open(data.path(), ClusterId(2), 5, options());
    assert!(matches!(other, Err(StreamError::WrongCluster { found: CLUSTER, .. })));
    let mut header = fs::read(segment(data.path(), 51)).unwrap();
    header[6] = 2;
    let crc = crc32fast::hash(&header[..76]).to_le_bytes();
    header[76..80].copy_from_slice(&crc);
    fs::write(segment(data.path(), 51), header).unwrap();
    assert!(matches!(open(data.path(), 5), Err(StreamError::NewerFormat { found: 2, .. })));
    assert_eq!(segments(data.path()).len(), 3, "nothing was deleted");
}

#[test]
fn a_ledger_that_was_replaced_leaves_a_gap() {
    let data = written(70);
    let mut store = open(data.path(), 70).unwrap();
    store.reset(70).unwrap();
    append(&mut store, 1);
    store.reset(200).unwrap();
    assert_eq!((store.last(), missing(&store)), (200, vec![(72, 200)]));
    append(&mut store, 10);
    assert_eq!(store.reader().read(201, 100).unwrap(), events(201..211));
    assert_eq!(read_one(&store, 71), "here");
    assert!(matches!(
        store.reader().find_time(time_ms(100)),
        Err(ReadError::Missing(Missing { from: 72, to: 200 }))
    ));
    assert_eq!(store.reader().find_time(time_ms(60)).unwrap(), 60);
    drop(store);
    assert_eq!(missing(&open(data.path(), 205).unwrap()), [(72, 200)]);
}

#[test]
fn a_gap_is_filled_a_part_at_a_time_and_stays_so() {
    let data = written(20);
    let mut store = open(data.path(), 20).unwrap();
    store.reset(60).unwrap();
    store.append(&[events(61..65)]).unwrap();
    store.fill(&events(21..40)).unwrap();
    assert_eq!(missing(&store), [(40, 60)]);
    assert_eq!(store.reader().read(1, 100).unwrap(), events(1..40));
    store.fill(&events(40..61)).unwrap();
    assert_eq!(store.reader().read(1, 100).unwrap(), events(1..65));
    store.sync().unwrap();
    drop(store);
    // One that was never whole is no file of events.
    let unfinished = data.path().join("events/0000000000000099.filling");
    fs::write(&unfinished, b"half").unwrap();
    let store = open(data.path(), 64).unwrap();
    assert!(missing(&store).is_empty() && !unfinished.exists());
    assert_eq!(store.reader().read(1, 100).unwrap(), events(1..65));
}

#[test]
#[should_panic(expected = "only what is missing is filled in")]
fn what_is_there_is_not_filled_in() {
    let data = written(20);
    open(data.path(), 20).unwrap().fill(&events(5..10)).unwrap();
}

#[test]
fn what_nobody_has_is_given_up_and_counts_as_dropped() {
    let data = tempfile::tempdir().unwrap();
    let mut store = open(data.path(), 30).unwrap();
    assert_eq!(missing(&store), [(1, 30)]);
    store.append(&[events(31..35)]).unwrap();
    store.give_up(20).unwrap();
    assert_eq!(missing(&store), [(21, 30)]);
    assert_eq!(store.figures().dropped, 20);
    store.give_up(1_000).unwrap();
    assert!(missing(&store).is_empty(), "nothing that is here is given up");
    store.sync().unwrap();
    drop(store);
    let store = open(data.path(), 34).unwrap();
    assert_eq!((store.figures().dropped, store.reader().read(31, 9).unwrap()), (30, events(31..35)));
}

#[test]
fn what_is_old_or_too_much_is_dropped_unless_it_is_needed() {
    let data = written(220);
    let mut store = open(data.path(), 220).unwrap();
    let old = |sequence| time_ms(sequence) + RETAIN_MS + 1;
    assert_eq!(store.retain(u64::MAX, old(50) - 1), 0, "it is not old enough");
    assert_eq!(store.retain(50, old(220)), 0, "somebody needs the last of the first segment");
    assert_eq!(store.retain(51, old(220)), 1);
    assert_eq!((read_one(&store, 50), read_one(&store, 51)), ("dropped 50".into(), "here".into()));
    assert_eq!(store.retain(u64::MAX, old(150)), 2);
    assert_eq!((store.figures().first, missing(&store)), (151, vec![]));
    assert_eq!(store.retain(u64::MAX, u64::MAX), 1, "the last one stays");
    assert_eq!(store.figures().first, 201);
    append(&mut store, 1000);
    assert_eq!(store.retain(0, 0), 0, "all of it is needed");
    assert!(store.retain(u64::MAX, 0) > 0, "it is too much");
    assert!(store.figures().bytes <= RETAIN_BYTES);
    let first = store.figures().first;
    // That it was dropped is known later, too.
    drop(store);
    let store = open(data.path(), 1220).unwrap();
    assert_eq!((store.figures().first, missing(&store)), (first, vec![]));
    assert_eq!(read_one(&store, 60), format!("dropped {}", first - 1));
}

#[test]
fn a_segment_that_comes_back_after_it_was_dropped_goes_again() {
    let data = written(220);
    let back = fs::read(segment(data.path(), 51)).unwrap();
    let mut store = open(data.path(), 220).unwrap();
    assert_eq!(store.retain(101, u64::MAX), 2);
    drop(store);
    fs::write(segment(data.path(), 51), back).unwrap();
    let store = open(data.path(), 220).unwrap();
    assert_eq!((store.figures().first, missing(&store)), (101, vec![]));
    assert!(!segment(data.path(), 51).exists());
}

#[test]
fn a_time_is_found_among_equal_ones() {
    let data = written(220);
    let store = open(data.path(), 220).unwrap();
    let mut reader = store.reader();
    for sequence in 1..=220_u64 {
        let first_of_three = (sequence / 3 * 3).max(1);
        assert_eq!(reader.find_time(time_ms(sequence)).unwrap(), first_of_three);
        assert_eq!(reader.find_time(time_ms(sequence) - 1).unwrap(), first_of_three);
    }
    assert_eq!(reader.find_time(0).unwrap(), 1);
    assert_eq!(reader.find_time(time_ms(220) + 1).unwrap(), 221, "the next one");
    drop(store);
    let mut store = open(data.path(), 220).unwrap();
    store.retain(101, u64::MAX);
    assert_eq!(store.reader().find_time(0).unwrap(), 101, "what was dropped is not waited for");
}

#[test]
fn readers_see_whole_events_while_others_are_written_and_dropped() {
    let data = tempfile::tempdir().unwrap();
    let mut store = open(data.path(), 0).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [1, 1, 7000].map(|from| {
            let (mut reader, done) = (store.reader(), &done);
            scope.spawn(move || {
                let (mut next, mut seen) = (from, 0);
                loop {
                    let is_done = done.load(Ordering::Acquire);
                    match reader.read(next, 64) {
                        Ok(read) => {
                            assert_eq!(read, events(next..next + read.len() as u64));
                            assert!(read.is_empty() || reader.last() + 1 >= next + read.len() as u64);
                            (next, seen) = (next + read.len() as u64, seen + read.len());
                            if is_done && read.is_empty() {
                                return (next, seen);
                            }
                        }
                        Err(ReadError::Dropped { to }) => next = to + 1,
                        Err(error) => panic!("{next}: {error}"),
                    }
                }
            })
        });
        for round in 0..400 {
            append(&mut store, 1 + round % 60);
            store.retain(store.last().saturating_sub(300), u64::MAX);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let (next, seen) = reader.join().unwrap();
            assert!(next == store.last() + 1 && seen > 0);
        }
    });
    assert!(store.figures().first > 1000 && missing(&store).is_empty());
}
