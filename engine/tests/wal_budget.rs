//! One step never writes more than a segment, so at most one segment begins between two syncs.
//!
//! Counts what this process writes, so it is alone in its binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::fs;

use sluice_engine::wal::{Backend, ENTRY_DATA_MAX, STEP_BYTES_MAX, STEP_RECORDS_MAX};
use wal_support::{append, close, entry, fresh};

const SEGMENT_LEN: u64 = 8 << 20;

fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_step_writes_less_than_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = fresh(dir.path(), Backend::Sled);
    let (mut end, mut term, mut compact_to, mut word) = (0_u64, 1, 0, 0x5eed_u64);
    let mut draw = |below: u64| {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (word >> 33) % below
    };
    let mut most = 0;
    for round in 0..500 {
        // Runs of the largest entries, of tiny ones right behind them, and of all sizes mixed.
        let mut new = Vec::new();
        let mut bytes = 0;
        let mut from = end;
        if round % 25 == 24 {
            let back = draw(12).min(end - compact_to);
            from = end - back;
            term += 1;
        }
        while new.len() < STEP_RECORDS_MAX {
            let len = match round / 10 % 3 {
                0 => ENTRY_DATA_MAX,
                1 => 40,
                _ => usize::try_from(draw(ENTRY_DATA_MAX as u64)).unwrap(),
            };
            bytes += len + 128;
            if bytes > STEP_BYTES_MAX {
                break;
            }
            new.push(entry(from + 1 + new.len() as u64, term, len));
        }
        end = from + new.len() as u64;
        let mut step = append(new, term, compact_to);
        compact_to = compact_to.max(end.saturating_sub(40 + draw(200)).min(from));
        step.compact_to = compact_to;
        let before = bytes_written();
        store.append(&step).unwrap();
        most = most.max(bytes_written() - before);
    }
    assert!(most > STEP_BYTES_MAX as u64, "nothing was counted");
    assert!(most < SEGMENT_LEN, "one step wrote {most} bytes");
    close(store);
}
