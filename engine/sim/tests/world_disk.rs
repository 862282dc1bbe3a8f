//! The simulated disk keeps the contract of the real one: what was synced is found, or the disk is refused; and each of
//! its faults does what it says.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::Bytes;
use proptest::prelude::*;
use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry, SnapshotMeta};
use sluice_core::replica::peer::Chunk;
use sluice_sim::disk::{Place, Refusal, SimDisk, SnapshotFile};
use sluice_sim::random::Random;

fn snapshot(index: u64) -> SnapshotFile {
    let mut ledger = Ledger::new(Settings::default(), 0);
    if index > 0 {
        ledger.apply(index, 1, &[], &mut sluice_core::ledger::effect::Ignore).unwrap();
    }
    let meta = SnapshotMeta { index, term: u64::from(index > 0), ..SnapshotMeta::default() };
    SnapshotFile::new(meta, ledger.freeze().sections())
}

fn disk() -> SimDisk {
    let mut disk = SimDisk::new(7, snapshot(0));
    disk.open(1).unwrap();
    disk
}

fn entry(index: u64, term: u64) -> LogEntry {
    let data = Bytes::from(vec![index as u8; (index * 37 % 1500) as usize]);
    LogEntry { index, term, kind: EntryKind::Normal, data }
}

fn step(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Append {
    let hard_state = Some(HardState { term, vote: 1, commit: indexes.start() - 1 });
    Append { hard_state, entries: indexes.map(|index| entry(index, term)).collect(), ..Append::default() }
}

fn write(disk: &mut SimDisk, step: &Append, now_us: u64) {
    disk.write(step);
    disk.sync(step, now_us);
}

fn log(disk: &mut SimDisk) -> Vec<LogEntry> {
    disk.open(1).unwrap().recovered.entries
}

#[test]
fn what_was_synced_is_found_after_any_crash_and_boots_are_counted() {
    let mut disk = disk();
    write(&mut disk, &step(1..=9, 1), 10);
    disk.write(&step(10..=12, 1));
    disk.crash(20, &mut Random::new(3));
    let found = disk.open(1).unwrap();
    assert_eq!(found.boot, 2);
    let entries = found.recovered.entries;
    assert!(entries.len() == 9 || entries.len() == 12, "a step is whole or not there: {}", entries.len());
    assert_eq!(entries[..9], (1..=9).map(|index| entry(index, 1)).collect::<Vec<_>>()[..]);
}

#[test]
fn a_lie_is_lost_by_the_crash_and_an_honest_sync_before_it_is_not() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut disk = disk();
        write(&mut disk, &step(1..=3, 1), 10);
        disk.lie(true);
        for first in 4..9 {
            write(&mut disk, &step(first..=first, 1), first * 1_000_000);
        }
        disk.crash(20_000_000, &mut Random::new(seed));
        match disk.open(1) {
            Ok(found) => {
                assert!(found.recovered.entries.len() >= 3);
                lost += usize::from(found.recovered.entries.len() < 8);
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Missing);
                lost += 1;
            }
        }
    }
    assert!(lost > 5, "a lie that never costs anything is none");
}

#[test]
fn rot_in_the_log_is_refused_or_harmless() {
    let mut refused = 0;
    for seed in 0..60 {
        let mut disk = disk();
        let steps = [step(1..=4, 1), step(5..=5, 1), step(6..=20, 2)];
        for (number, step) in steps.iter().enumerate() {
            write(&mut disk, step, number as u64 * 200_000);
        }
        disk.crash(9_000_000, &mut Random::new(seed));
        assert!(disk.rot(Place::Log, &mut Random::new(seed)));
        match disk.open(1) {
            Ok(found) => assert_eq!(found.recovered.entries.len(), 20, "seed {seed}: nothing may be missing"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 20);
}

#[test]
fn a_rotten_snapshot_is_passed_over_for_the_older_one_and_two_are_refused() {
    for (place, opens) in [(Place::Snapshot, true), (Place::BothSnapshots, false), (Place::Fence, true)] {
        let mut disk = disk();
        write(&mut disk, &step(1..=9, 1), 10);
        disk.save(snapshot(5));
        disk.crash(20, &mut Random::new(1));
        disk.rot(place, &mut Random::new(2));
        assert_eq!(disk.is_harmed, !opens, "{place:?}");
        match disk.open(1) {
            Ok(found) => {
                assert!(opens, "{place:?}");
                let from = if place == Place::Snapshot { 0 } else { 5 };
                assert_eq!(found.recovered.snapshot.index, from);
                assert_eq!(found.recovered.entries.len(), 9);
            }
            Err(refusal) => assert_eq!((opens, refusal), (false, Refusal::Snapshot)),
        }
    }
}

#[test]
fn a_received_snapshot_counts_from_the_reset_on_and_not_before() {
    let mut disk = disk();
    write(&mut disk, &step(1..=9, 1), 10);
    let file = snapshot(40);
    let image = file.id;
    let chunk =
        Chunk { image, meta: file.meta.clone(), offset: 0, bytes: Bytes::copy_from_slice(&file.bytes) };
    assert_eq!(disk.write_chunk(&chunk), image.len);
    assert!(disk.receive(image).is_some());
    let mut crashed = disk.clone();
    crashed.crash(20, &mut Random::new(1));
    assert_eq!(crashed.open(1).unwrap().recovered.snapshot.index, 0, "nothing was reset");

    let reset = Append { reset: Some((40, 1)), ..step(41..=42, 1) };
    write(&mut disk, &reset, 30);
    disk.crash(40, &mut Random::new(1));
    let found = disk.open(1).unwrap().recovered;
    assert_eq!((found.snapshot.index, found.log_base), (40, 40));
    assert_eq!(found.entries, vec![entry(41, 1), entry(42, 1)]);
}

#[test]
fn a_file_that_is_not_what_was_named_is_thrown_away() {
    let mut disk = disk();
    let file = snapshot(40);
    let mut bytes = file.bytes.to_vec();
    bytes[20] ^= 1;
    let chunk = Chunk { image: file.id, meta: file.meta.clone(), offset: 0, bytes: bytes.into() };
    disk.write_chunk(&chunk);
    assert!(disk.receive(file.id).is_none());
    assert_eq!(disk.write_chunk(&Chunk { offset: 9, ..chunk }), 0, "it begins again");
}

#[derive(Clone, Debug)]
enum Do {
    Append(u64),
    Replace(u64, u64),
    Compact(u64),
    Sync,
    Crash(u64),
}

fn action() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (1..6_u64).prop_map(Do::Append),
        2 => (1..5_u64, 1..4_u64).prop_map(|(back, more)| Do::Replace(back, more)),
        1 => (0..8_u64).prop_map(Do::Compact),
        6 => Just(Do::Sync),
        2 => any::<u64>().prop_map(Do::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Against a vector: after a crash the log is that of the last sync, or with the one step that was under way.
    #[test]
    fn the_log_is_a_vector_that_survives(actions in proptest::collection::vec(action(), 1..120)) {
        let mut disk = disk();
        let (mut synced, mut written): (Vec<LogEntry>, Vec<LogEntry>) = (Vec::new(), Vec::new());
        let (mut term, mut now_us, mut compact_to) = (1, 0, 0);
        let mut under_way: Option<Append> = None;
        for action in actions {
            now_us += 60_000;
            let last = written.last().map_or(0, |entry| entry.index);
            let mut next = None;
            match action {
                Do::Append(more) => next = Some(step(last + 1..=last + more, term)),
                Do::Replace(back, more) => {
                    term += 1;
                    let first = (last + 1).saturating_sub(back).max(compact_to + 1);
                    next = Some(step(first..=first + more, term));
                }
                Do::Compact(to) if to > compact_to && to < last && under_way.is_none() => {
                    // Only what a snapshot stands for is let go.
                    disk.save(snapshot(to));
                    compact_to = to;
                    next = Some(Append { compact_to, ..step(last + 1..=last + 1, term) });
                }
                Do::Compact(_) => {}
                Do::Sync => {
                    if let Some(step) = under_way.take() {
                        disk.sync(&step, now_us);
                        synced = written.clone();
                    }
                }
                Do::Crash(seed) => {
                    disk.crash(now_us, &mut Random::new(seed));
                    let found = log(&mut disk);
                    let behind = |log: &[LogEntry]| -> Vec<LogEntry> {
                        log.iter().filter(|entry| entry.index > compact_to).cloned().collect()
                    };
                    let is_synced = behind(&found) == behind(&synced);
                    prop_assert!(is_synced || behind(&found) == behind(&written));
                    (synced, written) = (found.clone(), found);
                    under_way = None;
                }
            }
            // One step at a time, as the log thread writes.
            if let Some(step) = next.filter(|_| under_way.is_none()) {
                disk.write(&step);
                let first = step.entries[0].index;
                written.retain(|entry| entry.index < first);
                written.extend(step.entries.iter().cloned());
                under_way = Some(step);
            }
        }
    }
}
